package redisbroker_test

import (
	"bufio"
	"io"
	"net"
	"slices"
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

// harms are what can happen to a Redis server and the way there.
var harms = []struct {
	name  string
	args  []string // the server's
	away  bool
	begin func(s stand) (end func())
}{
	{"Kill", nil, true, func(s stand) func() { s.redis.Kill(); return s.redis.Restart }},
	{"KillWithAOF", []string{"--appendonly", "yes"}, true, func(s stand) func() { s.redis.Kill(); return s.redis.Restart }},
	{"Stop", nil, true, func(s stand) func() { s.redis.Stop(); return s.redis.Restart }},
	{"Restart", []string{"--save", "3600 1"}, false, func(s stand) func() { s.redis.Stop(); s.redis.Restart(); return nothing }},
	{"Freeze", nil, true, func(s stand) func() { s.redis.Freeze(); return s.redis.Thaw }},
	{"Flush", nil, false, func(s stand) func() { s.command("FLUSHALL"); return nothing }},
	{"FlushScripts", nil, false, func(s stand) func() { s.command("SCRIPT FLUSH"); return nothing }},
	{"KillSubscribers", nil, false, func(s stand) func() { s.command("CLIENT KILL TYPE pubsub"); return nothing }},
	{"Hang", nil, true, func(s stand) func() { s.proxy.Block(); return s.proxy.Pass }},
	{"Cut", nil, false, func(s stand) func() { s.proxy.Cut(); return nothing }},
}

// harm runs a test for each of them.
func harm(t *testing.T, run func(t *testing.T, proxy *faults.Proxy, fault pubsubtest.Fault)) {
	for _, tt := range harms {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			redis := redisServer(t, tt.args...)
			s := stand{t, redis, faults.NewProxy(t, redis.Addr())}
			run(t, s.proxy, pubsubtest.Fault{Away: tt.away, Begin: func(*testing.T) func() { return tt.begin(s) }})
		})
	}
}

func TestFaults(t *testing.T) {
	harm(t, func(t *testing.T, proxy *faults.Proxy, fault pubsubtest.Fault) {
		newBroker := func(t *testing.T) pubsub.Broker { return connect(t, proxy.Addr()) }
		pubsubtest.RunFault(t, newBroker, faults.Rounds(t), fault)
	})
}

func TestLogFaults(t *testing.T) {
	harm(t, func(t *testing.T, proxy *faults.Proxy, fault pubsubtest.Fault) {
		newLog := func(t *testing.T) pubsub.Log { return connect(t, proxy.Addr()) }
		pubsubtest.RunLogFault(t, newLog, faults.Rounds(t), fault)
	})
}

// TestPartitionFaults has a Redis server on another host, and cuts the network.
func TestPartitionFaults(t *testing.T) {
	t.Parallel()
	port := faults.NewNetwork(t).Connect(faults.NewHost(t))
	redis := redisServerOn(t, port.Host, net.JoinHostPort(port.IP, "6379"))
	newBroker := func(t *testing.T) pubsub.Broker { return connect(t, redis.Addr()) }
	pubsubtest.RunFault(t, newBroker, faults.Rounds(t), pubsubtest.Fault{Away: true, Begin: func(*testing.T) func() {
		port.Cut()
		return port.Mend
	}})
}

// TestLogFailoverFaults moves between two servers, of which the one that takes over has not heard of the latest messages.
func TestLogFailoverFaults(t *testing.T) {
	for _, tt := range []struct {
		name string
		move func(r *replicas, from, to int)
	}{
		{"Killed", func(r *replicas, from, to int) {
			r.servers[to].Freeze()
			time.Sleep(lag) // real time: of messages that it misses
			r.servers[from].Kill()
			r.servers[to].Thaw()
			r.promote(to)
			r.servers[from].Restart()
			r.follow(from, to)
		}},
		{"AndBack", func(r *replicas, from, to int) { // nobody goes along, and no connection ends
			r.do[to]("REPLICAOF", "NO", "ONE")
			time.Sleep(lag) // real time: of messages that it misses
			r.follow(from, to)
			r.promote(from)
			r.follow(to, from)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newReplicas(t)
			newLog := func(t *testing.T) pubsub.Log { return switched(t, &r.primary) }
			pubsubtest.RunLogFault(t, newLog, faults.Rounds(t), pubsubtest.Fault{Begin: func(*testing.T) func() {
				from := slices.IndexFunc(r.servers[:], func(s *faults.Process) bool { return s.Addr() == r.primary.Load() })
				tt.move(r, from, 1-from)
				return nothing
			}})
		})
	}
}

const lag = 100 * time.Millisecond

// TestSlowFaults slows the way to a Redis server: nothing is lost.
func TestSlowFaults(t *testing.T) {
	t.Parallel()
	link := faults.NewSlowLink(t, redisServer(t).Addr())
	newBroker := func(t *testing.T) pubsub.Broker { return connect(t, link.Addr()) }
	pubsubtest.RunFault(t, newBroker, faults.Rounds(t), pubsubtest.Fault{Harmless: true, Begin: func(*testing.T) func() {
		link.Slow()
		return link.Fast
	}})
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
