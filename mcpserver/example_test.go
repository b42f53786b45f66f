package mcpserver_test

import (
	"context"
	"log"
	"net/http"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mcpserver"
)

func Example() {
	forecast := func(_ context.Context, in struct {
		City string `json:"city" validate:"required" jsonschema:"in English"`
	}) (string, error) {
		return "Rain in " + in.City, nil
	}
	mux := http.NewServeMux()
	err := mooncore.Run(mooncore.Config{
		Handler: mux,
		Extensions: []mooncore.Extension{func(srv *mooncore.Server) error {
			mux.Handle("/mcp", mcpserver.Handler(srv))
			return nil
		}},
		Routers: []mooncore.Router{{Actions: []mooncore.Action{{
			Name: "forecast", Allow: mooncore.Authenticated, Handler: mooncore.Func(forecast), ReadOnly: true,
			Tool: true, Description: "The weather of tomorrow in a city.",
		}}}},
	})
	if err != nil {
		log.Fatal(err)
	}
}
