package registry_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mooncore/mooncore/registry"
)

func TestWatch(t *testing.T) {
	var calls []string
	p := registry.NewPool[string](registry.Options{
		OnFirst: func(tenant string, ch registry.Channel) { calls = append(calls, "+"+tenant+"/"+ch.Name) },
		OnLast:  func(tenant string, ch registry.Channel) { calls = append(calls, "-"+tenant+"/"+ch.Name) },
	})
	a, b := p.Add("t", "a"), p.Add("t", "b")
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"first", func() { a.Join(room("x"), 0) }, []string{"+t/x"}},
		{"second", func() { b.Join(room("x"), 0) }, nil},
		{"refused", func() { b.Join(room("y"), 1) }, nil},
		{"first leaves", func() { a.Leave(room("x")) }, nil},
		{"last leaves", func() { b.Leave(room("x")) }, []string{"-t/x"}},
		{"back", func() { b.Join(room("x"), 0) }, []string{"+t/x"}},
		{"move", func() { b.Move("u", nil) }, []string{"-t/x"}},
		{"same name, other tenant", func() { b.Join(room("x"), 0); b.Join(room("y"), 0) }, []string{"+u/x", "+u/y"}},
		{"remove", func() { b.Remove() }, []string{"-u/x", "-u/y"}},
		{"remove without channels", func() { a.Remove() }, nil},
	} {
		calls = nil
		step.do()
		if !slices.Equal(calls, step.want) {
			t.Errorf("%s: calls %q, want %q", step.name, calls, step.want)
		}
	}
	if !p.Empty() {
		t.Error("something is left")
	}
}

// TestWatchHoldsNoPublish publishes to the channel, and reads, from within OnFirst and OnLast: neither may hold a lock of theirs.
func TestWatchHoldsNoPublish(t *testing.T) {
	var p *registry.Pool[string]
	var m *registry.Member[string]
	var calls int
	watch := func(tenant string, ch registry.Channel) {
		calls++
		if got := receivers(t, p, tenant, ch, room("other")); !slices.Equal(got, []string{"other"}) {
			t.Errorf("receivers = %q, want the other channel's alone", got)
		}
		if len(p.Members(tenant, ch)) != 0 || slices.Contains(m.Channels(), ch) || p.TenantLen(tenant) != 2 {
			t.Error("the member is in the channel")
		}
	}
	opts := registry.Options{
		OnFirst: func(tenant string, ch registry.Channel) {
			if ch != room("other") {
				watch(tenant, ch)
			}
		},
		OnLast: watch,
	}
	p = registry.NewPool[string](opts)
	m = p.Add("t", "m")
	p.Add("t", "other").Join(room("other"), 0)
	m.Join(room("x"), 0)
	m.Leave(room("x"))
	if calls != 2 {
		t.Errorf("%d calls, want 2", calls)
	}
}

// TestJoinWaitsForOnFirst has many join at once: none may return before the one OnFirst has.
func TestJoinWaitsForOnFirst(t *testing.T) {
	for range 100 {
		var firsts atomic.Int32
		var ready atomic.Bool
		hold := make(chan struct{})
		p := registry.NewPool[int](registry.Options{OnFirst: func(string, registry.Channel) {
			firsts.Add(1)
			<-hold
			ready.Store(true)
		}})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if joined, ok := p.Add("t", i).Join(room("x"), 0); !joined || !ok || !ready.Load() {
					t.Errorf("Join = %t, %t; OnFirst returned: %t", joined, ok, ready.Load())
				}
			})
		}
		close(hold)
		wg.Wait()
		if firsts.Load() != 1 || len(p.Members("t", room("x"))) != 8 {
			t.Fatalf("%d calls of OnFirst, %d members; want 1, 8", firsts.Load(), len(p.Members("t", room("x"))))
		}
	}
}
