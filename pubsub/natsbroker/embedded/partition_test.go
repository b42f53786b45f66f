package embedded_test

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/faults"
	"github.com/mooncore/mooncore/pubsub/natsbroker"
	"github.com/mooncore/mooncore/pubsub/pubsubtest"
)

const (
	clientPort = "4222"
	routePort  = "6222"
)

// TestServerPartitionFaults has the NATS server on another host, and cuts the network.
func TestServerPartitionFaults(t *testing.T) {
	t.Parallel()
	port := faults.NewNetwork(t).Connect(faults.NewHost(t))
	ns := natsServerOn(t, port.Host, serverConfig{Addr: net.JoinHostPort(port.IP, clientPort)})
	newBroker := func(t *testing.T) pubsub.Broker { return connect(t, ns.Addr()) }
	pubsubtest.RunFault(t, newBroker, faults.Rounds(t), pubsubtest.Fault{Away: true, Begin: func(*testing.T) func() {
		port.Cut()
		return port.Mend
	}})
}

// TestClusterPartitionFaults has each of three NATS servers on a host of its own, and cuts one off from the others, while it
// reaches its brokers.
func TestClusterPartitionFaults(t *testing.T) {
	t.Parallel()
	outer, inner := faults.NewNetwork(t), faults.NewNetwork(t)
	var outside, inside []*faults.Port
	var routes []string
	for range 3 {
		host := faults.NewHost(t)
		outside, inside = append(outside, outer.Connect(host)), append(inside, inner.Connect(host))
		routes = append(routes, net.JoinHostPort(inside[len(inside)-1].IP, routePort))
	}
	c, round := new(natsCluster), 0
	for i, port := range outside {
		conf := serverConfig{Addr: net.JoinHostPort(port.IP, clientPort), Cluster: routes[i], Routes: routes}
		c.servers = append(c.servers, natsServerOn(t, port.Host, conf))
	}
	pubsubtest.RunFault(t, c.broker, faults.Rounds(t), pubsubtest.Fault{Begin: func(t *testing.T) func() {
		round++
		port := inside[round%len(inside)]
		port.Cut()
		for deadline := time.Now().Add(20 * time.Second); !c.missesPeers(); time.Sleep(10 * time.Millisecond) { // real time: the kernel's network
			if time.Now().After(deadline) {
				t.Fatal("no broker notices that others are gone")
			}
		}
		return port.Mend
	}})
}

// missesPeers reports whether a broker hears nothing from another one.
func (c *natsCluster) missesPeers() bool {
	return slices.ContainsFunc(c.brokers, func(b *natsbroker.Broker) bool { return b.Stats().Peers < len(c.brokers)-1 })
}
