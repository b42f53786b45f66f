package mooncore

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// Config says what a [Server] serves and how. With Routers alone it serves on one machine with no other service.
// New copies it.
type Config struct {
	// Routers are what is served, one for each app. Required.
	Routers []Router

	// Addr is the TCP address that Run listens on. Default ":4000". Environment: HOST, PORT.
	Addr string

	// Listener is what Run serves on, instead of Addr. Run closes it. Default none.
	Listener net.Listener

	// TLS makes Run serve HTTPS with these certificates. Run clones it. Default none: plain HTTP.
	TLS *tls.Config

	// Inner is the TCP address of a second listener, for health, /debug/pprof/ and what extensions add by
	// [Server.HandleInner]. Keep it on loopback, such as "127.0.0.1:4001". Default none: no second listener.
	Inner string

	// Development permits what production must not have: signing keys made at start, and what [Config.Check] finds fatal. Without it
	// New refuses both. Default false. Environment: MOONCORE_ENV, "development" or "production"; ConfigFromEnv sets
	// Development if it is not set.
	Development bool

	// DevTools is one of the gates of the developer tools, which do nothing without it; see the package devtools for the others.
	// New refuses it without Development. Default false.
	DevTools bool

	// Logger gets one line per call, none with params. Default: text on stderr. Environment: LOG_LEVEL, which is the default's
	// level: debug, info, warn or error.
	Logger *slog.Logger

	// JWT says which tokens are good. Environment: JWT_ISSUER, JWT_PRIVATE_KEY, JWT_PUBLIC_KEY; the keys also as …_FILE.
	JWT JWTConfig

	// Authenticate says who sent a request, WebSocket upgrades included, before tokens are looked at. The zero Identity
	// means that it can't say: a token then decides when JWT has a key, and else the caller is anonymous. An [*Error] is
	// answered as it is, any other error as internal. For a ["jwt", t] frame it gets a request with t as bearer token and
	// the connection's Host and RemoteAddr, and nothing else of the upgrade. Default nil.
	Authenticate func(r *http.Request) (Identity, error)

	// Origins are the web origins, such as "https://example.com", that may call and connect besides the server's own, with
	// cookies: so "*" is refused. Default none. Environment: CORS_ORIGINS, separated by commas.
	Origins []string

	// Hosts are the values of Host that are answered: "example.com" on any port, "example.com:8443" on that one. Health checks
	// are answered on any. Default any.
	Hosts []string

	// TrustedProxies may name the client in X-Forwarded-For. Default none: the client is the peer of the connection.
	TrustedProxies []netip.Prefix

	// SecretKeyBase is what DeriveKey derives from, at least 32 bytes. Default none. Environment: SECRET_KEY_BASE or
	// SECRET_KEY_BASE_FILE; in development ConfigFromEnv makes one.
	SecretKeyBase Secret

	// Handler gets every request that the Server has no route for: the program's own routes. Default: 404.
	Handler http.Handler

	// Checks decide /readyz, by name. They run at the same time, each for at most 2 s, at most once a second. Default none.
	Checks map[string]func(ctx context.Context) error

	// OnConnect is called before the first frame of a connection is read. An error closes it with 1008; one that is no [*Error] is
	// logged. It runs in the goroutine of the upgrade request, so it should be quick. Default nil.
	OnConnect func(ctx context.Context, c *Conn) error

	// OnDisconnect is called when a connection that OnConnect let in is gone from all channels. Default nil.
	OnDisconnect func(c *Conn)

	// Pools are the names of isolated sets of connections. The first is that of /ws; [Server.SocketHandler] serves the others.
	// Default one, "default".
	Pools []string

	// Compression offers permessage-deflate (RFC 7692) to WebSocket clients, without context takeover. Messages of 512 bytes and more are
	// compressed, an event once for all its receivers. It saves bytes on the wire and costs CPU time; secrets beside what an
	// attacker can choose, in one message, can be guessed from its size. Default false.
	Compression bool

	// Observers see calls, their steps, connections and frames, in this order. Default none.
	Observers []Observer

	// Broker joins the servers of a cluster. The Server closes it, and so do [New] and [Run] when they fail. While it is away, publishing fails with CodeUnavailable, and so
	// does the check "broker", which a [pubsub.Reporter] adds to Checks. Default: local, one server alone.
	Broker pubsub.Broker

	// Node is this server's name among those of the cluster, for operators: see [Member]. Servers on one machine need one each. Default:
	// the machine's host name.
	Node string

	// Extensions run in order while New makes the Server. Default none.
	Extensions []Extension

	// Limits bound what one client can cost.
	Limits Limits

	// DrainDelay is how long a server that must stop still serves while /readyz already fails. Default 5s, but at most half of
	// ShutdownTimeout, and 0 in development. A negative value is 0.
	DrainDelay time.Duration

	// ShutdownTimeout bounds the whole drain in Run, DrainDelay included. Default 25s.
	ShutdownTimeout time.Duration

	// LegacyStatus answers every call with 200, as the Elixir framework does. Default false.
	LegacyStatus bool

	// LegacyAuth takes a token that is no good for no token, as the Elixir framework does. Default false.
	LegacyAuth bool

	sources  map[string]string // where ConfigFromEnv took fields from, by name: see Setting
	keyFiles []keyFile         // that ConfigFromEnv read, for Check
}

// Limits bound what one client can cost. 0 means the default, a negative value no limit.
type Limits struct {
	// Timeout is how long an action may take. Default 30s.
	Timeout time.Duration

	// MaxBytes is the size of a body or a WebSocket message. Default 1 MiB.
	MaxBytes int64

	// SendBytes is how many bytes may wait for a slow connection, beyond those that the kernel holds, before it is closed with
	// 4408. Default 256 KiB.
	SendBytes int

	// Channels is how many channels a connection may be in, its user's own included. Default 128.
	Channels int

	// Calls is how many calls of one connection may run at the same time. Above 1, those with a rayid may overtake one another.
	// Default 1.
	Calls int

	// AuthTimeout closes, with 4401, a connection that has not authenticated by then. Default: anonymous ones may stay.
	AuthTimeout time.Duration

	// IdleTimeout closes a connection that sent neither a frame nor a pong. Default 60s.
	IdleTimeout time.Duration

	// FramesPerSecond closes a connection that sends more, with 4429. Default none.
	FramesPerSecond int

	// Conns are the WebSockets that may be open; past it, upgrades get 503. Default 80 % of the file descriptors that the
	// process may have, where the system tells.
	Conns int

	// TenantConns are those of one tenant. Past it, upgrades get 503 and a ["jwt", t] frame fails. Default none.
	TenantConns int

	// AnonConns are those that have not authenticated. Past it, upgrades without a token get 503. Default none.
	AnonConns int

	// IdempotencyBytes is the memory for outcomes that [Action].Idempotency keeps, of all actions together. Past it the oldest
	// are forgotten, which is logged. Default 64 MiB.
	IdempotencyBytes int64
}

// What stands for "no limit" after withDefaults: far away, but sums and products of it don't overflow. A time without limit
// stays negative.
const (
	noLimit      = 1 << 30
	noLimitBytes = 1 << 50
)

// minSecretBytes is the least length of SecretKeyBase: that of a SHA-256 hash.
const minSecretBytes = 32

// withDefaults returns c with the documented defaults in place of zero values, and noLimit or noLimitBytes in place of negative
// counts and sizes.
func (c Config) withDefaults() Config {
	c.Addr = cmp.Or(c.Addr, defaultAddr)
	if c.Logger == nil {
		c.Logger = newLogger(slog.LevelInfo)
	}
	if len(c.Pools) == 0 {
		c.Pools = []string{"default"}
	}
	c.ShutdownTimeout = cmp.Or(c.ShutdownTimeout, 25*time.Second)
	if c.DrainDelay == 0 && !c.Development {
		c.DrainDelay = min(5*time.Second, c.ShutdownTimeout/2)
	}
	if c.Node == "" {
		c.Node, _ = os.Hostname()
	}
	if c.Handler == nil {
		c.Handler = http.NotFoundHandler()
	}
	c.Limits = c.Limits.withDefaults()
	return c
}

func (l Limits) withDefaults() Limits {
	l.Timeout = cmp.Or(l.Timeout, 30*time.Second)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, 60*time.Second)
	l.MaxBytes = limitOr(l.MaxBytes, 1<<20, noLimitBytes)
	l.SendBytes = limitOr(l.SendBytes, 256<<10, noLimit)
	l.IdempotencyBytes = limitOr(l.IdempotencyBytes, 64<<20, noLimitBytes)
	l.Channels = limitOr(l.Channels, 128, noLimit)
	l.Calls = limitOr(l.Calls, 1, noLimit)
	l.FramesPerSecond = limitOr(l.FramesPerSecond, noLimit, noLimit)
	l.Conns = limitOr(l.Conns, connLimit(descriptorLimit()), noLimit)
	l.TenantConns = limitOr(l.TenantConns, noLimit, noLimit)
	l.AnonConns = limitOr(l.AnonConns, noLimit, noLimit)
	return l
}

// connLimit returns the default of Conns: 80 % of the descriptors, noLimit if they are not known.
func connLimit(descriptors int) int {
	if descriptors == 0 {
		return noLimit
	}
	return descriptors / 5 * 4
}

// limitOr returns v, or the default if v is 0, or none if v is negative.
func limitOr[T int | int64](v, def, none T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return none
	}
	return v
}

func newLogger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// validate returns all faults of c, one a line, each with its field. It takes c with or without defaults. Routers and JWT
// are checked where they are compiled.
func (c Config) validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if c.Addr != "" && c.Listener == nil {
		if err := checkAddr(c.Addr); err != nil {
			fault("Addr: %w", err)
		}
	}
	if c.Inner != "" {
		if err := checkAddr(c.Inner); err != nil {
			fault("Inner: %w", err)
		} else if c.Listener == nil && sameListener(c.Inner, cmp.Or(c.Addr, defaultAddr)) {
			fault("Inner: %q is what Run listens on too: give another port", c.Inner)
		}
	}
	if t := c.TLS; t != nil && len(t.Certificates) == 0 && t.GetCertificate == nil && t.GetConfigForClient == nil {
		fault("TLS: it has neither Certificates nor GetCertificate nor GetConfigForClient")
	}
	if _, err := newOriginPolicy(c.Origins); err != nil {
		errs = append(errs, err)
	}
	for i, host := range c.Hosts {
		if _, _, ok := splitHostPort(bracketed(host)); !ok {
			fault("Hosts[%d]: %q is neither host nor host:port", i, host)
		}
	}
	for i, p := range c.TrustedProxies {
		switch {
		case !p.IsValid():
			fault("TrustedProxies[%d]: it is no valid prefix", i)
		case p.Addr().Is4In6():
			fault("TrustedProxies[%d]: %v is an IPv4-mapped prefix; give the IPv4 one", i, p)
		}
	}
	if n := len(c.SecretKeyBase); n > 0 && n < minSecretBytes {
		fault("SecretKeyBase: it has %d bytes, at least %d are needed", n, minSecretBytes)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Checks)) {
		switch {
		case name == "":
			fault("Checks: a name is empty")
		case c.Checks[name] == nil:
			fault("Checks[%q]: it is nil", name)
		}
	}
	for i, name := range c.Pools {
		switch {
		case name == "":
			fault("Pools[%d]: it is empty", i)
		case slices.Contains(c.Pools[:i], name):
			fault("Pools[%d]: %q is there twice", i, name)
		}
	}
	for i, o := range c.Observers {
		if o == nil {
			fault("Observers[%d]: it is nil", i)
		}
	}
	for i, e := range c.Extensions {
		if e == nil {
			fault("Extensions[%d]: it is nil", i)
		}
	}
	if c.ShutdownTimeout < 0 {
		fault("ShutdownTimeout: %v is negative", c.ShutdownTimeout)
	} else if total := cmp.Or(c.ShutdownTimeout, 25*time.Second); c.DrainDelay >= total {
		fault("DrainDelay: %v leaves nothing of ShutdownTimeout, %v", c.DrainDelay, total)
	}
	return errors.Join(errs...)
}

const defaultAddr = ":4000"

// sameListener reports whether one of two addresses takes the port from the other.
func sameListener(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	everywhere := func(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
	return hostA == hostB || everywhere(hostA) || everywhere(hostB)
}

// checkAddr reports whether addr is host:port, with a port that can be listened on.
func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port", addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q has no valid port", addr)
	}
	return nil
}
