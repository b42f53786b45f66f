package mooncore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/calltest"
	"github.com/mooncore/mooncore/mooncoretest"
)

// transports are all ways to call an action as id.
func transports(t *testing.T, srv *mooncoretest.Server, id mooncore.Identity) map[string]calltest.Caller {
	t.Helper()
	client := srv.As(id)
	socket := client.Dial()
	return map[string]calltest.Caller{
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
	srv := mooncoretest.New(t, calltest.Config())
	for _, transport := range []string{"http", "ws", "go"} {
		t.Run(transport, func(t *testing.T) {
			calltest.Run(t, transport != "go", func(t *testing.T, id mooncore.Identity) calltest.Caller {
				return transports(t, srv, id)[transport]
			})
		})
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
