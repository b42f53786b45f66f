package pubsub

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// A gate runs a subscription's calls one at a time until it is closed.
type gate struct {
	mu     sync.Mutex // held during a call
	closed atomic.Bool
}

// call calls f, unless the gate is closed.
func (g *gate) call(f func([]byte), data []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed.Load() {
		f(data)
	}
}

// close closes the gate. It waits for a running call, unless it runs within a call of a gate: of this one, which would never
// end, or of another, which that call may be waiting for in turn.
func (g *gate) close() {
	g.closed.Store(true)
	if !g.mu.TryLock() {
		if inCall() {
			return
		}
		g.mu.Lock()
	}
	g.mu.Unlock()
}

// inCall reports whether the calling goroutine is in a gate's call.
func inCall() bool {
	pc := make([]uintptr, 64)
	for skip := 1; ; skip += len(pc) {
		n := runtime.Callers(skip, pc)
		if n == 0 {
			return false
		}
		for frames := runtime.CallersFrames(pc[:n]); ; {
			frame, more := frames.Next()
			if strings.HasSuffix(frame.Function, "/pubsub.(*gate).call") {
				return true
			}
			if !more {
				break
			}
		}
	}
}
