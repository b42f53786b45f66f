// Package redistest starts a Redis server for tests: Debian's package redis-server is enough.
package redistest

import (
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/internal/needs"
)

// Start starts a server that ends with the test, and returns its URL. It skips the test where there is no Redis, unless
// MOONCORE_TEST_REQUIRE is "all".
func Start(t testing.TB) (url string) {
	t.Helper()
	path := needs.Command(t, "redis-server", "redis-server")
	addr := freeport.Addr(t)
	_, port, _ := net.SplitHostPort(addr)
	redis := exec.Command(path, "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", t.TempDir())
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Process.Kill(); _ = redis.Wait() }) // the error is that it was killed
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return "redis://" + addr
		}
		if time.Now().After(end) {
			t.Fatalf("Redis does not listen: %v", err)
		}
	}
}
