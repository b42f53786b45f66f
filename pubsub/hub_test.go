package pubsub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// A slowBroker is a Local that records the subscriptions in force, and takes its time.
type slowBroker struct {
	*pubsub.Local
	delay time.Duration
	err   error // Subscribe's

	mu    sync.Mutex
	calls []string
	lost  map[string]func()
}

func newSlowBroker(delay time.Duration) *slowBroker {
	return &slowBroker{Local: pubsub.NewLocal(), delay: delay, lost: make(map[string]func())}
}

func (b *slowBroker) call(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, s)
}

func (b *slowBroker) takeCalls() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

func (b *slowBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	select {
	case <-time.After(b.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b.err != nil {
		return nil, b.err
	}
	unsubscribe, err := b.Local.Subscribe(ctx, topic, deliver, lost)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost[topic] != nil {
		return nil, fmt.Errorf("%q has two subscriptions at once", topic)
	}
	b.lost[topic] = lost
	b.calls = append(b.calls, "+"+topic)
	return func() {
		time.Sleep(b.delay)
		unsubscribe()
		b.mu.Lock()
		delete(b.lost, topic)
		b.mu.Unlock()
		b.call("-" + topic)
	}, nil
}

func TestHubCounts(t *testing.T) {
	b := newSlowBroker(0)
	var got []string
	h := pubsub.NewHub(b, pubsub.HubOptions{
		Deliver: func(topic string, data []byte) { got = append(got, topic+"="+string(data)) },
		Lost:    func(topic string) { got = append(got, topic+" lost") },
	})
	defer h.Close()
	hold := func(topic string) {
		if err := h.Hold(t.Context(), topic); err != nil {
			t.Errorf("Hold(%q): %v", topic, err)
		}
	}
	for _, step := range []struct {
		name       string
		do         func()
		calls, got []string
	}{
		{"release what is not held", func() { h.Release("x") }, nil, nil},
		{"hold", func() { hold("x") }, []string{"+x"}, []string{"x=1"}},
		{"hold again", func() { hold("x") }, nil, []string{"x=1"}},
		{"hold the empty topic", func() { hold("") }, []string{"+"}, []string{"x=1", "=2"}},
		{"release once", func() { h.Release("x") }, nil, []string{"x=1", "=2"}},
		{"lost", func() { b.lost["x"]() }, nil, []string{"x lost", "x=1", "=2"}},
		{"release twice", func() { h.Release("x") }, []string{"-x"}, []string{"=2"}},
		{"release too often", func() { h.Release("x") }, nil, []string{"=2"}},
		{"hold after release", func() { hold("x") }, []string{"+x"}, []string{"x=1", "=2"}},
	} {
		got = nil
		step.do()
		for topic, data := range map[string]string{"x": "1"} {
			if err := h.Publish(t.Context(), topic, []byte(data)); err != nil {
				t.Errorf("Publish: %v", err)
			}
		}
		if err := h.Publish(t.Context(), "", []byte("2")); err != nil {
			t.Errorf("Publish: %v", err)
		}
		if calls := b.takeCalls(); !slices.Equal(calls, step.calls) || !slices.Equal(got, step.got) {
			t.Errorf("%s: calls %q, want %q; got %q, want %q", step.name, calls, step.calls, got, step.got)
		}
	}
}

func TestHubHoldFails(t *testing.T) {
	b := newSlowBroker(0)
	h := pubsub.NewHub(b, pubsub.HubOptions{Deliver: func(string, []byte) {}})
	defer h.Close()
	b.err = errors.New("away")
	if err := h.Hold(t.Context(), "x"); !errors.Is(err, b.err) {
		t.Errorf("Hold: error %v, want the broker's", err)
	}
	h.Release("x") // is not held: must not count
	b.err = nil
	if err := h.Hold(t.Context(), "x"); err != nil {
		t.Errorf("Hold: %v", err)
	}
	h.Release("x")
	if calls, want := b.takeCalls(), []string{"+x", "-x"}; !slices.Equal(calls, want) {
		t.Errorf("calls %q, want %q", calls, want)
	}
}

// TestHubHoldWaits has a second Hold wait for the first one's subscription, and give up alone.
func TestHubHoldWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSlowBroker(time.Minute)
		h := pubsub.NewHub(b, pubsub.HubOptions{Deliver: func(string, []byte) {}})
		defer h.Close()
		start := time.Now()
		var wg sync.WaitGroup
		for _, tt := range []struct {
			patience, took time.Duration
			err            error
		}{
			{2 * time.Minute, time.Minute, nil},
			{2 * time.Minute, time.Minute, nil},
			{time.Second, time.Second, context.DeadlineExceeded},
		} {
			synctest.Wait()
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
				defer cancel()
				err := h.Hold(ctx, "x")
				if took := time.Since(start); !errors.Is(err, tt.err) || took != tt.took {
					t.Errorf("Hold returned after %v with error %v, want %v, %v", took, err, tt.took, tt.err)
				}
			})
		}
		wg.Wait()
		// A Hold while the broker unsubscribes waits for that, then for its own subscription.
		h.Release("x")
		start = time.Now()
		wg.Go(func() { h.Release("x") })
		synctest.Wait()
		if err := h.Hold(t.Context(), "x"); err != nil || time.Since(start) != 2*time.Minute {
			t.Errorf("Hold returned after %v with error %v, want 2m", time.Since(start), err)
		}
		wg.Wait()
		h.Release("x")
		if calls, want := b.takeCalls(), []string{"+x", "-x", "+x", "-x"}; !slices.Equal(calls, want) {
			t.Errorf("calls %q, want %q", calls, want)
		}
	})
}

// TestHubReleaseWithin releases a topic from within its Deliver.
func TestHubReleaseWithin(t *testing.T) {
	var h *pubsub.Hub
	calls := 0
	h = pubsub.NewHub(pubsub.NewLocal(), pubsub.HubOptions{Deliver: func(topic string, _ []byte) {
		calls++
		h.Release(topic)
	}})
	defer h.Close()
	if err := h.Hold(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Publish(t.Context(), "x", nil); err != nil {
			t.Errorf("Publish: %v", err)
		}
	}
	if calls != 1 {
		t.Errorf("%d calls, want 1", calls)
	}
}

func TestHubRecovers(t *testing.T) {
	var log bytes.Buffer
	b := newSlowBroker(0)
	h := pubsub.NewHub(b, pubsub.HubOptions{
		Deliver: func(string, []byte) { panic("in deliver") },
		Lost:    func(string) { panic("in lost") },
		Logger:  slog.New(slog.NewTextHandler(&log, nil)),
	})
	defer h.Close()
	if err := h.Hold(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := h.Publish(t.Context(), "x", nil); err != nil {
		t.Errorf("Publish: %v", err)
	}
	b.lost["x"]()
	for _, want := range []string{"in deliver", "in lost", "topic=x"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
}

// TestHubModel holds, publishes and releases from many goroutines. What a goroutine publishes while it holds must come, once.
func TestHubModel(t *testing.T) {
	const workers, rounds = 8, 500
	b := newSlowBroker(0)
	var got sync.Map // message -> *atomic.Int32
	h := pubsub.NewHub(b, pubsub.HubOptions{Deliver: func(topic string, data []byte) {
		n, _ := got.LoadOrStore(string(data), new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		if !strings.HasPrefix(string(data), topic+"/") {
			t.Errorf("%q came as %q", data, topic)
		}
	}})
	defer h.Close()
	var wg sync.WaitGroup
	for id := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(id), 2))
			for i := range rounds {
				topic := fmt.Sprint(r.IntN(3))
				if err := h.Hold(t.Context(), topic); err != nil {
					t.Errorf("Hold: %v", err)
					return
				}
				message := fmt.Sprintf("%s/%d/%d", topic, id, i)
				if err := h.Publish(t.Context(), topic, []byte(message)); err != nil {
					t.Errorf("Publish: %v", err)
				}
				if n, ok := got.Load(message); !ok || n.(*atomic.Int32).Load() != 1 {
					t.Errorf("message %s did not come once", message)
				}
				h.Release(topic)
			}
		})
	}
	wg.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.lost) != 0 {
		t.Errorf("%d subscriptions are left", len(b.lost))
	}
}
