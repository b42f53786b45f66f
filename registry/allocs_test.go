//go:build !race

package registry_test

import "testing"

// TestAllocs keeps the paths that run for each event and each join free of allocation. The race detector allocates.
func TestAllocs(t *testing.T) {
	p := crowd()
	m := p.Add("t", new(counter))
	for _, tt := range []struct {
		name string
		do   func()
	}{
		{"join and leave", func() { m.Join(channelX[0], 128); m.Leave(channelX[0]) }},
		{"publish to one channel", func() { p.Publish("t", channelX, func(c *counter) { c.n++ }) }},
		{"publish to two channels", func() { p.Publish("t", channelXY, func(c *counter) { c.n++ }) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.do()
			if n := testing.AllocsPerRun(100, tt.do); n > 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	}
}
