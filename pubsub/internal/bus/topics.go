// Package bus holds what brokers over a network have in common.
package bus

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/gate"
)

// Topics are the subscriptions of a broker, by the name that its engine has for the topic. However many subscriptions a topic
// has, the engine is asked once.
type Topics struct {
	open func(ctx context.Context, name string) error // returns when the engine's subscription is in force
	shut func(name string)

	losses  atomic.Uint64
	leaving sync.WaitGroup

	mu     sync.RWMutex
	closed bool
	topics map[string]*topic
}

type topic struct {
	users int             // subscriptions, and those that come and go; Topics.mu guards it
	subs  []*subscription // never changed, but replaced; Topics.mu guards it

	lock chan struct{} // a mutex: full while the engine is asked
	open bool          // the engine has a subscription; lock guards it
}

type subscription struct {
	gate    gate.Gate
	deliver func([]byte)
	lost    func()
}

// NewTopics returns Topics of an engine that has these functions. They are never called for the same name at the same time,
// and shut only after an open that succeeded.
func NewTopics(open func(ctx context.Context, name string) error, shut func(name string)) *Topics {
	return &Topics{open: open, shut: shut, topics: make(map[string]*topic)}
}

// Subscribe is a Broker's.
func (t *Topics) Subscribe(ctx context.Context, name string, deliver func([]byte), lost func()) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &subscription{deliver: deliver, lost: lost}
	tp, err := t.enter(name, s)
	if err != nil {
		return nil, err
	}
	if err := t.ask(ctx, name, tp); err != nil {
		t.leave(name, tp, s)
		s.gate.Close()
		return nil, err
	}
	var once sync.Once
	return func() {
		once.Do(func() { t.leave(name, tp, s) })
		s.gate.Close()
	}, nil
}

// enter adds the subscription before it is in force: a message or a loss that comes early is for it too.
func (t *Topics) enter(name string, s *subscription) (*topic, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, pubsub.ErrClosed
	}
	tp := t.topics[name]
	if tp == nil {
		tp = &topic{lock: make(chan struct{}, 1)}
		t.topics[name] = tp
	}
	tp.users++
	tp.subs = append(slices.Clip(tp.subs), s)
	return tp, nil
}

func (t *Topics) ask(ctx context.Context, name string, tp *topic) error {
	select {
	case tp.lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-tp.lock }()
	if tp.open {
		return nil
	}
	err := t.open(ctx, name)
	tp.open = err == nil
	return err
}

func (t *Topics) leave(name string, tp *topic, s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tp.subs = slices.DeleteFunc(slices.Clone(tp.subs), func(other *subscription) bool { return other == s })
	if len(tp.subs) > 0 || t.closed {
		tp.users--
		return
	}
	if gate.InCall() { // the engine may wait for the call's end
		t.leaving.Go(func() { t.settle(name, tp) })
		return
	}
	t.mu.Unlock()
	t.settle(name, tp)
	t.mu.Lock()
}

// settle ends the engine's subscription if nobody uses it any more. The topic stays in the map meanwhile, so that a Subscribe
// waits for that.
func (t *Topics) settle(name string, tp *topic) {
	tp.lock <- struct{}{}
	defer func() { <-tp.lock }()
	t.mu.RLock()
	last := tp.users == 1 && !t.closed
	t.mu.RUnlock()
	if last && tp.open {
		t.shut(name)
		tp.open = false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if tp.users--; tp.users == 0 && t.topics[name] == tp {
		delete(t.topics, name)
	}
}

// Deliver hands a message to the subscriptions of a topic, in the goroutine that calls it.
func (t *Topics) Deliver(name string, data []byte) {
	for _, s := range t.subs(name) {
		s.gate.Call(s.deliver, data)
	}
}

// Lost tells the subscriptions of a topic that messages may be missing.
func (t *Topics) Lost(name string) {
	for _, s := range t.subs(name) {
		t.losses.Add(1)
		s.gate.Call(func([]byte) { s.lost() }, nil)
	}
}

// LostAll does so for all topics.
func (t *Topics) LostAll() {
	for _, name := range t.Names() {
		t.Lost(name)
	}
}

func (t *Topics) subs(name string) []*subscription {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if tp := t.topics[name]; tp != nil {
		return tp.subs
	}
	return nil
}

// Names lists the topics.
func (t *Topics) Names() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	names := make([]string, 0, len(t.topics))
	for name := range t.topics {
		names = append(names, name)
	}
	return names
}

// Len is how many topics there are.
func (t *Topics) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.topics)
}

// Losses is how often a subscription was told of a loss.
func (t *Topics) Losses() uint64 { return t.losses.Load() }

// Closed reports whether Close was called.
func (t *Topics) Closed() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.closed
}

// Close ends all subscriptions and reports whether it is the first call. The engine is not asked for each of them.
func (t *Topics) Close() bool {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return false
	}
	t.closed = true
	var subs []*subscription
	for _, tp := range t.topics {
		subs = append(subs, tp.subs...)
	}
	clear(t.topics)
	t.mu.Unlock()
	for _, s := range subs {
		s.gate.Close()
	}
	return true
}

// Wait returns when the engine is asked no more. Close must have been called.
func (t *Topics) Wait() { t.leaving.Wait() }
