// Package traffic says which event goes where in the cluster scenarios, and checks what comes.
package traffic

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// Publishers is how many may publish at once. Event n is publisher n%Publishers's.
const Publishers = 64

const firstSeq = 1_000_000

// MaxEvents is how many events there may be in one run: their numbers have 7 digits.
const MaxEvents = 9_999_999 - firstSeq

// Size is that of an event's payload, in bytes.
const Size = 200

// A Plan spreads events over channels: each publisher goes round channels of its own, or shares one if there are fewer channels
// than publishers. So the order of each channel's events, from each publisher, is known.
type Plan struct{ Channels int }

// Name is the name of a channel, as clients and brokers know it. It ends in 7 digits.
func Name(channel int) string { return fmt.Sprintf("room%d", firstSeq+channel) }

// Number is the channel of a Name.
func Number(name string) int {
	n := 0
	for _, c := range name[max(len(name)-7, 0):] {
		n = n*10 + int(c-'0')
	}
	return n - firstSeq
}

// Channel is where event n goes.
func (p Plan) Channel(n int) int {
	publisher := n % Publishers
	if p.Channels < Publishers {
		return publisher % p.Channels
	}
	return publisher + Publishers*(n/Publishers%p.own(publisher))
}

// own is how many channels a publisher has, if there are enough for all.
func (p Plan) own(publisher int) int { return (p.Channels - publisher + Publishers - 1) / Publishers }

// Event makes the payload of event n, with the time.
func (Plan) Event(n int) []byte { return wire.Event(firstSeq+n, time.Now().UnixNano(), Size) }

// Publish makes the events from first on, n of them, and calls publish for each: one after another, or by so many goroutines at
// once, which must be a divisor of Publishers. It returns when all calls have, with an error of one.
func (p Plan) Publish(first, n, publishers int, publish func(channel int, payload []byte) error) error {
	errs := make(chan error, publishers)
	for i := range publishers {
		go func() {
			var err error
			for e := first + i; e < first+n && err == nil; e += publishers {
				err = publish(p.Channel(e), p.Event(e))
			}
			errs <- err
		}()
	}
	var failed error
	for range publishers {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return failed
}

// A Receiver checks that all events come once and in order. Its methods may be called concurrently.
type Receiver struct {
	plan     Plan
	template []byte

	mu      sync.Mutex
	next    []int // event due, by channel, or by publisher if there are fewer channels
	count   int
	last    time.Duration
	err     error
	want    int
	reached chan struct{} // closed when count is want, or at an error; nil if nobody waits
}

// NewReceiver returns a Receiver of a plan's events.
func NewReceiver(p Plan) *Receiver {
	r := &Receiver{plan: p, template: p.Event(0), next: make([]int, max(p.Channels, Publishers))}
	for i := range r.next {
		r.next[i] = i
	}
	return r
}

// Receive takes an event that came by a channel.
func (r *Receiver) Receive(channel int, payload []byte) {
	now := time.Now().UnixNano()
	seq, at, err := wire.ReadEvent(payload, r.template)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		err = r.check(channel, seq-firstSeq)
	}
	if err != nil {
		r.fail(err)
		return
	}
	r.last = time.Duration(now - at)
	if r.count++; r.count == r.want {
		r.reach()
	}
}

func (r *Receiver) check(channel, n int) error {
	if n < 0 || channel != r.plan.Channel(n) {
		return fmt.Errorf("event %d came by channel %d", n, channel)
	}
	publisher := n % Publishers
	due, step := &r.next[publisher], Publishers
	if r.plan.Channels >= Publishers {
		due, step = &r.next[channel], Publishers*r.plan.own(publisher)
	}
	if n != *due {
		return fmt.Errorf("event %d came where %d was due", n, *due)
	}
	*due += step
	return nil
}

// Fail ends the waiting with an error.
func (r *Receiver) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail(err)
}

func (r *Receiver) fail(err error) {
	if r.err == nil {
		r.err = err
		r.reach()
	}
}

func (r *Receiver) reach() {
	if r.reached != nil {
		close(r.reached)
		r.reached = nil
	}
}

// Await waits until so many events have come, in all, and returns how long after its publishing the last one came. One at a time may
// wait.
func (r *Receiver) Await(ctx context.Context, total int) (time.Duration, error) {
	r.mu.Lock()
	r.want = total
	if r.count < total && r.err == nil {
		reached := make(chan struct{})
		r.reached = reached
		r.mu.Unlock()
		select {
		case <-reached:
		case <-ctx.Done():
		}
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return 0, r.err
	case r.count < total:
		return 0, fmt.Errorf("%d of %d events came: %w", r.count, total, ctx.Err())
	case r.count > total:
		return 0, fmt.Errorf("%d events came where %d were published", r.count, total)
	}
	return r.last, nil
}
