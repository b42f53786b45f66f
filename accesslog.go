package mooncore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// logCall writes the one line of a call. Params are never in it; the cause of an error is, since it is sent to nobody.
func (s *Server) logCall(ctx context.Context, req *Request, e *Error, start time.Time) {
	level, code := slog.LevelInfo, Code("ok")
	if e != nil {
		if code = e.code(); code == CodeInternal {
			level = slog.LevelError
		}
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs,
		slog.String("action", clip(req.Action)),
		slog.String("code", string(code)),
		slog.Duration("duration", time.Since(start)),
		slog.String("source", req.Source),
		slog.String("user", clip(req.Identity.User)),
		slog.String("tenant", clip(req.Identity.Tenant)),
		slog.String("request_id", req.ID),
	)
	if req.Identity.App != "" {
		attrs = append(attrs, slog.String("app", req.Identity.App))
	}
	if e != nil && e.LogID != "" {
		attrs = append(attrs, slog.String("log_id", e.LogID))
	}
	if cause, stack := e.Cause(); cause != "" || stack != "" {
		attrs = append(attrs, slog.String("cause", cause))
		if stack != "" {
			attrs = append(attrs, slog.String("stack", stack))
		}
	}
	s.log.LogAttrs(ctx, level, "call", attrs...)
}

// describe is the text of a program's error, and the stack if it was a panic. The error's own methods may panic.
func describe(err error) (text, stack string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("an error of type %T panicked: %v", err, v)
		}
	}()
	if p, ok := errors.AsType[*panicError](err); ok {
		stack = string(p.stack)
	}
	return err.Error(), stack
}

// clip shortens what a client sent, so that no line of the log grows with it.
func clip(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
