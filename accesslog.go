package mooncore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// logCall writes the one line of a call. Params are never in it; the cause of an error is, since it is sent to nobody.
func (s *Server) logCall(ctx context.Context, req *Request, err error, took time.Duration) {
	level, code := slog.LevelInfo, Code("ok")
	if err != nil {
		code = asError(err).code()
		if code == CodeInternal {
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
		slog.Duration("duration", took),
		slog.String("source", req.Source),
		slog.String("user", clip(req.Identity.User)),
		slog.String("tenant", clip(req.Identity.Tenant)),
		slog.String("request_id", req.ID),
	)
	if req.Identity.App != "" {
		attrs = append(attrs, slog.String("app", req.Identity.App))
	}
	if e, ok := errors.AsType[*Error](err); ok {
		if e.LogID != "" {
			attrs = append(attrs, slog.String("log_id", e.LogID))
		}
		if error(e) == err { // else what is around it says more than its cause
			err = e.Err
		}
	}
	if err != nil {
		attrs = append(attrs, slog.String("cause", causeText(err)))
		if p, ok := errors.AsType[*panicError](err); ok {
			attrs = append(attrs, slog.String("stack", string(p.stack)))
		}
	}
	s.log.LogAttrs(ctx, level, "call", attrs...)
}

// causeText is the text of a program's error, whose Error method may panic.
func causeText(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("%T, whose Error method panicked: %v", err, v)
		}
	}()
	return err.Error()
}

// clip shortens what a client sent, so that no line of the log grows with it.
func clip(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
