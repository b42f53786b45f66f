package mooncore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// logCall writes the one line of a call. Params are not in it, but for LogParams; the cause of an error is, since it is sent to nobody.
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
	if req.replayed {
		attrs = append(attrs, slog.Bool("replayed", true))
	}
	if req.action != nil && len(req.action.LogParams) > 0 {
		attrs = req.action.appendParams(attrs, req.Params)
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

// appendParams appends the params that the action logs. Their values are a client's, checked or not: what is no text, number or
// boolean is left out.
func (a *actionState) appendParams(attrs []slog.Attr, params []byte) []slog.Attr {
	for key, value := range strictjson.Members(params) {
		name, _ := strictjson.Unquote(key)
		if !slices.Contains(a.LogParams, name) {
			continue
		}
		switch strictjson.KindOf(value) {
		case strictjson.String:
			text, _ := strictjson.Unquote(value)
			attrs = append(attrs, slog.String("params."+name, clip(text)))
		case strictjson.Number, strictjson.Bool:
			attrs = append(attrs, slog.String("params."+name, clip(string(value))))
		}
	}
	return attrs
}

// logFault says why a param must not be logged, or nothing.
func (h *handler) logFault(name string) string {
	if h.fields == nil {
		return "" // the input is raw or a map: what the params are is the program's business
	}
	f, ok := h.fields[name]
	switch {
	case !ok:
		return "is no field of the input"
	case f.typ == typeSecret:
		return "is a Secret"
	case f.jsonKind() == 0 || f.jsonKind() == strictjson.Array || f.jsonKind() == strictjson.Object:
		return "is no text, number or boolean"
	}
	return ""
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
