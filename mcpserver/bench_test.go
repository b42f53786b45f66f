package mcpserver_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mcpserver"
)

// BenchmarkCall compares a call of a tool with one of /run, both without a network.
func BenchmarkCall(b *testing.B) {
	srv, err := mooncore.New(mooncore.Config{
		Development: true, Logger: slog.New(slog.DiscardHandler),
		Routers: oneApp(action("create", mooncore.Public, mooncore.Func(echo[task]))).Routers,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			b.Error(err)
		}
	})
	const params = `{"title":"Milk","owner":"ada"}`
	for _, bench := range []struct {
		name string
		h    http.Handler
		path string
		body string
	}{
		{"mcp", mcpserver.Handler(srv), "/mcp", toolCall("create", params)},
		{"run", srv, "/run/create", params},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, bench.path, strings.NewReader(bench.body))
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				bench.h.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
		})
	}
}
