package natsbroker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/bus"
	"github.com/nats-io/nats.go"
)

// What is kept of a topic are the messages of one subject for each epoch, in a stream that all topics with the same Keep share.
// The stream republishes each message, once it is stored, to the topic's subscriptions, so that these get them in its order.
//
// Appending is compare-and-set: the stream takes a message if the one before it is still the last of its epoch. A stream that
// lost its messages counts from 1 again, so a number alone would prove nothing; but there the old epoch's subject has no message.
// An epoch begins only where the topic has none at all.
//
// A marker holds the position of a topic that is read, but has no message that is not older than Age. Messages are kept longer than that,
// so that Read finds the last one and puts a marker behind it. It goes by the message's time, which is the NATS server's, and the
// broker's clock.

const (
	epochLength = 16
	quietTime   = 3 * time.Minute // how long a marker is kept, and a message after its Age
	renewAfter  = time.Minute     // a marker that is older, and read, is written anew
	maxKnown    = 10_000          // topics whose last message is remembered
)

var (
	errKeep  = errors.New("natsbroker: Events and Age of a Keep must be above 0")
	errGuard = errors.New("others append at the same time")

	errDenied = errors.New(`history needs JetStream: the account must be allowed to publish "$JS.API.>" and "mooncore.log.>"`)
	errUnsure = errors.New("JetStream did not answer as it should: the message may have been appended or not")
)

// logs are what a broker knows of streams and topics.
type logs struct {
	mu      sync.Mutex
	streams map[pubsub.Keep]*stream
	topics  map[string]*logTopic // by stem
}

// A logTopic is a topic that is appended to or read. Its place in the map may be taken by another one of the same topic at any
// time: then some appends take a second attempt.
type logTopic struct {
	lock chan struct{} // full while a message is appended: others of this broker would only be in its way

	mu   sync.Mutex
	last *record // the last message that is known, without its data; nil if none is
	sure bool    // it was the last one when this was set
}

func (t *logTopic) known() (last *record, sure bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, t.sure
}

// is notes the last message, or that there is none.
func (t *logTopic) is(r *record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last, t.sure = r.bare(), r != nil
}

// came notes a message that came by the way of subscriptions, which may be behind.
func (t *logTopic) came(r *record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil || t.last.seq < r.seq {
		t.last, t.sure = r.bare(), true
	}
}

func (t *logTopic) doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sure = false
}

// stream returns the stream of a Keep. It may not exist yet.
func (b *Broker) stream(keep pubsub.Keep) *stream {
	keep.Age = (keep.Age + time.Second - 1).Truncate(time.Second)
	g := &b.logs
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.streams[keep]
	if s == nil {
		s = b.newStream(keep)
		g.streams[keep] = s
	}
	return s
}

func (g *logs) topic(stem string) *logTopic {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.topics[stem]
	if t == nil {
		for other := range g.topics { // in no order
			if len(g.topics) < maxKnown {
				break
			}
			delete(g.topics, other)
		}
		t = &logTopic{lock: make(chan struct{}, 1)}
		g.topics[stem] = t
	}
	return t
}

func (g *logs) came(stem string, r *record) {
	g.mu.Lock()
	t := g.topics[stem]
	g.mu.Unlock()
	if t != nil {
		t.came(r)
	}
}

// Append implements [pubsub.Log]. It waits up to 5 s for a stream that has no leader, and then fails with [pubsub.ErrAway].
// Messages larger than the server's max_payload, 1 MiB unless configured, fail.
func (b *Broker) Append(ctx context.Context, topic string, data []byte, keep pubsub.Keep) (at pubsub.Position, err error) {
	err = b.withLog(ctx, topic, keep, func(ctx context.Context, l log) error {
		select {
		case l.topic.lock <- struct{}{}:
		case <-ctx.Done():
			return pubsub.ErrAway
		}
		defer func() { <-l.topic.lock }()
		last, sure := l.topic.known()
		if !sure {
			var err error
			if last, err = l.last(ctx); err != nil {
				return err
			}
		}
		r := last.next(data)
		err := l.put(ctx, r, last)
		at = r.Position
		return err
	})
	return at, err
}

// Read implements [pubsub.Log].
func (b *Broker) Read(ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (page pubsub.Page, err error) {
	err = b.withLog(ctx, topic, keep, func(ctx context.Context, l log) error {
		known, _ := l.topic.known()
		last, err := l.get(ctx, getRequest{LastFor: l.stem + "*"})
		if err == nil && (l.over(last) || last.contradicts(known)) { // or the replica is behind
			last, err = l.last(ctx)
		}
		if err != nil {
			return err
		}
		if l.over(last) {
			behind := last
			last = behind.marker()
			if err := l.put(ctx, last, behind); err != nil {
				return err
			}
		}
		l.topic.came(last)
		page.Top = last.Position
		page.Entries, err = l.until(ctx, last, after, maxBytes)
		return err
	})
	return page, err
}

// withLog calls do until it fails with an error that is no reason to try again, or for answerTime.
func (b *Broker) withLog(ctx context.Context, topic string, keep pubsub.Keep, do func(ctx context.Context, l log) error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case keep.Events <= 0 || keep.Age <= 0:
		return errKeep
	case b.topics.Closed():
		return pubsub.ErrClosed
	case !b.link.IsUp():
		return pubsub.ErrAway
	}
	short, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	s := b.stream(keep)
	l := log{b, s, s.stem(topic), b.logs.topic(s.stem(topic))}
	for attempts := 1; ; attempts++ {
		err := s.exist(short)
		if err == nil {
			err = do(short, l)
		}
		wait := bus.Backoff(attempts)
		switch {
		case errors.Is(err, errGuard):
			wait = bus.Backoff(0) / 50 // a round trip or some
		case errors.Is(err, nats.ErrNoResponders): // no leader yet, or no stream any more
			if attempts > 2 {
				s.made.Store(false)
			}
		default:
			return b.logError(ctx, err)
		}
		select {
		case <-time.After(wait):
		case <-short.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return pubsub.ErrAway // nothing was appended
		case <-b.done:
			return pubsub.ErrClosed
		}
	}
}

// logError is the error that Append and Read return for another one.
func (b *Broker) logError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errUnsure): // whatever the cause
	case b.topics.Closed():
		return pubsub.ErrClosed
	case errors.Is(err, pubsub.ErrAway), errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, context.DeadlineExceeded):
		return pubsub.ErrAway // nothing was sent
	}
	return fmt.Errorf("natsbroker: %w", err)
}

func newEpoch() string { return rand.Text()[:epochLength] }

// close waits for streams that are being made.
func (g *logs) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.streams {
		s.making.Close()
		s.making.Wait()
	}
}
