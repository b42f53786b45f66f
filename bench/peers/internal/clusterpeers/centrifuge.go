package clusterpeers

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"

	"github.com/mooncore/mooncore/bench/internal/traffic"
	"github.com/mooncore/mooncore/bench/internal/wire"
	"github.com/mooncore/mooncore/bench/peers/internal/process"
)

// newCentrifuge returns a node that has not started, and its broker.
func newCentrifuge(c Config) (*centrifuge.Node, *centrifuge.RedisBroker, error) {
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelNone})
	if err != nil {
		return nil, nil, err
	}
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: c.Engine})
	if err != nil {
		return nil, nil, err
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: []*centrifuge.RedisShard{shard}})
	if err != nil {
		return nil, nil, err
	}
	node.SetBroker(broker)
	return node, broker, nil
}

// A delivery is the handler of a broker alone.
type delivery func(channel int, payload []byte)

func (d delivery) HandlePublication(channel string, p *centrifuge.Publication, _ centrifuge.StreamPosition, _ bool, _ *centrifuge.Publication) error {
	if d != nil {
		d(traffic.Number(channel), p.Data)
	}
	return nil
}

func (delivery) HandleJoin(string, *centrifuge.ClientInfo) error  { return nil }
func (delivery) HandleLeave(string, *centrifuge.ClientInfo) error { return nil }

// startCentrifugeBroker starts its RedisBroker alone.
func startCentrifugeBroker(c Config) (Node, error) {
	_, broker, err := newCentrifuge(c)
	if err != nil {
		return Node{}, err
	}
	if err := broker.RegisterBrokerEventHandler(delivery(c.Deliver)); err != nil {
		return Node{}, err
	}
	names := make([]string, c.Channels)
	for i := range names {
		names[i] = traffic.Name(i)
	}
	if c.Deliver != nil {
		if err := broker.Subscribe(names...); err != nil {
			return Node{}, err
		}
	}
	publish := func(channel int, payload []byte) error {
		_, err := broker.Publish(names[channel], payload, centrifuge.PublishOptions{})
		return err
	}
	return Node{Publish: publish}, nil
}

// startCentrifuge starts a whole server, with the library's defaults.
func startCentrifuge(c Config) (Node, error) {
	node, _, err := newCentrifuge(c)
	if err != nil {
		return Node{}, err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: "alice"}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, reply centrifuge.SubscribeCallback) {
			reply(centrifuge.SubscribeReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		return Node{}, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Node{}, err
	}
	server := &http.Server{Handler: centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}), ReadHeaderTimeout: 5 * time.Second}
	process.ServeUntilExit(func() error { return server.Serve(ln) })
	names := make([]string, c.Channels)
	for i := range names {
		names[i] = traffic.Name(i)
	}
	publish := func(channel int, payload []byte) error {
		_, err := node.Publish(names[channel], payload)
		return err
	}
	return Node{
		Publish: publish, Addr: ln.Addr().String(),
		WebSocket: &wire.WebSocket{
			Path: "/", Lines: true, Ping: "{}",
			Login:  []wire.Step{{Send: `{"id":1,"connect":{}}`, Expect: `"connect":{`}},
			Join:   []wire.Step{{Send: `{"id":2,"subscribe":{"channel":"` + traffic.Name(0) + `"}}`, Expect: `"subscribe":{`}},
			Before: `{"push":{"channel":"` + traffic.Name(0) + `","pub":{"data":`, After: `}}}`,
		},
	}, nil
}
