package wspeers

import (
	"context"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

// startCoder serves from net/http's goroutines with contexts that never end, which is the library's fastest way. Publishing is a loop
// of writes.
func startCoder(ln net.Listener, o Options) (Peer, error) {
	var members set[*websocket.Conn]
	opts := &websocket.AcceptOptions{}
	if o.Deflate {
		opts.CompressionMode = websocket.CompressionNoContextTakeover
	}
	ctx := context.Background()
	serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, opts)
		if err != nil {
			return
		}
		defer c.CloseNow()
		if o.Member {
			members.add(c)
			defer members.remove(c)
		}
		for {
			typ, data, err := c.Read(ctx)
			if err != nil {
				return
			}
			if err := c.Write(ctx, typ, data); err != nil {
				return
			}
		}
	}))
	publish := func(payload []byte) {
		members.each(func(c *websocket.Conn) { _ = c.Write(ctx, websocket.MessageText, payload) })
	}
	return Peer{WebSocket: plain(), Publish: publish}, nil
}
