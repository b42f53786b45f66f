package mooncore_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore"
)

func TestStats(t *testing.T) {
	cfg := withTokens()
	cfg.Limits.Conns = 2
	inside := make(chan mooncore.Stats, 1)
	cfg.Routers[0].Actions = append(cfg.Routers[0].Actions, returning("inside", func(ctx context.Context) (string, error) {
		inside <- mooncore.RequestFrom(ctx).Server().Stats()
		return "", nil
	}))
	srv := serve(t, cfg)
	expect := func(what string, got, want mooncore.Stats) {
		t.Helper()
		if got != want {
			t.Fatalf("%s: %+v, want %+v", what, got, want)
		}
	}
	expect("at first", srv.Stats(), mooncore.Stats{})

	alice := srv.dialAs(mooncore.Identity{User: "alice", Tenant: "t"})
	bob := srv.dialAs(mooncore.Identity{User: "bob", Tenant: "t"})
	alice.ask(`["join","main"]`)
	bob.ask(`["join","main"]`)
	srv.call("inside", "")
	expect("in a call", <-inside, mooncore.Stats{Calls: 1, Conns: 2})

	if s, resp := dialURL(t, "ws://"+srv.addr+"/ws", srv.client); s != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("a third connection: %v", resp.Status)
	}
	tenant := srv.Tenant("", "t")
	for _, to := range []mooncore.To{mooncore.ToChannel("main"), mooncore.ToChannel("main"), mooncore.ToUser("bob"), mooncore.ToUser("nobody")} {
		if err := tenant.Publish(t.Context(), "event", 1, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := tenant.Publish(t.Context(), "response", 1, mooncore.ToUser("bob")); err == nil {
		t.Fatal("a reserved event was published")
	}
	if err := srv.Conns()[0].Send("event", 1); err != nil {
		t.Fatal(err)
	}
	expect("after events", srv.Stats(), mooncore.Stats{Conns: 2, Refused: 1, Published: 4, Delivered: 6})

	expired := srv.token(mooncore.Identity{User: "alice", Expires: time.Now().Add(time.Second)})
	srv.call("mine", "", "Authorization", "Bearer nonsense")
	srv.request("GET", "/ws", "", "Authorization", "Bearer nonsense", "Connection", "Upgrade", "Upgrade", "websocket")
	alice.expect(`["event",1]`)
	srv.call("mine", "")
	eventually(t, "the token expires", func() bool {
		_, body := srv.call("mine", "", "Authorization", "Bearer "+expired)
		return strings.Contains(body, "Token expired")
	})
	expect("after bad tokens", srv.Stats(), mooncore.Stats{Conns: 2, Refused: 1, Published: 4, Delivered: 6, InvalidTokens: 2, ExpiredTokens: 1})
}

func TestStatsOfTokenFrames(t *testing.T) {
	srv := serve(t, withTokens())
	conn := srv.dial()
	conn.ask(`["jwt","nonsense"]`)
	if got := srv.Stats().InvalidTokens; got != 1 {
		t.Errorf("%d invalid tokens", got)
	}
}

func TestStatsWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := serveInMemory(t, mooncore.Config{Routers: catalogue(), DrainDelay: 3 * time.Second})
		if srv.Stats().Draining {
			t.Fatal("drains at first")
		}
		stopped := make(chan error)
		go func() { stopped <- srv.stop() }()
		time.Sleep(time.Second)
		if !srv.Stats().Draining {
			t.Error("does not drain in DrainDelay")
		}
		<-stopped
	})
}

// A route that an Extension adds where nobody listens is a mistake that would else show as missing metrics.
func TestInnerRoutesWithoutListener(t *testing.T) {
	for _, inner := range []string{"", "127.0.0.1:0"} {
		log, lines := logger()
		srv := serve(t, mooncore.Config{Routers: catalogue(), Logger: log, Inner: inner, Extensions: []mooncore.Extension{
			func(srv *mooncore.Server) error {
				srv.HandleInner("/metrics", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") }))
				return nil
			},
		}})
		srv.request("GET", "/livez", "")
		warnings := lines.records(t, "routes of the inner listener are not served: Config.Inner is empty")
		if got := len(warnings) == 1 && warnings[0]["routes"] == "/metrics"; got != (inner == "") {
			t.Errorf("Inner %q: %v", inner, warnings)
		}
	}
}
