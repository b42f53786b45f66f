//go:build !race

package pubsub_test

import (
	"context"
	"testing"

	"github.com/mooncore/mooncore/pubsub"
)

// TestAllocs keeps publishing by Local free of allocation.
func TestAllocs(t *testing.T) {
	h := pubsub.NewHub(pubsub.NewLocal(), pubsub.HubOptions{Deliver: func(string, []byte) {}})
	defer h.Close()
	if err := h.Hold(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	data := []byte("data")
	if n := testing.AllocsPerRun(100, func() { h.Publish(context.Background(), "x", data) }); n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestTopicAllocs(t *testing.T) {
	var topic string
	if n := testing.AllocsPerRun(100, func() { topic = pubsub.Topic("mooncore", "channel", "", "tenant", "room") }); n > 1 {
		t.Errorf("%v allocations of a topic, want 1", n)
	}
	if n := testing.AllocsPerRun(100, func() { pubsub.ParseTopic(topic) }); n > 0 {
		t.Errorf("%v allocations of its parts, want 0", n)
	}
}
