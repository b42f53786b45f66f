package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/examples/chat/chat"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/natsbroker/embedded"
	"github.com/mooncore/mooncore/pubsub/redisbroker"
)

// nodeEnv is the environment variable by which the program tells itself to be a server. Its value is a node as JSON.
const nodeEnv = "CLUSTER_NODE"

// A node says what one server has to know.
type node struct {
	Name   string
	HTTP   string   // where the proxy finds it
	NATS   string   // where the others do
	Peers  []string // the NATS of all
	Secret string   // what all of them know: it signs tokens, and lets them into the cluster
}

// runNode is a server, until the context ends or the program that started it.
func runNode(ctx context.Context) error {
	var n node
	if err := json.Unmarshal([]byte(os.Getenv(nodeEnv)), &n); err != nil {
		return fmt.Errorf("%s: %w", nodeEnv, err)
	}
	starting := context.AfterFunc(ctx, func() { os.Exit(0) }) // the broker may wait for others, which end too
	broker, err := n.broker(os.Getenv("REDIS_URL"))
	if err != nil {
		return err
	}
	starting()
	cfg := chat.Config()
	cfg.Addr, cfg.Node, cfg.Broker, cfg.Development = n.HTTP, n.Name, broker, true
	cfg.JWT.Secret = mooncore.Secret(n.Secret)
	cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	srv, err := mooncore.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // the pipe is closed when its other end is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return srv.Run(ctx)
}

func (n node) broker(redis string) (pubsub.Broker, error) {
	if redis != "" {
		return redisbroker.Connect(redis)
	}
	return embedded.Start(embedded.Options{Addr: n.NATS, Peers: n.Peers, Secret: n.Secret, History: &embedded.History{}})
}
