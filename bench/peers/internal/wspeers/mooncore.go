package wspeers

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"strings"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/bench/internal/wire"
	"github.com/mooncore/mooncore/bench/peers/internal/process"
)

type message struct {
	Room string `json:"room" validate:"required,max_length=64"`
	Text string `json:"text" validate:"required,max_length=500"`
	N    int    `json:"n"`
}

// startMooncore serves an action "echo" that returns its params as they came.
func startMooncore(ln net.Listener, o Options) (Peer, error) {
	echo := mooncore.Func(func(_ context.Context, params json.RawMessage) (json.RawMessage, error) { return params, nil })
	return serveMooncore(ln, o, echo, request)
}

// startMooncoreTyped serves one that decodes and validates a struct, and returns it.
func startMooncoreTyped(ln net.Listener, o Options) (Peer, error) {
	echo := mooncore.Func(func(_ context.Context, in message) (message, error) { return in, nil })
	_, fields, _ := strings.Cut(request, `"room"`)
	return serveMooncore(ln, o, echo, `{"room"`+fields)
}

func serveMooncore(ln net.Listener, o Options, echo mooncore.Handler, result string) (Peer, error) {
	key, err := process.SigningKey()
	if err != nil {
		return Peer{}, err
	}
	srv, err := mooncore.New(mooncore.Config{
		Listener: ln, Logger: slog.New(slog.DiscardHandler), Compression: o.Deflate,
		JWT:     mooncore.JWTConfig{PrivateKey: key},
		Limits:  mooncore.Limits{Conns: -1},
		Routers: []mooncore.Router{{Actions: []mooncore.Action{{Name: "echo", Allow: mooncore.Public, Handler: echo}}}},
	})
	if err != nil {
		return Peer{}, err
	}
	process.ServeUntilExit(func() error { return srv.Run(context.Background()) })
	ws := wire.WebSocket{
		Path: "/ws", Request: request, Response: `["response",` + result + `,` + wire.ID + `]`,
		Join:   []wire.Step{{Send: `["join","main"]`, Expect: `main:default`}},
		Before: `["news",`, After: `]`,
	}
	if o.Auth || o.Member {
		token, err := srv.Token(mooncore.Identity{User: "alice", Tenant: "acme"})
		if err != nil {
			return Peer{}, err
		}
		ws.Header = []string{"Authorization: Bearer " + token}
	}
	publish := func(payload []byte) {
		err := srv.Tenant("", "acme").Publish(context.Background(), "news", json.RawMessage(payload), mooncore.ToChannel("main"))
		if err != nil {
			process.Fail(err)
		}
	}
	return Peer{WebSocket: ws, Publish: publish}, nil
}
