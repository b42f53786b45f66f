package pubsub

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
)

// HubOptions are a [Hub]'s options.
type HubOptions struct {
	// Deliver is called for each message of a topic that is held: one at a time for a topic, concurrently for different ones.
	// It must obey the rules of [Broker].Subscribe. Required.
	Deliver func(topic string, data []byte)

	// Lost is called when messages of a topic that is held may be missing, never while Deliver runs for the topic. Default none.
	Lost func(topic string)

	// Logger gets the panics of Deliver and Lost, which end there. Default [slog.Default].
	Logger *slog.Logger
}

// A Hub hands what a [Broker] delivers to one function, for the topics that are held. However often a topic is held, it has
// one subscription, and none when it is not held. Its methods may be called concurrently.
type Hub struct {
	broker Broker
	opts   HubOptions

	mu     sync.Mutex
	closed bool
	topics map[string]*held
}

// held is a topic that is held, or still subscribed.
type held struct {
	holds int // Hub.mu guards it

	lock        chan struct{} // a mutex: full while locked, which lasts as long as the broker takes
	unsubscribe func()        // nil while there is no subscription; lock guards it
}

// NewHub returns a Hub on a broker, which it owns from then on.
func NewHub(b Broker, opts HubOptions) *Hub {
	if opts.Lost == nil {
		opts.Lost = func(string) {}
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return &Hub{broker: b, opts: opts, topics: make(map[string]*held)}
}

// Hold asks for the messages of a topic, until as many calls of [Hub.Release]. It returns when the subscription is in force. If
// it fails, the topic is not held by it: with the context's error, the broker's, or [ErrClosed].
func (h *Hub) Hold(ctx context.Context, topic string) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return ErrClosed
	}
	t := h.topics[topic]
	if t == nil {
		t = &held{lock: make(chan struct{}, 1)}
		h.topics[topic] = t
	}
	t.holds++
	h.mu.Unlock()

	err := h.subscribe(ctx, topic, t)
	if err != nil {
		h.Release(topic)
	}
	return err
}

func (h *Hub) subscribe(ctx context.Context, topic string, t *held) error {
	select {
	case t.lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.lock }()
	if t.unsubscribe != nil {
		return nil
	}
	unsubscribe, err := h.broker.Subscribe(ctx, topic,
		func(data []byte) {
			defer h.recovered(topic)
			h.opts.Deliver(topic, data)
		},
		func() {
			defer h.recovered(topic)
			h.opts.Lost(topic)
		})
	t.unsubscribe = unsubscribe
	return err
}

// recovered is deferred around the functions that the Hub was given.
func (h *Hub) recovered(topic string) {
	if v := recover(); v != nil {
		h.opts.Logger.Error("pubsub: panic while delivering", "topic", topic, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	}
}

// Release undoes one Hold. After the last one, it returns when the broker has ended the subscription; like that, it doesn't wait
// for a running Deliver when it is called from within one. It does nothing for a topic that is not held.
func (h *Hub) Release(topic string) {
	h.mu.Lock()
	t := h.topics[topic]
	if t == nil || t.holds == 0 {
		h.mu.Unlock()
		return
	}
	t.holds--
	last := t.holds == 0
	h.mu.Unlock()
	if !last {
		return
	}

	// The topic stays in the map while it is unsubscribed, so that a Hold meanwhile waits for it: two subscriptions at once would
	// deliver a message twice.
	t.lock <- struct{}{}
	defer func() { <-t.lock }()
	if !h.unheld(topic, t, false) {
		return
	}
	if t.unsubscribe != nil {
		t.unsubscribe()
		t.unsubscribe = nil
	}
	h.unheld(topic, t, true)
}

// unheld reports whether t is the topic's and not held, and may forget it then.
func (h *Hub) unheld(topic string, t *held, forget bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.holds > 0 || h.topics[topic] != t {
		return false
	}
	if forget {
		delete(h.topics, topic)
	}
	return true
}

// Publish sends data to all servers that hold the topic, this one included. Data is given away: it must not be changed
// afterwards.
func (h *Hub) Publish(ctx context.Context, topic string, data []byte) error {
	return h.broker.Publish(ctx, topic, data)
}

// Close closes the broker, which ends all subscriptions. After it returned, Deliver and Lost are not called, and Hold and
// Publish fail.
func (h *Hub) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	return h.broker.Close()
}
