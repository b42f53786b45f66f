package mooncore_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/race"
	"github.com/mooncore/mooncore/mooncoretest"
)

// withTokens are actions behind tokens, some time of which passes in tests.
func withTokens() mooncore.Config {
	return mooncore.Config{JWT: mooncore.JWTConfig{Secret: testSecret}, Routers: catalogue(
		returning("whoami", whoami),
		mooncore.Action{Name: "mine", Allow: mooncore.Authenticated, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (string, error) {
			return whoami(ctx)
		})},
	)}
}

// publishing publishes numbers to alice, one each 500 ms, until the function that it returns is called.
func publishing(t *testing.T, srv *live) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			if err := srv.Tenant("", "t").Publish(context.Background(), "n", n, mooncore.ToChannel("main"), mooncore.ToUser("alice")); err != nil {
				t.Error(err)
			}
			time.Sleep(500 * time.Millisecond)
		}
	})
	return func() { cancel(); wg.Wait() }
}

// From the second of its expiry on, a token brings no event and runs no action.
func TestTokenThatExpires(t *testing.T) {
	for _, test := range []struct {
		name    string
		fresh   time.Duration // when a fresh token is sent; 0 is never
		channel string        // the list afterwards
	}{
		{"and no other comes", 0, ""},
		{"and a fresh one comes within the grace", 89 * time.Second, `["@alice"]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				srv, _ := serveInMemory(t, withTokens())
				id := mooncore.Identity{User: "alice", Tenant: "t", Expires: start.Add(60 * time.Second)}
				conn := srv.dialAs(id)
				conn.ask(`["join","main"]`)
				defer publishing(t, srv)()
				for n := 1; ; n++ {
					frame, closed := conn.read()
					if frame == `["jwt","jwt_expired"]` {
						if took := time.Since(start); took != 60*time.Second || n-1 != 120 { // one at 0 s, and the last at 59.5 s
							t.Errorf("jwt_expired after %v and %d events", took, n-1)
						}
						break
					}
					if frame != fmt.Sprintf(`["n",%d]`, n) {
						t.Fatalf("got %s, closed with %d, want event %d", frame, closed.Code, n)
					}
				}
				time.Sleep(10 * time.Second) // the publisher goes on
				for _, step := range [][2]string{
					{`{"action":"mine"}`, `["response",{"error":"Token expired","code":"unauthenticated"},null]`},
					{`{"action":"whoami"}`, `["response","@",null]`},
					{`["join","main"]`, `["channel_list",[]]`},
					{`channel_list`, `["channel_list",[]]`},
				} {
					if got := conn.ask(step[0]); got != step[1] {
						t.Errorf("%s: got %s, want %s", step[0], got, step[1])
					}
				}
				if test.fresh == 0 {
					_, before := conn.expectClose(4401)
					if took := time.Since(start); took != 90*time.Second || len(before) > 0 {
						t.Errorf("closed after %v; before that came %v", took, before)
					}
					return
				}
				time.Sleep(test.fresh - time.Since(start))
				id.Expires = time.Time{}
				conn.send(`["jwt","` + srv.token(id) + `"]`)
				if got, _ := conn.read(); !strings.HasPrefix(got, `["jwt",{`) {
					t.Fatalf("got %s", got)
				}
				conn.send("channel_list")
				for got := ""; got != `["channel_list",`+test.channel+`]`; got, _ = conn.read() {
					if got != "" && !strings.HasPrefix(got, `["n",`) {
						t.Fatalf("got %s", got)
					}
				}
				for range 240 { // two minutes of events
					if got, closed := conn.read(); !strings.HasPrefix(got, `["n",`) {
						t.Fatalf("after a fresh token: %s, close code %d", got, closed.Code)
					}
				}
			})
		})
	}
}

// A call that comes in the very moment of the expiry is nobody's, whether the timer went off or not.
func TestCallInTheMomentOfExpiry(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			srv, _ := serveInMemory(t, withTokens())
			conn := srv.dialAs(mooncore.Identity{User: "alice", Tenant: "t", Expires: start.Add(10 * time.Second)})
			time.Sleep(10 * time.Second)
			conn.send(`{"action":"whoami"}`)
			conn.send(`{"action":"mine"}`)
			for range 3 {
				if frame, _ := conn.read(); strings.Contains(frame, "alice") {
					t.Errorf("got %s after %v", frame, time.Since(start))
				}
			}
		})
	}
}

// A token that is refreshed in time loses no event and no channel.
func TestTokenThatIsRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := serveInMemory(t, withTokens())
		start := time.Now()
		id := mooncore.Identity{User: "alice", Tenant: "t", Expires: start.Add(60 * time.Second)}
		conn := srv.dialAs(id)
		conn.ask(`["join","main"]`)
		defer publishing(t, srv)()
		id.Expires = start.Add(120 * time.Second)
		n, refreshed := 0, false
		for {
			frame, closed := conn.read()
			switch {
			case strings.HasPrefix(frame, `["n",`):
				if n++; frame != fmt.Sprintf(`["n",%d]`, n) {
					t.Fatalf("got %s, want event %d", frame, n)
				}
			case strings.HasPrefix(frame, `["jwt",{`) && !refreshed:
				refreshed = true
			case frame == `["jwt","jwt_expired"]`:
				if took := time.Since(start); took != 120*time.Second || !refreshed {
					t.Errorf("jwt_expired after %v", took)
				}
				return
			default:
				t.Fatalf("got %s, close code %d", frame, closed.Code)
			}
			if n == 80 && !refreshed { // at 40 s
				conn.send(`["jwt","` + srv.token(id) + `"]`)
			}
		}
	})
}

func tokenID(t *testing.T, srv *live, token string) string {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	id, err := srv.Authenticate(r)
	if err != nil || id.TokenID == "" {
		t.Fatalf("%+v, %v", id, err)
	}
	return id.TokenID
}

// status is what a token gets over HTTP.
func status(srv *live, token string) int {
	resp, _ := srv.call("mine", "", "Authorization", "Bearer "+token)
	return resp.StatusCode
}

func TestRevocation(t *testing.T) {
	for _, test := range []struct {
		name        string
		revoke      func(srv *live, tokenID string) error
		otherTokens int // the status of another token of the same user
	}{
		{"of a token", func(srv *live, tokenID string) error { return srv.RevokeToken(context.Background(), tokenID) }, 200},
		{"of a user", func(srv *live, _ string) error { return srv.Tenant("", "t").Revoke(context.Background(), "alice") }, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := withTokens()
			var kept []mooncore.Revocation
			fails := errors.New("the disk is full")
			cfg.JWT.OnRevoke = func(_ context.Context, r mooncore.Revocation) error {
				if fails != nil {
					return fails
				}
				kept = append(kept, r)
				return nil
			}
			srv := serve(t, cfg)
			alice := mooncore.Identity{User: "alice", Tenant: "t"}
			token, other := srv.token(alice), srv.token(alice)
			namesake := srv.token(mooncore.Identity{User: "alice", Tenant: "t2"})
			conn, bystander := srv.dial("Authorization", "Bearer "+token), srv.dial("Authorization", "Bearer "+namesake)
			jti := tokenID(t, srv, token)

			if err := test.revoke(srv, jti); !errors.Is(err, fails) {
				t.Errorf("OnRevoke failed, and the revocation returned %v", err)
			}
			if got := conn.ask(`{"action":"mine"}`); got != `["response","alice@t",null]` || status(srv, token) != 200 {
				t.Errorf("OnRevoke failed, and something was revoked: %s", got)
			}
			fails = nil
			if err := test.revoke(srv, jti); err != nil {
				t.Fatal(err)
			}
			conn.expectClose(4401)
			resp, body := srv.call("whoami", "", "Authorization", "Bearer "+token)
			if resp.StatusCode != 401 || body != `{"error":"Invalid token","code":"unauthenticated"}` {
				t.Errorf("HTTP: %d %s", resp.StatusCode, body)
			}
			if c, resp := dialURL(t, "ws://"+srv.addr+"/ws", srv.client, "Authorization", "Bearer "+token); c != nil || resp.StatusCode != 401 {
				t.Errorf("upgrade: %v", resp.Status)
			}
			if got := bystander.ask(`["jwt","` + token + `"]`); got != `["jwt","jwt_failed"]` {
				t.Errorf("frame: %s", got)
			}
			if got := status(srv, other); got != test.otherTokens {
				t.Errorf("another token of the user: %d, want %d", got, test.otherTokens)
			}
			if got := bystander.ask(`{"action":"mine"}`); got != `["response","alice@t2",null]` || status(srv, namesake) != 200 {
				t.Errorf("the same name in another tenant was revoked too: %s", got)
			}
			if fresh := srv.token(alice); status(srv, fresh) != 200 {
				t.Error("a token issued later is refused")
			}

			cfg.JWT.Revoked = kept // the next start
			cfg.Listener = nil
			again := serve(t, cfg)
			if got := status(again, token); got != 401 {
				t.Errorf("after a restart: %d", got)
			}
			if got := status(again, namesake); got != 200 {
				t.Errorf("after a restart, another's: %d", got)
			}
		})
	}
}

// A token may be revoked after it was verified and before the connection has its identity: no gap is left.
func TestRevocationDuringTheUpgrade(t *testing.T) {
	cfg := withTokens()
	cfg.Development = true
	srv, err := mooncore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown(context.Background())
	token, err := srv.Token(mooncore.Identity{User: "alice", Tenant: "t"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		srv.ServeHTTP(&hijackHook{w, func() { srv.Tenant("", "t").Revoke(context.Background(), "alice") }}, r)
	}))
	defer server.Close()
	conn, resp := dialURL(t, server.URL+"/ws", server.Client(), "Authorization", "Bearer "+token)
	if conn == nil {
		if resp.StatusCode != 401 {
			t.Errorf("status %d", resp.StatusCode)
		}
		return
	}
	conn.send(`{"action":"mine"}`)
	if frame, closed := conn.read(); closed.Code != 4401 {
		t.Errorf("a revoked token got %s, close code %d", frame, closed.Code)
	}
}

// A hijackHook calls a function between the authentication and the answer of an upgrade.
type hijackHook struct {
	http.ResponseWriter
	hook func()
}

func (w *hijackHook) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.hook()
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// OnConnect comes before the first frame, OnDisconnect after the last membership; who is refused gets neither frame nor goodbye.
func TestConnectionHooks(t *testing.T) {
	var mu sync.Mutex
	var steps []string
	step := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		steps = append(steps, fmt.Sprintf(format, args...))
	}
	var srv *mooncoretest.Server
	gone := make(chan struct{})
	srv = mooncoretest.New(t, mooncore.Config{
		OnConnect: func(ctx context.Context, c *mooncore.Conn) error {
			step("connect %s", c.Identity().User)
			if c.Identity().User == "mallory" {
				return errors.New("not you")
			}
			return srv.Tenant("", "").Publish(ctx, "hello", nil, mooncore.ToUser(c.Identity().User))
		},
		OnDisconnect: func(c *mooncore.Conn) {
			members, err := srv.Tenant("", "").Members(context.Background(), "main")
			step("disconnect %s %v %v %v", c.Identity().User, c.Channels(), members, err)
			close(gone)
		},
		Routers: catalogue(returning("call", func(ctx context.Context) (any, error) {
			step("call %s", mooncore.RequestFrom(ctx).Identity.User)
			return nil, nil
		})),
	})
	mallory := srv.As(mooncore.Identity{User: "mallory"}).Dial()
	if code := mallory.Closed(); code != 1008 {
		t.Errorf("refused with %d", code)
	}
	alice := srv.As(mooncore.Identity{User: "alice"}).Dial()
	alice.Expect("hello", nil)
	if err := alice.Call("call", nil, nil); err != nil {
		t.Error(err)
	}
	alice.Join("main")
	alice.Send("quit")
	if code := alice.Closed(); code != 1000 {
		t.Errorf("quit closed with %d", code)
	}
	<-gone
	mu.Lock()
	defer mu.Unlock()
	want := []string{"connect mallory", "connect alice", "call alice", "disconnect alice [] [] <nil>"}
	if !slices.Equal(steps, want) {
		t.Errorf("got  %q\nwant %q", steps, want)
	}
}

// A connection whose hook ends the goroutine, or panics, is closed and leaves nothing behind: Shutdown ends.
func TestConnectionHookThatDoesNotReturn(t *testing.T) {
	for name, hook := range map[string]func(){"panic": func() { panic("x") }, "runtime.Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, _ := serveInMemory(t, mooncore.Config{
					OnConnect: func(context.Context, *mooncore.Conn) error { hook(); return nil },
					Routers:   catalogue(),
				})
				conn := srv.dial()
				conn.expectClose(1008)
				synctest.Wait()
				if n := srv.Stats().Conns; n != 0 {
					t.Errorf("%d connections are left", n)
				}
			})
		})
	}
}

func TestRequestsOfAConnection(t *testing.T) {
	type name struct {
		Channel string `json:"channel"`
	}
	srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(
		mooncore.Action{Name: "join", Allow: mooncore.Public, Handler: mooncore.Func(func(ctx context.Context, in name) (bool, error) {
			req := mooncore.RequestFrom(ctx)
			if err := req.Join(ctx, in.Channel); err != nil {
				return false, err
			}
			if err := req.Tenant().Publish(ctx, "joined", in.Channel, mooncore.ToChannel(in.Channel)); err != nil {
				return false, err
			}
			return true, req.Send(ctx, "welcome", map[string]any{"password": "never", "n": 1})
		})},
		mooncore.Action{Name: "leave", Allow: mooncore.Public, Handler: mooncore.Func(func(ctx context.Context, in name) (bool, error) {
			return true, mooncore.RequestFrom(ctx).Leave(ctx, in.Channel)
		})},
		mooncore.Action{Name: "send", Allow: mooncore.Public, Handler: mooncore.Func(func(ctx context.Context, in name) (bool, error) {
			return true, mooncore.RequestFrom(ctx).Send(ctx, in.Channel, nil)
		})},
	)})
	client := srv.As(mooncore.Identity{User: "alice", Tenant: "t"})
	conn, other := client.Dial(), client.Dial()
	if err := conn.Call("join", name{"vault"}, nil); err != nil {
		t.Errorf("a handler decides about its caller: %v", err)
	}
	conn.Expect("joined", nil)
	var payload json.RawMessage
	if conn.Expect("welcome", &payload); string(payload) != `{"n":1}` {
		t.Errorf("welcome: %s", payload)
	}
	other.ExpectNothing()
	for range 2 { // leaving twice is no error
		if err := conn.Call("leave", name{"vault"}, nil); err != nil {
			t.Error(err)
		}
	}
	if err := srv.Tenant("", "t").Publish(t.Context(), "late", 1, mooncore.ToChannel("vault")); err != nil {
		t.Error(err)
	}
	conn.ExpectNothing()
	stranger := srv.As(mooncore.Identity{}).Dial()
	for what, err := range map[mooncore.Code][]error{
		mooncore.CodeFailedPrecondition: {client.Call("join", name{"x"}, nil), client.Call("leave", name{"x"}, nil), client.Call("send", name{"x"}, nil), stranger.Call("join", name{"x"}, nil)},
		mooncore.CodeInvalidArgument:    {conn.Call("join", name{"a:b"}, nil), conn.Call("send", name{"response"}, nil), conn.Call("send", name{""}, nil)},
	} {
		for i, err := range err {
			if mooncore.CodeOf(err) != what {
				t.Errorf("%s %d: got %v", what, i, err)
			}
		}
	}
}

func TestConnectionsAreListedAndKicked(t *testing.T) {
	srv := serve(t, withTokens())
	before := time.Now()
	alice := mooncore.Identity{User: "alice", Tenant: "t"}
	one, two := srv.dialAs(alice), srv.dialAs(alice)
	bob, namesake, stranger := srv.dialAs(mooncore.Identity{User: "bob", Tenant: "t"}), srv.dialAs(mooncore.Identity{User: "alice", Tenant: "t2"}), srv.dial()
	one.ask(`["join","main"]`)
	for _, s := range []*socket{two, bob, namesake, stranger} {
		s.ask("ping")
	}
	ids := map[string]bool{}
	lists := map[string]int{}
	for _, c := range srv.Conns() {
		ids[c.ID()] = true
		lists[fmt.Sprint(c.Identity().User, c.Identity().Tenant, c.Channels())]++
		if c.Pool() != "default" || !c.RemoteAddr().IsLoopback() || c.Since().Before(before.Truncate(time.Second)) {
			t.Errorf("%s %v %v", c.Pool(), c.RemoteAddr(), c.Since())
		}
		eventually(t, "all is sent", func() bool { return c.Queued() == 0 })
	}
	for want, n := range map[string]int{"alicet[main:default @alice]": 1, "alicet[@alice]": 1, "bobt[@bob]": 1, "alicet2[@alice]": 1, "[]": 1} {
		if lists[want] != n {
			t.Errorf("%d of %q in %v", lists[want], want, lists)
		}
	}
	if len(ids) != 5 {
		t.Errorf("ids %v", ids)
	}
	if err := srv.Tenant("", "t").Kick(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	one.expectClose(1008)
	two.expectClose(1008)
	for _, s := range []*socket{bob, namesake, stranger} {
		if got := s.ask("ping"); got != "pong" {
			t.Errorf("a bystander got %s", got)
		}
	}
	srv.dialAs(alice).ask("ping") // may come back
}

func TestPoolsAreApart(t *testing.T) {
	cfg := withTokens()
	cfg.Pools = []string{"web", "devices"}
	mux := http.NewServeMux()
	cfg.Handler = mux
	srv := serve(t, cfg)
	mux.Handle("/devices", srv.SocketHandler("devices"))
	token := srv.token(mooncore.Identity{User: "alice", Tenant: "t"})
	web := srv.dial("Authorization", "Bearer "+token)
	device, _ := dialURL(t, "ws://"+srv.addr+"/devices", srv.client, "Authorization", "Bearer "+token)
	for _, s := range []*socket{web, device} {
		s.ask(`["join","main"]`)
	}
	tenant := srv.Tenant("", "t")
	for pool, n := range map[string]int{"web": 1, "devices": 2} {
		if err := tenant.Pool(pool).Publish(t.Context(), "n", n, mooncore.ToChannel("main"), mooncore.ToUser("alice")); err != nil {
			t.Error(err)
		}
	}
	web.expect(`["n",1]`)
	device.expect(`["n",2]`)
	for _, s := range []*socket{web, device} {
		if got := s.ask("ping"); got != "pong" {
			t.Errorf("an event too many: %s", got)
		}
	}
	if err := tenant.Pool("none").Publish(t.Context(), "n", 3, mooncore.ToChannel("main")); err == nil {
		t.Error("published to an unknown pool")
	}
	if err := tenant.Revoke(t.Context(), "alice"); err != nil { // in all pools
		t.Fatal(err)
	}
	web.expectClose(4401)
	device.expectClose(4401)
	defer func() {
		if recover() == nil {
			t.Error("SocketHandler of an unknown pool did not panic")
		}
	}()
	srv.SocketHandler("none")
}

// Presence: one event for what happens within 100 ms, and one for a user, however many connections.
func TestPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{{
			Channels: []mooncore.Channel{{Name: "room", Allow: mooncore.Authenticated, Presence: true}, {Name: "quiet", Allow: mooncore.Authenticated}},
		}}})
		as := func(user string) *mooncoretest.Conn { return srv.As(mooncore.Identity{User: user, Tenant: "t"}).Dial() }
		watcher := as("watcher")
		watcher.Join("room")
		watcher.Join("quiet")
		expect := func(want string) {
			t.Helper()
			time.Sleep(200 * time.Millisecond)
			var payload json.RawMessage
			if watcher.Expect("presence", &payload); string(payload) != want {
				t.Errorf("got  %s\nwant %s", payload, want)
			}
			watcher.ExpectNothing()
		}
		nothing := func() {
			t.Helper()
			time.Sleep(200 * time.Millisecond)
			watcher.ExpectNothing()
		}
		expect(`{"channel":"room","joined":["watcher"],"left":[]}`)
		a1, a2, b := as("alice"), as("alice"), as("bob")
		for _, c := range []*mooncoretest.Conn{a1, b, a2} {
			c.Join("room")
			c.Join("quiet")
		}
		expect(`{"channel":"room","joined":["alice","bob"],"left":[]}`)
		members, err := srv.Tenant("", "t").Members(t.Context(), "room")
		if err != nil || len(members) != 3 || members[0].User != "alice" || members[0].Conns != 2 || members[1].Conns != 1 {
			t.Errorf("members %v, %v", members, err)
		}
		a1.Leave("room")
		nothing()
		b.Leave("room") // and comes back in time: who listed the members in between learns that
		b.Join("room")
		expect(`{"channel":"room","joined":["bob"],"left":[]}`)
		a2.Send("quit")
		b.Leave("room")
		expect(`{"channel":"room","joined":[],"left":["alice","bob"]}`)
		if others, err := srv.Tenant("", "t2").Members(t.Context(), "room"); err != nil || len(others) != 0 {
			t.Errorf("members of another tenant: %v, %v", others, err)
		}
	})
}

// With Limits.Calls above 1, calls that have a rayid overtake one another; those without wait for nobody's place.
func TestOverlappingCalls(t *testing.T) {
	release := make(chan struct{})
	srv := serve(t, mooncore.Config{Limits: mooncore.Limits{Calls: 2}, Routers: catalogue(
		returning("slow", func(context.Context) (string, error) { <-release; return "slow", nil }),
		returning("quick", func(context.Context) (string, error) { return "quick", nil }),
	)})
	conn := srv.dial()
	conn.send(`{"action":"slow","rayid":1}`)
	for i := range 5 {
		conn.send(fmt.Sprintf(`{"action":"quick","rayid":%d}`, i+2))
		conn.expect(fmt.Sprintf(`["response","quick",%d]`, i+2))
	}
	if got := conn.ask(`{"action":"quick"}`); got != `["response","quick",null]` {
		t.Error(got)
	}
	close(release)
	conn.expect(`["response","slow",1]`)
}

func TestRulesOfChannels(t *testing.T) {
	var asked []string
	srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{{
		Roles: []string{"admin", "channel_chat"},
		Channels: []mooncore.Channel{
			{Name: "open", Allow: mooncore.Authenticated},
			{Name: "staff", Allow: mooncore.Roles("admin")},
			{Name: "doc-*", Allow: mooncore.Authenticated, Join: func(_ context.Context, id mooncore.Identity, channel string) error {
				asked = append(asked, id.User+" "+channel)
				if channel != "doc-"+id.User {
					return errors.New("not yours")
				}
				return nil
			}},
		},
	}}})
	for _, test := range []struct {
		user    string
		roles   []string
		channel string
		joins   bool
	}{
		{"alice", nil, "main", true}, {"alice", nil, "open", true}, {"alice", nil, "staff", false}, {"alice", []string{"admin"}, "staff", true},
		{"alice", nil, "chat", false}, {"alice", []string{"channel_chat"}, "chat", true}, {"alice", []string{"admin"}, "other", false},
		{"alice", nil, "doc-alice", true}, {"alice", nil, "doc-bob", false}, {"", nil, "open", false}, {"", nil, "main", false}, {"", nil, "doc-", false},
	} {
		t.Run(fmt.Sprint(test.user, test.roles, test.channel), func(t *testing.T) {
			conn := srv.As(mooncore.Identity{User: test.user, Roles: test.roles}).Dial()
			if got := slices.Contains(conn.Join(test.channel), test.channel+":default"); got != test.joins {
				t.Errorf("joined: %v", got)
			}
		})
	}
	if !slices.Equal(asked, []string{"alice doc-alice", "alice doc-bob"}) {
		t.Errorf("Join was asked %q", asked)
	}
}

// A program's own scheme decides for HTTP, upgrades and frames alike, and its identities expire as tokens do.
func TestConfigAuthenticate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		cfg := withTokens()
		cfg.Authenticate = func(r *http.Request) (mooncore.Identity, error) {
			switch key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); {
			case key == "key":
				return mooncore.Identity{User: "robot", Tenant: "t", Expires: start.Add(time.Minute)}, nil
			case key == "locked":
				return mooncore.Identity{}, mooncore.Errorf(mooncore.CodePermissionDenied, "Locked")
			case key == "broken":
				return mooncore.Identity{}, errors.New("secret cause")
			case key == "anon":
				return mooncore.Identity{User: "x", Tenant: "_anon"}, nil
			}
			return mooncore.Identity{}, nil // not ours
		}
		srv, _ := serveInMemory(t, cfg)
		token := srv.token(mooncore.Identity{User: "alice", Tenant: "t"})
		for _, test := range []struct {
			key    string
			status int
			body   string
		}{
			{"key", 200, `"robot@t"`}, {token, 200, `"alice@t"`}, {"nonsense", 401, `{"error":"Invalid token","code":"unauthenticated"}`},
			{"locked", 403, `{"error":"Locked","code":"permission_denied"}`},
			{"broken", 500, `{"error":"Internal Server Error","code":"internal","request_id":"r"}`},
			{"anon", 500, `{"error":"Internal Server Error","code":"internal","request_id":"r"}`},
		} {
			resp, body := srv.call("whoami", "", "Authorization", "Bearer "+test.key, "X-Request-Id", "r")
			if resp.StatusCode != test.status || body != test.body {
				t.Errorf("HTTP %.10s: %d %s", test.key, resp.StatusCode, body)
			}
			want := test.status
			if want == 200 {
				want = 101
			}
			if _, resp := dialURL(t, "ws://"+srv.addr+"/ws", srv.client, "Authorization", "Bearer "+test.key); resp.StatusCode != want {
				t.Errorf("upgrade %.10s: %d, want %d", test.key, resp.StatusCode, want)
			}
		}
		conn := srv.dial()
		if got := conn.ask(`["jwt","locked"]`); got != `["jwt","jwt_failed"]` {
			t.Error(got)
		}
		if got := conn.ask(`["jwt","key"]`); !strings.Contains(got, `"user":"robot"`) {
			t.Error(got)
		}
		conn.expect(`["jwt","jwt_expired"]`)
		if took := time.Since(start); took != time.Minute {
			t.Errorf("expired after %v", took)
		}
		if got := conn.ask(`["jwt","key"]`); got != `["jwt","jwt_failed"]` {
			t.Errorf("an identity that expired already: %s", got)
		}
		conn.expectClose(4401)
	})
}

// A context outlives its call, over either transport, and belongs to that caller whenever somebody asks.
func TestRequestAfterItsCall(t *testing.T) {
	const users, calls = 4, 100
	var late sync.WaitGroup
	ask := func(ctx context.Context, user string) {
		req := mooncore.RequestFrom(ctx)
		if req.Identity.User != user || req.Action != "keep" || (req.Source == "ws") != (req.Conn() != nil) || req.ID == "" || !req.RemoteAddr.IsValid() {
			t.Errorf("the request of %s is that of %s: %+v", user, req.Identity.User, req)
		}
	}
	type in struct {
		User string `json:"user"`
		When int    `json:"when"`
	}
	ended := make(chan struct{})
	srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(
		mooncore.Action{Name: "keep", Allow: mooncore.Authenticated, Handler: mooncore.Func(func(ctx context.Context, in in) (bool, error) {
			switch in.When {
			case 0: // while the call ends, and when all have
				late.Go(func() {
					ask(ctx, in.User)
					<-ended
					ask(ctx, in.User)
				})
			case 1: // only then
				late.Go(func() {
					<-ended
					ask(ctx, in.User)
				})
			case 2: // in the call, and with what it got then
				ask(ctx, in.User)
				req := mooncore.RequestFrom(ctx)
				late.Go(func() {
					<-ended
					if req.Identity.User != in.User || req != mooncore.RequestFrom(ctx) {
						t.Errorf("the request of %s became that of %s", in.User, req.Identity.User)
					}
				})
			}
			return true, nil
		})},
	)})
	var clients sync.WaitGroup
	for u := range users {
		user := fmt.Sprint("user", u)
		client := srv.As(mooncore.Identity{User: user})
		conn := client.Dial()
		clients.Go(func() {
			for i := range calls {
				call := conn.Call
				if i%8 >= 4 {
					call = client.Call // over HTTP
				}
				if err := call("keep", in{user, i % 4}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
	close(ended)
	late.Wait()
}

// Raw params are the handler's to keep, over either transport.
func TestRawParamsAreKept(t *testing.T) {
	const calls = 20
	var kept []json.RawMessage
	srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(
		mooncore.Action{Name: "keep", Allow: mooncore.Public, Handler: mooncore.Func(func(_ context.Context, in json.RawMessage) (any, error) {
			kept = append(kept, in)
			return nil, nil
		})},
	)})
	client := srv.As(mooncore.Identity{})
	conn := client.Dial()
	for i := range calls {
		call := conn.Call
		if i%4 == 3 {
			call = client.Call // over HTTP
		}
		if err := call("keep", map[string]int{"n": i}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for i, params := range kept {
		var got struct{ N int }
		if err := json.Unmarshal(params, &got); err != nil || got.N != i {
			t.Errorf("params of call %d became %s", i, params)
		}
	}
	if len(kept) != calls {
		t.Errorf("%d calls", len(kept))
	}
}

// A call over WebSocket keeps nothing but its context and what the handler got.
func TestSocketCallAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("pools lose things under the race detector")
	}
	for action, most := range map[string]float64{"raw": 3, "typed": 6} { // context, params and result; for typed three fields too
		call := pipeline(t, action)
		if n := testing.AllocsPerRun(100, call) / 16; n > most+0.1 { // a garbage collection empties pools
			t.Errorf("%s: %v allocations a call; want at most %v", action, n, most)
		}
	}
}

// TestEventsHoldNoPassword is about the top-level key, however it is written.
func TestEventsHoldNoPassword(t *testing.T) {
	srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue()})
	conn := srv.As(mooncore.Identity{User: "alice", Tenant: "t"}).Dial()
	for payload, want := range map[string]string{
		`{"n":1}`:                                `{"n":1}`,
		`{"password":"x","n":1}`:                 `{"n":1}`,
		`{"n":1,"p\u0061ssword":"x"}`:            `{"n":1}`,
		`{"n":"\n","password":"x"}`:              `{"n":"\n"}`,
		`{"passwords":1,"in":{"password":2}}`:    `{"passwords":1,"in":{"password":2}}`,
		`{"a":"password","b":"it's \"secret\""}`: `{"a":"password","b":"it's \"secret\""}`,
		`["password"]`:                           `["password"]`,
	} {
		if err := srv.Tenant("", "t").Publish(t.Context(), "e", json.RawMessage(payload), mooncore.ToUser("alice")); err != nil {
			t.Fatal(err)
		}
		var got json.RawMessage
		if conn.Expect("e", &got); string(got) != want {
			t.Errorf("%s came as %s, want %s", payload, got, want)
		}
	}
}
