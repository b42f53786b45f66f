package otelmooncore

import (
	"context"
	"log/slog"
	"slices"

	"go.opentelemetry.io/otel/trace"
)

// LogHandler adds trace_id, span_id and trace_flags to the records whose context has a span, and passes all to next. The server's line
// for each call has one, and so has what a handler logs with its context, such as by [slog.InfoContext]. The names are those of
// OpenTelemetry's "Trace Context in non-OTLP Log Formats". They stand at the top, whatever groups are open.
func LogHandler(next slog.Handler) slog.Handler { return &logHandler{top: next, next: next} }

type logHandler struct {
	next slog.Handler // with all attributes and groups
	top  slog.Handler // as it was before the first group

	inGroup []func(slog.Handler) slog.Handler // what makes next of top
}

func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return h.next.Handle(ctx, record)
	}
	attrs := []slog.Attr{
		slog.String("trace_id", span.TraceID().String()),
		slog.String("span_id", span.SpanID().String()),
		slog.String("trace_flags", span.TraceFlags().String()),
	}
	if len(h.inGroup) == 0 {
		record = record.Clone()
		record.AddAttrs(attrs...)
		return h.next.Handle(ctx, record)
	}
	next := h.top.WithAttrs(attrs)
	for _, with := range h.inGroup {
		next = with(next)
	}
	return next.Handle(ctx, record)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(h.inGroup) == 0 {
		return LogHandler(h.next.WithAttrs(attrs))
	}
	return h.with(func(next slog.Handler) slog.Handler { return next.WithAttrs(attrs) })
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.with(func(next slog.Handler) slog.Handler { return next.WithGroup(name) })
}

func (h *logHandler) with(fn func(slog.Handler) slog.Handler) slog.Handler {
	return &logHandler{next: fn(h.next), top: h.top, inGroup: append(slices.Clip(h.inGroup), fn)}
}
