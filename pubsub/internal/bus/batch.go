package bus

import (
	"context"
	"sync"

	"github.com/mooncore/mooncore/pubsub"
)

// A Batch runs a function for its callers, one run at a time. Those who call while it runs share the next run, which began
// after all of them called.
type Batch struct {
	run func() error

	mu      sync.Mutex
	closed  bool
	running bool
	next    *round
	wg      sync.WaitGroup
}

type round struct {
	done chan struct{}
	err  error // good once done is closed
}

// NewBatch returns a Batch.
func NewBatch(run func() error) *Batch { return &Batch{run: run} }

// Do waits for a run that begins after the call, and returns its error, or the one of ctx.
func (b *Batch) Do(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return pubsub.ErrClosed
	}
	r := b.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		b.next = r
	}
	if !b.running {
		b.running = true
		b.wg.Go(b.loop)
	}
	b.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *Batch) loop() {
	for {
		b.mu.Lock()
		r := b.next
		b.next = nil
		b.running = r != nil
		b.mu.Unlock()
		if r == nil {
			return
		}
		r.err = b.run()
		close(r.done)
	}
}

// Close makes Do fail with [pubsub.ErrClosed].
func (b *Batch) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// Wait returns when no run is under way. Close must have been called.
func (b *Batch) Wait() { b.wg.Wait() }
