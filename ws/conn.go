package ws

import (
	"context"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Handler is told what happens on a connection. One Handler may serve many.
type Handler interface {
	// Urgent is called with each message as it is read, ahead of those that wait to be handled. It returns true if it has dealt
	// with the message, which is then not given to Message. It must not block, nor keep data.
	Urgent(c *Conn, typ Type, data []byte) bool

	// Message is called with one message at a time, in the order in which they came. It may take its time: after some milliseconds
	// reading goes on beside it. data is valid until it returns, and its own to change.
	//
	// After Conn.Close no further message is handled. After the peer has closed, those that it sent before still are, with
	// Conn.Context ended.
	Message(c *Conn, typ Type, data []byte)

	// Closed is called once, after the last call of Message has returned and the socket is closed. code and reason are those of the
	// close frame that was sent or received first: CodeNone if it held none, CodeLost if there was no such frame.
	// err is nil after Conn.Close and after the peer's close frame; else it says what went wrong.
	Closed(c *Conn, code int, reason string, err error)
}

// A Conn is a WebSocket connection, the server's side. Its methods may be called concurrently, also from within a Handler.
type Conn struct {
	group   *Group
	handler Handler
	raw     net.Conn        // what Hijack returned, below TLS
	socket  syscall.RawConn // if it can be used without blocking; else nil
	in      stream          // what Hijack returned
	workers sync.WaitGroup

	subprotocol string

	next *Conn // in the list of Group, which guards it

	mu   sync.Mutex
	out  sendQueue
	ctx  *watchedContext // made when somebody waits for it
	done chan struct{}   // made when somebody asks for it

	reader       *reader   // the goroutine that reads
	pending      []message // waiting to be handled
	pendingBytes int64     // in pending

	room    chan struct{} // if not nil, the reader waits for it to be closed: there is room in pending
	handled chan struct{} // if not nil, the reader waits for it to be closed: all is handled
	leaving *fault        // CloseAfterPending was called

	// Small fields stand together: there may be many connections.

	turn    uint32 // the number of the message that the reader handles
	seen    uint32 // turn at the last look
	late    int32  // messages read since CloseAfterPending
	awake   bool   // the reader runs, and flushes the queue before it waits
	inline  bool   // the reader handles a message
	working bool   // a goroutine, be it the reader, handles messages
	watched bool   // Group.watch looks after the reader
	ended   bool

	deflate atomic.Bool // permessage-deflate was agreed on; mu doesn't guard it
}

// New returns a connection before its handshake. What is sent on it waits for Accept, so that a program can make it known to others
// before the peer learns that it is open. The caller must call Accept.
func (g *Group) New(h Handler) *Conn {
	c := &Conn{group: g, handler: h}
	c.out.flushing = true // until Accept
	return c
}

// Start begins to read, in a goroutine of its own, so that net/http's handler can return. It must be called once.
func (c *Conn) Start() {
	c.in.now = c.group.now()
	c.in.last = c.in.now
	c.mu.Lock()
	defer c.mu.Unlock()
	c.startReader()
}

// Handler returns the handler that the connection was made with.
func (c *Conn) Handler() Handler { return c.handler }

// Done returns a channel that is closed when Handler.Closed has returned and every goroutine of the connection has ended, but for the one
// that closes it.
func (c *Conn) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.ended {
			close(c.done)
		}
	}
	return c.done
}

// Context returns a context that ends as soon as the connection is known to be closing or lost.
func (c *Conn) Context() context.Context { return connContext{c} }

// Subprotocol returns the sub-protocol that was selected, or "".
func (c *Conn) Subprotocol() string { return c.subprotocol }

// RemoteAddr returns the peer's address, which may be a proxy's. It must not be called before Accept has returned nil.
func (c *Conn) RemoteAddr() net.Addr { return c.in.Conn.RemoteAddr() }

// Queued returns how many bytes wait to be sent, not counting those that the kernel holds.
func (c *Conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.bytes
}

// RTT returns how long the peer took to answer the last ping, or 0 while there is no such answer. A busy peer gets no pings.
func (c *Conn) RTT() time.Duration { return time.Duration(c.in.rtt.Load()) * time.Microsecond }

// Send queues a message, of which it makes a copy. It never blocks on the socket. It returns false if the connection is closing, or
// closes now because too much waits: Options.SendBytes. Text must be UTF-8, which Send doesn't check.
func (c *Conn) Send(typ Type, data []byte) bool {
	c.trace(typ, data)
	return c.push(segment{b: c.frame(typ, data)})
}

// Reply is like Send, for answers to the messages that a Handler is given. When the peer sent several messages at once, their
// answers are sent together.
func (c *Conn) Reply(typ Type, data []byte) bool {
	c.trace(typ, data)
	if c.deflate.Load() && len(data) >= compressFrom {
		return c.push(segment{b: c.frame(typ, data)})
	}
	return c.reply(byte(typ), data)
}

// SendPrepared is like Send for a message that many connections receive: its bytes are shared.
func (c *Conn) SendPrepared(p *Prepared) bool {
	c.trace(p.typ, p.frame[p.header:])
	if c.deflate.Load() {
		return c.push(segment{b: p.compressed()})
	}
	return c.push(segment{b: p.frame})
}

func (c *Conn) trace(typ Type, data []byte) {
	if trace := c.group.opts.Trace; trace != nil && !c.isClosing() {
		trace(c, true, typ, data)
	}
}

// frame returns the message as a frame, compressed if that was agreed on and helps.
func (c *Conn) frame(typ Type, data []byte) []byte {
	if c.deflate.Load() && len(data) >= compressFrom {
		if b := compressedFrame(byte(typ), data); b != nil {
			return b
		}
	}
	return newFrame(byte(typ), data)
}

// A Prepared is a message framed once for all its receivers. It may be used concurrently.
type Prepared struct {
	typ    Type
	header int
	frame  []byte

	compress sync.Once
	deflated []byte // frame, compressed if that helps
}

// Prepare returns a message for SendPrepared. It copies data.
func Prepare(typ Type, data []byte) *Prepared {
	frame := newFrame(byte(typ), data)
	return &Prepared{typ: typ, header: len(frame) - len(data), frame: frame}
}

func (p *Prepared) compressed() []byte {
	p.compress.Do(func() {
		payload := p.frame[p.header:]
		if len(payload) >= compressFrom {
			p.deflated = compressedFrame(byte(p.typ), payload)
		}
		if p.deflated == nil {
			p.deflated = p.frame
		}
	})
	return p.deflated
}

// Close closes the connection and returns at once: what is queued goes out first, within Options.WriteTimeout, then
// the close frame; when the peer's has come, or after Options.CloseGrace, the socket is closed. Messages that wait to be handled
// are dropped, and so is what is sent from now on. The first call decides on code and reason.
//
// A code that may not stand in a close frame becomes 1011, and a reason of more than 123 bytes is cut.
func (c *Conn) Close(code int, reason string) {
	if !validCode(code) {
		code = CodeInternal
	}
	c.shut(code, cutReason(reason), nil)
	c.mu.Lock()
	c.dropPendingLocked() // also when the peer closed first
	c.mu.Unlock()
}

// CloseAfterPending is like Close, once the messages read so far have been handled, and those that come meanwhile, of which it
// drops all past the first Options.Pending. A Close meanwhile takes precedence.
func (c *Conn) CloseAfterPending(code int, reason string) {
	c.mu.Lock()
	if c.leaving == nil {
		c.leaving = &fault{code, reason}
	}
	busy := c.working || c.awake
	c.mu.Unlock()
	if !busy {
		c.Close(code, reason)
	}
}

// CloseNow closes the socket. What is queued is dropped, and no close frame is sent.
func (c *Conn) CloseNow() {
	c.mu.Lock()
	c.dropPendingLocked()
	c.mu.Unlock()
	c.lose(net.ErrClosed, false)
}

// guard calls f, and closes the connection with 1011 if it panics, or ends its goroutine.
func (c *Conn) guard(f func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		if v == nil {
			v = "runtime.Goexit called"
		}
		c.Close(CodeInternal, "internal error")
		if c.group.opts.Panic != nil {
			c.group.opts.Panic(c, v, debug.Stack())
		}
	}()
	f()
	returned = true
}
