// Package gate runs the calls of a subscription one at a time, and none after its end.
package gate

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// A Gate runs calls one at a time until it is closed.
type Gate struct {
	mu     sync.Mutex // held during a call
	closed atomic.Bool
}

// Call calls f, unless the gate is closed.
func (g *Gate) Call(f func([]byte), data []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed.Load() {
		f(data)
	}
}

// Close closes the gate. It waits for a running call, unless it runs within a call of a gate: of this one, which would never
// end, or of another, which that call may be waiting for in turn.
func (g *Gate) Close() {
	g.closed.Store(true)
	if !g.mu.TryLock() {
		if InCall() {
			return
		}
		g.mu.Lock()
	}
	g.mu.Unlock()
}

// InCall reports whether the calling goroutine is in a gate's call.
func InCall() bool {
	pc := make([]uintptr, 64)
	for skip := 1; ; skip += len(pc) {
		n := runtime.Callers(skip, pc)
		if n == 0 {
			return false
		}
		for frames := runtime.CallersFrames(pc[:n]); ; {
			frame, more := frames.Next()
			if strings.HasSuffix(frame.Function, "/gate.(*Gate).Call") {
				return true
			}
			if !more {
				break
			}
		}
	}
}
