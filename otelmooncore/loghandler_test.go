package otelmooncore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"

	"go.opentelemetry.io/otel/trace"

	"github.com/mooncore/mooncore/otelmooncore"
)

// lines is a log, as records.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) records(t testing.TB) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []map[string]any
	for line := range strings.Lines(l.buf.String()) {
		record := map[string]any{}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, record)
	}
	return all
}

// The line of a call, and what its handler logs, name the call's span.
func TestLogOfCalls(t *testing.T) {
	log := &lines{}
	s := serve(t, otelmooncore.Config{}, otelmooncore.LogHandler(slog.NewJSONHandler(log, nil)), nil)
	s.post("logs", "traceparent", sampled)
	span := s.ended(1)[0].SpanContext
	found := 0
	for _, r := range log.records(t) {
		if r["msg"] != "call" && r["msg"] != "from the handler" {
			if r["trace_id"] != nil {
				t.Errorf("%v has a trace", r)
			}
			continue
		}
		found++
		if r["trace_id"] != parentTrace || r["span_id"] != span.SpanID().String() || r["trace_flags"] != "01" {
			t.Errorf("%v", r)
		}
	}
	if found != 2 {
		t.Errorf("%d lines of the call", found)
	}
}

func TestLogHandler(t *testing.T) {
	id, _ := trace.TraceIDFromHex(parentTrace)
	span, _ := trace.SpanIDFromHex(parentSpan)
	ctx := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span}))
	const ids = `"trace_id":"` + parentTrace + `","span_id":"` + parentSpan + `","trace_flags":"00"`
	for _, tt := range []struct {
		name string
		log  func(l *slog.Logger)
		want string
	}{
		{"no span", func(l *slog.Logger) { l.Info("m", "a", 1) }, `{"msg":"m","a":1}`},
		{"a span", func(l *slog.Logger) { l.InfoContext(ctx, "m", "a", 1) }, `{"msg":"m","a":1,` + ids + `}`},
		{"attributes", func(l *slog.Logger) { l.With("a", 1).InfoContext(ctx, "m") }, `{"msg":"m","a":1,` + ids + `}`},
		{"a group", func(l *slog.Logger) { l.With("a", 1).WithGroup("g").InfoContext(ctx, "m", "b", 2) }, `{"msg":"m","a":1,` + ids + `,"g":{"b":2}}`},
		{"attributes in groups", func(l *slog.Logger) {
			l.WithGroup("g").With("a", 1).WithGroup("h").With("b", 2).InfoContext(ctx, "m", "c", 3)
		}, `{"msg":"m",` + ids + `,"g":{"a":1,"h":{"b":2,"c":3}}}`},
		{"a group without a span", func(l *slog.Logger) { l.WithGroup("g").With("a", 1).Info("m", "b", 2) }, `{"msg":"m","g":{"a":1,"b":2}}`},
		{"two loggers of one", func(l *slog.Logger) {
			g := l.WithGroup("g").With("a", 1)
			first := g.With("b", 1)
			g.With("c", 1)
			first.InfoContext(ctx, "m", "d", 1)
		}, `{"msg":"m",` + ids + `,"g":{"a":1,"b":1,"d":1}}`},
		{"too low", func(l *slog.Logger) { l.DebugContext(ctx, "m") }, ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var buf bytes.Buffer
			tt.log(slog.New(otelmooncore.LogHandler(slog.NewJSONHandler(&buf, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
				if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
					return slog.Attr{}
				}
				return a
			}}))))
			if got := strings.TrimSpace(buf.String()); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// The handler keeps the rules of package slog.
func TestLogHandlerIsOne(t *testing.T) {
	for _, withSpan := range []bool{false, true} {
		log := &lines{}
		h := otelmooncore.LogHandler(slog.NewJSONHandler(log, nil))
		if withSpan {
			h = spanHandler{h}
		}
		if err := slogtest.TestHandler(h, func() []map[string]any { return log.records(t) }); err != nil {
			t.Errorf("with a span %v: %v", withSpan, err)
		}
	}
}

// A spanHandler logs everything in a span.
type spanHandler struct{ slog.Handler }

func (h spanHandler) Handle(ctx context.Context, r slog.Record) error {
	ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
	return h.Handler.Handle(ctx, r)
}
func (h spanHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return spanHandler{h.Handler.WithAttrs(attrs)}
}
func (h spanHandler) WithGroup(name string) slog.Handler {
	return spanHandler{h.Handler.WithGroup(name)}
}
