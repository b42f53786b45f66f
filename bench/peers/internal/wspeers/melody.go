package wspeers

import (
	"net"
	"net/http"

	"github.com/olahol/melody"
)

func startMelody(ln net.Listener, _ Options) (Peer, error) {
	m := melody.New()
	m.HandleMessage(func(s *melody.Session, data []byte) { _ = s.Write(data) })
	serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = m.HandleRequest(w, r) }))
	return Peer{WebSocket: plain(), Publish: func(payload []byte) { _ = m.Broadcast(payload) }}, nil
}
