package redisbroker_test

import (
	"slices"
	"testing"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/nodes"
	"github.com/mooncore/mooncore/pubsub/redisbroker"
)

func connectNode(url string) (pubsub.Broker, error) { return redisbroker.Connect(url) }

// TestPresence kills and freezes servers that share a Redis.
func TestPresence(t *testing.T) {
	nodes.Presence(t, func(t *testing.T) []string { return slices.Repeat([]string{"redis://" + redisServer(t).Addr()}, 3) })
}
