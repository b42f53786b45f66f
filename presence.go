package mooncore

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mooncore/mooncore/registry"
)

// presenceDelay is how long joins and leaves of a channel are collected into one event.
const presenceDelay = 100 * time.Millisecond

// presence tells the members of channels that ask for it who comes and goes.
type presence struct {
	server *Server

	mu     sync.Mutex
	closed bool
	rooms  map[presenceKey]*presenceRoom
}

type presenceKey struct {
	pool   *pool
	tenant string
	ch     registry.Channel
}

type presenceRoom struct {
	conns   map[string]int      // by user
	changed map[string]struct{} // users who came or went since the last event
}

func newPresence(s *Server) *presence {
	return &presence{server: s, rooms: map[presenceKey]*presenceRoom{}}
}

func (p *presence) joined(c *Conn, id *Identity, ch registry.Channel) { p.change(c, id, ch, 1) }

func (p *presence) left(c *Conn, id *Identity, channels []registry.Channel) {
	for _, ch := range channels {
		p.change(c, id, ch, -1)
	}
}

func (p *presence) change(c *Conn, id *Identity, ch registry.Channel, by int) {
	if ch.Kind != roomKind || id.User == "" {
		return
	}
	if declared := p.server.app(id.App).channel(ch.Name); declared == nil || !declared.Presence {
		return
	}
	key := presenceKey{c.pool, id.Tenant, ch}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	room := p.rooms[key]
	if room == nil {
		room = &presenceRoom{conns: map[string]int{}, changed: map[string]struct{}{}}
		p.rooms[key] = room
	}
	was := room.conns[id.User] > 0
	if room.conns[id.User] += by; room.conns[id.User] <= 0 {
		delete(room.conns, id.User)
	}
	if is := room.conns[id.User] > 0; is == was {
		return // another connection of the same user
	}
	if len(room.changed) == 0 {
		time.AfterFunc(presenceDelay, func() { p.flush(key) })
	}
	room.changed[id.User] = struct{}{}
}

// flush publishes what changed since the last event.
func (p *presence) flush(key presenceKey) {
	event := struct {
		Channel string   `json:"channel"`
		Joined  []string `json:"joined"`
		Left    []string `json:"left"`
	}{key.ch.Name, []string{}, []string{}}
	p.mu.Lock()
	room := p.rooms[key]
	if p.closed || room == nil {
		p.mu.Unlock()
		return
	}
	// Whoever came and went meanwhile is told as well: a member may have listed the channel in between.
	for _, user := range slices.Sorted(maps.Keys(room.changed)) {
		if room.conns[user] > 0 {
			event.Joined = append(event.Joined, user)
		} else {
			event.Left = append(event.Left, user)
		}
	}
	clear(room.changed)
	if len(room.conns) == 0 {
		delete(p.rooms, key)
	}
	p.mu.Unlock()
	body, err := eventJSON("presence", event)
	if err == nil {
		err = p.server.publish(context.Background(), key.pool, key.tenant, []registry.Channel{key.ch}, body)
	}
	if err != nil {
		p.server.log.Error("presence was not published", "channel", key.ch.Name, "cause", err)
	}
}

func (p *presence) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	clear(p.rooms)
}
