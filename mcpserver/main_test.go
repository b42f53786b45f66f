package mcpserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/mcpserver"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// A live server serves agents at /mcp on a port of loopback, until the test ends.
type live struct {
	*mooncore.Server
	url    string
	client *http.Client
	log    *lockedBuffer
}

func serve(t testing.TB, cfg mooncore.Config) *live {
	t.Helper()
	s := &live{log: new(lockedBuffer)}
	cfg.Development = true
	cfg.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	srv, err := mooncore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", mcpserver.Handler(srv))
	mux.Handle("/", srv)
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.Close()
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s.Server, s.url, s.client = srv, server.URL+"/mcp", server.Client()
	return s
}

// token returns a token for id, "" for nobody.
func (s *live) token(t testing.TB, id mooncore.Identity) string {
	t.Helper()
	if id.User == "" {
		return ""
	}
	token, err := s.Token(id)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// connect returns a session of the Go SDK's client, as id.
func (s *live) connect(t testing.TB, id mooncore.Identity) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: s.url, DisableStandaloneSSE: true, MaxRetries: -1,
		HTTPClient: &http.Client{Transport: bearer{s.client.Transport, s.token(t, id)}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

type bearer struct {
	http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.RoundTripper.RoundTrip(r)
}

// A response is what a plain HTTP client gets.
type response struct {
	status int
	header http.Header
	body   string
}

// post sends a body as JSON, with headers "Name: value".
func (s *live) post(t testing.TB, body string, headers ...string) response {
	t.Helper()
	return s.do(t, http.MethodPost, body, headers...)
}

func (s *live) do(t testing.TB, method, body string, headers ...string) response {
	t.Helper()
	r := s.request(t.Context(), t, method, body, headers...)
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(b)}
}

func (s *live) request(ctx context.Context, t testing.TB, method, body string, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	return r
}

// toolCall is the body of a call.
func toolCall(name, arguments string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + name + `","arguments":` + arguments + `}}`
}

// text is the text of a result.
func text(t testing.TB, r *mcp.CallToolResult) string {
	t.Helper()
	if len(r.Content) != 1 {
		t.Fatalf("got %d contents, want 1", len(r.Content))
	}
	c, ok := r.Content[0].(*mcp.TextContent)
	if !ok {
		t.Fatalf("got content %T", r.Content[0])
	}
	return c.Text
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
