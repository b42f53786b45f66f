package mcpserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/mooncore/mooncore"
)

type task struct {
	Title string   `json:"title" validate:"required,min_length=2" jsonschema:"shown in lists"`
	Owner string   `json:"owner" validate:"required"`
	Tags  []string `json:"tags,omitempty" validate:"max_items=3"`
}

type folder struct {
	Name    string    `json:"name"`
	Folders []*folder `json:"folders"`
}

func returns[Out any](out Out) mooncore.Handler {
	return mooncore.Func(func(context.Context, struct{}) (Out, error) { return out, nil })
}

func echo[T any](_ context.Context, in T) (T, error) { return in, nil }

func action(name string, allow mooncore.Access, h mooncore.Handler) mooncore.Action {
	return mooncore.Action{Name: name, Allow: allow, Handler: h, Tool: true, Description: "about " + name}
}

func oneApp(actions ...mooncore.Action) mooncore.Config {
	return mooncore.Config{Routers: []mooncore.Router{{Roles: []string{"admin", "user"}, Actions: actions}}}
}

func toolNames(t *testing.T, session *mcp.ClientSession) string {
	t.Helper()
	var names []string
	for tool, err := range session.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, tool.Name)
	}
	return strings.Join(names, " ")
}

func TestListShowsWhatTheCallerMayCall(t *testing.T) {
	hidden := action("hidden", mooncore.Public, returns(1))
	hidden.Tool = false
	notHere := action("both.unmarked", mooncore.Public, returns(1))
	notHere.Tool = false
	s := serve(t, mooncore.Config{Routers: []mooncore.Router{
		{App: "one", Roles: []string{"admin", "user"}, Actions: []mooncore.Action{
			action("public", mooncore.Public, returns(1)),
			action("anyone", mooncore.Authenticated, returns(1)),
			action("user", mooncore.Roles("user", "admin"), returns(1)),
			action("admin", mooncore.Roles("admin"), returns(1)),
			hidden, notHere,
		}},
		{App: "two", Roles: []string{"user"}, Actions: []mooncore.Action{
			action("public.two", mooncore.Public, returns(2)),
			action("anyone", mooncore.Public, returns(2)),
			action("both.unmarked", mooncore.Public, returns(2)), // strangers get the first app's, which is none of a tool
		}},
	}})
	for _, test := range []struct {
		name string
		as   mooncore.Identity
		want string
	}{
		{"stranger", mooncore.Identity{}, "anyone public public.two"},
		{"no role", mooncore.Identity{User: "u", App: "one"}, "anyone public"},
		{"user", mooncore.Identity{User: "u", App: "one", Roles: []string{"user"}}, "anyone public user"},
		{"admin", mooncore.Identity{User: "u", App: "one", Roles: []string{"admin"}}, "admin anyone public user"},
		{"another app", mooncore.Identity{User: "u", App: "two"}, "anyone both.unmarked public.two"},
	} {
		t.Run(test.name, func(t *testing.T) {
			session := s.connect(t, test.as)
			if got := toolNames(t, session); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			for _, name := range []string{"hidden", "nothing"} {
				if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: name}); err == nil || !strings.Contains(err.Error(), "unknown tool") {
					t.Errorf("%s: got %v", name, err)
				}
			}
		})
	}
	t.Run("a stranger's call goes where /run has it", func(t *testing.T) {
		r, err := s.connect(t, mooncore.Identity{}).CallTool(t.Context(), &mcp.CallToolParams{Name: "anyone"})
		if err != nil || text(t, r) != "2" {
			t.Errorf("got %v, %v", r, err)
		}
	})
}

func TestManyToolsInPages(t *testing.T) {
	const most = 1000 // of a page
	var actions []mooncore.Action
	for i := range most + 50 {
		allow := mooncore.Public
		if i%2 == 0 {
			allow = mooncore.Authenticated
		}
		actions = append(actions, action(fmt.Sprintf("a%04d", i), allow, returns(i)))
	}
	s := serve(t, oneApp(actions...))
	if got := len(strings.Fields(toolNames(t, s.connect(t, mooncore.Identity{})))); got != (most+50)/2 {
		t.Errorf("a stranger sees %d tools", got)
	}
	if got := len(strings.Fields(toolNames(t, s.connect(t, mooncore.Identity{User: "u"})))); got != most+50 {
		t.Errorf("a user sees %d tools", got)
	}
}

func TestDescriptions(t *testing.T) {
	forced := action("forced", mooncore.Public, mooncore.Func(echo[task]))
	forced.Override = map[string]any{"owner": "root"}
	readOnly := action("read", mooncore.Public, returns("x"))
	readOnly.ReadOnly = true
	s := serve(t, oneApp(
		action("create", mooncore.Public, mooncore.Func(echo[task])), forced, readOnly,
		action("any", mooncore.Public, returns[any](nil)),
		action("tree", mooncore.Public, mooncore.Func(echo[folder])),
		action("trees", mooncore.Public, returns([]folder{{Name: "a"}})),
		action("pointer", mooncore.Public, returns(&task{})),
	))
	tools := map[string]*mcp.Tool{}
	for tool, err := range s.connect(t, mooncore.Identity{}).Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		tools[tool.Name] = tool
	}
	const (
		title = `"title":{"description":"shown in lists","minLength":2,"type":"string"}`
		tags  = `"tags":{"items":{"type":"string"},"maxItems":3,"type":"array"}`
		defs  = `"$defs":{"folder":{"properties":{"folders":{"items":{"$ref":"#/$defs/folder"},"type":"array"},"name":{"type":"string"}},"type":"object"}}`
		out   = `"$defs":{"folder":{"properties":{"folders":{"items":{"anyOf":[{"$ref":"#/$defs/folder"},{"type":"null"}]},"type":["array","null"]},"name":{"type":"string"}},"type":"object"}}`
	)
	for _, test := range []struct{ name, input, output string }{
		{"create", `{"properties":{"owner":{"type":"string"},` + tags + `,` + title + `},"required":["title","owner"],"type":"object"}`,
			`{"properties":{"owner":{"type":"string"},"tags":{"items":{"type":"string"},"type":["array","null"]},"title":{"description":"shown in lists","type":"string"}},"type":"object"}`},
		{"forced", `{"properties":{` + tags + `,` + title + `},"required":["title"],"type":"object"}`, ""},
		{"read", `{"type":"object"}`, `{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object"}`},
		{"any", `{"type":"object"}`, "null"},
		{"tree", `{` + defs + `,"$ref":"#/$defs/folder","type":"object"}`,
			`{` + out + `,"$ref":"#/$defs/folder","type":"object"}`},
		{"trees", `{"type":"object"}`,
			`{` + out + `,"properties":{"result":{"items":{"$ref":"#/$defs/folder"},"type":["array","null"]}},"required":["result"],"type":"object"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			tool := tools[test.name]
			if tool.Description != "about "+test.name {
				t.Errorf("description %q", tool.Description)
			}
			if got := jsonOf(t, tool.InputSchema); got != test.input {
				t.Errorf("input\n got %s\nwant %s", got, test.input)
			}
			if got := jsonOf(t, tool.OutputSchema); test.output != "" && got != test.output {
				t.Errorf("output\n got %s\nwant %s", got, test.output)
			}
			hints := tool.Annotations
			if hints.ReadOnlyHint != (test.name == "read") || *hints.DestructiveHint != (test.name != "read") {
				t.Errorf("annotations %s", jsonOf(t, hints))
			}
		})
	}
}

func TestResults(t *testing.T) {
	s := serve(t, oneApp(
		action("object", mooncore.Public, returns(folder{Name: "a"})),
		action("text", mooncore.Public, returns("<b>")),
		action("list", mooncore.Public, returns([]int{1, 2})),
		action("null", mooncore.Public, returns[*folder](nil)),
		action("any.object", mooncore.Public, returns[any](map[string]int{"a": 1})),
		action("any.list", mooncore.Public, returns[any]([]int{1})),
		action("exact", mooncore.Public, mooncore.Func(echo[map[string]any])),
	))
	session := s.connect(t, mooncore.Identity{})
	for _, test := range []struct {
		name, args, text, structured string
	}{
		{"object", `{}`, `{"name":"a","folders":null}`, `{"folders":null,"name":"a"}`},
		{"text", `{}`, `"<b>"`, `{"result":"\u003cb\u003e"}`},
		{"list", `{}`, `[1,2]`, `{"result":[1,2]}`},
		{"null", `{}`, `null`, `{"result":null}`},
		{"any.object", `{}`, `{"a":1}`, `{"a":1}`},
		{"any.list", `{}`, `[1]`, `null`},
		{"exact", `{"n":12345678901234567890.10,"u":"\ud83d\ude00"}`, `{"n":12345678901234567890.10,"u":"😀"}`, ""},
		{"exact", `null`, `{}`, `{"result":{}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: test.name, Arguments: json.RawMessage(test.args)})
			if err != nil || r.IsError {
				t.Fatalf("got %v, %v", r, err)
			}
			if got := text(t, r); got != test.text {
				t.Errorf("text %s, want %s", got, test.text)
			}
			if got := jsonOf(t, r.StructuredContent); test.structured != "" && got != test.structured {
				t.Errorf("structured content %s, want %s", got, test.structured)
			}
		})
	}
}

func TestStrangersGet401WhenNothingIsPublic(t *testing.T) {
	s := serve(t, oneApp(action("user.only", mooncore.Roles("user"), returns(1))))
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
		toolCall("user.only", "{}"), toolCall("nothing", "{}"), "{",
	} {
		r := s.post(t, body)
		if r.status != 401 || r.header.Get("WWW-Authenticate") != "Bearer" || r.body != `{"error":"Access denied","code":"unauthenticated"}` {
			t.Errorf("%s: got %d %q %s", body, r.status, r.header.Get("WWW-Authenticate"), r.body)
		}
	}
	if !strings.Contains(s.log.String(), "code=unauthenticated") || !strings.Contains(s.log.String(), "source=mcp") {
		t.Errorf("the refusals are not in the log:\n%s", s.log)
	}
}

func TestACallIsLoggedOnce(t *testing.T) {
	const traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	fails := mooncore.Func(func(ctx context.Context, _ struct{}) (any, error) {
		req := mooncore.RequestFrom(ctx)
		if req.Source != "mcp" || !req.RemoteAddr.IsLoopback() || req.Conn() != nil || req.TraceParent() != traceParent {
			return nil, mooncore.Errorf(mooncore.CodeInvalidArgument, "source %q, address %v, trace %q", req.Source, req.RemoteAddr, req.TraceParent())
		}
		return nil, errors.New("the cause")
	})
	s := serve(t, oneApp(action("fails", mooncore.Public, fails)))
	token := s.token(t, mooncore.Identity{User: "alice", Tenant: "acme"})
	r := s.post(t, toolCall("fails", `{"secret":"s3cr3t"}`), "Authorization: Bearer "+token, "X-Request-Id: id-7", "Traceparent: "+traceParent)
	if want := `"text":"{\"error\":\"Internal Server Error\",\"code\":\"internal\",\"request_id\":\"id-7\"}"`; !strings.Contains(r.body, want) {
		t.Errorf("got %s, want in it %s", r.body, want)
	}
	if r.header.Get("X-Request-Id") != "id-7" || r.header.Get("Cache-Control") != "no-store" || r.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", r.header)
	}
	log := s.log.String()
	for _, want := range []string{"action=fails", "code=internal", "source=mcp", "user=alice", "tenant=acme", "request_id=id-7", `cause="the cause"`} {
		if strings.Count(log, want) != 1 {
			t.Errorf("%s is not there once in\n%s", want, log)
		}
	}
	if strings.Contains(log, "s3cr3t") || strings.Contains(log, token) {
		t.Errorf("params or the token are in the log:\n%s", log)
	}
}

func TestGarbage(t *testing.T) {
	small := action("small", mooncore.Public, mooncore.Func(echo[map[string]any]))
	small.MaxBytes = 100
	cfg := oneApp(small, action("admin", mooncore.Roles("admin"), returns(1)))
	cfg.Hosts, cfg.Origins = []string{"127.0.0.1"}, []string{"https://app.example.com"}
	s := serve(t, cfg)
	const ping = `{"jsonrpc":"2.0","id":"x","method":"ping"}`
	huge := strings.Repeat("x", 1<<20+64<<10)
	for _, test := range []struct {
		name    string
		method  string
		body    string
		headers []string
		status  int
		want    string // in the body
	}{
		{"fine", "POST", ping, nil, 200, `{"jsonrpc":"2.0","id":"x","result":{}}`},
		{"listed origin", "POST", ping, []string{"Origin: https://app.example.com", "Sec-Fetch-Site: cross-site"}, 200, `"result":{}`},
		{"notification", "POST", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, nil, 202, ""},
		{"unknown notification", "POST", `{"jsonrpc":"2.0","method":"nope"}`, nil, 400, `"code":-32601`},
		{"a response to nothing", "POST", `{"jsonrpc":"2.0","id":1,"result":{}}`, nil, 202, ""},
		{"GET", "GET", "", nil, 405, `"code":"method_not_allowed"`},
		{"DELETE", "DELETE", "", nil, 405, `"code":"method_not_allowed"`},
		{"foreign host", "POST", ping, []string{"Host: evil.example"}, 403, `"Host not allowed"`},
		{"foreign origin", "POST", ping, []string{"Origin: https://evil.example"}, 403, `"Origin not allowed"`},
		{"origin null", "POST", ping, []string{"Origin: null"}, 403, `"Origin not allowed"`},
		{"cross-site without origin", "POST", ping, []string{"Sec-Fetch-Site: cross-site"}, 403, `"Origin not allowed"`},
		{"bad token", "POST", ping, []string{"Authorization: Bearer a.b.c"}, 401, `"Invalid token"`},
		{"media type of a form", "POST", ping, []string{"Content-Type: text/plain"}, 415, `"code":"unsupported_media_type"`},
		{"no media type", "POST", ping, []string{"Content-Type: "}, 415, `"code":"unsupported_media_type"`},
		{"accepts JSON alone", "POST", ping, []string{"Accept: application/json"}, 200, `"result":{}`},
		{"too large", "POST", toolCall("small", `{"a":"`+huge+`"}`), nil, 413, `"code":"too_large"`},
		{"larger than the action takes", "POST", toolCall("small", `{"a":"`+strings.Repeat("x", 100)+`"}`), nil, 200, `\"code\":\"too_large\"`},
		{"empty", "POST", "", nil, 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700`},
		{"cut off", "POST", `{"jsonrpc":"2.0","id":1,`, nil, 400, `"code":-32700`},
		{"two values", "POST", ping + ping, nil, 400, `"code":-32700`},
		{"bad UTF-8", "POST", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", nil, 400, `"code":-32600`},
		{"duplicate key", "POST", `{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}`, nil, 400, `"id":7,"error":{"code":-32600,"message":"duplicate key`},
		{"key in other case", "POST", `{"jsonrpc":"2.0","id":7,"method":"ping","METHOD":"tools/call"}`, nil, 400, `"code":-32600`},
		{"duplicate key in the arguments", "POST", toolCall("small", `{"a":1,"a":2}`), nil, 400, `duplicate key`},
		{"too deep", "POST", toolCall("small", strings.Repeat(`{"a":`, 70)+"1"+strings.Repeat("}", 70)), nil, 400, `"code":-32600`},
		{"batch", "POST", "[" + ping + "," + ping + "]", nil, 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"A batch is not supported: send one message"}}`},
		{"no object", "POST", "null", nil, 400, `"code":-32600`},
		{"JSON-RPC 1.0", "POST", `{"jsonrpc":"1.0","id":1,"method":"ping"}`, nil, 400, `"code":-32600`},
		{"id is an object", "POST", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, nil, 400, `"id":null,"error":{"code":-32600`},
		{"id is null", "POST", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, nil, 400, `"code":-32600`},
		{"unknown method", "POST", `{"jsonrpc":"2.0","id":1,"method":"nope"}`, nil, 200, `"id":1,"error":{"code":-32601`},
		{"no params", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, nil, 400, `"code":-32600`},
		{"params are a list", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[1]}`, nil, 200, `"error":{"code":-32602`},
		{"unknown tool", "POST", toolCall("nope", "{}"), nil, 200, `"error":{"code":-32602,"message":"unknown tool \"nope\""}`},
		{"arguments are a list", "POST", toolCall("small", "[1]"), nil, 200, `"error":{"code":-32602,"message":"The arguments are not an object"}`},
		{"no credential", "POST", toolCall("admin", "{}"), nil, 401, `\"code\":\"unauthenticated\"`},
		{"unknown version", "POST", ping, []string{"Mcp-Protocol-Version: 1999-01-01"}, 400, `"error":{"code":-32600,"message":"Bad Request: Unsupported protocol version`},
		{"version to come", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2099-01-01","io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`,
			[]string{"Mcp-Protocol-Version: 2099-01-01", "Mcp-Method: tools/list"}, 400, `"code":-32022`},
		{"invented session", "POST", ping, []string{"Mcp-Session-Id: invented"}, 200, `"result":{}`},
		{"resume", "POST", ping, []string{"Last-Event-Id: 1"}, 400, `"code":-32600`},
		{"nothing cancelled", "POST", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":{}}}`, []string{"Mcp-Session-Id: s"}, 202, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := s.do(t, test.method, test.body, test.headers...)
			if r.status != test.status || !strings.Contains(r.body, test.want) || (test.want == "") != (r.body == "") {
				t.Errorf("got %d %.300s, want %d with %s", r.status, r.body, test.status, test.want)
			}
			if typ := r.header.Get("Content-Type"); r.body != "" && !strings.HasPrefix(typ, "application/json") {
				t.Errorf("Content-Type %q", typ)
			}
			if r.status == 405 && r.header.Get("Allow") != "POST" || r.status == 401 && r.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("headers %v", r.header)
			}
		})
	}
}

func TestPreflight(t *testing.T) {
	cfg := oneApp(action("a", mooncore.Public, returns(1)))
	cfg.Origins = []string{"https://app.example.com"}
	s := serve(t, cfg)
	r := s.do(t, http.MethodOptions, "", "Origin: https://app.example.com", "Access-Control-Request-Method: POST",
		"Access-Control-Request-Headers: authorization,content-type,mcp-protocol-version,mcp-session-id")
	if r.status != 204 || r.header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || r.header.Get("Access-Control-Allow-Headers") == "" {
		t.Errorf("got %d %v", r.status, r.header)
	}
}

func TestVersions(t *testing.T) {
	s := serve(t, oneApp(action("a", mooncore.Public, returns(1))))
	for asked, want := range map[string]string{
		"2024-11-05": "2024-11-05", "2025-03-26": "2025-03-26", "2025-06-18": "2025-06-18", "2025-11-25": "2025-11-25",
		"1999-01-01": "2025-11-25", // the client decides whether it can
	} {
		r := s.post(t, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"`+asked+`","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`)
		if r.status != 200 || !strings.Contains(r.body, `"protocolVersion":"`+want+`"`) || !strings.Contains(r.body, `"capabilities":{"tools":{}}`) {
			t.Errorf("%s: got %d %s", asked, r.status, r.body)
		}
		if r.header.Get("Mcp-Session-Id") == "" {
			t.Errorf("%s: no session", asked)
		}
		r = s.post(t, toolCall("a", "{}"), "Mcp-Protocol-Version: "+want)
		if r.status != 200 || !strings.Contains(r.body, `"structuredContent":{"result":1}`) {
			t.Errorf("%s: got %d %s", want, r.status, r.body)
		}
	}
}

// waits returns an action that waits for the end of its context, and tells when it runs and which error that was.
func waits(name string) (_ mooncore.Action, running chan struct{}, ended chan error) {
	running, ended = make(chan struct{}), make(chan error, 1)
	return action(name, mooncore.Public, mooncore.Func(func(ctx context.Context, _ struct{}) (any, error) {
		running <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})), running, ended
}

func TestClientGoneCancelsItsCall(t *testing.T) {
	slow, running, ended := waits("slow")
	s := serve(t, oneApp(slow))
	for _, version := range []string{"2025-03-26", "2025-11-25", "2026-07-28"} {
		headers, body := []string{"Mcp-Protocol-Version: " + version}, toolCall("slow", "{}")
		if version >= "2026" {
			headers = append(headers, "Mcp-Method: tools/call", "Mcp-Name: slow")
			body = strings.Replace(body, `{}}`, `{},"_meta":{"io.modelcontextprotocol/protocolVersion":"`+version+`","io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}`, 1)
		}
		ctx, cancel := context.WithCancel(t.Context())
		r := s.request(ctx, t, http.MethodPost, body, headers...)
		done := make(chan error, 1)
		go func() {
			resp, err := s.client.Do(r)
			if err == nil {
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				err = fmt.Errorf("answered %s", b)
			}
			done <- err
		}()
		select {
		case <-running:
		case err := <-done:
			t.Fatalf("%s: %v", version, err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the call ended with %v", version, err)
		}
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", version, err)
		}
	}
}

func TestNotificationCancelsACallOfTheSameClient(t *testing.T) {
	slow, running, ended := waits("slow")
	s := serve(t, oneApp(slow))
	alice := "Authorization: Bearer " + s.token(t, mooncore.Identity{User: "alice"})
	bob := "Authorization: Bearer " + s.token(t, mooncore.Identity{User: "bob"})
	answered := make(chan response)
	go func() { answered <- s.post(t, toolCall("slow", "{}"), alice, "Mcp-Session-Id: one") }()
	<-running
	cancel := func(id string, headers ...string) {
		t.Helper()
		r := s.post(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}`, headers...)
		if r.status != 202 {
			t.Errorf("got %d %s", r.status, r.body)
		}
	}
	cancel("1", bob, "Mcp-Session-Id: one")
	cancel("1", "Mcp-Session-Id: one")
	cancel("1", alice, "Mcp-Session-Id: two")
	cancel("1", alice)
	cancel("2", alice, "Mcp-Session-Id: one")
	cancel(`"1"`, alice, "Mcp-Session-Id: one")
	select {
	case err := <-ended:
		t.Fatalf("somebody else's notification ended the call: %v", err)
	default:
	}
	cancel("1", alice, "Mcp-Session-Id: one")
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
	if r := <-answered; !strings.Contains(r.body, `\"code\":\"canceled\"`) {
		t.Errorf("got %d %s", r.status, r.body)
	}
}

func TestSDKClientCancels(t *testing.T) {
	slow, running, ended := waits("slow")
	s := serve(t, oneApp(slow))
	session := s.connect(t, mooncore.Identity{User: "alice"})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-running; cancel() }()
	if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "slow"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
}

func TestHandlerThatEndsItsGoroutine(t *testing.T) {
	s := serve(t, oneApp(action("exit", mooncore.Public, mooncore.Func(func(context.Context, struct{}) (any, error) {
		runtime.Goexit()
		return nil, nil
	}))))
	r := s.post(t, toolCall("exit", "{}"), "X-Request-Id: id-1")
	if want := `\"code\":\"internal\",\"request_id\":\"id-1\"`; r.status != 200 || !strings.Contains(r.body, want) {
		t.Errorf("got %d %s", r.status, r.body)
	}
}

func TestShutdownAnswersWhatRunsAndRefusesTheRest(t *testing.T) {
	running, release := make(chan struct{}), make(chan struct{})
	s := serve(t, oneApp(action("slow", mooncore.Public, mooncore.Func(func(context.Context, struct{}) (string, error) {
		running <- struct{}{}
		<-release
		return "done", nil
	}))))
	answered := make(chan response)
	go func() { answered <- s.post(t, toolCall("slow", "{}")) }()
	<-running
	stopped := make(chan error)
	go func() { stopped <- s.Shutdown(context.Background()) }()
	for { // until Shutdown has begun
		r := s.post(t, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		if r.status == 503 {
			if r.header.Get("Retry-After") == "" || !strings.Contains(r.body, `"code":"unavailable"`) {
				t.Errorf("got %v %s", r.header, r.body)
			}
			break
		}
		runtime.Gosched()
	}
	select {
	case err := <-stopped:
		t.Fatalf("Shutdown did not wait: %v", err)
	default:
	}
	close(release)
	if r := <-answered; r.status != 200 || !strings.Contains(r.body, `"structuredContent":{"result":"done"}`) {
		t.Errorf("got %d %s", r.status, r.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestThousandSessionsLeaveNothing(t *testing.T) {
	s := serve(t, oneApp(action("a", mooncore.Authenticated, mooncore.Func(func(ctx context.Context, _ struct{}) (string, error) {
		return mooncore.RequestFrom(ctx).Identity.User, nil
	}))))
	const workers, each = 20, 50
	var wg sync.WaitGroup
	for w := range workers {
		user := fmt.Sprintf("u%d", w)
		token := "Authorization: Bearer " + s.token(t, mooncore.Identity{User: user})
		wg.Go(func() {
			for range each {
				r := s.post(t, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`, token)
				session := "Mcp-Session-Id: " + r.header.Get("Mcp-Session-Id")
				if r = s.post(t, toolCall("a", "{}"), token, session); !strings.Contains(r.body, `"result":"`+user+`"`) {
					t.Errorf("%s got %d %s", user, r.status, r.body)
				}
			}
		})
	}
	wg.Wait()
	s.client.CloseIdleConnections()
	// leaktest finds what a session would have left running.
}

func TestNewRefusesAToolThatSaysNothing(t *testing.T) {
	silent := action("silent", mooncore.Public, returns(1))
	silent.Description = ""
	cfg := oneApp(silent)
	cfg.Development = true
	cfg.Routers[0].Fallback = mooncore.Action{Handler: returns(1), Tool: true, Description: "x"}
	_, err := mooncore.New(cfg)
	for _, want := range []string{"Routers[0].Actions[0] (silent).Description", "Routers[0].Fallback.Tool"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in %v", want, err)
		}
	}
}
