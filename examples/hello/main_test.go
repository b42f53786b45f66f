package main

import (
	"testing"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
)

func TestHello(t *testing.T) {
	stranger := mooncoretest.New(t, config()).As(mooncore.Identity{})

	var overHTTP, overWebSocket string
	if err := stranger.Call("hello", Greeting{Name: "Ada"}, &overHTTP); err != nil {
		t.Fatal(err)
	}
	if err := stranger.Dial().Call("hello", Greeting{Name: "Ada"}, &overWebSocket); err != nil {
		t.Fatal(err)
	}
	if want := "Hello, Ada"; overHTTP != want || overWebSocket != want {
		t.Errorf("got %q over HTTP and %q over WebSocket, want %q", overHTTP, overWebSocket, want)
	}
}

func TestHelloNeedsAName(t *testing.T) {
	stranger := mooncoretest.New(t, config()).As(mooncore.Identity{})
	if got := mooncore.CodeOf(stranger.Call("hello", nil, nil)); got != mooncore.CodeValidationFailed {
		t.Errorf("got code %q, want %q", got, mooncore.CodeValidationFailed)
	}
}
