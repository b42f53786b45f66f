package metrics_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/internal/needs"
	"github.com/mooncore/mooncore/internal/race"
	"github.com/mooncore/mooncore/metrics"
	"github.com/mooncore/mooncore/mooncoretest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func routers() []mooncore.Router {
	handler := func(err error) mooncore.Handler {
		return mooncore.Func(func(context.Context, struct{}) (string, error) { return "", err })
	}
	return []mooncore.Router{{Roles: []string{"admin"}, Actions: []mooncore.Action{
		{Name: "hello", Allow: mooncore.Public, Handler: handler(nil)},
		{Name: "broken", Allow: mooncore.Public, Handler: handler(io.ErrUnexpectedEOF)},
		{Name: "odd", Allow: mooncore.Public, Handler: handler(mooncore.Errorf("code_of_its_own", "x"))},
		{Name: "secret", Allow: mooncore.Roles("admin"), Handler: handler(nil)},
	}}}
}

// server starts one whose metrics are in the registry.
func server(t *testing.T, cfg mooncore.Config) (*mooncoretest.Server, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	if cfg.Routers == nil {
		cfg.Routers = routers()
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Extensions = append(cfg.Extensions, metrics.Extension(metrics.Config{Registry: registry}))
	return mooncoretest.New(t, cfg), registry
}

// values returns all series but those of Go and the process, as "name{label="value"}"; of a histogram its count.
func values(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				if l.GetName() != "rpc_system_name" {
					labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
				}
			}
			name := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				all[name] = float64(m.GetHistogram().GetSampleCount())
			case dto.MetricType_COUNTER:
				all[name] = m.GetCounter().GetValue()
			default:
				all[name] = m.GetGauge().GetValue()
			}
		}
	}
	maps.DeleteFunc(all, func(name string, _ float64) bool {
		return strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "mooncore_build_info")
	})
	return all
}

// expect waits until all series have these values: a connection's end is counted behind the client's back.
func expect(t *testing.T, registry *prometheus.Registry, want map[string]float64) {
	t.Helper()
	var got map[string]float64
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) { // real time: a connection ends in the background
		got = values(t, registry)
		if maps.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if v, ok := want[name]; !ok || v != got[name] {
			t.Errorf("%s is %v, want %v", name, got[name], v)
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
}

// atFirst are the series that are there before anything happens.
func atFirst(more map[string]float64) map[string]float64 {
	all := map[string]float64{
		`mooncore_auth_failures_total{reason="expired"}`:                0,
		`mooncore_auth_failures_total{reason="invalid"}`:                0,
		`mooncore_calls_active{}`:                                       0,
		`mooncore_connections_closed_total{code="4408"}`:                0,
		`mooncore_connections_opened_total{}`:                           0,
		`mooncore_connections_refused_total{}`:                          0,
		`mooncore_connections{state="anonymous"}`:                       0,
		`mooncore_connections{state="authenticated"}`:                   0,
		`mooncore_draining{}`:                                           0,
		`mooncore_events_delivered_total{}`:                             0,
		`mooncore_events_published_total{}`:                             0,
		`mooncore_message_bytes_total{network_io_direction="receive"}`:  0,
		`mooncore_message_bytes_total{network_io_direction="transmit"}`: 0,
		`mooncore_messages_total{network_io_direction="receive"}`:       0,
		`mooncore_messages_total{network_io_direction="transmit"}`:      0,
		`mooncore_queue_bytes{}`:                                        0,
	}
	maps.Copy(all, more)
	return all
}

func call(action, code string) string {
	return fmt.Sprintf("rpc_server_call_duration_seconds{rpc_method=%q,rpc_response_status_code=%q}", action, code)
}

// dial opens a WebSocket, of which a test sees more than of mooncoretest's.
func dial(t *testing.T, srv *mooncoretest.Server) (*websocket.Conn, error) {
	t.Helper()
	h := httptest.NewServer(srv.Server)
	t.Cleanup(h.Close)
	ws, _, err := websocket.Dial(t.Context(), h.URL+"/ws", &websocket.DialOptions{HTTPClient: h.Client()})
	return ws, err
}

// Each case does something and says which series that changes.
func TestMetrics(t *testing.T) {
	id := mooncore.Identity{User: "alice", Tenant: "t"}
	tests := []struct {
		name string
		cfg  mooncore.Config
		do   func(t *testing.T, srv *mooncoretest.Server)
		want map[string]float64
	}{
		{name: "nothing", do: func(*testing.T, *mooncoretest.Server) {}},
		{
			name: "calls",
			do: func(t *testing.T, srv *mooncoretest.Server) {
				client := srv.As(mooncore.Identity{})
				for _, action := range []string{"hello", "hello", "broken", "odd", "secret", "nobody_has_this"} {
					client.Call(action, nil, nil)
				}
				srv.Call(t.Context(), &mooncore.Request{Action: "hello"})
			},
			want: map[string]float64{
				call("hello", "ok"): 3, call("broken", "internal"): 1, call("odd", "_OTHER"): 1, call("secret", "unauthenticated"): 1,
				call("_OTHER", "not_found"): 1,
			},
		},
		{
			name: "a connection",
			do: func(t *testing.T, srv *mooncoretest.Server) {
				conn := srv.As(id).Dial()
				conn.Join("main")
				if err := srv.Tenant("", "t").Publish(t.Context(), "e", 1, mooncore.ToChannel("main")); err != nil {
					t.Fatal(err)
				}
				conn.Expect("e", new(int))
			},
			want: map[string]float64{
				`mooncore_connections{state="authenticated"}`:                   1,
				`mooncore_connections_opened_total{}`:                           1,
				`mooncore_events_published_total{}`:                             1,
				`mooncore_events_delivered_total{}`:                             1,
				`mooncore_messages_total{network_io_direction="receive"}`:       1,
				`mooncore_messages_total{network_io_direction="transmit"}`:      2,
				`mooncore_message_bytes_total{network_io_direction="receive"}`:  float64(len(`["join","main"]`)),
				`mooncore_message_bytes_total{network_io_direction="transmit"}`: float64(len(`["channel_list",["main:default","@alice"]]` + `["e",1]`)),
			},
		},
		{
			name: "connections that end",
			do: func(t *testing.T, srv *mooncoretest.Server) {
				conn := srv.As(mooncore.Identity{}).Dial()
				conn.Send("quit")
				conn.Closed()
				for _, code := range []websocket.StatusCode{3000, 4999, 4408} {
					ws, err := dial(t, srv)
					if err != nil {
						t.Fatal(err)
					}
					if err := ws.Close(code, ""); err != nil {
						t.Fatal(err)
					}
				}
			},
			want: map[string]float64{
				`mooncore_connections_opened_total{}`:                          4,
				`mooncore_connections_closed_total{code="1000"}`:               1,
				`mooncore_connections_closed_total{code="_OTHER"}`:             2,
				`mooncore_connections_closed_total{code="4408"}`:               1,
				`mooncore_messages_total{network_io_direction="receive"}`:      1,
				`mooncore_message_bytes_total{network_io_direction="receive"}`: 4,
			},
		},
		{
			name: "a connection too many",
			cfg:  mooncore.Config{Limits: mooncore.Limits{AnonConns: 1}},
			do: func(t *testing.T, srv *mooncoretest.Server) {
				srv.As(mooncore.Identity{}).Dial()
				_, err := dial(t, srv)
				if err == nil {
					t.Fatal("two anonymous connections")
				}
			},
			want: map[string]float64{
				`mooncore_connections{state="anonymous"}`: 1, `mooncore_connections_opened_total{}`: 1, `mooncore_connections_refused_total{}`: 1,
			},
		},
		{
			name: "a bad token",
			do: func(t *testing.T, srv *mooncoretest.Server) {
				conn := srv.As(mooncore.Identity{}).Dial()
				conn.Send(`["jwt","nonsense"]`)
				conn.Send(`ping`)
			},
			want: map[string]float64{
				`mooncore_auth_failures_total{reason="invalid"}`: 1, `mooncore_connections{state="anonymous"}`: 1, `mooncore_connections_opened_total{}`: 1,
				`mooncore_messages_total{network_io_direction="receive"}`:       2,
				`mooncore_messages_total{network_io_direction="transmit"}`:      2,
				`mooncore_message_bytes_total{network_io_direction="receive"}`:  float64(len(`["jwt","nonsense"]` + `ping`)),
				`mooncore_message_bytes_total{network_io_direction="transmit"}`: float64(len(`["jwt","jwt_failed"]` + `pong`)),
			},
		},
		{
			name: "a drain",
			do: func(t *testing.T, srv *mooncoretest.Server) {
				if err := srv.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
			want: map[string]float64{`mooncore_draining{}`: 1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv, registry := server(t, tt.cfg)
			tt.do(t, srv)
			expect(t, registry, atFirst(tt.want))
		})
	}
}

// No name that a client chooses makes a series.
func TestCardinality(t *testing.T) {
	names := 1_000_000
	if race.Enabled {
		names = 50_000
	}
	srv, registry := server(t, mooncore.Config{})
	srv.Call(t.Context(), &mooncore.Request{Action: "no such name"})
	before, err := testutil.GatherAndCount(registry)
	if err != nil {
		t.Fatal(err)
	}
	for i := range names {
		srv.Call(context.Background(), &mooncore.Request{Action: fmt.Sprint("name", i)})
	}
	after, err := testutil.GatherAndCount(registry)
	if err != nil || after != before {
		t.Errorf("%d series after %d names, %d before; %v", after, names, before, err)
	}
	if got := values(t, registry)[call("_OTHER", "not_found")]; got != float64(names+1) {
		t.Errorf("%v calls of other names", got)
	}
}

// addresses finds the addresses in the line that tells where a server listens.
type addresses struct {
	mu    sync.Mutex
	inner string
}

func (a *addresses) Write(line []byte) (int, error) {
	var record struct{ Msg, Inner string }
	if err := json.Unmarshal(line, &record); err == nil && record.Msg == "listening" {
		a.mu.Lock()
		a.inner = record.Inner
		a.mu.Unlock()
	}
	return len(line), nil
}

// scrape runs a server as a program does, calls it, and returns what its inner listener and the outer one answer.
func scrape(t *testing.T, cfg metrics.Config, path string) (inner, outer string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := &addresses{}
	srv, err := mooncore.New(mooncore.Config{
		Routers: routers(), Listener: listener, Inner: "127.0.0.1:0", Development: true, Logger: slog.New(slog.NewJSONHandler(at, nil)),
		Extensions: []mooncore.Extension{metrics.Extension(cfg)},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{}}
	defer func() {
		client.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	get := func(url string) string {
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Status + "\n" + string(b)
	}
	base := "http://" + listener.Addr().String()
	for _, query := range []string{"hello", "hello?canary=CANARY", "CANARY", "secret"} {
		r, _ := http.NewRequest(http.MethodPost, base+"/run/"+query, strings.NewReader(`{"password":"CANARY"}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer CANARY")
		r.Header.Set("X-Request-Id", "CANARY")
		if query == "hello" {
			r.Header.Del("Authorization")
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	at.mu.Lock()
	defer at.mu.Unlock()
	return get("http://" + at.inner + path), get(base + path)
}

// Prometheus's own tool takes what the inner listener serves, and finds nothing to mend. The outer listener serves nothing of it.
func TestScrape(t *testing.T) {
	for _, path := range []string{"", "/internal/metrics"} {
		t.Run("path "+path, func(t *testing.T) {
			served := path
			if served == "" {
				served = "/metrics"
			}
			inner, outer := scrape(t, metrics.Config{Path: path}, served)
			if !strings.HasPrefix(outer, "404 ") {
				t.Errorf("the outer listener: %.200s", outer)
			}
			status, text, _ := strings.Cut(inner, "\n")
			if status != "200 OK" {
				t.Fatalf("%.200s", inner)
			}
			if strings.Contains(text, "CANARY") {
				t.Error("what a client sent is in the metrics")
			}
			for _, want := range []string{
				`rpc_server_call_duration_seconds_bucket{rpc_method="hello",rpc_response_status_code="ok",rpc_system_name="mooncore",le="10"} 1`,
				`mooncore_auth_failures_total{reason="invalid"} 3`,
				`go_goroutines `,
				`process_resident_memory_bytes `,
				`mooncore_build_info{`,
			} {
				if !strings.Contains(text, want) {
					t.Errorf("no %s", want)
				}
			}
			lint(t, text)
		})
	}
}

func lint(t *testing.T, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), needs.Command(t, "promtool", "prometheus"), "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestFaults(t *testing.T) {
	shared := prometheus.NewRegistry()
	mooncoretest.New(t, mooncore.Config{Routers: routers(), Extensions: []mooncore.Extension{metrics.Extension(metrics.Config{Registry: shared})}})
	clash := prometheus.NewRegistry()
	clash.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "mooncore_draining", Help: "another"}))
	for _, tt := range []struct {
		name string
		cfg  metrics.Config
		want string
	}{
		{"path without a slash", metrics.Config{Path: "metrics"}, `Config\.Path: "metrics" is no path`},
		{"path with a method", metrics.Config{Path: "GET /metrics"}, `Config\.Path: `},
		{"path with a wildcard", metrics.Config{Path: "/{x}"}, `Config\.Path: `},
		{"no bucket", metrics.Config{Buckets: []float64{}}, `Config\.Buckets: is empty`},
		{"a negative bucket", metrics.Config{Buckets: []float64{-1, 2}}, `Config\.Buckets\[0\]: -1`},
		{"falling buckets", metrics.Config{Buckets: []float64{1, 1}}, `Config\.Buckets\[1\]: 1`},
		{"another server's registry", metrics.Config{Registry: shared}, `Config\.Registry: has the metrics of another server`},
		{"a metric of the same name", metrics.Config{Registry: clash}, `Config\.Registry: .*mooncore_draining`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := mooncore.New(mooncore.Config{Routers: routers(), Development: true, Logger: slog.New(slog.DiscardHandler), Extensions: []mooncore.Extension{metrics.Extension(tt.cfg)}})
			if err == nil || !regexp.MustCompile(tt.want).MatchString(err.Error()) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// A program's own registry may have the collectors of Go and the process already, as the default one of Prometheus has.
func TestOwnRegistry(t *testing.T) {
	registry := prometheus.NewRegistry()
	own := prometheus.NewCounter(prometheus.CounterOpts{Name: "tasks_total", Help: "Tasks."})
	registry.MustRegister(own, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	inner, _ := scrape(t, metrics.Config{Registry: registry}, "/metrics")
	for _, want := range []string{"\ntasks_total 0\n", "\nmooncore_draining 0\n", "\ngo_goroutines "} {
		if strings.Count(inner, want) != 1 {
			t.Errorf("no %q", want)
		}
	}
}

// Several servers of one process may share the Extension, if they share no registry.
func TestTwoServers(t *testing.T) {
	extension := metrics.Extension(metrics.Config{})
	for range 2 {
		mooncoretest.New(t, mooncore.Config{Routers: routers(), Extensions: []mooncore.Extension{extension}})
	}
}

// A call with metrics allocates what one without them does.
func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	allocations := func(extensions ...mooncore.Extension) float64 {
		srv := mooncoretest.New(t, mooncore.Config{Routers: routers(), Logger: slog.New(slog.DiscardHandler), Extensions: extensions})
		return testing.AllocsPerRun(1000, func() { srv.Call(context.Background(), &mooncore.Request{Action: "hello"}) })
	}
	without, with := allocations(), allocations(metrics.Extension(metrics.Config{}))
	if with > without {
		t.Errorf("%v allocations with metrics, %v without", with, without)
	}
}

// Scrapes and calls may come at the same time.
func TestConcurrentScrapes(t *testing.T) {
	srv, registry := server(t, mooncore.Config{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				srv.Call(context.Background(), &mooncore.Request{Action: "hello"})
			}
		})
		wg.Go(func() {
			for range 20 {
				if _, err := registry.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := values(t, registry)[call("hello", "ok")]; got != 800 {
		t.Errorf("%v calls", got)
	}
}

func BenchmarkCall(b *testing.B) {
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("metrics=%v", with), func(b *testing.B) {
			cfg := mooncore.Config{Routers: routers(), Development: true, Logger: slog.New(slog.DiscardHandler)}
			if with {
				cfg.Extensions = []mooncore.Extension{metrics.Extension(metrics.Config{})}
			}
			srv, err := mooncore.New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			defer srv.Shutdown(context.Background())
			b.ReportAllocs()
			for b.Loop() {
				srv.Call(context.Background(), &mooncore.Request{Action: "hello"})
			}
		})
	}
}
