package embedded_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/pubsub/internal/faults"
	"github.com/mooncore/mooncore/pubsub/internal/nodes"
	"github.com/mooncore/mooncore/pubsub/natsbroker"
	"github.com/mooncore/mooncore/pubsub/natsbroker/embedded"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// serverEnv makes the test binary a NATS server: its value is a serverConfig.
const serverEnv = "EMBEDDED_TEST_NATS_SERVER"

type serverConfig struct {
	Addr, Cluster string // Cluster may be empty
	Routes        []string
	Dir           string   // where JetStream keeps its files; empty if it is off
	Memory        int64    // how much it may keep there; default 256 MiB
	Allow         []string // what a client may publish and subscribe; default all
}

func TestMain(m *testing.M) {
	nodes.Main(startNode)
	text := os.Getenv(serverEnv)
	if text == "" {
		leaktest.Main(m)
	}
	if err := serveNATS(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveNATS(text string) error {
	var conf serverConfig
	if err := json.Unmarshal([]byte(text), &conf); err != nil {
		return err
	}
	opts := &server.Options{NoLog: true}
	opts.Host, opts.Port = split(conf.Addr)
	if conf.Dir != "" {
		opts.ServerName, opts.JetStream, opts.StoreDir = conf.Addr, true, conf.Dir
		opts.JetStreamMaxMemory, opts.JetStreamMaxStore = cmp.Or(conf.Memory, 256<<20), 256<<20
	}
	if conf.Allow != nil {
		allow := &server.SubjectPermission{Allow: conf.Allow}
		opts.Users = []*server.User{{Username: "test", Permissions: &server.Permissions{Publish: allow, Subscribe: &server.SubjectPermission{Allow: conf.Allow[:1]}}}}
		opts.NoAuthUser = "test"
	}
	if conf.Cluster != "" {
		opts.Cluster.Name = "test"
		opts.Cluster.Host, opts.Cluster.Port = split(conf.Cluster)
		opts.Cluster.PingInterval, opts.Cluster.MaxPingsOut = 2*time.Second, 2 // as embedded has it
		for _, route := range conf.Routes {
			opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: route})
		}
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	ns.Start()
	ns.WaitForShutdown()
	return nil
}

func split(addr string) (string, int) {
	host, text, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(text)
	return host, port
}

// natsServer starts a NATS server in a process of its own.
func natsServer(t testing.TB, conf serverConfig) *faults.Process {
	t.Helper()
	return natsServerOn(t, nil, conf)
}

// natsServerOn starts it on a host; nil is the test's own.
func natsServerOn(t testing.TB, host *faults.Host, conf serverConfig) *faults.Process {
	t.Helper()
	text, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	p := faults.Start(t, conf.Addr, func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), serverEnv+"="+string(text))
		return host.On(cmd)
	})
	// A server with JetStream takes some time until it speaks, when somebody else may have accepted the connection that Start tried.
	for deadline := time.Now().Add(20 * time.Second); conf.Dir != ""; time.Sleep(10 * time.Millisecond) { // real time: the server's
		nc, err := nats.Connect(conf.Addr)
		if err == nil {
			nc.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	return p
}

func connect(t testing.TB, url string) *natsbroker.Broker {
	t.Helper()
	b, err := natsbroker.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func start(t testing.TB, o embedded.Options) *embedded.Broker {
	t.Helper()
	b, err := embedded.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
