package wspeers

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/bench/internal/wire"
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
	key, err := signingKey()
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
	serveUntilExit(func() error { return srv.Run(context.Background()) })
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
			fail(err)
		}
	}
	return Peer{WebSocket: ws, Publish: publish}, nil
}

// signingKey makes an RSA key, so that tokens are signed with RS256.
func signingKey() (mooncore.Secret, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return mooncore.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), err
}

// serveUntilExit runs serve in the background, and ends the process if it fails.
func serveUntilExit(serve func() error) {
	go func() {
		if err := serve(); err != nil {
			fail(err)
		}
	}()
}

func fail(err error) {
	os.Stderr.WriteString(err.Error() + "\n")
	os.Exit(1)
}
