package historymodel

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// A Cluster is what several [Log]s in one process stand on. Messages come some time after they were published, to each subscription in its
// own time.
type Cluster struct {
	medium *pubsub.Local
	seed   uint64
	slow   int // percent of messages that come later
	queues sync.WaitGroup

	mu       sync.Mutex
	topics   map[string]*topic
	servers  uint64
	onCommit func(data []byte, at pubsub.Position) // called in order, for each topic
}

// A topic is what is kept of one.
type topic struct {
	mu      sync.Mutex
	epoch   string
	born    time.Time
	top     uint64
	floor   uint64  // what was trimmed on purpose
	entries []entry // without holes, up to top
	before  *topic  // the epoch before, for a server that is behind
}

type entry struct {
	pubsub.Entry
	at time.Time
}

// NewCluster returns a Cluster where so many percent of what is delivered take some milliseconds, by the seed.
func NewCluster(seed uint64, slow int) *Cluster {
	return &Cluster{medium: pubsub.NewLocal(), seed: seed, slow: slow, topics: map[string]*topic{}, onCommit: func([]byte, pubsub.Position) {}}
}

func newEpoch() string { return rand.Text()[:16] }

func (c *Cluster) topic(name string) *topic {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topics[name]
	if t == nil {
		t = &topic{epoch: newEpoch(), born: time.Now()}
		c.topics[name] = t
	}
	return t
}

func (c *Cluster) keeps(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topics[name] != nil
}

// Reset has what is kept of a topic be gone, as by a failover to an engine that has nothing of it. Then is called before anything else
// happens to the topic.
func (c *Cluster) Reset(name string, then func(ended, begun string)) {
	t := c.topic(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	epoch := newEpoch()
	then(t.epoch, epoch)
	t.before = &topic{epoch: t.epoch, born: t.born, top: t.top, floor: t.floor, entries: t.entries}
	t.epoch, t.born, t.top, t.floor, t.entries = epoch, time.Now(), 0, 0, nil
}

// Trim has all but the newest entries be gone.
func (c *Cluster) Trim(name string, left uint64, then func(floor uint64)) {
	t := c.topic(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.top > left {
		t.floor = max(t.floor, t.top-left)
		then(t.floor)
	}
}

// longestLag is for how long what is not kept any more is still there for servers that are behind.
const longestLag = 10 * time.Second

// view is a topic as a server sees it that is behind.
func (t *topic) view(lag time.Duration, keep pubsub.Keep) (epoch string, top uint64, entries []entry) {
	until := time.Now().Add(-lag)
	if t.before != nil && t.born.After(until) {
		return t.before.view(lag, keep)
	}
	n := len(t.entries)
	for n > 0 && t.entries[n-1].at.After(until) {
		n--
	}
	first := max(n-keep.Events, 0)
	for old := until.Add(-keep.Age); first < n && (t.entries[first].Offset <= t.floor || !t.entries[first].at.After(old)); {
		first++
	}
	return t.epoch, t.top - uint64(len(t.entries)-n), t.entries[first:n]
}

// forget forgets what nobody sees any more.
func (t *topic) forget(keep pubsub.Keep) {
	old := time.Now().Add(-longestLag)
	n := 0
	for n < len(t.entries)-keep.Events && !t.entries[n].at.After(old) {
		n++
	}
	t.entries = t.entries[n:]
}

// Faults are what is wrong with a [Log]. The zero Faults are none.
type Faults struct {
	Lag         time.Duration // what it reads is so old
	ReadFails   bool
	ReadHangs   bool // until the context ends
	AppendFails bool // sometimes after the message was appended
	Drop        int  // percent of what should come, of topics that are appended to
}

var (
	errFault = errors.New("a fault")
	lossMark = []byte("lost") // by its address
)

// A Log is one server's hold on a [Cluster].
type Log struct {
	cluster *Cluster
	own     *pubsub.Local // has the subscriptions, each as a topic of its own

	mu     sync.Mutex
	random *mathrand.Rand
	faults Faults
	closed bool
	queues map[*queue]bool
}

var _ pubsub.Log = (*Log)(nil)

// NewLog returns a Log of one more server.
func (c *Cluster) NewLog() *Log {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers++
	return &Log{cluster: c, own: pubsub.NewLocal(), random: mathrand.New(mathrand.NewPCG(c.seed, c.servers)), queues: map[*queue]bool{}}
}

// Set sets what is wrong from now on.
func (l *Log) Set(f Faults) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = f
}

// Lose tells all subscriptions of a topic that messages may be missing, or those of all topics that are appended to, if it is empty.
func (l *Log) Lose(topic string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for q := range l.queues {
		if q.topic == topic || topic == "" && l.cluster.keeps(q.topic) {
			q.put(lossMark)
		}
	}
}

// chance must be called with mu held.
func (l *Log) chance(percent int) bool { return l.random.IntN(100) < percent }

// now returns what is wrong now, unless a call must fail.
func (l *Log) now(ctx context.Context) (Faults, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Faults{}, pubsub.ErrClosed
	}
	return l.faults, ctx.Err()
}

// Publish implements [pubsub.Broker].
func (l *Log) Publish(ctx context.Context, topic string, data []byte) error {
	if _, err := l.now(ctx); err != nil {
		return err
	}
	return l.cluster.medium.Publish(ctx, topic, data)
}

// Append implements [pubsub.Log].
func (l *Log) Append(ctx context.Context, name string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
	faults, err := l.now(ctx)
	if err != nil {
		return pubsub.Position{}, err
	}
	unsure := false
	if faults.AppendFails {
		l.mu.Lock()
		unsure = l.chance(50)
		l.mu.Unlock()
		if !unsure {
			return pubsub.Position{}, pubsub.ErrAway
		}
	}
	t := l.cluster.topic(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.top++
	at := pubsub.Position{Epoch: t.epoch, Offset: t.top}
	message := pubsub.AppendEntry(nil, pubsub.Entry{Position: at, Data: data})
	t.entries = append(t.entries, entry{pubsub.Entry{Position: at, Data: message[len(message)-len(data):]}, time.Now()})
	t.forget(keep)
	l.cluster.onCommit(data, at)
	if err := l.cluster.medium.Publish(context.Background(), name, message); err != nil || unsure {
		return pubsub.Position{}, errors.Join(errFault, err)
	}
	return at, nil
}

// Read implements [pubsub.Log].
func (l *Log) Read(ctx context.Context, name string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
	faults, err := l.now(ctx)
	switch {
	case err != nil:
		return pubsub.Page{}, err
	case faults.ReadHangs:
		<-ctx.Done()
		return pubsub.Page{}, ctx.Err()
	case faults.ReadFails:
		return pubsub.Page{}, errFault
	}
	t := l.cluster.topic(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	epoch, top, entries := t.view(faults.Lag, keep)
	page := pubsub.Page{Top: pubsub.Position{Epoch: epoch, Offset: top}}
	if after >= top {
		return page, nil
	}
	for _, e := range entries {
		if e.Offset <= after {
			continue
		}
		if maxBytes -= len(e.Data); maxBytes < 0 && len(page.Entries) > 0 {
			break
		}
		page.Entries = append(page.Entries, e.Entry)
	}
	return page, nil
}

// A queue is what has not come yet to a subscription.
type queue struct {
	topic string

	mu     sync.Mutex
	items  [][]byte
	closed bool
	more   chan struct{} // has one when there is something new
}

func (q *queue) put(data []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, data)
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake()
}

func (q *queue) next() (items [][]byte, open bool) {
	<-q.more
	q.mu.Lock()
	defer q.mu.Unlock()
	items, q.items = q.items, nil
	return items, !q.closed
}

// Subscribe implements [pubsub.Broker].
func (l *Log) Subscribe(ctx context.Context, name string, deliver func(data []byte), lost func()) (func(), error) {
	if _, err := l.now(ctx); err != nil {
		return nil, err
	}
	key := rand.Text()
	end, err := l.own.Subscribe(ctx, key, func(data []byte) {
		if len(data) > 0 && &data[0] == &lossMark[0] {
			lost()
			return
		}
		deliver(data)
	}, nil)
	if err != nil {
		return nil, err
	}
	q := &queue{topic: name, more: make(chan struct{}, 1)}
	leave, err := l.cluster.medium.Subscribe(ctx, name, func(data []byte) {
		if !l.drops(name) {
			q.put(data)
		}
	}, nil)
	if err != nil {
		end()
		return nil, err
	}
	l.mu.Lock()
	l.queues[q] = true
	l.mu.Unlock()
	l.cluster.queues.Go(func() {
		defer leave()
		for {
			items, open := q.next()
			if !open {
				return
			}
			for _, data := range items {
				l.dawdle()
				if l.own.Publish(context.Background(), key, data) != nil {
					return
				}
			}
		}
	})
	return func() {
		l.mu.Lock()
		delete(l.queues, q)
		l.mu.Unlock()
		q.close()
		end()
	}, nil
}

func (l *Log) drops(topic string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.faults.Drop > 0 && l.cluster.keeps(topic) && l.chance(l.faults.Drop)
}

// dawdle lets some time pass, mostly none.
func (l *Log) dawdle() {
	l.mu.Lock()
	d := time.Duration(0)
	if l.chance(l.cluster.slow) {
		d = time.Duration(1+l.random.IntN(4)) * step
	}
	l.mu.Unlock()
	if d > 0 {
		time.Sleep(d)
	}
}

// Close implements [pubsub.Broker].
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	for q := range l.queues {
		q.close()
	}
	clear(l.queues)
	l.mu.Unlock()
	return l.own.Close()
}

// Close ends the Cluster, after its Logs.
func (c *Cluster) Close() {
	c.queues.Wait()
	_ = c.medium.Close() // it never fails
}
