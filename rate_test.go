package mooncore

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

func (r *rates) len() int {
	n := 0
	for i := range r.shards {
		n += len(r.shards[i].recent) + len(r.shards[i].older)
	}
	return n
}

// A million callers take a bounded memory, and hide nobody who calls too often.
func TestRatesAreBounded(t *testing.T) {
	limit := PerUser(5, time.Hour)
	r := newRates(time.Hour)
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	before := heap()
	passed := 0
	for i := range 1_000_000 {
		now = now.Add(time.Microsecond)
		r.wait(limit, rateKey{user: fmt.Sprint(i)}, now)
		if i%1000 == 0 && r.wait(limit, rateKey{user: "often"}, now) == 0 {
			passed++
		}
	}
	if n := r.len(); n > 2*rateShards*rateShardMax {
		t.Errorf("%d keys are remembered, want at most %d", n, 2*rateShards*rateShardMax)
	}
	if used := heap() - before; used > 32<<20 {
		t.Errorf("they take %s", bytesText(used))
	}
	if passed != 5 {
		t.Errorf("who calls often got %d calls through, want 5", passed)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A key that is forgotten because it is old would have all its calls back anyway.
func TestRatesForgetWhatIsFull(t *testing.T) {
	limit := PerUser(3, time.Minute)
	r := newRates(time.Minute)
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	random := rand.New(rand.NewPCG(1, 2))
	allowed := []time.Time{}
	for i := range 20_000 {
		now = now.Add(time.Duration(random.Int64N(int64(40 * time.Second))))
		if r.wait(limit, rateKey{user: "a"}, now) == 0 {
			allowed = append(allowed, now)
		}
		r.wait(limit, rateKey{user: fmt.Sprint(i)}, now)
	}
	for i, at := range allowed { // 3 at once and 3 a minute: never more than 6 in one
		if i >= 6 && at.Sub(allowed[i-6]) < time.Minute {
			t.Fatalf("7 calls within %v", at.Sub(allowed[i-6]))
		}
	}
	if n := r.len(); n > 4*rateShards {
		t.Errorf("%d keys are remembered, of the last minutes' few", n)
	}
}

func TestRateString(t *testing.T) {
	for want, rate := range map[string]Rate{
		"": {}, "30 in 1m0s per user": PerUser(30, time.Minute), "1 in 1h0m0s per tenant": PerTenant(1, time.Hour), "5 in 1s per address": PerAddress(5, time.Second),
	} {
		if got := rate.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func BenchmarkRates(b *testing.B) {
	r := newRates(time.Minute)
	limit := PerUser(1_000_000_000, time.Minute)
	addr := netip.MustParseAddr("2001:db8::1")
	req := &Request{Identity: Identity{User: "alice", Tenant: "acme"}, RemoteAddr: addr}
	b.Run("one caller", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.wait(limit, limit.key(1, req), time.Now())
		}
	})
	b.Run("a million callers", func(b *testing.B) {
		users := make([]string, 1_000_000)
		for i := range users {
			users[i] = fmt.Sprint(i)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			r.wait(limit, rateKey{user: users[i%len(users)]}, time.Now())
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				r.wait(limit, rateKey{action: i % 1000}, time.Now())
			}
		})
	})
}
