package redisbroker_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
)

const patience = 30 * time.Second

// eventually waits until ok reports true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) { // real time: of a Redis server
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

func health(srv *mooncoretest.Server, path string) int {
	w := httptest.NewRecorder()
	srv.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code
}

// TestServers is what clients of two servers see while Redis is killed and comes back.
func TestServers(t *testing.T) {
	redis := redisServer(t)
	var servers []*mooncoretest.Server
	for range 2 {
		servers = append(servers, mooncoretest.New(t, mooncore.Config{
			Broker: connect(t, redis.Addr()),
			Routers: []mooncore.Router{{Actions: []mooncore.Action{
				{Name: "hello", Allow: mooncore.Public, Handler: mooncore.Func(hello)},
			}}},
		}))
	}
	dial := func() (conns []*mooncoretest.Conn) {
		for i, user := range []string{"ann", "bob"} {
			conn := servers[i].As(mooncore.Identity{User: user, Tenant: "t"}).Dial()
			conn.Join("main")
			conns = append(conns, conn)
		}
		return conns
	}
	publish := func() error {
		return servers[1].Tenant("", "t").Publish(t.Context(), "news", 1, mooncore.ToChannel("main"))
	}
	conns := dial()
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	for _, conn := range conns {
		conn.Expect("news", nil)
	}
	eventually(t, "bob is not among the members of ann's server", func() bool {
		members, err := servers[0].Tenant("", "t").Members(t.Context(), "main")
		return err == nil && len(members) == 2
	})

	redis.Kill()
	eventually(t, "publishing doesn't fail", func() bool { return mooncore.CodeOf(publish()) == mooncore.CodeUnavailable })
	for i, srv := range servers {
		eventually(t, "ready without Redis", func() bool { return health(srv, "/readyz") == http.StatusServiceUnavailable })
		if got := health(srv, "/livez"); got != http.StatusOK {
			t.Errorf("server %d: /livez says %d", i, got)
		}
		if err := srv.As(mooncore.Identity{}).Call("hello", struct{}{}, nil); err != nil {
			t.Errorf("server %d: a call that publishes nothing: %v", i, err)
		}
	}
	redis.Restart()
	for i, conn := range conns {
		if code := conn.Closed(); code != 1012 {
			t.Errorf("connection %d closed with %d, want 1012", i, code)
		}
	}
	for _, srv := range servers {
		eventually(t, "not ready again", func() bool { return health(srv, "/readyz") == http.StatusOK })
	}
	conns = dial()
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	for _, conn := range conns {
		conn.Expect("news", nil)
	}
}

func hello(context.Context, struct{}) (string, error) { return "hello", nil }

// TestServersHistory has a client move from a server to another one, which gives it what it missed, and keep its connection when Redis
// is killed and forgets.
func TestServersHistory(t *testing.T) {
	redis := redisServer(t)
	var servers []*mooncoretest.Server
	for range 2 {
		servers = append(servers, mooncoretest.New(t, mooncore.Config{
			Broker: connect(t, redis.Addr()),
			Routers: []mooncore.Router{{Channels: []mooncore.Channel{
				{Name: "room", Allow: mooncore.Authenticated, History: mooncore.History{Events: 100}},
			}}},
		}))
	}
	sent := 0
	publish := func() error {
		return servers[sent%2].Tenant("", "t").Publish(t.Context(), "n", sent, mooncore.ToChannel("room"))
	}
	send := func(n int) {
		t.Helper()
		for range n {
			sent++
			if err := publish(); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect := func(conn *mooncoretest.Conn, from, to int) {
		t.Helper()
		for want := from; want <= to; want++ {
			var n int
			if conn.Expect("n", &n); n != want {
				t.Errorf("event %d, want %d", n, want)
			}
		}
	}
	dial := func(server int) *mooncoretest.Conn {
		return servers[server].As(mooncore.Identity{User: "ann", Tenant: "t"}).Dial("mooncore.v1.history")
	}

	conn := dial(0)
	conn.Join("room")
	send(3)
	expect(conn, 1, 3)
	seen := conn.Position()
	conn.Send("quit")
	conn.Closed()
	send(20)
	conn = dial(1)
	if joined := conn.JoinSince("room", seen); !joined.Recovered {
		t.Errorf("joined: %+v, want recovered", joined)
	}
	send(1)
	expect(conn, 4, 24)
	seen = conn.Position()

	redis.Kill()
	redis.Restart()
	for channel := ""; channel != "room"; { // it is told of its own channel too
		conn.Expect("lost", &channel)
	}
	if joined := conn.JoinSince("room", seen); joined.Recovered || joined.Reason != "epoch" {
		t.Errorf("joined: %+v, want the reason epoch", joined)
	}
	send(1)
	expect(conn, 25, 25)
	if at := conn.Position(); at.Offset != 1 || at.Epoch == seen.Epoch {
		t.Errorf("the first event is at %+v after %+v", at, seen)
	}
}
