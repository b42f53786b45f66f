// Package embedded joins servers over NATS without another service: each brings a NATS server along, and these form a cluster.
package embedded

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/natsbroker"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

var (
	_ pubsub.Log      = (*Broker)(nil)
	_ pubsub.Reporter = (*Broker)(nil)
)

const (
	clusterName  = "mooncore"
	readyTime    = 5 * time.Second
	routeTime    = 2 * time.Second // how long Start waits for peers
	pingInterval = 2 * time.Second // between servers; two that are missed cut the connection
)

// Options say how the servers of a cluster find and trust each other.
type Options struct {
	// Addr is the TCP address that the other servers connect to, such as "10.0.0.1:6222" or ":6222". With port 0 the system
	// chooses one. Required.
	Addr string

	// Advertise is the address that the others are told, where it is not Addr: behind NAT, or in a container. Default Addr.
	Advertise string

	// Peers are the addresses of other servers. One that is up is enough: servers tell each other of the rest. The list may hold
	// this server too, so that all have the same. Servers that are away are tried for ever. Default none: the first of a cluster.
	Peers []string

	// Secret is what servers prove to each other. Who knows it can read and forge every event. Required, with at least 16
	// bytes, unless Addr is on loopback. It crosses the network in the clear if TLS isn't set.
	Secret string

	// TLS encrypts what goes between servers. It needs Certificates, and, since servers are clients of each other, RootCAs. Set
	// ClientAuth and ClientCAs to demand certificates too. Default none.
	TLS *tls.Config

	// History makes the servers keep what [pubsub.Log] appends. Default none: Append and Read fail, unless other servers keep it.
	History *History

	// Logger gets the NATS server's warnings and errors. Default [slog.Default].
	Logger *slog.Logger
}

const minSecret = 16

func (o *Options) options() (*server.Options, error) {
	host, port, err := splitAddr(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("Addr: %w", err)
	}
	ip, err := netip.ParseAddr(host)
	loopback := host == "localhost" || err == nil && ip.IsLoopback()
	if len(o.Secret) < minSecret && (!loopback || o.Secret != "") {
		return nil, fmt.Errorf("Secret: it must have at least %d bytes, unless Addr is on loopback and it is empty", minSecret)
	}
	if o.History != nil {
		if err := o.History.validate(o.self(), o.Peers); err != nil {
			return nil, err
		}
	}
	opts := &server.Options{
		// The NATS server joins no cluster without a listener for clients. Nobody else knows this one's password.
		Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: clusterName, Password: rand.Text(),
		NoSigs: true, NoLog: true, NoSystemAccount: true,
		Cluster: server.ClusterOpts{
			Name: clusterName, Host: host, Port: port, Advertise: o.Advertise, NoAdvertise: true,
			PingInterval: pingInterval, MaxPingsOut: 2,
			TLSConfig: o.TLS, TLSTimeout: readyTime.Seconds(), AuthTimeout: readyTime.Seconds(),
		},
	}
	var user *url.Userinfo
	if o.Secret != "" {
		opts.Cluster.Username, opts.Cluster.Password = clusterName, o.Secret
		user = url.UserPassword(clusterName, o.Secret)
	}
	for i, peer := range o.Peers {
		if _, _, err := splitAddr(peer); err != nil {
			return nil, fmt.Errorf("Peers[%d]: %w", i, err)
		}
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", User: user, Host: peer})
	}
	return opts, nil
}

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q has no port", addr)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	if n == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(n), nil
}

// self is the address that other servers know this one by.
func (o *Options) self() string {
	if o.Advertise != "" {
		return o.Advertise
	}
	return o.Addr
}

// A Broker is a [natsbroker.Broker] with the server that it is connected to.
type Broker struct {
	*natsbroker.Broker
	server *server.Server
	temp   string // a directory that ends with the Broker, or ""
}

// Start starts a server and joins it to its peers, for which it waits up to 2 s. With History it waits up to 10 s more until this
// server has what the others keep, if most of them are there.
//
// A server without its peers goes on alone: it can't know whether they ended or can't be reached. When it meets them again, its
// subscriptions are told that messages may be missing. History stands still where less than half of the servers are.
func Start(o Options) (_ *Broker, err error) {
	opts, err := o.options()
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	b := new(Broker)
	defer func() {
		if err != nil {
			b.stop()
			err = fmt.Errorf("embedded: %w", err)
		}
	}()
	if o.History != nil {
		if b.temp, err = o.History.apply(opts, o.self()); err != nil {
			return nil, err
		}
	}
	if b.server, err = server.NewServer(opts); err != nil {
		return nil, err
	}
	log := &logger{log: o.Logger}
	if log.log == nil {
		log.log = slog.Default()
	}
	b.server.SetLoggerV2(log, false, false, false)
	b.server.Start()
	if err := awaitReady(b.server, log); err != nil {
		return nil, err
	}
	awaitPeers(b.server, o)
	if o.History != nil {
		awaitHistory(b.server, o.Peers)
	}
	b.Broker, err = natsbroker.New(o.client(b.server, opts))
	return b, err
}

// client says how the broker uses its server.
func (o *Options) client(ns *server.Server, opts *server.Options) natsbroker.Options {
	c := natsbroker.Options{
		URL:    "nats://embedded",
		Client: []nats.Option{nats.InProcessServer(ns), nats.UserInfo(opts.Username, opts.Password)},
	}
	if h := o.History; h != nil {
		c.Memory, c.MaxBytes = h.Dir == "", h.maxBytes()
	}
	return c
}

func awaitReady(ns *server.Server, log *logger) error {
	for deadline := time.Now().Add(readyTime); !ns.ReadyForConnections(50 * time.Millisecond); {
		if err := log.fatal.Load(); err != nil {
			return *err
		}
		if time.Now().After(deadline) {
			return errors.New("the server did not start in time")
		}
	}
	return nil
}

// awaitPeers waits for connections with as many servers as there are peers, for a while.
func awaitPeers(ns *server.Server, o Options) {
	ctx, cancel := context.WithTimeout(context.Background(), routeTime)
	defer cancel()
	want := 0
	for _, peer := range o.Peers {
		if peer != o.Advertise && !itself(ctx, peer, ns.ClusterAddr()) {
			want++
		}
	}
	for servers(ns) < want && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
}

// itself reports whether a server that listens on own is reached by the address of a peer.
func itself(ctx context.Context, peer string, own *net.TCPAddr) bool {
	if peer == own.String() {
		return true
	}
	host, port, err := net.SplitHostPort(peer)
	if err != nil || port != strconv.Itoa(own.Port) || !own.IP.IsUnspecified() {
		return false
	}
	// It listens on all addresses of the machine. One of them is one that the system lets us listen on.
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// servers is how many servers this one is connected with.
func servers(ns *server.Server) int {
	routes, err := ns.Routez(nil)
	if err != nil {
		return 0
	}
	ids := map[string]bool{}
	for _, route := range routes.Routes {
		ids[route.RemoteID] = true
	}
	return len(ids)
}

// Addr is the address that peers connect to, with the port that was chosen.
func (b *Broker) Addr() string { return b.server.ClusterAddr().String() }

// Servers is how many other servers this one is connected with.
func (b *Broker) Servers() int { return servers(b.server) }

// Close implements [pubsub.Broker]. It stops the server too.
func (b *Broker) Close() error {
	err := b.Broker.Close()
	b.stop()
	return err
}

func (b *Broker) stop() {
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	if b.temp != "" {
		_ = os.RemoveAll(b.temp) // what is left is the system's to clear
	}
}

// A logger hands the NATS server's warnings and errors to a slog.Logger.
type logger struct {
	log   *slog.Logger
	fatal atomic.Pointer[error]
}

func (l *logger) Noticef(string, ...any) {}
func (l *logger) Debugf(string, ...any)  {}
func (l *logger) Tracef(string, ...any)  {}

func (l *logger) Warnf(format string, args ...any) {
	if strings.HasPrefix(format, "Plaintext passwords detected") {
		return // they are in no file: one is random, the other is Options.Secret
	}
	l.log.Warn("nats: " + fmt.Sprintf(format, args...))
}

func (l *logger) Errorf(format string, args ...any) {
	l.log.Error("nats: " + fmt.Sprintf(format, args...))
}

func (l *logger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	l.fatal.CompareAndSwap(nil, &err)
	l.log.Error("nats: " + err.Error())
}
