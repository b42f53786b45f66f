package otelmooncore_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/mooncore/mooncore"
)

// What OpenTelemetry takes for a trace, Request.TraceParent gives, and nothing else of a request gets through it.
func FuzzTraceParent(f *testing.F) {
	for _, seed := range []string{sampled, notSampled, "", "cc" + sampled[2:] + "-more", "ff" + sampled[2:], sampled + "-", "01" + sampled[2:] + "- ", "00-\x00-\xff-01"} {
		f.Add(seed)
	}
	srv, err := mooncore.New(mooncore.Config{
		Development: true, Logger: slog.New(slog.DiscardHandler), Routers: []mooncore.Router{{Actions: []mooncore.Action{{
			Name: "parent", Allow: mooncore.Public, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (string, error) {
				return mooncore.RequestFrom(ctx).TraceParent(), nil
			}),
		}}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { srv.Shutdown(context.Background()) })
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("POST", "/run/parent", nil)
		r.Header.Set("Traceparent", header)
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		var got string
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v", w.Body, err)
		}
		extracted := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": header})
		// Version 00 has 55 characters, which OpenTelemetry does not check; of later ones, nobody knows how many, but that none of
		// them is a space or no ASCII.
		fits := len(header) == 55 || len(header) > 55 && len(header) <= 110 && header[:2] != "00"
		fits = fits && !strings.ContainsFunc(header, func(c rune) bool { return c <= ' ' || c > '~' })
		if trace.SpanContextFromContext(extracted).IsValid() && fits && got != header {
			t.Errorf("%q is a trace, and is given as %q", header, got)
		}
		if got != "" && (got != header || len(got) > 110) {
			t.Errorf("%q of %q", got, header)
		}
	})
}
