// Package clusterpeers holds what is measured between two servers, each of which is a process: brokers alone, the clients that they
// stand on, and whole servers. Each is written as its documentation advises.
package clusterpeers

import (
	"maps"
	"slices"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// A Config says what a node does.
type Config struct {
	Engine   string // the address of the message broker, empty if the programs bring it along
	Join     string // the Node.Join of the first node, empty for that one
	Channels int    // they are named by traffic.Name

	// Deliver gets what comes by a channel. The second node has subscribed all channels when it has started. The first one has
	// none: it publishes.
	Deliver func(channel int, payload []byte)
}

// A Node is one of the two servers.
type Node struct {
	Publish func(channel int, payload []byte) error
	Join    string // what the second node gets

	// Set by whole servers, whose clients see what is delivered.
	Addr      string
	WebSocket *wire.WebSocket
}

// A peer is what takes part.
type peer struct {
	engine string // "redis", "nats" or none
	start  func(Config) (Node, error)
}

var peers = map[string]peer{
	"redis/mooncore":   {redisEngine, startBroker(connectRedis)},
	"redis/centrifuge": {redisEngine, startCentrifugeBroker},
	"redis/rueidis":    {redisEngine, startRueidis},

	"nats/mooncore":      {natsEngine, startBroker(connectNATS)},
	"nats/nats.go":       {natsEngine, startNATS(dialNATS, false)},
	"nats/nats.go-flush": {natsEngine, startNATS(dialNATS, true)},

	"embedded/mooncore":      {"", startBroker(startEmbedded)},
	"embedded/nats.go":       {"", startNATS(embedNATS, false)},
	"embedded/nats.go-flush": {"", startNATS(embedNATS, true)},

	"servers/mooncore-redis":    {redisEngine, startServer(connectRedis)},
	"servers/mooncore-nats":     {natsEngine, startServer(connectNATS)},
	"servers/mooncore-embedded": {"", startServer(startEmbedded)},
	"servers/centrifuge-redis":  {redisEngine, startCentrifuge},
}

// Names lists the peers, each after its group and a slash.
func Names() []string { return slices.Sorted(maps.Keys(peers)) }

// EngineOf returns the name of the message broker that a peer needs, empty for none. ok is false if there is no such peer.
func EngineOf(name string) (engine string, ok bool) {
	p, ok := peers[name]
	return p.engine, ok
}

// Start starts a node of a peer that there is.
func Start(name string, c Config) (Node, error) { return peers[name].start(c) }
