package pubsub

import (
	"context"
	"slices"
	"sync"

	"github.com/mooncore/mooncore/pubsub/internal/gate"
)

var _ Broker = (*Local)(nil)

// Local is a [Broker] for one process. Publish calls the subscribers of the topic itself, and returns when they have: it is
// just a function call, and starts no goroutine. It never loses a message. A deliver function that panics, panics in Publish.
//
// It is a [Log] too, which keeps everything in memory. Of topics of which nothing is kept and to which nobody subscribes it remembers
// at most 10,000 epochs; the one that was not used for longest goes first, and each 2 minutes after it was last read or subscribed to.
type Local struct {
	mu     sync.RWMutex
	closed bool
	topics map[string][]*subscription // a slice is never changed, but replaced

	log localLog
}

type subscription struct {
	gate    gate.Gate
	deliver func([]byte)
}

// NewLocal returns a Local.
func NewLocal() *Local {
	return &Local{topics: make(map[string][]*subscription), log: localLog{
		topics: make(map[string]*kept), subscribed: make(map[string]struct{}),
	}}
}

// Publish implements [Broker].
func (l *Local) Publish(ctx context.Context, topic string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.RLock()
	closed, subs := l.closed, l.topics[topic]
	l.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	for _, s := range subs {
		s.gate.Call(s.deliver, data)
	}
	return nil
}

// Subscribe implements [Broker].
func (l *Local) Subscribe(ctx context.Context, topic string, deliver func(data []byte), _ func()) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &subscription{deliver: deliver}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if len(l.topics[topic]) == 0 {
		l.log.subscribe(topic)
	}
	l.topics[topic] = append(slices.Clone(l.topics[topic]), s)
	return func() { l.unsubscribe(topic, s) }, nil
}

func (l *Local) unsubscribe(topic string, s *subscription) {
	l.mu.Lock()
	subs := slices.DeleteFunc(slices.Clone(l.topics[topic]), func(other *subscription) bool { return other == s })
	if len(subs) > 0 {
		l.topics[topic] = subs
	} else {
		delete(l.topics, topic)
		l.log.unsubscribe(topic)
	}
	l.mu.Unlock()
	s.gate.Close()
}

// Close implements [Broker].
func (l *Local) Close() error {
	l.mu.Lock()
	l.closed = true
	topics := l.topics
	l.topics = nil
	l.mu.Unlock()
	for _, subs := range topics {
		for _, s := range subs {
			s.gate.Close()
		}
	}
	l.log.close()
	return nil
}
