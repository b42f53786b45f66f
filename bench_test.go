package mooncore_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mooncore/mooncore"
)

// newBenchServer has a typed and a raw action, and logs nothing.
func newBenchServer(b *testing.B, middleware ...mooncore.Middleware) *mooncore.Server {
	b.Helper()
	srv, err := mooncore.New(mooncore.Config{
		Development: true, JWT: mooncore.JWTConfig{Secret: mooncore.Secret(strings.Repeat("s", 32))},
		Logger: slog.New(slog.DiscardHandler),
		Routers: []mooncore.Router{{Middleware: middleware, Actions: []mooncore.Action{
			{Name: "typed", Allow: mooncore.Public, Handler: mooncore.Func(add), Timeout: -1},
			{Name: "raw", Allow: mooncore.Public, Timeout: -1, Handler: mooncore.Func(
				func(_ context.Context, params json.RawMessage) (json.RawMessage, error) { return params, nil })},
		}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return srv
}

func BenchmarkCall(b *testing.B) {
	pass := func(next mooncore.Next) mooncore.Next {
		return func(ctx context.Context, req *mooncore.Request) (any, error) { return next(ctx, req) }
	}
	for name, middleware := range map[string][]mooncore.Middleware{"0 middlewares": nil, "6 middlewares": {pass, pass, pass, pass, pass, pass}} {
		b.Run(name, func(b *testing.B) {
			srv := newBenchServer(b, middleware...)
			params := json.RawMessage(`{"a":1}`)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := srv.Call(b.Context(), &mooncore.Request{Action: "raw", Params: params, ID: "x"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHTTP is a request through ServeHTTP, without a socket.
func BenchmarkHTTP(b *testing.B) {
	for _, action := range []string{"raw", "typed"} {
		b.Run(action, func(b *testing.B) {
			srv := newBenchServer(b)
			body := strings.NewReader("")
			r := httptest.NewRequest(http.MethodPost, "/run/"+action, nil)
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-Request-Id", "x")
			b.ReportAllocs()
			for b.Loop() {
				body.Reset(`{"a":1,"b":2}`)
				r.Body = io.NopCloser(body)
				w := httptest.NewRecorder()
				srv.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
		})
	}
}
