package pubsub_test

import (
	"context"
	"fmt"

	"github.com/mooncore/mooncore/pubsub"
)

func Example() {
	ctx := context.Background()
	hub := pubsub.NewHub(pubsub.NewLocal(), pubsub.HubOptions{
		Deliver: func(topic string, data []byte) {
			parts, _ := pubsub.ParseTopic(topic)
			fmt.Printf("%q: %s\n", parts, data)
		},
	})
	defer hub.Close()

	lobby := pubsub.Topic("acme", "lobby")
	if err := hub.Hold(ctx, lobby); err != nil {
		fmt.Println(err)
	}
	hub.Publish(ctx, lobby, []byte("hello"))
	hub.Publish(ctx, pubsub.Topic("acme", "kitchen"), []byte("nobody holds it"))
	hub.Release(lobby)
	hub.Publish(ctx, lobby, []byte("too late"))
	// Output:
	// ["acme" "lobby"]: hello
}
