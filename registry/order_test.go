package registry_test

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mooncore/mooncore/registry"
)

// A recorder is a member's queue. The channel's lock is all that guards it, as the race detector checks.
type recorder struct{ events []int }

// TestOneOrder has publishers that share one channel and publish to others too. All members must see one order, and each
// publisher's own.
func TestOneOrder(t *testing.T) {
	const publishers, members, each = 100, 50, 20
	p := registry.NewPool[*recorder]()
	recorders := make([]*recorder, members)
	side := []registry.Channel{room("s0"), room("s1"), room("s2")}
	for i := range recorders {
		recorders[i] = new(recorder)
		m := p.Add("t", recorders[i])
		m.Join(side[i%3], 0)
		m.Join(room("shared"), 0)
		m.Join(side[(i+1)%3], 0)
	}
	var wg sync.WaitGroup
	for id := range publishers {
		wg.Go(func() {
			for i := range each {
				channels := []registry.Channel{side[(id+i)%3], room("shared"), side[id%3]}
				p.Publish("t", channels[i%2:], func(r *recorder) { r.events = append(r.events, id*each+i) })
			}
		})
	}
	wg.Wait()
	first := recorders[0].events
	if len(first) != publishers*each {
		t.Fatalf("%d events, want %d", len(first), publishers*each)
	}
	for i, r := range recorders {
		if !slices.Equal(r.events, first) {
			t.Errorf("member %d has another order than member 0", i)
		}
	}
	next := make([]int, publishers)
	for _, event := range first {
		if id := event / each; event%each != next[id] {
			t.Fatalf("publisher %d: event %d came when %d was due", id, event%each, next[id])
		} else {
			next[id]++
		}
	}
}

// TestLeaveWaits takes a member out during a publish: that must not return before the publish ended.
func TestLeaveWaits(t *testing.T) {
	for _, tt := range []struct {
		name string
		out  func(*registry.Member[string])
	}{
		{"Leave", func(m *registry.Member[string]) { m.Leave(room("x")) }},
		{"Move", func(m *registry.Member[string]) { m.Move("t", nil) }},
		{"Remove", func(m *registry.Member[string]) { m.Remove() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := registry.NewPool[string]()
			m := p.Add("t", "m")
			m.Join(room("x"), 0)
			p.Add("t", "other").Join(room("x"), 0)
			var publishing atomic.Bool
			var wg sync.WaitGroup
			first := true
			p.Publish("t", []registry.Channel{room("x")}, func(string) {
				if !first {
					publishing.Store(false)
					return
				}
				first = false
				publishing.Store(true)
				wg.Go(func() {
					tt.out(m)
					if publishing.Load() {
						t.Error("returned while a publish was in progress")
					}
				})
				for range 1000 {
					runtime.Gosched()
				}
			})
			wg.Wait()
			if got := receivers(t, p, "t", room("x")); !slices.Equal(got, []string{"other"}) {
				t.Errorf("receivers = %q afterwards", got)
			}
		})
	}
}

// TestJoinFuncFirst publishes all the time: what JoinFunc's function queues must come before the channel's first event.
func TestJoinFuncFirst(t *testing.T) {
	p := registry.NewPool[*recorder]()
	x := []registry.Channel{room("x")}
	p.Add("t", new(recorder)).Join(x[0], 0)
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			p.Publish("t", x, func(r *recorder) { r.events = append(r.events, 1) })
		}
	})
	for range 200 {
		r := new(recorder)
		m := p.Add("t", r)
		m.JoinFunc(x[0], 0, func(all []registry.Channel) {
			r.events = append(r.events, -len(all))
			runtime.Gosched()
		})
		p.Publish("t", x, func(r *recorder) { r.events = append(r.events, 2) })
		m.Remove()
		if r.events[0] != -1 || !slices.Contains(r.events, 2) {
			t.Fatalf("events %v: want -1 first, and 2, which was published after the join", r.events)
		}
	}
	stop.Store(true)
	wg.Wait()
}

// TestMoveAtOnce publishes to one channel after the other while a member moves out of both: the second must not arrive if the
// first did not.
func TestMoveAtOnce(t *testing.T) {
	p := registry.NewPool[*recorder]()
	a, b := room("a"), room("b")
	for i := range 500 {
		r := new(recorder)
		m := p.Add("t", r)
		// Either order of joining, so that neither order of leaving could pass.
		channels := []registry.Channel{a, b}
		m.Join(channels[i%2], 0)
		m.Join(channels[1-i%2], 0)
		var wg sync.WaitGroup
		wg.Go(func() {
			for n := range 20 {
				p.Publish("t", []registry.Channel{a}, func(r *recorder) { r.events = append(r.events, 2*n) })
				p.Publish("t", []registry.Channel{b}, func(r *recorder) { r.events = append(r.events, 2*n+1) })
			}
		})
		runtime.Gosched()
		m.Move("t", nil)
		wg.Wait()
		for n, event := range r.events {
			if n != event {
				t.Fatalf("events %v: one is missing", r.events)
			}
		}
		m.Remove()
	}
}

// TestPanic has deliver panic: the channels must be usable afterwards, and what was marked forgotten.
func TestPanic(t *testing.T) {
	p := registry.NewPool[string]()
	x, y := room("x"), room("y")
	m := p.Add("t", "m")
	m.Join(x, 0)
	m.Join(y, 0)
	for _, channels := range [][]registry.Channel{{x}, {x, y}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			p.Publish("t", channels, func(string) { panic("deliver") })
		}()
		if got := receivers(t, p, "t", channels...); len(got) != 1 {
			t.Errorf("receivers = %q after a panic", got)
		}
	}
	m.Remove()
}
