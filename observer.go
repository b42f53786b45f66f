package mooncore

import (
	"context"
	"time"
)

// An Observer watches a server: calls and their steps, connections, their commands and frames. Metrics, traces and developer tools are
// Observers. Its methods are called in the goroutine that does the work, concurrently, and delay it: they must be quick and
// must neither panic nor call the server. What they get is read-only and, but for a [*Conn], good until they return. A server without Observers pays
// nothing for them. Embed [NopObserver] to implement some of the methods only.
type Observer interface {
	// CallStart is called for each call before its access is checked. The context that it returns is the call's. No other goroutine may
	// use ctx before the call's steps begin.
	CallStart(ctx context.Context, req *Request) context.Context

	// CallStep is called when a step of a call ended: "access", "params", "handler"; "rate", "idempotency" and "concurrency" for
	// actions that have such a policy, the latter two with the duration of what is further in; and "middleware <n>.<i>" for the one with
	// index i of the router (n is 0) or the action (1). The duration of a middleware includes what is further in.
	CallStep(ctx context.Context, req *Request, step string, took time.Duration, err error)

	// CallEnd is called once for each CallStart, when the result is known and before it is sent.
	CallEnd(ctx context.Context, req *Request, out any, err error, took time.Duration)

	// Command is called when a ["join", c], a ["leave", c] or a ["jwt", t] was answered. The name is the first word; ok says whether
	// the connection is in the channel now, is not, or is logged in.
	Command(c *Conn, name string, ok bool, took time.Duration)

	// ConnOpen is called when a WebSocket was accepted.
	ConnOpen(c *Conn)

	// ConnClose is called when it ended, with the close code and reason that either side gave.
	ConnClose(c *Conn, code int, reason string)

	// Frame is called for each text or binary message that was received, or queued to be sent.
	Frame(c *Conn, sent, binary bool, data []byte)
}

// NopObserver does nothing. Embed it in an [Observer] that needs only some of the methods.
type NopObserver struct{}

// CallStart returns ctx.
func (NopObserver) CallStart(ctx context.Context, _ *Request) context.Context { return ctx }

// CallStep does nothing.
func (NopObserver) CallStep(context.Context, *Request, string, time.Duration, error) {}

// CallEnd does nothing.
func (NopObserver) CallEnd(context.Context, *Request, any, error, time.Duration) {}

// Command does nothing.
func (NopObserver) Command(*Conn, string, bool, time.Duration) {}

// ConnOpen does nothing.
func (NopObserver) ConnOpen(*Conn) {}

// ConnClose does nothing.
func (NopObserver) ConnClose(*Conn, int, string) {}

// Frame does nothing.
func (NopObserver) Frame(*Conn, bool, bool, []byte) {}

// observed wraps one layer of a chain, so that Observers see how long it took.
func observed(observers []Observer, step string, next Next) Next {
	if len(observers) == 0 {
		return next
	}
	base := time.Now()
	return func(ctx context.Context, req *Request) (any, error) {
		before := time.Since(base) // cheaper than time.Now, which reads two clocks
		out, err := next(ctx, req)
		took := time.Since(base) - before
		for _, o := range observers {
			o.CallStep(ctx, req, step, took, err)
		}
		return out, err
	}
}
