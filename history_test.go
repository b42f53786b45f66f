package mooncore_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore"
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
