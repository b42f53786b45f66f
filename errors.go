package mooncore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
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

	// Err is the cause. It is logged once and never sent.
	Err error
}

// Error returns the code, the message and the cause, for logs. Never send it to a client.
func (e *Error) Error() string {
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
func (e *Error) Unwrap() error { return e.Err }

func (e *Error) code() Code {
	if e.Code == "" {
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

// HTTPStatus returns the HTTP status of the code, 500 for one that is not listed here.
func (c Code) HTTPStatus() int {
	switch c {
	case CodeInvalidArgument:
		return http.StatusBadRequest
	case CodeUnauthenticated:
		return http.StatusUnauthorized
	case CodePermissionDenied:
		return http.StatusForbidden
	case CodeNotFound:
		return http.StatusNotFound
	case CodeMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case CodeAlreadyExists:
		return http.StatusConflict
	case CodeFailedPrecondition:
		return http.StatusPreconditionFailed
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeUnsupportedMediaType:
		return http.StatusUnsupportedMediaType
	case CodeValidationFailed:
		return http.StatusUnprocessableEntity
	case CodeRateLimited:
		return http.StatusTooManyRequests
	case CodeCanceled:
		return 499 // nginx's "client closed request": no registered status says it
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	case CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}
