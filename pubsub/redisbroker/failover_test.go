package redisbroker_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/internal/needs"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/faults"
	"github.com/mooncore/mooncore/pubsub/redisbroker"
	"github.com/redis/rueidis"
)

// replicas are two servers, the second a replica of the first.
type replicas struct {
	t       *testing.T
	servers [2]*faults.Process
	do      [2]func(args ...string) rueidis.RedisResult
	primary atomic.Value // the address
}

func newReplicas(t *testing.T) *replicas {
	t.Helper()
	r := &replicas{t: t}
	for i := range r.servers {
		r.servers[i] = redisServer(t, "--repl-diskless-sync-delay", "0")
		r.do[i] = admin(t, r.servers[i].Addr())
	}
	r.primary.Store(r.servers[0].Addr())
	r.follow(1, 0)
	return r
}

// follow makes a server the replica of another, and waits until it is.
func (r *replicas) follow(replica, primary int) {
	r.t.Helper()
	host, port, _ := net.SplitHostPort(r.servers[primary].Addr())
	r.do[replica]("REPLICAOF", host, port)
	r.level(replica, primary)
}

// level waits until a replica has what the primary has now.
func (r *replicas) level(replica, primary int) {
	r.t.Helper()
	offset := func(i int, field string) int { return must(strconv.Atoi(info(r.t, r.do[i], field))) }
	at := offset(primary, "master_repl_offset")
	eventually(r.t, "the replica does not catch up", func() bool {
		return info(r.t, r.do[replica], "master_link_status") == "up" && offset(replica, "slave_repl_offset") >= at
	})
}

// promote makes a server the primary.
func (r *replicas) promote(i int) {
	r.t.Helper()
	r.do[i]("REPLICAOF", "NO", "ONE")
	r.primary.Store(r.servers[i].Addr())
}

func info(t testing.TB, do func(args ...string) rueidis.RedisResult, field string) string {
	t.Helper()
	for line := range strings.Lines(must(do("INFO").ToString())) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestLogFailover has a replica take over that lags: the offsets that it has not heard of are given again, to other messages.
func TestLogFailover(t *testing.T) {
	r := newReplicas(t)
	b := switched(t, &r.primary)
	appendAll(t, b, "x", 1, 3)
	r.level(1, 0)
	r.servers[1].Freeze() // no bytes come to it
	old := appendAll(t, b, "x", 4, 5)
	r.servers[0].Kill()
	r.servers[1].Thaw()
	r.promote(1)
	reconnected(t, b)
	if n, _ := r.do[1]("LLEN", "mooncore:0:log:x").AsInt64(); n == 0 {
		t.Fatal("the replica has nothing")
	}
	entries, top := read(t, b, "x", 0)
	if len(entries) > 0 || top.Offset > 0 || top.Epoch == old.Epoch {
		t.Errorf("read %d entries, top %+v, want another epoch than %+v without any", len(entries), top, old)
	}
	at := appendAll(t, b, "x", 1, 6)
	if at.Epoch != top.Epoch {
		t.Errorf("appended at %+v, want epoch %s", at, top.Epoch)
	}
}

// TestLogFailback has the first server take over again, after it threw away what only it had. It is the same process.
func TestLogFailback(t *testing.T) {
	r := newReplicas(t)
	b := switched(t, &r.primary)
	appendAll(t, b, "x", 1, 3)
	r.level(1, 0)
	r.promote(1)
	r.primary.Store(r.servers[0].Addr()) // but the broker has not heard of it
	old := appendAll(t, b, "x", 4, 5)
	r.follow(0, 1)
	r.do[0]("CONFIG", "SET", "replica-read-only", "no")
	if at, err := b.Append(t.Context(), "x", nil, keep); err == nil {
		t.Errorf("appended to a replica, at %+v", at)
	}
	r.promote(0)
	eventually(t, "nothing can be appended", func() bool { // it may have noticed
		_, err := b.Append(t.Context(), "again", nil, keep)
		return err == nil
	})
	if at := appendAll(t, b, "x", 1, 3); at.Epoch == old.Epoch {
		t.Errorf("epoch %s goes on, whose offsets 4 and 5 are gone", at.Epoch)
	}
}

// TestReplica has the primary become a replica without closing connections, as hosted ones do. Nobody else would get what is
// published there.
func TestReplica(t *testing.T) {
	r := newReplicas(t)
	b := switched(t, &r.primary)
	r.promote(1) // whoever looks for the primary now finds this one
	r.follow(0, 1)
	reconnected(t, b)
	if err := b.Publish(t.Context(), "x", nil); err != nil {
		t.Errorf("Publish: %v", err)
	}
	for want := range 2 { // of the new primary there is a connection for subscriptions, and none of the old one
		do := r.do[1-want]
		if list := must(do("CLIENT", "LIST", "TYPE", "pubsub").ToString()); strings.Contains(list, "name=mooncore") != (want == 0) {
			t.Errorf("server %d has the connections %q", 1-want, list)
		}
	}
	if _, err := redisbroker.Connect("redis://" + r.servers[0].Addr()); err == nil || !strings.HasPrefix(err.Error(), "redisbroker: the server is a replica") {
		t.Errorf("Connect to a replica: error %v", err)
	}
}

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
