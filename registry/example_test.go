package registry_test

import (
	"fmt"

	"github.com/mooncore/mooncore/registry"
)

// A conn stands for a connection with a queue of events.
type conn struct {
	name   string
	events []string
}

func Example() {
	const room, user registry.Kind = 'r', 'u'
	lobby := registry.Channel{Kind: room, Name: "lobby", Scope: "default"}
	alice := registry.Channel{Kind: user, Name: "alice"}

	pool := registry.NewPool[*conn]()
	a, b := &conn{name: "a"}, &conn{name: "b"}
	ma, mb := pool.Add("acme", a), pool.Add("acme", b)
	ma.Join(lobby, 128)
	ma.Join(alice, 128)
	mb.Join(lobby, 128)

	n := pool.Publish("acme", []registry.Channel{lobby, alice}, func(c *conn) { c.events = append(c.events, "hello") })
	fmt.Println(n, a.events, b.events)

	ma.Remove()
	fmt.Println(pool.Len(), pool.ChannelsOf("acme")[0].Len)
	// Output:
	// 2 [hello] [hello]
	// 1 1
}
