package pubsubtest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// A recorder is the test that a check fails, in a test of the check.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	faults []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Error(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }
func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.faults) > 0
}

// judge runs a check in fake time on servers that newServer makes, and returns what it found.
func judge(t *testing.T, name string, servers int, newServer func() pubsub.Log) (faults []string) {
	t.Helper()
	i := slices.IndexFunc(logChecks, func(c logCheck) bool { return c.name == name })
	if i < 0 {
		t.Fatalf("there is no check %q", name)
	}
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			logChecks[i].run(newLogSuite(r, newServer, servers))
		}()
		<-done
		r.mu.Lock()
		defer r.mu.Unlock()
		faults = r.faults
	})
	return faults
}

// inBubble sleeps by the clock of judge, which costs no time.
func inBubble(d time.Duration) { time.Sleep(d) }

// TestLogChecksPass runs the checks, as the defects do, without any.
func TestLogChecksPass(t *testing.T) {
	for _, check := range logChecks {
		for _, servers := range []int{1, 3} {
			medium := new(*pubsub.Local)
			if faults := judge(t, check.name, servers, newMedium(medium)); faults != nil {
				t.Errorf("%s with %d servers: %q", check.name, servers, faults)
			}
		}
	}
}

// newMedium makes servers on one medium, which it makes with the first.
func newMedium(medium **pubsub.Local) func() pubsub.Log {
	return func() pubsub.Log {
		if *medium == nil {
			*medium = pubsub.NewLocal()
		}
		return newServer(*medium)
	}
}

// A faulty server has one defect. A hook that is nil leaves things as they are.
type faulty struct {
	pubsub.Log
	state *state // of all servers

	topic   func(topic string) string // in place of a topic
	append  func(f *faulty, ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error)
	read    func(f *faulty, ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error)
	page    func(p *pubsub.Page, after uint64)                     // changes what Read returns
	keep    func(keep pubsub.Keep) pubsub.Keep                     // in place of a Keep
	deliver func(f *faulty, topic string, e pubsub.Entry) [][]byte // what comes in place of an Entry
	late    time.Duration                                          // a subscription is in force so much later
	replay  bool                                                   // a subscription begins with the last entry
	stays   bool                                                   // it does not end
	closing func(f *faulty) error                                  // in place of Close
}

// A state is what a defect remembers.
type state struct {
	mu     sync.Mutex
	n      int
	buffer []byte
	held   []byte
	times  map[string]time.Time
	gen    map[string]int
}

func (f *faulty) named(topic string) string {
	if f.topic == nil {
		return topic
	}
	return f.topic(topic)
}

func (f *faulty) Append(ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
	if f.keep != nil {
		keep = f.keep(keep)
	}
	if f.append != nil {
		return f.append(f, ctx, topic, data, keep)
	}
	return f.Log.Append(ctx, f.named(topic), data, keep)
}

func (f *faulty) Read(ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
	if f.keep != nil {
		keep = f.keep(keep)
	}
	if f.read != nil {
		return f.read(f, ctx, topic, after, maxBytes, keep)
	}
	page, err := f.Log.Read(ctx, f.named(topic), after, maxBytes, keep)
	if f.page != nil {
		f.page(&page, after)
	}
	return page, err
}

func (f *faulty) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	to := func(data []byte) {
		if f.deliver == nil {
			deliver(data)
			return
		}
		e, err := pubsub.ParseEntry(data)
		if err != nil {
			panic(err)
		}
		f.state.mu.Lock()
		defer f.state.mu.Unlock()
		for _, data := range f.deliver(f, topic, e) {
			deliver(data)
		}
	}
	if f.late > 0 {
		time.AfterFunc(f.late, func() { f.Log.Subscribe(ctx, f.named(topic), to, lost) })
		return func() {}, nil
	}
	if f.replay {
		if page, err := f.Log.Read(ctx, f.named(topic), 0, 1<<20, keepAll); err == nil && len(page.Entries) > 0 {
			deliver(pubsub.AppendEntry(nil, page.Entries[len(page.Entries)-1]))
		}
	}
	unsubscribe, err := f.Log.Subscribe(ctx, f.named(topic), to, lost)
	if f.stays {
		return func() {}, err
	}
	return unsubscribe, err
}

func (f *faulty) Close() error {
	if f.closing != nil {
		return f.closing(f)
	}
	return f.Log.Close()
}

func as(entries ...pubsub.Entry) (messages [][]byte) {
	for _, e := range entries {
		messages = append(messages, pubsub.AppendEntry(nil, e))
	}
	return messages
}

// nth counts, and reports whether it came to a multiple of n.
func (s *state) nth(n int) bool {
	s.n++
	return s.n%n == 0
}

// rename has Append and Read, and what is delivered, speak of other epochs than the Log does.
func rename(f faulty, epoch func(topic, epoch string) string) faulty {
	f.append = func(f *faulty, ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
		at, err := f.Log.Append(ctx, f.named(topic), data, keep)
		at.Epoch = epoch(topic, at.Epoch)
		return at, err
	}
	f.read = func(f *faulty, ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
		page, err := f.Log.Read(ctx, f.named(topic), after, maxBytes, keep)
		page.Top.Epoch = epoch(topic, page.Top.Epoch)
		for i := range page.Entries {
			page.Entries[i].Epoch = page.Top.Epoch
		}
		return page, err
	}
	f.deliver = func(_ *faulty, topic string, e pubsub.Entry) [][]byte {
		e.Epoch = epoch(topic, e.Epoch)
		return as(e)
	}
	return f
}

// again has a topic begin anew where begin says so.
func again(begin func(s *state, topic string, page pubsub.Page, keep pubsub.Keep, appends bool) bool) faulty {
	var f faulty
	turn := func(f *faulty, ctx context.Context, topic string, keep pubsub.Keep, appends bool) string {
		f.state.mu.Lock()
		defer f.state.mu.Unlock()
		inner := fmt.Sprint(topic, f.state.gen[topic])
		page, err := f.Log.Read(ctx, inner, 0, 1<<20, keep)
		if err == nil && begin(f.state, topic, page, keep, appends) {
			f.state.gen[topic]++
			inner = fmt.Sprint(topic, f.state.gen[topic])
		}
		return inner
	}
	f.append = func(f *faulty, ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
		return f.Log.Append(ctx, turn(f, ctx, topic, keep, true), data, keep)
	}
	f.read = func(f *faulty, ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
		return f.Log.Read(ctx, turn(f, ctx, topic, keep, false), after, maxBytes, keep)
	}
	return f
}

// since reports whether a topic was first seen longer ago than d.
func (s *state) since(topic string, d time.Duration) bool {
	if s.times[topic].IsZero() {
		s.times[topic] = time.Now()
	}
	over := time.Since(s.times[topic]) > d
	if over {
		s.times[topic] = time.Now()
	}
	return over
}
