package mooncore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// kickMemory is for how long a server that is silent is remembered.
const kickMemory = time.Hour

// kicks finds out whether this server missed one. Connections that are not closed when the broker may have lost something would stay, then.
// Each server says with its beats, and when it ends, how many it has sent.
type kicks struct {
	sent atomic.Uint64

	mu      sync.Mutex
	cut     bool // some may have been missed, so that servers may have sent some before they were heard of
	servers map[string]*kickCount
}

type kickCount struct {
	came    uint64
	claimed uint64 // by the beat before, so that what it counts had its time to come
	unsure  bool   // some may have been missed since that
	beat    time.Time
}

// kick closes a user's connections on all servers.
func (s *Server) kick(ctx context.Context, m controlMessage) error {
	if len(m.User) > maxTokenSize {
		return Errorf(CodeInvalidArgument, "no token holds so long a name")
	}
	s.applyKick(m)
	if s.hub == nil {
		return nil
	}
	m.Server = s.siblings.id
	err := s.insist(ctx, m)
	if !errors.Is(err, pubsub.ErrAway) && !errors.Is(err, pubsub.ErrClosed) { // else it was sent, or may have been
		s.kicks.sent.Add(1)
	}
	return err
}

func (s *Server) applyKick(m controlMessage) {
	p := s.poolNamed(m.Pool)
	if p == nil {
		return
	}
	for _, member := range p.conns.Members(m.Tenant, userChannel(m.User)) {
		if c := member.Value; c.Identity().App == m.App || m.App == "" {
			c.Kick()
		}
	}
}

// kicked handles a kick that a server sent.
func (s *Server) kicked(m controlMessage) {
	if m.Server == s.siblings.id {
		return // it was applied at once
	}
	s.kicks.came(m.Server)
	s.applyKick(m)
}

// kicksOf handles how many kicks a server has sent.
func (s *Server) kicksOf(server string, sent uint64) {
	if server != s.siblings.id && s.kicks.missed(server, sent) {
		s.kickMissed()
	}
}

// kickMissed closes the connections that a kick may have meant.
func (s *Server) kickMissed() {
	s.log.Warn("a kick may have been lost between servers; connections are closed")
	for _, c := range s.Conns() {
		if c.Identity().User != "" {
			c.restart()
		}
	}
}

// cutOff notes that messages to this server may be missing.
func (k *kicks) cutOff() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = true
	for _, c := range k.servers {
		c.unsure = true
	}
}

// came counts one, unless the server's next beat tells of it.
func (k *kicks) came(server string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.servers[server]; c != nil {
		c.came++
	}
}

// missed takes a beat, and reports whether a kick did not come.
func (k *kicks) missed(server string, sent uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	c := k.servers[server]
	if c == nil {
		k.forget(now)
		k.servers[server] = &kickCount{came: sent, claimed: sent, beat: now}
		return k.cut && sent > 0
	}
	missed := c.came < c.claimed
	*c = kickCount{came: max(c.came, c.claimed), claimed: sent, beat: now}
	return missed
}

// ended reports whether a kick of a server that is gone did not come, or may not have.
func (k *kicks) ended(server string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.servers[server]
	return c != nil && (c.came < c.claimed || c.unsure)
}

// forget forgets servers that are gone. mu is held.
func (k *kicks) forget(now time.Time) {
	for server, c := range k.servers {
		if now.Sub(c.beat) > kickMemory {
			delete(k.servers, server)
		}
	}
}
