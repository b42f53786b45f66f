package mooncore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/leaktest"
)

// TestMain runs the tests, or, in a process that a test of lifecycle_test.go or limits_test.go started, a server.
func TestMain(m *testing.M) {
	if os.Getenv(processEnv) != "" {
		os.Exit(serveProcess())
	}
	leaktest.Main(m)
}

// A live server runs by Server.Run, on a port of loopback or in memory.
type live struct {
	*mooncore.Server
	t      testing.TB
	addr   string
	scheme string // of URLs, and its twin for WebSocket
	client *http.Client
	stop   func() error // ends Run, once, and returns its error

	patience time.Duration
}

// serve starts a server that runs until the test ends, in development mode. It listens on cfg.Listener, or else on loopback.
func serve(t testing.TB, cfg mooncore.Config) *live {
	t.Helper()
	if cfg.Listener == nil {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg.Listener = listener
	}
	cfg.Development = true
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	srv, err := mooncore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	if pipe, ok := cfg.Listener.(*pipeListener); ok {
		transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return pipe.dial() }
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return &live{srv, t, cfg.Listener.Addr().String(), "http", &http.Client{Transport: transport}, stop, patience}
}

// serveInMemory is serve for bubbles of testing/synctest.
func serveInMemory(t testing.TB, cfg mooncore.Config) (*live, *pipeListener) {
	t.Helper()
	pipe := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	cfg.Listener = pipe
	srv := serve(t, cfg)
	srv.patience = 5 * time.Minute
	return srv, pipe
}

// A pipeListener accepts the connections that dial makes.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// token returns a signed token.
func (l *live) token(id mooncore.Identity) string {
	l.t.Helper()
	token, err := l.Token(id)
	if err != nil {
		l.t.Fatal(err)
	}
	return token
}

// request sends a request and returns the response and its body. Of header, every two are a name and a value.
func (l *live) request(method, path, body string, header ...string) (*http.Response, string) {
	l.t.Helper()
	return request(l.t, l.client, method, l.scheme+"://"+l.addr+path, body, header...)
}

func request(t testing.TB, client *http.Client, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Content-Type" {
			r.Header.Del("Content-Type")
		}
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := client.Transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// call posts a call.
func (l *live) call(action, params string, header ...string) (*http.Response, string) {
	l.t.Helper()
	return l.request(http.MethodPost, "/run/"+action, params, header...)
}

// patience is how long a socket waits for a frame; in a bubble, where time is fake, it is minutes.
const patience = 5 * time.Second

// A socket is a WebSocket client that takes frames as they are.
type socket struct {
	t        testing.TB
	ws       *websocket.Conn
	patience time.Duration
}

// dialURL opens a WebSocket. It returns nil and the response if the server refuses it.
func dialURL(t testing.TB, url string, client *http.Client, header ...string) (*socket, *http.Response) {
	t.Helper()
	h := http.Header{}
	host := ""
	var protocols []string
	for i := 0; i < len(header); i += 2 {
		switch header[i] {
		case "Host":
			host = header[i+1]
		case "Sec-WebSocket-Protocol":
			protocols = strings.Split(header[i+1], ", ")
		default:
			h.Add(header[i], header[i+1])
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client, HTTPHeader: h, Host: host, Subprotocols: protocols})
	if err != nil {
		if resp == nil {
			t.Fatal(err)
		}
		return nil, resp
	}
	c.SetReadLimit(-1)
	t.Cleanup(func() { c.CloseNow() })
	return &socket{t, c, patience}, resp
}

// dial opens a WebSocket.
func (l *live) dial(header ...string) *socket {
	l.t.Helper()
	s, resp := dialURL(l.t, "ws"+strings.TrimPrefix(l.scheme, "http")+"://"+l.addr+"/ws", l.client, header...)
	if s == nil {
		l.t.Fatalf("the upgrade was refused: %s", resp.Status)
	}
	s.patience = l.patience
	return s
}

// dialAs opens a WebSocket with a token for id.
func (l *live) dialAs(id mooncore.Identity) *socket {
	l.t.Helper()
	return l.dial("Authorization", "Bearer "+l.token(id))
}

func (s *socket) send(frame string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.ws.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
		s.t.Fatalf("send %.100s: %v", frame, err)
	}
}

// read returns the next frame, or the close code.
func (s *socket) read() (string, websocket.CloseError) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	_, b, err := s.ws.Read(ctx)
	if err == nil {
		return string(b), websocket.CloseError{}
	}
	var e websocket.CloseError
	if !asClose(err, &e) {
		s.t.Fatalf("read: %v", err)
	}
	return "", e
}

// expect reads frames, which must be these.
func (s *socket) expect(frames ...string) {
	s.t.Helper()
	for _, want := range frames {
		got, closed := s.read()
		if got != want {
			s.t.Fatalf("got %s (close code %d), want %s", got, closed.Code, want)
		}
	}
}

// expectClose reads until the server closes, with this code, and returns the reason and what came before.
func (s *socket) expectClose(code int) (reason string, before []string) {
	s.t.Helper()
	for {
		frame, closed := s.read()
		if frame != "" {
			before = append(before, frame)
			continue
		}
		if int(closed.Code) != code {
			s.t.Fatalf("closed with %d %q, want %d", closed.Code, closed.Reason, code)
		}
		return closed.Reason, before
	}
}

// ask sends a frame and returns the next one.
func (s *socket) ask(frame string) string {
	s.t.Helper()
	s.send(frame)
	got, closed := s.read()
	if got == "" {
		s.t.Fatalf("%.100s closed the connection: %v", frame, closed)
	}
	return got
}

// logLines is a logger's output, as records.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// records returns those with a message; all if it is empty.
func (l *logLines) records(t testing.TB, message string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(l.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("no record a line: %v: %s", err, line)
		}
		if message == "" || record["msg"] == message {
			found = append(found, record)
		}
	}
	return found
}

// logger returns a logger of everything, and what it wrote.
func logger() (*slog.Logger, *logLines) {
	lines := &logLines{}
	return slog.New(slog.NewJSONHandler(lines, &slog.HandlerOptions{Level: slog.LevelDebug})), lines
}

// eventually waits for something that another goroutine does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) { // real time: a process is waited for
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in 10 s", what)
		}
	}
}

// returning is an action that anybody may call.
func returning[T any](name string, fn func(ctx context.Context) (T, error)) mooncore.Action {
	return mooncore.Action{Name: name, Allow: mooncore.Public, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (T, error) {
		return fn(ctx)
	})}
}

// whoami answers the caller's user and tenant.
func whoami(ctx context.Context) (string, error) {
	id := mooncore.RequestFrom(ctx).Identity
	return id.User + "@" + id.Tenant, nil
}

func catalogue(actions ...mooncore.Action) []mooncore.Router {
	return []mooncore.Router{{Roles: []string{"user", "admin", "channel_chat"}, Actions: actions}}
}
