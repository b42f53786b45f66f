package mooncore

import (
	"context"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/mooncore/mooncore/ws"
)

// The WebSocket sub-protocols. A browser, which can't set headers, sends its token as another one beside them.
const (
	subprotocol        = "mooncore.v1"
	historySubprotocol = "mooncore.v1.history" // preferred
	tokenSubprotocol   = "bearer."
)

// SocketHandler serves the WebSocket endpoint of a pool of Config.Pools, to mount it on a route of the program's own; the first
// pool's is /ws already. It panics if there is no such pool.
func (s *Server) SocketHandler(pool string) http.Handler {
	p := s.poolNamed(pool)
	if p == nil {
		panic("mooncore: SocketHandler: Config.Pools has no " + pool)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serveSocket(w, r, p) })
}

// serveSocket makes a connection of an upgrade request. PROTOCOL.md section 3.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request, p *pool) {
	scheme := s.proxies.scheme(r)
	switch {
	case !s.hosts.allow(r):
		s.refuse(w, r, errHost)
		return
	case !s.origins.allowUpgrade(r, scheme):
		s.log.Warn("origin refused", "origin", clip(r.Header.Get("Origin")), "host", clip(r.Host), "scheme", scheme)
		s.refuse(w, r, errOrigin)
		return
	}
	id, err := s.identify(withSubprotocolToken(r))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if !s.sockets.enter() {
		s.refuse(w, r, s.closed())
		return
	}
	if s.sockets.count() > s.cfg.Limits.Conns {
		s.sockets.leave()
		s.counters.refused.Add(1)
		s.refuse(w, r, errOverloaded)
		return
	}
	c, err := s.connect(w, r, p, id)
	if err != nil {
		s.sockets.leave()
		return
	}
	defer s.startReading(c) // also if a hook panics or ends the goroutine: only a connection that reads can end
	for _, o := range s.cfg.Observers {
		o.ConnOpen(c)
	}
	if s.log.Enabled(r.Context(), slog.LevelDebug) {
		s.log.Debug("connection open", "conn", c.id, "user", clip(id.User), "tenant", clip(id.Tenant), "remote", c.addr)
	}
	if s.cfg.OnConnect != nil {
		s.welcome(c)
	}
}

// startReading reads from a connection, which is closed at once if Config.OnConnect did not let it in.
func (s *Server) startReading(c *Conn) {
	if s.cfg.OnConnect != nil && !c.welcomed {
		c.ws.Close(ws.CodePolicy, "refused")
	}
	c.ws.Start()
	if !s.sockets.open() { // Shutdown may have listed the connections before this one was there
		c.restart()
	}
}

// connect answers the handshake and registers the connection. If it fails, the response has been written.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, p *pool, id *Identity) (*Conn, error) {
	c := &Conn{
		server: s, pool: p, id: strings.Clone(newID()), addr: s.proxies.client(r), host: r.Host, remote: r.RemoteAddr, since: time.Now(),
		history: offers(r, historySubprotocol), // so it is what Accept selects
	}
	if s.cfg.Limits.Calls > 1 {
		c.calls = make(chan struct{}, s.cfg.Limits.Calls)
	}
	c.ws = s.connections.New(socket{c})
	c.identity.Store(nobody)
	if err := s.register(c, id); err != nil {
		s.counters.refused.Add(1)
		s.log.Debug("upgrade failed", "cause", err)
		s.refuse(w, r, err)
		return nil, err
	}
	// From here on events reach the connection. They wait until the client has its answer.
	if err := c.ws.Accept(w, r); err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// refuseHandshake answers a request that is no WebSocket handshake, or one whose ResponseWriter takes none, with this status.
func (s *Server) refuseHandshake(w http.ResponseWriter, r *http.Request, status int, text string) {
	id := requestID(r)
	w.Header().Set("X-Request-Id", id)
	e, level := &Error{Code: CodeInvalidArgument, Message: clip(text)}, slog.LevelDebug
	switch {
	case status >= http.StatusInternalServerError:
		e.Code, level = CodeInternal, slog.LevelError
		text += ": the ResponseWriter gives no connection; middleware that wraps one must have a method Unwrap"
	case status == http.StatusMethodNotAllowed:
		e.Code = CodeMethodNotAllowed
		w.Header().Set("Allow", http.MethodGet)
	}
	s.log.Log(r.Context(), level, "upgrade failed", "path", clip(r.URL.Path), "request_id", id, "cause", clip(text))
	writeJSON(w, status, appendError(nil, e, id))
}

// newConnections returns what makes connections: their limits, and what writes to them.
func newConnections(s *Server) *ws.Group {
	limits := &s.cfg.Limits
	options := &ws.Options{
		Context:      s.halted,
		MaxMessage:   s.maxBytes,
		SendBytes:    limits.SendBytes,
		IdleTimeout:  limits.IdleTimeout,
		Compression:  s.cfg.Compression,
		Subprotocols: []string{historySubprotocol, subprotocol},
		Refuse:       s.refuseHandshake,
		Panic: func(c *ws.Conn, value any, stack []byte) {
			s.log.Error("connection panicked", "conn", connOf(c).id, "cause", value, "stack", string(stack))
		},
	}
	if observers := s.cfg.Observers; len(observers) > 0 {
		options.Trace = func(c *ws.Conn, sent bool, typ ws.Type, data []byte) {
			for _, o := range observers {
				o.Frame(connOf(c), sent, typ == ws.Binary, data)
			}
		}
	}
	if limits.FramesPerSecond < noLimit {
		options.FramesPerSecond = limits.FramesPerSecond
	}
	return ws.NewGroup(options)
}

func connOf(c *ws.Conn) *Conn { return c.Handler().(socket).Conn }

// register makes a connection known, if there is a place for it.
func (s *Server) register(c *Conn, id *Identity) error {
	p := c.pool
	if id.User == "" {
		if !p.admit(anonTenant, s.cfg.Limits.AnonConns, func() { c.member = p.conns.Add(anonTenant, c) }) {
			return errOverloaded
		}
		c.member.Join(pendingChannel, 0)
		c.armAuthTimeout()
		return nil
	}
	c.member = p.conns.Add(anonTenant, c)
	err := c.authenticate(context.Background(), id)
	if err != nil {
		c.end()
	}
	return err
}

// armAuthTimeout closes an anonymous connection that stays so for too long, where the server wants that.
func (c *Conn) armAuthTimeout() {
	limit := c.server.cfg.Limits.AuthTimeout
	if limit <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(limit, func() {
		if c.Identity().User == "" {
			c.ws.Close(ws.CodeUnauthorized, "authentication timeout")
		}
	})
}

// welcome calls Config.OnConnect.
func (s *Server) welcome(c *Conn) {
	var err error
	returned := guard(s.log, "OnConnect", func() { err = s.cfg.OnConnect(c.ws.Context(), c) })
	if err != nil && CodeOf(err) == CodeInternal {
		s.log.Error("OnConnect failed", "conn", c.id, "cause", err)
	}
	c.welcomed = returned && err == nil
}

// disconnected ends what connect began.
func (s *Server) disconnected(c *Conn) {
	defer s.sockets.leave()
	if s.cfg.OnDisconnect != nil && (s.cfg.OnConnect == nil || c.welcomed) {
		guard(s.log, "OnDisconnect", func() { s.cfg.OnDisconnect(c) })
	}
}

// subprotocols are what a client offers.
func subprotocols(r *http.Request) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, value := range r.Header.Values("Sec-WebSocket-Protocol") {
			for protocol := range strings.SplitSeq(value, ",") {
				if !yield(strings.TrimSpace(protocol)) {
					return
				}
			}
		}
	}
}

// offers reports whether a client offers a sub-protocol, as Accept compares them.
func offers(r *http.Request, subprotocol string) bool {
	for protocol := range subprotocols(r) {
		if strings.EqualFold(protocol, subprotocol) {
			return true
		}
	}
	return false
}

// withSubprotocolToken returns r with the token of its sub-protocols, if there is one and no Authorization header, in that header.
func withSubprotocolToken(r *http.Request) *http.Request {
	if len(r.Header.Values("Authorization")) > 0 {
		return r
	}
	for protocol := range subprotocols(r) {
		if token, ok := strings.CutPrefix(protocol, tokenSubprotocol); ok {
			r = r.Clone(r.Context())
			r.Header.Set("Authorization", "Bearer "+token)
			return r
		}
	}
	return r
}
