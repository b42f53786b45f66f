package mooncore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
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

// A mortalBroker is a sharedBroker whose server can die: nothing goes out any more, and nothing comes in. It can also know that it
// is away.
type mortalBroker struct {
	sharedBroker
	dead, away atomic.Bool
	questions  atomic.Int64 // that its server asked

	lostMu sync.Mutex
	lost   []func()
}

func (b *mortalBroker) Publish(ctx context.Context, topic string, data []byte) error {
	if bytes.Contains(data, []byte(`"round":`)) && bytes.Contains(data, []byte(`"kind":`)) {
		b.questions.Add(1)
	}
	switch {
	case b.dead.Load():
		return nil
	case b.away.Load():
		return pubsub.ErrAway
	}
	return b.sharedBroker.Publish(ctx, topic, data)
}

func (b *mortalBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	b.lostMu.Lock()
	b.lost = append(b.lost, lost)
	b.lostMu.Unlock()
	return b.sharedBroker.Subscribe(ctx, topic, func(data []byte) {
		if !b.dead.Load() {
			deliver(data)
		}
	}, lost)
}

// back ends what is wrong, and tells of the loss.
func (b *mortalBroker) back() {
	b.dead.Store(false)
	b.away.Store(false)
	b.lostMu.Lock()
	lost := slices.Clone(b.lost)
	b.lostMu.Unlock()
	for _, tell := range lost {
		tell()
	}
}

// Members are those of all servers; who dies takes its own along, at the latest when it is asked.
func TestMembersOfAllServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local := pubsub.NewLocal()
		cfg := withTokens()
		cfg.Routers[0].Channels = []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated}}
		start := time.Now()
		var brokers []*mortalBroker
		var servers []*mooncoretest.Server
		for i := range 3 {
			b := &mortalBroker{sharedBroker: sharedBroker{Local: local}}
			brokers, cfg.Broker, cfg.Node = append(brokers, b), b, fmt.Sprint("node", i)
			servers = append(servers, mooncoretest.New(t, cfg))
			time.Sleep(time.Second)
			for _, user := range []string{"everywhere", fmt.Sprintf("only%d", i)} {
				servers[i].As(mooncore.Identity{User: user, Tenant: "t"}).Dial().Join("a")
			}
			servers[i].As(mooncore.Identity{User: "stranger", Tenant: "t2"}).Dial().Join("a")
			servers[i].As(mooncore.Identity{User: "stranger", Tenant: "t", Scope: "s"}).Dial().Join("a")
		}
		want := func(what string, took time.Duration, members ...string) {
			t.Helper()
			for i, srv := range servers {
				if brokers[i].dead.Load() {
					continue
				}
				asked := time.Now()
				list, err := srv.Tenant("", "t").Members(t.Context(), "a")
				if err != nil {
					t.Errorf("%s: server %d: %v", what, i, err)
				}
				var got []string
				for _, m := range list {
					got = append(got, fmt.Sprintf("%s:%d:%d:%s", m.User, m.Conns, int(m.Since.Sub(start).Seconds()), strings.Join(m.Nodes, "+")))
				}
				if fmt.Sprint(got) != fmt.Sprint(members) || time.Since(asked) != took {
					t.Errorf("%s: server %d: %v after %v, want %v after %v", what, i, got, time.Since(asked), members, took)
				}
			}
		}
		want("all", 0, "everywhere:3:1:node0+node1+node2", "only0:1:1:node0", "only1:1:2:node1", "only2:1:3:node2")
		if list, err := servers[0].Tenant("", "t").Members(t.Context(), "a"); err != nil {
			t.Error(err)
		} else if text, err := json.Marshal(list); err != nil || strings.Contains(string(text), "node") {
			t.Errorf("clients would learn the names of nodes, error %v: %s", err, text)
		}
		if list, err := servers[0].Tenant("", "t").Members(t.Context(), "b"); err != nil || len(list) != 0 {
			t.Errorf("nobody's channel: %v, error %v", list, err)
		}

		brokers[0].dead.Store(true)
		want("one dies", 2*time.Second, "everywhere:2:2:node1+node2", "only1:1:2:node1", "only2:1:3:node2")
		want("after that", 0, "everywhere:2:2:node1+node2", "only1:1:2:node1", "only2:1:3:node2")
		brokers[0].dead.Store(false)
		time.Sleep(2 * time.Second)
		want("it was only away", 0, "everywhere:3:1:node0+node1+node2", "only0:1:1:node0", "only1:1:2:node1", "only2:1:3:node2")

		brokers[0].dead.Store(true)
		time.Sleep(10 * time.Second)
		want("one died long ago", 0, "everywhere:2:2:node1+node2", "only1:1:2:node1", "only2:1:3:node2")
		brokers[0].dead.Store(false)
		if err := servers[0].Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		brokers[0].dead.Store(true) // so that it is not asked
		want("one was stopped", 0, "everywhere:2:2:node1+node2", "only1:1:2:node1", "only2:1:3:node2")
	})
}

// A channel with more members than a message holds.
func TestMembersInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local := pubsub.NewLocal()
		cfg := withTokens()
		var servers []*mooncoretest.Server
		for range 2 {
			cfg.Broker = &sharedBroker{Local: local}
			servers = append(servers, mooncoretest.New(t, cfg))
		}
		synctest.Wait()
		const many = 4001
		for i := range many {
			servers[0].As(mooncore.Identity{User: fmt.Sprintf("user%04d", i), Tenant: "t"}).Dial().Join("main")
		}
		list, err := servers[1].Tenant("", "t").Members(t.Context(), "main")
		if err != nil || len(list) != many || list[many-1].User != "user4000" {
			t.Errorf("%d members, error %v, want %d", len(list), err, many)
		}
	})
}

// Presence events are those of all servers together.
func TestPresenceOfAllServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local := pubsub.NewLocal()
		cfg := withTokens()
		cfg.Routers[0].Channels = []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated, Presence: true}}
		var servers []*mooncoretest.Server
		for range 2 {
			cfg.Broker = &sharedBroker{Local: local}
			servers = append(servers, mooncoretest.New(t, cfg))
		}
		synctest.Wait()
		alice, bob := mooncore.Identity{User: "alice", Tenant: "t"}, mooncore.Identity{User: "bob", Tenant: "t"}
		watcher := servers[0].As(mooncore.Identity{User: "watcher", Tenant: "t"}).Dial()
		watcher.Join("a")
		expect := func(joined, left []string) {
			t.Helper()
			var got struct{ Joined, Left []string }
			watcher.Expect("presence", &got)
			if !slices.Equal(got.Joined, joined) || !slices.Equal(got.Left, left) {
				t.Errorf("joined %q, left %q, want %q, %q", got.Joined, got.Left, joined, left)
			}
		}
		expect([]string{"watcher"}, nil)
		var conns []*mooncoretest.Conn
		for _, step := range []struct {
			name         string
			do           func()
			joined, left []string // no event if both are empty
		}{
			{"alice comes by one server", func() {
				conns = append(conns, servers[0].As(alice).Dial())
				conns[0].Join("a")
			}, []string{"alice"}, nil},
			{"and by the other", func() {
				conns = append(conns, servers[1].As(alice).Dial())
				conns[1].Join("a")
			}, nil, nil},
			{"and leaves the first", func() { conns[0].Leave("a") }, nil, nil},
			{"and the other", func() { conns[1].Leave("a") }, nil, []string{"alice"}},
			{"bob comes by both at the same time", func() {
				for _, srv := range servers {
					conns = append(conns, srv.As(bob).Dial())
				}
				conns[2].Join("a")
				time.Sleep(10 * time.Millisecond)
				conns[3].Join("a")
			}, []string{"bob"}, nil},
			{"and leaves both at different times", func() {
				conns[2].Leave("a")
				time.Sleep(10 * time.Second)
				conns[3].Leave("a")
			}, nil, []string{"bob"}},
		} {
			step.do()
			if step.joined != nil || step.left != nil {
				expect(step.joined, step.left)
			}
			time.Sleep(3 * time.Second)
			if t.Failed() {
				t.Fatal(step.name)
			}
			watcher.ExpectNothing()
		}
	})
}

// Who was on a server that ended, in whatever way, is told to have left, and only who is nowhere else.
func TestPresenceWhenAServerEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, srv *mooncoretest.Server, b *mortalBroker)
		most time.Duration
	}{
		{"it is stopped", func(t *testing.T, srv *mooncoretest.Server, _ *mortalBroker) {
			if err := srv.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}, 2 * time.Second},
		{"it dies", func(_ *testing.T, _ *mooncoretest.Server, b *mortalBroker) { b.dead.Store(true) }, 7 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local := pubsub.NewLocal()
				cfg := withTokens()
				cfg.Routers[0].Channels = []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated, Presence: true}}
				var servers []*mooncoretest.Server
				var brokers []*mortalBroker
				for range 3 {
					b := &mortalBroker{sharedBroker: sharedBroker{Local: local}}
					cfg.Broker = b
					brokers, servers = append(brokers, b), append(servers, mooncoretest.New(t, cfg))
				}
				synctest.Wait()
				conns := map[string]*mooncoretest.Conn{}
				for _, at := range []struct {
					server int
					user   string
				}{{0, "watcher"}, {1, "ann"}, {1, "bob"}, {1, "cat"}, {2, "ann"}, {0, "bob"}} {
					conn := servers[at.server].As(mooncore.Identity{User: at.user, Tenant: "t"}).Dial()
					conn.Join("a")
					conns[at.user] = conn
					time.Sleep(time.Second)
				}
				var got struct{ Joined, Left []string }
				for _, user := range []string{"watcher", "ann", "bob", "cat"} {
					if conns["watcher"].Expect("presence", &got); !slices.Equal(got.Joined, []string{user}) || len(got.Left) > 0 {
						t.Errorf("joined %q, left %q, want %q to join", got.Joined, got.Left, user)
					}
				}
				// Who goes from a server within 2 s after they came by another one may be told of again.
				time.Sleep(2 * time.Second)
				start := time.Now()
				tt.end(t, servers[1], brokers[1])
				conns["watcher"].Expect("presence", &got)
				if !slices.Equal(got.Left, []string{"cat"}) || len(got.Joined) > 0 || time.Since(start) > tt.most {
					t.Errorf("after %v: joined %q, left %q, want cat to leave within %v", time.Since(start), got.Joined, got.Left, tt.most)
				}
				time.Sleep(10 * time.Second)
				conns["watcher"].ExpectNothing()
			})
		})
	}
}

// mortals starts servers of a cluster that can die. Each channel has presence.
func mortals(t *testing.T, n int, actions ...mooncore.Action) (servers []*mooncoretest.Server, brokers []*mortalBroker) {
	local := pubsub.NewLocal()
	cfg := withTokens()
	cfg.Routers[0].Channels = []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated, Presence: true}}
	cfg.Routers[0].Actions = append(cfg.Routers[0].Actions, actions...)
	for range n {
		b := &mortalBroker{sharedBroker: sharedBroker{Local: local}}
		cfg.Broker = b
		brokers, servers = append(brokers, b), append(servers, mooncoretest.New(t, cfg))
	}
	synctest.Wait()
	return servers, brokers
}

// expectPresence waits for a presence event.
func expectPresence(t *testing.T, c *mooncoretest.Conn, joined, left []string) {
	t.Helper()
	var got struct{ Joined, Left []string }
	c.Expect("presence", &got)
	if !slices.Equal(got.Joined, joined) || !slices.Equal(got.Left, left) {
		t.Errorf("joined %q, left %q, want %q, %q", got.Joined, got.Left, joined, left)
	}
}

// Who moves to another server, while a third answers nobody, has not left.
func TestPresenceOfWhoMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, brokers := mortals(t, 3)
		mover := mooncore.Identity{User: "mover", Tenant: "t"}
		watcher := servers[1].As(mooncore.Identity{User: "watcher", Tenant: "t"}).Dial()
		watcher.Join("a")
		expectPresence(t, watcher, []string{"watcher"}, nil)
		old := servers[0].As(mover).Dial()
		old.Join("a")
		expectPresence(t, watcher, []string{"mover"}, nil)
		time.Sleep(time.Second)
		brokers[2].dead.Store(true)
		old.Leave("a")
		time.Sleep(50 * time.Millisecond)
		servers[1].As(mover).Dial().Join("a")
		expectPresence(t, watcher, []string{"mover"}, nil) // who listed the members in between learns that
		time.Sleep(10 * time.Second)
		watcher.ExpectNothing()
	})
}

// Who was on a server that died has left, also when others came before it was given up.
func TestPresenceOfADeadServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, brokers := mortals(t, 2)
		watcher := servers[0].As(mooncore.Identity{User: "watcher", Tenant: "t"}).Dial()
		watcher.Join("a")
		expectPresence(t, watcher, []string{"watcher"}, nil)
		servers[1].As(mooncore.Identity{User: "cat", Tenant: "t"}).Dial().Join("a")
		expectPresence(t, watcher, []string{"cat"}, nil)
		time.Sleep(time.Second)
		brokers[1].dead.Store(true)
		servers[0].As(mooncore.Identity{User: "dog", Tenant: "t"}).Dial().Join("a")
		expectPresence(t, watcher, []string{"dog"}, nil)
		expectPresence(t, watcher, nil, []string{"cat"})
		time.Sleep(10 * time.Second)
		watcher.ExpectNothing()
	})
}

// Whatever changes of presence a server misses, its members are told in the end.
func TestPresenceThatWasMissed(t *testing.T) {
	for _, tt := range []struct {
		name         string
		harm         func(b *mortalBroker)
		mend         func(b *mortalBroker)
		next         string // comes then
		joined, left []string
	}{
		{"it could not be published", func(b *mortalBroker) { b.away.Store(true) }, func(b *mortalBroker) { b.away.Store(false) },
			"", []string{"new"}, []string{"old"}},
		{"it was lost, which was told and closes connections", func(b *mortalBroker) { b.dead.Store(true) }, (*mortalBroker).back,
			"", nil, []string{"new", "old"}},
		{"it was lost in silence, and the next one comes", func(b *mortalBroker) { b.dead.Store(true) }, func(b *mortalBroker) { b.dead.Store(false) },
			"newer", []string{"new", "newer"}, []string{"old"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				servers, brokers := mortals(t, 2)
				dial := func(server int, user string) *mooncoretest.Conn {
					conn := servers[server].As(mooncore.Identity{User: user, Tenant: "t"}).Dial()
					conn.Join("a")
					return conn
				}
				watcher := dial(0, "watcher")
				expectPresence(t, watcher, []string{"watcher"}, nil)
				old := dial(1, "old")
				expectPresence(t, watcher, []string{"old"}, nil)
				time.Sleep(time.Second)
				tt.harm(brokers[1])
				old.Leave("a")
				dial(1, "new")
				time.Sleep(2 * time.Second)
				watcher.ExpectNothing()
				tt.mend(brokers[1])
				start := time.Now()
				if tt.next != "" {
					dial(1, tt.next)
				}
				expectPresence(t, watcher, tt.joined, tt.left)
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("told after %v", took)
				}
				time.Sleep(10 * time.Second)
				watcher.ExpectNothing()
			})
		})
	}
}

// A server that was given up, and is back, brings its users along. It does not take the others for gone, whom it can't hear.
func TestPresenceOfAServerThatIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, brokers := mortals(t, 3)
		var conns []*mooncoretest.Conn
		for i, user := range []string{"ann", "bob", "cat"} {
			conns = append(conns, servers[i].As(mooncore.Identity{User: user, Tenant: "t"}).Dial())
			conns[i].Join("a")
			for _, c := range conns {
				expectPresence(t, c, []string{user}, nil)
			}
			time.Sleep(time.Second)
		}
		brokers[1].dead.Store(true)
		expectPresence(t, conns[0], nil, []string{"bob"})
		expectPresence(t, conns[2], nil, []string{"bob"})
		brokers[1].dead.Store(false)
		expectPresence(t, conns[0], []string{"bob"}, nil)
		expectPresence(t, conns[2], []string{"bob"}, nil)
		time.Sleep(10 * time.Second)
		for _, c := range conns {
			c.ExpectNothing()
		}
	})
}

// Who moves away from a server that died, before it counts as gone, is told to who lists the members meanwhile.
func TestPresenceBesideMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, brokers := mortals(t, 3)
		dial := func(server int, user string) *mooncoretest.Conn {
			conn := servers[server].As(mooncore.Identity{User: user, Tenant: "t"}).Dial()
			conn.Join("a")
			time.Sleep(time.Second)
			return conn
		}
		watcher := dial(0, "watcher")
		expectPresence(t, watcher, []string{"watcher"}, nil)
		dial(1, "mover")
		expectPresence(t, watcher, []string{"mover"}, nil)
		brokers[1].dead.Store(true)
		time.AfterFunc(100*time.Millisecond, func() { dial(2, "mover") })
		members, err := servers[0].Tenant("", "t").Members(t.Context(), "a")
		if err != nil || len(members) != 1 {
			t.Fatalf("members %v, error %v, want only the watcher", members, err)
		}
		expectPresence(t, watcher, []string{"mover"}, nil)
		time.Sleep(10 * time.Second)
		watcher.ExpectNothing()
		if members, err = servers[0].Tenant("", "t").Members(t.Context(), "a"); err != nil || len(members) != 2 {
			t.Errorf("members %v, error %v, want two", members, err)
		}
	})
}

// A stuckBroker takes its time to publish.
type stuckBroker struct {
	sharedBroker
	stuck atomic.Int64 // nanoseconds
}

func (b *stuckBroker) Publish(ctx context.Context, topic string, data []byte) error {
	time.Sleep(time.Duration(b.stuck.Load()))
	return b.sharedBroker.Publish(ctx, topic, data)
}

func (b *stuckBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	return b.sharedBroker.Subscribe(ctx, topic, func(data []byte) {
		time.Sleep(time.Duration(b.stuck.Load()))
		deliver(data)
	}, lost)
}

// A server that was frozen does not take the others for dead, whom it did not hear meanwhile.
func TestPresenceOfAFrozenServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local := pubsub.NewLocal()
		cfg := withTokens()
		cfg.Routers[0].Channels = []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated, Presence: true}}
		frozen := &stuckBroker{sharedBroker: sharedBroker{Local: local}}
		cfg.Broker = frozen
		first := mooncoretest.New(t, cfg)
		cfg.Broker = &sharedBroker{Local: local}
		second := mooncoretest.New(t, cfg)
		synctest.Wait()
		ann := first.As(mooncore.Identity{User: "ann", Tenant: "t"}).Dial()
		ann.Join("a")
		expectPresence(t, ann, []string{"ann"}, nil)
		second.As(mooncore.Identity{User: "bob", Tenant: "t"}).Dial().Join("a")
		expectPresence(t, ann, []string{"bob"}, nil)
		time.Sleep(time.Second)
		frozen.stuck.Store(int64(20 * time.Second))
		time.Sleep(2 * time.Second)
		frozen.stuck.Store(0)
		time.Sleep(time.Minute)
		ann.ExpectNothing()
	})
}

// Other servers are asked who is there when the first member comes, not with each event.
func TestPresenceAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, brokers := mortals(t, 2)
		watcher := servers[0].As(mooncore.Identity{User: "watcher", Tenant: "t"}).Dial()
		watcher.Join("a")
		expectPresence(t, watcher, []string{"watcher"}, nil)
		time.Sleep(time.Second)
		asked := brokers[0].questions.Load()
		for i := range 10 {
			user := fmt.Sprint("user", i)
			conn := servers[i%2].As(mooncore.Identity{User: user, Tenant: "t"}).Dial()
			conn.Join("a")
			expectPresence(t, watcher, []string{user}, nil)
			conn.Leave("a")
			expectPresence(t, watcher, nil, []string{user})
		}
		if n := brokers[0].questions.Load() - asked; n != 0 {
			t.Errorf("asked %d times", n)
		}
		if asked == 0 {
			t.Error("never asked")
		}
	})
}

// A revocation reaches the servers that did not hear of it when it was made.
func TestRevocationsThatWereMissed(t *testing.T) {
	for _, tt := range []struct {
		name    string
		servers int // that are there when it is made on the first
		harm    func(brokers []*mortalBroker)
		mend    func(brokers []*mortalBroker)
		fails   bool // revoking says so
	}{
		{"the other was cut off", 2,
			func(b []*mortalBroker) { b[1].dead.Store(true) }, func(b []*mortalBroker) { b[1].back() }, false},
		{"it was cut off itself", 2,
			func(b []*mortalBroker) { b[0].dead.Store(true) }, func(b []*mortalBroker) { b[0].back() }, false},
		{"it was away, and nothing was lost", 2,
			func(b []*mortalBroker) { b[0].away.Store(true) }, func(b []*mortalBroker) { b[0].away.Store(false) }, true},
		{"the other came back before it did", 2, func(b []*mortalBroker) {
			b[0].away.Store(true)
			b[1].away.Store(true)
		}, func(b []*mortalBroker) {
			b[1].back()
			time.Sleep(5 * time.Second)
			b[0].back()
		}, true},
		{"the other started later", 1, func([]*mortalBroker) {}, func([]*mortalBroker) {}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local := pubsub.NewLocal()
				var brokers []*mortalBroker
				var servers []*mooncore.Server
				start := func() {
					b := &mortalBroker{sharedBroker: sharedBroker{Local: local}}
					cfg := withTokens()
					cfg.Broker, cfg.Development, cfg.Logger = b, true, slog.New(slog.DiscardHandler)
					srv, err := mooncore.New(cfg)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						if err := srv.Shutdown(context.Background()); err != nil {
							t.Error(err)
						}
					})
					brokers, servers = append(brokers, b), append(servers, srv)
				}
				for range tt.servers {
					start()
				}
				token := func(user string) string {
					token, err := servers[0].Token(mooncore.Identity{User: user, Tenant: "t"})
					if err != nil {
						t.Fatal(err)
					}
					return token
				}
				revoked, kept := map[string]string{"ann": token("ann"), "bob": token("bob")}, token("cat")
				authenticate := func(srv *mooncore.Server, token string) (mooncore.Identity, error) {
					r := httptest.NewRequest("GET", "/", nil)
					r.Header.Set("Authorization", "Bearer "+token)
					return srv.Authenticate(r)
				}
				good := func(srv *mooncore.Server, token string) bool {
					_, err := authenticate(srv, token)
					return err == nil
				}
				ann, err := authenticate(servers[0], revoked["ann"])
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				tt.harm(brokers)
				for i := range 2000 { // more than a message holds
					if err := servers[0].RevokeToken(t.Context(), fmt.Sprint(i)); (err != nil) != tt.fails {
						t.Fatalf("RevokeToken: %v", err)
					}
				}
				for _, err := range []error{
					servers[0].RevokeToken(t.Context(), ann.TokenID), servers[0].Tenant("", "t").Revoke(t.Context(), "bob"),
				} {
					if (err != nil) != tt.fails || tt.fails && mooncore.CodeOf(err) != mooncore.CodeUnavailable {
						t.Errorf("revoking: %v", err)
					}
				}
				time.Sleep(10 * time.Second)
				for user, token := range revoked {
					if good(servers[0], token) {
						t.Errorf("the token of %s is good where it was revoked", user)
					}
					if len(servers) > 1 && !good(servers[1], token) {
						t.Errorf("the revocation for %s was not missed", user)
					}
				}
				tt.mend(brokers)
				if len(servers) < 2 {
					start()
				}
				time.Sleep(3 * time.Second)
				for user, token := range revoked {
					if good(servers[1], token) {
						t.Errorf("the token of %s is good on the other server", user)
					}
				}
				if !good(servers[1], kept) {
					t.Error("a token that was not revoked is refused")
				}
			})
		})
	}
}

// Who logged in again by other means than a token keeps the connection when an old revocation of the user comes late.
func TestLateRevocationSparesNewLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local := pubsub.NewLocal()
		cfg := withTokens()
		var brokers []*mortalBroker
		var servers []*mooncoretest.Server
		for range 2 {
			b := &mortalBroker{sharedBroker: sharedBroker{Local: local}}
			cfg.Broker = b
			brokers, servers = append(brokers, b), append(servers, mooncoretest.New(t, cfg))
		}
		synctest.Wait()
		brokers[1].dead.Store(true)
		if err := servers[0].Tenant("", "t").Revoke(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		brokers[1].back()
		conn := servers[1].As(mooncore.Identity{User: "ann", Tenant: "t"}).Dial()
		conn.Join("main")
		time.Sleep(10 * time.Second)
		conn.ExpectNothing()
	})
}
