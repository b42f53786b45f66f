//go:build unix

package faults

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/needs"
)

// A Network is a switch. It joins hosts, which are network namespaces, and the process of the test.
type Network struct {
	t      testing.TB
	name   string // of the bridge
	prefix string // of addresses
	hosts  int
}

// NewNetwork makes a Network, which ends with the test. Where the process may not, the test is skipped, or fails: see
// [needs.Missing].
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	needs.Command(t, "ip", "iproute2")
	needs.Command(t, "bridge", "iproute2")
	if os.Geteuid() != 0 {
		needs.Missing(t, "network namespaces are made by root only")
	}
	// The addresses are those for tests of networks, RFC 2544.
	n := &Network{t: t, name: "mc" + short(), prefix: fmt.Sprintf("198.%d.%d.", 18+mathrand.IntN(2), mathrand.IntN(256)), hosts: 1}
	if out, err := exec.Command("ip", "link", "add", n.name, "type", "bridge").CombinedOutput(); err != nil {
		needs.Missing(t, "this system makes no network: "+string(out))
	}
	t.Cleanup(func() { run(t, "ip", "link", "del", n.name) })
	run(t, "ip", "addr", "add", n.prefix+"1/24", "dev", n.name)
	run(t, "ip", "link", "set", n.name, "up")
	return n
}

// short is a random part of a name: those of interfaces have at most 15 bytes.
func short() string { return strings.ToLower(rand.Text()[:8]) }

func run(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// A Host is a network namespace. It may be on several networks.
type Host struct {
	t    testing.TB
	name string
}

// NewHost makes a Host, which ends with the test.
func NewHost(t testing.TB) *Host {
	t.Helper()
	h := &Host{t, "mc" + short()}
	run(t, "ip", "netns", "add", h.name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", h.name) })
	run(t, "ip", "-n", h.name, "link", "set", "lo", "up")
	return h
}

// On has a command run on the host. Nil is the test's own.
func (h *Host) On(cmd *exec.Cmd) *exec.Cmd {
	if h == nil {
		return cmd
	}
	moved := exec.Command("ip", append([]string{"netns", "exec", h.name, cmd.Path}, cmd.Args[1:]...)...)
	moved.Env = cmd.Env
	return moved
}

// A Port is where a host is plugged into a network.
type Port struct {
	Host *Host
	IP   string // the host's, there

	name string
}

// Connect plugs a host in.
func (n *Network) Connect(h *Host) *Port {
	n.t.Helper()
	n.hosts++
	p := &Port{Host: h, IP: fmt.Sprint(n.prefix, n.hosts), name: "mc" + short()}
	inside := fmt.Sprint("eth", short())
	run(n.t, "ip", "link", "add", p.name, "type", "veth", "peer", "name", inside, "netns", h.name)
	run(n.t, "ip", "link", "set", p.name, "master", n.name, "up")
	run(n.t, "ip", "-n", h.name, "addr", "add", p.IP+"/24", "dev", inside)
	run(n.t, "ip", "-n", h.name, "link", "set", inside, "up")
	return p
}

// Cut has the switch drop whatever comes from or goes to the host there. Nobody is told.
func (p *Port) Cut() { p.state("0") }

// Mend undoes Cut.
func (p *Port) Mend() { p.state("3") }

func (p *Port) state(state string) {
	p.Host.t.Helper()
	run(p.Host.t, "bridge", "link", "set", "dev", p.name, "state", state)
}
