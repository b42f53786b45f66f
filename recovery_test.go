package mooncore_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/pubsub"
)

// TestRejoin has a client join that knows A3, when the feed of the channel stands at A5. Another client has joined before.
func TestRejoin(t *testing.T) {
	all := standing{Recovered: true, Offset: 5, Epoch: "A"}
	for _, tt := range []struct {
		name  string
		since standing
		do    func(l *fakeLog) // before it joins
		then  func(l *fakeLog) // while it joins, if that takes time
		want  standing
		come  []string
		took  time.Duration
	}{
		{"it missed some", standing{Offset: 3, Epoch: "A"}, nil, nil, all, positioned("A", 4, 5), 0},
		{"it missed all", standing{Offset: 0, Epoch: "A"}, nil, nil, all, positioned("A", 1, 2, 3, 4, 5), 0},
		{"it missed none", standing{Offset: 5, Epoch: "A"}, nil, nil, all, nil, 0},
		{"ahead", standing{Offset: 6, Epoch: "A"}, nil, nil, standing{Offset: 5, Epoch: "A", Reason: "ahead"}, nil, time.Second},
		{"as far ahead as can be", standing{Offset: 1<<64 - 1, Epoch: "A"}, nil, nil, standing{Offset: 5, Epoch: "A", Reason: "ahead"}, nil, time.Second},
		{"ahead of the feed, which is behind", standing{Offset: 6, Epoch: "A"}, func(l *fakeLog) { l.keep(7) }, nil,
			standing{Recovered: true, Offset: 7, Epoch: "A"}, positioned("A", 7), 100 * time.Millisecond},
		{"ahead of the feed, which missed what is gone", standing{Offset: 7, Epoch: "A"}, func(l *fakeLog) { l.set(func() { l.first = 7 }); l.keep(7) }, nil,
			standing{Recovered: true, Offset: 7, Epoch: "A"}, nil, 300 * time.Millisecond},
		{"ahead, and then it comes", standing{Offset: 6, Epoch: "A"}, nil, func(l *fakeLog) { l.append(6, 7) },
			standing{Recovered: true, Offset: 7, Epoch: "A"}, positioned("A", 7), 600 * time.Millisecond},
		{"ahead, while events come but the log does not answer", standing{Offset: 9, Epoch: "A"}, func(l *fakeLog) { l.fails() },
			func(l *fakeLog) { l.append(6, 7) }, standing{Offset: 7, Epoch: "A", Reason: "unavailable"}, nil, time.Second},
		{"another epoch", standing{Offset: 3, Epoch: "B"}, nil, nil, standing{Offset: 5, Epoch: "A", Reason: "epoch"}, nil, 0},
		{"another epoch, and the log does not answer", standing{Offset: 3, Epoch: "B"}, func(l *fakeLog) { l.fails() }, nil,
			standing{Offset: 5, Epoch: "A", Reason: "unavailable"}, nil, 5 * time.Second},
		{"another epoch, which the log has, and the feed has not", standing{Offset: 3, Epoch: "B"}, func(l *fakeLog) { l.append(6, 6); l.begin("B") }, nil,
			standing{Recovered: true, Offset: 6, Epoch: "B"}, positioned("B", 4, 5, 6), 1600 * time.Millisecond},
		{"another epoch, when a read of the one before is under way", standing{Offset: 3, Epoch: "B"}, func(l *fakeLog) {
			l.set(func() { l.hang, l.next = true, &pubsub.Page{Top: pubsub.Position{Epoch: "A", Offset: 5}} })
			l.lost()
			l.wait(10 * time.Millisecond)
			l.begin("B")
		}, func(l *fakeLog) { l.set(func() { l.hang = false }) },
			standing{Recovered: true, Offset: 5, Epoch: "B"}, positioned("B", 4, 5), 2100 * time.Millisecond},
		{"no epoch", standing{Offset: 3}, nil, nil, standing{Offset: 5, Epoch: "A", Reason: "epoch"}, nil, 0},
		{"trimmed", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) { l.set(func() { l.first = 4 }) }, nil,
			standing{Offset: 5, Epoch: "A", Reason: "trimmed"}, nil, 0},
		{"not quite trimmed", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) { l.set(func() { l.first = 3 }) }, nil, all, positioned("A", 4, 5), 0},
		{"all is gone", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) { l.set(func() { l.first = 5 }) }, nil,
			standing{Offset: 5, Epoch: "A", Reason: "trimmed"}, nil, time.Second},
		{"too large", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) { l.set(func() { l.size = 100_000 }) }, nil,
			standing{Offset: 5, Epoch: "A", Reason: "too_large"}, nil, 0},
		{"one large event", standing{Offset: 4, Epoch: "A"}, func(l *fakeLog) { l.set(func() { l.size = 100_000 }) }, nil, all,
			[]string{fmt.Sprintf(`["n","%s",{"offset":5,"epoch":"A","channel":"room"}]`, strings.Repeat("x", 100_000))}, 0},
		{"the log does not answer", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) { l.fails() }, nil,
			standing{Offset: 5, Epoch: "A", Reason: "unavailable"}, nil, 0},
		{"the log hangs", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) { l.set(func() { l.hang = true }) }, nil,
			standing{Offset: 5, Epoch: "A", Reason: "unavailable"}, nil, 2 * time.Second},
		{"it needs no log", standing{Offset: 5, Epoch: "A"}, func(l *fakeLog) { l.fails() }, nil, all, nil, 0},
		{"the log is behind", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) { l.set(func() { l.seen = 4 }) },
			func(l *fakeLog) { l.set(func() { l.seen = 0 }) }, all, positioned("A", 4, 5), 500 * time.Millisecond},
		{"the log stays behind", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) { l.set(func() { l.seen = 3 }) }, nil,
			standing{Offset: 5, Epoch: "A", Reason: "unavailable"}, nil, time.Second},
		{"the log has another epoch", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) { l.begin("B") }, nil,
			standing{Offset: 5, Epoch: "B", Reason: "epoch"}, nil, 1600 * time.Millisecond},
		{"events come meanwhile", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) { l.set(func() { l.hang = true }) },
			func(l *fakeLog) { l.append(6, 8); l.set(func() { l.hang = false }) },
			standing{Recovered: true, Offset: 8, Epoch: "A"}, positioned("A", 4, 5, 6, 7, 8), 500 * time.Millisecond},
		{"too many come meanwhile", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) { l.set(func() { l.hang = true }) },
			func(l *fakeLog) { l.append(6, 50); l.set(func() { l.hang = false }) },
			standing{Offset: 50, Epoch: "A", Reason: "trimmed"}, nil, 500 * time.Millisecond},
		{"one is no event", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) {
			l.set(func() {
				l.next = l.page(pubsub.Entry{Position: pubsub.Position{Epoch: "A", Offset: 4}}, l.entry("A", 5))
			})
		}, nil, standing{Offset: 5, Epoch: "A", Reason: "unavailable"}, nil, 0},
		{"a hole is open", standing{Offset: 3, Epoch: "A"}, func(l *fakeLog) { l.keep(8); l.set(func() { l.seen = 5 }); l.come("A", 8) }, nil,
			all, positioned("A", 4, 5), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLog()
				l.top = 5
				srv := l.serve(t)
				first := srv.dialHistory(aliceT)
				first.join("room", "")
				first.listen()
				time.Sleep(10 * time.Second) // what was remembered then is forgotten
				if tt.do != nil {
					tt.do(l)
				}
				if tt.then != nil {
					time.AfterFunc(450*time.Millisecond, func() { tt.then(l) }) // while nothing else happens
				}
				conn := srv.dialHistory(mooncore.Identity{User: "bob", Tenant: "t"})
				start := time.Now()
				if got := conn.join("room", tt.since.since()); got != tt.want {
					t.Errorf("%+v, want %+v", got, tt.want)
				}
				if took := time.Since(start); (took - tt.took).Abs() > 150*time.Millisecond {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				came := conn.listen()
				if got, code := came.take(); !slices.Equal(got, tt.come) || code != 0 {
					t.Errorf("got %.500q, close code %d, want %.500q", got, code, tt.come)
				}
			})
		})
	}
}

// Who asks again on the same connection is answered again, from where it says, and leaves once.
func TestJoinAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := serveInMemory(t, withHistory())
		conn := srv.dialHistory(aliceT)
		at := conn.join("room", "")
		srv.numbers("room", 1, 3)
		conn.expectEvents("room", at.Epoch, 1, 3)
		for _, from := range []uint64{1, 0, 3, 1} {
			since := standing{Offset: from, Epoch: at.Epoch}
			if got := conn.join("room", since.since()); got != (standing{Recovered: true, Offset: 3, Epoch: at.Epoch}) {
				t.Errorf("again from %d: %+v", from, got)
			}
			conn.expectEvents("room", at.Epoch, from+1, 3)
		}
		if got := conn.join("room", ""); got != (standing{Offset: 3, Epoch: at.Epoch, Reason: "no_since"}) {
			t.Errorf("again from nowhere: %+v", got)
		}
		srv.numbers("room", 4, 4)
		conn.expectEvents("room", at.Epoch, 4, 4)
		conn.expectNothing()
		if got := conn.ask(`["leave","room"]`); got != `["channel_list",["@alice"]]` {
			t.Errorf("after leave: %s", got)
		}
		srv.numbers("room", 5, 5)
		conn.expectNothing()
		if n := srv.Stats().History.Feeds; n != 0 {
			t.Errorf("%d feeds are left", n)
		}
		if got := conn.join("room", standing{Offset: 4, Epoch: at.Epoch}.since()); !got.Recovered {
			t.Errorf("after leave: %+v", got)
		}
		conn.expectEvents("room", at.Epoch, 5, 5)
	})
}

// What can't be recovered in one epoch can be in the next one.
func TestRejoinInTheNextEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		l.first, l.top = 4, 5
		srv := l.serve(t)
		conn := srv.dialHistory(aliceT)
		conn.join("room", "")
		time.Sleep(10 * time.Second) // what was remembered then is forgotten
		if got := conn.join("room", `{"since":{"offset":1,"epoch":"A"}}`); got.Reason != "trimmed" {
			t.Errorf("in the first: %+v", got)
		}
		conn.listen()
		l.set(func() { l.epoch, l.first = "B", 0 })
		l.lost()
		l.wait(10 * time.Second)
		if got := srv.dialHistory(aliceT).join("room", `{"since":{"offset":1,"epoch":"B"}}`); got != (standing{Recovered: true, Offset: 5, Epoch: "B"}) {
			t.Errorf("in the next: %+v", got)
		}
	})
}

// Of the events that come while clients join, none is missing behind where the channel stands as the join is told, and none comes again.
func TestJoinWhileEventsCome(t *testing.T) {
	const rounds, events = 200, 30
	srv := serve(t, withHistory())
	for round := range uint64(rounds) {
		var publisher sync.WaitGroup
		conn := srv.dialHistory(aliceT)
		conn.ask("ping")
		publisher.Go(func() { srv.numbers("room", round*events+1, (round+1)*events) })
		at := conn.join("room", "")
		conn.expectEvents("room", at.Epoch, at.Offset+1, (round+1)*events)
		publisher.Wait()
		conn.expectNothing()
		conn.ws.CloseNow()
	}
}

func TestJoinFrames(t *testing.T) {
	const since = `{"since":{"offset":1,"epoch":"A"}}`
	list := func(channels string) string { return `["channel_list",[` + channels + `"@alice"]]` }
	said := func(channel, reason string) string {
		return fmt.Sprintf(`["joined",%s,{"recovered":false,"offset":0,"epoch":"","reason":%q}]`, channel, reason)
	}
	const unknown = `["socket_error","unknown_message"]`
	cfg := withHistory()
	cfg.Limits.Channels = 3
	srv := serve(t, cfg)
	for _, tt := range []struct {
		frame string
		want  []string
	}{
		{`["join","news"]`, []string{list(`"news:default",`)}},
		{`["join","news",` + since + `]`, []string{list(`"news:default",`), said(`"news"`, "no_history")}},
		{`["join","news",{}]`, []string{list(`"news:default",`)}},
		{`["join","news",{"since":null}]`, []string{list(`"news:default",`)}},
		{`["join","news",{"more":1}]`, []string{list(`"news:default",`)}},
		{`["join","staff"]`, []string{list(""), said(`"staff"`, "refused")}},
		{`["join","staff",` + since + `]`, []string{list(""), said(`"staff"`, "refused")}},
		{`["join","@bob",` + since + `]`, []string{list(""), said(`"@bob"`, "refused")}},
		{`["join","@bob"]`, []string{list("")}},
		{`["join",7,` + since + `]`, []string{list(""), said(`7`, "refused")}},
		{`["join","a:b",` + since + `]`, []string{list(""), said(`"a:b"`, "refused")}},
		{`["join","roo\u006d",{"since":{"offset":1}}]`, []string{list(`"room:default",`),
			`["joined","roo\u006d",{"recovered":false,"offset":0,"epoch":"?","reason":"epoch"}]`}},
		{`["join","room",{"since":{"offset":1,"epoch":"A","more":1}}]`, []string{list(`"room:default",`),
			`["joined","room",{"recovered":false,"offset":0,"epoch":"?","reason":"epoch"}]`}},
		{`["join","room",{"since":7}]`, []string{unknown}},
		{`["join","room",{"since":[]}]`, []string{unknown}},
		{`["join","room",{"since":{}}]`, []string{unknown}},
		{`["join","room",{"since":{"epoch":"A"}}]`, []string{unknown}},
		{`["join","room",{"since":{"offset":null,"epoch":"A"}}]`, []string{unknown}},
		{`["join","room",{"since":{"offset":-1,"epoch":"A"}}]`, []string{unknown}},
		{`["join","room",{"since":{"offset":1.0,"epoch":"A"}}]`, []string{unknown}},
		{`["join","room",{"since":{"offset":1e3,"epoch":"A"}}]`, []string{unknown}},
		{`["join","room",{"since":{"offset":"1","epoch":"A"}}]`, []string{unknown}},
		{`["join","room",{"since":{"offset":18446744073709551616,"epoch":"A"}}]`, []string{unknown}},
		{`["join","room",{"since":{"offset":1,"epoch":7}}]`, []string{unknown}},
		{`["join","room",{"since":{"offset":1,"epoch":null}}]`, []string{unknown}},
		{`["join","room",{"since":{"Offset":1,"epoch":"A"}}]`, []string{unknown}},
		{`["join","room",{"Since":{"offset":1,"epoch":"A"}}]`, []string{unknown}},
		{`["join","room",7]`, []string{unknown}},
		{`["join","room",null]`, []string{unknown}},
		{`["join","room",` + since + `,7]`, []string{unknown}},
		{`["leave","room",` + since + `]`, []string{unknown}},
		{`["jwt","x",{}]`, []string{unknown}},
		{`["join"]`, []string{unknown}},
	} {
		conn := srv.dialHistory(aliceT)
		conn.send(tt.frame)
		for _, want := range tt.want {
			got, _ := conn.read()
			if before, after, ok := strings.Cut(want, "?"); ok && strings.HasPrefix(got, before) && strings.HasSuffix(got, after) {
				continue
			}
			if got != want {
				t.Errorf("%s: got %s, want %s", tt.frame, got, want)
			}
		}
		conn.expectNothing()
		conn.send("quit")
		conn.expectClose(1000)
	}
	t.Run("mooncore.v1", func(t *testing.T) {
		conn := srv.dialAs(aliceT)
		if got := conn.ask(`["join","room",` + since + `]`); got != unknown {
			t.Errorf("with a third element: %s", got)
		}
		if got := conn.ask(`["join","room"]`); got != list(`"room:default",`) {
			t.Errorf("without one: %s", got)
		}
		conn.expectNothing()
	})
	t.Run("a stranger", func(t *testing.T) {
		conn := srv.dial("Sec-WebSocket-Protocol", "mooncore.v1.history")
		if got := conn.join("room", since); got != (standing{Reason: "refused"}) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("too many channels", func(t *testing.T) {
		conn := srv.dialHistory(aliceT)
		conn.ask(`["join","a"]`)
		conn.ask(`["join","b"]`)
		if got := conn.join("room", since); got != (standing{Reason: "refused"}) {
			t.Errorf("%+v", got)
		}
	})
}

// FuzzSince sends any third element: it is answered, and never by a position that it did not name.
func FuzzSince(f *testing.F) {
	for _, seed := range []string{`{"since":{"offset":1,"epoch":"A"}}`, `{"since":null}`, `{}`, `{"since":{"offset":0,"offset":1}}`, `[`, `"\ud800"`, "\xff"} {
		f.Add(seed)
	}
	srv := serve(f, withHistory())
	conn := srv.dialHistory(aliceT)
	f.Fuzz(func(t *testing.T, third string) {
		conn.t = t
		conn.send(`["join","room",` + strings.ToValidUTF8(third, "?") + `]`)
		got, closed := conn.read()
		switch {
		case strings.HasPrefix(got, `["socket_error",`):
		case got == `["channel_list",["room:default","@alice"]]`:
			got, closed = conn.read()
			if !strings.HasPrefix(got, `["joined","room",{"recovered":false,"offset":0,`) {
				t.Errorf("%q: %s, close code %d", third, got, closed.Code)
			}
		default:
			t.Errorf("%q: %s, close code %d", third, got, closed.Code)
		}
	})
}

// Clients that come back at once, after a restart, share what is read.
func TestManyRejoin(t *testing.T) {
	const clients = 300
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		l.top = 5
		srv := l.serve(t)
		l.set(func() { l.hang = true })
		time.AfterFunc(time.Second, func() { l.set(func() { l.hang = false }) })
		var wg sync.WaitGroup
		for n := range clients {
			wg.Go(func() {
				since := uint64(n % 6)
				conn := srv.dialHistory(aliceT)
				if got := conn.join("room", standing{Offset: since, Epoch: "A"}.since()); got != (standing{Recovered: true, Offset: 5, Epoch: "A"}) {
					t.Errorf("%+v", got)
				}
				for offset := since + 1; offset <= 5; offset++ {
					conn.expect(positioned("A", offset)...)
				}
			})
		}
		wg.Wait()
		l.set(func() {
			if l.reads > 1+5 || l.most != 1 {
				t.Errorf("%d reads, %d at a time, for %d clients with 6 positions", l.reads, l.most, clients)
			}
		})
	})
}

// However many channels are joined at once, the log is read 64 times at a time at most.
func TestManyChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		srv := l.serve(t)
		l.set(func() { l.hang = true })
		time.AfterFunc(time.Second, func() { l.set(func() { l.hang = false }) })
		var wg sync.WaitGroup
		for n := range 100 {
			conn := srv.dialHistory(aliceT)
			wg.Go(func() { conn.join(fmt.Sprint("room", n), "") })
		}
		wg.Wait()
		l.set(func() {
			if l.reads != 100 || l.most != 64 {
				t.Errorf("%d reads, %d at a time", l.reads, l.most)
			}
		})
	})
}

// While a log hangs, many channels that catch up wait for each other. None gives up before it had its time to read.
func TestManyCatchUps(t *testing.T) {
	const channels = 7 * 64
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		cfg := withHistory()
		cfg.Broker = l
		cfg.Limits.IdleTimeout = -1
		cfg.Limits.Channels = channels + 1 // "@alice" is one
		srv, _ := serveInMemory(t, cfg)
		conn := srv.dialHistory(aliceT)
		for n := range channels {
			conn.join(fmt.Sprint("room", n), "")
		}
		came := conn.listen()
		l.keep(1)
		l.set(func() { l.hang = true })
		l.lost()
		l.wait(13 * time.Second) // each has read once or twice, for 2 s
		l.set(func() { l.hang = false })
		l.wait(5 * time.Second)
		got, _ := came.take()
		for _, frame := range got {
			if !strings.HasPrefix(frame, `["n",1,{`) {
				t.Fatalf("got %s", frame)
			}
		}
		if len(got) != channels {
			t.Errorf("%d events came", len(got))
		}
	})
}

// A log that does not answer refuses joins, and says so.
func TestJoinWithoutLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		srv := l.serve(t)
		l.fails()
		conn, plain := srv.dialHistory(aliceT), srv.dialAs(aliceT)
		if got := conn.join("room", ""); got != (standing{Reason: "refused"}) {
			t.Errorf("%+v", got)
		}
		if got := plain.ask(`["join","room"]`); got != `["channel_list",["@alice"]]` {
			t.Errorf("%s", got)
		}
		if n := srv.Stats().History.Feeds; n != 0 {
			t.Errorf("%d feeds are left", n)
		}
		l.set(func() { l.fail = nil })
		if got := conn.join("room", ""); got != (standing{Epoch: "A", Reason: "no_since"}) {
			t.Errorf("once it is back: %+v", got)
		}
	})
}

// However many clients join while the log fails, that is logged once a second.
func TestJoinWithoutLogIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		l.top = 5
		var log strings.Builder
		cfg := withHistory()
		cfg.Broker, cfg.Logger = l, slog.New(slog.NewTextHandler(&log, nil))
		srv, _ := serveInMemory(t, cfg)
		conn := srv.dialHistory(aliceT)
		conn.join("room", "")
		time.Sleep(10 * time.Second) // what was remembered then is forgotten
		l.fails()
		for range 20 {
			conn.join("room", `{"since":{"offset":3,"epoch":"A"}}`)
			conn.join("room2", "")
		}
		synctest.Wait()
		for _, message := range []string{"broker: history was not read", "broker: subscribe failed"} {
			if n := strings.Count(log.String(), message); n != 1 {
				t.Errorf("%q was logged %d times", message, n)
			}
		}
	})
}

// A client that asks and does not read is closed as any other.
func TestRecoveryOfASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		l.top, l.size = 5, 20_000
		srv := l.serve(t)
		conn := srv.dialHistory(aliceT)
		conn.send(`["join","room",{"since":{"offset":0,"epoch":"A"}}]`)
		conn.send(`["join","room",{"since":{"offset":0,"epoch":"A"}}]`)
		conn.send(`["join","room",{"since":{"offset":0,"epoch":"A"}}]`)
		synctest.Wait() // it reads nothing
		if stats := srv.Stats(); stats.History.Recovered != 3 {
			t.Errorf("stats: %+v", stats.History)
		}
		time.Sleep(10 * time.Second)
		if n := srv.Stats().Conns; n != 0 {
			t.Errorf("%d connections", n)
		}
	})
}

// Two apps that share a tenant share its channels, so also what they keep, whichever of them declares it.
func TestHistoryOfTwoApps(t *testing.T) {
	cfg := withTokens()
	cfg.Routers = []mooncore.Router{
		{App: "one", Channels: []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated}}},
		{App: "two", Channels: []mooncore.Channel{{Name: "room", Allow: mooncore.Authenticated, History: mooncore.History{Events: 2}}}},
	}
	srv := serve(t, cfg)
	one := srv.dialHistory(mooncore.Identity{User: "alice", Tenant: "t", App: "one"})
	two := srv.dialHistory(mooncore.Identity{User: "bob", Tenant: "t", App: "two"})
	at := one.join("room", "")
	if got := two.join("room", ""); got != at {
		t.Errorf("%+v and %+v", at, got)
	}
	for n, app := range []string{"one", "two"} {
		if err := srv.Tenant(app, "t").Publish(t.Context(), "n", n+1, mooncore.ToChannel("room")); err != nil {
			t.Fatal(err)
		}
	}
	one.expectEvents("room", at.Epoch, 1, 2)
	two.expectEvents("room", at.Epoch, 1, 2)
}

var _ pubsub.Log = (*fakeLog)(nil)
