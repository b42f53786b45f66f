package wspeers

import (
	"net"
	"net/http"

	"github.com/lxzan/gws"
)

type gwsHandler struct {
	gws.BuiltinEventHandler
	members set[*gws.Conn]
}

func (h *gwsHandler) OnOpen(c *gws.Conn)           { h.members.add(c) }
func (h *gwsHandler) OnClose(c *gws.Conn, _ error) { h.members.remove(c) }

func (h *gwsHandler) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	_ = c.WriteMessage(m.Opcode, m.Bytes())
}

func startGWS(ln net.Listener, o Options) (Peer, error) {
	h := &gwsHandler{}
	upgrader := gws.NewUpgrader(h, &gws.ServerOption{
		CheckUtf8Enabled: true, Recovery: gws.Recovery,
		PermessageDeflate: gws.PermessageDeflate{Enabled: o.Deflate},
	})
	serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r)
		if err != nil {
			return
		}
		go c.ReadLoop() // in a goroutine of its own, so that net/http's can be freed
	}))
	publish := func(payload []byte) {
		b := gws.NewBroadcaster(gws.OpcodeText, payload)
		defer b.Close()
		h.members.each(func(c *gws.Conn) { _ = b.Broadcast(c) })
	}
	return Peer{WebSocket: plain(), Publish: publish}, nil
}
