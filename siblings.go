package mooncore

import (
	"context"
	"encoding/json"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/registry"
)

// Who is in a channel is known by the server that each connection is on, and kept nowhere else: who wants to know asks all
// servers. So one that dies takes its members along, and leaves none behind. Whose answers to wait for is known by their beats.

const (
	siblingBeat     = time.Second
	siblingGone     = 5 * time.Second // without a beat for so long, a server is gone
	siblingTime     = 2 * time.Second // and when it takes longer to answer
	maxAsked        = 1024            // questions and beats that wait for an answer
	membersPart     = 2000            // members in a message
	revocationsPart = 64 << 10        // bytes of revocations in a message, about
	revocationSize  = 128             // of one, without its names
)

// siblings are the other servers.
type siblings struct {
	server *Server
	id     string
	topic  string // by which this server gets answers
	asked  chan controlMessage

	missed atomic.Bool // revocations of others may be: they are to be asked
	owed   atomic.Bool // others may have missed this server's: they are to be sent again

	mu    sync.Mutex
	seen  map[string]*sibling // by id
	asks  map[uint64]*ask     // by round
	round uint64
}

type sibling struct {
	beat time.Time // the last one
	mute bool      // did not answer in time since then
}

// An ask is a question that waits for answers.
type ask struct {
	open    map[string]bool     // servers that are still to answer
	done    chan struct{}       // closed when none is left
	members map[string][]Member // by server
}

// membersAnswer is what a server answers.
type membersAnswer struct {
	Server  string   `json:"server"`
	Round   uint64   `json:"round"`
	Members []Member `json:"members"`
	More    bool     `json:"more,omitempty"` // another part follows

	Revocations []Revocation `json:"revocations,omitempty"` // for a server that may have missed them
}

func serverTopic(id string) string { return pubsub.Topic("mooncore", "server", id) }

func newSiblings(s *Server) *siblings {
	id := newID()
	return &siblings{
		server: s, id: id, topic: serverTopic(id), asked: make(chan controlMessage, maxAsked),
		seen: map[string]*sibling{}, asks: map[uint64]*ask{},
	}
}

// run beats and answers until the context ends.
func (b *siblings) run(ctx context.Context) {
	ticker := time.NewTicker(siblingBeat)
	defer ticker.Stop()
	if !b.tell(ctx, controlMessage{Kind: controlBeat, Hello: true}) {
		b.missed.Store(true)
	}
	for {
		select {
		case <-ticker.C:
			b.tell(ctx, controlMessage{Kind: controlBeat})
			b.makeUp(ctx)
			for _, server := range b.sweep() {
				b.server.presence.ended(server)
			}
		case m := <-b.asked:
			b.answer(ctx, m)
		case <-ctx.Done():
			b.tell(context.WithoutCancel(ctx), controlMessage{Kind: controlBye})
			return
		}
	}
}

// makeUp sees to it that revocations that were missed come again. What fails is tried again with the next beat.
func (b *siblings) makeUp(ctx context.Context) {
	if b.missed.Swap(false) && !b.tell(ctx, controlMessage{Kind: controlMissed}) {
		b.missed.Store(true)
	}
	if b.owed.Swap(false) {
		b.sendRevocations(ctx, controlTopic)
	}
}

// sendRevocations sends the revocations that count, which are applied again without harm.
func (b *siblings) sendRevocations(ctx context.Context, topic string) {
	list := b.server.tokens.revocations.list(time.Now())
	for len(list) > 0 {
		n := 0
		for size := 0; n < len(list) && size < revocationsPart; n++ {
			size += revocationSize + list[n].size()
		}
		data, err := json.Marshal(controlMessage{Kind: controlRevoke, Server: b.id, Revocations: list[:n]})
		if err == nil {
			err = b.send(ctx, topic, data)
		}
		if err != nil {
			b.server.log.Debug("broker: revocations were not sent again", "cause", err)
			b.owed.Store(true)
			return
		}
		list = list[n:]
	}
}

func (b *siblings) send(ctx context.Context, topic string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, siblingTime)
	defer cancel()
	return b.server.hub.Publish(ctx, topic, data)
}

// tell says something to all servers, and reports whether it was sent. While the broker is away nobody hears it, and need not.
func (b *siblings) tell(ctx context.Context, m controlMessage) bool {
	ctx, cancel := context.WithTimeout(ctx, siblingTime)
	defer cancel()
	m.Server = b.id
	err := b.server.control(ctx, m)
	if err != nil {
		b.server.log.Debug("broker: a beat was not sent", "cause", err)
	}
	return err == nil
}

// heard handles what another server said. It must not block.
func (b *siblings) heard(m controlMessage) {
	if m.Server == b.id || m.Server == "" {
		return
	}
	b.mu.Lock()
	if m.Kind == controlBye {
		b.seen[m.Server] = &sibling{mute: true} // sweep finds it
		for _, a := range b.asks {
			a.answered(m.Server)
		}
	} else {
		b.seen[m.Server] = &sibling{beat: time.Now()}
	}
	b.mu.Unlock()
	if m.Kind == controlMembers || m.Kind == controlMissed || m.Hello {
		select {
		case b.asked <- m:
		default: // it waits in vain, and goes on
			if m.Kind != controlMembers {
				b.owed.Store(true)
			}
		}
	}
}

// sweep forgets servers that are gone, and returns them.
func (b *siblings) sweep() (gone []string) {
	stats, ok := b.server.brokerStats()
	away := ok && !stats.Up
	b.mu.Lock()
	defer b.mu.Unlock()
	for server, s := range b.seen {
		switch {
		case away: // nobody is heard
			s.beat = time.Now()
		case time.Since(s.beat) > siblingGone:
			delete(b.seen, server)
			gone = append(gone, server)
		}
	}
	return gone
}

// knows reports whether a server has not been swept.
func (b *siblings) knows(server string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen[server] != nil
}

// answer answers a question, or the first beat of a server.
func (b *siblings) answer(ctx context.Context, m controlMessage) {
	if m.Hello {
		b.tell(ctx, controlMessage{Kind: controlBeat})
	}
	if m.Hello || m.Kind == controlMissed {
		b.sendRevocations(ctx, serverTopic(m.Server))
		return
	}
	var members []Member
	if p := b.server.poolNamed(m.Pool); p != nil && m.Channel != nil {
		members = p.members(m.Tenant, *m.Channel)
	}
	for more := true; more; {
		n := min(len(members), membersPart)
		more = len(members) > n
		data, err := json.Marshal(membersAnswer{Server: b.id, Round: m.Round, Members: members[:n], More: more})
		if err == nil {
			err = b.send(ctx, serverTopic(m.Server), data)
		}
		if err != nil {
			b.server.log.Error("broker: members were not sent", "cause", err)
			return
		}
		members = members[n:]
	}
}

// answered handles an answer.
func (b *siblings) answered(data []byte) {
	var m membersAnswer
	if err := json.Unmarshal(data, &m); err != nil {
		b.server.log.Error("broker message ignored", "cause", err)
		return
	}
	b.server.applyAgain(m.Revocations)
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.asks[m.Round]
	if a == nil || !a.open[m.Server] {
		return
	}
	a.members[m.Server] = append(a.members[m.Server], m.Members...)
	if !m.More {
		a.answered(m.Server)
	}
}

// answered ends the wait for a server. siblings.mu is held.
func (a *ask) answered(server string) {
	if !a.open[server] {
		return
	}
	delete(a.open, server)
	if len(a.open) == 0 {
		close(a.done)
	}
}

// members asks the other servers who is in a channel, and returns that by server.
func (b *siblings) members(ctx context.Context, pool, tenant string, ch registry.Channel) (map[string][]Member, error) {
	round, a, servers := b.ask()
	defer b.forget(round)
	if servers == 0 {
		return nil, nil
	}
	m := controlMessage{Kind: controlMembers, Server: b.id, Round: round, Pool: pool, Tenant: tenant, Channel: &ch}
	if err := b.server.control(ctx, m); err != nil {
		return nil, err
	}
	timer := time.NewTimer(siblingTime)
	defer timer.Stop()
	select {
	case <-a.done:
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for server := range a.open {
		delete(a.members, server) // half an answer
		if s := b.seen[server]; s != nil {
			s.mute = true
		}
	}
	return maps.Clone(a.members), nil
}

// ask begins a round of the servers that are there.
func (b *siblings) ask() (round uint64, a *ask, servers int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a = &ask{open: map[string]bool{}, done: make(chan struct{}), members: map[string][]Member{}}
	for server, s := range b.seen {
		if !s.mute && time.Since(s.beat) <= siblingGone {
			a.open[server] = true
		}
	}
	b.round++
	b.asks[b.round] = a
	return b.round, a, len(a.open)
}

func (b *siblings) forget(round uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.asks, round)
}
