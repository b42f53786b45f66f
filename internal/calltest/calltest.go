// Package calltest has the table of calls whose outcome is the same by every transport.
package calltest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
)

// A Caller runs one action by one transport, and decodes its result into *result. A refusal is a *mooncore.Error.
type Caller func(action string, params, result any) error

// Config is that of the server that the calls are made to. Its actions are tools, too.
func Config() mooncore.Config {
	actions := []mooncore.Action{
		{Name: "add", Allow: mooncore.Public, Handler: mooncore.Func(add)},
		{Name: "user.only", Allow: mooncore.Roles("user"), Handler: mooncore.Func(add)},
		{Name: "admin.only", Allow: mooncore.Roles("admin"), Handler: mooncore.Func(add)},
		{Name: "anyone", Allow: mooncore.Authenticated, Handler: mooncore.Func(add)},
		{Name: "forced", Allow: mooncore.Public, Handler: mooncore.Func(add), Override: map[string]any{"b": 40}},
		{Name: "small", Allow: mooncore.Public, Handler: mooncore.Func(add), MaxBytes: 40},
		{Name: "rated", Allow: mooncore.Roles("user"), Handler: mooncore.Func(add), Rate: mooncore.PerUser(1, time.Hour)},
		{Name: "nested", Allow: mooncore.Public, Concurrency: 1, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (any, error) {
			return mooncore.RequestFrom(ctx).Server().Call(ctx, &mooncore.Request{Action: "nested"})
		})},
		{Name: "once", Allow: mooncore.Roles("user"), Handler: mooncore.Func(add), Idempotency: time.Hour},
		{Name: "own", Allow: mooncore.Public, Handler: failing(mooncore.Errorf(mooncore.CodeAlreadyExists, "taken"))},
		{Name: "plain", Allow: mooncore.Public, Handler: failing(errors.New("secret cause"))},
		{Name: "wrapped", Allow: mooncore.Public, Handler: failing(fmt.Errorf("db: %w", context.DeadlineExceeded))},
		{Name: "canceled", Allow: mooncore.Public, Handler: failing(context.Canceled)},
		{Name: "fields", Allow: mooncore.Public, Handler: failing(errors.Join(mooncore.FieldError("x", "is odd"), mooncore.FieldError("y", "is even")))},
		{Name: "bare", Allow: mooncore.Public, Handler: failing(&mooncore.Error{Code: mooncore.CodeNotFound})},
		{Name: "panic", Allow: mooncore.Public, Handler: panicking("boom")},
		{Name: "panic.nil", Allow: mooncore.Public, Handler: panicking(nil)},
		{Name: "panic.error", Allow: mooncore.Public, Handler: panicking(mooncore.Errorf(mooncore.CodeNotFound, "not for clients"))},
		{Name: "no.json", Allow: mooncore.Public, Handler: mooncore.Func(func(context.Context, struct{}) (any, error) { return brokenJSON{}, nil })},
	}
	for i := range actions {
		actions[i].Tool, actions[i].Description = true, actions[i].Name
	}
	return mooncore.Config{Routers: []mooncore.Router{{Roles: []string{"admin", "user"}, Actions: actions}}}
}

// brokenJSON is a result that has no JSON.
type brokenJSON struct{ F func() }

type sum struct {
	A int `json:"a" validate:"required"`
	B int `json:"b" validate:"required,min=1"`
}

func add(_ context.Context, in sum) (int, error) { return in.A + in.B, nil }

func failing(err error) mooncore.Handler {
	return mooncore.Func(func(context.Context, struct{}) (any, error) { return nil, err })
}

func panicking(v any) mooncore.Handler {
	return mooncore.Func(func(context.Context, struct{}) (any, error) { panic(v) })
}

var rateLimited = &mooncore.Error{Code: mooncore.CodeRateLimited, Message: "Rate limited"}

var internal = &mooncore.Error{Code: mooncore.CodeInternal, Message: "Internal Server Error"}

func validation(fields map[string][]string) *mooncore.Error {
	return &mooncore.Error{Code: mooncore.CodeValidationFailed, Message: "validation_failed", Fields: fields}
}

// Run makes the calls of the table by callers that dial returns for an identity. Callers of Go code get results and errors as they
// are, those of a wire get what a client may see.
func Run(t *testing.T, wire bool, dial func(t *testing.T, id mooncore.Identity) Caller) {
	user := mooncore.Identity{User: "alice", Tenant: "t", Roles: []string{"user"}}
	_ = dial(t, user)("rated", json.RawMessage("{}"), nil) // takes the one call that it lets through
	for _, test := range []struct {
		name   string
		as     mooncore.Identity
		action string
		params string
		result string
		err    *mooncore.Error
		wire   bool // Go code gets something else
	}{
		{name: "result", action: "add", params: `{"a":1,"b":2}`, result: "3"},
		{name: "unknown keys pass", action: "add", params: `{"a":1,"b":2,"c":3}`, result: "3"},
		{name: "all faults at once", action: "add", params: `{"b":0}`,
			err: validation(map[string][]string{"a": {"is required"}, "b": {"must be at least 1"}})},
		{name: "wrong type", action: "add", params: `{"a":"x","b":2}`, err: validation(map[string][]string{"a": {"must be an integer"}})},
		{name: "unknown name", action: "nope", err: &mooncore.Error{Code: mooncore.CodeNotFound, Message: "Undefined action"}},
		{name: "stranger", action: "user.only", params: `{}`, err: &mooncore.Error{Code: mooncore.CodeUnauthenticated, Message: "Access denied"}},
		{name: "user", as: user, action: "user.only", params: `{"a":1,"b":2}`, result: "3"},
		{name: "authenticated", as: user, action: "anyone", params: `{"a":1,"b":2}`, result: "3"},
		{name: "lacks the role, learns nothing of the input", as: user, action: "admin.only", params: `{}`,
			err: &mooncore.Error{Code: mooncore.CodePermissionDenied, Message: "Access denied"}},
		{name: "override", action: "forced", params: `{"a":2,"b":"what the client says"}`, result: "42"},
		{name: "too large", action: "small", params: `{"a":1,"b":2,"c":"` + strings.Repeat("x", 40) + `"}`,
			err: &mooncore.Error{Code: mooncore.CodeTooLarge, Message: "Payload too large"}},
		{name: "too often", as: user, action: "rated", params: `{"a":1,"b":2}`, err: rateLimited},
		{name: "rate comes before the params", as: user, action: "rated", params: `{}`, err: rateLimited},
		{name: "access comes before the rate", action: "rated", err: &mooncore.Error{Code: mooncore.CodeUnauthenticated, Message: "Access denied"}},
		{name: "too many at a time", action: "nested", err: rateLimited},
		{name: "idempotency without a key", as: user, action: "once", params: `{"a":1,"b":2}`, result: "3"},
		{name: "own error", action: "own", err: &mooncore.Error{Code: mooncore.CodeAlreadyExists, Message: "taken"}},
		{name: "plain error", action: "plain", err: internal},
		{name: "deadline", action: "wrapped", err: &mooncore.Error{Code: mooncore.CodeDeadlineExceeded, Message: "Deadline exceeded"}},
		{name: "canceled", action: "canceled", err: &mooncore.Error{Code: mooncore.CodeCanceled, Message: "Canceled"}},
		{name: "joined faults", action: "fields", err: validation(map[string][]string{"x": {"is odd"}, "y": {"is even"}})},
		{name: "code alone", action: "bare", err: &mooncore.Error{Code: mooncore.CodeNotFound, Message: "Not found"}},
		{name: "panic", action: "panic", err: internal},
		{name: "panic of nil", action: "panic.nil", err: internal},
		{name: "panic of an Error", action: "panic.error", err: internal},
		{name: "result without JSON", action: "no.json", err: internal, wire: true},
	} {
		if test.wire && !wire {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			params := json.RawMessage(test.params)
			if len(params) == 0 {
				params = json.RawMessage("{}")
			}
			var result json.RawMessage
			err := dial(t, test.as)(test.action, params, &result)
			if test.err == nil {
				if err != nil || string(result) != test.result {
					t.Fatalf("got %s, %v, want %s", result, err, test.result)
				}
				return
			}
			got, ok := errors.AsType[*mooncore.Error](err)
			if !ok {
				t.Fatalf("got %s, %v, want %v", result, err, test.err)
			}
			if got.Code != test.err.Code || wire && got.Message != test.err.Message || !reflect.DeepEqual(got.Fields, test.err.Fields) {
				t.Errorf("got %#v, want %#v", got, test.err)
			}
			if wire && strings.Contains(err.Error(), "secret") {
				t.Errorf("the cause reached the client: %v", err)
			}
		})
	}
}
