package embedded_test

import (
	"encoding/json"
	"net"
	"testing"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/faults"
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

// options are those of a node among others, for startNode.
func options(t *testing.T, addr string, all []string) string {
	text, err := json.Marshal(map[string]any{"Addr": addr, "Peers": all, "Secret": "0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPresence kills and freezes servers with NATS in them.
func TestPresence(t *testing.T) {
	nodes.Presence(t, func(t *testing.T) (places []nodes.Place) {
		addrs := []string{freeport.Addr(t), freeport.Addr(t), freeport.Addr(t)}
		for _, addr := range addrs {
			places = append(places, nodes.Place{Addr: freeport.Addr(t), Broker: options(t, addr, addrs)})
		}
		return places
	})
}

// TestPresenceCut cuts them off from each other.
func TestPresenceCut(t *testing.T) {
	outer, inner := faults.NewNetwork(t), faults.NewNetwork(t)
	var places []nodes.Place
	var addrs []string
	for range 3 {
		host := faults.NewHost(t)
		p := nodes.Place{Addr: net.JoinHostPort(outer.Connect(host).IP, "4000"), Host: host, Way: inner.Connect(host)}
		places, addrs = append(places, p), append(addrs, net.JoinHostPort(p.Way.IP, routePort))
	}
	for i, addr := range addrs {
		places[i].Broker = options(t, addr, addrs)
	}
	nodes.PresenceCut(t, places)
}

// TestEverywhere has servers act on each other's users, which share a NATS server, or bring one each.
func TestEverywhere(t *testing.T) {
	t.Run("Server", func(t *testing.T) {
		nats := natsServer(t, serverConfig{Addr: freeport.Addr(t)})
		nodes.Everywhere(t, func(t *testing.T) pubsub.Broker { return connect(t, nats.Addr()) })
	})
	t.Run("Embedded", func(t *testing.T) {
		var peers []string
		nodes.Everywhere(t, func(t *testing.T) pubsub.Broker {
			b := start(t, embedded.Options{Addr: "127.0.0.1:0", Peers: peers})
			peers = append(peers, b.Addr())
			return b
		})
	})
}
