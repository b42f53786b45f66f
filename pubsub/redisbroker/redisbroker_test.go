package redisbroker_test

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/internal/needs"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/faults"
	"github.com/mooncore/mooncore/pubsub/internal/nodes"
	"github.com/mooncore/mooncore/pubsub/pubsubtest"
	"github.com/mooncore/mooncore/pubsub/redisbroker"
)

func TestMain(m *testing.M) {
	nodes.Main(connectNode)
	leaktest.Main(m)
}

// redisServer starts Debian's redis-server in a process of its own, with more arguments.
func redisServer(t testing.TB, args ...string) *faults.Process {
	t.Helper()
	return redisServerOn(t, nil, freeport.Addr(t), args...)
}

// redisServerOn starts it on a host; nil is the test's own.
func redisServerOn(t testing.TB, host *faults.Host, addr string, args ...string) *faults.Process {
	t.Helper()
	path := needs.Command(t, "redis-server", "redis-server")
	ip, port, _ := net.SplitHostPort(addr)
	args = append([]string{"--bind", ip, "--port", port, "--protected-mode", "no", "--save", "", "--dir", t.TempDir()}, args...)
	return faults.Start(t, addr, func() *exec.Cmd { return host.On(exec.Command(path, args...)) })
}

func connect(t testing.TB, addr string) *redisbroker.Broker {
	t.Helper()
	b, err := redisbroker.Connect("redis://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRedis(t *testing.T) {
	redis := redisServer(t)
	pubsubtest.RunCluster(t, func(t *testing.T) pubsub.Broker { return connect(t, redis.Addr()) })
}

func TestRedisLog(t *testing.T) {
	redis := redisServer(t)
	pubsubtest.RunLogCluster(t, func(t *testing.T) pubsub.Log { return connect(t, redis.Addr()) })
}

func TestConnectRefuses(t *testing.T) {
	redis := redisServer(t, "--requirepass", "right")
	for _, tt := range []struct{ name, url, want string }{
		{"empty", "", "redisbroker: no URL of a Redis server"},
		{"a bad port", "redis://user:canary@127.0.0.1:port", "redisbroker: no URL of a Redis server"},
		{"another scheme", "http://127.0.0.1", "redisbroker: no URL of a Redis server"},
		{"nobody there", "redis://user:canary@127.0.0.1:1", "redisbroker: dial tcp 127.0.0.1:1: connect: connection refused"},
		{"no password", "redis://" + redis.Addr(), "redisbroker: NOAUTH"},
		{"a wrong password", "redis://:canary@" + redis.Addr(), "redisbroker: WRONGPASS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := redisbroker.Connect(tt.url)
			if err == nil {
				b.Close()
			}
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	connect(t, ":right@"+redis.Addr()).Close()
}

// TestDatabases has two clusters share a Redis by their databases: Redis itself would bring each the messages of the other.
func TestDatabases(t *testing.T) {
	redis := redisServer(t)
	var came [2]chan string
	var brokers [2]*redisbroker.Broker
	for i := range brokers {
		brokers[i], came[i] = connect(t, fmt.Sprintf("%s/%d", redis.Addr(), i)), make(chan string, 10)
		defer brokers[i].Close()
		_, err := brokers[i].Subscribe(t.Context(), "x", func(data []byte) { came[i] <- string(data) }, func() {})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, message := range []string{"first", "second"} {
		for i, b := range brokers {
			if err := b.Publish(t.Context(), "x", fmt.Appendf(nil, "%s of %d", message, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range brokers {
		for _, message := range []string{"first", "second"} {
			if got, want := <-came[i], fmt.Sprintf("%s of %d", message, i); got != want {
				t.Errorf("database %d got %q, want %q", i, got, want)
			}
		}
	}
}
