// Package mooncoretest tests actions and WebSocket flows on a server in memory. In a bubble of testing/synctest its
// time is fake.
//
//	srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{router()}})
//	alice := srv.As(mooncore.Identity{User: "alice", Roles: []string{"user"}})
//	err := alice.Call("task.create", CreateTask{Title: "Milk"}, &task)
package mooncoretest

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
)

// patience is how long a Conn waits for an answer, and a Server for the end of what it started.
const patience = 10 * time.Second

// A Server runs in memory until its test ends. Its methods may be called concurrently.
type Server struct {
	*mooncore.Server

	t       testing.TB
	dial    func(ctx context.Context) (net.Conn, error)
	client  *http.Client
	routers []mooncore.Router

	mu         sync.Mutex
	identities map[string]mooncore.Identity // by the tokens that As made
}

// New starts a Server, in development mode, that logs to t. It fails the test if New of mooncore does, or if something is
// left running at the end.
func New(t testing.TB, cfg mooncore.Config) *Server {
	t.Helper()
	s := &Server{t: t, routers: cfg.Routers, identities: map[string]mooncore.Identity{}}
	cfg.Development = true
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if cfg.Authenticate == nil && cfg.JWT.PrivateKey == "" && cfg.JWT.PublicKeys == "" && cfg.JWT.Secret == "" {
		cfg.JWT.Secret = mooncore.Secret(rand.Text() + rand.Text()) // in place of the key that a server makes in development
	}
	cfg.Authenticate = s.authenticate(cfg.Authenticate)
	srv, err := mooncore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = srv

	listener := newPipeListener()
	s.dial = listener.dial
	s.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return listener.dial(ctx) },
	}}
	server := &http.Server{Handler: srv, ReadHeaderTimeout: patience, ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // http.ErrServerClosed, by the clean-up below
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := srv.Shutdown(ctx)
		cutOff := ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) // by the test's own Shutdown
		if err != nil && !cutOff {
			t.Errorf("mooncoretest: something still runs at the end of the test: %v", err)
		}
		s.client.CloseIdleConnections()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("mooncoretest: a request still runs at the end of the test: %v", err)
		}
		<-served
	})
	return s
}

// As returns a client that is authenticated as id, whatever the server's authentication. The zero Identity is a stranger.
//
// It fails the test if the app or a role of id is none of the server's: a misspelt one would make every refusal look right.
func (s *Server) As(id mooncore.Identity) *Client {
	s.t.Helper()
	c := &Client{server: s}
	if id.User != "" {
		s.check(id)
		c.token = tokenPrefix + rand.Text()
		s.mu.Lock()
		s.identities[c.token] = id
		s.mu.Unlock()
	}
	return c
}

// check fails the test if the configuration knows nothing of id's app or roles.
func (s *Server) check(id mooncore.Identity) {
	s.t.Helper()
	for _, r := range s.routers {
		if r.App != id.App && (id.App != "" || len(s.routers) > 1) {
			continue
		}
		for _, role := range id.Roles {
			if !slices.Contains(r.Roles, role) {
				s.t.Fatalf("mooncoretest: %q is none of the router's Roles %q", role, r.Roles)
			}
		}
		return
	}
	s.t.Fatalf("mooncoretest: no router has the App %q", id.App)
}

const tokenPrefix = "mooncoretest-"

// authenticate knows the tokens of As, and leaves others to the program.
func (s *Server) authenticate(next func(*http.Request) (mooncore.Identity, error)) func(*http.Request) (mooncore.Identity, error) {
	return func(r *http.Request) (mooncore.Identity, error) {
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			s.mu.Lock()
			id, ok := s.identities[token]
			s.mu.Unlock()
			if ok {
				return id, nil
			}
		}
		if next != nil {
			return next(r)
		}
		return mooncore.Identity{}, nil
	}
}

// A pipeListener accepts the connections that dial makes, in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- pipeConn{server}:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
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

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return memoryAddr{} }

// A pipeConn has an address as a network's would.
type pipeConn struct{ net.Conn }

func (pipeConn) RemoteAddr() net.Addr { return memoryAddr{} }
func (pipeConn) LocalAddr() net.Addr  { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "127.0.0.1:0" }
