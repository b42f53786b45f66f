package clusterpeers

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"sync"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/bench/internal/traffic"
	"github.com/mooncore/mooncore/bench/internal/wire"
	"github.com/mooncore/mooncore/bench/peers/internal/process"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/natsbroker"
	"github.com/mooncore/mooncore/pubsub/natsbroker/embedded"
	"github.com/mooncore/mooncore/pubsub/redisbroker"
)

// A connector returns a broker, and what the second node joins.
type connector func(Config) (b pubsub.Broker, join string, err error)

func connectRedis(c Config) (pubsub.Broker, string, error) {
	b, err := redisbroker.Connect("redis://" + c.Engine)
	return b, "", err
}

func connectNATS(c Config) (pubsub.Broker, string, error) {
	b, err := natsbroker.Connect("nats://" + c.Engine)
	return b, "", err
}

func startEmbedded(c Config) (pubsub.Broker, string, error) {
	o := embedded.Options{Addr: "127.0.0.1:0"}
	if c.Join != "" {
		o.Peers = []string{c.Join}
	}
	b, err := embedded.Start(o)
	if err != nil {
		return nil, "", err
	}
	return b, b.Addr(), nil
}

// startBroker starts a pubsub.Broker alone.
func startBroker(connect connector) func(Config) (Node, error) {
	return func(c Config) (Node, error) {
		b, join, err := connect(c)
		if err != nil {
			return Node{}, err
		}
		topics := make([]string, c.Channels)
		for i := range topics {
			topics[i] = pubsub.Topic("bench", traffic.Name(i))
		}
		if c.Deliver != nil {
			err = each(topics, func(i int) error {
				_, err := b.Subscribe(context.Background(), topics[i], func(data []byte) { c.Deliver(i, data) }, lost)
				return err
			})
		}
		publish := func(channel int, payload []byte) error {
			return b.Publish(context.Background(), topics[channel], payload)
		}
		return Node{Publish: publish, Join: join}, err
	}
}

// lost needs to do nothing: that events are missing is found anyway.
func lost() {}

// each calls subscribe for the index of each topic, for many at a time, and returns an error of one.
func each(topics []string, subscribe func(i int) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	for i := range topics {
		wg.Go(func() {
			if err := subscribe(i); err != nil {
				mu.Lock()
				first = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return first
}

// startServer starts a server with a broker.
func startServer(connect connector) func(Config) (Node, error) {
	return func(c Config) (Node, error) {
		b, join, err := connect(c)
		if err != nil {
			return Node{}, err
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return Node{}, err
		}
		key, err := process.SigningKey()
		if err != nil {
			return Node{}, err
		}
		srv, err := mooncore.New(mooncore.Config{
			Listener: ln, Logger: slog.New(slog.DiscardHandler), Broker: b,
			JWT: mooncore.JWTConfig{PrivateKey: key}, Limits: mooncore.Limits{Conns: -1},
			Routers: []mooncore.Router{{Channels: []mooncore.Channel{{Name: "room*", Allow: mooncore.Authenticated}}}},
		})
		if err != nil {
			return Node{}, err
		}
		process.ServeUntilExit(func() error { return srv.Run(context.Background()) })
		token, err := srv.Token(mooncore.Identity{User: "alice", Tenant: "acme"})
		if err != nil {
			return Node{}, err
		}
		tenant := srv.Tenant("", "acme")
		names := make([]string, c.Channels)
		for i := range names {
			names[i] = traffic.Name(i)
		}
		publish := func(channel int, payload []byte) error {
			return tenant.Publish(context.Background(), "news", json.RawMessage(payload), mooncore.ToChannel(names[channel]))
		}
		return Node{
			Publish: publish, Join: join, Addr: ln.Addr().String(),
			WebSocket: &wire.WebSocket{
				Path: "/ws", Header: []string{"Authorization: Bearer " + token},
				Join:   []wire.Step{{Send: `["join","` + traffic.Name(0) + `"]`, Expect: traffic.Name(0) + `:default`}},
				Before: `["news",`, After: `]`,
			},
		}, nil
	}
}
