package pubsub

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"
)

var _ Log = (*Local)(nil)

const (
	maxIdle  = 10_000          // topics without a subscription of which nothing is kept but the epoch
	idleTime = 2 * time.Minute // how long that is remembered after it was read, or the last subscription ended
	minTimer = time.Second     // between two looks for what is too old

	epochLength = 16
)

func newEpoch() string { return rand.Text()[:epochLength] }

// A localLog is what [Local] keeps.
type localLog struct {
	mu         sync.Mutex
	topics     map[string]*kept    // nil when closed
	subscribed map[string]struct{} // topics that have a subscription; they may be missing in topics
	idle       list.List           // of *kept, most recently used first
}

// kept is what is kept of a topic. localLog.mu guards all but order.
type kept struct {
	order sync.Mutex // held from when a message gets its offset until it was delivered; taken before localLog.mu
	users int        // calls that hold or await order

	topic   string
	top     Position
	age     time.Duration
	entries []keptEntry   // oldest first, without holes, up to top
	timer   *time.Timer   // for when the oldest entry, or the epoch, is to be forgotten
	used    time.Time     // when it was last appended to or read, or the last subscription ended
	idle    *list.Element // nil unless entries is empty and nobody subscribes
}

type keptEntry struct {
	Entry
	at time.Time
}

var errKeep = errors.New("pubsub: Events and Age of a Keep must be above 0")

// Append implements [Log].
func (l *Local) Append(ctx context.Context, topic string, data []byte, keep Keep) (Position, error) {
	if err := ctx.Err(); err != nil {
		return Position{}, err
	}
	if keep.Events <= 0 || keep.Age <= 0 {
		return Position{}, errKeep
	}
	k, err := l.log.use(topic)
	if err != nil {
		return Position{}, err
	}
	defer l.log.unuse(k)
	k.order.Lock()
	defer k.order.Unlock()
	l.mu.RLock()
	closed := l.closed
	l.mu.RUnlock()
	if closed {
		return Position{}, ErrClosed
	}
	at, message := l.log.add(k, data, keep)
	l.mu.RLock()
	subs := l.topics[topic] // who subscribes later reads the message
	l.mu.RUnlock()
	for _, s := range subs {
		s.gate.Call(s.deliver, message)
	}
	return at, nil
}

// Read implements [Log].
func (l *Local) Read(ctx context.Context, topic string, after uint64, maxBytes int, keep Keep) (Page, error) {
	if err := ctx.Err(); err != nil {
		return Page{}, err
	}
	if keep.Events <= 0 || keep.Age <= 0 {
		return Page{}, errKeep
	}
	k, err := l.log.use(topic)
	if err != nil {
		return Page{}, err
	}
	defer l.log.unuse(k)
	return l.log.read(k, after, maxBytes), nil
}

// use returns a topic, which may be new, and is not forgotten until unuse.
func (g *localLog) use(topic string) (*kept, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.topics == nil {
		return nil, ErrClosed
	}
	k := g.topics[topic]
	if k == nil {
		k = &kept{topic: topic, top: Position{Epoch: newEpoch()}}
		k.timer = time.AfterFunc(idleTime, func() { g.expire(k) })
		g.topics[topic] = k
	}
	k.users++
	k.used = time.Now()
	g.trim(k)
	if k.idle != nil {
		g.idle.MoveToFront(k.idle)
	}
	return k, nil
}

func (g *localLog) unuse(k *kept) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k.users--
	g.bound()
}

// add keeps a message, and returns it as subscriptions get it.
func (g *localLog) add(k *kept, data []byte, keep Keep) (Position, []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k.top.Offset++
	k.age = keep.Age
	message := AppendEntry(nil, Entry{k.top, data})
	e := Entry{k.top, message[len(message)-len(data):]}
	k.entries = append(k.entries, keptEntry{e, time.Now()})
	k.drop(max(len(k.entries)-keep.Events, 0))
	if len(k.entries) == 1 {
		k.timer.Reset(max(k.age, minTimer))
	}
	g.wake(k)
	return k.top, message
}

// wake ends that a topic is idle. localLog.mu is held.
func (g *localLog) wake(k *kept) {
	if k.idle != nil {
		g.idle.Remove(k.idle)
		k.idle = nil
	}
}

// subscribe notes that a topic has a subscription now: as long as it has, it is never forgotten.
func (g *localLog) subscribe(topic string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.subscribed[topic] = struct{}{}
	if k := g.topics[topic]; k != nil {
		g.wake(k)
	}
}

// unsubscribe notes that a topic has none any more.
func (g *localLog) unsubscribe(topic string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.subscribed, topic)
	k := g.topics[topic]
	if k == nil {
		return
	}
	k.used = time.Now()
	g.trim(k)
	if k.idle != nil {
		k.timer.Reset(idleTime)
	}
	g.bound()
}

// drop forgets the n oldest entries.
func (k *kept) drop(n int) {
	clear(k.entries[:n])
	k.entries = k.entries[n:]
	if len(k.entries) == 0 {
		k.entries = nil
	}
}

func (g *localLog) read(k *kept, after uint64, maxBytes int) Page {
	g.mu.Lock()
	defer g.mu.Unlock()
	page := Page{Top: k.top}
	first := k.top.Offset - uint64(len(k.entries)) // the offset before the oldest entry
	if after >= k.top.Offset {
		return page
	}
	for _, e := range k.entries[max(after, first)-first:] {
		maxBytes -= len(e.Data)
		if maxBytes < 0 && len(page.Entries) > 0 {
			break
		}
		page.Entries = append(page.Entries, e.Entry)
	}
	return page
}

// trim forgets the entries that are too old. A topic that is left without begins to be idle, unless somebody subscribes. localLog.mu is
// held.
func (g *localLog) trim(k *kept) {
	oldest := time.Now().Add(-k.age)
	n := slices.IndexFunc(k.entries, func(e keptEntry) bool { return e.at.After(oldest) })
	if n < 0 {
		n = len(k.entries)
	}
	k.drop(n)
	if _, ok := g.subscribed[k.topic]; !ok && len(k.entries) == 0 && k.idle == nil {
		k.idle = g.idle.PushFront(k)
	}
}

// expire forgets what is too old of a topic, entries or the topic itself.
func (g *localLog) expire(k *kept) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.topics[k.topic] != k {
		return
	}
	g.trim(k)
	switch rest := idleTime - time.Since(k.used); {
	case len(k.entries) > 0:
		k.timer.Reset(max(time.Until(k.entries[0].at.Add(k.age)), minTimer))
	case k.idle == nil: // until unsubscribe
	case rest > 0 || k.users > 0:
		k.timer.Reset(max(rest, minTimer))
	default:
		g.forget(k)
	}
}

// bound forgets the idle topics that were not used for longest, when there are too many. localLog.mu is held.
func (g *localLog) bound() {
	for e := g.idle.Back(); e != nil && g.idle.Len() > maxIdle; {
		k := e.Value.(*kept)
		e = e.Prev()
		if k.users == 0 {
			g.forget(k)
		}
	}
}

// forget forgets an idle topic. localLog.mu is held.
func (g *localLog) forget(k *kept) {
	k.timer.Stop()
	g.idle.Remove(k.idle)
	delete(g.topics, k.topic)
}

// close forgets everything.
func (g *localLog) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range g.topics {
		k.timer.Stop()
	}
	g.topics = nil
	clear(g.subscribed)
	g.idle.Init()
}
