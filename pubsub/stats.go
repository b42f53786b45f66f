package pubsub

import (
	"errors"
	"time"
)

// ErrAway is returned by Publish while the servers can't be reached, at once: nothing is kept to be sent later.
var ErrAway = errors.New("pubsub: the broker is away")

// A Reporter is a [Broker] that can tell how it is doing. Those over a network are Reporters.
type Reporter interface {
	// Stats returns how the broker is doing. It is quick: it asks nobody.
	Stats() Stats
}

// Stats are how a [Broker] is doing. Counts are since it was made.
type Stats struct {
	Engine        string        // what it stands on: "nats", "redis"
	Up            bool          // messages pass; if not, Publish fails and the broker tries for ever to come back
	Since         time.Time     // when Up became what it is
	RoundTrip     time.Duration // how long the last probe took to come back by a subscription
	Subscriptions int           // topics
	Peers         int           // other brokers that were heard lately; 0 where they are not counted
	Reconnects    uint64        // how often it was away and came back
	Dropped       uint64        // messages that came here and were dropped, since they came faster than they were taken
	Losses        uint64        // how often a subscription was told that messages may be missing
}
