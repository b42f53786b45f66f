package mooncore

import (
	"sync/atomic"

	"github.com/mooncore/mooncore/pubsub"
)

// Stats are figures of one server, not of its cluster. Counts begin with New and only grow.
type Stats struct {
	Calls     int    // that run now
	Conns     int    // WebSockets that are open now
	Refused   uint64 // WebSockets that Limits had no place for, or that came while the broker was away
	Published uint64 // events that this server was told to publish, presence included
	Delivered uint64 // events handed to a connection, once for each

	// Credentials that were no good: tokens of calls, of upgrades and of ["jwt", t] frames, and what Config.Authenticate refused
	// as unauthenticated. A missing one is none of them. ExpiredTokens were good until they expired, which is everyday.
	InvalidTokens, ExpiredTokens uint64

	Draining bool // Shutdown was called: /readyz fails

	Broker pubsub.Stats // Config.Broker's, if it is a pubsub.Reporter; else Engine is empty
}

// Stats returns the server's figures. It is cheap.
func (s *Server) Stats() Stats {
	c := &s.counters
	broker, _ := s.brokerStats()
	return Stats{
		Calls: s.gate.count(), Conns: s.sockets.count(), Refused: c.refused.Load(),
		Published: c.published.Load(), Delivered: c.delivered.Load(),
		InvalidTokens: c.invalidTokens.Load(), ExpiredTokens: c.expiredTokens.Load(),
		Draining: s.health.draining.Load(), Broker: broker,
	}
}

// counters are those of [Stats].
type counters struct {
	refused, published, delivered, invalidTokens, expiredTokens atomic.Uint64
}

// authenticated counts an attempt that failed.
func (c *counters) authenticated(err error) {
	if CodeOf(err) != CodeUnauthenticated {
		return
	}
	if asError(err).Message == textTokenExpired {
		c.expiredTokens.Add(1)
	} else {
		c.invalidTokens.Add(1)
	}
}
