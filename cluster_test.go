package mooncore_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
	"github.com/mooncore/mooncore/pubsub"
)

// A sharedBroker is one server's hold on a broker that another uses too: Close ends only what this server subscribed.
type sharedBroker struct {
	*pubsub.Local
	mu   sync.Mutex
	ends []func()
}

func (b *sharedBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	end, err := b.Local.Subscribe(ctx, topic, deliver, lost)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ends = append(b.ends, end)
	return end, nil
}

func (b *sharedBroker) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, end := range b.ends {
		end()
	}
	return nil
}

// cluster starts servers that know the same tokens and are joined by one broker.
func cluster(t *testing.T, n int, cfg mooncore.Config) []*live {
	local := pubsub.NewLocal()
	var servers []*live
	for range n {
		cfg.Broker, cfg.Listener = &sharedBroker{Local: local}, nil
		servers = append(servers, serve(t, cfg))
	}
	return servers
}

// What is published on one server reaches each connection of all, once.
func TestPublishReachesOtherServers(t *testing.T) {
	cfg := withTokens()
	cfg.Routers[0].Channels = []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated}}
	servers := cluster(t, 2, cfg)
	var conns []*socket
	for _, srv := range servers {
		conn := srv.dialAs(mooncore.Identity{User: "alice", Tenant: "t"})
		conn.ask(`["join","a"]`)
		conn.ask(`["join","b"]`)
		conns = append(conns, conn)
	}
	elsewhere := servers[1].dialAs(mooncore.Identity{User: "alice", Tenant: "t2"})
	elsewhere.ask(`["join","a"]`)
	for i, srv := range servers {
		tenant := srv.Tenant("", "t")
		for _, err := range []error{
			tenant.Publish(t.Context(), "one", i, mooncore.ToChannel("a")),
			tenant.Publish(t.Context(), "user", i, mooncore.ToUser("alice")),
			tenant.Publish(t.Context(), "many", map[string]any{"n": i, "password": "p"}, mooncore.ToChannel("a"), mooncore.ToChannel("b"), mooncore.ToUser("alice")),
			tenant.Publish(t.Context(), "scoped", i, mooncore.ToChannel("a").Scope("other")),
			tenant.Publish(t.Context(), "nobody", i, mooncore.ToChannel("c")),
		} {
			if err != nil {
				t.Error(err)
			}
		}
	}
	for _, conn := range conns {
		conn.expect(`["one",0]`, `["user",0]`, `["many",{"n":0}]`, `["one",1]`, `["user",1]`, `["many",{"n":1}]`)
	}
	for _, conn := range append(conns, elsewhere) {
		if got := conn.ask("ping"); got != "pong" {
			t.Errorf("an event too many: %s", got)
		}
	}
	conns[1].ask(`["leave","a"]`)
	if err := servers[0].Tenant("", "t").Publish(t.Context(), "late", 1, mooncore.ToChannel("a")); err != nil {
		t.Error(err)
	}
	conns[0].expect(`["late",1]`)
	if got := conns[1].ask("ping"); got != "pong" {
		t.Errorf("after it left: %s", got)
	}
}

func TestKickAndRevokeReachOtherServers(t *testing.T) {
	servers := cluster(t, 2, withTokens())
	alice := mooncore.Identity{User: "alice", Tenant: "t"}
	for _, test := range []struct {
		name string
		do   func(srv *live, tokenID string) error
		code int
		good int // the status of the token afterwards, on each server
	}{
		{"kick", func(srv *live, _ string) error { return srv.Tenant("", "t").Kick(t.Context(), "alice") }, 1008, 200},
		{"revoke a token", func(srv *live, id string) error { return srv.RevokeToken(t.Context(), id) }, 4401, 401},
		{"revoke a user", func(srv *live, _ string) error { return srv.Tenant("", "t").Revoke(t.Context(), "alice") }, 4401, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			token := servers[0].token(alice)
			bystander := servers[1].dialAs(mooncore.Identity{User: "bob", Tenant: "t"})
			var conns []*socket
			for _, srv := range servers {
				conn := srv.dial("Authorization", "Bearer "+token)
				conn.ask("ping") // the connection is registered
				conns = append(conns, conn)
			}
			if err := test.do(servers[0], tokenID(t, servers[0], token)); err != nil {
				t.Fatal(err)
			}
			for _, conn := range conns {
				conn.expectClose(test.code)
			}
			for i, srv := range servers {
				if got := status(srv, token); got != test.good {
					t.Errorf("server %d: status %d, want %d", i, got, test.good)
				}
			}
			if got := bystander.ask(`{"action":"mine"}`); got != `["response","bob@t",null]` {
				t.Errorf("a bystander got %s", got)
			}
		})
	}
}

// A user's call ends with the connection that it closes. It reaches the user's other connections all the same, and nobody else's.
func TestKickAndRevokeByTheUser(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(ctx context.Context, srv *mooncoretest.Server) error
		code int
	}{
		{"kick", func(ctx context.Context, srv *mooncoretest.Server) error {
			return srv.Tenant("", "t").Kick(ctx, "alice")
		}, 1008},
		{"revoke", func(ctx context.Context, srv *mooncoretest.Server) error {
			return srv.Tenant("", "t").Revoke(ctx, "alice")
		}, 4401},
		{"revoke a token", func(ctx context.Context, srv *mooncoretest.Server) error { return srv.RevokeToken(ctx, "everywhere") }, 4401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var servers []*mooncoretest.Server
				servers, _ = mortals(t, 2, returning("end", func(ctx context.Context) (any, error) {
					err := tt.do(ctx, servers[0])
					if err != nil {
						t.Errorf("%s: %v", tt.name, err)
					}
					return nil, err
				}))
				alice := mooncore.Identity{User: "alice", Tenant: "t", TokenID: "everywhere"}
				here, there := servers[0].As(alice).Dial(), servers[1].As(alice).Dial()
				servers[1].As(mooncore.Identity{User: "bob", Tenant: "t"}).Dial()
				here.Send(`{"action":"end"}`)
				for _, conn := range []*mooncoretest.Conn{here, there} {
					if code := conn.Closed(); code != tt.code {
						t.Errorf("closed with %d, want %d", code, tt.code)
					}
				}
				time.Sleep(5 * time.Second)
				if n := servers[1].Stats().Conns; n != 1 {
					t.Errorf("%d connections are left there, want bob's", n)
				}
			})
		})
	}
}

// A kick whose caller is gone is not one that others missed.
func TestKickWithAnEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, _ := mortals(t, 2)
		for _, user := range []string{"alice", "bob"} {
			servers[1].As(mooncore.Identity{User: user, Tenant: "t"}).Dial()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := servers[0].Tenant("", "t").Kick(ctx, "alice"); err != nil {
			t.Errorf("Kick: %v", err)
		}
		if err := servers[0].Tenant("", "t").Kick(t.Context(), strings.Repeat("x", 1<<20)); mooncore.CodeOf(err) != mooncore.CodeInvalidArgument {
			t.Errorf("Kick of a long name: %v", err)
		}
		time.Sleep(5 * time.Second)
		if n := servers[1].Stats().Conns; n != 1 {
			t.Errorf("%d connections are left there, want bob's", n)
		}
	})
}

// A server that leaves the cluster takes nobody along, and one whose events may be lost tells its clients.
func TestOneServerOfACluster(t *testing.T) {
	servers := cluster(t, 2, withTokens())
	alice := mooncore.Identity{User: "alice", Tenant: "t"}
	leaving, staying := servers[0].dialAs(alice), servers[1].dialAs(alice)
	leaving.ask("ping")
	staying.ask(`["join","main"]`)
	if err := servers[0].stop(); err != nil {
		t.Fatal(err)
	}
	reason, _ := leaving.expectClose(1012)
	if !strings.HasPrefix(reason, `{"retry_after":`) {
		t.Errorf("reason %s", reason)
	}
	if err := servers[1].Tenant("", "t").Publish(t.Context(), "still", 1, mooncore.ToChannel("main")); err != nil {
		t.Error(err)
	}
	staying.expect(`["still",1]`)
}

// A lossyBroker says that messages of a topic may be missing, when it is told to.
type lossyBroker struct {
	*pubsub.Local
	mu   sync.Mutex
	lost map[string]func()
}

func (b *lossyBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost[topic] = lost
	return b.Local.Subscribe(ctx, topic, deliver, lost)
}

// A gap is never silent. Who may have missed an event has to come back; others stay.
func TestLostEventsCloseConnections(t *testing.T) {
	broker := &lossyBroker{Local: pubsub.NewLocal(), lost: map[string]func(){}}
	cfg := withTokens()
	cfg.Broker = broker
	srv := serve(t, cfg)
	member := srv.dialAs(mooncore.Identity{User: "alice", Tenant: "t"})
	member.ask(`["join","main"]`)
	other := srv.dialAs(mooncore.Identity{User: "bob", Tenant: "t"})
	other.ask("ping")
	broker.mu.Lock()
	var lost []func()
	for topic, fn := range broker.lost {
		if strings.Contains(topic, "main") {
			lost = append(lost, fn)
		}
	}
	broker.mu.Unlock()
	if len(lost) != 1 {
		t.Fatalf("%d topics of the channel", len(lost))
	}
	lost[0]()
	member.expectClose(1012)
	if got := other.ask("ping"); got != "pong" {
		t.Errorf("another got %s", got)
	}
}

// tell calls the lost functions of topics.
func (b *lossyBroker) tell(which func(parts []string) bool) int {
	b.mu.Lock()
	var lost []func()
	for topic, fn := range b.lost {
		if parts, _ := pubsub.ParseTopic(topic); which(parts) {
			lost = append(lost, fn)
		}
	}
	b.mu.Unlock()
	for _, fn := range lost {
		fn()
	}
	return len(lost)
}

// Each topic closes its own members, whatever the names: pool, tenant, channel and scope are told apart.
func TestLostEventsOfATopic(t *testing.T) {
	broker := &lossyBroker{Local: pubsub.NewLocal(), lost: map[string]func(){}}
	cfg := withTokens()
	cfg.Broker = broker
	cfg.Routers[0].Channels = []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated}}
	srv := serve(t, cfg)
	anonymous := srv.dial()
	anonymous.ask("ping")
	type member struct {
		name string
		conn *socket
	}
	var members []member
	for _, id := range []mooncore.Identity{
		{User: "alice", Tenant: "t"}, {User: "alice", Tenant: "t", Scope: "s"}, {User: "alice", Tenant: "t2"}, {User: "bob", Tenant: "t"},
	} {
		conn := srv.dialAs(id)
		conn.ask(`["join","a"]`)
		members = append(members, member{id.Tenant + "/" + id.Scope + "/" + id.User, conn})
	}
	for _, tt := range []struct {
		name   string
		lost   []string // parts that the topic has
		closed []int    // of members
	}{
		{"a channel of another scope", []string{"channel", "t", "a", "s"}, []int{1}},
		{"a user", []string{"channel", "t", "bob"}, []int{3}},
		{"what goes to all", []string{"many"}, []int{0, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := broker.tell(func(parts []string) bool {
				return !slices.ContainsFunc(tt.lost, func(want string) bool { return !slices.Contains(parts, want) })
			})
			if n != 1 {
				t.Fatalf("%d topics", n)
			}
			for _, i := range tt.closed {
				members[i].conn.expectClose(1012)
				members[i].conn = nil
			}
			for _, m := range append(members, member{"anonymous", anonymous}) {
				if m.conn == nil {
					continue
				}
				if got := m.conn.ask("ping"); got != "pong" {
					t.Errorf("%s got %s", m.name, got)
				}
			}
		})
	}
}

// An awayBroker can be cut off.
type awayBroker struct {
	*pubsub.Local
	away atomic.Bool
}

func (b *awayBroker) Publish(ctx context.Context, topic string, data []byte) error {
	if b.away.Load() {
		return pubsub.ErrAway
	}
	return b.Local.Publish(ctx, topic, data)
}

func (b *awayBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	if b.away.Load() {
		return nil, pubsub.ErrAway
	}
	return b.Local.Subscribe(ctx, topic, deliver, lost)
}

func (b *awayBroker) Stats() pubsub.Stats {
	return pubsub.Stats{Engine: "test", Up: !b.away.Load(), Subscriptions: 3}
}

// A fullBroker is there, and takes no subscription any more when it is told so.
type fullBroker struct {
	awayBroker
	full atomic.Bool
}

func (b *fullBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	if b.full.Load() {
		return nil, errors.New("too many subscriptions")
	}
	return b.awayBroker.Subscribe(ctx, topic, deliver, lost)
}

// A broker that doesn't take a subscription is not taken for a server with too many connections.
func TestBrokerRefusesSubscriptions(t *testing.T) {
	broker := &fullBroker{awayBroker: awayBroker{Local: pubsub.NewLocal()}}
	cfg := withTokens()
	cfg.Broker = broker
	srv := serve(t, cfg)
	broker.full.Store(true)
	token := srv.token(mooncore.Identity{User: "alice", Tenant: "t"})
	c, resp := dialURL(t, "ws://"+srv.addr+"/ws", srv.client, "Authorization", "Bearer "+token)
	if c != nil {
		t.Fatal("it is connected")
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 503 || string(body) != `{"error":"Unavailable","code":"unavailable"}` {
		t.Errorf("%s %s, error %v", resp.Status, body, err)
	}
	stranger := srv.dial()
	for range 10 { // more than bad tokens may fail
		if got := stranger.ask(`["jwt","` + token + `"]`); got != `["jwt","jwt_failed"]` {
			t.Errorf("a login: %s", got)
		}
	}
	broker.full.Store(false)
	if got := stranger.ask(`["jwt","` + token + `"]`); !strings.HasPrefix(got, `["jwt",{`) {
		t.Errorf("a login when it is back: %s", got)
	}
}

// While the broker is away, publishing fails, the server is not ready but alive, and calls are answered.
func TestBrokerAway(t *testing.T) {
	broker := &awayBroker{Local: pubsub.NewLocal()}
	cfg := withTokens()
	cfg.Broker = broker
	cfg.Checks = map[string]func(context.Context) error{"own": func(context.Context) error { return nil }}
	cfg.Routers[0].Actions = append(cfg.Routers[0].Actions, mooncore.Action{
		Name: "tell", Allow: mooncore.Authenticated,
		Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (any, error) {
			return nil, mooncore.RequestFrom(ctx).Tenant().Publish(ctx, "told", 1, mooncore.ToChannel("main"))
		}),
	})
	srv := serve(t, cfg)
	alice := mooncore.Identity{User: "alice", Tenant: "t"}
	conn := srv.dialAs(alice)
	conn.ask(`["join","main"]`)
	for _, tt := range []struct {
		away              bool
		tell, ready, live int
	}{{false, 200, 200, 200}, {true, 503, 503, 200}, {false, 200, 200, 200}} {
		broker.away.Store(tt.away)
		resp, body := srv.call("tell", "", "Authorization", "Bearer "+srv.token(alice))
		if resp.StatusCode != tt.tell || tt.away && (body != `{"error":"Unavailable","code":"unavailable"}` || resp.Header.Get("Retry-After") == "") {
			t.Errorf("away %t: publishing: %d %s %v", tt.away, resp.StatusCode, body, resp.Header)
		}
		if !tt.away {
			conn.expect(`["told",1]`)
		}
		for path, want := range map[string]int{"/readyz": tt.ready, "/livez": tt.live} {
			deadline := time.Now().Add(10 * time.Second)
			for { // the result of a check holds for a second
				resp, body = srv.request("GET", path, "")
				if resp.StatusCode == want || time.Now().After(deadline) {
					break
				}
				time.Sleep(10 * time.Millisecond) // real time: of the server's checks
			}
			if resp.StatusCode != want || path == "/readyz" && !strings.Contains(body, `"own":{"status":"ok"`) {
				t.Errorf("away %t: %s: %d %s", tt.away, path, resp.StatusCode, body)
			}
		}
		if got := status(srv, srv.token(alice)); got != 200 {
			t.Errorf("away %t: a call that doesn't publish: %d", tt.away, got)
		}
		if stats := srv.Stats().Broker; stats.Up == tt.away || stats.Engine != "test" {
			t.Errorf("away %t: stats %+v", tt.away, stats)
		}
		if err := srv.Tenant("", "t").Kick(t.Context(), "nobody"); (err != nil) != tt.away || tt.away && mooncore.CodeOf(err) != mooncore.CodeUnavailable {
			t.Errorf("away %t: Kick: %v", tt.away, err)
		}
	}
}
