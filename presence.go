package mooncore

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mooncore/mooncore/registry"
)

// presenceDelay is how long joins and leaves of a channel are collected into one event.
const presenceDelay = 100 * time.Millisecond

// presenceRefresh is how long other servers' events of a channel are collected before they are asked for its members.
const presenceRefresh = 500 * time.Millisecond

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
	telling bool                // an event is under way
	asking  bool                // others will be known anew

	others map[string]map[string]time.Time // who is there by other servers, and since when, as far as is known
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
	if len(room.changed) == 0 && !room.telling {
		p.after(presenceDelay, func() { p.flush(key) })
	}
	room.changed[id.User] = struct{}{}
}

// after runs fn in a goroutine when d has passed, unless presence is closed by then. Shutdown waits for it.
func (p *presence) after(d time.Duration, fn func()) {
	time.AfterFunc(d, func() {
		p.mu.Lock()
		closed := p.closed
		if !closed {
			p.server.workers.Add(1) // before close, so before Shutdown waits
		}
		p.mu.Unlock()
		if !closed {
			defer p.server.workers.Done()
			fn()
		}
	})
}

// flush publishes what changed since the last event.
func (p *presence) flush(key presenceKey) {
	p.mu.Lock()
	room := p.rooms[key]
	if p.closed || room == nil {
		p.mu.Unlock()
		return
	}
	room.telling = true
	p.mu.Unlock()

	event, err := p.event(key, room)
	if err == nil && len(event.Joined)+len(event.Left) > 0 {
		var body []byte
		if body, err = eventJSON("presence", event); err == nil {
			err = p.server.publish(p.server.background, key.pool, key.tenant, []registry.Channel{key.ch}, body)
		}
	}
	if err != nil && p.server.background.Err() == nil { // else the others hear that this server ends
		p.server.log.Error("presence was not published", "channel", key.ch.Name, "cause", err)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	room.telling = false
	switch {
	case len(room.changed) > 0:
		p.after(presenceDelay, func() { p.flush(key) })
	case len(room.conns) == 0 && p.rooms[key] == room:
		delete(p.rooms, key)
	}
}

// A presenceEvent says who came and who left.
type presenceEvent struct {
	Channel string   `json:"channel"`
	Joined  []string `json:"joined"`
	Left    []string `json:"left"`
}

// event returns the next event of a room. Whoever came and went since the last one is told as well: a member may have listed the
// channel in between. Who is there by another server too, is told by that one, the one where they came first.
func (p *presence) event(key presenceKey, room *presenceRoom) (presenceEvent, error) {
	others, err := p.ask(key)
	here := map[string]time.Time{}
	if len(others) > 0 {
		for _, m := range key.pool.members(key.tenant, key.ch) {
			here[m.User] = m.Since
		}
	}
	event := presenceEvent{key.ch.Name, []string{}, []string{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.learn(room, others)
	}
	for _, user := range slices.Sorted(maps.Keys(room.changed)) {
		since, both := elsewhere(others, user)
		switch {
		case room.conns[user] == 0 && !both:
			event.Left = append(event.Left, user)
		case room.conns[user] > 0 && (!both || !since.Before(here[user])):
			event.Joined = append(event.Joined, user)
		}
	}
	clear(room.changed)
	return event, err
}

// ask returns who is in a room by other servers: when each user came, by server.
func (p *presence) ask(key presenceKey) (others map[string]map[string]time.Time, err error) {
	if p.server.siblings == nil {
		return nil, nil
	}
	began := time.Now()
	answers, err := p.server.siblings.members(p.server.background, key.pool.name, key.tenant, key.ch)
	if err == nil && time.Since(began) > presenceDelay {
		// A server did not answer, and who came by another one meanwhile has been told already. The mute one is not asked again.
		answers, err = p.server.siblings.members(p.server.background, key.pool.name, key.tenant, key.ch)
	}
	if err != nil {
		return nil, err
	}
	others = map[string]map[string]time.Time{}
	for server, members := range answers {
		users := map[string]time.Time{}
		for _, m := range members {
			users[m.User] = m.Since
		}
		others[server] = users
	}
	return others, nil
}

// learn keeps who is in a room by other servers. Of one that did not answer it keeps what is known, until ended tells of it. p.mu is held.
func (p *presence) learn(room *presenceRoom, others map[string]map[string]time.Time) {
	if room.others == nil {
		room.others = map[string]map[string]time.Time{}
	}
	for server, users := range others {
		if p.server.siblings.knows(server) { // else ended has told, or is about to
			room.others[server] = users
		}
	}
}

// elsewhere reports whether a user is there by another server, and since when.
func elsewhere(others map[string]map[string]time.Time, user string) (since time.Time, ok bool) {
	for _, users := range others {
		if at, is := users[user]; is && (!ok || at.Before(since)) {
			since, ok = at, true
		}
	}
	return since, ok
}

// heard is called when a server told of a room: it is asked for its members a little later, so that they are known when it
// ends. It must not block.
func (p *presence) heard(key presenceKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	room := p.rooms[key]
	if p.closed || room == nil || room.asking {
		return
	}
	room.asking = true
	p.after(presenceRefresh, func() {
		p.mu.Lock()
		room.asking = false // what is heard from now on may be news
		p.mu.Unlock()
		others, err := p.ask(key)
		p.mu.Lock()
		defer p.mu.Unlock()
		if err == nil {
			p.learn(room, others)
		}
	})
}

// ended tells the members on this server who left with another one that ended.
func (p *presence) ended(server string) {
	events := map[presenceKey]presenceEvent{}
	p.mu.Lock()
	for key, room := range p.rooms {
		users := room.others[server]
		delete(room.others, server)
		event := presenceEvent{key.ch.Name, []string{}, []string{}}
		for _, user := range slices.Sorted(maps.Keys(users)) {
			if _, still := elsewhere(room.others, user); !still && room.conns[user] == 0 {
				event.Left = append(event.Left, user)
			}
		}
		if len(event.Left) > 0 && !p.closed {
			events[key] = event
		}
	}
	p.mu.Unlock()
	for key, event := range events {
		if body, err := eventJSON("presence", event); err == nil { // names have JSON
			p.server.deliver(key.pool, key.tenant, []registry.Channel{key.ch}, body)
		}
	}
}

func (p *presence) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	clear(p.rooms)
}
