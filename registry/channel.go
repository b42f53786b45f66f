package registry

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A channel is in its tenant's map from before its first member joins until after its last left.
type channel[T any] struct {
	key    Channel
	tenant *tenant[T]
	id     uint64 // the order of locking

	mu      sync.Mutex
	entries []entry[T]  // dense, in no order
	dead    atomic.Bool // on its way out of the map; never joined again. Set with mu held
}

// An entry is what a publish walks: a member's value, in line.
type entry[T any] struct {
	value  T
	seat   *seat[T]
	joined time.Duration // after Pool.start, which is cheaper than a time
}

// A seat is a member's place in a channel.
type seat[T any] struct {
	ch    *channel[T]
	index int    // in ch.entries; ch.mu guards it
	id    uint32 // the member's
}

// add appends an entry. ch.mu is held.
func (ch *channel[T]) add(v T, s *seat[T], joined time.Duration) {
	s.ch, s.index = ch, len(ch.entries)
	ch.entries = append(ch.entries, entry[T]{v, s, joined})
}

// remove removes the entry of a seat, and reports whether the channel is empty now. ch.mu is held.
func (ch *channel[T]) remove(s *seat[T]) (empty bool) {
	end := len(ch.entries) - 1
	last := ch.entries[end]
	ch.entries[s.index], last.seat.index = last, s.index
	ch.entries[end] = entry[T]{}
	ch.entries = ch.entries[:end]
	return end == 0
}

// len returns how many members there are.
func (ch *channel[T]) len() int {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return len(ch.entries)
}

func (ch *channel[T]) publish(deliver func(T)) int {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for i := range ch.entries {
		deliver(ch.entries[i].value)
	}
	return len(ch.entries)
}

// lockAll locks the channels, each once, in the one order. It returns them without duplicates, in the same array.
func lockAll[T any](channels []*channel[T]) []*channel[T] {
	slices.SortFunc(channels, func(a, b *channel[T]) int { return cmp.Compare(a.id, b.id) })
	channels = slices.Compact(channels)
	for _, ch := range channels {
		ch.mu.Lock()
	}
	return channels
}

func unlockAll[T any](channels []*channel[T]) {
	for _, ch := range channels {
		ch.mu.Unlock()
	}
}

// channel returns a channel of t, which may be new.
func (p *Pool[T]) channel(t *tenant[T], key Channel) *channel[T] {
	p.mu.RLock()
	ch := t.channels[key]
	p.mu.RUnlock()
	if ch != nil && !ch.dead.Load() {
		return ch
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch := t.channels[key]; ch != nil && !ch.dead.Load() {
		return ch
	}
	p.channelID++
	ch = &channel[T]{key: key, tenant: t, id: p.channelID}
	t.channels[key] = ch
	return ch
}

// release forgets a channel if it is still empty. No lock but Member.mu is held.
func (p *Pool[T]) release(ch *channel[T]) {
	ch.mu.Lock()
	forget := len(ch.entries) == 0 && !ch.dead.Load()
	if forget {
		ch.dead.Store(true)
	}
	ch.mu.Unlock()
	if !forget {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch.tenant.channels[ch.key] == ch { // else another took its place already
		delete(ch.tenant.channels, ch.key)
		p.settle(ch.tenant)
	}
}
