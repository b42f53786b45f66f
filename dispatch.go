package mooncore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/mooncore/mooncore/internal/form"
)

// call takes a call through the whole chain: route by app, access, rate, timeout, params, idempotency, concurrency, middleware,
// handler. It is the only path
// to a handler. Whoever calls it has the gate open, and answers and logs what it returns.
func (s *Server) call(ctx context.Context, req *Request, start time.Time) (any, error) {
	if err := s.step(ctx, req, start, "access", s.admit); err != nil {
		return nil, err
	}
	action := req.action
	if action.Rate.by != rateUnset {
		if err := s.step(ctx, req, start, "rate", s.checkRate); err != nil {
			return nil, err
		}
	}
	switch {
	case action.timeout <= 0:
	case req.ctx.watched.Load() == nil:
		req.ctx.deadline = start.Add(action.timeout)
	default: // an Observer waits for the call's context, or derived one that does
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, action.timeout)
		defer cancel()
	}
	if err := s.step(ctx, req, start, "params", s.prepare); err != nil {
		return nil, err
	}
	if action.lends {
		req.ctx.lent.Store(true)
	}
	return action.chain(ctx, req)
}

// step runs a step of a call that began at start, and shows it to the Observers.
func (s *Server) step(ctx context.Context, req *Request, start time.Time, name string, run func(req *Request) error) error {
	if len(s.cfg.Observers) == 0 {
		return run(req)
	}
	before := time.Since(start) // cheaper than time.Now, which reads two clocks
	err := run(req)
	took := time.Since(start) - before
	for _, o := range s.cfg.Observers {
		o.CallStep(ctx, req, name, took, err)
	}
	return err
}

// admit finds the action that the caller may run, by the rules of PROTOCOL.md section 2.
func (s *Server) admit(req *Request) error {
	action, err := s.route(req)
	if err != nil {
		return err
	}
	req.action = action
	switch {
	case req.readOnly && !action.ReadOnly:
		return errMethodNotAllowed
	case int64(len(req.Params)) > action.maxBytes || req.size > action.maxBytes:
		return errTooLarge
	}
	return nil
}

func (s *Server) route(req *Request) (*actionState, error) {
	id := &req.Identity
	if id.User != "" {
		a := s.app(id.App)
		if a == nil {
			return nil, errUndefinedAction
		}
		if action := a.actions[req.Action]; action != nil {
			if !action.Allow.allows(id) {
				return nil, errPermissionDenied
			}
			return action, nil
		}
		if a.fallback != nil && a.fallback.Allow.allows(id) {
			return a.fallback, nil
		}
		return nil, errUndefinedAction
	}
	known := false
	for _, a := range s.apps {
		if action := a.actions[req.Action]; action != nil {
			if action.Allow.kind == accessPublic {
				return action, nil
			}
			known = true
		}
	}
	if known {
		if req.conn != nil && req.conn.expired() {
			return nil, errTokenExpired
		}
		return nil, errUnauthenticated
	}
	for _, a := range s.apps {
		if a.fallback != nil && a.fallback.Allow.kind == accessPublic {
			return a.fallback, nil
		}
	}
	return nil, errUndefinedAction
}

// checkRate takes a call from its caller's budget.
func (s *Server) checkRate(req *Request) error {
	limit := req.action.Rate
	if wait := s.rates.wait(limit, limit.key(req.action.number, req), time.Now()); wait > 0 {
		return &Error{Code: CodeRateLimited, Message: CodeRateLimited.text(), RetryAfter: wait}
	}
	return nil
}

// concurrent wraps an action, so that at most Concurrency calls run.
func concurrent(action *actionState, next Next) Next {
	most := int64(action.Concurrency)
	return func(ctx context.Context, req *Request) (any, error) {
		defer action.running.Add(-1)
		if action.running.Add(1) > most {
			return nil, errRateLimited
		}
		return next(ctx, req)
	}
}

// prepare lays query and overrides around the params, then validates and decodes them.
func (s *Server) prepare(req *Request) error {
	action := req.action
	h := action.Handler.h
	if len(req.query) > 0 || len(req.path) > 0 {
		query, err := form.AppendJSON(nil, req.query, h.literal)
		if err != nil {
			return Errorf(CodeInvalidArgument, "query: %v", err)
		}
		path, err := form.AppendJSON(nil, req.path, h.literal)
		if err != nil {
			return Errorf(CodeInvalidArgument, "path: %v", err)
		}
		req.Params = form.Merge(path, form.Merge(orEmptyObject(req.Params), query))
	}
	if len(action.overrides) > 0 {
		req.Params = override(req.Params, action.overrides)
	}
	req.Params = orEmptyObject(req.Params)
	if h.raw {
		req.raw = slices.Clip(req.Params)
		if req.conn != nil { // whose message's bytes are used again
			req.raw = bytes.Clone(req.Params)
		}
		req.in = &req.raw
		return nil
	}
	in, err := recoveredDecode(h.decode, req.Params)
	req.in = in
	return err
}

// A panicError is what a panic in a program's code becomes.
type panicError struct {
	value any
	stack []byte
}

func newPanicError(v any) *panicError { return &panicError{v, debug.Stack()} }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}

// guard runs a program's function, and logs a panic of it. It reports whether there was none.
func guard(log *slog.Logger, what string, fn func()) (returned bool) {
	defer func() {
		if v := recover(); v != nil {
			p := newPanicError(v)
			log.Error(what+" panicked", "cause", p, "stack", string(p.stack))
		}
	}()
	fn()
	return true
}

func recovered(next Next) Next {
	return func(ctx context.Context, req *Request) (out any, err error) {
		defer func() {
			if v := recover(); v != nil {
				out, err = nil, &Error{Code: CodeInternal, Err: newPanicError(v)}
			}
		}()
		return next(ctx, req)
	}
}

// recoveredDecode guards against a panic in UnmarshalJSON or Validate of a program's types.
func recoveredDecode(decode func(json.RawMessage) (any, error), params json.RawMessage) (in any, err error) {
	defer func() {
		if v := recover(); v != nil {
			in, err = nil, &Error{Code: CodeInternal, Err: newPanicError(v)}
		}
	}()
	return decode(params)
}
