//go:build unix

// Package nodes tests whole servers that a broker joins: what they do to each other's users, and what clients are told while servers, each
// in a process of its own, are harmed.
package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/faults"
)

// env makes a test binary a node. Its value is a config.
const env = "MOONCORE_TEST_NODE"

type config struct {
	Addr   string // where clients come to
	Broker string // what connect gets
}

// Main makes the process a node, if it is meant to be one, whose broker connect makes. Else it does nothing. It belongs at the
// beginning of a TestMain.
func Main(connect func(text string) (pubsub.Broker, error)) {
	text := os.Getenv(env)
	if text == "" {
		return
	}
	if err := serve(text, connect); err != nil {
		slog.Error("node", "cause", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(text string, connect func(text string) (pubsub.Broker, error)) error {
	var c config
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	broker, err := connect(c.Broker)
	if err != nil {
		return err
	}
	srv, err := mooncore.New(mooncore.Config{
		Addr: c.Addr, Node: c.Addr, Broker: broker, Development: true, Authenticate: whoever,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Routers: []mooncore.Router{{
			Channels: []mooncore.Channel{{Name: room, Allow: mooncore.Authenticated, Presence: true}},
			Actions: []mooncore.Action{{
				Name: "members", Allow: mooncore.Authenticated,
				Handler: mooncore.Func(listMembers),
			}},
		}},
	})
	if err != nil {
		return err
	}
	return srv.Run(context.Background())
}

// A member is where a user is.
type member struct {
	Conns int
	Nodes []string // by their addresses, sorted
}

func listMembers(ctx context.Context, _ struct{}) (map[string]member, error) {
	list, err := mooncore.RequestFrom(ctx).Tenant().Members(ctx, room)
	if err != nil {
		return nil, err
	}
	members := map[string]member{}
	for _, m := range list {
		members[m.User] = member{m.Conns, m.Nodes}
	}
	return members, nil
}

// whoever believes a client who it is.
func whoever(r *http.Request) (mooncore.Identity, error) {
	user, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return mooncore.Identity{}, errors.New("no user")
	}
	return mooncore.Identity{User: user, Tenant: "t"}, nil
}

// start starts a node of the test binary.
func start(t testing.TB, p Place) *faults.Process {
	t.Helper()
	text, err := json.Marshal(config{p.Addr, p.Broker})
	if err != nil {
		t.Fatal(err)
	}
	return faults.Start(t, p.Addr, func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), env+"="+string(text))
		return p.Host.On(cmd)
	})
}
