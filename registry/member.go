package registry

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Member is what [Pool.Add] registered. Its methods may be called concurrently; those that change it run one after
// another.
type Member[T any] struct {
	pool   *Pool[T]
	value  T
	id     uint32                    // unique in the pool, reused
	index  int                       // in tenant.members; Pool.mu guards it
	tenant atomic.Pointer[tenant[T]] // changed with mu and Pool.mu held

	mu      sync.Mutex
	removed bool
	seats   []*seat[T] // oldest first
}

// Value returns what was registered.
func (m *Member[T]) Value() T { return m.value }

// Tenant returns the name of the tenant.
func (m *Member[T]) Tenant() string { return m.tenant.Load().name }

// Channels returns the channels that the member is in, newest first. It waits for a change of them that is under way.
func (m *Member[T]) Channels() []Channel {
	m.mu.Lock()
	defer m.mu.Unlock()
	return names(m.seats)
}

// names returns the channels of seats, newest first.
func names[T any](seats []*seat[T]) []Channel {
	if len(seats) == 0 {
		return nil
	}
	list := make([]Channel, len(seats))
	for i, s := range seats {
		list[len(list)-1-i] = s.ch.key
	}
	return list
}

// Join puts the member into a channel of its tenant. Every publish that starts after it returned is delivered. It takes time
// proportional to the member's own channels.
//
// ok reports whether the member is in the channel: it is not when the member was removed, or is in maximum channels already
// (no limit if maximum <= 0). joined reports whether it was not in it before.
func (m *Member[T]) Join(ch Channel, maximum int) (joined, ok bool) {
	return m.JoinFunc(ch, maximum, nil)
}

// JoinFunc is Join with a function that is called when the member has joined and no publish was delivered through the channel
// yet: what then queues for the member comes before the channel's first event. It gets all channels of the member, newest
// first. It is called only if joined is true. It must obey the rules of Publish's deliver.
func (m *Member[T]) JoinFunc(ch Channel, maximum int, then func(all []Channel)) (joined, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.removed:
		return false, false
	case m.find(ch) >= 0:
		return false, true
	case maximum > 0 && len(m.seats) >= maximum:
		return false, false
	}
	s, _ := m.pool.seats.Get().(*seat[T])
	if s == nil {
		s = new(seat[T])
	}
	s.id = m.id
	for {
		c := m.pool.channel(m.tenant.Load(), ch)
		if m.sit(c, s, then) {
			return true, true
		}
	}
}

// sit takes the seat, unless the channel is dead. mu is held.
func (m *Member[T]) sit(ch *channel[T], s *seat[T], then func([]Channel)) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.dead.Load() {
		return false
	}
	ch.add(m.value, s, time.Since(m.pool.start))
	m.seats = append(m.seats, s)
	if then != nil {
		then(names(m.seats))
	}
	return true
}

// find returns the index of a channel's seat, or -1. mu is held.
func (m *Member[T]) find(ch Channel) int {
	return slices.IndexFunc(m.seats, func(s *seat[T]) bool { return s.ch.key == ch })
}

// Leave takes the member out of a channel, and reports whether it was in it. It waits for a publish to the channel that is
// being delivered; after it returned, none is. It takes time proportional to the member's own channels.
func (m *Member[T]) Leave(ch Channel) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.find(ch)
	if i < 0 {
		return false
	}
	s := m.seats[i]
	m.seats = slices.Delete(m.seats, i, i+1)
	m.stand(s)
	return true
}

// stand gives up a seat that is in no list any more. mu is held.
func (m *Member[T]) stand(s *seat[T]) {
	ch := s.ch
	ch.mu.Lock()
	empty := ch.remove(s)
	ch.mu.Unlock()
	m.recycle(s)
	if empty {
		m.pool.release(ch)
	}
}

func (m *Member[T]) recycle(s *seat[T]) {
	s.ch = nil
	m.pool.seats.Put(s)
}

// Move takes the member out of its channels, then into a tenant, and returns the channels it left, newest first. When the
// tenant stays the same, the channels for which keep returns true stay; keep may be nil. All channels are left at once: no
// publish is delivered through one of them after another was missed because of Move. It does nothing to a removed member. keep
// must not call the member's methods.
func (m *Member[T]) Move(tenant string, keep func(Channel) bool) []Channel {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.removed {
		return nil
	}
	same := m.Tenant() == tenant
	var stay, leave []*seat[T]
	for _, s := range m.seats {
		if same && keep != nil && keep(s.ch.key) {
			stay = append(stay, s)
		} else {
			leave = append(leave, s)
		}
	}
	left := names(leave)
	emptied := m.standAll(stay, leave)
	if !same {
		p := m.pool
		p.mu.Lock()
		p.exit(m)
		p.enter(m, tenant)
		p.mu.Unlock()
	}
	for _, ch := range emptied {
		m.pool.release(ch)
	}
	return left
}

// standAll gives up some of the member's seats at once, and returns the channels that are empty then. mu is held.
func (m *Member[T]) standAll(stay, leave []*seat[T]) (emptied []*channel[T]) {
	if len(leave) == 0 {
		return nil
	}
	channels := make([]*channel[T], len(leave))
	for i, s := range leave {
		channels[i] = s.ch
	}
	channels = lockAll(channels)
	defer unlockAll(channels)
	m.seats = stay
	for _, s := range leave {
		if s.ch.remove(s) {
			emptied = append(emptied, s.ch)
		}
		m.recycle(s)
	}
	return emptied
}

// Remove takes the member out of its channels and out of the pool, for good, and returns the channels it left, newest first.
// It takes time proportional to these. A second call does nothing.
func (m *Member[T]) Remove() []Channel {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.removed {
		return nil
	}
	m.removed = true
	seats := m.seats
	m.seats = nil
	left := names(seats)
	for _, s := range seats {
		m.stand(s)
	}
	p := m.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exit(m)
	p.members[m.id] = nil
	p.free = append(p.free, m.id)
	return left
}
