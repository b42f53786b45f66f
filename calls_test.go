package mooncore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
)

// A caller runs one action by one transport.
type caller func(action string, params, result any) error

// transports are all ways to call an action as id.
func transports(t *testing.T, srv *mooncoretest.Server, id mooncore.Identity) map[string]caller {
	t.Helper()
	client := srv.As(id)
	socket := client.Dial()
	return map[string]caller{
		"http": func(action string, params, result any) error { return client.Call(action, params, result) },
		"ws":   func(action string, params, result any) error { return socket.Call(action, params, result) },
		"go": func(action string, params, result any) error {
			b, err := json.Marshal(params)
			if err != nil {
				t.Fatal(err)
			}
			out, err := srv.Server.Call(t.Context(), &mooncore.Request{Action: action, Params: b, Identity: id})
			if err != nil || result == nil {
				return err
			}
			if b, err = json.Marshal(out); err != nil {
				t.Fatal(err)
			}
			return json.Unmarshal(b, result)
		},
	}
}

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

func TestEveryTransportGivesTheSameOutcome(t *testing.T) {
	type brokenJSON struct{ F func() }
	srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{{
		Roles: []string{"admin", "user"},
		Actions: []mooncore.Action{
			{Name: "add", Allow: mooncore.Public, Handler: mooncore.Func(add)},
			{Name: "user.only", Allow: mooncore.Roles("user"), Handler: mooncore.Func(add)},
			{Name: "admin.only", Allow: mooncore.Roles("admin"), Handler: mooncore.Func(add)},
			{Name: "anyone", Allow: mooncore.Authenticated, Handler: mooncore.Func(add)},
			{Name: "forced", Allow: mooncore.Public, Handler: mooncore.Func(add), Override: map[string]any{"b": 40}},
			{Name: "small", Allow: mooncore.Public, Handler: mooncore.Func(add), MaxBytes: 40},
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
		},
	}}})
	user := mooncore.Identity{User: "alice", Tenant: "t", Roles: []string{"user"}}
	validation := func(fields map[string][]string) *mooncore.Error {
		return &mooncore.Error{Code: mooncore.CodeValidationFailed, Message: "validation_failed", Fields: fields}
	}
	internal := &mooncore.Error{Code: mooncore.CodeInternal, Message: "Internal Server Error"}
	for _, test := range []struct {
		name   string
		as     mooncore.Identity
		action string
		params string
		result string
		err    *mooncore.Error
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
		{name: "own error", action: "own", err: &mooncore.Error{Code: mooncore.CodeAlreadyExists, Message: "taken"}},
		{name: "plain error", action: "plain", err: internal},
		{name: "deadline", action: "wrapped", err: &mooncore.Error{Code: mooncore.CodeDeadlineExceeded, Message: "Deadline exceeded"}},
		{name: "canceled", action: "canceled", err: &mooncore.Error{Code: mooncore.CodeCanceled, Message: "Canceled"}},
		{name: "joined faults", action: "fields", err: validation(map[string][]string{"x": {"is odd"}, "y": {"is even"}})},
		{name: "code alone", action: "bare", err: &mooncore.Error{Code: mooncore.CodeNotFound, Message: "Not found"}},
		{name: "panic", action: "panic", err: internal},
		{name: "panic of nil", action: "panic.nil", err: internal},
		{name: "panic of an Error", action: "panic.error", err: internal},
		{name: "result without JSON", action: "no.json", err: internal},
	} {
		for transport, call := range transports(t, srv, test.as) {
			if transport == "go" && test.name == "result without JSON" {
				continue // a Go call gets the value itself
			}
			t.Run(test.name+"/"+transport, func(t *testing.T) {
				params := json.RawMessage(test.params)
				if len(params) == 0 {
					params = json.RawMessage("{}")
				}
				var result json.RawMessage
				err := call(test.action, params, &result)
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
				if got.Code != test.err.Code || transport != "go" && got.Message != test.err.Message || !reflect.DeepEqual(got.Fields, test.err.Fields) {
					t.Errorf("got %#v, want %#v", got, test.err)
				}
				if transport != "go" && strings.Contains(err.Error(), "secret") {
					t.Errorf("the cause reached the client: %v", err)
				}
			})
		}
	}
}

// trace is where the middlewares of TestOrderOfMiddleware write.
var trace mooncore.Key[*[]string]

func tracing(name string) mooncore.Middleware {
	return func(next mooncore.Next) mooncore.Next {
		return func(ctx context.Context, req *mooncore.Request) (any, error) {
			steps := trace.Value(ctx)
			*steps = append(*steps, name)
			out, err := next(ctx, req)
			if err != nil {
				*steps = append(*steps, name+" error")
			} else {
				*steps = append(*steps, name+" done")
			}
			return out, err
		}
	}
}

func TestOrderOfMiddleware(t *testing.T) {
	refusal := mooncore.Errorf(mooncore.CodeFailedPrecondition, "no")
	refuse := mooncore.Before(func(context.Context, *mooncore.Request) (context.Context, error) { return nil, refusal })
	replace := mooncore.After(func(_ context.Context, _ *mooncore.Request, out any, err error) (any, error) {
		return fmt.Sprint(out, " replaced"), nil
	})
	blow := func(mooncore.Next) mooncore.Next {
		return func(context.Context, *mooncore.Request) (any, error) { panic("in a middleware") }
	}
	handler := mooncore.Func(func(ctx context.Context, _ struct{}) (string, error) {
		steps := trace.Value(ctx)
		*steps = append(*steps, "handler")
		return "out", nil
	})
	for _, test := range []struct {
		name   string
		inner  []mooncore.Middleware
		steps  string
		out    any
		code   mooncore.Code
		handle mooncore.Handler
	}{
		{name: "passes", inner: []mooncore.Middleware{tracing("c")}, out: "out", handle: handler,
			steps: "a, b, c, handler, c done, b done, a done"},
		{name: "refuses", inner: []mooncore.Middleware{refuse, tracing("c")}, code: mooncore.CodeFailedPrecondition, handle: handler,
			steps: "a, b, b error, a error"},
		{name: "replaces the result", inner: []mooncore.Middleware{replace, tracing("c")}, out: "out replaced", handle: handler,
			steps: "a, b, c, handler, c done, b done, a done"},
		{name: "replaces an error", inner: []mooncore.Middleware{replace, refuse}, out: "<nil> replaced", handle: handler,
			steps: "a, b, b done, a done"},
		{name: "panics", inner: []mooncore.Middleware{blow, tracing("c")}, code: mooncore.CodeInternal, handle: handler,
			steps: "a, b, b error, a error"},
		{name: "after a panic of the handler", inner: []mooncore.Middleware{replace}, out: "<nil> replaced", handle: panicking("x"),
			steps: "a, b, b done, a done"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var steps []string
			outermost := mooncore.Before(func(ctx context.Context, _ *mooncore.Request) (context.Context, error) {
				return trace.WithValue(ctx, &steps), nil
			})
			srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{{
				Middleware: []mooncore.Middleware{outermost, tracing("a"), tracing("b")},
				Actions:    []mooncore.Action{{Name: "run", Allow: mooncore.Public, Handler: test.handle, Middleware: test.inner}},
			}}})
			out, err := srv.Server.Call(t.Context(), &mooncore.Request{Action: "run"})
			if mooncore.CodeOf(err) != test.code || out != test.out {
				t.Errorf("got %v, %v, want %v, code %q", out, err, test.out, test.code)
			}
			if got := strings.Join(steps, ", "); got != test.steps {
				t.Errorf("steps\n got %s\nwant %s", got, test.steps)
			}
		})
	}
}

func TestKeyPanicsNamingItsType(t *testing.T) {
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, "Key[*[]string]") {
			t.Errorf("got panic %q", got)
		}
	}()
	trace.Value(t.Context())
}

func TestNewReportsEveryFaultWithItsField(t *testing.T) {
	ok := mooncore.Func(func(context.Context, struct{}) (any, error) { return nil, nil })
	type badTag struct {
		Name string `json:"name" validate:"min_lenght=2"`
	}
	_, err := mooncore.New(mooncore.Config{Development: true, Routers: []mooncore.Router{
		{
			App: "a", Roles: []string{"user", "user", ""},
			Middleware: []mooncore.Middleware{nil},
			Actions: []mooncore.Action{
				{Name: "no allow", Handler: ok},
				{Name: "twice", Allow: mooncore.Public, Handler: ok},
				{Name: "twice", Allow: mooncore.Public, Handler: ok},
				{Name: "nil.handler", Allow: mooncore.Public},
				{Name: "role", Allow: mooncore.Roles("boss"), Handler: ok},
				{Name: "tag", Allow: mooncore.Public, Handler: mooncore.Func(func(context.Context, badTag) (any, error) { return nil, nil })},
				{Name: "override", Allow: mooncore.Public, Handler: ok, Override: map[string]any{"f": func() {}}},
			},
			Channels: []mooncore.Channel{{Name: "main", Allow: mooncore.Authenticated}, {Name: "a*b", Allow: mooncore.Public}, {Name: "x"}},
		},
		{App: "a"},
		{App: ""},
	}, Origins: []string{"*"}})
	if err == nil {
		t.Fatal("New accepted it")
	}
	for _, want := range []string{
		`Routers[0].Roles[1]: "user"`, `Routers[0].Roles[2]: is empty`, `Routers[0].Middleware[0]: is nil`,
		`Routers[0].Actions[0].Name: "no allow"`, `Routers[0].Actions[0].Allow: is required`, `Routers[0].Actions[2] (twice).Name`,
		`Routers[0].Actions[3] (nil.handler).Handler: is missing`, `role "boss"`, `min_lenght`, `(override).Override["f"]`,
		`Routers[0].Channels[0].Name: "main"`, `Routers[0].Channels[1].Name`, `Routers[0].Channels[2].Allow: is required`,
		`Routers[1].App: "a"`, `Routers[2].App: is required`, `Origins[0]`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in:\n%v", want, err)
		}
	}
}

func TestAppsAreApart(t *testing.T) {
	who := func(app string) mooncore.Handler {
		return mooncore.Func(func(context.Context, struct{}) (string, error) { return app, nil })
	}
	srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{
		{App: "one", Roles: []string{"admin"}, Actions: []mooncore.Action{
			{Name: "both", Allow: mooncore.Public, Handler: who("one")},
			{Name: "own", Allow: mooncore.Roles("admin"), Handler: who("one")},
		}},
		{App: "two", Roles: []string{"user"}, Actions: []mooncore.Action{
			{Name: "both", Allow: mooncore.Public, Handler: who("two")},
			{Name: "public", Allow: mooncore.Public, Handler: who("two")},
			{Name: "secret", Allow: mooncore.Authenticated, Handler: who("two")},
		}},
	}})
	in := func(app string, roles ...string) mooncore.Identity {
		return mooncore.Identity{User: "u", App: app, Roles: roles}
	}
	for _, test := range []struct {
		name   string
		as     mooncore.Identity
		action string
		want   string
		code   mooncore.Code
	}{
		{"a stranger gets the first app that has it as public", mooncore.Identity{}, "both", "one", ""},
		{"a stranger reaches a later app too", mooncore.Identity{}, "public", "two", ""},
		{"a stranger is told to log in for what is not public", mooncore.Identity{}, "secret", "", mooncore.CodeUnauthenticated},
		{"a stranger and an unknown name", mooncore.Identity{}, "none", "", mooncore.CodeNotFound},
		{"own app", in("two"), "both", "two", ""},
		{"another app's action looks unknown", in("one", "admin"), "public", "", mooncore.CodeNotFound},
		{"another app's protected action looks unknown", in("one", "admin"), "secret", "", mooncore.CodeNotFound},
	} {
		for transport, call := range transports(t, srv, test.as) {
			t.Run(test.name+"/"+transport, func(t *testing.T) {
				var got string
				err := call(test.action, struct{}{}, &got)
				if mooncore.CodeOf(err) != test.code || got != test.want {
					t.Errorf("got %q, %v, want %q, code %q", got, err, test.want, test.code)
				}
			})
		}
	}
}

func TestFallback(t *testing.T) {
	name := mooncore.Func(func(ctx context.Context, _ struct{}) (string, error) { return mooncore.RequestFrom(ctx).Action, nil })
	for _, test := range []struct {
		allow           mooncore.Access
		stranger, alice mooncore.Code
	}{
		{mooncore.Access{}, mooncore.CodeNotFound, ""},
		{mooncore.Public, "", ""},
		{mooncore.Roles("admin"), mooncore.CodeNotFound, mooncore.CodeNotFound},
	} {
		t.Run(test.allow.String(), func(t *testing.T) {
			srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{{
				Roles: []string{"admin"}, Fallback: mooncore.Action{Allow: test.allow, Handler: name},
			}}})
			for as, want := range map[string]mooncore.Code{"": test.stranger, "alice": test.alice} {
				var got string
				err := srv.As(mooncore.Identity{User: as}).Call("anything", nil, &got)
				if mooncore.CodeOf(err) != want || err == nil && got != "anything" {
					t.Errorf("%q got %q, %v, want code %q", as, got, err, want)
				}
			}
		})
	}
}

func TestTimeoutEndsTheHandlersContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took time.Duration
		srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{{Actions: []mooncore.Action{{
			Name: "slow", Allow: mooncore.Public, Timeout: 2 * time.Second,
			Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (any, error) {
				start := time.Now()
				<-ctx.Done()
				took = time.Since(start)
				return nil, ctx.Err()
			}),
		}}}}})
		for transport, call := range transports(t, srv, mooncore.Identity{}) {
			if got := mooncore.CodeOf(call("slow", struct{}{}, nil)); got != mooncore.CodeDeadlineExceeded || took != 2*time.Second {
				t.Errorf("%s: got %s after %v", transport, got, took)
			}
		}
	})
}

func TestActionsListsTheCatalogue(t *testing.T) {
	srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{{Actions: []mooncore.Action{
		{Name: "b", Allow: mooncore.Authenticated, Handler: mooncore.Func(add), Description: "Adds."},
		{Name: "a", Allow: mooncore.Public, Handler: mooncore.Func(add)},
	}}}})
	actions := srv.Actions("")
	names := []string{}
	for _, a := range actions {
		names = append(names, a.Name)
	}
	if !slices.Equal(names, []string{"a", "b"}) || actions[1].Allow.String() != "authenticated" || actions[1].Description != "Adds." {
		t.Errorf("got %v", actions)
	}
	var schema struct {
		Required   []string
		Properties map[string]struct {
			Type    string
			Minimum *int
		}
	}
	if err := json.Unmarshal(actions[0].Handler.InputSchema(), &schema); err != nil {
		t.Fatal(err)
	}
	if b := schema.Properties["b"]; !slices.Equal(schema.Required, []string{"a", "b"}) || b.Type != "integer" || b.Minimum == nil || *b.Minimum != 1 {
		t.Errorf("input schema %s", actions[0].Handler.InputSchema())
	}
	if srv.Actions("none") != nil {
		t.Error("an unknown app has actions")
	}
}
