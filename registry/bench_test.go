package registry_test

import (
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

func BenchmarkPublish10k(b *testing.B) {
	for name, channels := range map[string][]registry.Channel{"one": channelX, "two": channelXY} {
		b.Run(name, func(b *testing.B) {
			p := crowd()
			b.ReportAllocs()
			for b.Loop() {
				p.Publish("t", channels, func(c *counter) { c.n++ })
			}
		})
	}
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
