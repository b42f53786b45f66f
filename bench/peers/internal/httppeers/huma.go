package httppeers

import (
	"context"
	"net"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

type humaTask struct {
	Title    string   `json:"title" minLength:"1" maxLength:"200"`
	Note     string   `json:"note" maxLength:"2000"`
	Priority int      `json:"priority" minimum:"1" maximum:"5"`
	Done     bool     `json:"done"`
	Tags     []string `json:"tags" maxItems:"10"`
}

type humaBody struct{ Body humaTask }

// startHuma validates by huma's schema. The link to it, which huma adds to every answer, is off: others have none.
func startHuma(ln net.Listener) (wire.HTTP, error) {
	mux := http.NewServeMux()
	config := huma.DefaultConfig("tasks", "1.0.0")
	config.CreateHooks = nil
	api := humago.New(mux, config)
	huma.Post(api, path, func(_ context.Context, in *humaBody) (*humaBody, error) { return in, nil })
	serve(ln, mux)
	return post(path, "\n"), nil
}
