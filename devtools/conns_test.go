package devtools_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/devtools"
)

// A client is a WebSocket client of the program.
type client struct {
	t    *testing.T
	conn *websocket.Conn
	id   string // the server's
}

// connect opens a WebSocket as somebody; as nobody for an empty user.
func (d *dev) connect(t *testing.T, user string) *client {
	t.Helper()
	server := httptest.NewServer(d.Server)
	t.Cleanup(server.Close)
	header := http.Header{}
	if user != "" {
		token, err := d.Token(mooncore.Identity{User: user, Tenant: "acme", Roles: []string{"user"}, Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		header.Set("Authorization", "Bearer "+token)
	}
	before := map[string]bool{}
	for _, c := range d.Conns() {
		before[c.ID()] = true
	}
	conn, _, err := websocket.Dial(t.Context(), server.URL+"/ws", &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	c := &client{t: t, conn: conn}
	for _, other := range d.Conns() {
		if !before[other.ID()] {
			c.id = other.ID()
		}
	}
	return c
}

func (c *client) send(frame string) {
	c.t.Helper()
	if err := c.conn.Write(c.t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) read() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	_, data, err := c.conn.Read(ctx)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (c *client) ask(frame string) string { c.t.Helper(); c.send(frame); return c.read() }

func TestConnections(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	ann, bob, stranger := d.connect(t, "ann"), d.connect(t, "bob"), d.connect(t, "")
	if got := ann.ask(`["join","room-1"]`); !strings.Contains(got, "room-1:default") {
		t.Fatal(got)
	}
	var page struct {
		Total, Matched int
		Conns          []struct {
			ID, User, Tenant, Pool, Addr string
			Channels                     []string
			Expires                      int64
		}
		Pools []struct {
			Name    string
			Conns   int
			Tenants []struct {
				Name     string
				Conns    int
				Channels []struct {
					Name  string
					Conns int
				}
			}
		}
	}
	for query, want := range map[string][]string{
		"": {ann.id, bob.id, stranger.id}, "?user=ann": {ann.id}, "?user=": {stranger.id}, "?channel=room-1:default": {ann.id},
		"?tenant=acme": {ann.id, bob.id}, "?pool=default&tenant=": {stranger.id}, "?text=BOB": {bob.id}, "?pool=other": {}, "?text=127.0.0.1": {ann.id, bob.id, stranger.id},
	} {
		d.get("/api/conns"+query, &page)
		got := []string{}
		for _, c := range page.Conns {
			got = append(got, c.ID)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) || page.Matched != len(want) || page.Total != 3 {
			t.Errorf("%s: %q of %d, %d match; want %q", query, got, page.Total, page.Matched, want)
		}
	}
	if tenants := page.Pools[0].Tenants; page.Pools[0].Conns != 3 || tenants[0].Name != "acme" || tenants[0].Conns != 2 || len(tenants[0].Channels) != 3 {
		t.Errorf("%+v", page.Pools)
	}
	var detail struct {
		Roles  []string
		Claims map[string]any
	}
	d.get("/api/conns/"+ann.id, &detail)
	if !slices.Equal(detail.Roles, []string{"user"}) || detail.Claims["user"] != "ann" {
		t.Errorf("%+v", detail)
	}

	d.ask("POST", "/api/conns/"+bob.id+"/send", `{"event":"note","payload":{"n":1}}`, 204, nil)
	if got := bob.read(); got != `["note",{"n":1}]` {
		t.Errorf("sent: %s", got)
	}
	var list struct{ Channels []string }
	d.post("/api/conns/"+bob.id+"/join", `{"channel":"room-1"}`, &list)
	if !slices.Equal(list.Channels, []string{"room-1:default", "@bob"}) {
		t.Errorf("joined %q", list.Channels)
	}
	var receivers struct{ Receivers int }
	d.post("/api/publish", `{"app":"station","tenant":"acme","channel":"room-1","event":"news","payload":"hi"}`, &receivers)
	if got := []string{ann.read(), bob.read()}; receivers.Receivers != 2 || got[0] != `["news","hi"]` || got[1] != got[0] {
		t.Errorf("%d receivers, got %q", receivers.Receivers, got)
	}
	d.post("/api/publish", `{"app":"station","tenant":"acme","user":"ann","event":"direct","payload":null}`, &receivers)
	if got := ann.read(); receivers.Receivers != 1 || got != `["direct",null]` {
		t.Errorf("%d receivers, got %s", receivers.Receivers, got)
	}
	d.post("/api/conns/"+bob.id+"/leave", `{"channel":"room-1"}`, &list)
	if !slices.Equal(list.Channels, []string{"@bob"}) {
		t.Errorf("left %q", list.Channels)
	}
	for path, test := range map[string]struct {
		body string
		want int
	}{
		"/api/conns/" + bob.id + "/send":      {`{"event":"response","payload":1}`, 400},
		"/api/conns/" + bob.id + "/join":      {`{"channel":"a:b"}`, 400},
		"/api/conns/" + stranger.id + "/join": {`{"channel":"room-1"}`, 412},
		"/api/conns/gone/kick":                {`{}`, 404},
		"/api/publish":                        {`{"app":"station","tenant":"acme","event":"x"}`, 422},
	} {
		d.ask("POST", path, test.body, test.want, nil)
	}
	d.ask("POST", "/api/publish", `{"app":"none","tenant":"acme","channel":"a","event":"x"}`, 404, nil)
	d.ask("POST", "/api/publish", `{"app":"station","tenant":"acme","channel":"a","user":"b","event":"x"}`, 422, nil)
	d.ask("POST", "/api/publish", `{"app":"station","pool":"none","channel":"a","event":"x"}`, 422, nil)
	d.ask("POST", "/api/conns/"+bob.id+"/kick", "{}", 204, nil)
	if got := bob.read(); !strings.Contains(got, "StatusPolicyViolation") {
		t.Errorf("kicked: %s", got)
	}
	for _, what := range []string{"send", "join", "leave", "publish", "kick"} {
		if !strings.Contains(d.log.String(), `msg="developer tools: `+what) {
			t.Errorf("%s is not in the program's log", what)
		}
	}
}

// The stream tells what happens: calls, connections, the frames of one, and what changes of it.
func TestStream(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	ann := d.connect(t, "ann")
	events := d.stream("log,conns,frames:" + ann.id)
	if e := <-events; e.name != "hello" || !strings.Contains(e.data, "started") {
		t.Fatalf("first %+v", e)
	}
	wait(t, events, "metrics", "goroutines")
	if got := ann.ask(`{"action":"who","rayid":7}`); !strings.Contains(got, `"ann"`) {
		t.Fatal(got)
	}
	wait(t, events, "log", `"action":"who"`)
	wait(t, events, "frames", `{\"action\":\"who\",\"rayid\":7}`)
	bob := d.connect(t, "bob")
	wait(t, events, "conns", `"user":"bob"`)
	ann.ask(`["join","room-2"]`)
	wait(t, events, "conns", `"changed":[{"id":"`+ann.id)
	bob.send("quit")
	wait(t, events, "conns", `"closed":[{"id":"`+bob.id+`","code":1000`)
	d.ask("DELETE", "/api/log", "{}", 204, nil)
	wait(t, events, "log_cleared", "")
	d.ask("POST", "/logout", "{}", 204, nil)
	for range events { // until it ends, since the session has
	}
	d.login()
	d.ask("GET", "/api/stream?topics=nonsense", "", 400, nil)
	d.ask("GET", "/api/stream?topics=page:none", "", 404, nil)
}

// More calls than the stream takes are counted, and stay in the log.
// A widget may change between the page's request and the stream's first look.
func TestStreamBeginsWithAllWidgets(t *testing.T) {
	d := start(t, station(), devtools.Config{Pages: []devtools.Page{{Name: "shop", Widgets: []devtools.Widget{
		{Title: "Rules", Value: devtools.Text(func(context.Context) (string, error) { return "Be kind.", nil })},
	}}}}).login()
	d.get("/api/pages/shop", nil)
	wait(t, d.stream("page:shop"), "page", `"text":"Be kind."`)
}

func TestStreamDropsNoCallSilently(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	events := d.stream("log")
	<-events
	const calls = 1000
	for range calls {
		_, _ = d.Call(t.Context(), &mooncore.Request{Action: "who"})
	}
	told := 0
	for told < calls {
		var log struct {
			Entries []logEntry
			Dropped int
		}
		e := wait(t, events, "log", "")
		if err := json.Unmarshal([]byte(e.data), &log); err != nil {
			t.Fatal(err)
		}
		if len(log.Entries) > 100 {
			t.Errorf("%d entries in one event", len(log.Entries))
		}
		told += len(log.Entries) + log.Dropped
	}
	if told != calls || len(d.logged("?limit=1000")) != calls {
		t.Errorf("told of %d calls of %d", told, calls)
	}
}

func TestFrames(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	ann := d.connect(t, "ann")
	type frameView struct {
		Seq    int
		Dir    string
		Binary bool
		Size   int `json:"size_bytes"`
		Data   string
		Cut    bool
	}
	frames := func(id string) []frameView {
		t.Helper()
		var got struct{ Frames []frameView }
		d.get("/api/conns/"+id+"/frames", &got)
		return got.Frames
	}
	ann.ask("ping") // nobody watches yet
	if got := frames(ann.id); len(got) != 0 {
		t.Fatalf("recorded before anybody asked: %+v", got)
	}
	ann.ask("ping")
	ann.ask(`{"action":"secretive","name":"n","code":"CANARY","more":["CANARY"]}`)
	ann.ask(`["jwt","CANARY"]`)
	ann.ask(` [ "\u006awt" , "CANARY"]`)
	ann.ask(`{"action":"big","a":"` + strings.Repeat("x", 5000) + `"}`)
	ann.ask("no JSON, CANARY")
	meta := `{"action":"big","password":"CANARY"}`
	if err := ann.conn.Write(t.Context(), websocket.MessageBinary, append([]byte{byte(len(meta)), 0}, meta+"CANARY"...)); err != nil {
		t.Fatal(err)
	}
	ann.read()
	got := frames(ann.id)
	if len(got) != 14 {
		t.Fatalf("%d frames, want 14: %+v", len(got), got)
	}
	if all := fmt.Sprint(got); strings.Contains(all, "CANARY") {
		t.Errorf("a secret was recorded: %s", all)
	}
	for i, want := range []frameView{
		{1, "in", false, 4, "ping", false}, {2, "out", false, 4, "pong", false},
		{3, "in", false, 67, `{"action":"secretive","name":"n","code":"[redacted]","more":["[redacted]"]}`, false},
	} {
		if got[i] != want {
			t.Errorf("got %+v, want %+v", got[i], want)
		}
	}
	if got[4].Data != `["jwt","[redacted]"]` || got[6].Data != got[4].Data || !got[8].Cut || got[8].Size < 5000 {
		t.Errorf("%+v", got)
	}
	if last := got[12]; !last.Binary || last.Data != `{"action":"big","password":"[redacted]"} [6 bytes]` {
		t.Errorf("%+v", last)
	}
	d.ask("GET", "/api/conns/gone/frames", "", 404, nil)
	for i := range 20 {
		c := d.connect(t, "ann")
		want := 200
		if i >= 15 {
			want = http.StatusPreconditionFailed
		}
		d.ask("GET", "/api/conns/"+c.id+"/frames", "", want, nil)
	}
}

// Shutdown of a program with the developer tools on a route of its own, whose requests it does not end.
func TestStreamsEndWithTheProgram(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	events := d.stream("log")
	<-events
	if err := d.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := time.After(10 * time.Second)
	for {
		select {
		case _, ok := <-events:
			if !ok {
				return
			}
		case <-late:
			t.Fatal("the stream goes on")
		}
	}
}

func TestStreamsAreBounded(t *testing.T) {
	d := start(t, station(), devtools.Config{}).login()
	for range 64 {
		<-d.stream("log")
	}
	r := d.request("GET", "/api/stream?topics=log", "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if w := d.send(r.WithContext(ctx)); w.Code != http.StatusTooManyRequests {
		t.Errorf("one more: %d", w.Code)
	}
}
