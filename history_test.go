package mooncore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/race"
	"github.com/mooncore/mooncore/internal/wsraw"
	"github.com/mooncore/mooncore/pubsub"
)

// withHistory keeps 5 events for a minute in channels whose names begin with "room", and none in others.
func withHistory() mooncore.Config {
	cfg := withTokens()
	cfg.Routers[0].Channels = []mooncore.Channel{
		{Name: "room*", Allow: mooncore.Authenticated, History: mooncore.History{Events: 5, Age: time.Minute}},
		{Name: "staff", Allow: mooncore.Roles("admin"), History: mooncore.History{Events: 5}},
		{Name: "*", Allow: mooncore.Authenticated},
	}
	return cfg
}

var aliceT = mooncore.Identity{User: "alice", Tenant: "t"}

// dialHistory opens a WebSocket of the sub-protocol that has positions.
func (l *live) dialHistory(id mooncore.Identity) *socket {
	l.t.Helper()
	return l.dial("Authorization", "Bearer "+l.token(id), "Sec-WebSocket-Protocol", "mooncore.v1.history, mooncore.v1")
}

// A standing is what ["joined", c, …] says.
type standing struct {
	Recovered bool   `json:"recovered"`
	Offset    uint64 `json:"offset"`
	Epoch     string `json:"epoch"`
	Reason    string `json:"reason"`
}

// since is a join's third element that names the position.
func (s standing) since() string {
	return fmt.Sprintf(`{"since":{"offset":%d,"epoch":%q}}`, s.Offset, s.Epoch)
}

// join joins a channel, with a third element unless that is empty, and returns what the server says.
func (s *socket) join(channel, third string) standing {
	s.t.Helper()
	frame := fmt.Sprintf(`["join",%q]`, channel)
	if third != "" {
		frame = fmt.Sprintf(`["join",%q,%s]`, channel, third)
	}
	if got := s.ask(frame); !strings.HasPrefix(got, `["channel_list",`) {
		s.t.Fatalf("%s: %s", frame, got)
	}
	got, closed := s.read()
	var name, of string
	var at standing
	if err := json.Unmarshal([]byte(got), &[]any{&name, &of, &at}); err != nil || name != "joined" || of != channel {
		s.t.Fatalf("%s: %s, close code %d, error %v", frame, got, closed.Code, err)
	}
	return at
}

// expectEvents reads events "n" of a channel with the payloads and offsets from..to.
func (s *socket) expectEvents(channel, epoch string, from, to uint64) {
	s.t.Helper()
	for n := from; n <= to; n++ {
		s.expect(fmt.Sprintf(`["n",%d,{"offset":%d,"epoch":%q,"channel":%q}]`, n, n, epoch, channel))
	}
}

// expectNothing fails if something came.
func (s *socket) expectNothing() {
	s.t.Helper()
	if got := s.ask("ping"); got != "pong" {
		s.t.Fatalf("got %s, want nothing", got)
	}
}

// numbers publishes events "n" with the payloads from..to.
func (l *live) numbers(channel string, from, to uint64) {
	l.t.Helper()
	for n := from; n <= to; n++ {
		if err := l.Tenant("", "t").Publish(l.t.Context(), "n", n, mooncore.ToChannel(channel)); err != nil {
			l.t.Fatal(err)
		}
	}
}

// A client that was cut off gets what it missed, then what is live; others are as ever.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := serveInMemory(t, withHistory())
		plain, first := srv.dialAs(aliceT), srv.dialHistory(aliceT)
		if got := first.ws.Subprotocol(); got != "mooncore.v1.history" {
			t.Errorf("sub-protocol %q", got)
		}
		plain.ask(`["join","room"]`)
		at := first.join("room", "")
		if at != (standing{Epoch: at.Epoch, Reason: "no_since"}) || at.Epoch == "" {
			t.Errorf("at first: %+v", at)
		}
		srv.numbers("room", 1, 3)
		first.expectEvents("room", at.Epoch, 1, 3)
		plain.expect(`["n",1]`, `["n",2]`, `["n",3]`)
		for _, tt := range []struct {
			name  string
			since standing
			want  standing
			from  uint64 // of the events that come
		}{
			{"missed two", standing{Offset: 1, Epoch: at.Epoch}, standing{Recovered: true, Offset: 3}, 2},
			{"missed all", standing{Offset: 0, Epoch: at.Epoch}, standing{Recovered: true, Offset: 3}, 1},
			{"missed nothing", standing{Offset: 3, Epoch: at.Epoch}, standing{Recovered: true, Offset: 3}, 4},
			{"ahead", standing{Offset: 4, Epoch: at.Epoch}, standing{Offset: 3, Reason: "ahead"}, 4},
			{"another epoch", standing{Offset: 1, Epoch: "ABC"}, standing{Offset: 3, Reason: "epoch"}, 4},
			{"no epoch", standing{Offset: 1}, standing{Offset: 3, Reason: "epoch"}, 4},
		} {
			conn := srv.dialHistory(aliceT)
			tt.want.Epoch = at.Epoch
			if got := conn.join("room", tt.since.since()); got != tt.want {
				t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
			}
			conn.expectEvents("room", at.Epoch, tt.from, 3)
			conn.expectNothing()
			conn.send("quit")
			conn.expectClose(1000)
		}
		srv.numbers("room", 4, 7)
		first.expectEvents("room", at.Epoch, 4, 7)
		late := srv.dialHistory(aliceT)
		if got := late.join("room", at.since()); got != (standing{Offset: 7, Epoch: at.Epoch, Reason: "trimmed"}) {
			t.Errorf("after seven events: %+v", got)
		}
		srv.numbers("room", 8, 8)
		late.expectEvents("room", at.Epoch, 8, 8)
		if got := srv.Stats().History; got != (mooncore.HistoryStats{Feeds: 1, Recovered: 3, Ahead: 1, Epoch: 2, Trimmed: 1}) {
			t.Errorf("stats: %+v", got)
		}
	})
}

// A plainBroker keeps nothing.
type plainBroker struct{ pubsub.Broker }

func TestHistoryConfig(t *testing.T) {
	for _, tt := range []struct {
		name    string
		history mooncore.History
		broker  pubsub.Broker
		want    string // of the error; empty for none
	}{
		{"none", mooncore.History{}, nil, ""},
		{"none, with any broker", mooncore.History{}, plainBroker{pubsub.NewLocal()}, ""},
		{"events alone", mooncore.History{Events: 1}, nil, ""},
		{"the most", mooncore.History{Events: 10_000, Age: 168 * time.Hour}, nil, ""},
		{"with a log", mooncore.History{Events: 1, Age: time.Second}, pubsub.NewLocal(), ""},
		{"too many events", mooncore.History{Events: 10_001}, nil, "Routers[0].Channels[0].History.Events: 10001 is not 1 to 10000"},
		{"negative", mooncore.History{Events: -1}, nil, "Routers[0].Channels[0].History.Events: -1 is not"},
		{"age alone", mooncore.History{Age: time.Hour}, nil, "Routers[0].Channels[0].History.Events: 0 is not"},
		{"too young", mooncore.History{Events: 1, Age: time.Second - 1}, nil, "Routers[0].Channels[0].History.Age: 999.999999ms is not"},
		{"too old", mooncore.History{Events: 1, Age: 168*time.Hour + 1}, nil, "Routers[0].Channels[0].History.Age: 168h0m0.000000001s is not"},
		{"a broker that keeps nothing", mooncore.History{Events: 1}, plainBroker{pubsub.NewLocal()},
			"Routers[0].Channels[0].History: Config.Broker, a mooncore_test.plainBroker, keeps nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := withTokens()
			cfg.Development = true
			cfg.Broker = tt.broker
			cfg.Routers[0].Channels = []mooncore.Channel{{Name: "room", Allow: mooncore.Authenticated, History: tt.history}}
			srv, err := mooncore.New(cfg)
			if err == nil {
				defer srv.Shutdown(t.Context())
			}
			if got := fmt.Sprint(err); (err != nil) != (tt.want != "") || !strings.Contains(got, tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// A broker that New can't subscribe to is an error.
func TestNewWithoutBroker(t *testing.T) {
	cfg := withHistory()
	cfg.Development = true
	cfg.Broker = refusingLog{pubsub.NewLocal()}
	if _, err := mooncore.New(cfg); !errors.Is(err, pubsub.ErrAway) {
		t.Errorf("error %v", err)
	}
}

type refusingLog struct{ *pubsub.Local }

func (refusingLog) Subscribe(context.Context, string, func([]byte), func()) (func(), error) {
	return nil, pubsub.ErrAway
}

// What goes to a channel with History goes to it alone.
func TestPublishToHistoryAlone(t *testing.T) {
	srv := serve(t, withHistory())
	tenant := srv.Tenant("", "t")
	room, news, user := mooncore.ToChannel("room"), mooncore.ToChannel("news"), mooncore.ToUser("alice")
	for _, tt := range []struct {
		name string
		to   []mooncore.To
		ok   bool
	}{
		{"alone", []mooncore.To{room}, true},
		{"of another scope", []mooncore.To{room.Scope("s")}, true},
		{"with another", []mooncore.To{room, news}, false},
		{"behind another", []mooncore.To{news, room}, false},
		{"with a user", []mooncore.To{user, room}, false},
		{"twice", []mooncore.To{room, room}, false},
		{"without one", []mooncore.To{news, user}, true},
		{"a user of that name", []mooncore.To{mooncore.ToUser("room"), news}, true},
	} {
		err := tenant.Publish(t.Context(), "event", 1, tt.to[0], tt.to[1:]...)
		if (err == nil) != tt.ok || err != nil && (mooncore.CodeOf(err) != mooncore.CodeInvalidArgument || !strings.Contains(err.Error(), `"room"`)) {
			t.Errorf("%s: error %v, want ok %t", tt.name, err, tt.ok)
		}
	}
}

// Unavailable says that nothing was appended. After another error nobody knows.
func TestPublishWithoutLog(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want mooncore.Code
	}{
		{pubsub.ErrAway, mooncore.CodeUnavailable},
		{errors.New("the answer was lost"), mooncore.CodeInternal},
		{fmt.Errorf("no answer: %w", context.DeadlineExceeded), mooncore.CodeDeadlineExceeded},
	} {
		cfg := withHistory()
		cfg.Broker = &failingLog{Local: pubsub.NewLocal(), err: tt.err}
		srv := serve(t, cfg)
		before := srv.Stats().Published
		err := srv.Tenant("", "t").Publish(t.Context(), "event", 1, mooncore.ToChannel("room"))
		if mooncore.CodeOf(err) != tt.want || !errors.Is(err, tt.err) || srv.Stats().Published != before {
			t.Errorf("%v: error %v, %d published", tt.err, err, srv.Stats().Published-before)
		}
	}
}

type failingLog struct {
	*pubsub.Local
	err error
}

func (l *failingLog) Append(context.Context, string, []byte, pubsub.Keep) (pubsub.Position, error) {
	return pubsub.Position{}, l.err
}

// Scopes, tenants and pools keep their own events, and presence has no position.
func TestHistoryIsolation(t *testing.T) {
	cfg := withHistory()
	cfg.Routers[0].Channels[0].Presence = true
	srv := serve(t, cfg)
	conns := map[string]*socket{}
	epochs := map[string]bool{}
	for _, id := range []mooncore.Identity{
		{User: "alice", Tenant: "t"}, {User: "alice", Tenant: "t", Scope: "s"}, {User: "alice", Tenant: "t2"},
	} {
		conn := srv.dialHistory(id)
		at := conn.join("room", "")
		epochs[at.Epoch] = true
		conn.expect(`["presence",{"channel":"room","joined":["alice"],"left":[]}]`)
		conns[id.Tenant+"/"+id.Scope] = conn
	}
	if len(epochs) != 3 {
		t.Errorf("%d epochs of 3 channels", len(epochs))
	}
	srv.numbers("room", 1, 1)
	if got, _ := conns["t/"].read(); !strings.HasPrefix(got, `["n",1,{"offset":1,`) {
		t.Errorf("got %s", got)
	}
	for _, conn := range conns {
		conn.expectNothing()
	}
}

// A token that is refreshed keeps a channel and its feed; one of another user leaves it.
func TestHistoryOfARefreshedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := serveInMemory(t, withHistory())
		conn := srv.dialHistory(mooncore.Identity{User: "alice", Tenant: "t", Expires: time.Now().Add(time.Minute)})
		at := conn.join("room", "")
		srv.numbers("room", 1, 1)
		conn.expectEvents("room", at.Epoch, 1, 1)
		if got := conn.ask(fmt.Sprintf(`["jwt",%q]`, srv.token(aliceT))); !strings.HasPrefix(got, `["jwt",{`) {
			t.Fatalf("got %s", got)
		}
		srv.numbers("room", 2, 2)
		conn.expectEvents("room", at.Epoch, 2, 2)
		if n := srv.Stats().History.Feeds; n != 1 {
			t.Errorf("%d feeds", n)
		}
		if got := conn.ask(fmt.Sprintf(`["jwt",%q]`, srv.token(mooncore.Identity{User: "bob", Tenant: "t"}))); !strings.HasPrefix(got, `["jwt",{`) {
			t.Fatalf("got %s", got)
		}
		srv.numbers("room", 3, 3)
		conn.expectNothing()
		if n := srv.Stats().History.Feeds; n != 0 {
			t.Errorf("%d feeds are left", n)
		}
	})
}

// An event that comes when a token has expired is dropped. A fresh token that comes at that moment must not keep the channel as if nothing
// were missing.
func TestHistoryOfATokenRefreshedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var srv *live
		var expires time.Time
		refreshing := false
		cfg := withHistory()
		cfg.Routers[0].Channels[0].Join = func(context.Context, mooncore.Identity, string) error {
			if refreshing {
				time.Sleep(time.Until(expires))
				srv.numbers("room", 1, 1)
			}
			return nil
		}
		srv, _ = serveInMemory(t, cfg)
		for range 20 { // what happens at the same time comes in any order
			refreshing, expires = false, time.Now().Add(time.Minute)
			conn := srv.dialHistory(mooncore.Identity{User: "alice", Tenant: "t", Expires: expires})
			conn.join("room", "")
			refreshing = true
			conn.send(fmt.Sprintf(`["jwt",%q]`, srv.token(aliceT)))
			conn.expect(`["jwt","jwt_expired"]`)
			if got, _ := conn.read(); !strings.HasPrefix(got, `["jwt",{`) {
				t.Fatalf("got %s", got)
			}
			if got := conn.ask("channel_list"); got != `["channel_list",["@alice"]]` {
				t.Errorf("got %s", got)
			}
			conn.send("quit")
			conn.expectClose(1000)
			synctest.Wait()
			if n := srv.Stats().History.Feeds; n != 0 {
				t.Fatalf("%d feeds are left", n)
			}
		}
	})
}

// An action's events come before its response, also those that are kept.
func TestHistoryBeforeTheResponse(t *testing.T) {
	cfg := withHistory()
	cfg.Routers[0].Actions = append(cfg.Routers[0].Actions, mooncore.Action{
		Name: "tell", Allow: mooncore.Authenticated,
		Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (int, error) {
			return 7, mooncore.RequestFrom(ctx).Tenant().Publish(ctx, "n", 1, mooncore.ToChannel("room"))
		}),
	})
	srv := serve(t, cfg)
	conn := srv.dialHistory(aliceT)
	at := conn.join("room", "")
	conn.send(`{"action":"tell"}`)
	conn.expectEvents("room", at.Epoch, 1, 1)
	conn.expect(`["response",7,null]`)
}

// A program that puts a connection into a channel tells the client nothing; events have positions all the same.
func TestConnJoinOfHistory(t *testing.T) {
	srv := serve(t, withHistory())
	conn := srv.dialHistory(aliceT)
	conn.ask("ping")
	if err := srv.Conns()[0].Join(t.Context(), "room"); err != nil {
		t.Fatal(err)
	}
	conn.expectNothing()
	srv.numbers("room", 1, 1)
	if got, _ := conn.read(); !strings.HasPrefix(got, `["n",1,{"offset":1,"epoch":"`) {
		t.Errorf("got %s", got)
	}
}

// An event is framed twice at most, however many members of either kind a channel has.
func TestHistoryAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("pools lose things under the race detector")
	}
	srv := serve(t, withHistory())
	header := "Authorization: Bearer " + srv.token(aliceT)
	join := func(protocol string) {
		conn, err := net.Dial("tcp", srv.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		client, err := wsraw.Client(conn, wsraw.Handshake(srv.addr, "/ws", header, "Sec-WebSocket-Protocol: "+protocol))
		if err != nil {
			t.Fatal(err)
		}
		if err := client.SendText(`["join","room"]`); err != nil {
			t.Fatal(err)
		}
		if got := client.Next(); got.Err != nil || !strings.Contains(string(got.Payload), "room:default") {
			t.Fatalf("%s, %v", got.Payload, got.Err)
		}
		go io.Copy(io.Discard, conn) // until it is closed
	}
	payload := strings.Repeat("x", 1000)
	publish := func() float64 {
		return testing.AllocsPerRun(200, func() {
			if err := srv.Tenant("", "t").Publish(t.Context(), "event", payload, mooncore.ToChannel("room")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the queues are empty", func() bool {
				return !slices.ContainsFunc(srv.Conns(), func(c *mooncore.Conn) bool { return c.Queued() > 0 })
			})
		})
	}
	join("mooncore.v1")
	join("mooncore.v1.history")
	few := publish()
	for range 20 {
		join("mooncore.v1")
		join("mooncore.v1.history")
	}
	if many := publish(); many > few+20 { // half of one a member: waiting allocates too
		t.Errorf("%v allocations for 42 members, %v for 2", many, few)
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, channel := range []string{"news", "room"} {
		b.Run(channel, func(b *testing.B) {
			srv := serve(b, withHistory())
			conn := srv.dialAs(aliceT)
			conn.ask(`["join","` + channel + `"]`)
			go func() {
				for {
					if _, _, err := conn.ws.Read(context.Background()); err != nil {
						return
					}
				}
			}()
			b.ReportAllocs()
			for b.Loop() {
				if err := srv.Tenant("", "t").Publish(b.Context(), "event", 1, mooncore.ToChannel(channel)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
