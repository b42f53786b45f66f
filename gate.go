package mooncore

import "sync/atomic"

// A gate counts what is under way. It lets nothing in before begin, nor after close.
type gate struct {
	state atomic.Int64  // how many are under way, and gateClosed
	idle  chan struct{} // closed when the gate is closed and nothing is under way
}

const gateClosed = 1 << 62

func newGate() *gate {
	g := &gate{idle: make(chan struct{})}
	g.state.Store(gateClosed)
	return g
}

// begin opens a new gate.
func (g *gate) begin() { g.state.Store(0) }

// enter reports whether the gate is open. If so, the caller must call leave.
func (g *gate) enter() bool {
	for {
		n := g.state.Load()
		if n&gateClosed != 0 {
			return false
		}
		if g.state.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (g *gate) leave() {
	if g.state.Add(-1) == gateClosed {
		close(g.idle)
	}
}

func (g *gate) open() bool { return g.state.Load()&gateClosed == 0 }

func (g *gate) count() int { return int(g.state.Load() &^ gateClosed) }

// close lets nothing more in. The channel that it returns is closed when all have left.
func (g *gate) close() <-chan struct{} {
	if g.state.Or(gateClosed) == 0 {
		close(g.idle)
	}
	return g.idle
}
