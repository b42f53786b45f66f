// Package registry knows who is connected: pool, tenant, channel, members. It delivers to the members of channels in one
// order for all of them, and forgets a member in time proportional to that member's own channels.
//
// A [Pool] is one isolated registry. What is registered, such as a connection, is a [Member] of exactly one tenant of one
// pool, and of the channels it joins there. Tenants and channels come and go with their members.
//
// # Order
//
// A channel has a lock, held by a publish to it while deliver is called for each of its members, and by whatever changes its
// members. So publishes have one order for all members of a channel; a publish that starts after Join returned reaches the
// member; and none reaches it in that channel once Leave, Move or Remove returned.
//
// # Locks
//
// Locks are taken in this order, each of them optional, and released before returning:
//
//  1. Member.mu: one operation of a member at a time, and the list of its channels.
//  2. channel.mu: a channel's members and its order of publishes. Several are locked by ascending id.
//  3. Pool.mu: the maps of tenants and channels, and the lists of members. Never together with a channel.mu.
package registry

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Kind tells channels apart that may have the same name, such as a room's and a user's. Its values are the program's own.
type Kind uint8

// A Channel names a channel of a tenant. It is compared as a whole tuple, so that no name can pose as another (PROTOCOL.md
// section 3).
type Channel struct {
	Kind  Kind
	Name  string
	Scope string
}

// A Pool is one isolated registry: tenants, their channels, and the members of these. T is what is registered, such as a
// pointer to a connection. Its methods may be called concurrently.
type Pool[T any] struct {
	start time.Time
	seats sync.Pool // *seat[T]
	marks sync.Pool // *[]uint64

	idEnd atomic.Uint32 // len(members)

	mu        sync.RWMutex
	tenants   map[string]*tenant[T]
	members   []*Member[T] // by Member.id; nil where the id is free
	free      []uint32     // ids
	channelID uint64       // the last one given
}

// A tenant exists while it has a member or a channel. Pool.mu guards it.
type tenant[T any] struct {
	name     string
	members  []*Member[T] // dense, in no order
	channels map[Channel]*channel[T]
}

// NewPool returns an empty Pool.
func NewPool[T any]() *Pool[T] {
	return &Pool[T]{start: time.Now(), tenants: make(map[string]*tenant[T])}
}

// Add registers v in a tenant. It is in no channel yet. The caller must call [Member.Remove] in the end.
func (p *Pool[T]) Add(tenant string, v T) *Member[T] {
	m := &Member[T]{pool: p, value: v}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		m.id, p.free = p.free[n-1], p.free[:n-1]
		p.members[m.id] = m
	} else {
		m.id = uint32(len(p.members))
		p.members = append(p.members, m)
		p.idEnd.Store(uint32(len(p.members)))
	}
	p.enter(m, tenant)
	return m
}

// enter adds m to a tenant, which may be new. Pool.mu is held.
func (p *Pool[T]) enter(m *Member[T], name string) {
	t := p.tenants[name]
	if t == nil {
		t = &tenant[T]{name: name, channels: make(map[Channel]*channel[T])}
		p.tenants[name] = t
	}
	m.index = len(t.members)
	t.members = append(t.members, m)
	m.tenant.Store(t)
}

// exit removes m from its tenant. Pool.mu is held.
func (p *Pool[T]) exit(m *Member[T]) {
	t := m.tenant.Load()
	end := len(t.members) - 1
	last := t.members[end]
	t.members[m.index], last.index = last, m.index
	t.members[end] = nil
	t.members = t.members[:end]
	p.settle(t)
}

// settle forgets t when nothing is left in it. Pool.mu is held.
func (p *Pool[T]) settle(t *tenant[T]) {
	if len(t.members) == 0 && len(t.channels) == 0 {
		delete(p.tenants, t.name)
	}
}

// Publish calls deliver once for each member of the tenant that is in at least one of the channels, and returns how many. The
// order of the calls is unspecified. Two publishes that share a channel, of one tenant, never overlap: they have one order for
// all members that were in it before either began.
//
// The channels are locked meanwhile: deliver must not block, and must call no method of the pool or of members except Value and
// Tenant.
func (p *Pool[T]) Publish(tenant string, channels []Channel, deliver func(T)) int {
	var buf [8]*channel[T]
	found := p.find(buf[:0], tenant, channels)
	switch len(found) {
	case 0:
		return 0
	case 1:
		return found[0].publish(deliver)
	}
	found = lockAll(found)
	defer unlockAll(found)
	return p.publish(found, deliver)
}

// find appends those of the channels that exist.
func (p *Pool[T]) find(found []*channel[T], tenant string, channels []Channel) []*channel[T] {
	p.mu.RLock()
	defer p.mu.RUnlock()
	t := p.tenants[tenant]
	if t == nil {
		return found
	}
	for _, key := range channels {
		if ch := t.channels[key]; ch != nil {
			found = append(found, ch)
		}
	}
	return found
}

// publish delivers to the members of locked channels. It marks those served, by id, except in the largest channel, which
// comes last.
func (p *Pool[T]) publish(channels []*channel[T], deliver func(T)) (n int) {
	last := 0
	for i, ch := range channels {
		if len(ch.entries) > len(channels[last].entries) {
			last = i
		}
	}
	// No id in a locked channel can be reused meanwhile: Remove waits for the lock before it frees the id.
	set := p.takeMarks()
	marks := *set
	for i, ch := range channels {
		if i == last {
			continue
		}
		for _, e := range ch.entries {
			word, bit := e.seat.id/64, uint64(1)<<(e.seat.id%64)
			if marks[word]&bit == 0 {
				marks[word] |= bit
				deliver(e.value)
				n++
			}
		}
	}
	for _, e := range channels[last].entries {
		if marks[e.seat.id/64]&(1<<(e.seat.id%64)) == 0 {
			deliver(e.value)
			n++
		}
	}
	for i, ch := range channels {
		if i == last {
			continue
		}
		for _, e := range ch.entries {
			marks[e.seat.id/64] = 0
		}
	}
	p.marks.Put(set)
	return n
}

// takeMarks returns a zeroed set with a bit for every id.
func (p *Pool[T]) takeMarks() *[]uint64 {
	words := int(p.idEnd.Load()+63) / 64
	if set, ok := p.marks.Get().(*[]uint64); ok && len(*set) >= words {
		return set
	}
	set := make([]uint64, max(2*words, 16))
	return &set
}

// A Membership is a member's presence in a channel.
type Membership[T any] struct {
	Value  T
	Joined time.Time
}

// Members returns who is in a channel, in no particular order. It locks the channel only to copy the list.
func (p *Pool[T]) Members(tenant string, ch Channel) []Membership[T] {
	var buf [1]*channel[T]
	found := p.find(buf[:0], tenant, []Channel{ch})
	if len(found) == 0 {
		return nil
	}
	c := found[0]
	n := c.len()
	list := make([]Membership[T], 0, n+n/16+8) // room for those who join before the lock is taken
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		list = append(list, Membership[T]{e.value, p.start.Add(e.joined)})
	}
	return list
}

// All ranges over what is registered in the pool, in no particular order. It holds no lock meanwhile. It yields once whatever
// is registered throughout; what is added or removed meanwhile may be missing.
func (p *Pool[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		var buf [128]*Member[T]
		for start := 0; ; start += len(buf) {
			p.mu.RLock()
			if start >= len(p.members) {
				p.mu.RUnlock()
				return
			}
			n := copy(buf[:], p.members[start:])
			p.mu.RUnlock()
			for _, m := range buf[:n] {
				if m != nil && !yield(m.value) {
					return
				}
			}
		}
	}
}

// Tenant ranges over what was registered in a tenant when the range began, in no particular order. It holds no lock
// meanwhile.
func (p *Pool[T]) Tenant(tenant string) iter.Seq[T] {
	return func(yield func(T) bool) {
		var members []*Member[T]
		p.mu.RLock()
		if t := p.tenants[tenant]; t != nil {
			members = slices.Clone(t.members)
		}
		p.mu.RUnlock()
		for _, m := range members {
			if !yield(m.value) {
				return
			}
		}
	}
}

// Tenants returns the names of the tenants that have a member, sorted.
func (p *Pool[T]) Tenants() []string {
	var names []string
	p.mu.RLock()
	for name, t := range p.tenants {
		if len(t.members) > 0 {
			names = append(names, name)
		}
	}
	p.mu.RUnlock()
	slices.Sort(names)
	return names
}

// A ChannelLen is a channel and how many members it has.
type ChannelLen struct {
	Channel Channel
	Len     int
}

// ChannelsOf returns the channels of a tenant that have a member, sorted by kind, name and scope.
func (p *Pool[T]) ChannelsOf(tenant string) []ChannelLen {
	var channels []*channel[T]
	p.mu.RLock()
	if t := p.tenants[tenant]; t != nil {
		channels = slices.Collect(maps.Values(t.channels))
	}
	p.mu.RUnlock()
	var list []ChannelLen
	for _, ch := range channels {
		if n := ch.len(); n > 0 {
			list = append(list, ChannelLen{ch.key, n})
		}
	}
	slices.SortFunc(list, func(a, b ChannelLen) int {
		return cmp.Or(cmp.Compare(a.Channel.Kind, b.Channel.Kind), cmp.Compare(a.Channel.Name, b.Channel.Name),
			cmp.Compare(a.Channel.Scope, b.Channel.Scope))
	})
	return list
}

// Len returns how many members the pool has.
func (p *Pool[T]) Len() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.members) - len(p.free)
}

// TenantLen returns how many members a tenant has.
func (p *Pool[T]) TenantLen(tenant string) int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if t := p.tenants[tenant]; t != nil {
		return len(t.members)
	}
	return 0
}
