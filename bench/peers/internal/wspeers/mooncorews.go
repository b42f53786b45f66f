package wspeers

import (
	"net"
	"net/http"

	"github.com/mooncore/mooncore/ws"
)

type mooncoreWS struct{ members set[*ws.Conn] }

func (h *mooncoreWS) Urgent(*ws.Conn, ws.Type, []byte) bool { return false }

func (h *mooncoreWS) Message(c *ws.Conn, typ ws.Type, data []byte) { c.Reply(typ, data) }

func (h *mooncoreWS) Closed(c *ws.Conn, _ int, _ string, _ error) { h.members.remove(c) }

// startMooncoreWS serves with package ws alone: no protocol, no actions.
func startMooncoreWS(ln net.Listener, o Options) (Peer, error) {
	h := &mooncoreWS{}
	group := ws.NewGroup(&ws.Options{Compression: o.Deflate})
	serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := group.New(h)
		if err := c.Accept(w, r); err != nil {
			return
		}
		h.members.add(c)
		c.Start()
	}))
	publish := func(payload []byte) {
		p := ws.Prepare(ws.Text, payload)
		h.members.each(func(c *ws.Conn) { c.SendPrepared(p) })
	}
	return Peer{WebSocket: plain(), Publish: publish}, nil
}
