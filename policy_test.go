package mooncore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
)

var (
	alice = mooncore.Identity{User: "alice", Tenant: "acme"}
	bob   = mooncore.Identity{User: "bob", Tenant: "acme"}
	carol = mooncore.Identity{User: "carol", Tenant: "other"}
)

func TestRate(t *testing.T) {
	done := func(context.Context) (any, error) { return nil, nil }
	limited := func(name string, rate mooncore.Rate) mooncore.Action {
		action := returning(name, done)
		action.Rate = rate
		return action
	}
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1:2::1")
	type caller struct {
		id   mooncore.Identity
		addr netip.Addr
	}
	for _, test := range []struct {
		name         string
		rate         mooncore.Rate
		first, other caller
		together     bool
	}{
		{"a user has its own", mooncore.PerUser(1, time.Minute), caller{id: alice}, caller{id: bob}, false},
		{"a user of another tenant with the same name", mooncore.PerUser(1, time.Minute), caller{id: alice}, caller{id: mooncore.Identity{User: "alice", Tenant: "b"}}, false},
		{"a user from two addresses", mooncore.PerUser(1, time.Minute), caller{alice, v4}, caller{alice, v6}, true},
		{"anonymous callers count by address", mooncore.PerUser(1, time.Minute), caller{addr: v4}, caller{addr: v6}, false},
		{"an anonymous caller and a user at one address", mooncore.PerUser(1, time.Minute), caller{addr: v4}, caller{alice, v4}, false},
		{"a tenant shares", mooncore.PerTenant(1, time.Minute), caller{id: alice}, caller{id: bob}, true},
		{"another tenant", mooncore.PerTenant(1, time.Minute), caller{id: alice}, caller{id: carol}, false},
		{"no tenant and anonymous", mooncore.PerTenant(1, time.Minute), caller{id: mooncore.Identity{User: "dora"}}, caller{addr: v4}, false},
		{"an address shares", mooncore.PerAddress(1, time.Minute), caller{alice, v4}, caller{bob, v4}, true},
		{"another IPv4 address", mooncore.PerAddress(1, time.Minute), caller{alice, v4}, caller{alice, netip.MustParseAddr("192.0.2.2")}, false},
		{"a /64 is one", mooncore.PerAddress(1, time.Minute), caller{addr: v6}, caller{addr: netip.MustParseAddr("2001:db8:1:2:ffff::9")}, true},
		{"another /64", mooncore.PerAddress(1, time.Minute), caller{addr: v6}, caller{addr: netip.MustParseAddr("2001:db8:1:3::1")}, false},
		{"IPv4 in IPv6", mooncore.PerAddress(1, time.Minute), caller{addr: v4}, caller{addr: netip.MustParseAddr("::ffff:192.0.2.1")}, true},
		{"no address", mooncore.PerAddress(1, time.Minute), caller{}, caller{id: alice}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(limited("a", test.rate), limited("b", test.rate))})
			call := func(action string, c caller) mooncore.Code {
				_, err := srv.Server.Call(t.Context(), &mooncore.Request{Action: action, Identity: c.id, RemoteAddr: c.addr})
				return mooncore.CodeOf(err)
			}
			if code := call("a", test.first); code != "" {
				t.Fatalf("the first call: %s", code)
			}
			if code := call("a", test.first); code != mooncore.CodeRateLimited {
				t.Errorf("the second call: %q", code)
			}
			if code := call("a", test.other); (code == mooncore.CodeRateLimited) != test.together {
				t.Errorf("the other caller: %q", code)
			}
			if code := call("b", test.first); code != "" {
				t.Errorf("another action: %q", code)
			}
		})
	}
}

func TestRateRefills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		action := returning("limited", func(context.Context) (int, error) { return 1, nil })
		action.Rate = mooncore.PerUser(6, time.Minute)
		srv, _ := serveInMemory(t, mooncore.Config{Routers: catalogue(action)})
		token := "Bearer " + srv.token(alice)
		call := func() (int, string) {
			resp, _ := srv.call("limited", "{}", "Authorization", token)
			return resp.StatusCode, resp.Header.Get("Retry-After")
		}
		for i := range 6 {
			if status, _ := call(); status != http.StatusOK {
				t.Fatalf("call %d at once: %d", i, status)
			}
		}
		if status, after := call(); status != http.StatusTooManyRequests || after != "10" {
			t.Errorf("one too many: %d, Retry-After %q", status, after)
		}
		time.Sleep(9500 * time.Millisecond)
		if status, after := call(); status != http.StatusTooManyRequests || after != "1" {
			t.Errorf("half a second early: %d, Retry-After %q", status, after)
		}
		time.Sleep(500 * time.Millisecond)
		if status, _ := call(); status != http.StatusOK {
			t.Errorf("when it said: %d", status)
		}
		if status, after := call(); status != http.StatusTooManyRequests || after != "10" {
			t.Errorf("and the next: %d, Retry-After %q", status, after)
		}
		time.Sleep(time.Hour)
		for i := range 7 {
			if status, _ := call(); (status == http.StatusOK) != (i < 6) {
				t.Errorf("call %d after an hour: %d", i, status)
			}
		}
	})
}

// Access comes first, and what the params are doesn't matter: guesses at them count.
func TestRateCountsWhoMayCall(t *testing.T) {
	srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{{
		Roles: []string{"admin"},
		Actions: []mooncore.Action{
			{Name: "add", Allow: mooncore.Authenticated, Handler: mooncore.Func(add), Rate: mooncore.PerTenant(2, time.Hour)},
			{Name: "admin", Allow: mooncore.Roles("admin"), Handler: mooncore.Func(add), Rate: mooncore.PerTenant(1, time.Hour)},
		},
	}}})
	admin := mooncore.Identity{User: "root", Tenant: "acme", Roles: []string{"admin"}}
	for _, step := range []struct {
		action string
		as     mooncore.Identity
		params string
		code   mooncore.Code
	}{
		{"add", mooncore.Identity{}, `{}`, mooncore.CodeUnauthenticated},
		{"add", alice, `{}`, mooncore.CodeValidationFailed},
		{"add", bob, `{"a":1,"b":1}`, ""},
		{"add", bob, `{"a":1,"b":1}`, mooncore.CodeRateLimited},
		{"admin", alice, `{}`, mooncore.CodePermissionDenied},
		{"admin", alice, `{}`, mooncore.CodePermissionDenied},
		{"admin", admin, `{"a":1,"b":1}`, ""},
	} {
		_, err := srv.Server.Call(t.Context(), &mooncore.Request{Action: step.action, Params: json.RawMessage(step.params), Identity: step.as})
		if mooncore.CodeOf(err) != step.code {
			t.Errorf("%s as %q with %s: %v, want %q", step.action, step.as.User, step.params, err, step.code)
		}
	}
}

// A RetryAfter of the program's own goes out too.
func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		err   *mooncore.Error
		after string
	}{
		{&mooncore.Error{Code: mooncore.CodeUnavailable, RetryAfter: 90*time.Second + 1}, "91"},
		{&mooncore.Error{Code: mooncore.CodeUnavailable}, "1"},
		{&mooncore.Error{Code: mooncore.CodeRateLimited, RetryAfter: -time.Second}, "1"},
		{&mooncore.Error{Code: mooncore.CodeNotFound, RetryAfter: time.Minute}, ""},
	} {
		srv := serve(t, mooncore.Config{Routers: catalogue(mooncore.Action{Name: "fail", Allow: mooncore.Public, Handler: failing(test.err)})})
		if resp, _ := srv.call("fail", "{}"); resp.Header.Get("Retry-After") != test.after {
			t.Errorf("%v: Retry-After %q, want %q", test.err, resp.Header.Get("Retry-After"), test.after)
		}
	}
}

func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		action := returning("slow", func(context.Context) (any, error) { <-release; return nil, nil })
		action.Concurrency = 2
		srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(action)})
		call := func() mooncore.Code {
			_, err := srv.Server.Call(t.Context(), &mooncore.Request{Action: "slow"})
			return mooncore.CodeOf(err)
		}
		for range 3 { // also after they were refused
			var running sync.WaitGroup
			for range 2 {
				running.Go(func() {
					if code := call(); code != "" {
						t.Errorf("a place is free, but %s", code)
					}
				})
			}
			synctest.Wait()
			for range 3 {
				if code := call(); code != mooncore.CodeRateLimited {
					t.Errorf("a third: %q", code)
				}
			}
			release <- struct{}{}
			release <- struct{}{}
			running.Wait()
		}
	})
}

func TestConcurrencySurvivesPanics(t *testing.T) {
	srv := mooncoretest.New(t, mooncore.Config{Logger: slog.New(slog.DiscardHandler), Routers: catalogue(
		mooncore.Action{Name: "panic", Allow: mooncore.Public, Handler: panicking("x"), Concurrency: 1},
	)})
	for range 3 {
		if _, err := srv.Server.Call(t.Context(), &mooncore.Request{Action: "panic"}); mooncore.CodeOf(err) != mooncore.CodeInternal {
			t.Errorf("got %v", err)
		}
	}
}

func TestNewRefusesFaultyPolicies(t *testing.T) {
	type login struct {
		User     string          `json:"user"`
		Password mooncore.Secret `json:"password"`
		Tags     []string        `json:"tags"`
	}
	action := func(change func(a *mooncore.Action)) mooncore.Action {
		a := mooncore.Action{Name: "a", Allow: mooncore.Public, Handler: mooncore.Func(func(context.Context, login) (any, error) { return nil, nil })}
		change(&a)
		return a
	}
	for want, a := range map[string]mooncore.Action{
		".Rate: 0 calls":                        action(func(a *mooncore.Action) { a.Rate = mooncore.PerUser(0, time.Minute) }),
		".Rate: in 0s":                          action(func(a *mooncore.Action) { a.Rate = mooncore.PerTenant(1, 0) }),
		".Rate: in -1s":                         action(func(a *mooncore.Action) { a.Rate = mooncore.PerAddress(1, -time.Second) }),
		".Concurrency: -1":                      action(func(a *mooncore.Action) { a.Concurrency = -1 }),
		".Idempotency: -1s":                     action(func(a *mooncore.Action) { a.Idempotency = -time.Second }),
		`.LogParams[1]: "password" is a Secret`: action(func(a *mooncore.Action) { a.LogParams = []string{"user", "password"} }),
		`.LogParams[0]: "tags" is no text, number or boolea`: action(func(a *mooncore.Action) { a.LogParams = []string{"tags"} }),
		`.LogParams[0]: "usr" is no field of the input`:      action(func(a *mooncore.Action) { a.LogParams = []string{"usr"} }),
	} {
		_, err := mooncore.New(mooncore.Config{Development: true, Routers: catalogue(a)})
		if err == nil || !strings.Contains(err.Error(), "Routers[0].Actions[0] (a)"+want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestLogParams(t *testing.T) {
	type input struct {
		ID       int             `json:"id" validate:"max=9"`
		Title    string          `json:"title"`
		Done     bool            `json:"done"`
		Password mooncore.Secret `json:"password"`
	}
	log, lines := logger()
	srv := mooncoretest.New(t, mooncore.Config{Logger: log, Routers: catalogue(
		mooncore.Action{Name: "logs", Allow: mooncore.Public, LogParams: []string{"id", "title", "done"},
			Handler: mooncore.Func(func(context.Context, input) (any, error) { return nil, nil })},
		mooncore.Action{Name: "raw", Allow: mooncore.Public, LogParams: []string{"id"},
			Handler: mooncore.Func(func(context.Context, json.RawMessage) (any, error) { return nil, nil })},
		mooncore.Action{Name: "silent", Allow: mooncore.Public,
			Handler: mooncore.Func(func(context.Context, input) (any, error) { return nil, nil })},
	)})
	for _, test := range []struct {
		action, params string
		want           map[string]any
	}{
		{"logs", `{"id":7,"title":"a\nb","done":true,"password":"hunter2","x":"hunter2"}`,
			map[string]any{"params.id": "7", "params.title": "a\nb", "params.done": "true"}},
		{"logs", `{"id":10}`, map[string]any{"params.id": "10"}},
		{"logs", `{"id":["hunter2"],"title":{"a":"hunter2"},"done":null}`, map[string]any{}},
		{"logs", `{"title":"` + strings.Repeat("x", 5000) + `"}`, map[string]any{"params.title": strings.Repeat("x", 128) + "…"}},
		{"raw", `{"id":"seven","other":"hunter2"}`, map[string]any{"params.id": "seven"}},
		{"silent", `{"id":7,"title":"hunter2"}`, map[string]any{}},
	} {
		before := len(lines.records(t, "call"))
		if _, err := srv.Server.Call(t.Context(), &mooncore.Request{Action: test.action, Params: json.RawMessage(test.params)}); err != nil &&
			mooncore.CodeOf(err) != mooncore.CodeValidationFailed {
			t.Fatal(err)
		}
		got := map[string]any{}
		for key, value := range lines.records(t, "call")[before] {
			if strings.HasPrefix(key, "params") {
				got[key] = value
			}
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s %.50s: logged %v, want %v", test.action, test.params, got, test.want)
		}
	}
	if strings.Contains(lines.String(), "hunter2") {
		t.Errorf("a secret is in the log:\n%s", lines)
	}
}

// An order is what idempotent actions of these tests make.
type order struct {
	ID   int64  `json:"id"`
	Item string `json:"item"`
}

// A shop counts its orders.
type shop struct{ orders atomic.Int64 }

func (s *shop) action(fn func(ctx context.Context, n int64) error) mooncore.Action {
	type input struct {
		Item string `json:"item" validate:"required"`
	}
	return mooncore.Action{Name: "order", Allow: mooncore.Public, Idempotency: time.Hour,
		Handler: mooncore.Func(func(ctx context.Context, in input) (order, error) {
			n := s.orders.Add(1)
			if fn != nil {
				if err := fn(ctx, n); err != nil {
					return order{}, err
				}
			}
			return order{n, in.Item}, nil
		})}
}

// keyed calls by Go.
func keyed(t testing.TB, srv *mooncoretest.Server, id mooncore.Identity, key, params string) (string, error) {
	out, err := srv.Server.Call(t.Context(), &mooncore.Request{Action: "order", Params: json.RawMessage(params), Identity: id, IdempotencyKey: key})
	if err != nil {
		return "", err
	}
	return string(out.(json.RawMessage)), nil
}

func TestIdempotencyScope(t *testing.T) {
	const milk = `{"item":"milk"}`
	in := func(change func(id *mooncore.Identity)) mooncore.Identity {
		id := alice
		change(&id)
		return id
	}
	for _, test := range []struct {
		name   string
		second mooncore.Request
		code   mooncore.Code
		orders int64
	}{
		{"a retry", mooncore.Request{Identity: alice, IdempotencyKey: "k", Params: json.RawMessage(milk)}, "", 1},
		{"from another address", mooncore.Request{Identity: alice, IdempotencyKey: "k", Params: json.RawMessage(milk), RemoteAddr: netip.MustParseAddr("192.0.2.9")}, "", 1},
		{"with what frames have besides", mooncore.Request{Identity: alice, IdempotencyKey: "k", Params: json.RawMessage(`{"action":"order","item":"milk","rayid":7,"traceparent":"x"}`)}, "", 1},
		{"another key", mooncore.Request{Identity: alice, IdempotencyKey: "K", Params: json.RawMessage(milk)}, "", 2},
		{"no key", mooncore.Request{Identity: alice, Params: json.RawMessage(milk)}, "", 2},
		{"another user", mooncore.Request{Identity: bob, IdempotencyKey: "k", Params: json.RawMessage(milk)}, "", 2},
		{"another tenant", mooncore.Request{Identity: in(func(id *mooncore.Identity) { id.Tenant = "b" }), IdempotencyKey: "k", Params: json.RawMessage(milk)}, "", 2},
		{"another scope", mooncore.Request{Identity: in(func(id *mooncore.Identity) { id.Scope = "b" }), IdempotencyKey: "k", Params: json.RawMessage(milk)}, "", 2},
		{"a separator moved", mooncore.Request{Identity: mooncore.Identity{User: "ealice", Tenant: "acm"}, IdempotencyKey: "k", Params: json.RawMessage(milk)}, "", 2},
		{"nobody", mooncore.Request{IdempotencyKey: "k", Params: json.RawMessage(milk)}, "", 2},
		{"other params", mooncore.Request{Identity: alice, IdempotencyKey: "k", Params: json.RawMessage(`{"item":"beer"}`)}, mooncore.CodeValidationFailed, 1},
		{"a param more", mooncore.Request{Identity: alice, IdempotencyKey: "k", Params: json.RawMessage(`{"item":"milk","n":1}`)}, mooncore.CodeValidationFailed, 1},
		{"params that are no good", mooncore.Request{Identity: alice, IdempotencyKey: "k", Params: json.RawMessage(`{}`)}, mooncore.CodeValidationFailed, 1},
		{"a key too long", mooncore.Request{Identity: alice, IdempotencyKey: strings.Repeat("k", 256), Params: json.RawMessage(milk)}, mooncore.CodeValidationFailed, 1},
		{"a key with a control character", mooncore.Request{Identity: alice, IdempotencyKey: "k\n", Params: json.RawMessage(milk)}, mooncore.CodeValidationFailed, 1},
		{"a key that is no ASCII", mooncore.Request{Identity: alice, IdempotencyKey: "ключ", Params: json.RawMessage(milk)}, mooncore.CodeValidationFailed, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s shop
			srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(s.action(nil))})
			first, err := keyed(t, srv, alice, "k", milk)
			if err != nil || first != `{"id":1,"item":"milk"}` {
				t.Fatalf("got %s, %v", first, err)
			}
			req := test.second
			req.Action = "order"
			out, err := srv.Server.Call(t.Context(), &req)
			if mooncore.CodeOf(err) != test.code || s.orders.Load() != test.orders {
				t.Errorf("got %s, %v, %d orders; want code %q, %d orders", out, err, s.orders.Load(), test.code, test.orders)
			}
			if test.code == "" && test.orders == 1 && string(out.(json.RawMessage)) != first {
				t.Errorf("got %s, want %s", out, first)
			}
			if again, err := keyed(t, srv, alice, "k", milk); err != nil || again != first {
				t.Errorf("then the first again: %s, %v", again, err)
			}
		})
	}
}

func TestIdempotencyOfAnonymousCallers(t *testing.T) {
	var s shop
	srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(s.action(nil))})
	for _, test := range []struct {
		addr   string
		orders int64
	}{{"192.0.2.1", 1}, {"192.0.2.1", 1}, {"192.0.2.2", 2}, {"2001:db8::1", 3}, {"2001:db8::2", 3}} {
		if _, err := srv.Server.Call(t.Context(), &mooncore.Request{
			Action: "order", Params: json.RawMessage(`{"item":"milk"}`), IdempotencyKey: "k", RemoteAddr: netip.MustParseAddr(test.addr),
		}); err != nil || s.orders.Load() != test.orders {
			t.Errorf("%s: %v, %d orders, want %d", test.addr, err, s.orders.Load(), test.orders)
		}
	}
}

// The handler of a keyed call finds the call in its context, and the key in that.
func TestIdempotencyKeyOfTheHandler(t *testing.T) {
	action := returning("order", func(ctx context.Context) (string, error) {
		req := mooncore.RequestFrom(ctx)
		deadline, ok := ctx.Deadline()
		return fmt.Sprintf("%s %s %v", req.Source, req.IdempotencyKey, ok && time.Until(deadline) <= 30*time.Second), nil
	})
	action.Idempotency = time.Hour
	srv := serve(t, mooncore.Config{Routers: catalogue(action)})
	if _, body := srv.call("order", "{}", "Idempotency-Key", `"h"`); body != `"http h true"` {
		t.Errorf("http: %s", body)
	}
	if got := srv.dialAs(alice).ask(`{"action":"order","idempotency_key":"w"}`); got != `["response","ws w true",null]` {
		t.Errorf("ws: %s", got)
	}
}

// A fallback is one action of many names.
func TestIdempotencyOfFallback(t *testing.T) {
	srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{{Fallback: mooncore.Action{
		Allow: mooncore.Public, Idempotency: time.Hour,
		Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (string, error) { return mooncore.RequestFrom(ctx).Action, nil }),
	}}}})
	for _, name := range []string{"a", "b", "a"} {
		out, err := srv.Server.Call(t.Context(), &mooncore.Request{Action: name, IdempotencyKey: "k"})
		if err != nil || string(out.(json.RawMessage)) != `"`+name+`"` {
			t.Errorf("%s: %s, %v", name, out, err)
		}
	}
}

// What Go gets is its own.
func TestIdempotencyResultIsTheCallers(t *testing.T) {
	var s shop
	srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(s.action(nil))})
	for range 3 {
		out, err := srv.Server.Call(t.Context(), &mooncore.Request{Action: "order", Params: json.RawMessage(`{"item":"milk"}`), IdempotencyKey: "k"})
		if err != nil || string(out.(json.RawMessage)) != `{"id":1,"item":"milk"}` {
			t.Fatalf("got %s, %v", out, err)
		}
		clear(out.(json.RawMessage))
	}
}

func TestIdempotencyOfOutcomes(t *testing.T) {
	code := func(c mooncore.Code) error {
		return &mooncore.Error{Code: c, Message: "no", Err: errors.New("hunter2"), LogID: "L1"}
	}
	for _, test := range []struct {
		name string
		err  error
		runs int64 // of two calls
	}{
		{"success", nil, 1},
		{"already_exists", code(mooncore.CodeAlreadyExists), 1},
		{"failed_precondition", code(mooncore.CodeFailedPrecondition), 1},
		{"not_found", code(mooncore.CodeNotFound), 1},
		{"permission_denied", code(mooncore.CodePermissionDenied), 1},
		{"validation_failed", mooncore.FieldError("item", "is out of stock"), 1},
		{"unauthenticated", code(mooncore.CodeUnauthenticated), 2},
		{"unavailable", code(mooncore.CodeUnavailable), 2},
		{"rate_limited", code(mooncore.CodeRateLimited), 2},
		{"canceled", context.Canceled, 2},
		{"deadline_exceeded", context.DeadlineExceeded, 2},
		{"internal", errors.New("hunter2"), 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s shop
			log, lines := logger()
			srv := serve(t, mooncore.Config{Logger: log, Routers: catalogue(s.action(func(context.Context, int64) error { return test.err }))})
			var bodies [2]string
			var status [2]int
			for i := range bodies {
				resp, body := srv.call("order", `{"item":"milk"}`, "Idempotency-Key", "k", "X-Request-Id", "r")
				bodies[i], status[i] = body, resp.StatusCode
			}
			if s.orders.Load() != test.runs {
				t.Errorf("it ran %d times, want %d", s.orders.Load(), test.runs)
			}
			if test.runs == 1 && (bodies[0] != bodies[1] || status[0] != status[1]) {
				t.Errorf("the retry got %d %s, the first %d %s", status[1], bodies[1], status[0], bodies[0])
			}
			records := lines.records(t, "call")
			if replayed := records[1]["replayed"] == true; replayed != (test.runs == 1) {
				t.Errorf("logged %v", records[1])
			}
			if test.runs == 1 && records[1]["cause"] != nil {
				t.Errorf("the cause is logged again: %v", records[1])
			}
		})
	}
}

// A call over each transport is a retry of one over another.
func TestIdempotencyAcrossTransports(t *testing.T) {
	var s shop
	srv := serve(t, mooncore.Config{Routers: catalogue(s.action(nil))})
	const want = `{"id":1,"item":"milk"}`
	header := []string{"Authorization", "Bearer " + srv.token(alice), "Idempotency-Key"}
	ws := srv.dialAs(alice)
	for i, got := range []string{
		second(srv.call("order", `{"item":"milk"}`, append(header, "k-1")...)),
		second(srv.call("order", `{"item":"milk"}`, append(header, `"k-1"`)...)),
		second(srv.request(http.MethodPost, "/run", `{"action":"order","item":"milk"}`, append(header, "k-1")...)),
		ws.ask(`{"action":"order","item":"milk","rayid":1,"idempotency_key":"k-1"}`),
		ws.ask(`{"action":"order","item":"milk","rayid":"two","idempotency_key":"\u006b-1"}`),
	} {
		if got != want && got != `["response",`+want+`,1]` && got != `["response",`+want+`,"two"]` {
			t.Errorf("%d: %s", i, got)
		}
	}
	if s.orders.Load() != 1 {
		t.Errorf("%d orders", s.orders.Load())
	}
	for frame, want := range map[string]string{
		`{"action":"order","item":"milk","idempotency_key":7}`:      `"errors":{"idempotency_key":["must be a string of 1 to 255 printable ASCII characters"]}`,
		`{"action":"order","item":"milk","idempotency_key":""}`:     `"errors":{"idempotency_key":["must be a string of`,
		`{"action":"order","item":"beer","idempotency_key":"k-1"}`:  `"errors":{"idempotency_key":["was used with other params"]}`,
		`{"action":"order","item":"milk","idempotency_key":"k\n1"}`: `"errors":{"idempotency_key":["must be a string of`,
	} {
		if got := ws.ask(frame); !strings.Contains(got, want) {
			t.Errorf("%s: %s", frame, got)
		}
	}
	resp, body := srv.call("order", `{"item":"milk"}`, append(header, "a", "Idempotency-Key", "b")...)
	if resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, `"idempotency_key":["must be given once"]`) {
		t.Errorf("two keys: %d %s", resp.StatusCode, body)
	}
	if s.orders.Load() != 1 {
		t.Errorf("%d orders", s.orders.Load())
	}
}

func second[A, B any](_ A, b B) B { return b }

func TestIdempotencyOfFiles(t *testing.T) {
	var uploads atomic.Int64
	srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(mooncore.Action{
		Name: "upload", Allow: mooncore.Public, Idempotency: time.Hour,
		Handler: mooncore.Func(func(context.Context, struct{}) (int64, error) { return uploads.Add(1), nil }),
	})})
	client := srv.As(alice).Dial()
	upload := func(content string) (int64, mooncore.Code) {
		var n int64
		err := client.Call("upload", map[string]any{"idempotency_key": "k"}, &n, mooncoretest.File{Data: []byte(content)})
		return n, mooncore.CodeOf(err)
	}
	for i, test := range []struct {
		content string
		code    mooncore.Code
	}{{"abc", ""}, {"abc", ""}, {"abd", mooncore.CodeValidationFailed}, {"", mooncore.CodeValidationFailed}} {
		if n, code := upload(test.content); code != test.code || code == "" && n != 1 {
			t.Errorf("%d: %d, %q", i, n, code)
		}
	}
}

func TestIdempotencyWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shop
		release := make(chan struct{})
		action := s.action(func(context.Context, int64) error { <-release; return nil })
		action.Concurrency = 1 // those that wait take no place
		srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(action)})
		results := make(chan string, 20)
		for range 20 {
			go func() {
				out, err := keyed(t, srv, alice, "k", `{"item":"milk"}`)
				results <- fmt.Sprint(out, err)
			}()
		}
		synctest.Wait()
		if _, err := keyed(t, srv, alice, "k", `{"item":"beer"}`); mooncore.CodeOf(err) != mooncore.CodeValidationFailed {
			t.Errorf("other params while it runs: %v", err)
		}
		if len(results) != 0 {
			t.Fatalf("%d did not wait", len(results))
		}
		close(release)
		for range 20 {
			if got := <-results; got != `{"id":1,"item":"milk"}<nil>` {
				t.Errorf("got %s", got)
			}
		}
	})
}

// Who waits shares even an outcome that is not kept, so that a fault doesn't run as often as it was retried.
func TestIdempotencySharesFaults(t *testing.T) {
	for name, fault := range map[string]func(){
		"panic": func() { panic("x") }, "runtime.Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s shop
				release := make(chan struct{})
				srv := mooncoretest.New(t, mooncore.Config{Logger: slog.New(slog.DiscardHandler), Routers: catalogue(
					s.action(func(_ context.Context, n int64) error {
						if n == 1 {
							<-release
							fault()
						}
						return nil
					}))})
				codes := make(chan mooncore.Code, 3)
				for range 3 {
					go func() {
						_, err := keyed(t, srv, alice, "k", `{"item":"milk"}`)
						codes <- mooncore.CodeOf(err)
					}()
				}
				synctest.Wait()
				close(release)
				synctest.Wait()
				want := 3
				if name != "panic" {
					want = 2 // the first has no goroutine left to say so
				}
				if len(codes) != want {
					t.Fatalf("%d answers, want %d", len(codes), want)
				}
				for range want {
					if code := <-codes; code != mooncore.CodeInternal {
						t.Errorf("got %q", code)
					}
				}
				if out, err := keyed(t, srv, alice, "k", `{"item":"milk"}`); out != `{"id":2,"item":"milk"}` {
					t.Errorf("a later retry: %s, %v", out, err)
				}
			})
		})
	}
}

// A client that goes away ends neither its call nor what its retry gets; the server's limits do.
func TestIdempotencyOutlivesTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shop
		action := s.action(func(ctx context.Context, n int64) error {
			if n > 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
				return nil
			}
		})
		action.Timeout = 10 * time.Second
		srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(action)})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		request := func(key string) *mooncore.Request {
			return &mooncore.Request{Action: "order", Params: json.RawMessage(`{"item":"milk"}`), IdempotencyKey: key}
		}
		if out, err := srv.Server.Call(ctx, request("k")); err != nil {
			t.Errorf("the call ended with its client: %v, %v", out, err)
		}
		if out, err := keyed(t, srv, mooncore.Identity{}, "k", `{"item":"milk"}`); out != `{"id":1,"item":"milk"}` {
			t.Errorf("the retry got %s, %v", out, err)
		}

		start := time.Now()
		go srv.Server.Call(ctx, request("stuck"))
		synctest.Wait()
		if _, err := keyed(t, srv, mooncore.Identity{}, "stuck", `{"item":"milk"}`); mooncore.CodeOf(err) != mooncore.CodeDeadlineExceeded {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("a stuck call ended after %v", took)
		}
	})
}

// Shutdown gives up what no client waits for any more, too.
func TestIdempotencyEndsWithTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shop
		action := s.action(func(ctx context.Context, _ int64) error { <-ctx.Done(); return ctx.Err() })
		action.Timeout = -1
		srv, err := mooncore.New(mooncore.Config{Development: true, Logger: slog.New(slog.DiscardHandler), Routers: catalogue(action)})
		if err != nil {
			t.Fatal(err)
		}
		client, gone := context.WithCancel(t.Context())
		var call sync.WaitGroup
		call.Go(func() {
			_, err := srv.Call(client, &mooncore.Request{Action: "order", Params: json.RawMessage(`{"item":"milk"}`), IdempotencyKey: "k"})
			if mooncore.CodeOf(err) != mooncore.CodeCanceled {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		gone()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("Shutdown: %v after %v", err, time.Since(start))
		}
		call.Wait()
	})
}

func TestIdempotencyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shop
		srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(s.action(nil))})
		for _, step := range []struct {
			after time.Duration
			want  string
		}{
			{0, `{"id":1,"item":"milk"}`}, {time.Hour - 1, `{"id":1,"item":"milk"}`}, {1, `{"id":2,"item":"milk"}`},
		} {
			time.Sleep(step.after)
			if out, err := keyed(t, srv, alice, "k", `{"item":"milk"}`); out != step.want {
				t.Errorf("got %s, %v, want %s", out, err, step.want)
			}
		}
	})
}

func TestIdempotencyForgetsTheOldest(t *testing.T) {
	log, lines := logger()
	var s shop
	srv := mooncoretest.New(t, mooncore.Config{
		Logger: log, Limits: mooncore.Limits{IdempotencyBytes: 10 * 450}, Routers: catalogue(s.action(nil)),
	})
	for i := range 100 {
		if _, err := keyed(t, srv, alice, fmt.Sprint(i), `{"item":"milk"}`); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := keyed(t, srv, alice, "99", `{"item":"milk"}`); out != `{"id":100,"item":"milk"}` {
		t.Errorf("the newest: %s, %v", out, err)
	}
	if out, err := keyed(t, srv, alice, "0", `{"item":"milk"}`); out != `{"id":101,"item":"milk"}` {
		t.Errorf("the oldest: %s, %v", out, err)
	}
	if n := len(lines.records(t, "results are forgotten before their time: retries of these calls would run again")); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// A result that is larger than all memory for results is not kept, and that is said.
func TestIdempotencyKeepsNoHugeResult(t *testing.T) {
	log, lines := logger()
	var runs atomic.Int64
	action := returning("order", func(context.Context) (string, error) { runs.Add(1); return strings.Repeat("x", 2000), nil })
	action.Idempotency = time.Hour
	srv := mooncoretest.New(t, mooncore.Config{Logger: log, Limits: mooncore.Limits{IdempotencyBytes: 1000}, Routers: catalogue(action)})
	for range 2 {
		if _, err := keyed(t, srv, alice, "k", `{}`); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(lines.records(t, "results are forgotten before their time: retries of these calls would run again")); runs.Load() != 2 || n != 1 {
		t.Errorf("it ran %d times, and was warned of %d times", runs.Load(), n)
	}
}

// 10,000 retries, at once and one after another, over all transports, have one effect.
func TestTenThousandRetriesHaveOneEffect(t *testing.T) {
	var s shop
	srv := serve(t, mooncore.Config{Routers: catalogue(s.action(nil))})
	token := srv.token(alice)
	const want = `{"id":1,"item":"milk"}`
	var wrong atomic.Int64
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			for range 100 {
				w := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodPost, "/run/order", strings.NewReader(`{"item":"milk"}`))
				r.Header.Set("Authorization", "Bearer "+token)
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Idempotency-Key", "8e03978e-40d5-43dd-bc93-6894a57f9324")
				srv.ServeHTTP(w, r)
				if w.Body.String() != want {
					wrong.Add(1)
				}
			}
		})
	}
	for range 10 {
		ws := srv.dialAs(alice)
		callers.Go(func() {
			for range 500 {
				if got := ws.ask(`{"action":"order","item":"milk","idempotency_key":"8e03978e-40d5-43dd-bc93-6894a57f9324"}`); got != `["response",`+want+`,null]` {
					wrong.Add(1)
				}
			}
		})
	}
	callers.Wait()
	if s.orders.Load() != 1 || wrong.Load() != 0 {
		t.Errorf("%d effects, %d wrong answers", s.orders.Load(), wrong.Load())
	}
}

// Observers see the steps of policies, for actions that have them.
func TestObserversSeePolicies(t *testing.T) {
	var s shop
	action := s.action(nil)
	action.Rate, action.Concurrency = mooncore.PerUser(5, time.Minute), 3
	steps := &stepLog{}
	srv := mooncoretest.New(t, mooncore.Config{Observers: []mooncore.Observer{steps}, Routers: catalogue(action)})
	for range 2 {
		if _, err := keyed(t, srv, alice, "k", `{"item":"milk"}`); err != nil {
			t.Fatal(err)
		}
	}
	const want = "access rate params handler concurrency idempotency access rate params idempotency"
	if got := strings.Join(steps.names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

type stepLog struct {
	mooncore.NopObserver
	names []string
}

func (o *stepLog) CallStep(_ context.Context, _ *mooncore.Request, step string, _ time.Duration, _ error) {
	o.names = append(o.names, step)
}
