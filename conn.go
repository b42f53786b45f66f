package mooncore

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore/registry"
	"github.com/mooncore/mooncore/ws"
)

const (
	anonTenant   = "_anon"   // the tenant of connections that have not authenticated
	defaultScope = "default" // the scope of callers whose token names none
	mainChannel  = "main"    // the channel that every authenticated client may join
)

// graceTime is how long a connection whose token expired may stay, to send a fresh one. PROTOCOL.md section 3.
const graceTime = 30 * time.Second

// pendingChannel is where connections wait that have not authenticated, in the tenant "_anon".
var pendingChannel = roomChannel("ws", "pending")

// Rooms and users' channels are kept apart in the registry, whatever their names.
const (
	roomKind registry.Kind = iota
	userKind
)

func roomChannel(name, scope string) registry.Channel {
	return registry.Channel{Kind: roomKind, Name: name, Scope: scope}
}

func userChannel(user string) registry.Channel {
	return registry.Channel{Kind: userKind, Name: user}
}

// channelLabel is a channel as clients see it. No name that can be joined has a colon or starts with an at sign.
func channelLabel(ch registry.Channel) string {
	if ch.Kind == userKind {
		return "@" + ch.Name
	}
	return ch.Name + ":" + ch.Scope
}

// A pool is one isolated set of connections.
type pool struct {
	name  string
	conns *registry.Pool[*Conn]
}

// A Conn is a WebSocket connection to a [Server]. Its methods may be called concurrently.
type Conn struct {
	server *Server
	pool   *pool
	ws     *ws.Conn
	member *registry.Member[*Conn]
	id     string
	addr   netip.Addr
	host   string
	remote string // RemoteAddr of the upgrade, for Config.Authenticate
	since  time.Time
	calls  chan struct{} // a place for each call that may run at the same time; nil when that is one

	identity atomic.Pointer[Identity] // never nil
	deadline atomic.Int64             // when identity expires, in Unix nanoseconds; 0 is never

	mu       sync.Mutex // guards what follows, and changes of identity with the channels that go with it
	timer    *time.Timer
	lapsed   bool // the last identity expired and no other came
	closed   bool
	failures int // of ["jwt", t] frames

	welcomed bool // Config.OnConnect let it in; set before the first frame is read
}

// ID is the connection's id, unique among those of a server.
func (c *Conn) ID() string { return c.id }

// Pool is the name of the pool that the connection is in.
func (c *Conn) Pool() string { return c.pool.name }

// Identity is who is logged in on the connection; the zero Identity for nobody.
func (c *Conn) Identity() Identity { return *c.identity.Load() }

// RemoteAddr is the client's address.
func (c *Conn) RemoteAddr() netip.Addr { return c.addr }

// Since is when it was accepted.
func (c *Conn) Since() time.Time { return c.since }

// Queued is how many bytes wait to be sent, beyond those that the kernel has taken.
func (c *Conn) Queued() int { return c.ws.Queued() }

// Channels lists the joined channels as the client sees them, newest first: "main:default", "@alice".
func (c *Conn) Channels() []string {
	labels := []string{}
	for _, ch := range c.member.Channels() {
		if ch != pendingChannel {
			labels = append(labels, channelLabel(ch))
		}
	}
	return labels
}

// Kick closes the connection with 1008 and returns at once. The client may come back.
func (c *Conn) Kick() { c.ws.Close(ws.CodePolicy, "kicked") }

// current returns who is logged in now; an identity that expired is nobody.
func (c *Conn) current() *Identity {
	id := c.identity.Load()
	if exp := c.deadline.Load(); exp != 0 && time.Now().UnixNano() >= exp {
		return &Identity{}
	}
	return id
}

// expired reports whether the connection is anonymous because its token ended.
func (c *Conn) expired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lapsed
}

// deliver queues an event, unless the identity that it was meant for has expired. It never blocks.
func (c *Conn) deliver(frame *ws.Prepared, now int64) {
	if exp := c.deadline.Load(); exp != 0 && now >= exp {
		return
	}
	c.ws.SendPrepared(frame)
}

// authenticate makes id the connection's identity. With the same app, tenant, user and scope, the channels that id may still
// be in stay, so that a refreshed token loses no event; else all of the old ones are left first. It reports false when the
// tenant has no place for another connection, and changes nothing then.
func (c *Conn) authenticate(ctx context.Context, id Identity) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	old := c.identity.Load()
	if old.Tenant != id.Tenant || old.User == "" {
		if c.pool.conns.TenantLen(id.Tenant) >= c.server.cfg.Limits.TenantConns {
			return false
		}
	}
	a := c.server.app(id.App)
	same := old.User == id.User && old.App == id.App && old.Tenant == id.Tenant && old.Scope == id.Scope
	left := c.member.Move(id.Tenant, func(ch registry.Channel) bool {
		return same && (ch.Kind == userKind || a.mayJoin(ctx, &id, ch.Name))
	})
	c.server.presence.left(c, old, left)
	c.lapsed = false
	c.identity.Store(&id)
	expires := id.Expires
	if id.issued != 0 && !expires.IsZero() {
		expires = expires.Add(c.server.cfg.JWT.Leeway) // as long as the token is good over HTTP
	}
	c.setDeadline(expires, c.expire)
	c.member.Join(userChannel(id.User), 0)
	return true
}

// setDeadline arms the timer for the end of an identity; the zero time disarms it. The caller holds c.mu.
func (c *Conn) setDeadline(at time.Time, fn func()) {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if at.IsZero() {
		c.deadline.Store(0)
		return
	}
	c.deadline.Store(at.UnixNano())
	c.timer = time.AfterFunc(time.Until(at), fn)
}

// expire ends the identity when its time has come, and gives the client the grace time to send a fresh token.
func (c *Conn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	exp := c.deadline.Load()
	if c.closed || exp == 0 || time.Now().UnixNano() < exp {
		return // a fresh token came first
	}
	c.becomeAnonymous()
	c.lapsed = true
	c.timer = time.AfterFunc(graceTime, func() {
		if c.expired() {
			c.ws.Close(ws.CodeUnauthorized, "token expired")
		}
	})
	c.send(`["jwt","jwt_expired"]`)
}

// becomeAnonymous leaves all channels and forgets the identity. The caller holds c.mu.
func (c *Conn) becomeAnonymous() {
	old := c.identity.Load()
	c.server.presence.left(c, old, c.member.Move(anonTenant, nil))
	c.identity.Store(&Identity{})
	c.deadline.Store(0)
	c.member.Join(pendingChannel, 0)
}

// join makes the connection a member of a channel of its scope and reports whether it is one now. If it was none before, then
// is called first, ahead of the channel's first event.
func (c *Conn) join(name string, then func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.identity.Load()
	if c.closed || id.User == "" {
		return false
	}
	ch := roomChannel(name, id.Scope)
	joined, ok := c.member.JoinFunc(ch, c.server.cfg.Limits.Channels, then)
	if joined {
		c.server.presence.joined(c, id, ch)
	}
	return ok
}

func (c *Conn) leave(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.identity.Load()
	ch := roomChannel(name, id.Scope)
	if c.member.Leave(ch) {
		c.server.presence.left(c, id, []registry.Channel{ch})
	}
}

// end forgets the connection everywhere.
func (c *Conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.server.presence.left(c, c.identity.Load(), c.member.Remove())
}

func (c *Conn) send(text string) { c.ws.Send(ws.Text, []byte(text)) }
