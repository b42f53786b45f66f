package embedded_test

import (
	"encoding/json"
	"testing"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/nodes"
	"github.com/mooncore/mooncore/pubsub/natsbroker/embedded"
)

func startNode(text string) (pubsub.Broker, error) {
	var o embedded.Options
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return nil, err
	}
	return embedded.Start(o)
}

// TestPresence kills and freezes servers with NATS in them.
func TestPresence(t *testing.T) {
	nodes.Presence(t, func(t *testing.T) (texts []string) {
		var addrs []string
		for range 3 {
			addrs = append(addrs, freeport.Addr(t))
		}
		for _, addr := range addrs {
			text, err := json.Marshal(embedded.Options{Addr: addr, Peers: addrs})
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(text))
		}
		return texts
	})
}
