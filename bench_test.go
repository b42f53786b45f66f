package mooncore_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/race"
)

// A task is what a small action takes and returns.
type task struct {
	Title string   `json:"title" validate:"required,min_length=2,max_length=200"`
	Done  bool     `json:"done"`
	Count int      `json:"count" validate:"min=0,max=1000"`
	Tags  []string `json:"tags" validate:"max_items=5,each,min_length=1"`
}

const (
	taskJSON = `{"title":"Buy milk","done":false,"count":3,"tags":["home","shop"]}`
)

// newBenchServer has typed and raw actions. It logs to the handler, nothing if that is nil.
func newBenchServer(tb testing.TB, log slog.Handler, middleware ...mooncore.Middleware) *mooncore.Server {
	tb.Helper()
	if log == nil {
		log = slog.DiscardHandler
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	raw := mooncore.Func(func(_ context.Context, params json.RawMessage) (json.RawMessage, error) { return params, nil })
	srv, err := mooncore.New(mooncore.Config{
		JWT: mooncore.JWTConfig{
			PrivateKey: mooncore.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		},
		Logger:      slog.New(log),
		Development: true, // ends without DrainDelay
		Routers: []mooncore.Router{{Middleware: middleware, Actions: []mooncore.Action{
			{Name: "raw", Allow: mooncore.Public, Handler: raw},
			{Name: "typed", Allow: mooncore.Public, Handler: mooncore.Func(
				func(_ context.Context, in task) (task, error) { return in, nil })},
			{Name: "mine", Allow: mooncore.Authenticated, Handler: raw},
			{Name: "rate", Allow: mooncore.Public, Handler: raw, Rate: mooncore.PerUser(1_000_000_000, time.Hour)},
			{Name: "concurrency", Allow: mooncore.Public, Handler: raw, Concurrency: 100},
			{Name: "idempotency", Allow: mooncore.Public, Handler: raw, Idempotency: time.Hour},
			{Name: "logged", Allow: mooncore.Public, Handler: raw, LogParams: []string{"title"}},
		}}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return srv
}

func passOn(next mooncore.Next) mooncore.Next {
	return func(ctx context.Context, req *mooncore.Request) (any, error) { return next(ctx, req) }
}

// BenchmarkCall is Server.Call.
func BenchmarkCall(b *testing.B) {
	for _, bench := range []struct {
		name       string
		action     string
		middleware []mooncore.Middleware
	}{
		{"raw", "raw", nil},
		{"raw with 6 middlewares", "raw", []mooncore.Middleware{passOn, passOn, passOn, passOn, passOn, passOn}},
		{"typed", "typed", nil},
	} {
		b.Run(bench.name, func(b *testing.B) {
			srv := newBenchServer(b, nil, bench.middleware...)
			params := json.RawMessage(taskJSON)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := srv.Call(b.Context(), &mooncore.Request{Action: bench.action, Params: params, ID: "x"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPolicy is Server.Call of an action with each policy beside one without. An idempotency key that is new each time makes the
// store forget; with one and the same key, all but the first call are retries.
func BenchmarkPolicy(b *testing.B) {
	params := json.RawMessage(taskJSON)
	for _, bench := range []struct {
		name, action string
		key          func(i int) string
	}{
		{"none", "raw", nil},
		{"rate", "rate", nil},
		{"concurrency", "concurrency", nil},
		{"idempotency without key", "idempotency", nil},
		{"idempotency", "idempotency", func(i int) string { return strconv.Itoa(i) }},
		{"idempotency, retry", "idempotency", func(int) string { return "k" }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			srv := newBenchServer(b, nil)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				req := &mooncore.Request{Action: bench.action, Params: params, ID: "x"}
				if bench.key != nil {
					req.IdempotencyKey = bench.key(i)
				}
				if _, err := srv.Call(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A benchRequest is one request that is served again and again, without a socket, and allocates nothing of its own.
type benchRequest struct {
	srv    *mooncore.Server
	r      *http.Request
	body   string
	reader strings.Reader

	header http.Header
	status int
	wrote  []byte
}

func newBenchRequest(srv *mooncore.Server, action, body, token string) *benchRequest {
	q := &benchRequest{srv: srv, body: body, header: http.Header{}}
	q.r = httptest.NewRequest(http.MethodPost, "/run/"+action, strings.NewReader(body))
	q.r.Header.Set("Content-Type", "application/json")
	if token != "" {
		q.r.Header.Set("Authorization", "Bearer "+token)
	}
	return q
}

func (q *benchRequest) serve(tb testing.TB) {
	q.reader.Reset(q.body)
	q.r.Body = q
	q.status, q.wrote = 0, q.wrote[:0]
	clear(q.header)
	q.srv.ServeHTTP(q, q.r)
	if q.status != http.StatusOK {
		tb.Fatalf("%d: %s", q.status, q.wrote)
	}
}

// The body.
func (q *benchRequest) Read(b []byte) (int, error) { return q.reader.Read(b) }
func (q *benchRequest) Close() error               { return nil }

// The ResponseWriter, with deadlines as net/http's has them.
func (q *benchRequest) Header() http.Header             { return q.header }
func (q *benchRequest) WriteHeader(status int)          { q.status = status }
func (q *benchRequest) SetReadDeadline(time.Time) error { return nil }
func (q *benchRequest) Write(b []byte) (int, error) {
	q.wrote = append(q.wrote, b...)
	return len(b), nil
}

// newBenchToken returns a token that lasts.
func newBenchToken(tb testing.TB, srv *mooncore.Server) string {
	token, err := srv.Token(mooncore.Identity{User: "alice", Tenant: "acme"})
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// BenchmarkHTTP is a request through ServeHTTP, without a socket.
func BenchmarkHTTP(b *testing.B) {
	for _, bench := range []struct {
		name, action string
		token        bool
		log          slog.Handler
	}{
		{"raw", "raw", false, nil},
		{"typed", "typed", false, nil},
		{"raw, RS256", "mine", true, nil},
		{"raw, logged", "raw", false, slog.NewJSONHandler(io.Discard, nil)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			srv := newBenchServer(b, bench.log)
			token := ""
			if bench.token {
				token = newBenchToken(b, srv)
			}
			q := newBenchRequest(srv, bench.action, taskJSON, token)
			b.ReportAllocs()
			for b.Loop() {
				q.serve(b)
			}
		})
	}
}

// benchAllocations returns how many allocations one call of serve costs, and skips the test where they can't be counted.
func benchAllocations(t *testing.T, serve func()) float64 {
	t.Helper()
	if race.Enabled {
		t.Skip("pools lose what is put into them under the race detector")
	}
	return testing.AllocsPerRun(200, serve)
}

func TestHTTPAllocations(t *testing.T) {
	for _, tt := range []struct {
		name, action string
		token        bool
		log          slog.Handler
		most         float64
	}{
		{"raw", "raw", false, nil, 3},                                     // the call, the body, the result as any
		{"RS256", "mine", true, nil, 3},                                   // the same
		{"typed", "typed", false, nil, 8},                                 // and the struct, its string, its list and two strings in that
		{"rate", "rate", false, nil, 3},                                   // a policy costs no allocation
		{"concurrency", "concurrency", false, nil, 3},                     //
		{"idempotency without key", "idempotency", false, nil, 3},         //
		{"logged", "raw", false, slog.NewJSONHandler(io.Discard, nil), 4}, // and attributes past those that a slog.Record has room for
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := newBenchServer(t, tt.log)
			token := ""
			if tt.token {
				token = newBenchToken(t, srv)
			}
			q := newBenchRequest(srv, tt.action, taskJSON, token)
			if n := benchAllocations(t, func() { q.serve(t) }); n > tt.most {
				t.Errorf("%v allocations; want at most %v", n, tt.most)
			}
		})
	}
}

func TestMiddlewareAllocatesNothing(t *testing.T) {
	params := json.RawMessage(taskJSON)
	allocations := func(middleware ...mooncore.Middleware) float64 {
		srv := newBenchServer(t, nil, middleware...)
		ctx := t.Context()
		return benchAllocations(t, func() {
			if _, err := srv.Call(ctx, &mooncore.Request{Action: "raw", Params: params, ID: "x"}); err != nil {
				t.Fatal(err)
			}
		})
	}
	none, six := allocations(), allocations(passOn, passOn, passOn, passOn, passOn, passOn)
	if six > none {
		t.Errorf("%v allocations with 6 middlewares, %v without", six, none)
	}
}
