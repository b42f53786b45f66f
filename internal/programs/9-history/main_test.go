package main

import (
	"testing"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
)

func TestAWindowThatWasCutOff(t *testing.T) {
	srv := mooncoretest.New(t, mooncore.Config{Routers: []mooncore.Router{router()}})
	ann := srv.As(mooncore.Identity{User: "ann", Tenant: "lobby"})
	bob := srv.As(mooncore.Identity{User: "bob", Tenant: "lobby"})
	say := func(text string) {
		t.Helper()
		if err := bob.Call("say", Message{"room-go", text}, nil); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(window *mooncoretest.Conn, text string) {
		t.Helper()
		var m Message
		if window.Expect("message", &m); m.Text != text {
			t.Errorf("got %+v, want %q", m, text)
		}
	}

	window := ann.Dial("mooncore.v1.history")
	window.Join("room-go")
	say("one")
	expect(window, "one")
	seen := window.Position()
	window.Send("quit")
	window.Closed()
	say("two")
	say("three")

	window = ann.Dial("mooncore.v1.history")
	if joined := window.JoinSince("room-go", seen); !joined.Recovered {
		t.Fatalf("%+v", joined)
	}
	expect(window, "two")
	expect(window, "three")
	say("four")
	expect(window, "four")
	window.ExpectNothing()
}
