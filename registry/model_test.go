package registry_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mooncore/mooncore/registry"
)

const (
	modelTenants  = 3
	modelChannels = 6
	modelWorkers  = 16
)

// A modelConn counts what reaches it.
type modelConn struct {
	owned    bool // by one worker, which knows where it is
	received atomic.Int64
	may      [modelTenants][modelChannels]atomic.Bool // what may reach it: set before a join, cleared after a leave
}

// TestModel has workers do random operations on members of their own, compared with a model, and on members that all share, and
// publish meanwhile.
func TestModel(t *testing.T) {
	operations := 200_000
	if testing.Short() {
		operations /= 20
	}
	p := registry.NewPool[*modelConn]()
	var shared [4]*registry.Member[*modelConn]
	for i := range shared {
		shared[i] = p.Add("0", new(modelConn))
	}
	var wg sync.WaitGroup
	for i := range modelWorkers {
		wg.Go(func() {
			m := &modelWorker{t: t, p: p, r: rand.New(rand.NewPCG(uint64(i), 1)), shared: shared[:]}
			m.run(operations / modelWorkers)
		})
	}
	wg.Wait()
	for _, m := range shared {
		m.Remove()
		if joined, ok := m.Join(room("0"), 0); joined || ok {
			t.Error("a removed member joined")
		}
	}
	if p.Len() != 0 || !p.Empty() {
		t.Errorf("Len = %d, tenants %q: something is left", p.Len(), p.Tenants())
	}
}

type modelWorker struct {
	t      *testing.T
	p      *registry.Pool[*modelConn]
	r      *rand.Rand
	shared []*registry.Member[*modelConn]

	member *registry.Member[*modelConn]
	conn   *modelConn
	tenant int
	in     []int // channels, newest first
}

func (w *modelWorker) run(operations int) {
	for range operations {
		if w.member == nil {
			w.conn, w.tenant, w.in = &modelConn{owned: true}, w.r.IntN(modelTenants), nil
			w.member = w.p.Add(strconv.Itoa(w.tenant), w.conn)
		}
		ch := w.r.IntN(modelChannels)
		switch op := w.r.IntN(100); {
		case op < 30:
			w.join(ch)
		case op < 50:
			w.leave(ch)
		case op < 75:
			w.publish(ch)
		case op < 80:
			w.move(ch)
		case op < 84:
			w.remove()
		case op < 94:
			w.disturb(ch)
		default:
			w.read(ch)
		}
	}
	if w.member != nil {
		w.remove()
	}
}

func (w *modelWorker) channels() []registry.Channel {
	var list []registry.Channel
	for _, ch := range w.in {
		list = append(list, room(strconv.Itoa(ch)))
	}
	return list
}

func (w *modelWorker) join(ch int) {
	const maximum = modelChannels - 1
	was := slices.Contains(w.in, ch)
	if !was && len(w.in) < maximum {
		w.conn.may[w.tenant][ch].Store(true)
	}
	joined, ok := w.member.Join(room(strconv.Itoa(ch)), maximum)
	if want := !was && len(w.in) < maximum; joined != want || ok != (was || want) {
		w.t.Errorf("Join = %t, %t; was in it: %t, in %d", joined, ok, was, len(w.in))
	}
	if joined {
		w.in = slices.Insert(w.in, 0, ch)
	}
}

func (w *modelWorker) leave(ch int) {
	i := slices.Index(w.in, ch)
	if got := w.member.Leave(room(strconv.Itoa(ch))); got != (i >= 0) {
		w.t.Errorf("Leave = %t, want %t", got, i >= 0)
	}
	if i >= 0 {
		w.in = slices.Delete(w.in, i, i+1)
		w.conn.may[w.tenant][ch].Store(false)
	}
}

// publish publishes to one to three channels of the worker's tenant. Its own member must get it exactly if it is in one.
func (w *modelWorker) publish(ch int) {
	numbers := []int{ch, w.r.IntN(modelChannels), w.r.IntN(modelChannels)}[:1+w.r.IntN(3)]
	var channels []registry.Channel
	want := 0
	for _, n := range numbers {
		channels = append(channels, room(strconv.Itoa(n)))
		if slices.Contains(w.in, n) {
			want = 1
		}
	}
	own := 0
	w.p.Publish(strconv.Itoa(w.tenant), channels, func(c *modelConn) {
		c.received.Add(1)
		if c == w.conn {
			own++
		}
		if c.owned && !slices.ContainsFunc(numbers, func(n int) bool { return c.may[w.tenant][n].Load() }) {
			w.t.Error("delivered to a member that has left")
		}
	})
	if own != want {
		w.t.Errorf("%d deliveries to the own member, want %d", own, want)
	}
}

func (w *modelWorker) move(ch int) {
	tenant := w.r.IntN(modelTenants)
	keep := func(c registry.Channel) bool { return c == room(strconv.Itoa(ch)) }
	var want, stay []int
	for _, n := range w.in {
		if tenant == w.tenant && n == ch {
			stay = append(stay, n)
		} else {
			want = append(want, n)
		}
	}
	got := w.member.Move(strconv.Itoa(tenant), keep)
	for _, n := range want {
		w.conn.may[w.tenant][n].Store(false)
	}
	w.in = want
	if !slices.Equal(got, w.channels()) {
		w.t.Errorf("Move = %v, want %v", got, w.channels())
	}
	w.tenant, w.in = tenant, stay
}

func (w *modelWorker) remove() {
	if got := w.member.Remove(); !slices.Equal(got, w.channels()) {
		w.t.Errorf("Remove = %v, want %v", got, w.channels())
	}
	for i := range w.conn.may {
		for j := range w.conn.may[i] {
			w.conn.may[i][j].Store(false)
		}
	}
	w.member = nil
}

// disturb changes a member that other workers change at the same time.
func (w *modelWorker) disturb(ch int) {
	m := w.shared[w.r.IntN(len(w.shared))]
	switch w.r.IntN(8) {
	case 0:
		m.Move(strconv.Itoa(w.r.IntN(modelTenants)), nil)
	case 1, 2, 3:
		m.Leave(room(strconv.Itoa(ch)))
	default:
		m.Join(room(strconv.Itoa(ch)), 3)
	}
	if n := len(m.Channels()); n > 3 {
		w.t.Errorf("in %d channels, 3 are allowed", n)
	}
}

// read calls what only reads.
func (w *modelWorker) read(ch int) {
	if got := w.member.Channels(); !slices.Equal(got, w.channels()) {
		w.t.Errorf("Channels = %v, want %v", got, w.channels())
	}
	tenant := strconv.Itoa(w.tenant)
	isOwn := func(m registry.Membership[*modelConn]) bool { return m.Value == w.conn }
	if got := slices.ContainsFunc(w.p.Members(tenant, room(strconv.Itoa(ch))), isOwn); got != slices.Contains(w.in, ch) {
		w.t.Errorf("Members contains the own member: %t", got)
	}
	if n := w.p.TenantLen(tenant); n < 1 || n > w.p.Len()+modelWorkers {
		w.t.Errorf("TenantLen = %d", n)
	}
	for _, seq := range []func(func(*modelConn) bool){w.p.All(), w.p.Tenant(tenant)} {
		seen := 0
		for c := range seq {
			if c == w.conn {
				seen++
			}
		}
		if seen != 1 {
			w.t.Errorf("the own member was seen %d times in a range, want 1", seen)
		}
	}
	if got := w.p.ChannelsOf(tenant); len(w.in) > len(got) {
		w.t.Errorf("ChannelsOf has %d channels, the own member is in %d", len(got), len(w.in))
	}
}
