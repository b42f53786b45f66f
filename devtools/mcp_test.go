package devtools_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/devtools"
)

const agentSecret = "0123456789abcdef0123456789abcdef"

// An agentServer is a program with developer tools, mounted at a port of loopback.
type agentServer struct {
	*mooncore.Server
	api  string // the program
	url  string // of the MCP server
	log  *lockedBuffer
	http *http.Client
}

func serveAgents(t testing.TB, secret string, actions ...mooncore.Action) *agentServer {
	t.Helper()
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	t.Setenv("MOONCORE_DEV_SECRET", secret)
	s := &agentServer{log: new(lockedBuffer), http: &http.Client{Transport: &http.Transport{}}}
	var handler http.Handler
	srv, err := mooncore.New(mooncore.Config{
		Development: true, DevTools: true, Logger: slog.New(slog.NewTextHandler(s.log, nil)),
		Extensions: []mooncore.Extension{devtools.Mount(devtools.Config{}, func(h http.Handler) { handler = h })},
		Routers: []mooncore.Router{{
			Roles: []string{"user"}, Actions: actions, Channels: []mooncore.Channel{{Name: "news", Allow: mooncore.Authenticated}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/dev/", http.StripPrefix("/dev", handler))
	mux.Handle("/", srv)
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		server.Close()
	})
	s.Server, s.api, s.url = srv, server.URL, server.URL+"/dev/mcp"
	return s
}

type bearer struct {
	http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.RoundTripper.RoundTrip(r)
}

func (s *agentServer) connect(t testing.TB, token string) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: s.url, DisableStandaloneSSE: true, MaxRetries: -1, HTTPClient: &http.Client{Transport: bearer{s.http.Transport, token}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

// use calls a tool, decodes what it returns into *out, and fails the test on an error.
func use[T any](t testing.TB, session *mcp.ClientSession, tool, args string) (out T) {
	t.Helper()
	r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: json.RawMessage(args)})
	if err != nil {
		t.Fatalf("%s %s: %v", tool, args, err)
	}
	text := r.Content[0].(*mcp.TextContent).Text
	if r.IsError {
		t.Fatalf("%s %s: %s", tool, args, text)
	}
	if r.StructuredContent == nil {
		t.Fatalf("%s %s: no structured content", tool, args)
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%s %s: %v: %s", tool, args, err, text)
	}
	return out
}

// refused returns the error of a tool.
func refused(t testing.TB, session *mcp.ClientSession, tool, args string) string {
	t.Helper()
	r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: json.RawMessage(args)})
	if err != nil {
		t.Fatalf("%s %s: %v", tool, args, err)
	}
	text := r.Content[0].(*mcp.TextContent).Text
	if !r.IsError || r.StructuredContent != nil {
		t.Fatalf("%s %s: no error: %s", tool, args, text)
	}
	return text
}

type login struct {
	User     string `json:"user" validate:"required"`
	Password string `json:"password"`
}

func agentActions() []mooncore.Action {
	return []mooncore.Action{
		{Name: "login", Allow: mooncore.Public, Description: "lets somebody in", Handler: mooncore.Func(func(_ context.Context, in login) (any, error) {
			return map[string]any{"user": in.User, "exact": json.Number("12345678901234567890")}, nil
		})},
		{Name: "whoami", Allow: mooncore.Roles("user"), ReadOnly: true, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (string, error) {
			req := mooncore.RequestFrom(ctx)
			return req.Identity.User + " of " + req.Identity.Tenant + " by " + req.Source, nil
		})},
		{Name: "fails", Allow: mooncore.Public, Handler: mooncore.Func(func(context.Context, struct{}) (any, error) {
			return nil, errors.New("the disk is full")
		})},
	}
}

func TestAgentsNeedTheSecret(t *testing.T) {
	s := serveAgents(t, agentSecret, agentActions()...)
	const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	authorization := "Authorization: Bearer " + agentSecret
	for _, test := range []struct {
		name, method, body string
		headers            []string
		status             int
		want               string
	}{
		{"secret", "POST", ping, []string{authorization}, 200, `{"jsonrpc":"2.0","id":1,"result":{}}`},
		{"none", "POST", ping, nil, 401, `"Log in"`},
		{"another scheme", "POST", ping, []string{"Authorization: Basic " + agentSecret}, 401, `"Log in"`},
		{"wrong", "POST", ping, []string{"Authorization: Bearer " + agentSecret[1:]}, 401, `"Wrong secret"`},
		{"the dashboard's own origin", "POST", ping, []string{authorization, "Origin: " + s.api}, 403, `"Origin not allowed"`},
		{"another origin", "POST", ping, []string{authorization, "Origin: https://evil.example"}, 403, `"Origin not allowed"`},
		{"origin null", "POST", ping, []string{authorization, "Origin: null"}, 403, `"Origin not allowed"`},
		{"a browser without origin", "POST", ping, []string{authorization, "Sec-Fetch-Site: none"}, 403, `"Origin not allowed"`},
		{"another host", "POST", ping, []string{authorization, "Host: evil.example"}, 403, `"Host not allowed"`},
		{"GET", "GET", "", []string{authorization}, 405, `"method_not_allowed"`},
		{"DELETE", "DELETE", "", []string{authorization}, 405, `"method_not_allowed"`},
		{"a form's type", "POST", ping, []string{authorization, "Content-Type: text/plain"}, 415, `"unsupported_media_type"`},
		{"too large", "POST", strings.Repeat(" ", 1<<20+1), []string{authorization}, 413, `"too_large"`},
		{"no JSON", "POST", "{", []string{authorization}, 400, `"code":-32700`},
		{"batch", "POST", "[" + ping + "]", []string{authorization}, 400, `"code":-32600`},
		{"unknown method", "POST", `{"jsonrpc":"2.0","id":1,"method":"nope"}`, []string{authorization}, 200, `"code":-32601`},
		{"unknown tool", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"nope"}}`, []string{authorization}, 200, `"code":-32602`},
		{"arguments are a list", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"doctor","arguments":[]}}`, []string{authorization}, 200, `"code":-32602`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := s.post(t, test.method, test.body, test.headers...)
			if r.status != test.status || !strings.Contains(r.body, test.want) {
				t.Errorf("got %d %s, want %d with %s", r.status, r.body, test.status, test.want)
			}
			if r.status == 401 && r.header.Get("WWW-Authenticate") != "Bearer" || r.status == 405 && r.header.Get("Allow") != "POST" {
				t.Errorf("headers %v", r.header)
			}
		})
	}
	if log := s.log.String(); strings.Contains(log, agentSecret) || !strings.Contains(log, `bearer=MOONCORE_DEV_SECRET`) {
		t.Errorf("the log has the secret, or not where to find it:\n%s", log)
	}
	t.Run("guessing", func(t *testing.T) {
		for range 10 {
			s.post(t, "POST", ping, "Authorization: Bearer x")
		}
		r := s.post(t, "POST", ping, authorization)
		if r.status != 429 || r.header.Get("Retry-After") == "" {
			t.Errorf("after wrong secrets: %d %s", r.status, r.body)
		}
	})
}

// Without a secret, the log has a token, which is another one in each process.
func TestAgentsTokenOfTheLog(t *testing.T) {
	s := serveAgents(t, "", agentActions()...)
	var token string
	for line := range strings.Lines(s.waitForLog("for agents, by MCP")) {
		if _, after, ok := strings.Cut(line, "bearer="); ok {
			token = strings.TrimSpace(after)
		}
	}
	if len(token) < 26 {
		t.Fatalf("token %q in\n%s", token, s.log)
	}
	if r := s.post(t, "POST", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Authorization: Bearer "); r.status != 401 {
		t.Errorf("an empty token: %d %s", r.status, r.body)
	}
	if r := s.post(t, "POST", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Authorization: Bearer "+token); r.status != 200 {
		t.Errorf("got %d %s", r.status, r.body)
	}
}

func TestToolsOfAgents(t *testing.T) {
	s := serveAgents(t, agentSecret, agentActions()...)
	session := s.connect(t, agentSecret)
	want := map[string]string{ // read-only, destructive
		"list_actions": "r", "describe_action": "r", "run_action": "d", "read_logs": "r", "clear_logs": "d", "list_clients": "r",
		"read_frames": "r", "publish": "", "health": "r", "doctor": "r", "profile": "r",
	}
	for tool, err := range session.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if tool.Annotations.ReadOnlyHint {
			got += "r"
		}
		if *tool.Annotations.DestructiveHint {
			got += "d"
		}
		if hints, ok := want[tool.Name]; !ok || got != hints {
			t.Errorf("%s: hints %q, want %q", tool.Name, got, hints)
		}
		if tool.Description == "" || tool.InputSchema == nil || tool.OutputSchema == nil {
			t.Errorf("%s: description %q, input %v, output %v", tool.Name, tool.Description, tool.InputSchema, tool.OutputSchema)
		}
		delete(want, tool.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if got := session.InitializeResult(); !strings.Contains(got.Instructions, "list_actions") || got.Capabilities.Resources == nil || got.Capabilities.Resources.Subscribe {
		t.Errorf("got %+v", got)
	}
}

func TestAgentRunsAnAction(t *testing.T) {
	s := serveAgents(t, agentSecret, agentActions()...)
	session := s.connect(t, agentSecret)
	actions := use[struct {
		Actions []struct{ Name, Access, Description string }
	}](t, session, "list_actions", `{}`)
	if got := actions.Actions; len(got) != 3 || got[1].Name != "login" || got[1].Access != "public" || got[2].Access != "roles: user" {
		t.Errorf("list_actions: %+v", got)
	}
	described := use[struct{ Actions []map[string]json.RawMessage }](t, session, "describe_action", `{"action":"login"}`)
	if got := string(described.Actions[0]["schema"]); !strings.Contains(got, `"required":["user"]`) {
		t.Errorf("describe_action: %s", got)
	}
	if got := refused(t, session, "describe_action", `{"action":"nope"}`); !strings.Contains(got, `"code":"not_found"`) {
		t.Errorf("describe_action: %s", got)
	}
	type result struct {
		OK     bool            `json:"ok"`
		Code   string          `json:"code"`
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
		LogID  uint64          `json:"log_id"`
	}
	for _, test := range []struct{ name, args, code, out string }{
		{"stranger", `{"action":"whoami"}`, "unauthenticated", `{"error":"Access denied","code":"unauthenticated"}`},
		{"http", `{"action":"whoami","identity":{"user":"ada","tenant":"acme","roles":["user"]}}`, "ok", `"ada of acme by http"`},
		{"ws", `{"action":"whoami","transport":"ws","identity":{"user":"ada","tenant":"acme","roles":["user"]}}`, "ok", `"ada of acme by ws"`},
		{"go", `{"action":"whoami","transport":"go","identity":{"user":"ada","tenant":"acme","roles":["user"]}}`, "ok", `"ada of acme by devtools"`},
		{"exact", `{"action":"login","params":{"user":"ada","password":"hunter2"}}`, "ok", `{"exact":12345678901234567890,"user":"ada"}`},
		{"faults", `{"action":"login","params":{}}`, "validation_failed", `"errors":{"user":["is required"]}`},
		{"internal", `{"action":"fails"}`, "internal", `"Internal Server Error"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := use[result](t, session, "run_action", test.args)
			if got.Code != test.code || got.OK != (test.code == "ok") || !strings.Contains(string(got.Result)+string(got.Error), test.out) || got.LogID == 0 {
				t.Errorf("got %+v, result %s, error %s", got, got.Result, got.Error)
			}
		})
	}
	for args, want := range map[string]string{
		`{}`: `"action":["is required"]`, `{"action":"whoami","transport":"udp"}`: `must be one of`,
		`{"action":"whoami","params":[1]}`: `"params":["must be an object"]`, `{"action":"whoami","identity":{}}`: `"identity.user":["is required"]`,
		`{"action":"whoami","app":"nope"}`: `no app`,
	} {
		if got := refused(t, session, "run_action", args); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", args, got, want)
		}
	}
}

func TestAgentReadsTheLog(t *testing.T) {
	s := serveAgents(t, agentSecret, agentActions()...)
	session := s.connect(t, agentSecret)
	s.run(t, "login", `{"user":"ada","password":"hunter2"}`)
	s.run(t, "fails", `{}`)
	use[any](t, session, "run_action", `{"action":"login","params":{"user":"bob","password":"hunter2"}}`)
	type entry struct {
		ID     uint64 `json:"id"`
		Action string `json:"action"`
		Via    string `json:"via"`
		Code   string `json:"code"`
		Detail *struct {
			Params  json.RawMessage         `json:"params"`
			Steps   []struct{ Name string } `json:"steps"`
			Failure *struct{ Cause string } `json:"failure"`
		} `json:"detail"`
	}
	type page struct {
		Entries []entry `json:"entries"`
		More    bool    `json:"more"`
		Kept    int     `json:"kept"`
	}
	all := use[page](t, session, "read_logs", `{}`)
	if len(all.Entries) != 3 || all.Kept != 3 || all.More || all.Entries[0].Via != "mcp" || all.Entries[1].Via != "" || all.Entries[0].Detail != nil {
		t.Fatalf("read_logs: %+v", all)
	}
	if got := use[page](t, session, "read_logs", `{"limit":1}`); len(got.Entries) != 1 || !got.More {
		t.Errorf("limit: %+v", got)
	}
	if got := use[page](t, session, "read_logs", `{"via":"mcp"}`); len(got.Entries) != 1 || got.Entries[0].Action != "login" {
		t.Errorf("via: %+v", got)
	}
	failed := use[page](t, session, "read_logs", `{"codes":["error"],"details":true}`)
	if len(failed.Entries) != 1 || failed.Entries[0].Code != "internal" || failed.Entries[0].Detail.Failure.Cause != "the disk is full" || len(failed.Entries[0].Detail.Steps) == 0 {
		t.Errorf("failed: %+v", failed)
	}
	for _, e := range use[page](t, session, "read_logs", `{"action":"login","details":true}`).Entries {
		if got := string(e.Detail.Params); strings.Contains(got, "hunter2") || !strings.Contains(got, `"user":`) {
			t.Errorf("params in the log: %s", got)
		}
	}
	if got := refused(t, session, "read_logs", `{"limit":1000}`); !strings.Contains(got, `"limit":["must be between 1 and 200"]`) {
		t.Errorf("limit 1000: %s", got)
	}
	if got := use[struct{ Cleared int }](t, session, "clear_logs", `{}`); got.Cleared != 3 {
		t.Errorf("clear_logs: %+v", got)
	}
	if got := use[page](t, session, "read_logs", `{}`); len(got.Entries) != 0 || got.Kept != 0 {
		t.Errorf("after clear_logs: %+v", got)
	}
	// What an agent does to the program is in the program's log; what it only reads is not.
	if log := s.log.String(); strings.Contains(log, "action=read_logs") || !strings.Contains(log, `msg="developer tools: call" action=login`) ||
		!strings.Contains(log, `msg="developer tools: log cleared"`) {
		t.Errorf("the program's log:\n%s", log)
	}
}

func TestAgentAndConnections(t *testing.T) {
	s := serveAgents(t, agentSecret, agentActions()...)
	session := s.connect(t, agentSecret)
	token, err := s.Token(mooncore.Identity{User: "ada", Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := websocket.Dial(t.Context(), s.api+"/ws", &websocket.DialOptions{HTTPClient: s.http, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	exchange := func(frame string) string {
		t.Helper()
		if frame != "" {
			if err := conn.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
				t.Fatal(err)
			}
		}
		_, data, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	exchange(`["join","news"]`)
	clients := use[struct {
		Total int
		Conns []struct {
			ID, User string
			Channels []string
		}
	}](t, session, "list_clients", `{"user":"ada","channel":"news:default"}`)
	if clients.Total != 1 || len(clients.Conns) != 1 || clients.Conns[0].User != "ada" {
		t.Fatalf("list_clients: %+v", clients)
	}
	if none := use[struct{ Matched int }](t, session, "list_clients", `{"user":""}`); none.Matched != 0 {
		t.Errorf("list_clients of strangers: %+v", none)
	}
	type frames struct {
		Frames []struct {
			Seq       uint64
			Dir, Data string
		}
	}
	id := `"conn":"` + clients.Conns[0].ID + `"`
	if got := use[frames](t, session, "read_frames", `{`+id+`}`); len(got.Frames) != 0 {
		t.Errorf("frames before somebody asked: %+v", got)
	}
	published := use[struct{ Receivers int }](t, session, "publish", `{"event":"headline","payload":{"n":1},"channel":"news","tenant":"acme"}`)
	if got := exchange(""); published.Receivers != 1 || got != `["headline",{"n":1}]` {
		t.Errorf("publish: %+v, %s", published, got)
	}
	exchange("ping")
	got := use[frames](t, session, "read_frames", `{`+id+`}`)
	if len(got.Frames) != 3 || got.Frames[0].Dir != "out" || got.Frames[1].Data != "ping" || got.Frames[1].Dir != "in" {
		t.Errorf("read_frames: %+v", got)
	}
	if after := use[frames](t, session, "read_frames", `{`+id+`,"after":2}`); len(after.Frames) != 1 || after.Frames[0].Data != "pong" {
		t.Errorf("read_frames after: %+v", after)
	}
	for tool, args := range map[string]string{
		"read_frames": `{"conn":"nope"}`, "publish": `{"event":"x"}`,
	} {
		if got := refused(t, session, tool, args); !strings.Contains(got, `"code":"not_found"`) && !strings.Contains(got, "exactly one of channel or user") {
			t.Errorf("%s: %s", tool, got)
		}
	}
	if got := refused(t, session, "publish", `{"event":"jwt","channel":"news","tenant":"acme"}`); !strings.Contains(got, `"code":"invalid_argument"`) {
		t.Errorf("a reserved event: %s", got)
	}
}

func TestAgentAndTheProgram(t *testing.T) {
	s := serveAgents(t, agentSecret, agentActions()...)
	session := s.connect(t, agentSecret)
	health := use[struct {
		Program struct {
			Go     string
			Health struct{ Status string }
		}
	}](t, session, "health", `{}`)
	if health.Program.Health.Status != "ok" || !strings.HasPrefix(health.Program.Go, "go1.") {
		t.Errorf("health: %+v", health)
	}
	doctor := use[struct {
		Environment string
		Findings    []json.RawMessage
	}](t, session, "doctor", `{}`)
	if doctor.Environment != "development" || len(doctor.Findings) == 0 {
		t.Errorf("doctor: %+v", doctor)
	}
	type profile struct {
		Unit       string
		Total      int64
		Top        []struct{ Func string }
		Goroutines []struct{ Count int }
	}
	if got := use[profile](t, session, "profile", `{"name":"goroutine"}`); got.Total == 0 || len(got.Goroutines) == 0 {
		t.Errorf("goroutine: %+v", got)
	}
	if got := use[profile](t, session, "profile", `{"name":"heap"}`); got.Unit != "inuse_space/bytes" {
		t.Errorf("heap: %+v", got)
	}
	if got := use[profile](t, session, "profile", `{"name":"cpu","seconds":1}`); got.Unit != "cpu/nanoseconds" {
		t.Errorf("cpu: %+v", got)
	}
	if got := refused(t, session, "profile", `{"name":"trace"}`); !strings.Contains(got, "must be one of") {
		t.Errorf("trace: %s", got)
	}
}

func TestResourcesOfAgents(t *testing.T) {
	s := serveAgents(t, agentSecret, agentActions()...)
	session := s.connect(t, agentSecret)
	s.run(t, "login", `{"user":"ada","password":"hunter2"}`)
	want := map[string]string{
		"mooncore://actions": `"name":"login"`, "mooncore://apps": `"channels":[{"name":"news"`, "mooncore://clients": `"total":0`,
		"mooncore://config": `"settings":[`, "mooncore://log": `"action":"login"`,
	}
	for resource, err := range session.Resources(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if resource.MIMEType != "application/json" || resource.Description == "" {
			t.Errorf("%+v", resource)
		}
		read, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: resource.URI})
		if err != nil {
			t.Fatal(err)
		}
		text := read.Contents[0].Text
		if part, ok := want[resource.URI]; !ok || !json.Valid([]byte(text)) || !strings.Contains(text, part) {
			t.Errorf("%s: want %s in %s", resource.URI, part, text)
		}
		if strings.Contains(text, "hunter2") || strings.Contains(text, agentSecret) {
			t.Errorf("%s has a secret: %s", resource.URI, text)
		}
		delete(want, resource.URI)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if _, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "mooncore://nope"}); err == nil {
		t.Error("an unknown resource was read")
	}
}

func TestAgentGoneEndsItsCall(t *testing.T) {
	running, ended := make(chan struct{}), make(chan error, 1)
	s := serveAgents(t, agentSecret, mooncore.Action{Name: "slow", Allow: mooncore.Public, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (any, error) {
		running <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})})
	session := s.connect(t, agentSecret)
	for _, transport := range []string{"http", "ws", "go"} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-running; cancel() }()
		_, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "run_action", Arguments: json.RawMessage(`{"action":"slow","transport":"` + transport + `"}`)})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", transport, err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the call ended with %v", transport, err)
		}
	}
}

func TestServerThatStopsEndsAnAgentsProfile(t *testing.T) {
	s := serveAgents(t, agentSecret, agentActions()...)
	session := s.connect(t, agentSecret)
	done := make(chan error, 1)
	go func() {
		_, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "profile", Arguments: json.RawMessage(`{"name":"cpu","seconds":60}`)})
		done <- err
	}()
	s.waitForLog("name=cpu")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	<-done // within the time of a test
}

// run calls an action as a client of the program.
func (s *agentServer) run(t testing.TB, action, params string) {
	t.Helper()
	resp, err := s.http.Post(s.api+"/run/"+action, "application/json", strings.NewReader(params))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

type httpAnswer struct {
	status int
	header http.Header
	body   string
}

func (s *agentServer) post(t testing.TB, method, body string, headers ...string) httpAnswer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	resp, err := s.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return httpAnswer{resp.StatusCode, resp.Header, string(b)}
}

// waitForLog waits until the log has a text, and returns the log.
func (s *agentServer) waitForLog(text string) string {
	for {
		if log := s.log.String(); strings.Contains(log, text) {
			return log
		}
		time.Sleep(time.Millisecond) // real time: the log has nobody to wait for
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
