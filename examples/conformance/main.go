// Conformance is the server that outside test clients drive, to compare it with recorded exchanges. It does nothing clever.
//
// Environment, besides the library's own: PORT (4100), JWT_ISSUER (myapp), MOONCORE_LEGACY=true for the Elixir framework's
// status codes and its way with bad tokens, ALLOW_ORIGINS (comma-separated).
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"strings"

	"github.com/mooncore/mooncore"
)

func main() {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", cmp.Or(os.Getenv("PORT"), "4100")))
	if err != nil {
		log.Fatal(err)
	}
	cfg := config()
	cfg.Listener = listener
	fmt.Printf("listening on http://%s\n", listener.Addr())
	if err := mooncore.Run(cfg); err != nil {
		log.Fatal(err)
	}
}

func config() mooncore.Config {
	legacy := os.Getenv("MOONCORE_LEGACY") == "true"
	return mooncore.Config{
		Routers:      []mooncore.Router{myapp(), otherapp(), zbig()},
		JWT:          mooncore.JWTConfig{Issuer: "myapp"},
		Origins:      strings.FieldsFunc(os.Getenv("ALLOW_ORIGINS"), func(r rune) bool { return r == ',' || r == ' ' }),
		LegacyStatus: legacy,
		LegacyAuth:   legacy,
	}
}

// db stands for the database of the request.
var db mooncore.Key[string]

var middleware = []mooncore.Middleware{
	mooncore.Before(func(ctx context.Context, _ *mooncore.Request) (context.Context, error) {
		return db.WithValue(ctx, "dbhandle"), nil
	}),
	mooncore.After(withoutPassword),
}

// withoutPassword deletes the top-level key "password" of results that are objects.
func withoutPassword(_ context.Context, _ *mooncore.Request, out any, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(b, &object) == nil && object["password"] != nil {
		delete(object, "password")
		return object, nil
	}
	return out, nil
}

func myapp() mooncore.Router {
	return mooncore.Router{
		App:        "myapp",
		Roles:      []string{"admin", "user", "editor", "channel_chat"},
		Middleware: middleware,
		Actions:    append(actions(), forms()...),
	}
}

func otherapp() mooncore.Router {
	who := mooncore.Func(func(ctx context.Context, _ struct{}) (map[string]any, error) {
		id := mooncore.RequestFrom(ctx).Identity
		var user any
		if id.User != "" {
			user = id.User
		}
		return map[string]any{"app": "otherapp", "user": user, "roles": id.Claims["roles"]}, nil
	})
	return mooncore.Router{
		App:        "otherapp",
		Roles:      []string{"owner", "user"},
		Middleware: middleware,
		Actions: []mooncore.Action{
			{Name: "echo", Allow: mooncore.Public, Handler: who, ReadOnly: true},
			{Name: "other.only", Allow: mooncore.Public, Handler: who},
			{Name: "owner.only", Allow: mooncore.Roles("owner"), Handler: who},
		},
	}
}

func zbig() mooncore.Router {
	roles := make([]string, 80)
	for i := range roles {
		roles[i] = fmt.Sprintf("r%d", i)
	}
	show := mooncore.Func(func(ctx context.Context, _ struct{}) (map[string]any, error) {
		return map[string]any{"roles": mooncore.RequestFrom(ctx).Identity.Claims["roles"]}, nil
	})
	return mooncore.Router{
		App:        "zbig",
		Roles:      roles,
		Middleware: middleware,
		Actions: []mooncore.Action{
			{Name: "roles", Allow: mooncore.Public, Handler: show},
			{Name: "zbig.r79", Allow: mooncore.Roles("r79"), Handler: show},
		},
	}
}
