package wspeers

import (
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/mooncore/mooncore/bench/peers/internal/process"
)

// A gorillaClient is a connection as in the library's chat example: a goroutine writes what a hub puts into its channel.
type gorillaClient struct {
	conn *websocket.Conn
	send chan *websocket.PreparedMessage
}

func (c *gorillaClient) write() {
	for m := range c.send {
		if err := c.conn.WritePreparedMessage(m); err != nil {
			c.conn.Close()
		}
	}
}

func (c *gorillaClient) queue(m *websocket.PreparedMessage) {
	select {
	case c.send <- m:
	default: // too slow
		c.conn.Close()
	}
}

func gorillaPrepare(data []byte) *websocket.PreparedMessage {
	m, err := websocket.NewPreparedMessage(websocket.TextMessage, data)
	if err != nil {
		process.Fail(err)
	}
	return m
}

// startGorilla serves as the library's echo example does, or, for members of a channel, as its chat example, with prepared messages.
func startGorilla(ln net.Listener, o Options) (Peer, error) {
	return serveGorilla(ln, o, websocket.Upgrader{EnableCompression: o.Deflate})
}

// startGorillaTuned is the same with small read buffers and a pool for those that write, which the documentation advises when
// connections are idle mostly.
func startGorillaTuned(ln net.Listener, o Options) (Peer, error) {
	return serveGorilla(ln, o, websocket.Upgrader{
		EnableCompression: o.Deflate, ReadBufferSize: 512, WriteBufferSize: 1024, WriteBufferPool: new(sync.Pool),
	})
}

func serveGorilla(ln net.Listener, o Options, upgrader websocket.Upgrader) (Peer, error) {
	var members set[*gorillaClient]
	serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		reply := conn.WriteMessage
		if o.Member {
			c := &gorillaClient{conn: conn, send: make(chan *websocket.PreparedMessage, 256)}
			go c.write()
			members.add(c)
			defer func() {
				members.remove(c)
				close(c.send)
			}()
			reply = func(_ int, data []byte) error {
				c.queue(gorillaPrepare(data))
				return nil
			}
		}
		for {
			typ, data, err := conn.ReadMessage()
			if err != nil {
				return
			}
			if err := reply(typ, data); err != nil {
				return
			}
		}
	}))
	publish := func(payload []byte) {
		m := gorillaPrepare(payload)
		members.each(func(c *gorillaClient) { c.queue(m) })
	}
	return Peer{WebSocket: plain(), Publish: publish}, nil
}
