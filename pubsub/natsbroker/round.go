package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/nats-io/nats.go"
)

// Most of what a message costs is the system calls, here and in the server, and the answer that each publisher waits for. So callers that
// publish at the same moment share a round: their messages leave together, and one answer says that the server has them all.

type rounds struct {
	mu     sync.Mutex
	closed bool
	next   *round // the one that is filled now; nil if there is none
	wg     sync.WaitGroup
}

type round struct {
	messages []message
	done     chan struct{}
}

// A message's error is good once its round is done.
type message struct {
	name string
	data []byte
	err  error
}

// publish sends a message in a round.
func (b *Broker) publish(ctx context.Context, name string, data []byte) error {
	s := &b.rounds
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return pubsub.ErrClosed
	}
	r := s.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		s.next = r
		s.wg.Go(func() { b.send(r) })
	}
	i := len(r.messages)
	r.messages = append(r.messages, message{name: name, data: data})
	s.mu.Unlock()
	select {
	case <-r.done:
		return r.messages[i].err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send sends a round, and waits until the server has it.
func (b *Broker) send(r *round) {
	defer close(r.done)
	runtime.Gosched() // lets those who are about to publish join
	before := b.nc.Stats().Reconnects
	epoch, sent := b.hand(r)
	if !sent {
		return
	}
	err := errCut
	if b.link.IsUp() { // else the client would wait for the next connection
		err = b.flush()
	}
	if _, now := b.peers.current(); err == nil && (b.nc.Stats().Reconnects != before || now != epoch) {
		err = errCut
	}
	if err == nil {
		return
	}
	for i := range r.messages {
		if m := &r.messages[i]; m.err == nil {
			m.err = fmt.Errorf("natsbroker: %w", err)
		}
	}
}

// hand gives the messages to the client, one round after the other. It reports whether the client took one.
func (b *Broker) hand(r *round) (epoch uint64, sent bool) {
	b.counting.Lock()
	defer b.counting.Unlock()
	b.rounds.mu.Lock()
	b.rounds.next = nil
	b.rounds.mu.Unlock()
	from, epoch := b.peers.current()
	for i := range r.messages {
		m := &r.messages[i]
		b.number++
		err := b.nc.PublishRequest(m.name, numbered(from, b.number), m.data)
		switch {
		case err == nil:
			sent = true
			if b.peers.elsewhere.Load() > 0 {
				b.peers.published(m.name)
			}
		case errors.Is(err, nats.ErrConnectionClosed):
			m.err = pubsub.ErrClosed
		case errors.Is(err, nats.ErrReconnectBufExceeded):
			m.err = pubsub.ErrAway
		default:
			m.err = fmt.Errorf("natsbroker: %w", err)
		}
	}
	return epoch, sent
}

// close refuses what is published from now on.
func (s *rounds) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}
