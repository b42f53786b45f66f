package redisbroker

import (
	"context"
	"runtime"
	"sync"

	"github.com/redis/rueidis"
)

// Most of what a message costs is the system calls, here and in the server, that each one makes by itself. So callers that publish
// at the same moment share a round: their commands leave by one write, and their answers come by one read. A round waits for
// no other one, and for no clock, which would hold up messages for a millisecond where a process is idle.

type rounds struct {
	mu   sync.Mutex
	next *round // the one that is filled now; nil if there is none
}

// A round's results are good once done is closed.
type round struct {
	commands rueidis.Commands
	results  []rueidis.RedisResult
	done     chan struct{}
}

// publish sends a command in a round. The calling goroutine is in a call: see Broker.calls.
func (b *Broker) publish(ctx context.Context, command rueidis.Completed) error {
	b.rounds.mu.Lock()
	r := b.rounds.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		b.rounds.next = r
		b.wg.Go(func() { b.send(r) })
	}
	i := len(r.commands)
	r.commands = append(r.commands, command)
	b.rounds.mu.Unlock()
	select {
	case <-r.done:
		return r.results[i].Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *Broker) send(r *round) {
	runtime.Gosched() // lets those who are about to publish join
	b.rounds.mu.Lock()
	b.rounds.next = nil
	b.rounds.mu.Unlock()
	r.results = b.client.DoMulti(context.Background(), r.commands...)
	close(r.done)
}
