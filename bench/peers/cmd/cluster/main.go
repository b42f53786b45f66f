// Command cluster is two servers with a message broker between them, for the cluster scenarios. The runner starts it: it is the
// server that publishes, and starts itself again as the one that delivers, and as the message broker.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mooncore/mooncore/bench/internal/child"
	"github.com/mooncore/mooncore/bench/internal/meter"
	"github.com/mooncore/mooncore/bench/internal/traffic"
	"github.com/mooncore/mooncore/bench/internal/wire"
	"github.com/mooncore/mooncore/bench/peers/internal/clusterpeers"
	"github.com/mooncore/mooncore/bench/peers/internal/control"
)

type options struct {
	name     string // group and peer
	channels int
	role     string // what this process is: the first node if empty
	engine   string // of the message broker: its address for nodes, its name for itself
	join     string
}

// Roles.
const (
	roleDeliver = "deliver"
	roleEngine  = "engine"
)

func main() {
	var o options
	var group, peer string
	flag.StringVar(&group, "group", "", "group of the peer")
	flag.StringVar(&peer, "peer", "", "group and peer make one of "+strings.Join(clusterpeers.Names(), ", "))
	flag.IntVar(&o.channels, "channels", 1, "how many channels there are")
	flag.StringVar(&o.role, "role", "", "set by the command itself, as are the following: deliver or engine")
	flag.StringVar(&o.engine, "engine", "", "the message broker")
	flag.StringVar(&o.join, "join", "", "how to join the first node")
	flag.Parse()
	o.name = group + "/" + peer
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	switch o.role {
	case roleEngine:
		return runEngine(o.engine)
	case roleDeliver:
		return deliver(o)
	}
	return publish(o)
}

// runEngine is the message broker's process, or the one that ends redis-server with itself.
func runEngine(name string) error {
	engine, err := clusterpeers.StartEngine(name)
	if err != nil {
		return err
	}
	defer engine.Stop()
	return control.Serve(wire.Server{Peer: name, PID: engine.PID, Addr: engine.Addr})
}

// publish is the first node.
func publish(o options) error {
	engineName, ok := clusterpeers.EngineOf(o.name)
	if !ok {
		return fmt.Errorf("no peer %q: it must be one of %s", o.name, strings.Join(clusterpeers.Names(), ", "))
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	ctx := context.Background()
	srv := wire.Server{Peer: o.name}
	if engineName != "" {
		engine, err := child.Start(ctx, program, "-role", roleEngine, "-engine", engineName)
		if err != nil {
			return err
		}
		defer engine.Stop()
		srv.Engine, o.engine = engine.PID, engine.Addr
	}
	node, err := clusterpeers.Start(o.name, clusterpeers.Config{Engine: o.engine, Channels: o.channels})
	if err != nil {
		return err
	}
	group, peer, _ := strings.Cut(o.name, "/")
	other, err := child.Start(ctx, program, "-role", roleDeliver, "-group", group, "-peer", peer, fmt.Sprintf("-channels=%d", o.channels),
		"-engine", o.engine, "-join", node.Join)
	if err != nil {
		return err
	}
	defer other.Stop()
	srv.Others = []wire.Process{{PID: other.PID, Control: other.Control}}
	srv.Addr, srv.WebSocket, srv.Deliveries = other.Addr, other.WebSocket, other.Deliveries
	plan := traffic.Plan{Channels: o.channels}
	srv.Commands, err = control.Listen(func(line string) string {
		var first, n, publishers int
		if _, err := fmt.Sscan(line, &first, &n, &publishers); err != nil {
			return err.Error()
		}
		began := time.Now()
		if err := plan.Publish(first, n, publishers, node.Publish); err != nil {
			return err.Error()
		}
		return fmt.Sprint(time.Since(began).Nanoseconds())
	})
	if err != nil {
		return err
	}
	return control.Serve(srv)
}

// deliver is the second node.
func deliver(o options) error {
	if err := meter.RaiseFiles(o.channels + 200); err != nil {
		return err
	}
	receiver := traffic.NewReceiver(traffic.Plan{Channels: o.channels})
	node, err := clusterpeers.Start(o.name, clusterpeers.Config{
		Engine: o.engine, Join: o.join, Channels: o.channels, Deliver: receiver.Receive,
	})
	if err != nil {
		return err
	}
	srv := wire.Server{Peer: o.name, Addr: node.Addr, WebSocket: node.WebSocket}
	srv.Deliveries, err = control.Listen(func(line string) string {
		var total int
		if _, err := fmt.Sscan(line, &total); err != nil {
			return err.Error()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		latency, err := receiver.Await(ctx, total)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(latency.Nanoseconds())
	})
	if err != nil {
		return err
	}
	return control.Serve(srv)
}
