package otelmooncore_test

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/mooncore/mooncore/otelmooncore"
)

// A receiver takes traces by OTLP over HTTP, as a collector does.
type receiver struct {
	t     testing.TB
	mu    sync.Mutex
	spans map[string]*otlp.Span // by name
	scope string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body := req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			r.t.Error(err)
			return
		}
		body = z
	}
	data, err := io.ReadAll(body)
	if err != nil {
		r.t.Error(err)
		return
	}
	var export collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &export); err != nil {
		r.t.Error(err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range export.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			r.scope = scope.GetScope().GetName()
			for _, span := range scope.GetSpans() {
				r.spans[span.GetName()] = span
			}
		}
	}
}

// What goes out by OTLP arrives, whatever bytes a client puts into a name, and when the server stops nothing is lost.
func TestOTLP(t *testing.T) {
	r := &receiver{t: t, spans: map[string]*otlp.Span{}}
	h := httptest.NewServer(r)
	defer h.Close()
	exporter, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(h.URL+"/v1/traces"), otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	if err != nil {
		t.Fatal(err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter))
	s := serve(t, otelmooncore.Config{TracerProvider: provider}, slog.DiscardHandler, nil)
	s.post("broken", "traceparent", sampled)
	s.post("%ff%00%e2%80")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := provider.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	broken, strange := r.spans["broken"], r.spans["_OTHER"]
	if broken == nil || strange == nil || len(r.spans) != 2 {
		t.Fatalf("got %v", r.spans)
	}
	if hex.EncodeToString(broken.GetTraceId()) != parentTrace || hex.EncodeToString(broken.GetParentSpanId()) != parentSpan {
		t.Errorf("trace %x, parent %x", broken.GetTraceId(), broken.GetParentSpanId())
	}
	if broken.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR || broken.GetKind() != otlp.Span_SPAN_KIND_SERVER || broken.GetEndTimeUnixNano() < broken.GetStartTimeUnixNano() {
		t.Errorf("%v", broken)
	}
	if r.scope != "github.com/mooncore/mooncore/otelmooncore" {
		t.Errorf("scope %q", r.scope)
	}
}
