package embedded_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/faults"
	"github.com/mooncore/mooncore/pubsub/natsbroker"
	"github.com/mooncore/mooncore/pubsub/natsbroker/embedded"
	"github.com/mooncore/mooncore/pubsub/pubsubtest"
	"github.com/nats-io/nats.go"
)

// TestServer runs the suite with one NATS server for all.
func TestServer(t *testing.T) {
	nats := natsServer(t, serverConfig{Addr: freeport.Addr(t)})
	pubsubtest.RunCluster(t, func(t *testing.T) pubsub.Broker { return connect(t, nats.Addr()) })
}

// TestCluster runs the suite with a cluster of NATS servers, one for each broker in turn.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := newNATSCluster(t, false)
	pubsubtest.RunCluster(t, c.broker)
}

// TestEmbedded runs the suite where each broker brings its server.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	first := start(t, embedded.Options{Addr: "127.0.0.1:0"})
	defer first.Close()
	pubsubtest.RunCluster(t, func(t *testing.T) pubsub.Broker {
		return start(t, embedded.Options{Addr: "127.0.0.1:0", Peers: []string{first.Addr()}})
	})
}

// A natsCluster is three NATS servers in processes of their own.
type natsCluster struct {
	servers []*faults.Process

	mu      sync.Mutex
	brokers []*natsbroker.Broker
}

func newNATSCluster(t *testing.T, jetStream bool) *natsCluster {
	var addrs, routes []string
	for range 3 {
		addrs, routes = append(addrs, freeport.Addr(t)), append(routes, freeport.Addr(t))
	}
	c := new(natsCluster)
	for i := range addrs {
		conf := serverConfig{Addr: addrs[i], Cluster: routes[i], Routes: routes}
		if jetStream {
			conf.Dir = t.TempDir()
		}
		c.servers = append(c.servers, natsServer(t, conf))
	}
	if jetStream {
		c.ready(t)
	}
	return c
}

// ready waits until JetStream has a leader.
func (c *natsCluster) ready(t *testing.T) {
	t.Helper()
	js := admin(t, c.servers[0].Addr())
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // real time: the servers'
		_, err := js.AccountInfo(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// log makes a broker that keeps messages in memory, and prefers the next server in turn.
func (c *natsCluster) log(t *testing.T) *natsbroker.Broker {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := natsbroker.New(natsbroker.Options{URL: c.servers[len(c.brokers)%len(c.servers)].Addr(), Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	c.brokers = append(c.brokers, b)
	return b
}

// broker makes a broker that prefers the next server in turn.
func (c *natsCluster) broker(t *testing.T) pubsub.Broker {
	b := connect(t, c.servers[len(c.brokers)%len(c.servers)].Addr())
	c.brokers = append(c.brokers, b)
	return b
}

// freeze freezes a server until its brokers have gone to another.
func (c *natsCluster) freeze(t *testing.T, nats *faults.Process) (end func()) {
	before := c.reconnects()
	nats.Freeze()
	for deadline := time.Now().Add(20 * time.Second); c.reconnects() == before; time.Sleep(10 * time.Millisecond) { // real time: NATS has its own
		if time.Now().After(deadline) {
			t.Fatal("no broker leaves a server that does nothing")
		}
	}
	return nats.Thaw
}

func (c *natsCluster) reconnects() (n uint64) {
	for _, b := range c.brokers {
		n += b.Stats().Reconnects
	}
	return n
}

func nothing() {}

// A stand is a NATS server and the way there.
type stand struct {
	nats  *faults.Process
	proxy *faults.Proxy
}

// TestServerFaults harms the one NATS server that all brokers use, and the way there.
func TestServerFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		away  bool
		begin func(s stand) (end func())
	}{
		{"Kill", true, func(s stand) func() { s.nats.Kill(); return s.nats.Restart }},
		{"Stop", true, func(s stand) func() { s.nats.Stop(); return s.nats.Restart }},
		{"Restart", false, func(s stand) func() { s.nats.Stop(); s.nats.Restart(); return nothing }},
		{"Freeze", true, func(s stand) func() { s.nats.Freeze(); return s.nats.Thaw }},
		{"Hang", true, func(s stand) func() { s.proxy.Block(); return s.proxy.Pass }},
		{"Cut", false, func(s stand) func() { s.proxy.Cut(); return nothing }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			nats := natsServer(t, serverConfig{Addr: freeport.Addr(t)})
			s := stand{nats, faults.NewProxy(t, nats.Addr())}
			newBroker := func(t *testing.T) pubsub.Broker { return connect(t, s.proxy.Addr()) }
			pubsubtest.RunFault(t, newBroker, faults.Rounds(t), pubsubtest.Fault{
				Away: tt.away, Begin: func(*testing.T) func() { return tt.begin(s) },
			})
		})
	}
}

// TestSlowFaults slows the way to the server: nothing is lost.
func TestSlowFaults(t *testing.T) {
	t.Parallel()
	link := faults.NewSlowLink(t, natsServer(t, serverConfig{Addr: freeport.Addr(t)}).Addr())
	newBroker := func(t *testing.T) pubsub.Broker { return connect(t, link.Addr()) }
	pubsubtest.RunFault(t, newBroker, faults.Rounds(t), pubsubtest.Fault{Harmless: true, Begin: func(*testing.T) func() {
		link.Slow()
		return link.Fast
	}})
}

// TestClusterFaults harms one NATS server of three: its brokers go to the others.
func TestClusterFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		begin func(t *testing.T, c *natsCluster, nats *faults.Process) (end func())
	}{
		{"Kill", func(_ *testing.T, _ *natsCluster, nats *faults.Process) func() { nats.Kill(); return nats.Restart }},
		{"Stop", func(_ *testing.T, _ *natsCluster, nats *faults.Process) func() { nats.Stop(); return nats.Restart }},
		{"Freeze", func(t *testing.T, c *natsCluster, nats *faults.Process) func() { return c.freeze(t, nats) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, round := newNATSCluster(t, false), 0
			pubsubtest.RunFault(t, c.broker, faults.Rounds(t), pubsubtest.Fault{Begin: func(t *testing.T) func() {
				round++
				return tt.begin(t, c, c.servers[round%len(c.servers)])
			}})
		})
	}
}

// TestEmbeddedFaults cuts the ways between servers that are part of their programs. Each sees that its own server is there.
func TestEmbeddedFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		begin func(t *testing.T, w *web) (end func())
	}{
		{"Hang", func(t *testing.T, w *web) func() { w.block(t); return w.pass }},
		{"Cut", func(_ *testing.T, w *web) func() { w.cut(); return nothing }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := new(web)
			for range 3 {
				w.addrs = append(w.addrs, freeport.Addr(t))
				w.proxies = append(w.proxies, faults.NewProxy(t, w.addrs[len(w.addrs)-1]))
			}
			pubsubtest.RunFault(t, w.broker, faults.Rounds(t), pubsubtest.Fault{
				Begin: func(t *testing.T) func() { return tt.begin(t, w) },
			})
		})
	}
}

// A web is brokers with servers that reach each other by proxies only.
type web struct {
	addrs   []string
	proxies []*faults.Proxy
	brokers []*embedded.Broker
}

func (w *web) broker(t *testing.T) pubsub.Broker {
	i := len(w.brokers)
	o := embedded.Options{Addr: w.addrs[i], Advertise: w.proxies[i].Addr()}
	for _, proxy := range w.proxies[:i] {
		o.Peers = append(o.Peers, proxy.Addr())
	}
	w.brokers = append(w.brokers, start(t, o))
	return w.brokers[i]
}

// block cuts the ways until the servers have given up their connections.
func (w *web) block(t *testing.T) {
	for _, p := range w.proxies {
		p.Block()
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // real time: the servers' is
		left := 0
		for _, b := range w.brokers {
			left += b.Servers()
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the servers keep connections that lead nowhere")
		}
	}
}

func (w *web) pass() {
	for _, p := range w.proxies {
		p.Pass()
	}
}

func (w *web) cut() {
	for _, p := range w.proxies {
		p.Cut()
	}
}

// TestDropped has a subscription that is too slow: each message that was dropped is counted, and a loss is told after the last.
func TestDropped(t *testing.T) {
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t)})
	slow, fast := connect(t, server.Addr()), connect(t, server.Addr())
	defer slow.Close()
	defer fast.Close()
	var came, dropped atomic.Uint64 // dropped is as of the last loss
	release := make(chan struct{})
	unsubscribe, err := slow.Subscribe(t.Context(), "x", func([]byte) {
		<-release
		came.Add(1)
	}, func() { dropped.Store(slow.Stats().Dropped) })
	if err != nil {
		t.Fatal(err)
	}
	defer unsubscribe()
	const publishers, each = 128, 520 // a thousand more than the inbox holds
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			for range each {
				if err := fast.Publish(t.Context(), "x", nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(release)
	for deadline := time.Now().Add(20 * time.Second); came.Load()+dropped.Load() < publishers*each; time.Sleep(10 * time.Millisecond) { // real time: a server's
		if time.Now().After(deadline) {
			t.Fatalf("%d came and a loss of %d was told, of %d", came.Load(), dropped.Load(), publishers*each)
		}
	}
	if n := slow.Stats().Dropped; n == 0 || came.Load()+n != publishers*each {
		t.Errorf("%d came, %d were dropped, of %d", came.Load(), n, publishers*each)
	}
}

// TestBusyTopic has many publish to a topic at the same time, while the topic's subscriber on another server is told how much that was:
// that must not look as if something was lost.
func TestBusyTopic(t *testing.T) {
	there := start(t, embedded.Options{Addr: "127.0.0.1:0"})
	defer there.Close()
	here := start(t, embedded.Options{Addr: "127.0.0.1:0", Peers: []string{there.Addr()}})
	defer here.Close()
	var came, losses atomic.Int64
	unsubscribe, err := here.Subscribe(t.Context(), "x", func([]byte) { came.Add(1) }, func() { losses.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	defer unsubscribe()
	var sent atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(3 * time.Second) // a tail is sent each second
	for range 64 {
		wg.Go(func() {
			for time.Now().Before(end) {
				if err := there.Publish(t.Context(), "x", nil); err != nil {
					t.Error(err)
					return
				}
				sent.Add(1)
			}
		})
	}
	wg.Wait()
	time.Sleep(3500 * time.Millisecond) // real time: a loss is told two seconds after it was found
	if came.Load() != sent.Load() || losses.Load() > 0 {
		t.Errorf("%d of %d came, %d losses", came.Load(), sent.Load(), losses.Load())
	}
}

// TestPublishCanceled has a server that does not answer for a moment: a publisher doesn't wait beyond its context, and what it publishes
// next comes behind what it gave up.
func TestPublishCanceled(t *testing.T) {
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t)})
	proxy := faults.NewProxy(t, server.Addr())
	from, to := connect(t, proxy.Addr()), connect(t, server.Addr())
	defer from.Close()
	defer to.Close()
	came := make(chan string, 2)
	unsubscribe, err := to.Subscribe(t.Context(), "x", func(data []byte) { came <- string(data) }, nothing)
	if err != nil {
		t.Fatal(err)
	}
	defer unsubscribe()
	proxy.Block()
	canceled, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := from.Publish(canceled, "x", []byte("first")); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish: error %v, want the context's", err)
	}
	proxy.Pass()
	if err := from.Publish(t.Context(), "x", []byte("second")); err != nil {
		t.Fatal(err)
	}
	if first, second := <-came, <-came; first != "first" || second != "second" {
		t.Errorf("%q came before %q", first, second)
	}
}

// A fakePeer is a broker on another server, as far as its beats say. What it answers is up to the test.
type fakePeer struct {
	t   *testing.T
	nc  *nats.Conn
	id  string
	seq atomic.Int64
}

func newFakePeer(t *testing.T, nc *nats.Conn, id string, asked func(p *fakePeer, question *nats.Msg)) *fakePeer {
	t.Helper()
	p := &fakePeer{t: t, nc: nc, id: id}
	if _, err := nc.Subscribe("mooncore.peer."+id, func(m *nats.Msg) { asked(p, m) }); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *fakePeer) beat() {
	p.send("mooncore.peers", map[string]any{"id": p.id, "server": "elsewhere", "seq": p.seq.Add(1)})
}

func (p *fakePeer) answer(question *nats.Msg) {
	var q struct {
		ID    string
		Round uint64
	}
	if err := json.Unmarshal(question.Data, &q); err != nil {
		p.t.Error(err)
	}
	p.send("mooncore.peer."+q.ID, map[string]any{"id": p.id, "round": q.Round, "answer": true, "idle": true})
}

func (p *fakePeer) send(subject string, m map[string]any) {
	data, err := json.Marshal(m)
	if err == nil {
		err = p.nc.Publish(subject, data)
	}
	if err != nil {
		p.t.Error(err)
	}
}

// awaitPeers waits until a broker has heard others.
func awaitPeers(t *testing.T, b *natsbroker.Broker, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); b.Stats().Peers < n; time.Sleep(time.Millisecond) { // real time: a server's
		if time.Now().After(deadline) {
			t.Fatal("the beats are not heard")
		}
	}
}

// TestPeersThatOnlyBeat has two brokers on another server that beat and answer nothing: Subscribe goes on without them.
func TestPeersThatOnlyBeat(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t)})
	b := connect(t, server.Addr())
	defer b.Close()
	nc, err := nats.Connect(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	// Whenever one is asked, the other beats, so that there is always one to ask.
	var p1, p2 *fakePeer
	p1 = newFakePeer(t, nc, "p1", func(*fakePeer, *nats.Msg) { p2.beat() })
	p2 = newFakePeer(t, nc, "p2", func(*fakePeer, *nats.Msg) { p1.beat() })
	p1.beat()
	p2.beat()
	awaitPeers(t, b, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if _, err := b.Subscribe(ctx, "x", func([]byte) {}, func() {}); err != nil {
		t.Errorf("Subscribe: %v", err)
	}
}

// TestPeerThatAnswersLate has a broker on another server that is silent for a while, as if the way there stood still: what was subscribed
// meanwhile, and nothing else, is told of a loss once it answers.
func TestPeerThatAnswersLate(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t)})
	b := connect(t, server.Addr())
	defer b.Close()
	nc, err := nats.Connect(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var stands atomic.Bool
	p := newFakePeer(t, nc, "p", func(p *fakePeer, question *nats.Msg) {
		if !stands.Load() {
			p.answer(question)
		}
	})
	p.beat()
	awaitPeers(t, b, 1)
	lost := make(chan string, 10)
	subscribe := func(topic string) {
		t.Helper()
		if _, err := b.Subscribe(t.Context(), topic, func([]byte) {}, func() { lost <- topic }); err != nil {
			t.Fatal(err)
		}
	}
	subscribe("before")
	stands.Store(true)
	subscribe("meanwhile")
	stands.Store(false)
	p.beat()
	select {
	case topic := <-lost:
		if topic != "meanwhile" {
			t.Errorf("%q is told of a loss", topic)
		}
	case <-time.After(20 * time.Second):
		t.Error("no loss is told")
	}
	subscribe("after")
	if len(lost) > 0 {
		t.Errorf("%q is told of a loss too", <-lost)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	taken := start(t, embedded.Options{Addr: "127.0.0.1:0"})
	defer taken.Close()
	for _, tt := range []struct {
		name string
		o    embedded.Options
		want string
	}{
		{"no address", embedded.Options{}, "embedded: Addr: missing port in address"},
		{"no port", embedded.Options{Addr: "127.0.0.1:http"}, `embedded: Addr: "127.0.0.1:http" has no port`},
		{"no secret", embedded.Options{Addr: ":6222"}, "embedded: Secret: it must have at least 16 bytes"},
		{"a short secret", embedded.Options{Addr: "127.0.0.1:0", Secret: "canary"}, "embedded: Secret: it must have at least 16 bytes"},
		{"a bad peer", embedded.Options{Addr: "127.0.0.1:0", Peers: []string{taken.Addr(), "x"}}, "embedded: Peers[1]: address x: missing port in address"},
		{"history of two servers", embedded.Options{
			Addr: "127.0.0.1:1", Peers: []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:2"}, History: new(embedded.History),
		}, "embedded: History: Peers must list all servers, at least 3"},
		{"history without itself", embedded.Options{
			Addr: ":6222", Peers: []string{"a:1", "b:1", "c:1"}, Secret: strings.Repeat("s", 16), History: new(embedded.History),
		}, `embedded: History: Peers must list this server too, as ":6222"`},
		{"a negative limit", embedded.Options{Addr: "127.0.0.1:0", History: &embedded.History{MaxBytes: -1}}, "embedded: History.MaxBytes: it must not be negative"},
		{"an address in use", embedded.Options{Addr: taken.Addr()}, "address already in use"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := embedded.Start(tt.o)
			if err == nil {
				b.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestSecret has servers meet only with the same secret.
func TestSecret(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("s", 16)
	first := start(t, embedded.Options{Addr: "127.0.0.1:0", Secret: secret})
	defer first.Close()
	for _, tt := range []struct {
		name, secret string
		servers      int
	}{{"the same", secret, 1}, {"another", strings.Repeat("x", 16), 0}, {"none", "", 0}} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			b := start(t, embedded.Options{
				Addr: "127.0.0.1:0", Peers: []string{first.Addr()}, Secret: tt.secret, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			if n := b.Servers(); n != tt.servers {
				t.Errorf("%d other servers, want %d", n, tt.servers)
			}
			b.Close()
			if strings.Contains(log.String(), "ssss") || strings.Contains(log.String(), "xxxx") {
				t.Errorf("a secret is in the log:\n%s", log.String())
			}
		})
	}
}

// TestTLS has servers meet by TLS with certificates on both sides, and not without.
func TestTLS(t *testing.T) {
	t.Parallel()
	conf := selfSigned(t)
	first := start(t, embedded.Options{Addr: "127.0.0.1:0", TLS: conf})
	defer first.Close()
	quiet := slog.New(slog.DiscardHandler)
	for _, tt := range []struct {
		name    string
		tls     *tls.Config
		servers int
	}{{"the same authority", conf, 1}, {"another", selfSigned(t), 0}, {"none", nil, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			b := start(t, embedded.Options{Addr: "127.0.0.1:0", Peers: []string{first.Addr()}, TLS: tt.tls, Logger: quiet})
			defer b.Close()
			if n := b.Servers(); n != tt.servers {
				t.Errorf("%d other servers, want %d", n, tt.servers)
			}
		})
	}
}

func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}
