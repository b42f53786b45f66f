package mooncore

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"
)

// A callContext is the context of one call. It ends when its parent does, when the server gives running calls up, at the
// deadline, and when the call has ended.
//
// Most handlers never wait for their context, so it costs one allocation, or none beside its Request: the contexts of package
// context that watch all of that are made when somebody asks for Done or derives a context. It is kept by who likes to, so it is
// never used again.
type callContext struct {
	parent   context.Context
	server   *Server
	deadline time.Time // zero without a timeout of the action; set before anybody waits, while Observers alone have the context

	req    atomic.Pointer[Request] // nil once it is another call's
	lent   atomic.Bool             // somebody outside may have req
	record callRecord

	ended   atomic.Bool
	watched atomic.Pointer[watchedContext] // nil until somebody waits or the call has ended
}

// A callRecord is what is known of a call whose Request is another's by now.
type callRecord struct {
	action   string
	conn     *Conn // nil for a call over HTTP
	addr     netip.Addr
	identity *Identity
	id       string
}

type watchedContext struct {
	context.Context
	cancel context.CancelFunc
}

// endedContext stands for the context of a call that ended before anybody waited for it.
var endedContext = func() *watchedContext {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return &watchedContext{ctx, cancel}
}()

// watch returns the context that can be waited for.
func (c *callContext) watch() *watchedContext {
	if w := c.watched.Load(); w != nil {
		return w
	}
	w := new(watchedContext)
	if c.deadline.IsZero() {
		w.Context, w.cancel = context.WithCancel(c.parent)
	} else {
		w.Context, w.cancel = context.WithDeadline(c.parent, c.deadline)
	}
	if c.server.halted.Err() != nil {
		w.cancel()
	} else {
		cancel, unregister := w.cancel, context.AfterFunc(c.server.halted, w.cancel)
		w.cancel = func() {
			unregister()
			cancel()
		}
	}
	if !c.watched.CompareAndSwap(nil, w) { // somebody else was first, or the call has ended
		w.cancel()
	}
	return c.watched.Load()
}

// end cancels the context, because the call has ended.
func (c *callContext) end() {
	c.ended.Store(true)
	if !c.watched.CompareAndSwap(nil, endedContext) {
		c.watched.Load().cancel()
	}
}

func (c *callContext) Done() <-chan struct{} { return c.watch().Done() }

func (c *callContext) Err() error {
	if c.watched.Load() == nil && c.parent.Err() == nil && c.server.halted.Err() == nil &&
		(c.deadline.IsZero() || time.Now().Before(c.deadline)) {
		return nil
	}
	return c.watch().Err()
}

func (c *callContext) Deadline() (deadline time.Time, ok bool) {
	deadline, ok = c.parent.Deadline()
	if !c.deadline.IsZero() && (!ok || c.deadline.Before(deadline)) {
		return c.deadline, true
	}
	return deadline, ok
}

// Value finds what package context looks for in its own contexts too, so that those derived from this one need no goroutine.
func (c *callContext) Value(key any) any {
	if key == (requestKey{}) {
		return c
	}
	if w := c.watched.Load(); w != nil && w != endedContext {
		return w.Value(key)
	}
	return c.parent.Value(key)
}

// String keeps package fmt from the fields.
func (c *callContext) String() string { return "mooncore.callContext" }

// lend returns the call's Request for somebody who may keep it.
func (c *callContext) lend() *Request {
	c.lent.Store(true) // before req is loaded: see recycle
	if req := c.req.Load(); req != nil {
		return req
	}
	r := &c.record
	source := "http"
	if r.conn != nil {
		source = "ws"
	}
	return &Request{
		Action: r.action, Identity: *r.identity, ID: r.id, Source: source, RemoteAddr: r.addr,
		server: c.server, conn: r.conn, ctx: c,
	}
}

// callFrom returns the call that ctx belongs to, or nil outside a call.
func callFrom(ctx context.Context) *callContext {
	c, _ := ctx.Value(requestKey{}).(*callContext)
	return c
}
