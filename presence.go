package mooncore

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mooncore/mooncore/registry"
)

// Each server tells the others, where they have members of the channel too, which users came and went with it. These changes are
// numbered: who misses one asks for the whole. So each server knows who is in a channel, and tells its own members what changes.

const (
	presenceDelay = 100 * time.Millisecond // how long joins and leaves of a channel are collected into one event
	presenceQuiet = 2 * time.Second        // how late it may be heard of who left
	presenceRetry = time.Second            // after what could not be sent
	presenceAsks  = 8                      // channels whose members other servers are asked for at the same time
)

// presence tells the members of channels that ask for it who comes and goes.
type presence struct {
	server *Server

	mu     sync.Mutex
	closed bool
	rooms  map[presenceKey]*presenceRoom
	seq    uint64 // the last change's number, of any room
	asks   int
	stale  map[presenceKey]struct{} // rooms that others are to be asked for
	later  map[presenceKey]struct{} // and those after the next beat
}

type presenceKey struct {
	pool   *pool
	tenant string
	ch     registry.Channel
}

type presenceRoom struct {
	conns   map[string]int        // here, by user
	others  map[string]*elsewhere // by server
	changed map[string]struct{}   // users whom the members are to be told of
	quiet   map[string]time.Time  // users who came while they were there by another server, which is no news, and when
	asked   bool                  // the others were, once
	waiting bool                  // a flush is due or under way

	moved  map[string]bool // users whom the other servers are to be told of: whether they were here
	seq    uint64          // of the last change that was sent; 0 if none was
	failed bool            // the others may not have got it
}

// elsewhere is what is known of a room on another server.
type elsewhere struct {
	users map[string]struct{}
	seq   uint64 // of the last change that came
	whole bool   // no change is missing
}

// A presenceChange is what a server tells the others of a room.
type presenceChange struct {
	Server string   `json:"server"`
	Seq    uint64   `json:"seq"`
	After  uint64   `json:"after,omitempty"` // the change before it; 0 if nobody was there
	Joined []string `json:"joined,omitempty"`
	Left   []string `json:"left,omitempty"`
}

// A presenceEvent says who came and who left.
type presenceEvent struct {
	Channel string   `json:"channel"`
	Joined  []string `json:"joined"`
	Left    []string `json:"left"`
}

func newPresence(s *Server) *presence {
	return &presence{
		server: s, rooms: map[presenceKey]*presenceRoom{}, stale: map[presenceKey]struct{}{}, later: map[presenceKey]struct{}{},
	}
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
	room := p.room(key)
	was := room.conns[id.User] > 0
	if room.conns[id.User] += by; room.conns[id.User] <= 0 {
		delete(room.conns, id.User)
	}
	is := room.conns[id.User] > 0
	if is == was {
		return // another connection of the same user
	}
	if _, ok := room.moved[id.User]; !ok && p.server.siblings != nil {
		room.moved[id.User] = was
	}
	if is {
		room.came(id.User, room.elsewhere(id.User, p.silent()))
	} else {
		room.went(id.User, room.elsewhere(id.User, nil))
	}
	p.schedule(key, room, presenceDelay)
}

// silent has the servers whose users Members does not list, though they may be there: who comes by another one is news.
func (p *presence) silent() map[string]bool {
	if p.server.siblings == nil {
		return nil
	}
	return p.server.siblings.silent()
}

// room returns a room, which is new if nobody was in it. p.mu is held.
func (p *presence) room(key presenceKey) *presenceRoom {
	room := p.rooms[key]
	if room != nil {
		return room
	}
	room = &presenceRoom{
		conns: map[string]int{}, others: map[string]*elsewhere{}, changed: map[string]struct{}{},
		quiet: map[string]time.Time{}, moved: map[string]bool{},
	}
	p.rooms[key] = room
	if p.server.siblings == nil {
		room.asked = true
	} else {
		p.askFor(key)
	}
	return room
}

// elsewhere reports whether a user is there by another server that is not among some.
func (r *presenceRoom) elsewhere(user string, but map[string]bool) bool {
	for server, o := range r.others {
		if _, ok := o.users[user]; ok && !but[server] {
			return true
		}
	}
	return false
}

// came notes that a user came by a server, who may be there by another one already.
func (r *presenceRoom) came(user string, already bool) {
	if already {
		r.quiet[user] = time.Now()
	} else {
		r.changed[user] = struct{}{}
	}
}

// went notes that a user went from a server, who may still be there by another one. Who came by that one shortly before may have gone
// before, too, which is heard later: then they are not in a list that was made in between.
func (r *presenceRoom) went(user string, still bool) {
	if !still || time.Since(r.quiet[user]) < presenceQuiet {
		r.changed[user] = struct{}{}
	}
}

// moves notes who came and went by another server.
func (r *presenceRoom) moves(came, went []string, but map[string]bool) {
	for _, user := range came {
		r.came(user, r.conns[user] > 0 || r.elsewhere(user, but))
	}
	for _, user := range went {
		r.went(user, r.conns[user] > 0 || r.elsewhere(user, nil))
	}
}

// schedule has a flush happen, unless one is due. p.mu is held.
func (p *presence) schedule(key presenceKey, room *presenceRoom, d time.Duration) {
	if !room.waiting {
		room.waiting = true
		p.after(d, func() { p.flush(key, room) })
	}
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

// flush tells the members on this server, and the other servers, what changed.
func (p *presence) flush(key presenceKey, room *presenceRoom) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	event := room.event(key.ch.Name)
	maps.DeleteFunc(room.quiet, func(_ string, at time.Time) bool { return time.Since(at) > presenceQuiet })
	change, news := p.next(room)
	if news || p.server.siblings == nil && event != nil {
		p.server.counters.published.Add(1)
	}
	p.mu.Unlock()
	if event != nil {
		if body, err := eventJSON("presence", event); err == nil { // names have JSON
			p.server.deliver(key.pool, key.tenant, []registry.Channel{key.ch}, body)
		}
	}
	var err error
	if news {
		err = p.send(p.server.background, key, change)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && !room.failed && p.server.background.Err() == nil { // else the others hear that this server ends
		p.server.log.Error("presence was not published; it is tried again every second", "channel", key.ch.Name, "cause", err)
	}
	room.waiting, room.failed = false, err != nil
	switch {
	case room.failed:
		p.schedule(key, room, presenceRetry)
	case room.asked && len(room.changed) > 0 || len(room.moved) > 0:
		p.schedule(key, room, presenceDelay)
	case len(room.conns) == 0 && p.rooms[key] == room:
		delete(p.rooms, key)
	}
}

// event returns what the members are to be told; nil if that is nothing, or if it is not known yet. p.mu is held.
func (r *presenceRoom) event(channel string) *presenceEvent {
	if !r.asked || len(r.changed) == 0 {
		return nil
	}
	event := &presenceEvent{channel, []string{}, []string{}}
	for _, user := range slices.Sorted(maps.Keys(r.changed)) {
		if r.conns[user] > 0 || r.elsewhere(user, nil) {
			event.Joined = append(event.Joined, user)
		} else {
			event.Left = append(event.Left, user)
		}
	}
	clear(r.changed)
	return event
}

// next returns the next change for the other servers, if there is one. After one that failed it comes also without news: it shows
// who missed that one that they did. p.mu is held.
func (p *presence) next(room *presenceRoom) (change presenceChange, ok bool) {
	if len(room.moved) == 0 && !room.failed {
		return change, false
	}
	p.seq++
	change = presenceChange{Server: p.server.siblings.id, Seq: p.seq, After: room.seq}
	room.seq = p.seq
	for _, user := range slices.Sorted(maps.Keys(room.moved)) {
		if room.conns[user] > 0 {
			change.Joined = append(change.Joined, user)
		} else {
			change.Left = append(change.Left, user)
		}
	}
	clear(room.moved)
	return change, true
}

// send sends a change to the servers that have members of the channel. It is told from an event by being an object.
func (p *presence) send(ctx context.Context, key presenceKey, change presenceChange) error {
	ctx, cancel := context.WithTimeout(ctx, siblingTime) // what the members here are to be told waits meanwhile
	defer cancel()
	body, err := json.Marshal(change)
	if err != nil {
		return err
	}
	topic := channelTopic(key.pool.name, key.tenant, key.ch)
	return p.server.hub.Publish(ctx, topic, message(topic[len(channelPrefix):], body))
}

// isPresence reports whether a message is a change of presence, not an event.
func isPresence(body []byte) bool { return len(body) > 0 && body[0] == '{' }

// heard handles a change on another server. It must not block.
func (p *presence) heard(key presenceKey, body []byte) {
	var m presenceChange
	if err := json.Unmarshal(body, &m); err != nil {
		p.server.log.Error("broker message ignored", "cause", err)
		return
	}
	if m.Server == "" || m.Server == p.server.siblings.id {
		return
	}
	p.server.siblings.spoke(m.Server) // before it has members here, so that it takes them along when it dies
	p.mu.Lock()
	defer p.mu.Unlock()
	room := p.rooms[key]
	if p.closed || room == nil || !p.server.siblings.knows(m.Server) { // it ended meanwhile
		return
	}
	o := room.others[m.Server]
	if o == nil {
		o = &elsewhere{users: map[string]struct{}{}}
		room.others[m.Server] = o
	}
	if m.Seq > o.seq { // else an answer had it already
		if m.After == 0 {
			p.replace(room, m.Server, nil)
			o.whole = true
		} else if m.After != o.seq {
			o.whole = false
		}
		o.seq = m.Seq
		for _, user := range m.Joined {
			o.users[user] = struct{}{}
		}
		for _, user := range m.Left {
			delete(o.users, user)
		}
		if !o.whole {
			p.askFor(key)
		}
	}
	room.moves(m.Joined, m.Left, p.but(m.Server))
	p.schedule(key, room, presenceDelay)
}

// but has a server and the silent ones.
func (p *presence) but(server string) map[string]bool {
	but := p.silent()
	but[server] = true
	return but
}

// replace sets who is there by another server. Who was there before the first answer is no news. p.mu is held.
func (p *presence) replace(room *presenceRoom, server string, users []string) {
	o := room.others[server]
	var came, went []string
	now := make(map[string]struct{}, len(users))
	for _, user := range users {
		now[user] = struct{}{}
		if _, was := o.users[user]; !was && room.asked {
			came = append(came, user)
		}
	}
	for user := range o.users {
		if _, is := now[user]; !is {
			went = append(went, user)
		}
	}
	o.users = now
	room.moves(came, went, p.but(server))
}

// here returns who is in a channel on this server as far as the others were told, and the number of the last change.
func (p *presence) here(key presenceKey) (users []string, seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	room := p.rooms[key]
	if room == nil || room.seq == 0 {
		return nil, p.seq
	}
	for user := range room.conns {
		if was, ok := room.moved[user]; was || !ok {
			users = append(users, user)
		}
	}
	for user, was := range room.moved {
		if was && room.conns[user] == 0 {
			users = append(users, user)
		}
	}
	return users, room.seq
}

// askFor has the other servers be asked for a room. p.mu is held.
func (p *presence) askFor(key presenceKey) {
	p.stale[key] = struct{}{}
	if p.asks < presenceAsks {
		p.asks++
		p.after(0, p.ask)
	}
}

// ask asks the other servers for the rooms that are stale.
func (p *presence) ask() {
	for {
		p.mu.Lock()
		var key presenceKey
		for key = range p.stale {
			break
		}
		if len(p.stale) == 0 || p.closed {
			p.asks--
			p.mu.Unlock()
			return
		}
		delete(p.stale, key)
		p.mu.Unlock()
		answers, err := p.server.siblings.ask(p.server.background, controlMessage{
			Kind: controlPresence, Pool: key.pool.name, Tenant: key.tenant, Channel: &key.ch,
		})
		p.learn(key, answers, err)
	}
}

// learn keeps what other servers answered. Who did not is asked again.
func (p *presence) learn(key presenceKey, answers map[string]*siblingAnswer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	room := p.rooms[key]
	if p.closed || room == nil {
		return
	}
	whole := err == nil
	for _, server := range p.server.siblings.known() {
		o, a := room.others[server], answers[server]
		if o == nil {
			o = &elsewhere{users: map[string]struct{}{}}
			room.others[server] = o
		}
		if a != nil && (a.Seq > o.seq || !o.whole && a.Seq == o.seq) { // else changes came meanwhile that it doesn't have
			p.replace(room, server, a.Users)
			o.seq, o.whole = a.Seq, true
		}
		whole = whole && o.whole
	}
	if !whole {
		p.later[key] = struct{}{}
	}
	room.asked = true
	if len(room.changed) > 0 {
		p.schedule(key, room, presenceDelay)
	}
}

// beat is called once a second: what could not be learned is asked again.
func (p *presence) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.later {
		delete(p.later, key)
		if p.rooms[key] != nil && !p.closed {
			p.askFor(key)
		}
	}
}

// missed is called when changes of a room may be missing.
func (p *presence) missed(key presenceKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if room := p.rooms[key]; room != nil && !p.closed {
		for _, o := range room.others {
			o.whole = false
		}
		p.askFor(key)
	}
}

// appeared is called when another server is there that was not known, or was given up.
func (p *presence) appeared(server string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, room := range p.rooms {
		if o := room.others[server]; o != nil {
			o.whole = false
		}
		if !p.closed {
			p.askFor(key)
		}
	}
}

// muted is called when another server becomes silent. Who came by another one, while they were still there by that one too, was no
// news; but it is for who lists the members now.
func (p *presence) muted(server string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	silent := p.silent()
	for key, room := range p.rooms {
		o := room.others[server]
		if o == nil {
			continue
		}
		for user := range o.users {
			if room.conns[user] > 0 || room.elsewhere(user, silent) {
				room.changed[user] = struct{}{}
			}
		}
		p.schedule(key, room, presenceDelay)
	}
}

// returned is called when another server was silent for a while: who listed the members meanwhile does not know of its own.
func (p *presence) returned(server string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for key, room := range p.rooms {
		if o := room.others[server]; o != nil {
			room.moves(slices.Collect(maps.Keys(o.users)), nil, p.but(server))
			p.schedule(key, room, presenceDelay)
		}
	}
}

// ended is called when another server ended, with whom its users left.
func (p *presence) ended(server string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server.siblings.knows(server) {
		return // it is back already, and appeared asks it
	}
	for key, room := range p.rooms {
		if room.others[server] == nil {
			continue
		}
		p.replace(room, server, nil)
		delete(room.others, server)
		if len(room.changed) > 0 && !p.closed {
			p.schedule(key, room, presenceDelay)
		}
	}
}

func (p *presence) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	clear(p.rooms)
}
