package bus_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/bus"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// An engine records what it is asked.
type engine struct {
	mu    sync.Mutex
	calls []string
	err   error
	delay time.Duration
}

func (e *engine) open(ctx context.Context, name string) error {
	select {
	case <-time.After(e.delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, "+"+name)
	return e.err
}

func (e *engine) shut(name string) {
	time.Sleep(e.delay)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, "-"+name)
}

func (e *engine) want(t *testing.T, calls ...string) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Equal(e.calls, calls) {
		t.Errorf("the engine was asked %q, want %q", e.calls, calls)
	}
	e.calls = nil
}

func ignore([]byte) {}
func nothing()      {}

func TestTopicsAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{delay: time.Second}
		topics := bus.NewTopics(e.open, e.shut)
		var ends [3]func()
		var wg sync.WaitGroup
		for i := range ends {
			wg.Go(func() {
				end, err := topics.Subscribe(t.Context(), "x", ignore, nothing)
				if err != nil {
					t.Error(err)
				}
				ends[i] = end
			})
		}
		wg.Wait()
		e.want(t, "+x")
		ends[0]()
		ends[0]()
		ends[1]()
		e.want(t)
		// The last one leaves, and another comes meanwhile: it waits, and subscribes anew.
		wg.Go(ends[2])
		synctest.Wait()
		end, err := topics.Subscribe(t.Context(), "x", ignore, nothing)
		if err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		e.want(t, "-x", "+x")
		end()
		e.want(t, "-x")
		if topics.Len() != 0 {
			t.Errorf("%d topics are left", topics.Len())
		}
	})
}

func TestTopicsOpenFails(t *testing.T) {
	e := &engine{err: errors.New("away")}
	topics := bus.NewTopics(e.open, e.shut)
	if _, err := topics.Subscribe(t.Context(), "x", ignore, nothing); !errors.Is(err, e.err) {
		t.Errorf("error %v, want the engine's", err)
	}
	e.want(t, "+x") // and no "-x", since it was never open
	if topics.Len() != 0 {
		t.Errorf("%d topics are left", topics.Len())
	}
}

func TestTopicsLost(t *testing.T) {
	e := new(engine)
	topics := bus.NewTopics(e.open, e.shut)
	var told []string
	for _, name := range []string{"x", "x", "y"} {
		if _, err := topics.Subscribe(t.Context(), name, ignore, func() { told = append(told, name) }); err != nil {
			t.Fatal(err)
		}
	}
	topics.Lost("x")
	topics.Lost("z")
	topics.LostAll()
	slices.Sort(told)
	if want := []string{"x", "x", "x", "x", "y"}; !slices.Equal(told, want) || topics.Losses() != 5 {
		t.Errorf("told %q, want %q; %d losses", told, want, topics.Losses())
	}
	topics.Close()
	topics.LostAll()
	if len(told) != 5 {
		t.Error("told after Close")
	}
	if _, err := topics.Subscribe(t.Context(), "x", ignore, nothing); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}

// TestBatch has callers share runs: each gets the result of one that began after its call.
func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		b := bus.NewBatch(func() error {
			n := runs.Add(1)
			time.Sleep(time.Second)
			if n == 2 {
				return errors.New("the second")
			}
			return nil
		})
		start := time.Now()
		var wg sync.WaitGroup
		call := func(after time.Duration, fails bool) {
			wg.Go(func() {
				err := b.Do(t.Context())
				if (err != nil) != fails || time.Since(start) != after {
					t.Errorf("error %v after %v, want one: %t, after %v", err, time.Since(start), fails, after)
				}
			})
			synctest.Wait()
		}
		call(time.Second, false)
		call(2*time.Second, true) // the first run had begun
		call(2*time.Second, true)
		wg.Wait()
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Do(canceled); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want the context's", err)
		}
		b.Close()
		if err := b.Do(t.Context()); !errors.Is(err, pubsub.ErrClosed) {
			t.Errorf("error %v, want ErrClosed", err)
		}
		b.Wait()
		if n := runs.Load(); n != 3 {
			t.Errorf("%d runs, want 3", n)
		}
	})
}

func TestLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bus.NewLink()
		done := make(chan struct{})
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Wait(short, done); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait while away: error %v", err)
		}
		cuts := l.Cuts()
		l.Down()
		if l.Up(cuts) || l.IsUp() {
			t.Error("up, though it went down meanwhile")
		}
		waiting := make(chan error, 1)
		go func() { waiting <- l.Wait(t.Context(), done) }()
		if !l.Up(l.Cuts()) || !l.IsUp() {
			t.Error("not up")
		}
		if err := <-waiting; err != nil {
			t.Errorf("Wait: %v", err)
		}
		time.Sleep(3 * time.Second)
		if got := l.Silent(); got != 3*time.Second {
			t.Errorf("silent for %v, want 3s", got)
		}
		l.Probed(time.Now().Add(-time.Millisecond))
		time.Sleep(time.Second)
		state := l.State()
		if l.Silent() != time.Second || state.RoundTrip != time.Millisecond || state.Reconnects != 0 || time.Since(state.Since) != 4*time.Second {
			t.Errorf("silent for %v, state %+v", l.Silent(), state)
		}
		l.Down()
		if l.Silent() != 0 {
			t.Error("silent while away")
		}
		l.Up(l.Cuts())
		if n := l.State().Reconnects; n != 1 {
			t.Errorf("%d reconnects, want 1", n)
		}
		l.Down()
		close(done)
		if err := l.Wait(t.Context(), done); !errors.Is(err, pubsub.ErrClosed) {
			t.Errorf("Wait: error %v, want ErrClosed", err)
		}
	})
}

func TestLinkWaitAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, done := bus.NewLink(), make(chan struct{})
		l.Up(l.Cuts())
		start := time.Now()
		if err := l.WaitAgain(t.Context(), done, 1); err != nil || time.Since(start) == 0 {
			t.Errorf("while it seems up: error %v after %v, want none after some time", err, time.Since(start))
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		l.Down()
		if err := l.WaitAgain(short, done, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while away: error %v, want the context's", err)
		}
		close(done)
		if err := l.WaitAgain(t.Context(), done, 1); !errors.Is(err, pubsub.ErrClosed) {
			t.Errorf("at the end: error %v, want ErrClosed", err)
		}
	})
}

func TestBackoff(t *testing.T) {
	for _, tt := range []struct {
		attempt int
		most    time.Duration
	}{{0, 50 * time.Millisecond}, {1, 50 * time.Millisecond}, {4, 400 * time.Millisecond}, {6, 2 * time.Second}, {1 << 30, 2 * time.Second}} {
		seen := map[time.Duration]bool{}
		for range 100 {
			d := bus.Backoff(tt.attempt)
			if d <= 0 || d > tt.most+time.Millisecond {
				t.Errorf("attempt %d: %v, want up to %v", tt.attempt, d, tt.most)
			}
			seen[d] = true
		}
		if len(seen) < 50 {
			t.Errorf("attempt %d: %d different delays of 100", tt.attempt, len(seen))
		}
	}
}
