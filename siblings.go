package mooncore

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/registry"
)

// Who is in a channel is known by the server that each connection is on: who wants to know asks all servers. So one that dies takes
// its members along, and leaves none behind. Whose answers to wait for is known by their beats.

const (
	siblingBeat     = time.Second
	siblingGone     = 5 * time.Second // without a beat for so long, a server is gone
	siblingTime     = 2 * time.Second // and when it takes longer to answer
	siblingDeaf     = 2 * siblingBeat // without its own beat for so long, a server hears nobody
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
	echo  time.Time            // when this server last heard itself
	seen  map[string]*sibling  // by id
	asks  map[uint64]*question // by round
	round uint64
}

type sibling struct {
	beat time.Time // the last one
	mute bool      // did not answer in time since then
}

// A question waits for answers.
type question struct {
	open    map[string]bool // servers that are still to answer
	done    chan struct{}   // closed when none is left
	answers map[string]*siblingAnswer
}

// A siblingAnswer is what a server answers, or a part of it.
type siblingAnswer struct {
	Server  string   `json:"server"`
	Node    string   `json:"node"`
	Round   uint64   `json:"round"`
	Members []Member `json:"members,omitempty"` // to controlMembers
	Users   []string `json:"users,omitempty"`   // to controlPresence
	Seq     uint64   `json:"seq,omitempty"`     // of the last change of these
	More    bool     `json:"more,omitempty"`    // another part follows

	Revocations []Revocation `json:"revocations,omitempty"` // for a server that may have missed them
}

func serverTopic(id string) string { return pubsub.Topic("mooncore", "server", id) }

func newSiblings(s *Server) *siblings {
	id := newID()
	return &siblings{
		server: s, id: id, topic: serverTopic(id), asked: make(chan controlMessage, maxAsked),
		seen: map[string]*sibling{}, asks: map[uint64]*question{},
	}
}

// run beats and answers until the context ends.
func (b *siblings) run(ctx context.Context) {
	ticker := time.NewTicker(siblingBeat)
	defer ticker.Stop()
	if !b.tell(ctx, controlMessage{Kind: controlBeat, Hello: true}) {
		b.missed.Store(true)
	}
	swept := time.Now()
	for {
		select {
		case <-ticker.C:
			b.tell(ctx, controlMessage{Kind: controlBeat})
			b.makeUp(ctx)
			late := time.Since(swept) > siblingDeaf // it was frozen, or held up
			swept = time.Now()
			for _, server := range b.sweep(late) {
				b.server.presence.ended(server)
				if b.server.kicks.ended(server) {
					b.server.kickMissed()
				}
			}
			b.server.presence.beat()
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
	m.Server, m.Kicks = b.id, b.server.kicks.sent.Load()
	err := b.server.control(ctx, m)
	if err != nil {
		b.server.log.Debug("broker: a beat was not sent", "cause", err)
	}
	return err == nil
}

// heard handles what another server said. It must not block.
func (b *siblings) heard(m controlMessage) {
	if m.Server == "" {
		return
	}
	b.mu.Lock()
	if m.Server == b.id {
		b.echo = time.Now()
		b.mu.Unlock()
		return
	}
	old := b.seen[m.Server]
	if m.Kind == controlBye {
		b.seen[m.Server] = &sibling{mute: true} // sweep finds it
		for _, a := range b.asks {
			a.answered(m.Server)
		}
	} else {
		b.seen[m.Server] = &sibling{beat: time.Now()}
	}
	b.mu.Unlock()
	switch {
	case m.Kind == controlBye:
	case old == nil && !m.Hello: // with its first beat nobody has come to it yet
		b.server.presence.appeared(m.Server)
	case old != nil && old.mute:
		b.server.presence.returned(m.Server)
	}
	question := m.Kind == controlMembers || m.Kind == controlPresence
	if question || m.Kind == controlMissed || m.Hello {
		select {
		case b.asked <- m:
		default: // it waits in vain, and goes on
			if !question {
				b.owed.Store(true)
			}
		}
	}
}

// spoke handles that a server said something else than heard is for: it is alive.
func (b *siblings) spoke(server string) {
	b.mu.Lock()
	s := b.seen[server]
	switch {
	case s == nil:
		b.seen[server] = &sibling{beat: time.Now()}
	case !s.beat.IsZero(): // else it said that it ends
		s.beat = time.Now()
	}
	b.mu.Unlock()
	if s == nil {
		b.server.presence.appeared(server)
	}
}

// sweep forgets servers that are gone, and returns them. Nobody is while this server can't hear: when it is late, when it doesn't hear
// itself, or when the broker says so.
func (b *siblings) sweep(late bool) (gone []string) {
	stats, ok := b.server.brokerStats()
	away := ok && !stats.Up
	b.mu.Lock()
	defer b.mu.Unlock()
	deaf := late || away || time.Since(b.echo) > siblingDeaf
	for server, s := range b.seen {
		switch {
		case deaf:
			s.beat = time.Now()
		case time.Since(s.beat) > siblingGone:
			delete(b.seen, server)
			gone = append(gone, server)
		}
	}
	return gone
}

// known lists the servers that have not been swept.
func (b *siblings) known() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.seen))
}

// silent has the servers that are not asked.
func (b *siblings) silent() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	servers := map[string]bool{}
	for server, s := range b.seen {
		if s.silent() {
			servers[server] = true
		}
	}
	return servers
}

func (s *sibling) silent() bool { return s.mute || time.Since(s.beat) > siblingGone }

// knows reports whether a server is one of them.
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
	var all siblingAnswer
	if p := b.server.poolNamed(m.Pool); p != nil && m.Channel != nil {
		if m.Kind == controlMembers {
			all.Members = p.members(m.Tenant, *m.Channel, b.server.cfg.Node)
		} else {
			all.Users, all.Seq = b.server.presence.here(presenceKey{p, m.Tenant, *m.Channel})
		}
	}
	for more := true; more; {
		part := siblingAnswer{Server: b.id, Node: b.server.cfg.Node, Round: m.Round, Seq: all.Seq}
		part.Members, all.Members = cut(all.Members, membersPart)
		part.Users, all.Users = cut(all.Users, membersPart)
		more = len(all.Members)+len(all.Users) > 0
		part.More = more
		data, err := json.Marshal(part)
		if err == nil {
			err = b.send(ctx, serverTopic(m.Server), data)
		}
		if err != nil {
			b.server.log.Error("broker: members were not sent", "cause", err)
			return
		}
	}
}

// cut returns the first elements of s, at most n, and the rest.
func cut[T any](s []T, n int) (first, rest []T) {
	n = min(n, len(s))
	return s[:n], s[n:]
}

// answered handles an answer.
func (b *siblings) answered(data []byte) {
	var m siblingAnswer
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
	if all := a.answers[m.Server]; all == nil {
		a.answers[m.Server] = &m
	} else {
		all.Members, all.Users = append(all.Members, m.Members...), append(all.Users, m.Users...)
	}
	if !m.More {
		a.answered(m.Server)
	}
}

// answered ends the wait for a server. siblings.mu is held.
func (a *question) answered(server string) {
	if !a.open[server] {
		return
	}
	delete(a.open, server)
	if len(a.open) == 0 {
		close(a.done)
	}
}

// members asks the other servers who is in a channel.
func (b *siblings) members(ctx context.Context, pool, tenant string, ch registry.Channel) (members []Member, err error) {
	answers, err := b.ask(ctx, controlMessage{Kind: controlMembers, Pool: pool, Tenant: tenant, Channel: &ch})
	for _, a := range answers {
		nodes := []string{a.Node}
		for _, m := range a.Members {
			m.Nodes = nodes
			members = append(members, m)
		}
	}
	return members, err
}

// ask asks the other servers, and returns what they answer in time, by server.
func (b *siblings) ask(ctx context.Context, m controlMessage) (map[string]*siblingAnswer, error) {
	round, a, servers := b.begin()
	defer b.forget(round)
	if servers == 0 {
		return nil, nil
	}
	m.Server, m.Round = b.id, round
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
	var muted []string
	for server := range a.open {
		delete(a.answers, server) // half an answer
		if s := b.seen[server]; s != nil && !s.mute {
			s.mute = true
			muted = append(muted, server)
		}
	}
	answers := maps.Clone(a.answers)
	b.mu.Unlock()
	for _, server := range muted {
		b.server.presence.muted(server)
	}
	return answers, nil
}

// begin begins a round of the servers that are there.
func (b *siblings) begin() (round uint64, a *question, servers int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a = &question{open: map[string]bool{}, done: make(chan struct{}), answers: map[string]*siblingAnswer{}}
	for server, s := range b.seen {
		if !s.silent() {
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
