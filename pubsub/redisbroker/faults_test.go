package redisbroker_test

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/faults"
	"github.com/mooncore/mooncore/pubsub/pubsubtest"
)

// A stand is a Redis server and the way there.
type stand struct {
	t     *testing.T
	redis *faults.Process
	proxy *faults.Proxy
}

func nothing() {}

// TestFaults harms a Redis server and the way there.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		away  bool
		begin func(s stand) (end func())
	}{
		{"Kill", true, func(s stand) func() { s.redis.Kill(); return s.redis.Restart }},
		{"Stop", true, func(s stand) func() { s.redis.Stop(); return s.redis.Restart }},
		{"Restart", false, func(s stand) func() { s.redis.Stop(); s.redis.Restart(); return nothing }},
		{"Freeze", true, func(s stand) func() { s.redis.Freeze(); return s.redis.Thaw }},
		{"Flush", false, func(s stand) func() { s.command("FLUSHALL"); return nothing }},
		{"KillSubscribers", false, func(s stand) func() { s.command("CLIENT KILL TYPE pubsub"); return nothing }},
		{"Partition", true, func(s stand) func() { s.proxy.Block(); return s.proxy.Pass }},
		{"Cut", false, func(s stand) func() { s.proxy.Cut(); return nothing }},
		{"Slow", false, func(s stand) func() { s.proxy.Delay(20 * time.Millisecond); return s.proxy.Pass }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			redis := redisServer(t)
			s := stand{t, redis, faults.NewProxy(t, redis.Addr())}
			newBroker := func(t *testing.T) pubsub.Broker { return connect(t, s.proxy.Addr()) }
			pubsubtest.RunFault(t, newBroker, faults.Rounds(t), pubsubtest.Fault{
				Away: tt.away, Begin: func(*testing.T) func() { return tt.begin(s) },
			})
		})
	}
}

// command runs a command on the server, past the proxy.
func (s stand) command(line string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.redis.Addr())
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
		s.t.Fatal(err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || answer[0] == '-' {
		s.t.Fatalf("%s: %s, error %v", line, answer, err)
	}
}
