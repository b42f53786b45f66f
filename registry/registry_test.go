package registry_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/registry"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func room(name string) registry.Channel {
	return registry.Channel{Kind: 'r', Name: name, Scope: "default"}
}

// receivers publishes and returns to whom, sorted.
func receivers(t *testing.T, p *registry.Pool[string], tenant string, channels ...registry.Channel) []string {
	t.Helper()
	got := []string{}
	n := p.Publish(tenant, channels, func(v string) { got = append(got, v) })
	if n != len(got) {
		t.Errorf("Publish = %d after %d calls", n, len(got))
	}
	slices.Sort(got)
	return got
}

func TestPublishReaches(t *testing.T) {
	p := registry.NewPool[string]()
	add := func(name, tenant string, channels ...registry.Channel) {
		m := p.Add(tenant, name)
		for _, ch := range channels {
			if joined, ok := m.Join(ch, 0); !joined || !ok {
				t.Fatalf("%s: Join(%v) = %t, %t", name, ch, joined, ok)
			}
		}
	}
	user := registry.Channel{Kind: 'u', Name: "x"}
	add("a", "t", room("x"), room("y"), user)
	add("b", "t", room("x"))
	add("c", "t", room("y"), room("z"))
	add("d", "other", room("x"), user)
	add("e", "t", registry.Channel{Kind: 'r', Name: "x"})
	add("f", "t", registry.Channel{Kind: 'r', Name: "x:default"})
	add("g", "t")

	for _, tt := range []struct {
		name     string
		tenant   string
		channels []registry.Channel
		want     []string
	}{
		{"one channel", "t", []registry.Channel{room("x")}, []string{"a", "b"}},
		{"once in two channels", "t", []registry.Channel{room("x"), room("y")}, []string{"a", "b", "c"}},
		{"once in three channels", "t", []registry.Channel{room("z"), room("y"), room("x"), user}, []string{"a", "b", "c"}},
		{"once in a channel named twice", "t", []registry.Channel{room("x"), room("x")}, []string{"a", "b"}},
		{"kind is part of the name", "t", []registry.Channel{user}, []string{"a"}},
		{"scope is part of the name", "t", []registry.Channel{{Kind: 'r', Name: "x"}}, []string{"e"}},
		{"no concatenation", "t", []registry.Channel{{Kind: 'r', Name: "x:default"}}, []string{"f"}},
		{"other tenant", "other", []registry.Channel{room("x"), user, room("z")}, []string{"d"}},
		{"unknown channel", "t", []registry.Channel{room("none")}, []string{}},
		{"unknown beside a known one", "t", []registry.Channel{room("none"), room("z")}, []string{"c"}},
		{"unknown tenant", "none", []registry.Channel{room("x")}, []string{}},
		{"no channel", "t", nil, []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // what the first marked must not count in the second
				if got := receivers(t, p, tt.tenant, tt.channels...); !slices.Equal(got, tt.want) {
					t.Errorf("receivers = %q, want %q", got, tt.want)
				}
			}
		})
	}
}

// TestPublishManyOnce has more members than a word has bits, and ids that are reused.
func TestPublishManyOnce(t *testing.T) {
	p := registry.NewPool[int]()
	for i := range 100 {
		p.Add("t", -i).Remove()
	}
	const n = 1000
	var channels []registry.Channel
	for i := range 12 {
		channels = append(channels, room(strconv.Itoa(i)))
	}
	for i := range n {
		m := p.Add("t", i)
		for j, ch := range channels {
			if i%(j+1) == 0 {
				m.Join(ch, 0)
			}
		}
	}
	counts := make([]int, n)
	if got := p.Publish("t", channels, func(i int) { counts[i]++ }); got != n {
		t.Errorf("Publish = %d, want %d", got, n)
	}
	for i, count := range counts {
		if count != 1 {
			t.Errorf("member %d: %d deliveries, want 1", i, count)
		}
	}
}

// TestPublishGrowing adds members one by one: what marks them must grow in time.
func TestPublishGrowing(t *testing.T) {
	p := registry.NewPool[int]()
	x, y := room("x"), room("y")
	for i := range 3000 {
		m := p.Add("t", i)
		m.Join(x, 0)
		m.Join(y, 0)
		if n := p.Publish("t", []registry.Channel{x, y}, func(int) {}); n != 1 {
			t.Fatalf("member %d: Publish = %d, want 1", i, n)
		}
		m.Leave(x)
		m.Leave(y)
	}
}

// TestForgetsTenants has the last member of a tenant go in each way: nothing may be left of the tenant.
func TestForgetsTenants(t *testing.T) {
	for _, tt := range []struct {
		name string
		out  func(*registry.Member[string])
	}{
		{"Remove", func(m *registry.Member[string]) { m.Remove() }},
		{"Leave and Remove", func(m *registry.Member[string]) { m.Leave(room("x")); m.Remove() }},
		{"Move and Remove", func(m *registry.Member[string]) { m.Move("u", nil); m.Remove() }},
		{"Move, Join and Remove", func(m *registry.Member[string]) { m.Move("u", nil); m.Join(room("x"), 0); m.Remove() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := registry.NewPool[string]()
			m := p.Add("t", "m")
			m.Join(room("x"), 0)
			tt.out(m)
			if p.Len() != 0 || !p.Empty() {
				t.Errorf("Len = %d, and something is left", p.Len())
			}
		})
	}
}

func TestJoin(t *testing.T) {
	p := registry.NewPool[string]()
	m := p.Add("t", "a")
	removed := p.Add("t", "b")
	removed.Remove()
	for _, tt := range []struct {
		name       string
		member     *registry.Member[string]
		ch         registry.Channel
		maximum    int
		joined, ok bool
	}{
		{"first", m, room("1"), 2, true, true},
		{"again", m, room("1"), 2, false, true},
		{"second", m, room("2"), 2, true, true},
		{"past the limit", m, room("3"), 2, false, false},
		{"again at the limit", m, room("2"), 2, false, true},
		{"no limit", m, room("3"), 0, true, true},
		{"negative limit", m, room("4"), -1, true, true},
		{"removed", removed, room("1"), 0, false, false},
	} {
		// In order: each builds on the one before.
		called := false
		joined, ok := tt.member.JoinFunc(tt.ch, tt.maximum, func([]registry.Channel) { called = true })
		if joined != tt.joined || ok != tt.ok || called != tt.joined {
			t.Errorf("%s: JoinFunc = %t, %t, called: %t; want %t, %t", tt.name, joined, ok, called, tt.joined, tt.ok)
		}
	}
	want := []registry.Channel{room("4"), room("3"), room("2"), room("1")}
	if got := m.Channels(); !slices.Equal(got, want) {
		t.Errorf("Channels = %v, want %v", got, want)
	}
	if !m.Leave(room("3")) || m.Leave(room("3")) || m.Leave(room("none")) {
		t.Error("Leave must report true once, for a channel that was joined")
	}
	want = slices.Delete(want, 1, 2)
	if got := m.Channels(); !slices.Equal(got, want) {
		t.Errorf("Channels after Leave = %v, want %v", got, want)
	}
	if got := m.Remove(); !slices.Equal(got, want) {
		t.Errorf("Remove = %v, want %v", got, want)
	}
	if got := m.Remove(); got != nil {
		t.Errorf("second Remove = %v, want none", got)
	}
	if m.Leave(room("1")) || m.Channels() != nil || m.Move("u", nil) != nil || m.Tenant() != "t" || m.Value() != "a" {
		t.Error("a removed member must stay as it was, in no channel")
	}
	if p.Len() != 0 || p.Tenants() != nil {
		t.Errorf("Len = %d, Tenants = %q after all were removed", p.Len(), p.Tenants())
	}
}

func TestMove(t *testing.T) {
	keepX := func(ch registry.Channel) bool { return ch.Name == "x" }
	for _, tt := range []struct {
		name       string
		tenant     string
		keep       func(registry.Channel) bool
		left, stay []registry.Channel
	}{
		{"same tenant, keep some", "t", keepX, []registry.Channel{room("z"), room("y")}, []registry.Channel{room("x")}},
		{"same tenant, keep nil", "t", nil, []registry.Channel{room("z"), room("y"), room("x")}, nil},
		{"other tenant keeps none", "u", keepX, []registry.Channel{room("z"), room("y"), room("x")}, nil},
		{"same tenant, keep all", "t", func(registry.Channel) bool { return true }, nil,
			[]registry.Channel{room("z"), room("y"), room("x")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := registry.NewPool[string]()
			other := p.Add("t", "other")
			other.Join(room("y"), 0)
			m := p.Add("t", "m")
			for _, name := range []string{"x", "y", "z"} {
				m.Join(room(name), 0)
			}
			if got := m.Move(tt.tenant, tt.keep); !slices.Equal(got, tt.left) {
				t.Errorf("Move = %v, want %v", got, tt.left)
			}
			if got := m.Channels(); !slices.Equal(got, tt.stay) || m.Tenant() != tt.tenant {
				t.Errorf("Channels = %v of %s, want %v of %s", got, m.Tenant(), tt.stay, tt.tenant)
			}
			for _, ch := range tt.left {
				if got := receivers(t, p, "t", ch); slices.Contains(got, "m") {
					t.Errorf("%v still reaches the member", ch)
				}
			}
			for _, ch := range tt.stay {
				if got := receivers(t, p, "t", ch); !slices.Contains(got, "m") {
					t.Errorf("%v no longer reaches the member", ch)
				}
			}
			if got := receivers(t, p, "t", room("y")); !slices.Contains(got, "other") {
				t.Error("another member was taken out")
			}
			m.Join(room("new"), 0)
			if got := receivers(t, p, tt.tenant, room("new")); !slices.Equal(got, []string{"m"}) {
				t.Errorf("a channel of the new tenant reaches %q", got)
			}
			m.Remove()
			other.Remove()
			if p.Len() != 0 || p.Tenants() != nil {
				t.Errorf("Len = %d, Tenants = %q after all were removed", p.Len(), p.Tenants())
			}
		})
	}
}

func TestLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := registry.NewPool[string]()
		start := time.Now()
		var members []*registry.Member[string]
		for i := range 300 {
			m := p.Add("t"+strconv.Itoa(i%3), fmt.Sprintf("%03d", i))
			m.Join(room("all"), 0)
			time.Sleep(time.Second)
			members = append(members, m)
		}
		members[4].Join(registry.Channel{Kind: 'a', Name: "z"}, 0)
		members[1].Join(room("a"), 0)

		if got := slices.Sorted(p.All()); len(got) != 300 || got[0] != "000" || got[299] != "299" {
			t.Errorf("All yields %d: %q", len(got), got)
		}
		if got := slices.Sorted(p.Tenant("t1")); len(got) != 100 || got[0] != "001" || got[99] != "298" {
			t.Errorf("Tenant yields %d: %q", len(got), got)
		}
		if got := slices.Collect(p.Tenant("none")); got != nil {
			t.Errorf("Tenant of an unknown name yields %q", got)
		}
		for range p.All() {
			break // must not panic
		}
		for range p.Tenant("t1") {
			break
		}
		if got := p.Tenants(); !slices.Equal(got, []string{"t0", "t1", "t2"}) {
			t.Errorf("Tenants = %q", got)
		}
		if p.Len() != 300 || p.TenantLen("t2") != 100 || p.TenantLen("none") != 0 {
			t.Errorf("Len = %d, TenantLen = %d, %d", p.Len(), p.TenantLen("t2"), p.TenantLen("none"))
		}
		want := []registry.ChannelLen{
			{Channel: registry.Channel{Kind: 'a', Name: "z"}, Len: 1}, {Channel: room("a"), Len: 1}, {Channel: room("all"), Len: 100},
		}
		if got := p.ChannelsOf("t1"); !slices.Equal(got, want) {
			t.Errorf("ChannelsOf = %v, want %v", got, want)
		}
		if p.ChannelsOf("none") != nil || p.Members("none", room("all")) != nil || p.Members("t1", room("none")) != nil {
			t.Error("unknown names must have nothing")
		}
		list := p.Members("t1", room("all"))
		if len(list) != 100 {
			t.Fatalf("%d members, want 100", len(list))
		}
		for _, m := range list {
			i, _ := strconv.Atoi(m.Value)
			if want := start.Add(time.Duration(i) * time.Second); !m.Joined.Equal(want) {
				t.Errorf("member %s joined at %v, want %v", m.Value, m.Joined, want)
			}
		}
		// Removing while ranging is allowed.
		byValue := make(map[string]*registry.Member[string])
		for _, m := range members {
			byValue[m.Value()] = m
		}
		for v := range p.All() {
			byValue[v].Remove()
		}
		if p.Len() != 0 || p.Tenants() != nil {
			t.Errorf("Len = %d, Tenants = %q after all were removed", p.Len(), p.Tenants())
		}
	})
}
