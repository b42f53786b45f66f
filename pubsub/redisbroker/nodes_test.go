package redisbroker_test

import (
	"net"
	"testing"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/faults"
	"github.com/mooncore/mooncore/pubsub/internal/nodes"
	"github.com/mooncore/mooncore/pubsub/redisbroker"
)

func connectNode(url string) (pubsub.Broker, error) { return redisbroker.Connect(url) }

// TestPresence kills and freezes servers that share a Redis.
func TestPresence(t *testing.T) {
	nodes.Presence(t, func(t *testing.T) (places []nodes.Place) {
		redis := redisServer(t)
		for range 3 {
			places = append(places, nodes.Place{Addr: freeport.Addr(t), Broker: "redis://" + redis.Addr()})
		}
		return places
	})
}

// TestPresenceCut cuts them off from it.
func TestPresenceCut(t *testing.T) {
	outer, inner := faults.NewNetwork(t), faults.NewNetwork(t)
	port := inner.Connect(faults.NewHost(t))
	redis := redisServerOn(t, port.Host, net.JoinHostPort(port.IP, "6379"))
	var places []nodes.Place
	for range 3 {
		host := faults.NewHost(t)
		places = append(places, nodes.Place{
			Addr: net.JoinHostPort(outer.Connect(host).IP, "4000"), Broker: "redis://" + redis.Addr(), Host: host, Way: inner.Connect(host),
		})
	}
	nodes.PresenceCut(t, places)
}

// TestEverywhere has servers that share a Redis act on each other's users.
func TestEverywhere(t *testing.T) {
	redis := redisServer(t)
	nodes.Everywhere(t, func(t *testing.T) pubsub.Broker { return connect(t, redis.Addr()) })
}
