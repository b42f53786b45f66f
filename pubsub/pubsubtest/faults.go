package pubsubtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// A Fault is something that happens to the servers that a broker stands on, or to the way there.
type Fault struct {
	// Begin makes it happen, and returns what ends it. After the end the servers must be there again.
	Begin func(t *testing.T) (end func())

	// Away says that no broker reaches its servers between Begin and the end. The brokers must notice within 15 s.
	Away bool

	// Harmless says that nothing is lost and the servers are reached all the time, such as by a slow link. It lasts 12 s, and no
	// broker may take it for more.
	Harmless bool
}

const (
	noticeTime   = 15 * time.Second       // for a broker to notice that its servers are away
	recoverTime  = 30 * time.Second       // and to be back, once they are
	harmlessTime = 12 * time.Second       // is longer than brokers wait for a sign of life
	calmTime     = 200 * time.Millisecond // of publishing before, during and after a fault
	mostLosses   = 4                      // how often a subscription may be told of one fault
	faultServers = 3
	faultTopics  = 4
)

// RunFault tests how brokers that reach each other come through a fault, which happens rounds times while messages are
// published and topics subscribed. A message that Publish accepted must come to each subscription in force, or the subscription
// must be told of a loss afterwards; none comes twice, out of order, or after Publish failed because the servers were known to
// be away. Where the broker is a [pubsub.Reporter], it must report what it knows.
func RunFault(t *testing.T, newBroker func(t *testing.T) pubsub.Broker, rounds int, fault Fault) {
	runFault(t, publishing{}, newBroker, rounds, fault)
}

// A sender is how a workload sends messages: it publishes or appends.
type sender interface {
	send(ctx context.Context, b pubsub.Broker, topic string, data []byte) (pubsub.Position, error)
	parse(data []byte) (pubsub.Entry, error) // what came to a subscription
	audit(t *testing.T, w *workload)         // at the end
}

type publishing struct{}

func (publishing) send(ctx context.Context, b pubsub.Broker, topic string, data []byte) (pubsub.Position, error) {
	return pubsub.Position{}, b.Publish(ctx, topic, data)
}

func (publishing) parse(data []byte) (pubsub.Entry, error) { return pubsub.Entry{Data: data}, nil }
func (publishing) audit(*testing.T, *workload)             {}

func runFault(t *testing.T, by sender, newBroker func(t *testing.T) pubsub.Broker, rounds int, fault Fault) {
	s := suite{newBroker}
	brokers := make([]pubsub.Broker, faultServers)
	for i := range brokers {
		brokers[i] = s.broker(t)
	}
	for i := range rounds {
		faultRound(t, by, brokers, fault)
		if t.Failed() {
			t.Fatalf("in round %d of %d", i+1, rounds)
		}
	}
	if fault.Away {
		closeAway(t, by, s.broker(t), fault)
	}
}

// faultRound has a fault happen once.
func faultRound(t *testing.T, by sender, brokers []pubsub.Broker, fault Fault) {
	w := &workload{sender: by, brokers: brokers, stop: make(chan struct{})}
	var ends []func()
	defer func() {
		for _, unsubscribe := range ends {
			unsubscribe()
		}
	}()
	for i := range faultTopics {
		name := topic()
		w.topics = append(w.topics, name)
		for j, b := range brokers {
			l := &ledger{name: fmt.Sprintf("topic %d on server %d", i, j), topic: i, parse: by.parse}
			unsubscribe, err := b.Subscribe(t.Context(), name, l.deliver, l.lost)
			if err != nil {
				t.Fatalf("Subscribe: %v", err)
			}
			ends = append(ends, unsubscribe)
			l.since = time.Now()
			w.ledgers = append(w.ledgers, l)
		}
	}
	w.start(t)
	time.Sleep(calmTime)
	awaitJoins(t, w)
	before := states(brokers)
	end := fault.Begin(t)
	switch {
	case fault.Away:
		awaitAway(t, by, brokers)
	case fault.Harmless:
		time.Sleep(harmlessTime)
	}
	time.Sleep(calmTime)
	end()
	awaitBack(t, w)
	awaitJoins(t, w)
	time.Sleep(calmTime)
	w.end(t)
	// A loss may be announced some time after it.
	errs := w.audit()
	for deadline := time.Now().Add(noticeTime); errs != nil && time.Now().Before(deadline); errs = w.audit() {
		time.Sleep(10 * time.Millisecond)
	}
	for _, err := range errs {
		t.Error(err)
	}
	by.audit(t, w)
	if fault.Harmless {
		w.unharmed(t, before)
	}
}

// states has for each broker whether it is away, and since when.
func states(brokers []pubsub.Broker) (list []pubsub.Stats) {
	for _, b := range brokers {
		list = append(list, stats(b))
	}
	return list
}

// unharmed checks that no loss was told, and no broker was away.
func (w *workload) unharmed(t *testing.T, before []pubsub.Stats) {
	for i, now := range states(w.brokers) {
		if now != before[i] {
			t.Errorf("server %d reports %+v, want %+v as before", i, now, before[i])
		}
	}
	for _, l := range w.ledgers {
		l.mu.Lock()
		if len(l.losses) > 0 {
			t.Errorf("%s: told %d times that messages may be missing, but none is", l.name, len(l.losses))
		}
		l.mu.Unlock()
	}
}

// awaitAway waits until all brokers have noticed, and tries what they do then.
func awaitAway(t *testing.T, by sender, brokers []pubsub.Broker) {
	t.Helper()
	var wg sync.WaitGroup
	for i, b := range brokers {
		wg.Go(func() {
			name, deadline := topic(), time.Now().Add(noticeTime)
			for {
				ctx, cancel := context.WithTimeout(t.Context(), noticeTime)
				_, err := by.send(ctx, b, name, nil)
				cancel()
				if errors.Is(err, pubsub.ErrAway) {
					break
				}
				if time.Now().After(deadline) {
					t.Errorf("server %d did not notice in %v that it is cut off; publishing: error %v, want ErrAway", i, noticeTime, err)
					return
				}
				time.Sleep(time.Millisecond)
			}
			for r, ok := b.(pubsub.Reporter); ok && r.Stats().Up; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Errorf("server %d says that it is up, but publishing fails", i)
					return
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), calmTime)
			defer cancel()
			if _, err := b.Subscribe(ctx, name, func([]byte) {}, func() {}); err == nil {
				t.Errorf("server %d subscribed while it was cut off", i)
			}
		})
	}
	wg.Wait()
}

// awaitBack waits until what each broker publishes comes to all.
func awaitBack(t *testing.T, w *workload) {
	t.Helper()
	deadline := time.Now().Add(recoverTime)
	for i, b := range w.brokers {
		for !w.reaches(t, i) {
			if time.Now().After(deadline) {
				t.Fatalf("server %d is not back after %v", i, recoverTime)
			}
		}
		if r, ok := b.(pubsub.Reporter); ok {
			if stats := r.Stats(); !stats.Up || stats.Since.IsZero() {
				t.Errorf("server %d reports %+v", i, stats)
			}
		}
	}
}

// awaitJoins waits until a topic that is subscribed from now on gets its message, on each server.
func awaitJoins(t *testing.T, w *workload) {
	t.Helper()
	deadline := time.Now().Add(recoverTime)
	for i := range w.joins {
		for want := w.joins[i].Load() + 2; w.joins[i].Load() < want && !t.Failed(); time.Sleep(time.Millisecond) { // one had begun before
			if time.Now().After(deadline) {
				t.Fatalf("server %d can't subscribe after %v", i, recoverTime)
			}
		}
	}
}

// closeAway closes a broker whose servers are away.
func closeAway(t *testing.T, by sender, b pubsub.Broker, fault Fault) {
	name := topic()
	if _, err := b.Subscribe(t.Context(), name, func([]byte) {}, func() {}); err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	end := fault.Begin(t)
	defer end()
	waiting := make(chan error, 1)
	awaitAway(t, by, []pubsub.Broker{b})
	go func() {
		_, err := b.Subscribe(context.Background(), topic(), func([]byte) {}, func() {})
		waiting <- err
	}()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	wait(t, closed, "Close while the servers are away")
	select {
	case err := <-waiting:
		if !errors.Is(err, pubsub.ErrClosed) {
			t.Errorf("Subscribe during Close: error %v, want ErrClosed", err)
		}
	case <-time.After(patience):
		t.Error("a Subscribe that waits for the servers outlives Close")
	}
	if _, err := by.send(t.Context(), b, name, nil); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("publishing after Close: error %v, want ErrClosed", err)
	}
}

// A workload publishes numbered messages and subscribes topics until it ends.
type workload struct {
	sender
	brokers []pubsub.Broker
	topics  []string
	ledgers []*ledger
	stop    chan struct{}
	wg      sync.WaitGroup
	records [][]record     // by publisher
	joins   []atomic.Int64 // by server: how often join succeeded
}

// A record is what became of a message.
type record struct {
	topic    int
	began    time.Time // when it was sent
	accepted bool
	away     bool            // the broker knew all the time that it was cut off
	at       pubsub.Position // if it was appended, and accepted
}

func (w *workload) start(t *testing.T) {
	publishers := 2 * len(w.brokers)
	w.records = make([][]record, publishers+1) // the last has reaches' messages
	for id := range publishers {
		w.wg.Go(func() {
			b, n := w.brokers[id%len(w.brokers)], id%len(w.topics)
			for i := uint32(0); ; i++ {
				w.records[id] = append(w.records[id], w.publish(t, b, n, id, i))
				select {
				case <-w.stop:
					return
				case <-time.After(500 * time.Microsecond):
				}
			}
		})
	}
	w.joins = make([]atomic.Int64, len(w.brokers))
	for i := range w.brokers {
		w.wg.Go(func() {
			for w.join(t, i) {
				select {
				case <-w.stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
}

func message(publisher int, i uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{byte(publisher)}, i)
}

func (w *workload) publish(t *testing.T, b pubsub.Broker, n, publisher int, i uint32) record {
	ctx, cancel := context.WithTimeout(t.Context(), recoverTime)
	defer cancel()
	r := record{topic: n, began: time.Now()}
	before := stats(b)
	at, err := w.send(ctx, b, w.topics[n], message(publisher, i))
	r.accepted, r.at = err == nil, at
	r.away = !before.Up && before == stats(b)
	if r.away && r.accepted {
		t.Error("a message was accepted while the servers were known to be away")
	}
	return r
}

// stats has what tells whether the broker was away between two calls.
func stats(b pubsub.Broker) pubsub.Stats {
	r, ok := b.(pubsub.Reporter)
	if !ok {
		return pubsub.Stats{Up: true}
	}
	s := r.Stats()
	return pubsub.Stats{Up: s.Up, Since: s.Since}
}

// join subscribes to a topic on a server, as long as it takes: a message published by the next one once that is done must come, or
// be announced as lost.
func (w *workload) join(t *testing.T, server int) bool {
	here, there := w.brokers[server], w.brokers[(server+1)%len(w.brokers)]
	ctx, cancel := context.WithTimeout(t.Context(), recoverTime)
	defer cancel()
	name, told := topic(), make(chan struct{}, 100)
	tell := func() {
		select {
		case told <- struct{}{}:
		default:
		}
	}
	unsubscribe, err := here.Subscribe(ctx, name, func([]byte) { tell() }, tell)
	switch {
	case err == nil:
	case errors.Is(err, ctx.Err()):
		return true // the servers are away for long
	default:
		t.Errorf("Subscribe while the servers may be away: error %v, want none, or the context's", err)
		return false
	}
	defer unsubscribe()
	if _, err := w.send(ctx, there, name, []byte("x")); err != nil {
		return true
	}
	select {
	case <-told:
		w.joins[server].Add(1)
		return true
	case <-time.After(recoverTime):
		t.Error("Subscribe returned, but a message published after that neither came nor was announced as lost")
		return false
	}
}

// reaches publishes to each topic from a server, and reports whether the messages came to all.
func (w *workload) reaches(t *testing.T, server int) bool {
	publisher := len(w.records) - 1
	all := true
	for n := range w.topics {
		i := uint32(len(w.records[publisher]))
		r := w.publish(t, w.brokers[server], n, publisher, i)
		w.records[publisher] = append(w.records[publisher], r)
		if !r.accepted {
			all = false
			time.Sleep(5 * time.Millisecond)
			continue
		}
		for deadline := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
			missing := slices.ContainsFunc(w.ledgers, func(l *ledger) bool { return l.topic == n && !l.has(publisher, i) })
			if !missing {
				break
			}
			if time.Now().After(deadline) {
				all = false
				break
			}
		}
	}
	return all
}

// end stops the workload. What was published has then come, or never will.
func (w *workload) end(t *testing.T) {
	t.Helper()
	close(w.stop)
	w.wg.Wait()
	for i := range w.brokers {
		for deadline := time.Now().Add(recoverTime); !w.reaches(t, i); {
			if time.Now().After(deadline) {
				t.Fatalf("server %d is gone again", i)
			}
		}
	}
}

// audit compares what came with what was published.
func (w *workload) audit() (errs []error) {
	for _, l := range w.ledgers {
		errs = append(errs, l.audit(w.records)...)
	}
	return errs
}

// A ledger is what came to a subscription.
type ledger struct {
	name  string
	topic int
	since time.Time
	parse func([]byte) (pubsub.Entry, error)

	mu     sync.Mutex
	came   [][2]uint32       // publisher and number, as they came
	places []pubsub.Position // of what came, if it was appended
	losses []time.Time
	broken error
}

// parseMessage is the reverse of message.
func parseMessage(data []byte) ([2]uint32, error) {
	if len(data) != 5 {
		return [2]uint32{}, fmt.Errorf("%q is no message of the suite", short(string(data)))
	}
	return [2]uint32{uint32(data[0]), binary.BigEndian.Uint32(data[1:])}, nil
}

func (l *ledger) deliver(data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, err := l.parse(data)
	m, fault := parseMessage(e.Data)
	if err = errors.Join(err, fault); err != nil {
		l.broken = err
		return
	}
	l.came = append(l.came, m)
	if e.Offset > 0 {
		l.places = append(l.places, e.Position)
	}
}

func (l *ledger) lost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.losses = append(l.losses, time.Now())
}

func (l *ledger) has(publisher int, i uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range slices.Backward(l.came) {
		if m == [2]uint32{uint32(publisher), i} {
			return true
		}
	}
	return false
}

func (l *ledger) audit(records [][]record) (errs []error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(l.name+": "+format, args...))
	}
	if l.broken != nil {
		fault("%v", l.broken)
	}
	var lastLoss time.Time
	if len(l.losses) > 0 {
		lastLoss = l.losses[len(l.losses)-1]
	}
	if len(l.losses) > mostLosses {
		fault("told %d times that messages may be missing, want at most %d", len(l.losses), mostLosses)
	}
	next := make([]uint32, len(records)) // the lowest number that may come next
	came := make([]map[uint32]bool, len(records))
	for i := range came {
		came[i] = map[uint32]bool{}
	}
	for _, m := range l.came {
		publisher, i := m[0], m[1]
		switch {
		case int(publisher) >= len(records) || int(i) >= len(records[publisher]) || records[publisher][i].topic != l.topic:
			fault("message %d of publisher %d came, which is not this topic's", i, publisher)
			continue
		case came[publisher][i]:
			fault("message %d of publisher %d came twice", i, publisher)
		case i < next[publisher]:
			fault("message %d of publisher %d came after %d", i, publisher, next[publisher]-1)
		case records[publisher][i].away:
			fault("message %d of publisher %d came, though it was refused since the servers were away", i, publisher)
		}
		came[publisher][i] = true
		next[publisher] = max(next[publisher], i+1)
	}
	for publisher, list := range records {
		for i, r := range list {
			if r.topic == l.topic && r.accepted && r.began.After(l.since) && !came[publisher][uint32(i)] && !lastLoss.After(r.began) && !l.shows(r.at) {
				fault("message %d of publisher %d was accepted and did not come, and no loss was announced after it", i, publisher)
			}
		}
	}
	return errs
}
