package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mooncore/mooncore"
)

type (
	raw    = json.RawMessage
	object = map[string]any
)

func actions() []mooncore.Action {
	public := mooncore.Public
	adminOnly := mooncore.Func(func(ctx context.Context, _ struct{}) (object, error) {
		return object{"secret": 42, "user": mooncore.RequestFrom(ctx).Identity.User}, nil
	})
	return []mooncore.Action{
		{Name: "echo", Allow: public, Handler: mooncore.Func(echo), ReadOnly: true},
		{Name: "dump", Allow: public, Handler: mooncore.Func(dump), ReadOnly: true},
		{Name: "task.create", Allow: mooncore.Roles("user"), Handler: mooncore.Func(createTask)},
		{Name: "task.list", Allow: mooncore.Roles("user"), Handler: mooncore.Func(func(context.Context, struct{}) ([]string, error) {
			return []string{}, nil
		})},
		{Name: "admin.only", Allow: mooncore.Roles("admin"), Handler: adminOnly},
		{Name: "any.role", Allow: mooncore.Roles("admin", "editor"), Handler: adminOnly},
		{Name: "report.pdf", Allow: public, Handler: mooncore.Func(report("pdf"))},
		{
			Name: "report.forced", Allow: public, Handler: mooncore.Func(report(nil)),
			Override: object{"format": "pdf", "opts": object{"a": 1}},
		},
		{Name: "boom", Allow: public, Handler: mooncore.Func(func(context.Context, struct{}) (any, error) { panic("boom") })},
		{Name: "err.tuple", Allow: public, Handler: mooncore.Func(func(context.Context, struct{}) (any, error) {
			return nil, mooncore.Errorf(mooncore.CodeNotFound, "not found")
		})},
		{Name: "err.log", Allow: public, Handler: mooncore.Func(func(context.Context, struct{}) (any, error) {
			return nil, &mooncore.Error{Code: mooncore.CodeFailedPrecondition, Message: "failed", LogID: "log-123"}
		})},
		{Name: "list.value", Allow: public, Handler: mooncore.Func(func(context.Context, struct{}) ([]any, error) {
			return []any{1, "two", nil, true}, nil
		})},
		{Name: "value", Allow: public, Handler: mooncore.Func(value)},
		{Name: "secret", Allow: public, Handler: mooncore.Func(secret)},
		{Name: "slow", Allow: public, Handler: mooncore.Func(slow)},
		{Name: "bin", Allow: public, Handler: mooncore.Func(bin)},
		{Name: "pub", Allow: public, Handler: mooncore.Func(pub)},
		{Name: "pub.to", Allow: public, Handler: mooncore.Func(pubTo)},
	}
}

func echo(ctx context.Context, params map[string]any) (object, error) {
	payload, err := payload(ctx)
	if err != nil {
		return nil, err
	}
	if payload != nil && mooncore.RequestFrom(ctx).Source == "ws" && utf8.Valid(payload) {
		params = maps.Clone(params)
		params["bind"] = string(payload)
	}
	return object{"echo": params}, nil
}

func dump(ctx context.Context, params raw) (object, error) {
	req := mooncore.RequestFrom(ctx)
	out := object{"auth": req.Identity.Claims, "db": db.Value(ctx), "params": params, "source": req.Source}
	switch req.Source {
	case "http":
		out["ip"] = req.RemoteAddr.String()
	case "ws":
		out["action"], out["rayid"] = req.Action, req.RayID()
	}
	return out, nil
}

type task struct {
	Title string `json:"title" validate:"required,min_length=2"`
}

func createTask(ctx context.Context, in task) (task, error) {
	return in, publish(ctx, "task-created", in, "main:default")
}

func report(format any) func(context.Context, raw) (object, error) {
	return func(_ context.Context, params raw) (object, error) {
		return object{"format": format, "params": params}, nil
	}
}

type kind struct {
	Kind string `json:"kind"`
}

var values = map[string]raw{
	"string": raw(`"plain"`), "int": raw(`7`), "nil": raw(`null`), "true": raw(`true`), "false": raw(`false`),
	"datetime": raw(`{"t":"2026-01-02T03:04:05.678Z"}`),
	"unicode":  raw("{\"s\":\"é漢😀</script>\u2028\u007f\"}"),
	"ctrl":     raw(`{"s":"\u0000\u0001\u001f\"\\/"}`),
	"bigint":   raw(`{"n":123456789012345678901234567890}`),
	"keyorder": raw(`{"b":1,"a":2,"C":3,"10":4,"9":5}`),
}

func value(_ context.Context, in kind) (raw, error) { return values[in.Kind], nil }

var secrets = map[string]raw{
	"string_key": raw(`{"password":"p","name":"n"}`),
	"nested":     raw(`{"user":{"password":"p"},"name":"n"}`),
	"list":       raw(`[{"password":"p"}]`),
}

func secret(_ context.Context, in kind) (raw, error) { return secrets[in.Kind], nil }

type sleep struct {
	MS *int `json:"ms" validate:"between=0 60000"`
}

func slow(ctx context.Context, in sleep) (object, error) {
	ms := 500
	if in.MS != nil {
		ms = *in.MS
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return object{"slept": ms}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func bin(ctx context.Context, params raw) (object, error) {
	payload, err := payload(ctx)
	sum := sha256.Sum256(payload)
	return object{"size": len(payload), "sha256": hex.EncodeToString(sum[:]), "meta": params}, err
}

// payload is what came with a binary frame, or the first file of a form, or nil.
func payload(ctx context.Context) ([]byte, error) {
	files := mooncore.RequestFrom(ctx).Files
	if len(files) == 0 {
		return nil, nil
	}
	f, err := files[0].Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func pub(ctx context.Context, params raw) (object, error) {
	return object{"published": true}, publish(ctx, "task-created", params, "main:default")
}

type pubToInput struct {
	Event    string   `json:"event"`
	Data     raw      `json:"data"`
	Channels []string `json:"channels"`
}

func pubTo(ctx context.Context, in pubToInput) (object, error) {
	if in.Event == "" {
		in.Event = "ev"
	}
	if in.Channels == nil {
		in.Channels = []string{"main:default"}
	}
	published, err := withoutPassword(ctx, nil, in.Data, nil)
	if err != nil {
		return nil, err
	}
	return object{"returned": published}, publish(ctx, in.Event, in.Data, in.Channels...)
}

// publish takes channels as the wire names them: "@user", "name:scope".
func publish(ctx context.Context, event string, payload any, channels ...string) error {
	var to []mooncore.To
	for _, channel := range channels {
		if user, ok := strings.CutPrefix(channel, "@"); ok {
			to = append(to, mooncore.ToUser(user))
			continue
		}
		name, scope, ok := strings.Cut(channel, ":")
		if !ok {
			return mooncore.FieldError("channels", fmt.Sprintf("%q is no channel", channel))
		}
		to = append(to, mooncore.ToChannel(name).Scope(scope))
	}
	if len(to) == 0 {
		return nil
	}
	return mooncore.RequestFrom(ctx).Tenant().Publish(ctx, event, payload, to[0], to[1:]...)
}
