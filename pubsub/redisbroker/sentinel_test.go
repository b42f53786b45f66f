package redisbroker_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/internal/needs"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/faults"
	"github.com/mooncore/mooncore/pubsub/redisbroker"
	"github.com/redis/rueidis"
)

// sentinel starts a sentinel for a primary, which it calls "main".
func sentinel(t *testing.T, primary string) *faults.Process {
	t.Helper()
	path := needs.Command(t, "redis-server", "redis-server")
	addr := freeport.Addr(t)
	_, port, _ := net.SplitHostPort(addr)
	_, primaryPort, _ := net.SplitHostPort(primary)
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	config := fmt.Sprintf("bind 127.0.0.1\nport %s\nsentinel monitor main 127.0.0.1 %s 1\n"+
		"sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n", port, primaryPort)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil { // a sentinel writes it too
		t.Fatal(err)
	}
	return faults.Start(t, addr, func() *exec.Cmd { return exec.Command(path, file, "--sentinel") })
}

// TestSentinel has a sentinel make the replica the primary. The broker finds it, and subscriptions go on, in another epoch.
func TestSentinel(t *testing.T) {
	r := newReplicas(t)
	s := sentinel(t, r.servers[0].Addr())
	do := admin(t, s.Addr())
	eventually(t, "the sentinel knows no replica", func() bool {
		replicas, err := do("SENTINEL", "REPLICAS", "main").ToArray()
		return err == nil && len(replicas) == 1
	})
	b, err := redisbroker.New(rueidis.ClientOption{
		InitAddress: []string{s.Addr()},
		Sentinel:    rueidis.SentinelOption{MasterSet: "main"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	came := make(chan pubsub.Entry, 100)
	_, err = b.Subscribe(t.Context(), "x", func(data []byte) {
		e, err := pubsub.ParseEntry(data)
		if err != nil {
			t.Error(err)
		}
		came <- e
	}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	old := appendAll(t, b, "x", 1, 3)
	for range 3 {
		<-came
	}
	r.servers[0].Kill()
	reconnected(t, b)
	at := appendAll(t, b, "x", 1, 1)
	if e := <-came; at.Epoch == old.Epoch || e.Position != at || string(e.Data) != "m1" {
		t.Errorf("%+v was appended and %+v, %q came, after %+v", at, e.Position, e.Data, old)
	}
}
