package httppeers

import (
	"net"

	"github.com/go-chi/chi/v5"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// startChi has chi's router and, as chi has nothing for JSON, net/http's way with it.
func startChi(ln net.Listener) (wire.HTTP, error) {
	r := chi.NewRouter()
	r.Post(path, createTask)
	serve(ln, r)
	return post(path, "\n"), nil
}
