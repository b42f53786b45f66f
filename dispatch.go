package mooncore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/mooncore/mooncore/internal/form"
)

// call takes a call through the whole chain: route by app, access, timeout, params, middleware, handler. It is the only path
// to a handler. Whoever calls it has the gate open, and answers and logs what it returns.
func (s *Server) call(ctx context.Context, req *Request) (any, error) {
	action, err := s.step(ctx, req, "access", s.admit)
	if err != nil {
		return nil, err
	}
	if action.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, action.timeout)
		defer cancel()
	}
	if _, err := s.step(ctx, req, "params", s.prepare); err != nil {
		return nil, err
	}
	return action.chain(ctx, req)
}

// step runs a step of a call and shows it to the Observers.
func (s *Server) step(ctx context.Context, req *Request, name string, run func(req *Request) error) (*actionState, error) {
	if len(s.cfg.Observers) == 0 {
		err := run(req)
		return req.action, err
	}
	start := time.Now()
	err := run(req)
	took := time.Since(start)
	for _, o := range s.cfg.Observers {
		o.CallStep(ctx, req, name, took, err)
	}
	return req.action, err
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

// The errors that the framework itself answers, with the texts of PROTOCOL.md section 2.
var (
	errUndefinedAction      = &Error{Code: CodeNotFound, Message: "Undefined action"}
	errNoAction             = &Error{Code: CodeInvalidArgument, Message: "Undefined action"}
	errUnauthenticated      = &Error{Code: CodeUnauthenticated, Message: "Access denied"}
	errInvalidToken         = &Error{Code: CodeUnauthenticated, Message: textInvalidToken}
	errTokenExpired         = &Error{Code: CodeUnauthenticated, Message: textTokenExpired}
	errPermissionDenied     = &Error{Code: CodePermissionDenied, Message: "Access denied"}
	errOrigin               = &Error{Code: CodePermissionDenied, Message: "Origin not allowed"}
	errHost                 = &Error{Code: CodePermissionDenied, Message: "Host not allowed"}
	errMethodNotAllowed     = &Error{Code: CodeMethodNotAllowed, Message: "Method not allowed"}
	errTooLarge             = &Error{Code: CodeTooLarge, Message: "Payload too large"}
	errUnsupportedMediaType = &Error{Code: CodeUnsupportedMediaType, Message: "Unsupported media type"}
	errShuttingDown         = &Error{Code: CodeUnavailable, Message: "Shutting down"}
	errOverloaded           = &Error{Code: CodeUnavailable, Message: "Too many connections"}
)

// asError returns err as the [*Error] that a client gets to see: faults of fields that were joined are merged, and whatever
// was not meant for a client is internal.
func asError(err error) *Error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if merged := mergeFaults(joined.Unwrap()); merged != nil {
			return merged
		}
	}
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Code != "" && (e.Message != "" || e.Code == CodeInternal) {
			return e
		}
		filled := *e
		filled.Code = e.code()
		filled.Message = defaultMessage(filled.Code)
		return &filled
	}
	code := CodeOf(err)
	return &Error{Code: code, Message: defaultMessage(code), Err: err}
}

// mergeFaults returns one validation error for errors that are nothing but faults of fields, else nil.
func mergeFaults(errs []error) *Error {
	merged := &Error{Code: CodeValidationFailed, Message: string(CodeValidationFailed), Fields: map[string][]string{}}
	for _, err := range errs {
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != CodeValidationFailed || len(e.Fields) == 0 {
			return nil
		}
		for field, texts := range e.Fields {
			merged.Fields[field] = append(merged.Fields[field], texts...)
		}
	}
	return merged
}

// defaultMessage is what a client reads when a program gave a code and no text.
func defaultMessage(code Code) string {
	switch code {
	case CodeValidationFailed:
		return string(CodeValidationFailed)
	case CodeCanceled:
		return "Canceled"
	case CodeDeadlineExceeded:
		return "Deadline exceeded"
	case CodeUnauthenticated, CodePermissionDenied:
		return "Access denied"
	case CodeInvalidArgument:
		return "Invalid argument"
	case CodeNotFound:
		return "Not found"
	case CodeMethodNotAllowed:
		return errMethodNotAllowed.Message
	case CodeAlreadyExists:
		return "Already exists"
	case CodeFailedPrecondition:
		return "Failed precondition"
	case CodeTooLarge:
		return errTooLarge.Message
	case CodeUnsupportedMediaType:
		return errUnsupportedMediaType.Message
	case CodeRateLimited:
		return "Rate limited"
	case CodeUnavailable:
		return "Unavailable"
	}
	return "Internal Server Error"
}
