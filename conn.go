package mooncore

import (
	"context"
	"math"
	"net"
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

	mu sync.Mutex // held to admit a connection to a tenant
}

// admit calls enter if a tenant has a place for another connection, and reports whether it did.
func (p *pool) admit(tenant string, most int, enter func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns.TenantLen(tenant) >= most {
		return false
	}
	enter()
	return true
}

// A Conn is a WebSocket connection to a [Server]. Its methods may be called concurrently.
type Conn struct {
	server      *Server
	pool        *pool
	ws          *ws.Conn
	member      *registry.Member[*Conn]
	id          string
	addr        netip.Addr
	host        string
	remote      string // RemoteAddr of the upgrade, for Config.Authenticate
	since       time.Time
	history     bool           // it takes positions: its sub-protocol is mooncore.v1.history
	overlapping sync.WaitGroup // calls that run beside the others
	calls       chan struct{}  // a place for each call that may run at the same time; nil when that is one

	identity atomic.Pointer[Identity] // never nil
	deadline atomic.Int64             // when identity expires, in Unix nanoseconds; 0 is never
	gap      atomic.Bool              // it missed an event and can't be told but by the close that follows

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
func (c *Conn) Channels() []string { return channelLabels(c.member.Channels()) }

func channelLabels(channels []registry.Channel) []string {
	labels := []string{}
	for _, ch := range channels {
		if ch != pendingChannel {
			labels = append(labels, channelLabel(ch))
		}
	}
	return labels
}

// Send sends an event to this connection alone. It doesn't wait for the client. Errors are those of [Tenant.Publish]; a connection
// that is closing gets nothing, which is no error.
func (c *Conn) Send(event string, payload any) error {
	frame, err := eventFrame(event, payload)
	if err != nil {
		return err
	}
	c.deliver(frame, time.Now().UnixNano())
	c.server.counters.delivered.Add(1)
	return nil
}

// Join makes the connection a member of a channel of its scope, whatever the channel's Allow says. The channel is named as clients
// join it. The client is not told. It fails with invalid_argument for what is no channel's name, and with failed_precondition if
// nobody is logged in on the connection, if it closes, or if it has joined as many channels as it may.
func (c *Conn) Join(ctx context.Context, channel string) error {
	if !validChannelName(channel) {
		return Errorf(CodeInvalidArgument, "no channel's name: %q", channel)
	}
	if !c.join(ctx, c.current(), channel, nil) {
		return errCannotJoin
	}
	return nil
}

// Leave ends the connection's membership of a channel of its scope; it is no error if it has none. The client is not told.
func (c *Conn) Leave(_ context.Context, channel string) { c.leave(c.current(), channel) }

// RTT is how long the client took to answer the last ping, or 0 while there is no such answer. A busy client gets no pings.
func (c *Conn) RTT() time.Duration { return c.ws.RTT() }

// Kick closes the connection with 1008 and returns at once. The client may come back.
func (c *Conn) Kick() { c.ws.Close(ws.CodePolicy, "kicked") }

// nobody is the identity of connections that have none. It is never written to.
var nobody = new(Identity)

// current returns who is logged in now; an identity that expired is nobody.
func (c *Conn) current() *Identity {
	id := c.identity.Load()
	if exp := c.deadline.Load(); exp != 0 && time.Now().UnixNano() >= exp {
		return nobody
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
// be in stay, so that a refreshed token loses no event; else all of the old ones are left first. It fails, and changes nothing, when
// the tenant has no place for another connection, the broker doesn't take the subscription, or the connection closes.
func (c *Conn) authenticate(ctx context.Context, id *Identity) error {
	own := userChannel(id.User)
	if !c.hold(ctx, id.Tenant, own) {
		return errAway
	}
	old, left, err := c.become(id, c.allowed(ctx, id))
	c.release(old.tenantName(), left...)
	if err != nil {
		c.release(id.Tenant, own)
		return err
	}
	// A revocation between the check of the token and this moment did not see the connection.
	if c.server.tokens.refuses(id) {
		c.ws.Close(ws.CodeUnauthorized, "token revoked")
	}
	return nil
}

// allowed returns those of the joined channels that id may be in too.
func (c *Conn) allowed(ctx context.Context, id *Identity) map[registry.Channel]bool {
	if !c.identity.Load().sameChannels(id) {
		return nil
	}
	keep := map[registry.Channel]bool{}
	a := c.server.app(id.App)
	for _, ch := range c.member.Channels() {
		keep[ch] = ch.Kind == userKind || a.mayJoin(ctx, id, ch.Name)
	}
	return keep
}

// become changes the identity, and returns the old one and the channels that were left, for which the hold ends.
func (c *Conn) become(id *Identity, keep map[registry.Channel]bool) (old *Identity, left []registry.Channel, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old = c.identity.Load()
	if c.closed {
		return old, nil, net.ErrClosed
	}
	exp := c.deadline.Swap(0) // from now on, no event is dropped
	if exp != 0 && time.Now().UnixNano() >= exp {
		left, exp = c.lapse(), 0 // some may have been
	}
	now := c.identity.Load()
	var moved []registry.Channel
	move := func() { moved = c.member.Move(id.Tenant, func(ch registry.Channel) bool { return keep[ch] }) }
	if now.tenantName() == id.Tenant {
		move()
	} else if !c.pool.admit(id.Tenant, c.server.cfg.Limits.TenantConns, move) {
		c.deadline.Store(exp)
		return old, left, errOverloaded
	}
	left = append(left, moved...)
	c.server.presence.left(c, now, moved)
	c.lapsed = false
	c.identity.Store(id)
	expires := id.Expires
	if id.token && !expires.IsZero() {
		expires = expires.Add(c.server.cfg.JWT.Leeway) // as long as the token is good over HTTP
	}
	c.setDeadline(expires, c.expire)
	if joined, _ := c.member.Join(userChannel(id.User), 0); !joined {
		left = append(left, userChannel(id.User)) // it was in it and held it already
	}
	return old, left, nil
}

// tenantName is the tenant whose channels the identity is in.
func (id *Identity) tenantName() string {
	if id.User == "" {
		return anonTenant
	}
	return id.Tenant
}

// sameChannels reports whether two identities name their channels alike.
func (id *Identity) sameChannels(other *Identity) bool {
	return id.User == other.User && id.App == other.App && id.Tenant == other.Tenant && id.Scope == other.Scope
}

// setDeadline arms the timer for the end of an identity; the zero time disarms it. The caller holds c.mu.
func (c *Conn) setDeadline(at time.Time, fn func()) {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if at.IsZero() || at.After(time.Unix(0, math.MaxInt64)) { // never, or past the year 2262, which Unix nanoseconds end with
		c.deadline.Store(0)
		return
	}
	c.deadline.Store(at.UnixNano())
	c.timer = time.AfterFunc(time.Until(at), fn)
}

// expire ends the identity when its time has come, and gives the client the grace time to send a fresh token.
func (c *Conn) expire() {
	old, left := c.expireNow()
	c.release(old.tenantName(), left...)
}

func (c *Conn) expireNow() (old *Identity, left []registry.Channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old = c.identity.Load()
	exp := c.deadline.Load()
	if c.closed || exp == 0 {
		return old, nil
	}
	if left := exp - time.Now().UnixNano(); left > 0 { // a fresh token came first, or the clock was set back
		c.timer.Stop()
		c.timer = time.AfterFunc(time.Duration(left), c.expire)
		return old, nil
	}
	return old, c.lapse()
}

// lapse makes the connection anonymous, and returns the channels that it left. The caller holds c.mu.
func (c *Conn) lapse() (left []registry.Channel) {
	left = c.member.Move(anonTenant, nil)
	c.server.presence.left(c, c.identity.Load(), left)
	c.identity.Store(nobody)
	c.deadline.Store(0)
	c.lapsed = true
	c.timer.Stop()
	c.timer = time.AfterFunc(graceTime, func() {
		if c.expired() {
			c.ws.Close(ws.CodeUnauthorized, "token expired")
		}
	})
	c.send(`["jwt","jwt_expired"]`)
	return left
}

// join makes the connection a member of a channel of id's scope and reports whether it is one now; it is not when another is
// logged in by now. If it was none before, then is called first, ahead of the channel's first event.
func (c *Conn) join(ctx context.Context, id *Identity, name string, then func(all []registry.Channel)) bool {
	ch := roomChannel(name, id.Scope)
	if id.User == "" || !c.hold(ctx, id.Tenant, ch) {
		return false
	}
	joined, ok := c.sit(id, ch, nil, then)
	if !joined {
		c.release(id.Tenant, ch)
	}
	return ok
}

// sit takes the seat. With a feed, which stands still meanwhile, then is called also if the connection is a member already.
func (c *Conn) sit(id *Identity, ch registry.Channel, f *feed, then func([]registry.Channel)) (joined, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || !c.identity.Load().sameChannels(id) {
		return false, false
	}
	if f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
	}
	joined, ok = c.member.JoinFunc(ch, c.server.cfg.Limits.Channels, then)
	switch {
	case joined:
		c.server.presence.joined(c, id, ch)
	case ok && f != nil:
		then(c.member.Channels())
	}
	return joined, ok
}

func (c *Conn) leave(id *Identity, name string) {
	ch := roomChannel(name, id.Scope)
	c.mu.Lock()
	left := c.identity.Load().sameChannels(id) && c.member.Leave(ch)
	if left {
		c.server.presence.left(c, id, []registry.Channel{ch})
	}
	c.mu.Unlock()
	if left {
		c.release(id.tenantName(), ch)
	}
}

// end forgets the connection everywhere.
func (c *Conn) end() {
	c.mu.Lock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	id := c.identity.Load()
	left := c.member.Remove()
	c.server.presence.left(c, id, left)
	c.mu.Unlock()
	c.release(id.tenantName(), left...)
}

func (c *Conn) send(text string) { c.ws.Send(ws.Text, []byte(text)) }
