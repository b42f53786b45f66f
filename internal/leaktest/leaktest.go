// Package leaktest fails a package's tests when they leave goroutines behind.
package leaktest

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Main runs the tests and ends the process; it is all of a TestMain. After tests that passed it waits up to 5 seconds for the
// goroutines that they started to end. If some remain, it prints their stacks and exits with status 1.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if leaked := wait(5 * time.Second); len(leaked) > 0 {
			fmt.Fprintf(os.Stderr, "leaktest: %d goroutines left:\n\n%s\n", len(leaked), strings.Join(leaked, "\n\n"))
			code = 1
		}
	}
	os.Exit(code)
}

// wait returns the stacks of the goroutines that are left when none is, or when the time is up.
func wait(limit time.Duration) []string {
	deadline := time.Now().Add(limit)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		leaked := leaked()
		if len(leaked) == 0 || time.Now().After(deadline) {
			return leaked
		}
		time.Sleep(pause)
	}
}

// leaked returns the stacks of all goroutines but this one and those that the standard library keeps for the process.
func leaked() []string {
	buf := make([]byte, 1<<16)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	stacks := strings.Split(strings.TrimSpace(string(buf)), "\n\n")
	return slices.DeleteFunc(stacks[1:], func(stack string) bool { // the first is the caller's
		return slices.ContainsFunc(kept, func(name string) bool { return strings.Contains(stack, "\n"+name) })
	})
}

// kept are functions that mark a goroutine as the process's own.
var kept = []string{
	"os/signal.signal_recv", "os/signal.loop", // signal.Notify
	"runtime/pprof.profileWriter", "runtime.ReadTrace", "runtime/trace.Start", // -cpuprofile, -trace
	"internal/fuzz.", // -fuzz
	"runtime.ensureSigM",
}
