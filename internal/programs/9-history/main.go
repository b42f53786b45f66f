// A chat room that survives cuts: a client that comes back gets what was said meanwhile, and asks no action for it.
package main

import (
	"context"
	"log"
	"time"

	"github.com/mooncore/mooncore"
)

func main() {
	if err := mooncore.Run(mooncore.Config{Routers: []mooncore.Router{router()}}); err != nil {
		log.Fatal(err)
	}
}

func router() mooncore.Router {
	return mooncore.Router{
		Channels: []mooncore.Channel{
			{Name: "room-*", Allow: mooncore.Authenticated, History: mooncore.History{Events: 500, Age: 10 * time.Minute}},
		},
		Actions: []mooncore.Action{
			{Name: "say", Allow: mooncore.Authenticated, Handler: mooncore.Func(say)},
		},
	}
}

type Message struct {
	Room string `json:"room" validate:"required,starts_with=room-"`
	Text string `json:"text" validate:"required,max_length=1000"`
}

func say(ctx context.Context, in Message) (any, error) {
	return nil, mooncore.RequestFrom(ctx).Tenant().Publish(ctx, "message", in, mooncore.ToChannel(in.Room))
}
