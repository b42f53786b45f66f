// Package pubsubtest is the suite that any [pubsub.Broker] must pass.
package pubsubtest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// patience is how long a message may take until a test fails.
const patience = 10 * time.Second

// Run tests a Broker. It is to be run with the race detector. Each call of newBroker makes one more Broker; the suite closes it.
// Topics are fresh in each run but for the ones that binary topics need, so the broker's servers may be shared, except with
// another Run at the same time.
func Run(t *testing.T, newBroker func(t *testing.T) pubsub.Broker) {
	s := suite{newBroker}
	t.Run("Deliver", s.deliver)
	t.Run("Order", s.order)
	t.Run("OneAtATime", s.oneAtATime)
	t.Run("Topics", s.topics)
	t.Run("Tuples", s.tuples)
	t.Run("Data", s.data)
	t.Run("Unsubscribe", s.unsubscribe)
	t.Run("UnsubscribeWaits", s.unsubscribeWaits)
	t.Run("UnsubscribeWithin", s.unsubscribeWithin)
	t.Run("Resubscribe", s.resubscribe)
	t.Run("Close", s.close)
	t.Run("CloseWithin", s.closeWithin)
	t.Run("Context", s.context)
	t.Run("Concurrency", s.concurrency)
}

// RunCluster is Run for a Broker that connects servers: those that newBroker makes must reach each other. It also tests
// between servers.
func RunCluster(t *testing.T, newBroker func(t *testing.T) pubsub.Broker) {
	Run(t, newBroker)
	s := suite{newBroker}
	t.Run("ClusterDeliver", s.clusterDeliver)
	t.Run("ClusterOrder", s.clusterOrder)
	t.Run("ClusterTopics", s.clusterTopics)
	t.Run("ClusterTuples", s.clusterTuples)
	t.Run("ClusterJoin", s.clusterJoin)
	t.Run("ClusterClose", s.clusterClose)
}

type suite struct {
	newBroker func(t *testing.T) pubsub.Broker
}

// broker makes a Broker that is closed when the test ends.
func (s suite) broker(t *testing.T) pubsub.Broker {
	t.Helper()
	b := s.newBroker(t)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b
}

func topic() string { return "pubsubtest/" + rand.Text() }

// An inbox collects what a subscription delivers.
type inbox struct {
	t  *testing.T
	ch chan []byte
}

// subscribe subscribes an inbox. A message lost is an error: the suite cuts no connection.
func subscribe(t *testing.T, b pubsub.Broker, topic string) (in inbox, unsubscribe func()) {
	t.Helper()
	in = inbox{t, make(chan []byte, 2_000)}
	unsubscribe, err := b.Subscribe(t.Context(), topic,
		func(data []byte) { in.ch <- data },
		func() { t.Errorf("messages of %q were lost", short(topic)) })
	if err != nil {
		t.Fatalf("Subscribe(%q): %v", short(topic), err)
	}
	return in, unsubscribe
}

func publish(t *testing.T, b pubsub.Broker, topic string, data string) {
	t.Helper()
	if err := b.Publish(t.Context(), topic, []byte(data)); err != nil {
		t.Errorf("Publish(%q): %v", short(topic), err)
	}
}

// next waits for a message.
func (in inbox) next() string {
	in.t.Helper()
	select {
	case data := <-in.ch:
		return string(data)
	case <-time.After(patience):
		in.t.Fatal("no message came")
		return ""
	}
}

// want waits for exactly these messages, in this order.
func (in inbox) want(messages ...string) {
	in.t.Helper()
	for i, want := range messages {
		if got := in.next(); got != want {
			in.t.Fatalf("message %d is %q, want %q", i, short(got), short(want))
		}
	}
	in.empty()
}

// empty checks that nothing more is here. A message that should not exist is overtaken by none published later to the same
// topic, so a test publishes one more, and waits for it, to be sure.
func (in inbox) empty() {
	in.t.Helper()
	select {
	case data := <-in.ch:
		in.t.Errorf("unexpected message %q", short(string(data)))
	default:
	}
}

func short(s string) string { return s[:min(len(s), 40)] }

// wait waits for a channel to be closed.
func wait(t *testing.T, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		t.Fatal("timeout: " + what)
	}
}

func (s suite) deliver(t *testing.T) {
	b := s.broker(t)
	name := topic()
	publish(t, b, name, "nobody is there")
	first, _ := subscribe(t, b, name)
	second, _ := subscribe(t, b, name)
	other, _ := subscribe(t, b, topic())
	publish(t, b, name, "a")
	publish(t, b, name, "")
	publish(t, b, name, "c")
	first.want("a", "", "c")
	second.want("a", "", "c")
	other.empty()
}

// order has concurrent publishers, each of which must find its own order.
func (s suite) order(t *testing.T) { order(t, []pubsub.Broker{s.broker(t)}) }

func order(t *testing.T, brokers []pubsub.Broker) {
	const publishers, each = 8, 200
	name := topic()
	var inboxes []inbox
	for _, b := range brokers {
		in, _ := subscribe(t, b, name)
		inboxes = append(inboxes, in)
	}
	var wg sync.WaitGroup
	for id := range publishers {
		wg.Go(func() {
			for i := range each {
				data := binary.BigEndian.AppendUint32([]byte{byte(id)}, uint32(i))
				if err := brokers[id%len(brokers)].Publish(t.Context(), name, data); err != nil {
					t.Errorf("Publish: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for _, in := range inboxes {
		var due [publishers]uint32
		for range publishers * each {
			data := []byte(in.next())
			if i := binary.BigEndian.Uint32(data[1:]); i != due[data[0]] {
				t.Fatalf("publisher %d: message %d came when %d was due", data[0], i, due[data[0]])
			}
			due[data[0]]++
		}
		in.empty()
	}
}

func (s suite) oneAtATime(t *testing.T) {
	const publishers, each = 8, 50
	b := s.broker(t)
	name := topic()
	var running, count atomic.Int32
	done := make(chan struct{})
	plain := 0 // for the race detector
	_, err := b.Subscribe(t.Context(), name, func([]byte) {
		if running.Add(1) != 1 {
			t.Error("two calls of deliver at once")
		}
		plain++
		time.Sleep(10 * time.Microsecond)
		running.Add(-1)
		if count.Add(1) == publishers*each {
			close(done)
		}
	}, func() { t.Error("messages were lost") })
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			for range each {
				publish(t, b, name, "x")
			}
		})
	}
	wg.Wait()
	wait(t, done, "not all messages came")
	if plain != publishers*each {
		t.Errorf("%d calls, want %d", plain, publishers*each)
	}
}

// hostile are topics that a naive driver confuses: wildcards, separators, case, bytes that text cannot hold.
var hostile = []string{
	"", " ", "\x00", "\x00\x00", "a", "A", "a.b", "a.*", "a.>", "*", ">", "?", "[a]", "a?b",
	"a/b", "a:b", "a b", "a\x00b", "a\nb", "a\r\nb",
	".", "..", "a.", ".a", "a..b", "_INBOX.>", "$SYS.>", "é", "e\u0301", "\u202e", "\xff",
	"\xff\xfe", "\xed\xa0\x80", "=", "YQ", "YQ==", "61",
	strings.Repeat("k", 1024), strings.Repeat("k", 1023), strings.Repeat("k", 1023) + "l", strings.Repeat("\xfe", 1024),
}

func (s suite) topics(t *testing.T) { b := s.broker(t); topics(t, b, b) }

// topics subscribes to all hostile topics and publishes each topic's own name to it.
func topics(t *testing.T, from, to pubsub.Broker) {
	inboxes := make([]inbox, len(hostile))
	for i, name := range hostile {
		inboxes[i], _ = subscribe(t, to, name)
	}
	for _, last := range []string{"", "+"} { // what crossed in the first round has come before the second's
		for _, name := range hostile {
			publish(t, from, name, name+last)
		}
	}
	for i, name := range hostile {
		inboxes[i].want(name, name+"+")
	}
}

// data has messages that are binary, large and kept.
func (s suite) data(t *testing.T) {
	b := s.broker(t)
	name := topic()
	in, _ := subscribe(t, b, name)
	large := make([]byte, 256<<10)
	rand.Read(large)
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	messages := []string{"", "\x00", "\r\n", "\xff", string(all), string(large)}
	for i := range 200 {
		messages = append(messages, fmt.Sprintf("%0200d", i))
	}
	for _, m := range messages {
		publish(t, b, name, m)
	}
	var kept [][]byte
	for range messages {
		select {
		case data := <-in.ch:
			kept = append(kept, data)
		case <-time.After(patience):
			t.Fatal("no message came")
		}
	}
	// Compared when all are here: a driver that reuses a buffer has overwritten the early ones.
	for i, want := range messages {
		if string(kept[i]) != want {
			t.Errorf("message %d is %q, want %q", i, short(string(kept[i])), short(want))
		}
	}
}

func (s suite) unsubscribe(t *testing.T) {
	b := s.broker(t)
	name := topic()
	gone, unsubscribe := subscribe(t, b, name)
	stays, _ := subscribe(t, b, name)
	publish(t, b, name, "a")
	stays.want("a")
	gone.want("a")
	unsubscribe()
	publish(t, b, name, "b")
	stays.want("b")
	unsubscribe()
	publish(t, b, name, "c")
	stays.want("c")
	gone.empty()
}

// unsubscribeWaits publishes all the time: no call may run after unsubscribe returned.
func (s suite) unsubscribeWaits(t *testing.T) {
	b := s.broker(t)
	stop := make(chan struct{})
	name := topic()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Microsecond):
				publish(t, b, name, "x")
			}
		}
	})
	for range 30 {
		var over atomic.Bool
		started := make(chan struct{})
		var once sync.Once
		unsubscribe, err := b.Subscribe(t.Context(), name, func([]byte) {
			once.Do(func() { close(started) })
			time.Sleep(100 * time.Microsecond)
			if over.Load() {
				t.Error("deliver ran after unsubscribe returned")
			}
		}, func() {})
		if err != nil {
			t.Fatalf("Subscribe: %v", err)
		}
		wait(t, started, "no message came")
		unsubscribe()
		over.Store(true)
	}
}

// unsubscribeWithin ends a subscription, and another one, from within deliver.
func (s suite) unsubscribeWithin(t *testing.T) {
	b := s.broker(t)
	name := topic()
	other, unsubscribeOther := subscribe(t, b, topic())
	stays, _ := subscribe(t, b, name)
	var calls atomic.Int32
	done := make(chan struct{})
	ready := make(chan func(), 1)
	unsubscribe, err := b.Subscribe(t.Context(), name, func([]byte) {
		calls.Add(1)
		(<-ready)()
		unsubscribeOther()
		close(done)
	}, func() {})
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	ready <- unsubscribe
	publish(t, b, name, "a")
	wait(t, done, "unsubscribe waits for the call that it is in")
	publish(t, b, name, "b")
	stays.want("a", "b")
	// From elsewhere, it returns when the call has ended.
	unsubscribe()
	publish(t, b, name, "c")
	stays.want("c")
	if calls.Load() != 1 {
		t.Errorf("%d calls, want 1", calls.Load())
	}
	other.empty()
}

// resubscribe comes and goes: what is published while a subscription is in force comes once.
func (s suite) resubscribe(t *testing.T) {
	b := s.broker(t)
	name := topic()
	for i := range 50 {
		in, unsubscribe := subscribe(t, b, name)
		message := fmt.Sprint(i)
		publish(t, b, name, message)
		in.want(message)
		unsubscribe()
		in.empty()
	}
}

func (s suite) close(t *testing.T) {
	b := s.broker(t)
	name := topic()
	in, unsubscribe := subscribe(t, b, name)
	publish(t, b, name, "a")
	in.want("a")
	for range 2 {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := b.Publish(t.Context(), name, []byte("b")); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("Publish after Close: error %v, want ErrClosed", err)
	}
	if _, err := b.Subscribe(t.Context(), name, func([]byte) {}, func() {}); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("Subscribe after Close: error %v, want ErrClosed", err)
	}
	unsubscribe()
	in.empty()
}

func (s suite) closeWithin(t *testing.T) {
	b := s.broker(t)
	name := topic()
	done := make(chan struct{})
	var once sync.Once
	_, err := b.Subscribe(t.Context(), name, func([]byte) {
		_ = b.Close() // its error is checked where the test ends
		once.Do(func() { close(done) })
	}, func() {})
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	publish(t, b, name, "a")
	wait(t, done, "Close waits for the call that it is in")
}

func (s suite) context(t *testing.T) {
	b := s.broker(t)
	name := topic()
	canceled, cancel := context.WithCancel(t.Context())
	in := inbox{t, make(chan []byte, 10)}
	_, err := b.Subscribe(canceled, name, func(data []byte) { in.ch <- data }, func() {})
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	cancel()
	publish(t, b, name, "the subscription outlives its context")
	in.want("the subscription outlives its context")

	if err := b.Publish(canceled, name, []byte("never")); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish: error %v, want the context's", err)
	}
	_, err = b.Subscribe(canceled, name, func([]byte) { t.Error("a subscription that failed got a message") }, func() {})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Subscribe: error %v, want the context's", err)
	}
	publish(t, b, name, "last")
	in.want("last")
}

// concurrency does everything at once, then closes. The race detector and the deadline are the judges, and that no
// subscription got another topic's message or anything after its end.
func (s suite) concurrency(t *testing.T) {
	b := s.broker(t)
	names := []string{topic(), topic(), topic()}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				name := names[(i+j)%len(names)]
				var over atomic.Bool
				unsubscribe, err := b.Subscribe(t.Context(), name, func(data []byte) {
					if over.Load() || string(data) != name {
						t.Errorf("%q got %q, after its end: %t", name, data, over.Load())
					}
				}, func() {})
				if err != nil {
					t.Errorf("Subscribe: %v", err)
					return
				}
				publish(t, b, names[j%len(names)], names[j%len(names)])
				unsubscribe()
				over.Store(true)
			}
		})
	}
	wg.Wait()
	var closed sync.WaitGroup
	for range 4 {
		closed.Go(func() {
			if err := b.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		wg.Go(func() {
			for failed := 0; ; {
				err := b.Publish(t.Context(), names[0], nil)
				if errors.Is(err, pubsub.ErrClosed) {
					return
				}
				if err != nil {
					failed++ // it was under way
				}
				if failed > 1 {
					t.Errorf("Publish: error %v, want ErrClosed", err)
					return
				}
			}
		})
	}
	closed.Wait()
	wg.Wait()
}

// servers makes several Brokers.
func (s suite) servers(t *testing.T) []pubsub.Broker {
	t.Helper()
	return []pubsub.Broker{s.broker(t), s.broker(t), s.broker(t)}
}

func (s suite) clusterDeliver(t *testing.T) {
	brokers := s.servers(t)
	name := topic()
	var inboxes []inbox
	for _, b := range brokers {
		in, _ := subscribe(t, b, name)
		inboxes = append(inboxes, in)
	}
	for i, b := range brokers {
		message := fmt.Sprintf("from server %d", i)
		publish(t, b, name, message)
		for _, in := range inboxes {
			in.want(message)
		}
	}
}

func (s suite) clusterOrder(t *testing.T) { order(t, s.servers(t)) }

func (s suite) clusterTopics(t *testing.T) {
	brokers := s.servers(t)
	topics(t, brokers[0], brokers[1])
}

// clusterJoin publishes on one server as soon as another has subscribed: the message must come.
func (s suite) clusterJoin(t *testing.T) {
	brokers := s.servers(t)
	for i := range 300 {
		name := topic()
		in, unsubscribe := subscribe(t, brokers[i%len(brokers)], name)
		publish(t, brokers[(i+1)%len(brokers)], name, "a")
		in.want("a")
		unsubscribe()
	}
}

// clusterClose closes one server: the others go on.
func (s suite) clusterClose(t *testing.T) {
	brokers := s.servers(t)
	name := topic()
	gone, _ := subscribe(t, brokers[0], name)
	stays, _ := subscribe(t, brokers[1], name)
	if err := brokers[0].Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for _, b := range slices.Backward(brokers[1:]) {
		publish(t, b, name, "a")
		stays.want("a")
	}
	gone.empty()
}
