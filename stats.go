package mooncore

import (
	"slices"
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

	History HistoryStats

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
		History:  s.historyStats(),
		Draining: s.health.draining.Load(), Broker: broker,
	}
}

// counters are those of [Stats].
type counters struct {
	refused, published, delivered, invalidTokens, expiredTokens, lost atomic.Uint64

	recoveries [len(recoveries)]atomic.Uint64 // in the order of recoveries
}

// HistoryStats are figures of the channels with [History].
type HistoryStats struct {
	Feeds int    // channels that have a member here
	Lost  uint64 // how often the members of one were told that events may be missing

	// What became of joins that named a position: the client got what it missed, or it was told a reason (PROTOCOL.md section 3).
	Recovered, Epoch, Ahead, Trimmed, TooLarge, Unavailable, NoHistory, Refused uint64
}

func (s *Server) historyStats() HistoryStats {
	c := &s.counters
	n := func(why reason) uint64 { return c.recoveries[slices.Index(recoveries[:], why)].Load() }
	stats := HistoryStats{
		Lost: c.lost.Load(), Recovered: n(reasonNone), Epoch: n(reasonEpoch), Ahead: n(reasonAhead), Trimmed: n(reasonTrimmed),
		TooLarge: n(reasonTooLarge), Unavailable: n(reasonUnavailable), NoHistory: n(reasonNoHistory), Refused: n(reasonRefused),
	}
	if s.history != nil {
		stats.Feeds = s.history.count()
	}
	return stats
}

// recovered counts a join that named a position.
func (c *counters) recovered(why reason) { c.recoveries[slices.Index(recoveries[:], why)].Add(1) }

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
