package mooncore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/mooncore/mooncore"
)

// One line a call, whatever its transport and outcome, with these attributes and none of its params.
func TestLogLineOfACall(t *testing.T) {
	log, lines := logger()
	cfg := withTokens()
	cfg.Logger = log
	cfg.Routers[0].App = "tasks"
	cfg.Routers[0].Actions = append(cfg.Routers[0].Actions,
		mooncore.Action{Name: "fails", Allow: mooncore.Public, Handler: failing(&mooncore.Error{Code: mooncore.CodeNotFound, Message: "m", LogID: "L7", Err: errors.New("why")})},
		mooncore.Action{Name: "panics", Allow: mooncore.Public, Handler: panicking("boom")},
		mooncore.Action{Name: "text", Allow: mooncore.Public, Handler: failing(mooncore.Errorf(mooncore.CodeInternal, "the disk is full"))},
	)
	srv := serve(t, cfg)
	id := mooncore.Identity{User: "alice", Tenant: "t"}
	token := srv.token(id)
	conn := srv.dial("Authorization", "Bearer "+token)
	for _, test := range []struct {
		action, code, level string
		more                []string // attributes
		cause               string
	}{
		{"mine", "ok", "INFO", nil, ""},
		{"none", "not_found", "INFO", nil, ""},
		{"fails", "not_found", "INFO", []string{"cause", "log_id"}, "why"},
		{"panics", "internal", "ERROR", []string{"cause", "stack"}, "panic: boom"},
		{"text", "internal", "ERROR", []string{"cause"}, "the disk is full"}, // which no client gets to read
	} {
		for _, source := range []string{"http", "ws", "go"} {
			t.Run(test.action+"/"+source, func(t *testing.T) {
				before := len(lines.records(t, "call"))
				switch source {
				case "http":
					srv.call(test.action, `{"x":"CANARY"}`, "Authorization", "Bearer "+token, "X-Request-Id", "r1")
				case "ws":
					conn.ask(`{"action":"` + test.action + `","x":"CANARY","rayid":"CANARY"}`)
				case "go":
					srv.Call(t.Context(), &mooncore.Request{Action: test.action, Params: []byte(`{"x":"CANARY"}`), Identity: id, ID: "r1"})
				}
				records := lines.records(t, "call")[before:]
				if len(records) != 1 {
					t.Fatalf("%d lines: %v", len(records), records)
				}
				r := records[0]
				want := append([]string{"action", "app", "code", "duration", "level", "msg", "request_id", "source", "tenant", "time", "user"}, test.more...)
				slices.Sort(want)
				if got := slices.Sorted(maps.Keys(r)); !slices.Equal(got, want) {
					t.Errorf("attributes %v, want %v", got, want)
				}
				if r["action"] != test.action || r["code"] != test.code || r["level"] != test.level || r["source"] != source || r["user"] != "alice" || r["tenant"] != "t" || r["app"] != "tasks" {
					t.Errorf("got %v", r)
				}
				if r["request_id"] == "" || source != "ws" && r["request_id"] != "r1" {
					t.Errorf("request_id %v", r["request_id"])
				}
				if test.cause != "" && r["cause"] != test.cause {
					t.Errorf("cause %v", r["cause"])
				}
			})
		}
	}
	if strings.Contains(lines.String(), "CANARY") {
		t.Error("params are in the log")
	}
}

// What clients choose makes no line of its own, and none that is long.
func TestLogInjection(t *testing.T) {
	lines := &logLines{}
	srv := serve(t, mooncore.Config{Logger: slog.New(slog.NewTextHandler(lines, nil)), Routers: catalogue()})
	conn := srv.dial()
	for _, name := range []string{`x\nlevel=ERROR msg=forged`, `x\r\n\u2028y`, `\u001b[31m`, strings.Repeat("x", 10000)} {
		conn.ask(`{"action":"` + name + `"}`)
	}
	srv.request("POST", "/run/%0Alevel=ERROR%20msg=forged", "{}", "X-Request-Id", "a b=c", "Origin", "http://x\tlevel=ERROR")
	calls := 0
	for line := range strings.Lines(lines.String()) {
		if strings.HasPrefix(line, "level=") || strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\r\x1b\u2028") || len(line) > 1000 {
			t.Errorf("line %.200q", line)
		}
		if strings.Contains(line, "msg=call ") {
			calls++
		}
	}
	if calls != 5 {
		t.Errorf("%d lines for 5 calls:\n%s", calls, lines)
	}
}

// A canary is a secret that must not be seen where it does not belong.
type canaries struct {
	mu   sync.Mutex
	all  []string // never in logs, never in what clients get
	only []string // logged as causes, never in what clients get
}

func (c *canaries) new(what string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := fmt.Sprintf("CANARY%d%s", len(c.all)+len(c.only), what)
	c.all = append(c.all, s)
	return s
}

// cause is a canary in the text of an error.
func (c *canaries) cause(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := fmt.Sprintf("CANARY%d%s", len(c.all)+len(c.only), what)
	c.only = append(c.only, s)
	return errors.New(s)
}

func TestSecretsAreNeverSeen(t *testing.T) {
	c := &canaries{}
	log, lines := logger()
	var seen strings.Builder // what clients got
	took := func(resp *http.Response, body string) {
		fmt.Fprintln(&seen, resp.Status, resp.Header, body)
	}
	type output struct {
		Key  mooncore.Secret            `json:"key"`
		Keys map[string]mooncore.Secret `json:"keys"`
	}
	type input struct {
		Key      mooncore.Secret `json:"key"`
		Password string          `json:"password" validate:"max_length=3"`
		N        int             `json:"n"`
	}
	secretKey := mooncore.Secret(c.new("jwt.secret") + strings.Repeat("x", 32))
	out := output{mooncore.Secret(c.new("output")), map[string]mooncore.Secret{"a": mooncore.Secret(c.new("nested.output"))}}
	handlerCause, panicCause, checkCause, connectCause, joinCause, authCause, marshalCause := c.cause("handler"), c.cause("panic"), c.cause("check"),
		c.cause("connect"), c.cause("join"), c.cause("authenticate"), c.cause("middleware")
	refuseConnect := false
	cfg := mooncore.Config{
		Logger: log, JWT: mooncore.JWTConfig{Secret: secretKey}, SecretKeyBase: mooncore.Secret(c.new("secret.key.base") + strings.Repeat("x", 32)),
		Checks: map[string]func(context.Context) error{"db": func(context.Context) error { return checkCause }},
		OnConnect: func(context.Context, *mooncore.Conn) error {
			if refuseConnect {
				return connectCause
			}
			return nil
		},
		Authenticate: func(r *http.Request) (mooncore.Identity, error) {
			if r.Header.Get("X-Fail") != "" {
				return mooncore.Identity{}, authCause
			}
			return mooncore.Identity{}, nil
		},
		Routers: []mooncore.Router{{
			Roles: []string{"user"},
			Actions: []mooncore.Action{
				{Name: "in", Allow: mooncore.Public, Handler: mooncore.Func(func(context.Context, input) (bool, error) { return true, nil })},
				{Name: "out", Allow: mooncore.Public, Handler: mooncore.Func(func(context.Context, struct{}) (output, error) { return out, nil })},
				{Name: "forced", Allow: mooncore.Public, Override: map[string]any{"key": c.new("override")}, Handler: mooncore.Func(func(context.Context, input) (bool, error) { return true, nil })},
				{Name: "fails", Allow: mooncore.Public, Handler: failing(fmt.Errorf("wrapped: %w", handlerCause))},
				{Name: "fails.too", Allow: mooncore.Public, Handler: failing(&mooncore.Error{Code: mooncore.CodeNotFound, Message: "gone", Err: handlerCause})},
				{Name: "hidden", Allow: mooncore.Public, Handler: failing(&mooncore.Error{Code: mooncore.CodeInternal, Message: handlerCause.Error()})},
				{Name: "panics", Allow: mooncore.Public, Handler: panicking(panicCause)},
				{Name: "layer", Allow: mooncore.Public, Handler: failing(nil), Middleware: []mooncore.Middleware{
					mooncore.Before(func(context.Context, *mooncore.Request) (context.Context, error) { return nil, marshalCause })}},
			},
			Channels: []mooncore.Channel{{Name: "no", Allow: mooncore.Authenticated, Join: func(context.Context, mooncore.Identity, string) error { return joinCause }}},
		}},
	}
	srv := serve(t, cfg)
	id := mooncore.Identity{User: "alice", Claims: map[string]any{"note": c.new("claim")}}
	secretToken := func() string {
		token := srv.token(id)
		c.all = append(c.all, token[strings.LastIndex(token, ".")+1:]) // the signature is what makes it one
		return token
	}

	// HTTP: credentials, params in all their places, errors of all kinds.
	for _, header := range [][]string{
		{"Authorization", "Bearer " + secretToken()}, {"Authorization", "Bearer " + c.new("bad.token")}, {"Authorization", "Basic " + c.new("basic")},
		{"Authorization", "Bearer " + c.new("a") + "." + c.new("b") + "." + c.new("c")}, {"Cookie", "session=" + c.new("cookie")},
		{"X-Api-Key", c.new("api.key")}, {"Proxy-Authorization", c.new("proxy")}, {"X-Fail", "1"},
		{"Authorization", c.new("two"), "Authorization", c.new("headers")},
	} {
		took(srv.call("in", `{"key":"`+c.new("param")+`"}`, header...))
	}
	for _, body := range []string{
		`{"password":"` + c.new("password") + `"}`, `{"n":"` + c.new("wrong.type") + `"}`, `{"key":"` + c.new("cut.short"), `["` + c.new("list") + `"]`,
		`{"a":{"b":[{"c":"` + c.new("deep") + `"}]}}`, `"` + c.new("text") + `"`, `{"key":"` + c.new("utf8") + "\xff\"}", `{"n":1,"n":"` + c.new("duplicate") + `"}`,
	} {
		took(srv.call("in", body))
	}
	took(srv.request("POST", "/run/in?key="+c.new("query"), "{}"))
	took(srv.request("GET", "/run/in?key="+c.new("get"), ""))
	took(srv.call("in", "key="+c.new("form"), "Content-Type", "application/x-www-form-urlencoded"))
	took(srv.call("in", c.new("plain"), "Content-Type", "text/plain"))
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	file, _ := w.CreateFormFile("file", c.new("file.name"))
	fmt.Fprint(file, c.new("file"))
	w.WriteField("key", c.new("field"))
	w.Close()
	took(srv.call("in", form.String(), "Content-Type", w.FormDataContentType()))
	for _, action := range []string{"out", "forced", "fails", "fails.too", "hidden", "panics", "layer"} {
		took(srv.call(action, "{}"))
	}
	took(srv.request("GET", "/readyz", ""))

	// WebSocket: the same, in frames.
	conn := srv.dial("Sec-WebSocket-Protocol", "mooncore.v1, bearer."+secretToken(), "Cookie", "", "Origin", "http://"+srv.addr)
	for _, frame := range []string{
		`["jwt","` + secretToken() + `"]`, `["jwt","` + c.new("frame.token") + `"]`, `{"action":"in","key":"` + c.new("frame") + `","rayid":1}`,
		`{"action":"in","password":"` + c.new("frame.password") + `"}`, `["join","no"]`, `["join",{"x":"` + c.new("join") + `"}]`, c.new("no.json"), `["` + c.new("command") + `",1]`,
		`{"action":"fails"}`, `{"action":"panics"}`, `{"action":"hidden"}`, `{"action":"out"}`, `{"action":["` + c.new("action") + `"]}`,
	} {
		got := conn.ask(frame)
		if !strings.HasPrefix(got, `["jwt",{`) { // the client's own claims go back to it
			fmt.Fprintln(&seen, got)
		}
	}
	meta := `{"action":"in","key":"` + c.new("meta") + `"}`
	payload := append(binary.LittleEndian.AppendUint16(nil, uint16(len(meta))), meta+c.new("payload")...)
	if err := conn.ws.Write(t.Context(), websocket.MessageBinary, payload); err != nil {
		t.Fatal(err)
	}
	got, _ := conn.read()
	fmt.Fprintln(&seen, got)
	if err := srv.Tenant("", "").Publish(t.Context(), "e", map[string]any{"password": c.new("event"), "key": out.Key}, mooncore.ToUser("alice")); err != nil {
		t.Fatal(err)
	}
	got, _ = conn.read()
	fmt.Fprintln(&seen, got)
	conn.ws.Close(1000, "")
	_, resp := dialURL(t, "ws://"+srv.addr+"/ws", srv.client, "Authorization", "Bearer "+c.new("upgrade.token"))
	took(resp, "")
	_, resp = dialURL(t, "ws://"+srv.addr+"/ws", srv.client, "Sec-WebSocket-Protocol", "mooncore.v1, bearer."+c.new("protocol.token"))
	took(resp, "")
	_, resp = dialURL(t, "ws://"+srv.addr+"/ws", srv.client, "X-Fail", "1")
	took(resp, "")
	refuseConnect = true
	reason, _ := srv.dial().expectClose(1008)
	fmt.Fprintln(&seen, reason)

	// Configuration: what can't be read is not shown.
	file2 := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file2, []byte("-----BEGIN PRIVATE KEY-----\n"+c.new("pem.file")+"\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, env := range [][2]string{
		{"JWT_PRIVATE_KEY", "-----BEGIN PRIVATE KEY-----\n" + c.new("pem") + "\n-----END PRIVATE KEY-----"}, {"JWT_PRIVATE_KEY_FILE", file2},
		{"JWT_PRIVATE_KEY_FILE", "/nowhere/" + c.new("put.in.the.wrong.variable")}, {"SECRET_KEY_BASE", c.new("short")}, {"JWT_PUBLIC_KEY", `{"keys":[{"k":"` + c.new("jwk") + `"}]}`},
	} {
		t.Run(env[0], func(t *testing.T) {
			t.Setenv(env[0], env[1])
			read, err := mooncore.ConfigFromEnv(mooncore.Config{Logger: log, Routers: catalogue()})
			if err == nil {
				var made *mooncore.Server
				if made, err = mooncore.New(read); err == nil {
					made.Shutdown(t.Context())
					t.Error("New took it")
				}
			}
			fmt.Fprintln(&seen, err)
		})
	}
	fmt.Fprintf(&seen, "%v %+v %#v %s", cfg.JWT, cfg.JWT, cfg.JWT.Secret, cfg.SecretKeyBase)
	log.Info("the configuration", "jwt", cfg.JWT, "base", cfg.SecretKeyBase)
	if err := srv.stop(); err != nil {
		t.Error(err)
	}

	for _, canary := range c.all {
		if i := strings.Index(lines.String(), canary); i >= 0 {
			t.Errorf("in the log: %s: …%.300s", canary, lines.String()[max(0, i-200):])
		}
	}
	for _, canary := range slices.Concat(c.all, c.only) {
		if i := strings.Index(seen.String(), canary); i >= 0 {
			t.Errorf("a client saw: %s: …%.300s", canary, seen.String()[max(0, i-200):])
		}
	}
	for _, cause := range c.only {
		if !strings.Contains(lines.String(), cause) && cause != joinCause.Error() { // a refusal to join is no fault
			t.Errorf("the cause %s is not in the log", cause)
		}
	}
	if len(c.all) < 40 {
		t.Errorf("only %d canaries", len(c.all))
	}
}

// An eventLog is an Observer that writes down what it sees.
type eventLog struct {
	mu    sync.Mutex
	lines []string
}

func (o *eventLog) add(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, fmt.Sprintf(format, args...))
}

func (o *eventLog) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := o.lines
	o.lines = nil
	return lines
}

type observedKey struct{}

func (o *eventLog) CallStart(ctx context.Context, req *mooncore.Request) context.Context {
	o.add("start %s", req.Source)
	return context.WithValue(ctx, observedKey{}, "from the observer")
}

func (o *eventLog) CallStep(ctx context.Context, _ *mooncore.Request, step string, took time.Duration, err error) {
	o.add("step %s %v", step, mooncore.CodeOf(err))
	if ctx.Value(observedKey{}) == nil || took < 0 {
		o.add("step %s without its context", step)
	}
}

func (o *eventLog) CallEnd(ctx context.Context, _ *mooncore.Request, out any, err error, _ time.Duration) {
	o.add("end %v %v %v", out, mooncore.CodeOf(err), ctx.Value(observedKey{}))
}

func (o *eventLog) Command(_ *mooncore.Conn, name string, ok bool, _ time.Duration) {
	o.add("command %s %v", name, ok)
}

func (o *eventLog) ConnOpen(c *mooncore.Conn) { o.add("open %s", c.Identity().User) }

func (o *eventLog) ConnClose(_ *mooncore.Conn, code int, reason string) {
	o.add("close %d %s", code, reason)
}

func (o *eventLog) Frame(_ *mooncore.Conn, sent, binary bool, data []byte) {
	o.add("frame %v %v %s", sent, binary, data)
}

func TestObserversSeeEverything(t *testing.T) {
	events := &eventLog{}
	cfg := withTokens()
	cfg.Observers = []mooncore.Observer{events}
	pass := func(next mooncore.Next) mooncore.Next { return next }
	cfg.Routers[0].Middleware = []mooncore.Middleware{pass}
	cfg.Routers[0].Actions = append(cfg.Routers[0].Actions,
		mooncore.Action{Name: "seen", Allow: mooncore.Public, Middleware: []mooncore.Middleware{pass}, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (any, error) {
			return ctx.Value(observedKey{}), nil
		})},
		mooncore.Action{Name: "typed", Allow: mooncore.Public, Handler: mooncore.Func(add)},
	)
	srv := serve(t, cfg)
	const ctx = "from the observer"
	calls := []struct {
		action, params string
		want           []string
	}{
		{"seen", "{}", []string{"start SOURCE", "step access ", "step params ", "step handler ", "step middleware 1.0 ", "step middleware 0.0 ", "end " + ctx + "  " + ctx}},
		{"mine", "{}", []string{"start SOURCE", "step access unauthenticated", "end <nil> unauthenticated " + ctx}},
		{"typed", `{"a":1}`, []string{"start SOURCE", "step access ", "step params validation_failed", "end <nil> validation_failed " + ctx}},
	}
	for _, call := range calls {
		srv.call(call.action, call.params)
		want := strings.ReplaceAll(strings.Join(call.want, "\n"), "SOURCE", "http")
		if got := strings.Join(events.take(), "\n"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", call.action, got, want)
		}
	}
	srv.call("seen", "{", "X-Request-Id", "x") // a fault before the chain is a call too
	if got := events.take(); !slices.Equal(got, []string{"start http", "end <nil> invalid_argument " + ctx}) {
		t.Errorf("malformed: %q", got)
	}
	conn := srv.dialAs(mooncore.Identity{User: "alice"})
	conn.ask("ping")
	response := conn.ask(`{"action":"seen"}`)
	conn.send("quit")
	conn.expectClose(1000)
	eventually(t, "the close is seen", func() bool {
		events.mu.Lock()
		defer events.mu.Unlock()
		return len(events.lines) > 0 && strings.HasPrefix(events.lines[len(events.lines)-1], "close")
	})
	want := slices.Concat([]string{"open alice", "frame false false ping", "frame true false pong", `frame false false {"action":"seen"}`},
		calls[0].want, []string{"frame true false " + response, "frame false false quit", "close 1000 "})
	want[4] = "start ws"
	if got := events.take(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestObserversSeeCommands(t *testing.T) {
	events := &eventLog{}
	cfg := withTokens()
	cfg.Observers = []mooncore.Observer{events}
	srv := serve(t, cfg)
	conn := srv.dial()
	token := srv.token(mooncore.Identity{User: "alice"})
	for _, tt := range []struct{ frame, want string }{
		{`["join","main"]`, "command join false"}, // nobody is logged in
		{`["jwt","nonsense"]`, "command jwt false"},
		{`["jwt","` + token + `"]`, "command jwt true"},
		{`["join","main"]`, "command join true"},
		{`["join","main"]`, "command join true"}, // again
		{`["join","forbidden"]`, "command join false"},
		{`["join",5]`, "command join false"},
		{`["leave","main"]`, "command leave true"},
		{`["leave","main"]`, "command leave true"}, // again
		{`["leave","@alice"]`, "command leave false"},
		{`["unknown","x"]`, ""},
		{`channel_list`, ""},
	} {
		events.take()
		conn.ask(tt.frame)
		conn.ask("channel_list") // the command was seen by then
		got := slices.DeleteFunc(events.take(), func(line string) bool { return !strings.HasPrefix(line, "command") })
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("%.20s: %q, want %q", tt.frame, got, tt.want)
		}
	}
}
