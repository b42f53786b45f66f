package registry_test

import (
	"runtime"
	"strconv"
	"testing"

	"github.com/mooncore/mooncore/registry"
)

type counter struct{ n int }

// crowd returns a pool with 10,000 members in the channel "x", each tenth also in "y".
func crowd() *registry.Pool[*counter] {
	p := registry.NewPool[*counter]()
	for i := range 10_000 {
		m := p.Add("t", new(counter))
		m.Join(room("x"), 0)
		if i%10 == 0 {
			m.Join(room("y"), 0)
		}
	}
	return p
}

var (
	channelX  = []registry.Channel{room("x")}
	channelXY = []registry.Channel{room("x"), room("y")}
)

func BenchmarkJoinLeave10k(b *testing.B) {
	m := crowd().Add("t", new(counter))
	b.ReportAllocs()
	for b.Loop() {
		m.Join(channelX[0], 0)
		m.Leave(channelX[0])
	}
}

// deliver is a variable, so that no loop can inline it.
var deliver = func(c *counter) { c.n++ }

// BenchmarkPublish10k publishes to 10,000 members, and for comparison walks a slice of them.
func BenchmarkPublish10k(b *testing.B) {
	b.Run("slice", func(b *testing.B) {
		var members []*counter
		for c := range crowd().All() {
			members = append(members, c)
		}
		for b.Loop() {
			for _, c := range members {
				deliver(c)
			}
		}
	})
	for _, bench := range []struct {
		name     string
		channels []registry.Channel
	}{{"one", channelX}, {"two", channelXY}} {
		b.Run(bench.name, func(b *testing.B) {
			p := crowd()
			b.ReportAllocs()
			for b.Loop() {
				p.Publish("t", bench.channels, deliver)
			}
		})
	}
}

// BenchmarkMemory reports what a member of a channel holds, beyond its value.
func BenchmarkMemory(b *testing.B) {
	const members = 10_000
	for _, bench := range []struct {
		name     string
		channels int
		shared   bool
	}{{"1 channel of all", 1, true}, {"1 channel of its own", 1, false}, {"10 channels of all", 10, true}} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				before := heap()
				p := registry.NewPool[*counter]()
				value := new(counter)
				for i := range members {
					m := p.Add("t", value)
					for n := range bench.channels {
						name := "channel " + strconv.Itoa(n)
						if !bench.shared {
							name += " of " + strconv.Itoa(i)
						}
						m.Join(room(name), 0)
					}
				}
				b.ReportMetric(float64(heap()-before)/members, "bytes/member")
				runtime.KeepAlive(p)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkPublishJoinLeave10k publishes while members come and go.
func BenchmarkPublishJoinLeave10k(b *testing.B) {
	p := crowd()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		m := p.Add("t", new(counter))
		for i := 0; pb.Next(); i++ {
			m.Join(channelX[0], 0)
			if i%100 == 0 {
				p.Publish("t", channelX, func(c *counter) { c.n++ })
			}
			m.Leave(channelX[0])
		}
	})
}

func BenchmarkMembers10k(b *testing.B) {
	p := crowd()
	b.ReportAllocs()
	for b.Loop() {
		p.Members("t", channelX[0])
	}
}

func BenchmarkConnect(b *testing.B) {
	p := crowd()
	b.ReportAllocs()
	for b.Loop() {
		m := p.Add("t", new(counter))
		m.Join(channelX[0], 0)
		m.Join(channelXY[1], 0)
		m.Remove()
	}
}
