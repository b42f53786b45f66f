package bus

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// A Link is whether a broker reaches its servers. It starts away.
type Link struct {
	mu         sync.Mutex
	up         chan struct{} // closed while it is up
	isUp       bool
	since      time.Time
	cuts       uint64 // calls of Down
	ups        uint64
	roundTrip  time.Duration
	probed     time.Time // when a probe came back last
	reconnects uint64
}

// NewLink returns a Link that is away.
func NewLink() *Link { return &Link{up: make(chan struct{}), since: time.Now()} }

// Down says that the servers are away.
func (l *Link) Down() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cuts++
	if l.isUp {
		l.isUp, l.since, l.up = false, time.Now(), make(chan struct{})
	}
}

// Cuts is how often Down was called.
func (l *Link) Cuts() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts
}

// Up says that the servers are reached, unless Down was called since Cuts returned cuts. It reports whether it is up.
func (l *Link) Up(cuts uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cuts != cuts {
		return false
	}
	if !l.isUp {
		now := time.Now()
		l.isUp, l.since, l.probed = true, now, now
		close(l.up)
		if l.ups++; l.ups > 1 {
			l.reconnects++
		}
	}
	return true
}

// IsUp reports whether the servers are reached, as far as is known.
func (l *Link) IsUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isUp
}

// Wait waits until the servers are reached. It gives up when ctx ends, or with [pubsub.ErrClosed] when done is closed.
func (l *Link) Wait(ctx context.Context, done <-chan struct{}) error {
	l.mu.Lock()
	up := l.up
	l.mu.Unlock()
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return pubsub.ErrClosed
	}
}

// WaitAgain is Wait after a number of attempts that failed, which may happen before anything notices that the servers are away: it
// lets the time of Backoff pass first.
func (l *Link) WaitAgain(ctx context.Context, done <-chan struct{}, attempts int) error {
	select {
	case <-time.After(Backoff(attempts)):
		return l.Wait(ctx, done)
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return pubsub.ErrClosed
	}
}

// Probed says that a probe came back that was sent at a time.
func (l *Link) Probed(sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.probed = time.Now()
	l.roundTrip = l.probed.Sub(sent)
}

// Silent is for how long no probe came back while the link has been up; 0 while it is away.
func (l *Link) Silent() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isUp {
		return 0
	}
	return time.Since(l.probed)
}

// A State is a Link's at a moment.
type State struct {
	Up         bool
	Since      time.Time
	RoundTrip  time.Duration
	Reconnects uint64
}

// State returns the state.
func (l *Link) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return State{l.isUp, l.since, l.roundTrip, l.reconnects}
}

// Backoff is how long to wait before an attempt to reconnect, the first being 1: random, so that not all servers come at the
// same time, up to a bound that grows from 50 ms to 2 s.
func Backoff(attempt int) time.Duration {
	most := 2 * time.Second
	if attempt < 6 {
		most = 25 * time.Millisecond << max(attempt, 1)
	}
	return rand.N(most) + time.Millisecond
}
