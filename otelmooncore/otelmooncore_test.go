package otelmooncore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/otelmooncore"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const (
	parentTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	parentSpan  = "00f067aa0ba902b7"
	sampled     = "00-" + parentTrace + "-" + parentSpan + "-01"
	notSampled  = "00-" + parentTrace + "-" + parentSpan + "-00"
)

// A traced is a server whose spans are kept in memory.
type traced struct {
	*mooncore.Server
	t     testing.TB
	http  *httptest.Server
	spans *tracetest.InMemoryExporter
}

// serve starts a server with some actions. around stands around its handler if it is not nil.
func serve(t testing.TB, cfg otelmooncore.Config, log slog.Handler, around func(http.Handler) http.Handler) *traced {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = sdk.NewTracerProvider(sdk.WithSyncer(spans))
	}
	srv, err := mooncore.New(mooncore.Config{
		Development: true, Logger: slog.New(log), Routers: routers(cfg.TracerProvider.Tracer("test")),
		Extensions: []mooncore.Extension{otelmooncore.Extension(cfg)},
	})
	if err != nil {
		t.Fatal(err)
	}
	var handler http.Handler = srv
	if around != nil {
		handler = around(srv)
	}
	h := httptest.NewServer(handler)
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		h.Close()
	})
	return &traced{srv, t, h, spans}
}

type badError struct{}

func (badError) Error() string { panic("an error's own fault") }

func routers(tracer trace.Tracer) []mooncore.Router {
	public := func(name string, fn func(ctx context.Context) (any, error)) mooncore.Action {
		return mooncore.Action{Name: name, Allow: mooncore.Public, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (any, error) {
			return fn(ctx)
		})}
	}
	fails := func(err error) func(context.Context) (any, error) {
		return func(context.Context) (any, error) { return nil, err }
	}
	return []mooncore.Router{{Roles: []string{"admin"}, Actions: []mooncore.Action{
		public("hello", func(ctx context.Context) (any, error) { return "hi", nil }),
		public("query", func(ctx context.Context) (any, error) {
			_, span := tracer.Start(ctx, "SELECT")
			defer span.End()
			return nil, nil
		}),
		public("forward", func(ctx context.Context) (any, error) {
			carrier := propagation.MapCarrier{}
			propagation.TraceContext{}.Inject(ctx, carrier)
			return carrier["traceparent"], nil
		}),
		public("outer", func(ctx context.Context) (any, error) {
			return mooncore.RequestFrom(ctx).Server().Call(ctx, &mooncore.Request{Action: "hello"})
		}),
		public("logs", func(ctx context.Context) (any, error) {
			slog.New(mooncore.RequestFrom(ctx).Server().Config().Logger.Handler()).InfoContext(ctx, "from the handler")
			return nil, nil
		}),
		public("broken", fails(errors.New("the disk is full"))),
		public("worse", fails(badError{})),
		public("panics", func(context.Context) (any, error) { panic("boom") }),
		public("taken", fails(mooncore.Errorf(mooncore.CodeAlreadyExists, "taken"))),
		{Name: "secret", Allow: mooncore.Roles("admin"), Handler: mooncore.Func(func(context.Context, struct{}) (any, error) { return nil, nil })},
	}}}
}

// post calls an action over HTTP.
func (s *traced) post(action string, header ...string) string {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.http.URL+"/run/"+action, strings.NewReader(`{"password":"CANARY"}`))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.http.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

// ended waits for n spans, and returns them in the order in which they ended.
func (s *traced) ended(n int) tracetest.SpanStubs {
	s.t.Helper()
	var spans tracetest.SpanStubs
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) { // real time: a span may end behind its answer
		if spans = s.spans.GetSpans(); len(spans) >= n {
			break
		}
	}
	if len(spans) != n {
		s.t.Fatalf("%d spans, want %d: %v", len(spans), n, spans)
	}
	s.spans.Reset()
	return spans
}

func attributes(span tracetest.SpanStub) map[string]string {
	all := map[string]string{}
	for _, a := range span.Attributes {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

func TestSpans(t *testing.T) {
	s := serve(t, otelmooncore.Config{}, slog.DiscardHandler, nil)
	long := strings.Repeat("é", 2000)
	for _, tt := range []struct {
		action, name, method, code string
		status                     codes.Code
		description                string
		original                   string
	}{
		{"hello", "hello", "hello", "ok", codes.Unset, "", ""},
		{"taken", "taken", "taken", "already_exists", codes.Unset, "", ""},
		{"secret", "secret", "secret", "unauthenticated", codes.Unset, "", ""},
		{"broken", "broken", "broken", "internal", codes.Error, "internal: Internal Server Error: the disk is full", ""},
		{"worse", "worse", "worse", "internal", codes.Error, "", ""},
		{"panics", "panics", "panics", "internal", codes.Error, "internal: Internal Server Error: panic: boom", ""},
		{"nobody.has.this", "_OTHER", "_OTHER", "not_found", codes.Unset, "", "nobody.has.this"},
		{"%ff%fe", "_OTHER", "_OTHER", "not_found", codes.Unset, "", "\uFFFD"},
		{long, "_OTHER", "_OTHER", "not_found", codes.Unset, "", long[:1024]},
	} {
		t.Run(fmt.Sprintf("%.20s", tt.action), func(t *testing.T) {
			s.post(tt.action, "X-Request-Id", "r1")
			span := s.ended(1)[0]
			if span.Name != tt.name || span.SpanKind != trace.SpanKindServer || span.Parent.IsValid() {
				t.Errorf("%s %v, parent %v", span.Name, span.SpanKind, span.Parent)
			}
			got := attributes(span)
			if got["rpc.method"] != tt.method || got["rpc.method_original"] != tt.original || got["rpc.response.status_code"] != tt.code ||
				got["rpc.system.name"] != "mooncore" || got["network.protocol.name"] != "http" || got["client.address"] != "127.0.0.1" || got["mooncore.request_id"] != "r1" {
				t.Errorf("attributes %v", got)
			}
			if (got["error.type"] == "") != (tt.code == "ok") {
				t.Errorf("error.type %q", got["error.type"])
			}
			if span.Status.Code != tt.status || tt.description != "" && span.Status.Description != tt.description {
				t.Errorf("status %v", span.Status)
			}
			if strings.Contains(fmt.Sprint(span), "CANARY") {
				t.Error("params are in the span")
			}
		})
	}
}

// What a client's traceparent does, on each transport.
func TestParent(t *testing.T) {
	dial := func(s *traced) *websocket.Conn {
		ws, _, err := websocket.Dial(t.Context(), s.http.URL+"/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ws.CloseNow() })
		return ws
	}
	send := func(ws *websocket.Conn, typ websocket.MessageType, frame string) {
		if err := ws.Write(t.Context(), typ, []byte(frame)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ws.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	transports := map[string]func(s *traced, parent string){
		"http": func(s *traced, parent string) { s.post("hello", "traceparent", parent, "tracestate", "vendor=1") },
		"websocket": func(s *traced, parent string) {
			send(dial(s), websocket.MessageText, `{"action":"hello","traceparent":"`+parent+`"}`)
		},
		"binary": func(s *traced, parent string) {
			meta := `{"action":"hello","traceparent":"` + parent + `"}`
			send(dial(s), websocket.MessageBinary, string(binary.LittleEndian.AppendUint16(nil, uint16(len(meta))))+meta+"payload")
		},
	}
	for name, call := range transports {
		for _, public := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, public %v", name, public), func(t *testing.T) {
				s := serve(t, otelmooncore.Config{PublicEndpoint: public}, slog.DiscardHandler, nil)
				call(s, sampled)
				span := s.ended(1)[0]
				if public {
					if span.Parent.IsValid() || span.SpanContext.TraceID().String() == parentTrace || len(span.Links) != 1 || span.Links[0].SpanContext.SpanID().String() != parentSpan {
						t.Errorf("parent %v, links %v", span.Parent, span.Links)
					}
				} else if span.SpanContext.TraceID().String() != parentTrace || span.Parent.SpanID().String() != parentSpan || !span.Parent.IsRemote() || len(span.Links) > 0 {
					t.Errorf("trace %v, parent %v", span.SpanContext.TraceID(), span.Parent)
				}
				if state := span.SpanContext.TraceState().String(); (name == "http" && !public) != (state == "vendor=1") {
					t.Errorf("trace state %q", state)
				}
				if !public {
					call(s, notSampled) // its sender decided that it is not kept
				}
				call(s, "garbage")
				if span := s.ended(1)[0]; span.Parent.IsValid() || len(span.Links) > 0 {
					t.Errorf("garbage: parent %v, links %v", span.Parent, span.Links)
				}
			})
		}
	}
}

// Each message of a connection is a trace of its own, or its client's.
func TestMessages(t *testing.T) {
	s := serve(t, otelmooncore.Config{}, slog.DiscardHandler, nil)
	token, err := s.Token(mooncore.Identity{User: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	ws, _, err := websocket.Dial(t.Context(), s.http.URL+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	for _, frame := range []string{
		`{"action":"hello"}`, `ping`, `["join","main"]`, `["jwt","` + token + `"]`, `["join","main"]`, `{"action":"hello","traceparent":"` + sampled + `"}`, `["leave","main"]`, `["what","x"]`,
	} {
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ws.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	traces := map[trace.TraceID]bool{}
	for _, span := range s.ended(6) {
		got = append(got, strings.TrimSpace(span.Name+" "+attributes(span)["mooncore.ok"]))
		traces[span.SpanContext.TraceID()] = true
		if a := attributes(span); a["network.protocol.name"] != "websocket" || a["client.address"] != "127.0.0.1" || span.SpanKind != trace.SpanKindServer {
			t.Errorf("%s: %v %v", span.Name, span.SpanKind, a)
		}
		if span.EndTime.Before(span.StartTime) || strings.Contains(fmt.Sprint(span), token) {
			t.Errorf("%v", span)
		}
	}
	want := []string{"hello", "websocket join false", "websocket jwt true", "websocket join true", "hello", "websocket leave true"}
	if !slices.Equal(got, want) || len(traces) != len(want) {
		t.Errorf("spans %q of %d traces", got, len(traces))
	}
}

// What a handler does with its context is a part of the call.
func TestChildren(t *testing.T) {
	s := serve(t, otelmooncore.Config{}, slog.DiscardHandler, nil)
	for _, tt := range []struct{ action, child string }{{"query", "SELECT"}, {"outer", "hello"}} {
		s.post(tt.action, "traceparent", sampled)
		spans := s.ended(2)
		child, parent := spans[0], spans[1]
		if child.Name != tt.child || parent.Name != tt.action || child.Parent.SpanID() != parent.SpanContext.SpanID() || child.SpanContext.TraceID().String() != parentTrace {
			t.Errorf("%s: child %s of %v, parent %s %v", tt.action, child.Name, child.Parent.SpanID(), parent.Name, parent.SpanContext.SpanID())
		}
		if child.SpanKind != trace.SpanKindInternal {
			t.Errorf("%s: the kind of the child is %v", tt.action, child.SpanKind)
		}
	}
	sent := s.post("forward", "traceparent", sampled)
	span := s.ended(1)[0].SpanContext
	if want := fmt.Sprintf(`"00-%s-%s-01"`, parentTrace, span.SpanID()); sent != want {
		t.Errorf("a handler passes %s on, want %s", sent, want)
	}
}

// A span that stands in the context already is the parent, not the client's: the client's is its parent.
func TestAroundTheServer(t *testing.T) {
	for _, public := range []bool{false, true} {
		t.Run(fmt.Sprintf("public %v", public), func(t *testing.T) { aroundTheServer(t, public) })
	}
}

func aroundTheServer(t *testing.T, public bool) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	s := serve(t, otelmooncore.Config{TracerProvider: provider, PublicEndpoint: public}, slog.DiscardHandler, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, span := provider.Tracer("around").Start(propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header)), "POST")
			defer span.End()
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	})
	s.spans = spans
	s.post("hello", "traceparent", sampled)
	got := s.ended(2)
	if call, outer := got[0], got[1]; call.Parent.SpanID() != outer.SpanContext.SpanID() || len(call.Links) > 0 || outer.Parent.SpanID().String() != parentSpan {
		t.Errorf("the call's parent is %v, that of what is around it %v", call.Parent.SpanID(), outer.Parent.SpanID())
	}
}

// A sampler sees the attributes that are known at the start.
func TestSampler(t *testing.T) {
	seen := map[attribute.Key]string{}
	spans := tracetest.NewInMemoryExporter()
	s := serve(t, otelmooncore.Config{TracerProvider: sdk.NewTracerProvider(sdk.WithSyncer(spans), sdk.WithSampler(sampler(seen)))}, slog.DiscardHandler, nil)
	s.post("broken")
	if seen["rpc.method"] != "broken" || seen["network.protocol.name"] != "http" || len(spans.GetSpans()) > 0 {
		t.Errorf("saw %v", seen)
	}
}

type sampler map[attribute.Key]string

func (s sampler) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	for _, a := range p.Attributes {
		s[a.Key] = a.Value.String()
	}
	return sdk.SamplingResult{Decision: sdk.Drop}
}

func (sampler) Description() string { return "drops all" }

// A spanStarter is an Observer that starts a span, and leaves it to somebody else to end.
type spanStarter struct {
	mooncore.NopObserver
	tracer trace.Tracer
}

func (s spanStarter) CallStart(ctx context.Context, _ *mooncore.Request) context.Context {
	ctx, _ = s.tracer.Start(ctx, "theirs")
	return ctx
}

// The span of another Observer is not ours to end, and does not hide ours.
func TestSpanOfAnotherObserver(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	srv, err := mooncore.New(mooncore.Config{
		Development: true, Logger: slog.New(slog.DiscardHandler), Routers: routers(provider.Tracer("test")),
		Extensions: []mooncore.Extension{
			otelmooncore.Extension(otelmooncore.Config{TracerProvider: provider}),
			func(srv *mooncore.Server) error {
				srv.Observe(spanStarter{tracer: provider.Tracer("theirs")})
				return nil
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown(context.Background())
	if _, err := srv.Call(t.Context(), &mooncore.Request{Action: "hello"}); err != nil {
		t.Fatal(err)
	}
	ended := spans.GetSpans()
	if len(ended) != 1 || ended[0].Name != "hello" || attributes(ended[0])["rpc.response.status_code"] != "ok" {
		t.Errorf("ended: %v", ended)
	}
}
