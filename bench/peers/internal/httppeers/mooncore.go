package httppeers

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/bench/internal/wire"
	"github.com/mooncore/mooncore/bench/peers/internal/process"
)

type task struct {
	Title    string   `json:"title" validate:"required,max_length=200"`
	Note     string   `json:"note" validate:"max_length=2000"`
	Priority int      `json:"priority" validate:"between=1 5"`
	Done     bool     `json:"done"`
	Tags     []string `json:"tags" validate:"max_items=10"`
}

// startMooncore serves an action that decodes and validates a struct.
func startMooncore(ln net.Listener) (wire.HTTP, error) {
	return serveMooncore(ln, false, mooncore.Func(func(_ context.Context, in task) (task, error) { return in, nil }))
}

var raw = mooncore.Func(func(_ context.Context, params json.RawMessage) (json.RawMessage, error) { return params, nil })

// startMooncoreRaw serves one that takes its params as they came.
func startMooncoreRaw(ln net.Listener) (wire.HTTP, error) {
	return serveMooncore(ln, false, raw)
}

// startMooncoreRS256 serves the same for callers with a token, which is verified for each request.
func startMooncoreRS256(ln net.Listener) (wire.HTTP, error) { return serveMooncore(ln, true, raw) }

func serveMooncore(ln net.Listener, auth bool, h mooncore.Handler) (wire.HTTP, error) {
	allow := mooncore.Public
	if auth {
		allow = mooncore.Authenticated
	}
	key, err := process.SigningKey()
	if err != nil {
		return wire.HTTP{}, err
	}
	srv, err := mooncore.New(mooncore.Config{
		Listener: ln, Logger: slog.New(slog.DiscardHandler),
		JWT:     mooncore.JWTConfig{PrivateKey: key},
		Routers: []mooncore.Router{{Actions: []mooncore.Action{{Name: "task.create", Allow: allow, Handler: h}}}},
	})
	if err != nil {
		return wire.HTTP{}, err
	}
	process.ServeUntilExit(func() error { return srv.Run(context.Background()) })
	token, err := srv.Token(mooncore.Identity{User: "alice", Tenant: "acme"})
	if err != nil || !auth {
		return post("/run/task.create", ""), err
	}
	return post("/run/task.create", "", "Authorization: Bearer "+token), nil
}
