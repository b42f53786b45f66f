package wspeers

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"

	"github.com/mooncore/mooncore/bench/internal/wire"
	"github.com/mooncore/mooncore/bench/peers/internal/process"
)

const centrifugeChannel = "news"

// startCentrifuge serves the JSON protocol with the library's defaults.
func startCentrifuge(ln net.Listener, o Options) (Peer, error) {
	return serveCentrifuge(ln, centrifuge.WebsocketConfig{Compression: o.Deflate}, centrifuge.ConnectReply{})
}

// startCentrifugeTuned is the same with what the library offers to make a connection small: pooled write buffers, small read
// buffers, no goroutine that writes, no deep stack that reads.
func startCentrifugeTuned(ln net.Listener, o Options) (Peer, error) {
	return serveCentrifuge(ln, centrifuge.WebsocketConfig{
		Compression: o.Deflate, ReadBufferSize: 512, WriteBufferSize: 1024, UseWriteBufferPool: true, ProcessCommandsOffReadLoop: true,
	}, centrifuge.ConnectReply{WriteDelay: time.Millisecond, WriteWithTimer: true})
}

func serveCentrifuge(ln net.Listener, cfg centrifuge.WebsocketConfig, connect centrifuge.ConnectReply) (Peer, error) {
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelNone})
	if err != nil {
		return Peer{}, err
	}
	connect.Credentials = &centrifuge.Credentials{UserID: "alice"}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) { return connect, nil })
	node.OnConnect(func(c *centrifuge.Client) {
		c.OnRPC(func(e centrifuge.RPCEvent, reply centrifuge.RPCCallback) {
			reply(centrifuge.RPCReply{Data: e.Data}, nil)
		})
		c.OnSubscribe(func(_ centrifuge.SubscribeEvent, reply centrifuge.SubscribeCallback) {
			reply(centrifuge.SubscribeReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		return Peer{}, err
	}
	serve(ln, http.Handler(centrifuge.NewWebsocketHandler(node, cfg)))
	const data = `{"room":"lobby","text":"good morning, is the boat still there?","n":42}`
	ws := wire.WebSocket{
		Path: "/", Lines: true, Ping: "{}",
		Login:    []wire.Step{{Send: `{"id":1,"connect":{}}`, Expect: `"connect":{`}},
		Join:     []wire.Step{{Send: `{"id":2,"subscribe":{"channel":"` + centrifugeChannel + `"}}`, Expect: `"subscribe":{`}},
		Request:  `{"id":` + wire.ID + `,"rpc":{"method":"echo","data":` + data + `}}`,
		Response: `{"id":` + wire.ID + `,"rpc":{"data":` + data + `}}`,
		Before:   `{"push":{"channel":"` + centrifugeChannel + `","pub":{"data":`, After: `}}}`,
	}
	publish := func(payload []byte) {
		if _, err := node.Publish(centrifugeChannel, payload); err != nil {
			process.Fail(err)
		}
	}
	return Peer{WebSocket: ws, Publish: publish}, nil
}
