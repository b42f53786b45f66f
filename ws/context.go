package ws

import (
	"context"
	"time"
)

// A connContext is a connection's context. The one of package context that it stands for is made when somebody waits or derives
// another: most connections never need one, and would hold it for as long as they are idle.
type connContext struct{ c *Conn }

type watchedContext struct {
	context.Context
	cancel context.CancelFunc
}

// watch returns the context that can be waited for.
func (x connContext) watch() *watchedContext {
	c := x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil {
		c.ctx = new(watchedContext)
		c.ctx.Context, c.ctx.cancel = context.WithCancel(c.group.opts.Context)
		if c.out.closing() {
			c.ctx.cancel()
		}
	}
	return c.ctx
}

// made returns the context that can be waited for, or nil if nobody has needed it and it hasn't ended either.
func (x connContext) made() *watchedContext {
	x.c.mu.Lock()
	ctx, closing := x.c.ctx, x.c.out.closing()
	x.c.mu.Unlock()
	if ctx == nil && closing {
		return x.watch()
	}
	return ctx
}

func (x connContext) Done() <-chan struct{} { return x.watch().Done() }

func (x connContext) Err() error {
	if ctx := x.made(); ctx != nil {
		return ctx.Err()
	}
	return x.c.group.opts.Context.Err()
}

func (x connContext) Deadline() (time.Time, bool) { return x.c.group.opts.Context.Deadline() }

// Value finds what package context looks for in its own contexts too, so that those derived from this one need no goroutine.
func (x connContext) Value(key any) any {
	if ctx := x.made(); ctx != nil {
		return ctx.Value(key)
	}
	return x.c.group.opts.Context.Value(key)
}

// String keeps package fmt from the fields.
func (connContext) String() string { return "ws.Conn.Context" }
