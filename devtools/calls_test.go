package devtools_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/devtools"
)

// station has an action for each thing that can happen to a call.
func station() mooncore.Config {
	type secretive struct {
		Name string            `json:"name"`
		Code mooncore.Secret   `json:"code"`
		More []mooncore.Secret `json:"more"`
	}
	tag := mooncore.Before(func(ctx context.Context, _ *mooncore.Request) (context.Context, error) { return ctx, nil })
	return mooncore.Config{Routers: []mooncore.Router{{
		App: "station", Roles: []string{"user", "admin"}, Middleware: []mooncore.Middleware{tag},
		Channels: []mooncore.Channel{{Name: "room-*", Allow: mooncore.Authenticated}},
		Actions: []mooncore.Action{
			{Name: "who", Allow: mooncore.Public, ReadOnly: true, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (map[string]any, error) {
				req := mooncore.RequestFrom(ctx)
				return map[string]any{"user": req.Identity.User, "tenant": req.Identity.Tenant, "roles": req.Identity.Roles, "source": req.Source}, nil
			})},
			{Name: "buy", Allow: mooncore.Public, Handler: mooncore.Func(buy), Description: "Buys something.", Override: map[string]any{"tags": []string{"x"}}},
			{Name: "rule", Allow: mooncore.Roles("admin"), Handler: mooncore.Func(func(context.Context, struct{}) (string, error) { return "ruled", nil })},
			{Name: "fail", Allow: mooncore.Public, Handler: mooncore.Func(func(context.Context, struct{}) (string, error) {
				return "", &mooncore.Error{Code: mooncore.CodeFailedPrecondition, Message: "not now", Err: errors.New("the disk is full")}
			})},
			{Name: "panic", Allow: mooncore.Public, Handler: mooncore.Func(func(context.Context, struct{}) (string, error) { panic("boom") })},
			{Name: "secretive", Allow: mooncore.Public, Handler: mooncore.Func(func(_ context.Context, in secretive) (secretive, error) { return in, nil })},
			{Name: "greet", Allow: mooncore.Authenticated, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (string, error) {
				req := mooncore.RequestFrom(ctx)
				if err := req.Tenant().Publish(ctx, "hello", req.Identity.User, mooncore.ToUser(req.Identity.User)); err != nil {
					return "", err
				}
				return "greeted", nil
			})},
			{Name: "big", Allow: mooncore.Public, Handler: mooncore.Func(func(_ context.Context, in json.RawMessage) (json.RawMessage, error) { return in, nil })},
		},
	}}}
}

// A call that a developer makes goes the whole way that a client's goes, and is marked.
func TestRun(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	for _, transport := range []string{"http", "ws", "go"} {
		t.Run(transport, func(t *testing.T) {
			run := func(action, params, identity string) runAnswer {
				t.Helper()
				var answer runAnswer
				d.post("/api/run", fmt.Sprintf(`{"app":"station","action":%q,"params":%s,"transport":%q,"identity":%s}`, action, params, transport, identity), &answer)
				return answer
			}
			const ann = `{"user":"ann","tenant":"acme","roles":["user"]}`
			answer := run("who", "{}", ann)
			source := map[string]string{"http": "http", "ws": "ws", "go": "devtools"}[transport]
			want := map[string]any{"user": "ann", "tenant": "acme", "roles": []any{"user"}, "source": source}
			if got, _ := json.Marshal(answer.Result); !answer.OK || answer.Code != "ok" || fmt.Sprint(answer.Result) != fmt.Sprint(want) {
				t.Fatalf("%+v %s", answer, got)
			}
			var entry logEntry
			d.get(fmt.Sprintf("/api/log/%d", answer.LogID), &entry)
			wantSource := strings.Replace(source, "devtools", "go", 1)
			if entry.Via != "dashboard" || entry.Source != wantSource || entry.User != "ann" || entry.Action != "who" || entry.Code != "ok" {
				t.Errorf("logged as %+v", entry)
			}
			if !strings.Contains(d.log.String(), `msg="developer tools: call" action=who user=ann transport=`+transport) {
				t.Errorf("the program's log does not tell:\n%s", d.log)
			}
			if got := run("rule", "{}", ann); got.OK || got.Code != "permission_denied" {
				t.Errorf("without the role: %+v", got)
			}
			if got := run("rule", "{}", "null"); got.OK || got.Code != "unauthenticated" || got.Error.Error != "Access denied" {
				t.Errorf("anonymous: %+v", got)
			}
			if got := run("rule", "{}", `{"user":"eve","roles":["admin"]}`); !got.OK || got.Result != "ruled" {
				t.Errorf("with the role: %+v", got)
			}
			if got := run("nothing", "{}", "null"); got.Code != "not_found" {
				t.Errorf("unknown action: %+v", got)
			}
			if got := run("panic", "{}", "null"); got.Code != "internal" || strings.Contains(got.Error.Error, "boom") {
				t.Errorf("panic: %+v", got)
			}
			if got := run("buy", `{"item":"a","count":2}`, "null"); !got.OK {
				t.Errorf("buy: %+v", got)
			}
		})
	}
	var greeted runAnswer
	d.post("/api/run", `{"app":"station","action":"greet","params":{},"transport":"ws","identity":{"user":"ann"}}`, &greeted)
	if fmt.Sprint(greeted.Events) != "[[hello ann]]" {
		t.Errorf("events beside the answer: %v", greeted.Events)
	}
	for body, want := range map[string]int{
		`{"app":"none","action":"who","params":{},"transport":"go"}`:                                            404,
		`{"app":"station","action":"","params":{},"transport":"go"}`:                                            422,
		`{"app":"station","action":"who","params":[],"transport":"go"}`:                                         422,
		`{"app":"station","action":"who","params":{},"transport":"tcp"}`:                                        422,
		`{"app":"station","action":"who","params":{},"transport":"go","identity":{}}`:                           422,
		`{"app":"station","action":"who","params":{"rayid":1},"transport":"ws"}`:                                422,
		`{"app":"station","action":"who","params":{},"transport":"http","identity":{"user":"a","roles":["x"]}}`: 412,
		`{"app":"station"`: 400,
		`{} {}`:            400,
	} {
		d.ask("POST", "/api/run", body, want, nil)
	}
}

// Another client that sends the same id is not taken for a developer's call.
func TestMarksCannotBeForged(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	var answer runAnswer
	d.post("/api/run", `{"app":"station","action":"who","params":{},"transport":"http"}`, &answer)
	r := httptest.NewRequest("POST", "/run/who", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Request-Id", answer.RequestID)
	d.ServeHTTP(httptest.NewRecorder(), r)
	entries := d.logged("?request_id=" + answer.RequestID)
	if len(entries) != 2 || entries[0].Via != "" || entries[1].Via != "dashboard" {
		t.Errorf("%+v", entries)
	}
}

func TestLogDetail(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	client := func(action, body string) {
		r := httptest.NewRequest("POST", "/run/"+action, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Traceparent", trace)
		d.ServeHTTP(httptest.NewRecorder(), r)
	}
	last := func() logEntry {
		t.Helper()
		var entry logEntry
		d.get(fmt.Sprintf("/api/log/%d", d.logged("?limit=1")[0].ID), &entry)
		return entry
	}
	client("buy", `{"item":"cake","count":2}`)
	entry := last()
	var steps []string
	for _, s := range entry.Steps {
		steps = append(steps, s.Name)
	}
	if !slices.Equal(steps, []string{"access", "params", "handler", "middleware 0.0"}) {
		t.Errorf("steps %q", steps)
	}
	if entry.Traceparent != trace || entry.RemoteAddr != "192.0.2.1" || entry.Identity != nil || entry.Failure != nil {
		t.Errorf("%+v", entry)
	}
	if got := fmt.Sprint(entry.Params, entry.Result); got != "map[count:2 item:cake tags:[x]] map[id:r-1 item:cake total:14]" {
		t.Errorf("params and result: %s", got)
	}
	client("fail", "{}")
	if f := last().Failure; f == nil || f.Code != "failed_precondition" || f.Message != "not now" || f.Cause != "the disk is full" || f.Stack != "" {
		t.Errorf("failure %+v", f)
	}
	client("panic", "{}")
	if f := last().Failure; f == nil || f.Code != "internal" || f.Cause != "panic: boom" || !strings.Contains(f.Stack, "station") {
		t.Errorf("panic %+v", f)
	}
	client("buy", `{"item":""}`)
	if e := last(); e.Code != "validation_failed" || e.Steps[len(e.Steps)-1].Error != "validation_failed" {
		t.Errorf("%+v", e)
	}
	client("buy", `{"item":`)
	if e := last(); e.Code != "invalid_argument" || len(e.Steps) != 0 {
		t.Errorf("%+v", e)
	}
	client("eyJhbGciOiJIUzI1NiJ9.e30.x", "{}")
	if e := last(); e.Action != "[redacted]" {
		t.Errorf("a token in the place of an action: %q", e.Action)
	}
	d.ask("GET", "/api/log/999", "", 404, nil)
	d.ask("GET", "/api/log/x", "", 404, nil)
}

// A caller without a token may mean any app's action, and any Fallback: no field that one of them calls secret is recorded.
func TestSecretsOfSeveralApps(t *testing.T) {
	type card struct {
		Card mooncore.Secret `json:"card"`
		Note string          `json:"note"`
	}
	type shipment struct {
		Card  string                     `json:"card"`
		Door  mooncore.Secret            `json:"door"`
		Doors map[string]mooncore.Secret `json:"doors"`
		Next  *shipment                  `json:"next"`
	}
	type ticket struct {
		Seat mooncore.Secret `json:"seat"`
	}
	pay := mooncore.Func(func(context.Context, card) (int, error) { return 0, nil })
	ship := mooncore.Func(func(context.Context, shipment) (int, error) { return 0, nil })
	other := mooncore.Func(func(context.Context, ticket) (int, error) { return 0, nil })
	d := start(t, mooncore.Config{Routers: []mooncore.Router{
		{App: "shop", Actions: []mooncore.Action{
			{Name: "send", Allow: mooncore.Authenticated, Handler: pay}, {Name: "open", Allow: mooncore.Authenticated, Handler: pay},
		}},
		{App: "post", Actions: []mooncore.Action{
			{Name: "send", Allow: mooncore.Authenticated, Handler: ship}, {Name: "open", Allow: mooncore.Public, Handler: ship},
		}, Fallback: mooncore.Action{Allow: mooncore.Authenticated, Handler: other}},
	}}, devtools.Config{}).login()
	const params = `{"card":"CANARY","door":"CANARY","doors":{"a":"CANARY"},"next":{"door":"CANARY","doors":{"b":"CANARY"}},"seat":"no secret of this action","note":"n"}`
	for _, test := range []struct{ name, action, user, app, params string }{
		{"refused", "send", "", "", params},
		{"public", "open", "", "", params},
		{"none, refused", "none", "", "", `{"seat":"CANARY"}`},
		{"none, to the fallback", "none", "ann", "post", `{"seat":"CANARY"}`},
		{"one app's", "send", "ann", "shop", `{"card":"CANARY"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _ = d.Call(t.Context(), &mooncore.Request{
				Action: test.action, Params: []byte(test.params), Identity: mooncore.Identity{User: test.user, App: test.app},
			})
			w := d.send(d.request("GET", fmt.Sprintf("/api/log/%d", d.logged("?limit=1")[0].ID), ""))
			if text := w.Body.String(); w.Code != 200 || strings.Contains(text, "CANARY") || !strings.Contains(text, "[redacted]") {
				t.Errorf("%d %s", w.Code, text)
			}
		})
	}
}

func TestLogQuery(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	for i := range 5 {
		for _, user := range []string{"ann", "bob"} {
			_, _ = d.Call(t.Context(), &mooncore.Request{Action: "who", Identity: mooncore.Identity{User: user, Tenant: "acme"}, ID: fmt.Sprintf("r-%s-%d", user, i)})
		}
		_, _ = d.Call(t.Context(), &mooncore.Request{Action: "buy", Params: []byte(fmt.Sprintf(`{"item":"Cake No %d","count":1}`, i))})
		_, _ = d.Call(t.Context(), &mooncore.Request{Action: "fail"})
		_, _ = d.Call(t.Context(), &mooncore.Request{Action: "missing"})
	}
	for query, want := range map[string]int{
		"": 25, "?action=who": 10, "?action=who&user=ann": 5, "?user=": 15, "?tenant=acme": 10, "?code=error": 10, "?code=ok": 15,
		"?code=not_found,failed_precondition": 10, "?code=not_found": 5, "?text=cake+no+3": 1, "?text=THE+DISK": 5, "?text=nothing+like+it": 0,
		"?source=go": 25, "?source=http": 0, "?via=client": 25, "?via=dashboard": 0, "?request_id=r-bob-2": 1, "?limit=3": 3, "?before=4": 3,
		"?min_ms=60000": 0, "?since=99999999999999": 0, "?until=1": 0, "?since=1&until=99999999999999": 25, "?app=station": 10, "?conn=x": 0,
	} {
		if got := d.logged(query); len(got) != want {
			t.Errorf("%s: %d entries, want %d", query, len(got), want)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?limit=x", "?min_ms=-1", "?min_ms=x", "?since=x", "?before=-1"} {
		d.ask("GET", "/api/log"+query, "", http.StatusUnprocessableEntity, nil)
	}
	var page struct {
		Entries []logEntry
		More    bool
		Kept    int
	}
	d.get("/api/log?limit=10", &page)
	if !page.More || page.Kept != 25 || page.Entries[0].ID != 25 {
		t.Errorf("more %v, kept %d, first %d", page.More, page.Kept, page.Entries[0].ID)
	}
	d.ask("DELETE", "/api/log", "{}", 204, nil)
	if got := d.logged(""); len(got) != 0 {
		t.Errorf("after DELETE: %d", len(got))
	}
}

// A call is made again, unless something that it needs was not recorded.
func TestReplay(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	call := func(action, params string, id mooncore.Identity) uint64 {
		t.Helper()
		_, _ = d.Call(t.Context(), &mooncore.Request{Action: action, Params: []byte(params), Identity: id})
		return d.logged("?limit=1")[0].ID
	}
	id := call("rule", "{}", mooncore.Identity{User: "eve", Tenant: "acme", Roles: []string{"admin"}})
	var answer runAnswer
	d.post(fmt.Sprintf("/api/log/%d/replay", id), "{}", &answer)
	if !answer.OK || answer.Result != "ruled" {
		t.Errorf("%+v", answer)
	}
	var again runAnswer // by WebSocket, a call that came so
	d.post("/api/run", `{"app":"station","action":"buy","params":{"item":"a","count":9007199254740993},"transport":"ws"}`, &again)
	d.post(fmt.Sprintf("/api/log/%d/replay", again.LogID), "{}", &again)
	var entry logEntry
	w := d.send(d.request("GET", fmt.Sprintf("/api/log/%d", again.LogID), ""))
	if _ = json.Unmarshal(w.Body.Bytes(), &entry); !again.OK || entry.Source != "ws" || !strings.Contains(w.Body.String(), "9007199254740993") {
		t.Errorf("%+v %s", again, w.Body)
	}
	for name, test := range map[string]struct {
		id   uint64
		want string
	}{
		"a secret":    {call("secretive", `{"code":"1234"}`, mooncore.Identity{}), "secret"},
		"by name":     {call("big", `{"password":"1234"}`, mooncore.Identity{}), "secret"},
		"a long text": {call("big", `{"text":"`+strings.Repeat("x", 5000)+`"}`, mooncore.Identity{}), "too long"},
	} {
		w := d.send(d.request("POST", fmt.Sprintf("/api/log/%d/replay", test.id), "{}"))
		if w.Code != http.StatusPreconditionFailed || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	d.ask("POST", "/api/log/999/replay", "{}", 404, nil)
}

// However many calls there are, the log holds no more bytes than it may.
func TestLogIsBounded(t *testing.T) {
	cfg := station()
	cfg.Logger = slog.New(slog.DiscardHandler)
	d := start(t, cfg, devtools.Config{LogBytes: 1 << 20}).login()
	calls := 30_000
	if testing.Short() {
		calls = 5_000
	}
	params := []byte(`{"item":"` + strings.Repeat("x", 90) + `","count":1}`)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	run := func(n int) {
		for range n {
			if _, err := d.Call(t.Context(), &mooncore.Request{Action: "buy", Params: params}); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(calls / 2)
	half := heap()
	run(calls / 2)
	var page struct {
		Entries  []logEntry
		Kept     int
		Bytes    int `json:"kept_bytes"`
		MaxBytes int `json:"max_bytes"`
	}
	d.get("/api/log?limit=1000", &page)
	if page.Bytes > page.MaxBytes || page.MaxBytes != 1<<20 || page.Kept < 500 || page.Kept > calls/4 {
		t.Errorf("%d entries in %d bytes of %d", page.Kept, page.Bytes, page.MaxBytes)
	}
	if page.Entries[0].ID != uint64(calls) {
		t.Errorf("the newest is %d, want %d", page.Entries[0].ID, calls)
	}
	if all := heap(); all > half+1<<20 {
		t.Errorf("the heap grew from %d to %d bytes", half, all)
	}
}

func TestCatalogue(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	_, _ = d.Call(t.Context(), &mooncore.Request{Action: "fail"})
	var catalogue struct {
		Apps []struct {
			App      string
			Roles    []string
			Channels []struct{ Name string }
			Actions  []struct {
				Name, Description string
				Access            struct {
					Kind  string
					Roles []string
				}
				ReadOnly  bool    `json:"read_only"`
				TimeoutMS float64 `json:"timeout_ms"`
				MaxBytes  int64   `json:"max_bytes"`
				Override  []string
				Schema    map[string]any
				Stats     struct {
					Calls, Errors int
					P50           *float64 `json:"p50_ms"`
				}
			}
		}
	}
	d.get("/api/actions", &catalogue)
	app := catalogue.Apps[0]
	if app.App != "station" || !slices.Equal(app.Roles, []string{"user", "admin"}) || app.Channels[0].Name != "room-*" || len(app.Actions) != 8 {
		t.Fatalf("%+v", app)
	}
	for _, a := range app.Actions {
		switch a.Name {
		case "rule":
			if a.Access.Kind != "roles" || !slices.Equal(a.Access.Roles, []string{"admin"}) || a.TimeoutMS != 30000 || a.MaxBytes != 1<<20 {
				t.Errorf("%+v", a)
			}
		case "buy":
			if a.Access.Kind != "public" || a.Description == "" || !slices.Equal(a.Override, []string{"tags"}) || a.Schema["properties"] == nil {
				t.Errorf("%+v", a)
			}
		case "fail":
			if a.Stats.Calls != 1 || a.Stats.Errors != 1 || a.Stats.P50 == nil {
				t.Errorf("%+v", a.Stats)
			}
		case "who":
			if !a.ReadOnly || a.Stats.Calls != 0 {
				t.Errorf("%+v", a)
			}
		}
	}
}
