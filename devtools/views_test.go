package devtools_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/devtools"
	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/pubsub"
)

func TestConsole(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	for range 3 {
		_, _ = d.Call(t.Context(), &mooncore.Request{Action: "who"})
	}
	_, _ = d.Call(t.Context(), &mooncore.Request{Action: "fail"})
	d.connect(t, "ann")
	evaluate := func(code string, status int) (value any, kind string) {
		t.Helper()
		body, _ := json.Marshal(map[string]string{"expr": code})
		var got struct {
			Value any
			Type  string
		}
		d.ask("POST", "/api/console", string(body), status, &got)
		return got.Value, got.Type
	}
	for code, want := range map[string]string{
		`1 + 2`: "3", `1 + 2.5`: "3.5", `"a" + "b"`: "ab", `[1, "x", nil, {"a": true}]`: "[1 x <nil> map[a:true]]", `1..3 | map(# * 2)`: "[2 4 6]",
		`count(calls(), .code != "ok")`: "1", `calls()[0].action`: "fail", `map(filter(calls(), .code == "ok"), .action) | len()`: "3",
		`conns()[0].user`: "ann", `metrics().goroutines > 0`: "true", `find(settings(), .name == "DevTools").value`: "true",
		`len(actions())`: "8", `find(actions(), .name == "who").access.kind`: "public", `info().pid > 0`: "true", `reduce(1..4, #acc + #)`: "10",
		`1 / 0`: "+Inf", `let x = 2; x * x`: "4", `"abc" matches "^a.c$"`: "true", `count(calls(), .action matches "(?i)^FA|x")`: "1",
		`flatten([[1, 2], [3]])`: "[1 2 3]", `max(map(calls(), .id)) > 0`: "true", `sum([1, 2]) + median([1, 2, 3])`: "5", `find(settings(), .name == "JWT.Secret").value`: "[redacted]",
	} {
		if got, _ := evaluate(code, 200); fmt.Sprint(got) != want {
			t.Errorf("%s = %v, want %s", code, got, want)
		}
	}
	var help struct{ Examples []struct{ Expr string } }
	d.get("/api/console", &help)
	for _, example := range help.Examples {
		evaluate(example.Expr, 200)
	}
	if len(help.Examples) == 0 {
		t.Error("no examples")
	}
	for code, status := range map[string]int{
		`1 +`: 400, `nothing()`: 400, `nothing`: 400, `calls(1)`: 400, `1 + "a"`: 400, `nil + 1`: 400, `calls()[9999]`: 400, ``: 400,
		// What would change something, or reach a method or another package.
		`calls().Kick()`: 400, `conns()[0].Kick()`: 400, `$env.PATH`: 400, `import("os")`: 400, `x = 1`: 400,
		// What would take all time or memory.
		`all(1..1000, all(1..1000, all(1..1000, true)))`: 413,
		`let s = reduce(1..10, #acc + #acc, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"); count(1..100000, s matches "x*y")`: 504,
		`reduce(1..100, #acc + #acc, "xxxxxxxxxxxxxxxx")`: 413,
		`1..10000000`:                       413,
		`map(1..100000, map(1..100000, 1))`: 413,
		`let a = 1..60000; let b = concat(a, a); let c = concat(b, b); concat(c, c)`:                                                      413,
		`let a = 1..90000; let b = [a, a, a, a, a, a, a, a, a]; let c = [b, b, b, b, b, b, b, b, b]; median([c, c, c, c, c, c, c, c, c])`: 413,
		`let a = 1..90000; flatten(map(1..1000, a))`:                                                                                      413,
		`let a = 1..90000; let b = {"a": a, "b": a, "c": a}; b == b`:                                                                      413,
		`let s = reduce(1..10, #acc + #acc, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"); s matches "(x?){300}(x?){300}y"`:                         504,
		`"a" matches "` + strings.Repeat("a", 300) + `"`:                                                                                  400,
		`calls() matches "a"`:          400,
		`repeat("x", 1000000)`:         400,
		`replace("aaaa", "a", "bbbb")`: 400,
		`join(["a"], "b")`:             400,
		`toJSON(calls())`:              400,
		strings.Repeat("(", 300) + "1" + strings.Repeat(")", 300): 200,
		strings.Repeat("1+", 1000) + "1":                          400,
		`"` + strings.Repeat("x", 5000) + `"`:                     413,
	} {
		evaluate(code, status)
	}
	var got struct {
		Value any
		Cut   bool
	}
	d.post("/api/console", `{"expr":"map(1..50000, \"`+strings.Repeat("x", 1000)+`\")"}`, &got)
	if b, _ := json.Marshal(got.Value); !got.Cut || len(b) > 300_000 {
		t.Errorf("a long value: %d bytes, cut %v", len(b), got.Cut)
	}
}

func FuzzConsole(f *testing.F) {
	d := start(f, station(), devtools.Config{}).login()
	for _, seed := range []string{`count(calls(), .code != "ok")`, `1..9 | map(#+1)`, `let a = {"x": 1}; a?.y ?? 2`, `"a" matches "["`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, code string) {
		body, err := json.Marshal(map[string]string{"expr": code})
		if err != nil {
			return
		}
		w := d.send(d.request("POST", "/api/console", string(body)))
		switch w.Code {
		case 200, 400, 413, 504:
		default:
			t.Fatalf("%q: %d %s", code, w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%q: no JSON: %s", code, w.Body)
		}
	})
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGuides(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "secret.md"), "# Outside\nCANARY")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "README.md"), "# Start *here*\n\nText with `code`, **bold**, ~~old~~ and <b>HTML</b>.\n\n<script>alert(1)</script>\n\n"+
		"[web](https://example.com) [guide](sub/more.md#x) [script](javascript:alert(1)) [data](data:text/html,x) [up](../x.md) [root](/etc/passwd) [host](//evil.example/x)\n\n"+
		"![logo](logo.png) ![far](https://example.com/x.png)\n\n- [x] done\n- [ ] open\n\n1. one\n2. two\n\n> quote\n\n```json\n{\"action\":\"who\"}\n```\n\n| a | b |\n|:-|-:|\n| 1 | 2 |\n\n---\n")
	write(t, filepath.Join(dir, "sub", "more.md"), "no heading")
	write(t, filepath.Join(dir, ".hidden", "x.md"), "# Hidden")
	write(t, filepath.Join(dir, ".secret.md"), "# Hidden")
	write(t, filepath.Join(dir, "env.txt"), "CANARY")
	write(t, filepath.Join(dir, "logo.png"), "\x89PNG")
	write(t, filepath.Join(dir, "big.md"), strings.Repeat("x", 2<<20))
	for name, target := range map[string]string{"link.md": filepath.Join(outside, "secret.md"), "dir": outside} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	d := start(t, station(), devtools.Config{Guides: dir}).login()
	var menu struct {
		Guides []struct{ Path, Title string }
	}
	d.get("/api/guides", &menu)
	if got := fmt.Sprint(menu.Guides); got != "[{README.md Start here} {sub/more.md more}]" {
		t.Errorf("menu %s", got)
	}
	w := d.send(d.request("GET", "/api/guides/README.md", ""))
	text := w.Body.String()
	for _, want := range []string{
		`"title":"Start here"`, `{"text":"code","type":"code"}`, `"type":"strong"`, `"type":"strike"`, ` and <b>HTML</b>."`, `{"lang":"html","text":"<script>alert(1)</script>\n","type":"code"}`,
		`"href":"https://example.com"`, `"href":"sub/more.md#x"`, `"src":"logo.png"`, `"checked":true`, `"ordered":true`, `"type":"quote"`,
		`{"lang":"json","text":"{\"action\":\"who\"}\n","type":"code"}`, `"align":["left","right"]`, `{"type":"rule"}`, `"id":"start-here"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	for _, bad := range []string{"javascript:", "data:text", "/etc/passwd", "evil.example", `"src":"https`} {
		if strings.Contains(text, bad) {
			t.Errorf("%s is in %s", bad, text)
		}
	}
	w = d.send(d.request("GET", "/api/guides/logo.png", ""))
	if w.Code != 200 || w.Header().Get("Content-Type") != "image/png" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("image: %d %v", w.Code, w.Header())
	}
	for _, path := range []string{
		"link.md", "dir/secret.md", "..%2fsecret.md", "%2e%2e/secret.md", "sub/..%2f..%2fsecret.md", "env.txt", ".secret.md", "none.md", "sub", "big.md",
		"/etc/passwd.md", "README.md%00", "sub%5c..%5cx.md",
	} {
		r := d.request("GET", "/api/guides/x", "")
		r.URL.Path, r.URL.RawPath = "/api/guides/"+strings.NewReplacer("%2f", "/", "%2e", ".", "%00", "\x00", "%5c", `\`).Replace(path), "/api/guides/"+path
		w := d.send(r)
		if w.Code == 200 || strings.Contains(w.Body.String(), "CANARY") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestPages(t *testing.T) {
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	t.Setenv("MOONCORE_DEV_SECRET", testSecret)
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		type reset struct {
			To int64 `json:"to" validate:"required,min=0"`
		}
		read := func(context.Context) (float64, error) { return float64(n.Add(1)), nil }
		d := startHere(t, station(), devtools.Config{Pages: []devtools.Page{{
			Name: "shop", Title: "Shop", Description: "All of it.",
			Widgets: []devtools.Widget{
				{Title: "Orders", Unit: "today", Value: devtools.Number(read)},
				{Title: "NaN", Value: devtools.Number(func(context.Context) (float64, error) { return math.NaN(), nil })},
				{Title: "Facts", Value: devtools.KeyValue(func(context.Context) ([][2]string, error) {
					return [][2]string{{"city", "Ulm"}, {"db_password", "CANARY"}}, nil
				})},
				{Title: "Rows", Value: devtools.Table([]string{"name", "token", "n"}, func(context.Context) ([][]any, error) {
					return [][]any{{"a", "CANARY", 1}, {"b", "", time.Second}, {nil}}, nil
				})},
				{Title: "Lines", Value: devtools.List(func(context.Context) ([]string, error) { return []string{"one", "password=CANARY"}, nil })},
				{Title: "Course", Unit: "ms", Value: devtools.Line(func(context.Context) (map[string]float64, error) {
					return map[string]float64{"a": float64(n.Load()), "b": math.Inf(1)}, nil
				})},
				{Title: "Words", Value: devtools.Text(func(context.Context) (string, error) { return "secret: CANARY", nil })},
				{Title: "Many words", Value: devtools.Text(func(context.Context) (string, error) {
					return strings.Repeat("x ", 8<<10-20) + "eyJhbGciOiJub25lIn0.CANARY" + strings.Repeat("x", 100) + ".c2ln", nil
				})},
				{Title: "Broken", Value: devtools.Text(func(context.Context) (string, error) { return "", errors.New("no database, password=CANARY") })},
				{Title: "Panics", Value: devtools.List(func(context.Context) ([]string, error) { panic("boom") })},
			},
			Buttons: []devtools.Button{
				{Label: "Reset", Confirm: "Sure?", Run: mooncore.Func(func(_ context.Context, in reset) (string, error) { n.Store(in.To); return "done", nil })},
				{Label: "Show", Run: mooncore.Func(func(context.Context, struct{}) (map[string]any, error) {
					return map[string]any{"n": 1, "api_key": "CANARY"}, nil
				})},
				{Label: "Say", Run: mooncore.Func(func(context.Context, struct{}) (string, error) { return "password=CANARY", nil })},
				{Label: "Fail", Run: mooncore.Func(func(context.Context, struct{}) (string, error) { return "", errors.New("CANARY") })},
			},
		}, {Name: "empty"}}}).login()
		var list struct {
			Pages []struct{ Name, Title string }
		}
		d.get("/api/pages", &list)
		if got := fmt.Sprint(list.Pages); got != "[{shop Shop} {empty empty}]" {
			t.Errorf("%s", got)
		}
		time.Sleep(3*time.Second + time.Millisecond)
		w := d.send(d.request("GET", "/api/pages/shop", ""))
		text := w.Body.String()
		if strings.Contains(text, "CANARY") {
			t.Errorf("a secret: %s", text)
		}
		for _, want := range []string{
			`{"id":"w1","title":"Orders","trend":[1,2,3,4],"type":"number","unit":"today","value":4}`, `"title":"NaN","trend":null,"type":"number","value":null`,
			`"rows":[["city","Ulm"],["db_password","[redacted]"]]`, `"columns":["name","token","n"]`, `"rows":[["a","[redacted]",1],["b","","1s"],[null,null,null]]`,
			`"items":["one","password=[redacted]"]`, `"series":[{"label":"a","values":[1,2,3,4]},{"label":"b","values":[null,null,null,null]}]`,
			`"text":"secret: [redacted]"`, `"error":"no database, password=[redacted]"`, `"error":"panic: boom"`,
			`"confirm":"Sure?","id":"1","label":"Reset","schema":`, `{"id":"4","label":"Fail"}`,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("no %s in %s", want, text)
			}
		}
		var result struct {
			Message string
			Result  map[string]any
		}
		d.post("/api/pages/shop/buttons/1", `{"input":{"to":100}}`, &result)
		if result.Message != "done" || n.Load() != 100 {
			t.Errorf("%+v, %d", result, n.Load())
		}
		d.ask("POST", "/api/pages/shop/buttons/1", `{"input":{"to":-1}}`, http.StatusUnprocessableEntity, nil)
		d.post("/api/pages/shop/buttons/2", `{}`, &result)
		if fmt.Sprint(result.Result) != "map[api_key:[redacted] n:1]" {
			t.Errorf("%v", result.Result)
		}
		d.post("/api/pages/shop/buttons/3", `{}`, &result)
		if result.Message != "password=[redacted]" {
			t.Errorf("%q", result.Message)
		}
		w = d.send(d.request("POST", "/api/pages/shop/buttons/4", `{"input":null}`))
		if w.Code != 500 || strings.Contains(w.Body.String(), "CANARY") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		for _, path := range []string{"none/buttons/1", "shop/buttons/0", "shop/buttons/5", "shop/buttons/x"} {
			d.ask("POST", "/api/pages/"+path, "{}", 404, nil)
		}
		d.ask("GET", "/api/pages/none", "", 404, nil)
	})
}

func TestPageFaults(t *testing.T) {
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	good := mooncore.Func(func(context.Context, struct{}) (string, error) { return "", nil })
	_, err := mooncore.New(shop(devtools.Mount(devtools.Config{Pages: []devtools.Page{
		{Name: "a"}, {Name: "a"}, {Name: "B"}, {Name: ""},
		{Name: "c", Widgets: []devtools.Widget{{Value: devtools.Number(nil)}}, Buttons: []devtools.Button{{Run: good}, {Label: "x"}}},
	}}, func(http.Handler) {})))
	for _, want := range []string{
		`Pages[1].Name: "a" is there twice`, `Pages[2].Name`, `Pages[3].Name`, `Pages[4].Widgets[0].Title`, `Pages[4].Widgets[0].Value`,
		`Pages[4].Buttons[0].Label`, `Pages[4].Buttons[1].Run`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
}

// A reporter is a broker that tells how it is doing.
type reporter struct{ *pubsub.Local }

func (reporter) Stats() pubsub.Stats {
	return pubsub.Stats{
		Engine: "test", Up: true, Since: time.UnixMilli(1), RoundTrip: 2 * time.Millisecond, Subscriptions: 3, Peers: 4, Reconnects: 5, Dropped: 6, Losses: 7,
	}
}

func TestCluster(t *testing.T) {
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	t.Setenv("MOONCORE_DEV_SECRET", testSecret)
	const broker = `"broker":{"engine":"test","up":true,"since":1,"round_trip_ms":2,"subscriptions":3,"peers":4,"reconnects":5,"dropped":6,"losses":7}`
	const silent = `"broker":{"engine":"","up":false,"since":0,"round_trip_ms":0,"subscriptions":0,"peers":0,"reconnects":0,"dropped":0,"losses":0}`
	const history = `"history":{"feeds":1,"lost":0,"recovered":0,"epoch":0,"ahead":0,"trimmed":0,"too_large":0,"unavailable":0,"no_history":0,"refused":0}`
	for _, tt := range []struct {
		name    string
		broker  pubsub.Broker
		history int
		want    string
	}{
		{"alone", nil, 0, `{"node":"n1","published":0,"delivered":0}`},
		{"a broker", reporter{pubsub.NewLocal()}, 0, `{"node":"n1","published":0,"delivered":0,` + broker + `}`},
		{"one that tells nothing", pubsub.NewLocal(), 0, `{"node":"n1","published":0,"delivered":0,` + silent + `}`},
		{"history", nil, 1, `{"node":"n1","published":1,"delivered":1,` + history + `}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := station()
			cfg.Node, cfg.Broker = "n1", tt.broker
			cfg.Routers[0].Channels = []mooncore.Channel{{Name: "kept", Allow: mooncore.Authenticated, History: mooncore.History{Events: tt.history}}}
			d := start(t, cfg, devtools.Config{}).login()
			if tt.history > 0 {
				ann := d.connect(t, "ann")
				ann.send(`["join","kept"]`)
				ann.read()
				if err := d.Tenant("", "acme").Publish(t.Context(), "e", 1, mooncore.ToChannel("kept")); err != nil {
					t.Fatal(err)
				}
				ann.read()
			}
			var got json.RawMessage
			if d.get("/api/cluster", &got); strings.TrimSpace(string(got)) != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestOverview(t *testing.T) {
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	t.Setenv("MOONCORE_DEV_SECRET", testSecret)
	synctest.Test(t, func(t *testing.T) {
		cfg := station()
		cfg.Checks = map[string]func(context.Context) error{"db": func(context.Context) error { return nil }}
		d := startHere(t, cfg, devtools.Config{}).login()
		var info struct {
			PID    int
			Go     string
			URL    string
			Health struct {
				Status string
				Checks map[string]struct{ Status string }
			}
		}
		d.get("/api/info", &info)
		if info.PID != os.Getpid() || info.Go == "" || info.URL != "" || info.Health.Checks["db"].Status != "ok" {
			t.Errorf("%+v", info)
		}
		time.Sleep(500 * time.Millisecond)
		for range 30 {
			_, _ = d.Call(t.Context(), &mooncore.Request{Action: "who"})
		}
		for range 10 {
			_, _ = d.Call(t.Context(), &mooncore.Request{Action: "fail"})
		}
		time.Sleep(2 * time.Hour)
		var metrics struct {
			Step   int `json:"step_s"`
			Totals map[string]int
			Points map[string][]*float64
		}
		for window, want := range map[string][2]int{"": {5, 720}, "?window=600": {1, 600}, "?window=60": {1, 60}, "?window=1000": {2, 500}} {
			metrics.Points = nil
			d.get("/api/metrics"+window, &metrics)
			for name, values := range metrics.Points {
				if len(values) != want[1] || metrics.Step != want[0] {
					t.Errorf("%s %s: %d points of %d s, want %v", window, name, len(values), metrics.Step, want)
				}
			}
			if len(metrics.Points) < 14 {
				t.Errorf("%s: %d columns", window, len(metrics.Points))
			}
		}
		if metrics.Totals["calls"] != 40 || metrics.Totals["errors"] != 10 {
			t.Errorf("%v", metrics.Totals)
		}
		d.ask("GET", "/api/metrics?window=59", "", 422, nil)
		var settings struct {
			Settings []struct{ Name, Value, Source string }
		}
		d.get("/api/settings", &settings)
		if len(settings.Settings) < 30 || strings.Contains(fmt.Sprint(settings), testSecret) {
			t.Errorf("%+v", settings)
		}
		var doctor struct {
			Findings []struct{ ID, Severity, What, Why, Fix string }
		}
		d.get("/api/doctor", &doctor)
		found := map[string]string{}
		for _, f := range doctor.Findings {
			found[f.ID] = f.Severity
			if f.What == "" || f.Why == "" || f.Fix == "" {
				t.Errorf("%+v", f)
			}
		}
		if found["dev_tools"] != string(mooncore.SeverityFatal) {
			t.Errorf("the developer tools themselves are no finding: %v", found)
		}
	})
}

// The second in which calls were made shows how many, how many failed, and how long they took.
func TestMetricsOfASecond(t *testing.T) {
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	t.Setenv("MOONCORE_DEV_SECRET", testSecret)
	synctest.Test(t, func(t *testing.T) {
		d := startHere(t, mooncore.Config{Routers: []mooncore.Router{{Actions: []mooncore.Action{
			{Name: "nap", Allow: mooncore.Public, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (string, error) {
				time.Sleep(100 * time.Millisecond)
				return "", errors.New("tired")
			})},
		}}}}, devtools.Config{}).login()
		for range 4 {
			_, _ = d.Call(t.Context(), &mooncore.Request{Action: "nap"})
		}
		time.Sleep(time.Second)
		var metrics struct{ Points map[string][]*float64 }
		d.get("/api/metrics?window=600", &metrics)
		n := len(metrics.Points["calls"]) - 1
		at := func(name string) float64 { return *metrics.Points[name][n] }
		if at("calls") != 4 || at("errors") != 4 || math.Abs(at("p50_ms")-100) > 13 || math.Abs(at("p99_ms")-100) > 13 {
			t.Errorf("calls %v, errors %v, p50 %v, p99 %v", at("calls"), at("errors"), at("p50_ms"), at("p99_ms"))
		}
		time.Sleep(time.Second)
		metrics.Points = nil
		d.get("/api/metrics?window=600", &metrics)
		n++
		if at("calls") != 0 || metrics.Points["p50_ms"][n] != nil {
			t.Errorf("calls %v, p50 %v", at("calls"), metrics.Points["p50_ms"][n])
		}
	})
}

func TestTokens(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	var made struct {
		Token  string
		Claims map[string]any
	}
	d.post("/api/tools/token", `{"identity":{"user":"ann","tenant":"acme","roles":["admin"]},"lifetime_s":60}`, &made)
	type report struct {
		Valid   bool
		Reasons []string
		Header  map[string]any
		Claims  map[string]any
		Roles   []string
		Expires int64
	}
	inspect := func(token string) report {
		t.Helper()
		body, _ := json.Marshal(map[string]string{"token": token})
		var got report
		d.post("/api/tools/token/inspect", string(body), &got)
		return got
	}
	if got := inspect(made.Token); !got.Valid || fmt.Sprint(got.Roles) != "[admin]" || got.Header["alg"] != "HS256" || got.Claims["user"] != "ann" || got.Expires == 0 {
		t.Errorf("%+v", got)
	}
	if got := inspect("Bearer " + made.Token + "\n"); !got.Valid {
		t.Errorf("with its scheme: %+v", got)
	}
	past, err := d.Token(mooncore.Identity{User: "ann", Expires: time.Now().Add(-time.Hour)})
	if err == nil {
		if got := inspect(past); got.Valid || !strings.Contains(got.Reasons[0], "expired") {
			t.Errorf("past: %+v", got)
		}
	}
	for token, want := range map[string]string{
		"": "no token", "a b": "no token", "abc": "In its form", made.Token + "x": "In its", made.Token[:len(made.Token)-4]: "In its signature",
	} {
		if got := inspect(token); got.Valid || len(got.Reasons) == 0 || !strings.Contains(got.Reasons[0], want) {
			t.Errorf("%q: %+v", token, got)
		}
	}
	for _, body := range []string{
		`{"identity":{"user":""},"lifetime_s":60}`, `{"identity":{"user":"a"},"lifetime_s":0}`, `{"identity":{"user":"a","app":"none"},"lifetime_s":60}`,
		`{"identity":{"user":"a","roles":["none"]},"lifetime_s":60}`, `{"identity":{"user":"a"},"lifetime_s":99999999999}`,
	} {
		d.ask("POST", "/api/tools/token", body, 422, nil)
	}
	if log := d.log.String(); strings.Contains(log, made.Token) {
		t.Error("the log tells the token")
	}
}

func TestRuntime(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	for _, name := range []string{"heap", "allocs", "goroutine", "threadcreate", "block", "mutex", "cpu?seconds=1", "trace?seconds=1"} {
		w := d.send(d.request("GET", "/api/runtime/profile/"+name, ""))
		if w.Code != 200 || w.Body.Len() == 0 || !strings.Contains(w.Header().Get("Content-Disposition"), "attachment") {
			t.Errorf("%s: %d, %d bytes, %v", name, w.Code, w.Body.Len(), w.Header())
		}
	}
	d.ask("GET", "/api/runtime/profile/none", "", 404, nil)
	d.ask("GET", "/api/runtime/profile/cpu?seconds=61", "", 422, nil)
	d.ask("POST", "/api/runtime/gc", "{}", 204, nil)
	var memory struct {
		Classes []struct{ Name string }
		GOGC    int
		GC      int `json:"gc_cycles"`
	}
	d.get("/api/runtime/memory", &memory)
	if len(memory.Classes) < 5 || memory.GOGC == 0 || memory.GC == 0 {
		t.Errorf("%+v", memory)
	}
	var goroutines struct {
		Total  int
		Groups []struct{ Count int }
	}
	d.get("/api/runtime/goroutines", &goroutines)
	if goroutines.Total == 0 || len(goroutines.Groups) == 0 {
		t.Errorf("%+v", goroutines)
	}
}

// A profile that is being taken is not started twice, and its taker's leaving ends it.
func TestProfilesOneAtATime(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	server := httptest.NewServer(d.h)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/api/runtime/profile/trace?seconds=60", http.NoBody)
	r.AddCookie(d.cookie)
	ended := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			resp.Body.Close()
		}
		ended <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(d.log.String(), "profile"); {
		if time.Now().After(deadline) {
			t.Fatal("no profile begins")
		}
	}
	d.ask("GET", "/api/runtime/profile/trace?seconds=1", "", http.StatusConflict, nil)
	cancel()
	<-ended
	for deadline := time.Now().Add(10 * time.Second); ; {
		w := d.send(d.request("GET", "/api/runtime/profile/trace?seconds=1", ""))
		if w.Code == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
}

// Canaries in 30 fields of everything that a program and its clients put somewhere, and none of them in what the
// developer tools keep or show.
func TestSecretsAreNeverSeen(t *testing.T) {
	names := []string{
		"password", "Password", "passwd", "passphrase", "secret", "client_secret", "token", "access_token", "refreshToken", "id-token", "authorization",
		"cookie", "set-cookie", "api_key", "apiKey", "X-API-Key", "private_key", "credential", "credentials", "jwt", "bearer", "session_id",
		"card_number", "cvv", "pin", "otp", "ssn", "pwd", "auth", "diagnosis", "encryption_key",
	}
	cfg := station()
	d := start(t, cfg, devtools.Config{Redact: []string{"Diagnosis"}}).login()
	ann := d.connect(t, "ann")
	d.get("/api/conns/"+ann.id+"/frames", nil)
	events := d.stream("log,conns,frames:" + ann.id)
	<-events
	object := func(way string) string {
		var b strings.Builder
		for i, name := range names {
			fmt.Fprintf(&b, `%q:"CANARY-%s-%d",`, name, way, i)
		}
		return `{` + b.String() + `"deep":[{"a":` + fmt.Sprintf(`{"password":"CANARY-%s-deep"}`, way) + `}],"seen":"yes"}`
	}
	post := func(path, body string) {
		r := httptest.NewRequest("POST", path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer CANARY-header")
		r.Header.Set("Cookie", "session=CANARY-cookie")
		d.ServeHTTP(httptest.NewRecorder(), r)
		r.Header.Del("Authorization")
		d.ServeHTTP(httptest.NewRecorder(), r.Clone(t.Context()))
	}
	post("/run/big", object("http"))
	post("/run/secretive", `{"name":"n","code":"CANARY-typed","more":["CANARY-typed-2"]}`)
	post("/run/big?token=CANARY-query", `{}`)
	_, _ = d.Call(t.Context(), &mooncore.Request{Action: "big", Params: []byte(object("go"))})
	frame := strings.Replace(object("ws"), "{", `{"action":"big","rayid":1,`, 1)
	ann.ask(frame)
	ann.ask(`{"action":"secretive","code":"CANARY-ws-typed"}`)
	ann.ask(`["jwt","CANARY-jwt"]`)
	ann.send(`["jwt","eyJhbGciOiJIUzI1NiJ9.CANARY.x"]`)
	ann.read()
	d.ask("POST", "/api/conns/"+ann.id+"/send", `{"event":"note","payload":`+object("event")+`}`, 204, nil)
	ann.read()
	meta := `{"action":"big","token":"CANARY-binary"}`
	if err := ann.conn.Write(t.Context(), websocket.MessageBinary, append([]byte{byte(len(meta)), 0}, meta+"CANARY-payload"...)); err != nil {
		t.Fatal(err)
	}
	ann.read()
	d.ask("POST", "/api/run", `{"app":"station","action":"big","transport":"http","params":`+object("run")+`}`, 200, nil)

	last := wait(t, events, "frames", `"dir":"out"`)
	seen := last.data
	for _, path := range []string{
		"/api/info", "/api/settings", "/api/actions", "/api/log?limit=1000", "/api/conns", "/api/conns/" + ann.id, "/api/conns/" + ann.id + "/frames",
		"/api/doctor", "/api/runtime/goroutines", "/api/log?text=CANARY",
	} {
		seen += d.send(d.request("GET", path, "")).Body.String()
	}
	entries := d.logged("?limit=1000")
	if len(entries) < 8 {
		t.Fatalf("%d calls in the log", len(entries))
	}
	for _, e := range entries {
		seen += d.send(d.request("GET", fmt.Sprintf("/api/log/%d", e.ID), "")).Body.String()
	}
	seen += d.send(d.request("POST", "/api/console", `{"expr":"[calls(), conns(), settings()]"}`)).Body.String()
	for drained := false; !drained; {
		select {
		case e := <-events:
			seen += e.data
		default:
			drained = true
		}
	}
	seen += d.log.String()
	if i := strings.Index(seen, "CANARY"); i >= 0 {
		t.Errorf("a canary: …%s…", seen[max(0, i-300):min(len(seen), i+100)])
	}
	if n := strings.Count(seen, "[redacted]"); n < 3*len(names) || !strings.Contains(seen, `"seen":"yes"`) {
		t.Errorf("%d redacted values: was anything recorded at all?", n)
	}
}

// Run's own listener is told to the dashboard, and a program that is stopped takes the developer tools along.
func TestWithRun(t *testing.T) {
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	t.Setenv("MOONCORE_DEV_SECRET", testSecret)
	addr, own := freeport.Addr(t), freeport.Addr(t)
	cfg := shop(devtools.Extension(devtools.Config{Addr: addr}))
	cfg.Addr = own
	srv, err := mooncore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	client := &http.Client{}
	resp, err := client.Post("http://"+addr+"/login", "application/json", strings.NewReader(`{"secret":"`+testSecret+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	get := func(path string) (*http.Response, error) {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+path, http.NoBody)
		r.AddCookie(resp.Cookies()[0])
		return client.Do(r)
	}
	for deadline := time.Now().Add(10 * time.Second); srv.Addr() == nil; {
		if time.Now().After(deadline) {
			t.Fatal("Run does not listen")
		}
	}
	answer, err := get("/api/info")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	if !strings.Contains(string(b), `"url":"http://`+own+`"`) {
		t.Errorf("%s", b)
	}
	stream, err := get("/api/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run with an open stream: %v", err)
	}
	client.CloseIdleConnections()
}
