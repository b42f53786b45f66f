package clusterpeers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/nats-io/nats-server/v2/server"
)

const (
	redisEngine = "redis"
	natsEngine  = "nats"
	startTime   = 5 * time.Second
)

// An Engine is a message broker that has started.
type Engine struct {
	PID  int
	Addr string
	Stop func()
}

// StartEngine starts a message broker on loopback: the redis-server of the system, or a NATS server in this process.
func StartEngine(name string) (Engine, error) {
	switch name {
	case redisEngine:
		return startRedis()
	case natsEngine:
		return startNATSServer()
	}
	return Engine{}, fmt.Errorf("no message broker %q", name)
}

func startRedis() (Engine, error) {
	addr, err := freeport.Find()
	if err != nil {
		return Engine{}, err
	}
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return Engine{}, err
	}
	stop := func() {
		_ = cmd.Process.Kill() // it keeps nothing
		_ = cmd.Wait()
	}
	for deadline := time.Now().Add(startTime); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return Engine{PID: cmd.Process.Pid, Addr: addr, Stop: stop}, nil
		}
		if time.Now().After(deadline) {
			stop()
			return Engine{}, fmt.Errorf("redis-server does not listen: %w", err)
		}
	}
}

func startNATSServer() (Engine, error) {
	ns, err := runNATSServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		return Engine{}, err
	}
	return Engine{PID: os.Getpid(), Addr: ns.Addr().String(), Stop: ns.Shutdown}, nil
}

func runNATSServer(opts *server.Options) (*server.Server, error) {
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	ns.Start()
	if !ns.ReadyForConnections(startTime) {
		return nil, fmt.Errorf("the NATS server was not ready after %v", startTime)
	}
	return ns, nil
}

// clusterNATS starts a NATS server that makes a cluster with the one at join, if there is one. It returns what others join.
func clusterNATS(join string) (*server.Server, string, error) {
	opts := &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, NoSystemAccount: true,
		Cluster: server.ClusterOpts{Name: "bench", Host: "127.0.0.1", Port: server.RANDOM_PORT},
	}
	if join != "" {
		opts.Routes = server.RoutesFromStr("nats-route://" + join)
	}
	ns, err := runNATSServer(opts)
	if err != nil {
		return nil, "", err
	}
	addr := ns.ClusterAddr()
	return ns, net.JoinHostPort(addr.IP.String(), strconv.Itoa(addr.Port)), nil
}
