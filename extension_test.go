package mooncore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
)

// What an Extension adds is there before the first call, and nothing is called before New has returned.
func TestExtensionObserves(t *testing.T) {
	ofConfig, ofExtension := &eventLog{}, &eventLog{}
	started := make(chan struct{})
	var early error
	observers := append(make([]mooncore.Observer, 0, 4), ofConfig)
	cfg := mooncore.Config{Observers: observers, Routers: catalogue(returning("whoami", whoami)), Extensions: []mooncore.Extension{
		func(srv *mooncore.Server) error {
			srv.Observe(ofExtension)
			_, early = srv.Call(context.Background(), &mooncore.Request{Action: "whoami"})
			srv.Go(func(ctx context.Context) {
				if _, err := srv.Call(ctx, &mooncore.Request{Action: "whoami", Source: "cron"}); err != nil {
					t.Error(err)
				}
				close(started)
			})
			select {
			case <-started:
				return errors.New("it started while New ran")
			default:
				return nil
			}
		},
	}}
	srv := mooncoretest.New(t, cfg)
	<-started
	if mooncore.CodeOf(early) != mooncore.CodeUnavailable || !strings.Contains(early.Error(), "Starting") {
		t.Errorf("a call while New runs: %v", early)
	}
	if observers[:2][1] != nil {
		t.Error("Observe wrote into the program's slice")
	}
	for name, o := range map[string]*eventLog{"Config's": ofConfig, "the extension's": ofExtension} {
		if got := o.take(); !slices.Equal(got, []string{"start cron", "step access ", "step params ", "step handler ", "end @  from the observer"}) {
			t.Errorf("%s observer saw %q", name, got)
		}
	}
	defer func() {
		if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "Observe") {
			t.Errorf("Observe after New: %v", v)
		}
	}()
	srv.Observe(ofExtension)
}

// An Extension that opened something can close it though New fails after it.
func TestExtensionEndsWhenNewFails(t *testing.T) {
	for name, cfg := range map[string]mooncore.Config{
		"another extension fails": {
			Routers:    catalogue(returning("whoami", whoami)),
			Extensions: []mooncore.Extension{nil, func(*mooncore.Server) error { return errors.New("no luck") }},
		},
		"a middleware returns nil": {
			Routers: []mooncore.Router{{
				Actions:    []mooncore.Action{returning("whoami", whoami)},
				Middleware: []mooncore.Middleware{func(mooncore.Next) mooncore.Next { return nil }},
			}},
			Extensions: []mooncore.Extension{nil},
		},
	} {
		t.Run(name, func(t *testing.T) {
			open := false
			cfg.Development, cfg.Logger = true, slog.New(slog.DiscardHandler)
			cfg.Extensions[0] = func(srv *mooncore.Server) error {
				open = true
				srv.Go(func(ctx context.Context) { <-ctx.Done(); open = false })
				return nil
			}
			if _, err := mooncore.New(cfg); err == nil {
				t.Fatal("New succeeded")
			}
			if open {
				t.Error("what the extension opened is open")
			}
		})
	}
}

func TestCallSource(t *testing.T) {
	srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(returning("source", func(ctx context.Context) (string, error) {
		return mooncore.RequestFrom(ctx).Source, nil
	}))})
	for given, want := range map[string]string{"": "go", "http": "go", "ws": "go", "go": "go", "cron": "cron"} {
		if got, err := srv.Call(t.Context(), &mooncore.Request{Action: "source", Source: given}); err != nil || got != want {
			t.Errorf("%q became %v, %v; want %q", given, got, err, want)
		}
	}
}

// resultLog keeps the results that an Observer sees as JSON.
type resultLog struct {
	mooncore.NopObserver
	results []string
}

func (o *resultLog) CallEnd(_ context.Context, req *mooncore.Request, _ any, _ error, _ time.Duration) {
	o.results = append(o.results, string(req.Result()))
}

func TestObserversGetResultsAsJSON(t *testing.T) {
	seen := &resultLog{}
	srv := mooncoretest.New(t, mooncore.Config{Observers: []mooncore.Observer{seen}, Routers: catalogue(
		returning("map", func(context.Context) (map[string]int, error) { return map[string]int{"n": 1}, nil }),
		returning("fails", func(context.Context) (string, error) { return "", errors.New("x") }),
	)})
	client := srv.As(mooncore.Identity{})
	conn := client.Dial()
	for _, call := range []func(string, any, any, ...mooncoretest.File) error{client.Call, conn.Call} {
		var out any
		if err := call("map", nil, &out); err != nil {
			t.Error(err)
		}
		_ = call("fails", nil, &out)
	}
	if _, err := srv.Call(t.Context(), &mooncore.Request{Action: "map"}); err != nil {
		t.Error(err)
	}
	if want := []string{`{"n":1}`, "", `{"n":1}`, "", ""}; !slices.Equal(seen.results, want) {
		t.Errorf("got %q, want %q", seen.results, want)
	}
}

func TestErrorCause(t *testing.T) {
	plain := errors.New("plain")
	for _, test := range []struct {
		name        string
		err         *mooncore.Error
		text, stack string
	}{
		{"nil", nil, "", ""},
		{"no cause", &mooncore.Error{Code: mooncore.CodeNotFound, Message: "no such task"}, "", ""},
		{"a cause", &mooncore.Error{Code: mooncore.CodeNotFound, Message: "no such task", Err: plain}, "plain", ""},
		{"internal, where no client reads the message", &mooncore.Error{Message: "disk full"}, "disk full", ""},
		{"internal, with the text that clients read", &mooncore.Error{Message: "Internal Server Error"}, "", ""},
		{"a cause that panics", &mooncore.Error{Err: (*nilMethod)(nil)}, "an error of type *mooncore_test.nilMethod panicked: ", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, stack := test.err.Cause()
			if !strings.HasPrefix(text, test.text) || text != "" && test.text == "" || stack != test.stack {
				t.Errorf("got %q, %q", text, stack)
			}
		})
	}
	srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue(returning("panics", func(context.Context) (string, error) { panic("boom") }))})
	_, err := srv.Call(t.Context(), &mooncore.Request{Action: "panics"})
	var e *mooncore.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	if text, stack := e.Cause(); text != "panic: boom" || !strings.Contains(stack, "TestErrorCause") {
		t.Errorf("got %q, %s", text, stack)
	}
}

type nilMethod struct{ text string }

func (e *nilMethod) Error() string { return e.text }

// Extensions reach single connections.
func TestConnJoinAndLeave(t *testing.T) {
	srv := mooncoretest.New(t, mooncore.Config{Limits: mooncore.Limits{Channels: 2}, Routers: catalogue(returning("whoami", whoami))})
	alice, stranger := srv.As(mooncore.Identity{User: "alice", Scope: "eu"}).Dial(), srv.As(mooncore.Identity{}).Dial()
	_, _ = alice, stranger
	for _, c := range srv.Conns() {
		err := c.Join(t.Context(), "vip") // no role channel_vip is needed
		if c.Identity().User == "" {
			if mooncore.CodeOf(err) != mooncore.CodeFailedPrecondition {
				t.Errorf("a stranger joins: %v", err)
			}
			continue
		}
		if err != nil || !slices.Equal(c.Channels(), []string{"vip:eu", "@alice"}) {
			t.Errorf("joined %q, %v", c.Channels(), err)
		}
		if err := c.Join(t.Context(), "more"); mooncore.CodeOf(err) != mooncore.CodeFailedPrecondition {
			t.Errorf("past Limits.Channels: %v", err)
		}
		if err := c.Join(t.Context(), "a:b"); mooncore.CodeOf(err) != mooncore.CodeInvalidArgument {
			t.Errorf("a name with a colon: %v", err)
		}
		c.Leave(t.Context(), "vip")
		c.Leave(t.Context(), "vip")
		if !slices.Equal(c.Channels(), []string{"@alice"}) {
			t.Errorf("after leaving: %q", c.Channels())
		}
		if c.RTT() != 0 {
			t.Errorf("RTT %v before any ping", c.RTT())
		}
	}
}

func TestSettings(t *testing.T) {
	for _, name := range []string{"HOST", "CORS_ORIGINS", "JWT_PUBLIC_KEY", "JWT_PRIVATE_KEY", "LOG_LEVEL", "SECRET_KEY_BASE"} {
		t.Setenv(name, "")
	}
	t.Setenv("MOONCORE_ENV", "development")
	t.Setenv("PORT", "4321")
	t.Setenv("JWT_ISSUER", "me")
	secret := strings.Repeat("s3cret", 6)
	cfg, err := mooncore.ConfigFromEnv(mooncore.Config{
		Logger: slog.New(slog.DiscardHandler), JWT: mooncore.JWTConfig{Secret: mooncore.Secret(secret)}, Routers: catalogue(),
		Limits: mooncore.Limits{Channels: -1, Timeout: time.Second}, Hosts: []string{"a.example", "b.example"},
		Checks: map[string]func(context.Context) error{"db": nop, "cache": nop},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := mooncore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown(t.Context())
	got := map[string]mooncore.Setting{}
	for _, s := range srv.Settings() {
		got[s.Name] = s
		if strings.Contains(s.Value, secret) {
			t.Errorf("%s shows a secret", s.Name)
		}
	}
	for _, want := range []mooncore.Setting{
		{Name: "Routers", Value: "1", Source: "program"},
		{Name: "Addr", Value: ":4321", Source: "environment", Env: "HOST, PORT"},
		{Name: "Development", Value: "true", Source: "environment", Env: "MOONCORE_ENV"},
		{Name: "DevTools", Value: "false", Source: "default"},
		{Name: "Logger", Value: "set", Source: "program", Env: "LOG_LEVEL"},
		{Name: "JWT.Issuer", Value: "me", Source: "environment", Env: "JWT_ISSUER"},
		{Name: "JWT.Secret", Value: "[redacted]", Source: "program"},
		{Name: "JWT.Lifetime", Value: "18h0m0s", Source: "default"},
		{Name: "JWT.OnRevoke", Value: "none", Source: "default"},
		{Name: "SecretKeyBase", Value: "[redacted]", Source: "default", Env: "SECRET_KEY_BASE, SECRET_KEY_BASE_FILE"},
		{Name: "Hosts", Value: "a.example, b.example", Source: "program"},
		{Name: "Handler", Value: "none", Source: "default"},
		{Name: "Checks", Value: "cache, db", Source: "program"},
		{Name: "Pools", Value: "default", Source: "default"},
		{Name: "Limits.Timeout", Value: "1s", Source: "program"},
		{Name: "Limits.Channels", Value: "none", Source: "program"},
		{Name: "Limits.MaxBytes", Value: "1048576", Source: "default"},
		{Name: "Limits.TenantConns", Value: "none", Source: "default"},
	} {
		if got[want.Name] != want {
			t.Errorf("got %+v, want %+v", got[want.Name], want)
		}
	}
	if c := srv.Config(); c.Limits.Channels != -1 || c.Limits.TenantConns != -1 || c.Limits.MaxBytes != 1<<20 || c.Pools[0] != "default" {
		t.Errorf("Config: %+v", c.Limits)
	}
}

func nop(context.Context) error { return nil }

// The table of README.md has every field of Config, and the variables that set it.
func TestREADMEHasEverySetting(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(readme), "\n| field | environment | default |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	quoted := regexp.MustCompile("`([^`]+)`")
	variable := regexp.MustCompile("`([A-Z_]+)`")
	documented := map[string]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			t.Fatalf("no row of three cells: %q", line)
		}
		var variables []string
		for _, m := range variable.FindAllStringSubmatch(cells[2], -1) {
			variables = append(variables, m[1])
		}
		prefix := ""
		for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
			name := m[1]
			if before, _, ok := strings.Cut(name, "."); ok {
				prefix = before + "."
			} else {
				name = prefix + name
			}
			documented[name] = strings.Join(variables, ", ")
		}
	}
	srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue()})
	settings := map[string]string{}
	for _, s := range srv.Settings() {
		settings[s.Name] = s.Env
	}
	if !reflect.DeepEqual(documented, settings) {
		for _, name := range slices.Sorted(maps.Keys(settings)) {
			if env, ok := documented[name]; !ok || env != settings[name] {
				t.Errorf("README.md: %s: documented %v with %q, want %q", name, ok, env, settings[name])
			}
			delete(documented, name)
		}
		t.Errorf("README.md documents what is no field: %v", documented)
	}
}

func TestSchemaMarksSecrets(t *testing.T) {
	type login struct {
		User     string            `json:"user"`
		Password mooncore.Secret   `json:"password"`
		Backups  []mooncore.Secret `json:"backups"`
	}
	h := mooncore.Func(func(context.Context, login) (login, error) { return login{}, nil })
	var in, out struct {
		Properties struct {
			User, Password struct{ WriteOnly bool }
			Backups        struct{ Items struct{ WriteOnly bool } }
		}
	}
	if err := errors.Join(json.Unmarshal(h.InputSchema(), &in), json.Unmarshal(h.OutputSchema(), &out)); err != nil {
		t.Fatal(err)
	}
	if p := in.Properties; p.User.WriteOnly || !p.Password.WriteOnly || !p.Backups.Items.WriteOnly {
		t.Errorf("input: %s", h.InputSchema())
	}
	if p := out.Properties; p.Password.WriteOnly {
		t.Errorf("output: %s", h.OutputSchema())
	}
}
