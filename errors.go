package mooncore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// An Error is a failure whose text the client may read. PROTOCOL.md section 2 says how it looks on the wire.
type Error struct {
	// Code says what kind it is. Empty counts as CodeInternal.
	Code Code

	// Message goes to the client, but for CodeInternal, whose text is fixed.
	Message string

	// Fields are the faults of params by path, such as "address.city", for CodeValidationFailed.
	Fields map[string][]string

	// LogID goes to the client, who can quote it to support.
	LogID string

	// RetryAfter goes to clients over HTTP as the header Retry-After, in seconds, rounded up, for CodeRateLimited and
	// CodeUnavailable. Default 1s.
	RetryAfter time.Duration

	// Err is the cause. It is logged once and never sent.
	Err error
}

// Error returns the code, the message and the cause, for logs. Never send it to a client.
func (e *Error) Error() string {
	if e == nil {
		return "a nil *mooncore.Error"
	}
	var b strings.Builder
	b.WriteString(string(e.code()))
	if e.Message != "" && e.Message != string(e.Code) {
		b.WriteString(": ")
		b.WriteString(e.Message)
	}
	for field, texts := range e.Fields {
		fmt.Fprintf(&b, "; %s %s", field, strings.Join(texts, ", "))
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Err
}

// Cause returns what of the error no client reads: the text of its cause, "" if it has none, and the stack if the cause was a panic.
// They are for logs and developers. Err.Error may panic; Cause doesn't.
func (e *Error) Cause() (text, stack string) {
	switch {
	case e == nil:
		return "", ""
	case e.Err != nil:
		return describe(e.Err)
	case e.code() == CodeInternal && e.Message != CodeInternal.text():
		return e.Message, ""
	}
	return "", ""
}

func (e *Error) code() Code {
	if e == nil || e.Code == "" {
		return CodeInternal
	}
	return e.Code
}

// Errorf returns an [*Error] with that message, which the client reads: format no cause into it. To keep a cause, use
// &Error{Code: …, Message: …, Err: err}.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// FieldError returns an [*Error] with CodeValidationFailed and one fault of one field. Several of them, joined by
// [errors.Join], are reported together.
func FieldError(field, text string) error {
	return &Error{Code: CodeValidationFailed, Message: string(CodeValidationFailed), Fields: map[string][]string{field: {text}}}
}

// CodeOf returns the code of an error: that of the [*Error] in it, CodeCanceled or CodeDeadlineExceeded for those of a
// context, "" for nil, else CodeInternal.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.code()
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return CodeDeadlineExceeded
	case errors.Is(err, context.Canceled):
		return CodeCanceled
	}
	return CodeInternal
}

// A Code is the kind of an [Error], the same on every transport.
type Code string

// The codes, and their HTTP statuses.
const (
	CodeInvalidArgument      Code = "invalid_argument"       // 400
	CodeUnauthenticated      Code = "unauthenticated"        // 401
	CodePermissionDenied     Code = "permission_denied"      // 403
	CodeNotFound             Code = "not_found"              // 404
	CodeMethodNotAllowed     Code = "method_not_allowed"     // 405
	CodeAlreadyExists        Code = "already_exists"         // 409
	CodeFailedPrecondition   Code = "failed_precondition"    // 412
	CodeTooLarge             Code = "too_large"              // 413
	CodeUnsupportedMediaType Code = "unsupported_media_type" // 415
	CodeValidationFailed     Code = "validation_failed"      // 422
	CodeRateLimited          Code = "rate_limited"           // 429
	CodeCanceled             Code = "canceled"               // 499
	CodeInternal             Code = "internal"               // 500
	CodeUnavailable          Code = "unavailable"            // 503
	CodeDeadlineExceeded     Code = "deadline_exceeded"      // 504
)

// codes has all codes: the HTTP status, and what a client reads when a program gave no text.
var codes = map[Code]struct {
	status int
	text   string
}{
	CodeInvalidArgument:      {http.StatusBadRequest, "Invalid argument"},
	CodeUnauthenticated:      {http.StatusUnauthorized, "Access denied"},
	CodePermissionDenied:     {http.StatusForbidden, "Access denied"},
	CodeNotFound:             {http.StatusNotFound, "Not found"},
	CodeMethodNotAllowed:     {http.StatusMethodNotAllowed, "Method not allowed"},
	CodeAlreadyExists:        {http.StatusConflict, "Already exists"},
	CodeFailedPrecondition:   {http.StatusPreconditionFailed, "Failed precondition"},
	CodeTooLarge:             {http.StatusRequestEntityTooLarge, "Payload too large"},
	CodeUnsupportedMediaType: {http.StatusUnsupportedMediaType, "Unsupported media type"},
	CodeValidationFailed:     {http.StatusUnprocessableEntity, "validation_failed"},
	CodeRateLimited:          {http.StatusTooManyRequests, "Rate limited"},
	CodeCanceled:             {499, "Canceled"}, // nginx's "client closed request": no registered status says it
	CodeInternal:             {http.StatusInternalServerError, "Internal Server Error"},
	CodeUnavailable:          {http.StatusServiceUnavailable, "Unavailable"},
	CodeDeadlineExceeded:     {http.StatusGatewayTimeout, "Deadline exceeded"},
}

// HTTPStatus returns the HTTP status of the code, 500 for one that is not listed here.
func (c Code) HTTPStatus() int {
	if known, ok := codes[c]; ok {
		return known.status
	}
	return http.StatusInternalServerError
}

// text is what a client reads when a program gave a code and nothing else.
func (c Code) text() string {
	if known, ok := codes[c]; ok {
		return known.text
	}
	return codes[CodeInternal].text
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
	errMethodNotAllowed     = &Error{Code: CodeMethodNotAllowed, Message: CodeMethodNotAllowed.text()}
	errRateLimited          = &Error{Code: CodeRateLimited, Message: CodeRateLimited.text()}
	errTooLarge             = &Error{Code: CodeTooLarge, Message: CodeTooLarge.text()}
	errUnsupportedMediaType = &Error{Code: CodeUnsupportedMediaType, Message: CodeUnsupportedMediaType.text()}
	errStarting             = &Error{Code: CodeUnavailable, Message: "Starting"}
	errShuttingDown         = &Error{Code: CodeUnavailable, Message: "Shutting down"}
	errAway                 = &Error{Code: CodeUnavailable, Message: CodeUnavailable.text()}
	errOverloaded           = &Error{Code: CodeUnavailable, Message: "Too many connections"}
)

// asError returns err as the [*Error] that a client gets to see: faults of fields that were joined are merged, and whatever
// was not meant for a client is internal. It keeps err as the cause if there is more to it, for the log. A nil *Error and an
// error whose methods panic are internal as well.
func asError(err error) (e *Error) {
	defer func() {
		if v := recover(); v != nil {
			e = &Error{Code: CodeInternal, Message: CodeInternal.text(), Err: fmt.Errorf("an error of type %T panicked: %v", err, v)}
		}
	}()
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if merged := mergeFaults(joined.Unwrap()); merged != nil {
			return merged
		}
	}
	found, ok := errors.AsType[*Error](err)
	if !ok || found == nil {
		code := CodeOf(err)
		return &Error{Code: code, Message: code.text(), Err: err}
	}
	direct := error(found) == err //nolint:errorlint // whether it is wrapped is the question
	if direct && found.Code != "" && found.Message != "" {
		return found
	}
	filled := *found
	filled.Code = found.code()
	if filled.Message == "" {
		filled.Message = filled.Code.text()
	}
	if !direct {
		filled.Err = err
	}
	return &filled
}

// mergeFaults returns one validation error for errors that are nothing but faults of fields, else nil.
func mergeFaults(errs []error) *Error {
	merged := &Error{Code: CodeValidationFailed, Message: string(CodeValidationFailed), Fields: map[string][]string{}}
	if len(errs) == 0 {
		return nil
	}
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
