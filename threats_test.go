package mooncore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
	"github.com/mooncore/mooncore/pubsub"
)

// Types whose methods panic.
type (
	badMarshal   struct{}
	badUnmarshal struct{ X string }
	badValidate  struct {
		X string `json:"x"`
	}
	nilError struct{ text string }
)

func (badMarshal) MarshalJSON() ([]byte, error)          { panic("in MarshalJSON") }
func (*badUnmarshal) UnmarshalJSON([]byte) error         { panic("in UnmarshalJSON") }
func (badValidate) Validate() error                      { panic("in Validate") }
func (e *nilError) Error() string                        { return e.text } // panics for a nil pointer
func panicWith[In any](context.Context, In) (any, error) { return nil, nil }

// panickingActions are actions that panic somewhere, each in its own way.
func panickingActions() []mooncore.Action {
	blow := func(mooncore.Next) mooncore.Next {
		return func(context.Context, *mooncore.Request) (any, error) { panic("in a middleware") }
	}
	after := mooncore.After(func(context.Context, *mooncore.Request, any, error) (any, error) { panic("in an After") })
	before := mooncore.Before(func(context.Context, *mooncore.Request) (context.Context, error) { panic("in a Before") })
	list := map[string]mooncore.Handler{
		"text":      panicking("boom"),
		"error":     panicking(io.EOF),
		"nil":       panicking(nil),
		"abort":     panicking(http.ErrAbortHandler),
		"canceled":  panicking(context.Canceled),
		"for.users": panicking(mooncore.Errorf(mooncore.CodeNotFound, "not for clients")),
		"runtime": mooncore.Func(func(context.Context, struct{}) (any, error) {
			var list []int
			return list[len(list)], nil
		}),
		"nil.error": failing((*nilError)(nil)),
		"nil.cause": failing(&mooncore.Error{Code: mooncore.CodeInternal, Err: (*nilError)(nil)}),
		"marshal":   mooncore.Func(func(context.Context, struct{}) (any, error) { return badMarshal{}, nil }),
		"nested":    mooncore.Func(func(context.Context, struct{}) (any, error) { return map[string]any{"a": []any{badMarshal{}}}, nil }),
		"unmarshal": mooncore.Func(panicWith[struct {
			X badUnmarshal `json:"x"`
		}]),
		"validate": mooncore.Func(panicWith[badValidate]),
	}
	var actions []mooncore.Action
	for name, handler := range list {
		actions = append(actions, mooncore.Action{Name: name, Allow: mooncore.Public, Handler: handler})
	}
	for name, m := range map[string]mooncore.Middleware{"middleware": blow, "after": after, "before": before} {
		actions = append(actions, mooncore.Action{Name: name, Allow: mooncore.Public, Handler: mooncore.Func(add), Middleware: []mooncore.Middleware{m}})
	}
	return actions
}

func TestPanicsCostOneErrorResponse(t *testing.T) {
	actions := panickingActions()
	log, lines := logger()
	srv := serve(t, mooncore.Config{Routers: catalogue(actions...), Logger: log})
	conn := srv.dial()
	for _, action := range actions {
		t.Run(action.Name, func(t *testing.T) {
			srv.t, conn.t = t, t
			const params = `{"a":1,"b":1,"x":"y"}`
			for range 5 {
				resp, body := srv.call(action.Name, params, "X-Request-Id", "one")
				if resp.StatusCode != 500 || body != `{"error":"Internal Server Error","code":"internal","request_id":"one"}` {
					t.Fatalf("http: %d %s", resp.StatusCode, body)
				}
				got := conn.ask(`{"action":"` + action.Name + `","rayid":7,` + params[1:])
				if !strings.HasPrefix(got, `["response",{"error":"Internal Server Error","code":"internal","request_id":"`) || !strings.HasSuffix(got, `"},7]`) {
					t.Fatalf("ws: %s", got)
				}
			}
			logged := 0
			for _, record := range lines.records(t, "call") {
				if record["action"] == action.Name && record["level"] == "ERROR" && record["cause"] != "" {
					logged++
				}
			}
			if logged != 10 {
				t.Errorf("%d of 10 calls were logged with a cause", logged)
			}
		})
	}
}

func TestManyPanicsAtOnce(t *testing.T) {
	srv := serve(t, mooncore.Config{Routers: catalogue(panickingActions()...)})
	names := []string{"text", "error", "runtime", "marshal", "unmarshal", "validate", "middleware", "after"}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			conn := srv.dial()
			for i := range 500 {
				conn.send(fmt.Sprintf(`{"action":%q,"rayid":%d,"x":"y"}`, names[i%len(names)], i))
				if got, _ := conn.read(); !strings.HasSuffix(got, fmt.Sprintf(",%d]", i)) || !strings.Contains(got, `"internal"`) && !strings.Contains(got, "validation_failed") {
					t.Errorf("call %d: %s", i, got)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A handler that ends its goroutine, as t.FailNow does, gets no answer out; but nobody waits for one in vain.
func TestGoexitDoesNotHang(t *testing.T) {
	for _, calls := range []int{1, 4} {
		t.Run(fmt.Sprint("Limits.Calls ", calls), func(t *testing.T) {
			srv := serve(t, mooncore.Config{Limits: mooncore.Limits{Calls: calls}, Routers: catalogue(
				returning("exit", func(context.Context) (any, error) { runtime.Goexit(); return nil, nil }),
				returning("whoami", whoami),
			)})
			resp, err := srv.client.Post("http://"+srv.addr+"/run/exit", "application/json", strings.NewReader("{}"))
			if err == nil {
				resp.Body.Close()
			}
			conn := srv.dial()
			conn.send(`{"action":"exit","rayid":1}`)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, frame, err := conn.ws.Read(ctx)
			if errors.Is(err, context.DeadlineExceeded) {
				t.Error("the call gets no answer, and the connection stays")
			} else if err == nil && !strings.Contains(string(frame), `"internal"`) {
				t.Errorf("got %s", frame)
			}
			if resp, body := srv.call("whoami", ""); resp.StatusCode != 200 {
				t.Errorf("after that: %s", body)
			}
		})
	}
}

func TestPanicsInHooks(t *testing.T) {
	log, lines := logger()
	disconnected := make(chan struct{}, 1)
	var authenticate, connect atomic.Bool
	srv := serve(t, mooncore.Config{
		Logger: log,
		Authenticate: func(r *http.Request) (mooncore.Identity, error) {
			if authenticate.Load() || strings.HasSuffix(r.Header.Get("Authorization"), "panic") {
				panic("in Authenticate")
			}
			return mooncore.Identity{User: "alice"}, nil
		},
		OnConnect: func(context.Context, *mooncore.Conn) error {
			if connect.Load() {
				panic("in OnConnect")
			}
			return nil
		},
		OnDisconnect: func(*mooncore.Conn) {
			disconnected <- struct{}{}
			panic("in OnDisconnect")
		},
		Checks:     map[string]func(context.Context) error{"bad": func(context.Context) error { panic("in a check") }},
		Extensions: []mooncore.Extension{func(srv *mooncore.Server) error { srv.Go(func(context.Context) { panic("in Server.Go") }); return nil }},
		Routers: []mooncore.Router{{
			Actions: []mooncore.Action{returning("whoami", whoami)},
			Channels: []mooncore.Channel{{Name: "bad", Allow: mooncore.Authenticated, Join: func(context.Context, mooncore.Identity, string) error {
				panic("in Channel.Join")
			}}},
		}},
	})
	conn := srv.dial()
	if got := conn.ask(`["join","bad"]`); got != `["channel_list",["@alice"]]` {
		t.Errorf("a panic in Join: %s", got)
	}
	if got := conn.ask(`["jwt","panic"]`); got != `["jwt","jwt_failed"]` {
		t.Errorf("a panic in Authenticate: %s", got)
	}
	if got := conn.ask(`{"action":"whoami"}`); got != `["response","alice@",null]` {
		t.Errorf("after the panics: %s", got)
	}
	conn.send("quit")
	conn.expectClose(1000)
	<-disconnected
	connect.Store(true)
	srv.dial().expectClose(1008)
	authenticate.Store(true)
	if resp, body := srv.call("whoami", ""); resp.StatusCode != 500 || !strings.Contains(body, `"internal"`) {
		t.Errorf("a panic in Authenticate: %d %s", resp.StatusCode, body)
	}
	if c, resp := dialURL(t, "ws://"+srv.addr+"/ws", srv.client); c != nil || resp.StatusCode != 500 {
		t.Errorf("a panic in Authenticate on the upgrade: %v", resp.Status)
	}
	if resp, body := srv.request("GET", "/readyz", ""); resp.StatusCode != 503 || strings.Contains(body, "in a check") {
		t.Errorf("a panic in a check: %d %s", resp.StatusCode, body)
	}
	for _, place := range []string{"Authenticate", "OnConnect", "OnDisconnect", "a check", "Server.Go", "Channel.Join"} {
		eventually(t, "the log has the panic in "+place, func() bool { return strings.Contains(lines.String(), "in "+place) })
	}
	if n := strings.Count(lines.String(), "panic: in Authenticate"); n < 3 {
		t.Errorf("%d of 3 panics in Authenticate are in the log", n)
	}
}

// A program's own rule for a channel may panic, or call the server, also when a token is refreshed.
func TestJoinRuleOnRefresh(t *testing.T) {
	var srv *live
	var refreshed atomic.Bool
	srv = serve(t, mooncore.Config{JWT: mooncore.JWTConfig{Secret: testSecret}, Routers: []mooncore.Router{{
		Actions: []mooncore.Action{returning("whoami", whoami)},
		Channels: []mooncore.Channel{{Name: "room", Allow: mooncore.Authenticated, Join: func(ctx context.Context, id mooncore.Identity, ch string) error {
			if _, err := srv.Tenant("", id.Tenant).Members(ctx, ch); err != nil {
				return err
			}
			for _, c := range srv.Conns() {
				c.Channels()
			}
			if refreshed.Load() {
				panic("on refresh")
			}
			return nil
		}}},
	}}})
	id := mooncore.Identity{User: "alice"}
	conn := srv.dialAs(id)
	if got := conn.ask(`["join","room"]`); got != `["channel_list",["room:default","@alice"]]` {
		t.Fatal(got)
	}
	if got := conn.ask(`["jwt","` + srv.token(id) + `"]`); !strings.HasPrefix(got, `["jwt",{`) {
		t.Errorf("refresh: %s", got)
	}
	refreshed.Store(true)
	conn.send(`["jwt","` + srv.token(id) + `"]`)
	conn.send("channel_list")
	if got, closed := conn.read(); !strings.HasPrefix(got, `["jwt",`) {
		t.Fatalf("a panic on refresh: %s, close code %d", got, closed.Code)
	}
	conn.expect(`["channel_list",["@alice"]]`)
}

const testSecret mooncore.Secret = "0123456789abcdef0123456789abcdef"

// Whatever races with what, nobody is left anywhere.
func TestNoGhostMembers(t *testing.T) {
	broker := &countingBroker{Broker: pubsub.NewLocal()}
	srv := serve(t, mooncore.Config{
		Broker: broker, JWT: mooncore.JWTConfig{Secret: testSecret}, Limits: mooncore.Limits{SendBytes: -1},
		Routers: []mooncore.Router{{
			Roles: []string{"user"}, Channels: []mooncore.Channel{{Name: "room*", Allow: mooncore.Authenticated, Presence: true}},
		}},
	})
	base := broker.open.Load()
	tokens := map[int]string{}
	for i := range 4 {
		tokens[i] = srv.token(mooncore.Identity{User: fmt.Sprint("u", i%3), Tenant: fmt.Sprint("t", i%2)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var publishers, clients sync.WaitGroup
	for i := range 2 {
		publishers.Go(func() {
			for ctx.Err() == nil {
				tenant := srv.Tenant("", fmt.Sprint("t", i))
				if err := tenant.Publish(ctx, "e", i, mooncore.ToChannel("room1"), mooncore.ToChannel("main"), mooncore.ToUser("u1")); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				time.Sleep(200 * time.Microsecond)
			}
		})
	}
	for range 8 {
		clients.Go(func() {
			for range 6 {
				conn := srv.dial()
				go func() { // reads all, until the end
					for {
						if _, _, err := conn.ws.Read(t.Context()); err != nil {
							return
						}
					}
				}()
				for range 40 {
					frame := ""
					switch rand.IntN(4) {
					case 0:
						frame = `["jwt","` + tokens[rand.IntN(len(tokens))] + `"]`
					case 1:
						frame = fmt.Sprintf(`["leave","room%d"]`, rand.IntN(3))
					default:
						frame = fmt.Sprintf(`["join","room%d"]`, rand.IntN(3))
					}
					conn.send(frame)
				}
				if rand.IntN(2) == 0 {
					conn.ws.Close(1000, "")
				} else {
					conn.ws.CloseNow()
				}
			}
		})
	}
	clients.Wait()
	cancel()
	publishers.Wait()
	eventually(t, "no connection is left", func() bool { return len(srv.Conns()) == 0 })
	for i := range 2 {
		tenant := srv.Tenant("", fmt.Sprint("t", i))
		for conn := range tenant.Conns() {
			t.Errorf("a ghost in the tenant: %v", conn.ID())
		}
		for ch := range 3 {
			members, err := tenant.Members(t.Context(), fmt.Sprint("room", ch))
			if err != nil || len(members) > 0 {
				t.Errorf("ghosts in room%d: %v, %v", ch, members, err)
			}
		}
	}
	eventually(t, "no subscription is left", func() bool { return broker.open.Load() == base })
}

// A countingBroker counts its subscriptions.
type countingBroker struct {
	pubsub.Broker
	open atomic.Int64
}

func (b *countingBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	unsubscribe, err := b.Broker.Subscribe(ctx, topic, deliver, lost)
	if err != nil {
		return nil, err
	}
	b.open.Add(1)
	return sync.OnceFunc(func() { unsubscribe(); b.open.Add(-1) }), nil
}

// One order for all.
func TestOrderOfEvents(t *testing.T) {
	const publishers, events, subscribers = 100, 20, 5
	srv := serve(t, mooncore.Config{Routers: catalogue(), Limits: mooncore.Limits{SendBytes: -1}})
	var members []*socket
	for i := range subscribers {
		conn := srv.dialAs(mooncore.Identity{User: fmt.Sprint("u", i), Tenant: "t"})
		conn.ask(`["join","main"]`)
		members = append(members, conn)
	}
	received := make([][]string, subscribers)
	var readers, writers sync.WaitGroup
	for i, conn := range members {
		readers.Go(func() {
			for range publishers * events {
				frame, _ := conn.read()
				received[i] = append(received[i], frame)
			}
		})
	}
	for p := range publishers {
		writers.Go(func() {
			for e := range events {
				if err := srv.Tenant("", "t").Publish(t.Context(), "e", []int{p, e}, mooncore.ToChannel("main")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	readers.Wait()
	next := map[int]int{}
	for _, frame := range received[0] {
		var event struct{ p, e int }
		if _, err := fmt.Sscanf(frame, `["e",[%d,%d]]`, &event.p, &event.e); err != nil || event.e != next[event.p] {
			t.Fatalf("%s out of order, want number %d", frame, next[event.p])
		}
		next[event.p]++
	}
	for i := range received {
		if !slices.Equal(received[i], received[0]) {
			t.Errorf("subscriber %d saw another order than the first", i)
		}
	}
}

// Names that hide or reorder text join nothing, and nothing is made one by joining its parts.
func TestNamesOfChannels(t *testing.T) {
	srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{{
		Channels: []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated}},
	}}})
	conn := srv.As(mooncore.Identity{User: "alice", Tenant: "t"}).Dial()
	for _, name := range []string{
		"", "@bob", "a:b", ":", "a\x00", "\n", "a\u202eb", "\u2066", "\u200f", "\u0085", strings.Repeat("x", 129),
	} {
		if got := conn.Join(name); !slices.Equal(got, []string{"@alice"}) {
			t.Errorf("join %q: %v", name, got)
		}
		if err := srv.Tenant("", "t").Publish(t.Context(), "e", 1, mooncore.ToChannel(name)); err == nil {
			t.Errorf("published to %q", name)
		}
	}
	for _, name := range []string{"a b", "ä", "*", ">", "a.b", strings.Repeat("é", 128)} {
		if got := conn.Join(name); got[0] != name+":default" {
			t.Errorf("join %q: %v", name, got)
		}
	}
}

func TestTuplesDoNotCollide(t *testing.T) {
	broker := pubsub.NewLocal() // a topic is one text: that's where tuples could collide
	srv := mooncoretest.New(t, mooncore.Config{Broker: broker, Pools: []string{"default", "default:t"}, Routers: []mooncore.Router{{
		Channels: []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated}},
	}}})
	type place struct{ tenant, scope, channel string }
	places := []place{
		{"", "default", "a"}, {"", "default", "A"}, {"a", "default", "a"}, {"a", "a", "a"}, {"a:a", "a", "a"}, {"a", "a:a", "a"}, {"a.a", "a", "a"},
		{"a/a", "a", "a"}, {"a", "a/a", "a"}, {"a", "a", "a/a"}, {"a", "a", "*"}, {"a", "*", "a"}, {"*", "a", "a"}, {">", "a", "a"}, {"a", "a", ">"},
		{"a", "a", "a.a"}, {"t", "default", "default"}, {"t:default", "default", "default"}, {"\u00e9", "a", "a"}, {"e\u0301", "a", "a"},
		{"default", "default", "default"}, {"a\x00", "a", "a"}, {"a", "\x00a", "a"}, {"", "a", "a"}, {"a", "a", "a%"},
	}
	var conns []*mooncoretest.Conn
	for _, p := range places {
		conn := srv.As(mooncore.Identity{User: "u", Tenant: p.tenant, Scope: p.scope}).Dial()
		if got := conn.Join(p.channel); len(got) != 2 {
			t.Fatalf("%q: joined %v", p, got)
		}
		conns = append(conns, conn)
	}
	for i, p := range places {
		to := mooncore.ToChannel(p.channel).Scope(p.scope)
		if err := srv.Tenant("", p.tenant).Publish(t.Context(), "e", i, to); err != nil {
			t.Fatal(err)
		}
	}
	for i, conn := range conns {
		var got int
		if conn.Expect("e", &got); got != i {
			t.Errorf("%q got the event for %q", places[i], places[got])
		}
		conn.ExpectNothing()
	}
}

func TestOnlyRegisteredNamesRun(t *testing.T) {
	var ran atomic.Int64
	srv := serve(t, mooncore.Config{Routers: catalogue(returning("task.echo", func(context.Context) (int64, error) { return ran.Add(1), nil }))})
	conn := srv.dial()
	names := []string{
		"Task.echo", "task.Echo", "TASK.ECHO", "task_echo", "task/echo", "task.echo ", " task.echo", "task.echo\x00", "task.echo/", "./task.echo", "../task.echo",
		"task..echo", "task", "echo", "task.", "*", "task.*", "tаsk.echo", "task.ech\u006f\u0301", "String", "ServeHTTP", "Server.Shutdown", "__proto__", "constructor", "",
	}
	const letters = "task.echo"
	for range 4000 {
		b := []byte(letters)
		for range 1 + rand.IntN(3) {
			b[rand.IntN(len(b))] = letters[rand.IntN(len(letters))]
		}
		if name := string(b); name != letters {
			names = append(names, name)
		}
	}
	for i, name := range names {
		frame, err := json.Marshal(map[string]string{"action": name})
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ask(string(frame)); !strings.Contains(got, "Undefined action") {
			t.Errorf("%q: %s", name, got)
		}
		if i < 200 && name != "" {
			resp, body := srv.call(url.PathEscape(name), "{}")
			if resp.StatusCode != 404 && resp.StatusCode != 400 {
				t.Errorf("POST /run/%q: %d %s", name, resp.StatusCode, body)
			}
		}
	}
	if ran.Load() != 0 {
		t.Errorf("the action ran %d times", ran.Load())
	}
	if got := conn.ask(`{"action":"task.echo"}`); got != `["response",1,null]` {
		t.Error(got)
	}
}

// A slow action holds up the calls of its connection, and nothing else.
func TestStuckAction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, gone := make(chan struct{}), make(chan struct{})
		srv, _ := serveInMemory(t, mooncore.Config{Routers: catalogue(
			returning("stuck", func(ctx context.Context) (string, error) {
				select {
				case <-release:
					return "free", nil
				case <-ctx.Done():
					close(gone)
					return "", ctx.Err()
				}
			}),
			returning("quick", func(context.Context) (int, error) { return 1, nil }),
		)})
		conn := srv.dial()
		conn.send(`{"action":"stuck","rayid":"stuck"}`)
		if got := conn.ask("ping"); got != "pong" {
			t.Error(got)
		}
		if got := conn.ask("time"); !strings.HasPrefix(got, `["server_time",`) {
			t.Error(got)
		}
		frames := make(chan string, 200)
		go func() {
			defer close(frames)
			for {
				_, b, err := conn.ws.Read(context.Background())
				if err != nil {
					return
				}
				frames <- string(b)
			}
		}()
		if err := conn.ws.Ping(t.Context()); err != nil {
			t.Errorf("WebSocket ping: %v", err)
		}
		// 64 more messages are taken in. Then reading pauses, and with it the answers to pings.
		sent := 0
		var sender sync.WaitGroup
		sender.Go(func() {
			for i := range 70 {
				conn.ws.Write(context.Background(), websocket.MessageText, fmt.Appendf(nil, `{"action":"quick","rayid":%d}`, i))
				sent++
			}
			conn.ws.Write(context.Background(), websocket.MessageText, []byte("ping"))
		})
		synctest.Wait()
		if len(frames) > 0 {
			t.Errorf("%d frames came ahead of the slow action", len(frames))
		}
		if sent < 60 || sent > 66 {
			t.Errorf("%d messages were taken in while 64 may wait", sent)
		}
		time.Sleep(10 * time.Second)
		close(release)
		sender.Wait()
		synctest.Wait()
		if got := <-frames; got != `["response","free","stuck"]` {
			t.Errorf("first came %s", got)
		}
		next := 0
		for range 71 {
			if frame := <-frames; frame != "pong" {
				if frame != fmt.Sprintf(`["response",1,%d]`, next) {
					t.Fatalf("got %s, want the response of call %d", frame, next)
				}
				next++
			}
		}
		release = make(chan struct{})
		conn.ws.Write(context.Background(), websocket.MessageText, []byte(`{"action":"stuck"}`))
		synctest.Wait()
		start := time.Now()
		conn.ws.Close(1000, "")
		<-gone // the client's close ends the action's context
		if took := time.Since(start); took > time.Second {
			t.Errorf("the close was seen after %v", took)
		}
	})
}

// A peer that is gone without a word is missed after IdleTimeout, and nothing of it is left.
func TestHalfOpenPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closes := &closeLog{}
		srv, pipe := serveInMemory(t, mooncore.Config{Routers: catalogue(), Observers: []mooncore.Observer{closes}})
		conn, err := pipe.dial()
		if err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, conn) // takes everything, answers nothing
		upgrade(conn)
		synctest.Wait()
		start := time.Now()
		if len(srv.Conns()) != 1 {
			t.Fatal("not connected")
		}
		time.Sleep(59 * time.Second)
		if len(closes.all()) > 0 {
			t.Errorf("closed early: %v", closes.all())
		}
		for len(srv.Conns()) > 0 && time.Since(start) < 70*time.Second {
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took > 66*time.Second || !slices.Equal(closes.all(), []int{4410}) {
			t.Errorf("closed after %v with %v", took, closes.all())
		}
	})
}

// upgrade writes a WebSocket handshake.
func upgrade(conn net.Conn) {
	io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
}

// A closeLog keeps the codes with which connections ended.
type closeLog struct {
	mooncore.NopObserver
	mu    sync.Mutex
	codes []int
}

func (o *closeLog) ConnClose(_ *mooncore.Conn, code int, _ string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.codes = append(o.codes, code)
}

func (o *closeLog) all() []int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.codes)
}
