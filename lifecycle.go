package mooncore

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mooncore/mooncore/ws"
)

// Timeouts of the listeners that Run opens: a peer that sends its request slowly holds nothing for long.
const (
	headerTimeout  = 5 * time.Second
	keepAlive      = 60 * time.Second
	maxHeaderBytes = 16 << 10
)

// Closing many connections is spread, so that not all clients come back at once.
const (
	closeBatch    = 200
	closePause    = 10 * time.Millisecond
	maxRetryAfter = 5 * time.Second
)

// Run reads the environment ([ConfigFromEnv]), makes a [Server] and serves until SIGINT or SIGTERM, then drains it.
// It returns nil after a clean stop. A second signal ends the process at once.
//
// With MOONCORE_CHECK=text or json in the environment it serves nothing: it writes what [Config.Check] finds to standard output,
// as text or as a JSON array of [Finding] in one line, variables that are wrong included, and returns nil, or an error if a
// finding is fatal.
func Run(cfg Config) error {
	if format := os.Getenv(checkVariable); format != "" {
		return errors.Join(checkEnvironment(cfg, format, os.Stdout), cfg.closeBroker())
	}
	given := cfg
	cfg, err := ConfigFromEnv(cfg)
	if err != nil {
		return errors.Join(fmt.Errorf("mooncore: the environment has faults:\n%w", err), given.closeBroker())
	}
	s, err := New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // from the first signal on, the next one has its usual effect
	return s.Run(ctx)
}

// Run listens on Config.Addr until ctx ends, then shuts down within Config.ShutdownTimeout. It returns nil after a clean stop.
// It may be called once.
func (s *Server) Run(ctx context.Context) error {
	listener, err := s.listen()
	if err != nil {
		return errors.Join(err, s.abandon())
	}
	inner, err := s.listenInner()
	if err != nil {
		listener.Close()
		return errors.Join(err, s.abandon())
	}
	errorLog := slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, IdleTimeout: keepAlive, MaxHeaderBytes: maxHeaderBytes, ErrorLog: errorLog,
	}
	innerServer := &http.Server{
		Handler: localHost(s.inner()), ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTime, IdleTimeout: keepAlive, MaxHeaderBytes: maxHeaderBytes, ErrorLog: errorLog,
	}
	failed := make(chan error, 2)
	serve := func(server *http.Server, l net.Listener) {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() { serve(server, listener) })
	if inner != nil {
		serving.Go(func() { serve(innerServer, inner) })
	}
	addr := listener.Addr()
	s.addr.Store(&addr)
	s.logStart(listener, inner)
	if !s.cfg.Development {
		s.logFindings(s.cfg.checkListening(thisMachine()))
	}

	select {
	case err = <-failed:
	case <-ctx.Done():
		s.log.Info("stopping", "drain_delay", s.cfg.DrainDelay, "timeout", s.cfg.ShutdownTimeout)
	}
	start := time.Now()
	stopping, cancel := context.WithTimeout(context.Background(), s.cfg.ShutdownTimeout)
	defer cancel()
	err = errors.Join(err, s.Shutdown(stopping), stopServer(stopping, server), stopServer(stopping, innerServer))
	if err != nil {
		s.log.Error("stopped", "duration", time.Since(start), "cause", err)
		return fmt.Errorf("mooncore: %w", err)
	}
	s.log.Info("stopped", "duration", time.Since(start))
	return nil
}

// Addr is the address that Run listens on; nil before, and for a server that the program mounts.
func (s *Server) Addr() net.Addr {
	if addr := s.addr.Load(); addr != nil {
		return *addr
	}
	return nil
}

// stopServer lets a server's requests end, or ends them when ctx does.
func stopServer(ctx context.Context, server *http.Server) error {
	err := server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	return err
}

func (s *Server) listen() (net.Listener, error) {
	l := s.cfg.Listener
	if l == nil {
		var err error
		// The idle timeouts of HTTP and the pings of WebSocket find lost peers sooner than TCP's probes, which cost three system calls a
		// connection.
		conf := net.ListenConfig{KeepAlive: -1}
		if l, err = conf.Listen(context.Background(), "tcp", s.cfg.Addr); err != nil {
			return nil, fmt.Errorf("mooncore: %w", err) // it names the address
		}
	}
	if s.cfg.TLS != nil {
		conf := s.cfg.TLS.Clone()
		conf.NextProtos = []string{"http/1.1"} // WebSocket needs it, PROTOCOL.md section 3
		l = tls.NewListener(l, conf)
	}
	return l, nil
}

func (s *Server) listenInner() (net.Listener, error) {
	if s.cfg.Inner == "" {
		if routes := s.innerRoutes(); len(routes) > 0 {
			s.log.Warn("routes of the inner listener are not served: Config.Inner is empty", "routes", strings.Join(routes, ", "))
		}
		return nil, nil
	}
	l, err := net.Listen("tcp", s.cfg.Inner)
	if err != nil {
		return nil, fmt.Errorf("mooncore: Config.Inner: %w", err)
	}
	return l, nil
}

// HandleInner adds a route to the inner listener (Config.Inner), for extensions. It panics as [http.ServeMux.Handle] does. Without
// Config.Inner, Run warns that nobody gets there.
func (s *Server) HandleInner(pattern string, h http.Handler) {
	s.inner().Handle(pattern, h)
	s.innerMu.Lock()
	defer s.innerMu.Unlock()
	s.innerAdded = append(s.innerAdded, pattern)
}

// innerRoutes are those of HandleInner.
func (s *Server) innerRoutes() []string {
	s.innerMu.Lock()
	defer s.innerMu.Unlock()
	return slices.Clone(s.innerAdded)
}

// localHost refuses requests whose Host is a name other than localhost: a page in a browser may have pointed its own name at
// this address (DNS rebinding), and must not read what is served here.
func localHost(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, ok := splitHostPort(r.Host)
		if _, err := netip.ParseAddr(host); !ok || err != nil && !strings.EqualFold(host, "localhost") {
			http.Error(w, errHost.Message, http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (s *Server) inner() *http.ServeMux {
	s.innerMu.Lock()
	defer s.innerMu.Unlock()
	if s.innerMux == nil {
		mux := http.NewServeMux()
		mux.HandleFunc("/livez", s.health.serveLive)
		mux.HandleFunc("/readyz", s.health.serveReady)
		mux.HandleFunc("/health", s.health.serveReady)
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
		s.innerMux = mux
	}
	return s.innerMux
}

func (s *Server) logStart(l, inner net.Listener) {
	environment := "production"
	if s.cfg.Development {
		environment = "development"
	}
	attrs := []any{
		"addr", l.Addr().String(), "environment", environment, "version", version(), "tls", s.cfg.TLS != nil,
		"apps", len(s.apps), "tokens", s.tokens.String(), "cluster", s.hub != nil,
	}
	if s.hub != nil {
		attrs = append(attrs, "node", s.cfg.Node)
	}
	if inner != nil {
		attrs = append(attrs, "inner", inner.Addr().String())
	}
	if len(s.cfg.Origins) > 0 {
		attrs = append(attrs, "origins", strings.Join(s.cfg.Origins, ","))
	}
	s.log.Info("listening", attrs...)
}

// version is that of this module in the program's build.
func version() string {
	const module = "github.com/mooncore/mooncore"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path == module {
		return info.Main.Version
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			return dep.Version
		}
	}
	return "unknown"
}

// refuseTime is for how long calls are refused at least, before Shutdown returns and the program closes its listener. A proxy that doesn't
// ask /readyz sends no more after the first refusal; a call that it sent while the listener closes would be reset, and nobody knew
// whether it ran.
const refuseTime = time.Second

// Shutdown drains: /readyz fails, new calls are refused after Config.DrainDelay, running ones are answered, connections are
// closed with 1012, the goroutines of [Server.Go] and the broker stop. It returns when all of them have ended, and calls were refused
// for a second, or for DrainDelay if that is less; or, after it has cut off what was left, the error of ctx. Further calls wait for the
// first, as long as their own ctx lasts, and return its error.
//
// [http.Server.Shutdown] closes no WebSocket: a program that mounts the Server calls both, this one first.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.shutdown.CompareAndSwap(false, true) {
		s.shutdownErr = s.drain(ctx)
		close(s.shutdownDone)
	} else if err := waitFor(ctx, s.shutdownDone); err != nil {
		return err
	}
	return s.shutdownErr
}

func (s *Server) drain(ctx context.Context) error {
	s.health.setDraining()
	pause(ctx, s.cfg.DrainDelay)
	callsEnded := s.gate.close()
	refusing := time.Now()
	socketsClosed := s.sockets.close()
	err := waitFor(ctx, callsEnded)
	if err != nil {
		s.log.Warn("calls are cut off", "running", s.gate.count())
	}
	s.halt()
	s.closeSockets(ctx)
	if waitErr := waitFor(ctx, socketsClosed); waitErr != nil {
		err = waitErr
		for _, c := range s.Conns() {
			c.ws.CloseNow()
		}
	}
	s.presence.close()
	err = errors.Join(err, s.stop(ctx))
	pause(ctx, min(s.cfg.DrainDelay, refuseTime)-time.Since(refusing))
	return err
}

// abandon ends what New started, for a server that never served.
func (s *Server) abandon() error {
	s.stopBackground()
	s.startWaiting()
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.ShutdownTimeout)
	defer cancel()
	return s.stop(ctx)
}

// closeBroker closes the broker of a server that was never made.
func (c *Config) closeBroker() error {
	if c.Broker == nil {
		return nil
	}
	if err := c.Broker.Close(); err != nil {
		return fmt.Errorf("mooncore: Broker: %w", err)
	}
	return nil
}

// stop ends the goroutines of Go, the checks and the broker.
func (s *Server) stop(ctx context.Context) error {
	s.stopBackground()
	err := errors.Join(
		within(ctx, func() error { s.workers.Wait(); s.callers.Wait(); return nil }),
		s.health.shutdown(ctx),
	)
	if s.history != nil {
		err = errors.Join(err, within(ctx, s.history.close))
	}
	if s.hub != nil {
		err = errors.Join(err, within(ctx, s.hub.Close))
	}
	return err
}

// within runs fn, and returns its error or, if that comes first, the one of ctx.
func within(ctx context.Context, fn func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- fn() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeSockets tells every connection to come back later, in batches.
func (s *Server) closeSockets(ctx context.Context) {
	for i, c := range s.Conns() {
		if i > 0 && i%closeBatch == 0 {
			pause(ctx, closePause)
		}
		c.restart()
	}
}

// restart closes a connection with 1012 once the messages that were read from it have been answered.
func (c *Conn) restart() { c.ws.CloseAfterPending(ws.CodeRestart, retryAfter()) }

// retryAfter is the reason of a close with 1012. PROTOCOL.md section 3.
func retryAfter() string {
	reason, _ := json.Marshal(map[string]int64{"retry_after": rand.Int64N(maxRetryAfter.Milliseconds()) + 1})
	return string(reason)
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func waitFor(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-done: // both: the work counts
		return nil
	default:
		return ctx.Err()
	}
}
