// Package otelmooncore traces the calls of a Mooncore server with OpenTelemetry: a span for each call, whatever its transport, and for
// each join, leave and login of a WebSocket. Spans of what a handler calls with its context are children of the call's.
//
//	cfg.Extensions = append(cfg.Extensions, otelmooncore.Extension(otelmooncore.Config{}))
//	cfg.Logger = slog.New(otelmooncore.LogHandler(slog.NewJSONHandler(os.Stderr, nil)))
//
// A call continues the trace that its client names (W3C Trace Context): in the header traceparent over HTTP, in the field
// traceparent of a frame over WebSocket. A span that is in the call's context already, such as that of a middleware of net/http
// around the server, is its parent instead.
//
// Spans follow the semantic conventions of OpenTelemetry for RPC. They have neither params nor results, nor who called: that
// stands in the access log, which [LogHandler] joins to the trace.
package otelmooncore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mooncore/mooncore"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

const (
	scope = "github.com/mooncore/mooncore/otelmooncore"

	// other is the method of a call whose action nobody registered.
	other = "_OTHER"

	// maxText bounds what a client or an error may put into a span, in bytes.
	maxText = 1024
)

// Config says how calls are traced. Its zero value is good.
type Config struct {
	// TracerProvider makes the spans. Its owner must shut it down once the server has stopped, so that none is lost. Default the global
	// one, [otel.GetTracerProvider].
	TracerProvider trace.TracerProvider

	// PublicEndpoint begins a new trace for each call and links it to the client's, rather than going on with that. Set it where
	// strangers call: a client decides with its traceparent what is sampled. Default false.
	PublicEndpoint bool
}

// Extension returns the tracing, for mooncore.Config.Extensions.
func Extension(cfg Config) mooncore.Extension {
	return func(srv *mooncore.Server) error {
		provider := cfg.TracerProvider
		if provider == nil {
			provider = otel.GetTracerProvider()
		}
		o := &observer{
			tracer:  provider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
			public:  cfg.PublicEndpoint,
			actions: map[string]bool{},
		}
		for _, r := range srv.Config().Routers {
			for i := range r.Actions {
				o.actions[r.Actions[i].Name] = true
			}
		}
		srv.Observe(o)
		return nil
	}
}

// An observer makes the spans.
type observer struct {
	mooncore.NopObserver

	tracer  trace.Tracer
	public  bool
	actions map[string]bool // that some router has
}

var (
	system     = semconv.RPCSystemNameKey.String("mooncore")
	overHTTP   = semconv.NetworkProtocolName("http")
	overSocket = semconv.NetworkProtocolName("websocket")
	propagator = propagation.TraceContext{}
)

// A spanKey is the key of an observer's span in a call's context, which may hold spans of others too.
type spanKey struct{ *observer }

// CallStart begins the span of a call.
func (o *observer) CallStart(ctx context.Context, req *mooncore.Request) context.Context {
	attributes := make([]attribute.KeyValue, 0, 6)
	attributes = append(attributes, system, attribute.String("mooncore.request_id", req.ID))
	name := req.Action
	if o.actions[name] {
		attributes = append(attributes, semconv.RPCMethod(name))
	} else {
		attributes = append(attributes, semconv.RPCMethod(other), semconv.RPCMethodOriginal(clip(name)))
		name = other
	}
	kind := trace.SpanKindInternal
	if req.RemoteAddr.IsValid() {
		kind = trace.SpanKindServer
		attributes = append(attributes, semconv.ClientAddress(req.RemoteAddr.String()))
	}
	switch req.Source {
	case "http":
		attributes = append(attributes, overHTTP)
	case "ws":
		attributes = append(attributes, overSocket)
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(attributes...)}
	if parent := req.TraceParent(); parent != "" && !trace.SpanContextFromContext(ctx).IsValid() {
		remote := propagator.Extract(ctx, propagation.MapCarrier{"traceparent": parent, "tracestate": req.TraceState()})
		if o.public {
			options = append(options, trace.WithLinks(trace.LinkFromContext(remote)))
		} else {
			ctx = remote
		}
	}
	ctx, span := o.tracer.Start(ctx, name, options...)
	return context.WithValue(ctx, spanKey{o}, span)
}

// CallEnd ends it.
func (o *observer) CallEnd(ctx context.Context, _ *mooncore.Request, _ any, err error, _ time.Duration) {
	span, ok := ctx.Value(spanKey{o}).(trace.Span)
	if !ok {
		return // another Observer lost our context
	}
	defer span.End()
	if !span.IsRecording() {
		return
	}
	if err == nil {
		span.SetAttributes(semconv.RPCResponseStatusCode("ok"))
		return
	}
	code := mooncore.CodeOf(err)
	span.SetAttributes(semconv.RPCResponseStatusCode(string(code)), semconv.ErrorTypeKey.String(string(code)))
	if code.HTTPStatus() >= 500 { // what else there is, the client did
		span.SetStatus(codes.Error, describe(err))
	}
}

// describe is the error's text. A program's error may panic.
func describe(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("an error of type %T panicked", err)
		}
	}()
	return clip(err.Error())
}

// Command makes the span of a join, a leave or a login.
func (o *observer) Command(c *mooncore.Conn, name string, ok bool, took time.Duration) {
	end := time.Now()
	_, span := o.tracer.Start(context.Background(), "websocket "+name,
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(end.Add(-took)),
		trace.WithAttributes(overSocket, semconv.ClientAddress(c.RemoteAddr().String()),
			attribute.String("mooncore.connection_id", c.ID()), attribute.Bool("mooncore.ok", ok)))
	span.End(trace.WithTimestamp(end))
}

// clip makes s fit for a span: of bounded length, and UTF-8, without which an exporter drops all that it sends with it.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "\uFFFD")
}
