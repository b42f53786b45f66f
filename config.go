package mooncore

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
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

	// Development permits what production must not have: signing keys made at start, and dev tools. Without it New
	// refuses a missing key. Default false. Environment: MOONCORE_ENV, which is "development" unless it says "production".
	Development bool

	// DevTools is the first gate of package devtools; MOONCORE_DEV_TOOLS=true in the environment is the second. Default false.
	DevTools bool

	// Logger gets one line per call, none with params. Default: text on stderr at LOG_LEVEL.
	Logger *slog.Logger

	// JWT says which tokens are good. Environment: JWT_ISSUER, JWT_PRIVATE_KEY, JWT_PUBLIC_KEY, each also as …_FILE.
	JWT JWTConfig

	// Authenticate says who sent a request, WebSocket upgrades included, before tokens are looked at. The zero Identity
	// means that it can't say: a token then decides when JWT has a key, and else the caller is anonymous. An [*Error] is
	// answered as it is, any other error as internal. For a ["jwt", t] frame it gets a request with t as bearer token and
	// the connection's Host and RemoteAddr, and nothing else of the upgrade. Default nil.
	Authenticate func(r *http.Request) (Identity, error)

	// Origins are the web origins, such as "https://example.com", that may call and connect besides the server's own.
	// Default none. Environment: CORS_ORIGINS.
	Origins []string

	// Hosts are the values of Host that are answered. Default any.
	Hosts []string

	// TrustedProxies may name the client in X-Forwarded-For. Default none: the client is the peer of the connection.
	TrustedProxies []netip.Prefix

	// SecretKeyBase is what DeriveKey derives from. Default none. Environment: SECRET_KEY_BASE; in development
	// ConfigFromEnv makes one.
	SecretKeyBase Secret

	// Handler gets every request that the Server has no route for: the program's own routes. Default: 404.
	Handler http.Handler

	// Checks decide /readyz, by name. They run at the same time, each for at most 2 s, at most once a second. Default none.
	Checks map[string]func(ctx context.Context) error

	// OnConnect is called when a WebSocket connected, before its first frame is read. An error closes it with 1008.
	// It runs in the connection's own goroutine. Default nil.
	OnConnect func(ctx context.Context, c *Conn) error

	// OnDisconnect is called when a connection that OnConnect let in is gone from all channels. Default nil.
	OnDisconnect func(c *Conn)

	// Pools are the names of isolated sets of connections. The first is that of /ws; [Server.SocketHandler] serves the others.
	// Default one, "default".
	Pools []string

	// Observers see calls, their steps, connections and frames, in this order. Default none.
	Observers []Observer

	// Broker joins the servers of a cluster. The Server closes it. Default: local, one server alone.
	Broker pubsub.Broker

	// Extensions run in order while New makes the Server. Default none.
	Extensions []Extension

	// Limits bound what one client can cost.
	Limits Limits

	// DrainDelay is how long a server that must stop still serves while /readyz already fails. Default 5s, 0 in development.
	// A negative value is 0.
	DrainDelay time.Duration

	// ShutdownTimeout bounds the whole drain in Run, DrainDelay included. Default 25s.
	ShutdownTimeout time.Duration

	// LegacyStatus answers every call with 200, as the Elixir framework does. Default false.
	LegacyStatus bool

	// LegacyAuth takes a token that is no good for no token, as the Elixir framework does. Default false.
	LegacyAuth bool
}

// ConfigFromEnv returns base with the fields set that the environment names; see each field of [Config].
// The error lists every variable that is set but wrong.
func ConfigFromEnv(base Config) (Config, error) { panic("stub") }

// DeriveKey derives a key of length bytes from SecretKeyBase for one purpose, such as "session cookies", by HKDF with SHA-256.
// It fails if SecretKeyBase is empty.
func (c Config) DeriveKey(purpose string, length int) ([]byte, error) { panic("stub") }

// Limits bound what one client can cost. 0 means the default, a negative value no limit.
type Limits struct {
	// Timeout is how long an action may take. Default 30s.
	Timeout time.Duration

	// MaxBytes is the size of a body or a WebSocket message. Default 1 MiB.
	MaxBytes int64

	// SendBytes may wait for a slow connection before it is closed with 4408. Default 256 KiB.
	SendBytes int

	// Channels may be joined by a connection. Default 128.
	Channels int

	// Calls of one connection run at the same time. Above 1, those with a rayid may overtake one another. Default 1.
	Calls int

	// AuthTimeout closes, with 4401, a connection that has not authenticated by then. Default: anonymous ones may stay.
	AuthTimeout time.Duration

	// IdleTimeout closes a connection that sent neither a frame nor a pong. Default 60s.
	IdleTimeout time.Duration

	// FramesPerSecond closes a connection that sends more, with 4429. Default none.
	FramesPerSecond int

	// Conns are the WebSockets that may be open; past it, upgrades get 503. Default 80 % of the process's file descriptors.
	Conns int

	// TenantConns are those of one tenant. Past it, upgrades get 503 and a ["jwt", t] frame fails. Default none.
	TenantConns int

	// AnonConns are those that have not authenticated. Past it, upgrades without a token get 503. Default none.
	AnonConns int
}
