package ws

import (
	"errors"
	"math"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

const (
	// readBuffer is how many bytes are read at once, unless a message's payload is read straight into its buffer.
	readBuffer = 8 << 10

	// waitBuffer is what a connection holds on to while it waits in a blocking read: over TLS.
	waitBuffer = 1 << 10

	// keepBuffer is the size of the largest buffer that is kept for another message.
	keepBuffer = 64 << 10
)

var (
	readBuffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}
	buffers     = sync.Pool{New: func() any { return new([]byte) }}
)

func putBuffer(b *[]byte) {
	if b != nil && cap(*b) <= keepBuffer {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// A message is whole and valid.
type message struct {
	typ  Type
	data *[]byte
}

// A stream is what the peer sends. It polices the frames, answers control frames itself, and puts messages together. Between messages,
// when a connection waits here, it holds no buffer. Only the reader uses its fields.
type stream struct {
	net.Conn
	c *Conn

	frames parser
	pooled *[readBuffer]byte // what buf lies in, or nil
	own    *[waitBuffer]byte // the same, where reads block
	buf    []byte            // what was read of the socket and has yet to be parsed
	body   *[]byte           // of the message that is under way, as far as it has come; nil if nothing has
	err    error             // the end of the stream

	readSocket func(fd uintptr) bool // made once, so that no read allocates
	readErr    error                 // of readSocket

	// Times are those of Group.now.
	now      time.Duration // of the last read
	last     time.Duration // when a frame was last complete
	begun    time.Duration // when the message that is under way began; 0 between messages
	deadline time.Duration // for reading, as set last; 0 is none
	second   time.Duration // when the second began in which count frames came
	count    int32
	waited   uint32        // µs from last to the ping, when pinged
	rtt      atomic.Uint32 // µs from the last ping to its pong; 0 is unknown. The only field that others read
	pinged   bool          // since last
	rearm    bool          // the deadline has passed
}

// A peerClosed ends the stream: what the peer's close frame said.
type peerClosed struct {
	code   int
	reason string
}

func (*peerClosed) Error() string { return "ws: the peer closed" }

// init prepares n to read; early is what net/http has read already.
func (n *stream) init(c *Conn, early []byte) {
	n.c, n.buf = c, early
	n.frames.max = c.group.opts.MaxMessage
	if c.socket != nil {
		n.readSocket = n.tryRead
	}
}

// next returns the next message. Its error is the end of the stream, or errRested. Between messages it is where connections spend their
// time, so little stands on the stack, and what was received is answered before it blocks.
func (n *stream) next() (message, error) {
	for n.err == nil {
		complete := false
		switch {
		case len(n.buf) > 0:
			complete = n.parse()
		case n.frames.left() > waitBuffer:
			complete = n.readPayload()
		default:
			if err := n.fill(); errors.Is(err, errRested) {
				return message{}, err
			} else if err != nil {
				n.err = err
			}
		}
		if complete {
			return n.take()
		}
	}
	putBuffer(n.body)
	n.body = nil
	return message{}, n.err
}

// take returns the message that is complete, unless it is no good, which ends the stream.
func (n *stream) take() (message, error) {
	m := message{Type(n.frames.message), n.payload()}
	n.body = nil
	var f *fault
	if n.frames.packed {
		deflated := m.data
		m.data = buffers.Get().(*[]byte)
		f = inflate(m.data, deflated, n.c.group.opts.MaxMessage)
		putBuffer(deflated)
	}
	if f == nil && m.typ == Text && !utf8.Valid(*m.data) {
		f = &fault{CodeBadText, "text is not UTF-8"}
	}
	if f != nil {
		putBuffer(m.data)
		n.err = f
		return message{}, f
	}
	return m, nil
}

// payload returns the buffer for the payload of the message that is under way.
func (n *stream) payload() *[]byte {
	if n.body == nil {
		n.body = buffers.Get().(*[]byte)
	}
	return n.body
}

// mayRest reports whether the reader can be replaced by one with a small stack: between messages.
func (n *stream) mayRest() bool { return n.c.reader.grown && len(n.buf) == 0 && n.frames.idle() }

// readPayload reads some of a frame's payload past the buffer. It reports whether a message is complete.
func (n *stream) readPayload() (complete bool) {
	body := n.payload()
	if cap(*body)-len(*body) < waitBuffer {
		*body = slices.Grow(*body, int(min(uint64(max(waitBuffer, len(*body))), n.frames.left())))
	}
	room := (*body)[len(*body):cap(*body)]
	room = room[:min(uint64(len(room)), n.frames.left())]
	m := 0
	n.err = n.wait(func() (err error) {
		if m, err = n.Conn.Read(room); m > 0 {
			return nil // an error comes again
		}
		return err
	})
	if n.err != nil {
		return false
	}
	_, ev, f := n.frames.next(room[:m])
	n.frames.unmask(room[:m])
	*body = (*body)[:len(*body)+m]
	return n.follow(ev, f)
}

// parse follows the frames in buf, to the end of a message or of buf. It reports whether a message is complete.
func (n *stream) parse() (complete bool) {
	for len(n.buf) > 0 && n.err == nil && !complete {
		isPayload := n.frames.left() > 0
		m, ev, f := n.frames.next(n.buf)
		if isPayload {
			body := n.payload()
			*body = append(*body, n.buf[:m]...)
			n.frames.unmask((*body)[len(*body)-m:])
		}
		n.buf = n.buf[m:]
		complete = n.follow(ev, f)
	}
	return complete
}

// follow is called after each step of the parser. A fault or the peer's close frame ends the stream: n.err. It reports whether a message
// is complete.
func (n *stream) follow(ev event, f *fault) (complete bool) {
	switch {
	case n.frames.idle():
		n.begun = 0
	case n.begun == 0:
		n.begun = n.now
	}
	if f == nil && ev != evNone {
		f = n.frame(ev)
	}
	if f != nil {
		n.err = f
		return false
	}
	return ev == evMessage
}

// fill reads from the socket when buf is empty. It holds no buffer while it waits, but over TLS a small one.
func (n *stream) fill() error {
	n.release()
	if n.readSocket == nil {
		return n.wait(n.blockingRead)
	}
	return n.wait(n.socketRead)
}

func (n *stream) socketRead() error {
	if err := n.c.socket.Read(n.readSocket); err != nil {
		return err
	}
	return n.readErr
}

// tryRead reads what the kernel has, and reports whether that was anything, be it an error.
func (n *stream) tryRead(fd uintptr) bool {
	b := readBuffers.Get().(*[readBuffer]byte)
	m, err := readNow(fd, b[:])
	if err != nil {
		readBuffers.Put(b)
		n.readErr = err
		return !errors.Is(err, errWouldBlock)
	}
	n.pooled, n.buf, n.readErr = b, b[:m], nil
	return true
}

func (n *stream) blockingRead() error {
	if n.own == nil {
		n.own = new([waitBuffer]byte)
	}
	m, err := n.Conn.Read(n.own[:])
	if m > 0 {
		n.buf = n.own[:m]
		return nil // an error comes again
	}
	return err
}

// release lets go of the buffer, in which nothing is left to parse.
func (n *stream) release() {
	if n.pooled != nil {
		readBuffers.Put(n.pooled)
		n.pooled = nil
	}
	n.buf = nil
}

// wait calls read until it returns something, with what was queued before sent, and within the time that the clocks leave.
func (n *stream) wait(read func() error) error {
	for {
		n.c.beforeRead()
		err := read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			n.rearm = true
			if err := n.expired(); err != nil {
				return err
			}
			continue
		}
		n.now = n.c.group.now()
		return err
	}
}

// arm sets the read deadline if the present one is too late. One that is too early only wakes the reader, who then sets the next.
// Conn.mu is held.
func (n *stream) arm() {
	var want time.Duration
	if n.c.out.closing() {
		if n.c.out.sent {
			return // the grace for the peer's close frame is set
		}
	} else {
		want = n.due()
	}
	if n.rearm || want != 0 && (n.deadline == 0 || want < n.deadline) {
		_ = n.Conn.SetReadDeadline(n.c.group.time(want))
		n.deadline, n.rearm = want, false
	}
}

// due returns when the clocks next want something done, or 0.
func (n *stream) due() (t time.Duration) {
	o := &n.c.group.opts
	if o.IdleTimeout > 0 {
		t = n.last + o.IdleTimeout
	}
	if o.PingAfter > 0 && !n.pinged {
		t = earlier(t, n.last+o.PingAfter)
	}
	if o.MessageTimeout > 0 && n.begun != 0 {
		t = earlier(t, n.begun+o.MessageTimeout)
	}
	if n.mayRest() {
		t = earlier(t, n.last+restAfter)
	}
	return t
}

func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b < a {
		return b
	}
	return a
}

// expired does what is due, and returns an error if the connection must end, or if the reader has rested for long.
func (n *stream) expired() error {
	n.c.mu.Lock()
	closing, sent := n.c.out.closing(), n.c.out.sent
	n.c.mu.Unlock()
	if closing {
		if sent {
			return os.ErrDeadlineExceeded
		}
		return nil
	}
	o, now := &n.c.group.opts, n.c.group.now()
	switch {
	case o.MessageTimeout > 0 && n.begun != 0 && now >= n.begun+o.MessageTimeout:
		return &fault{CodePolicy, "message took too long"}
	case o.IdleTimeout > 0 && now >= n.last+o.IdleTimeout:
		return &fault{CodeIdle, "idle"}
	case o.PingAfter > 0 && !n.pinged && now >= n.last+o.PingAfter:
		n.pinged, n.waited = true, microseconds(now-n.last)
		n.c.sendControl(opPing, nil)
	}
	if n.mayRest() && now >= n.last+restAfter {
		return errRested
	}
	return nil
}

func microseconds(d time.Duration) uint32 { return uint32(min(d.Microseconds(), math.MaxUint32)) }

// resume starts the clocks anew after a pause in reading.
func (n *stream) resume() {
	n.now = n.c.group.now()
	n.last, n.pinged = n.now, false
	if n.begun != 0 {
		n.begun = n.now
	}
}

// frame is called after each frame.
func (n *stream) frame(ev event) *fault {
	if n.pinged && ev == evControl && n.frames.opcode == opPong {
		n.rtt.Store(max(1, microseconds(n.now-n.last)-n.waited))
	}
	n.last, n.pinged = n.now, false
	if limit := n.c.group.opts.FramesPerSecond; limit > 0 {
		if n.now-n.second >= time.Second {
			n.second, n.count = n.now, 0
		}
		n.count++
		if int(n.count) > limit {
			return &fault{CodeRate, "too many frames"}
		}
	}
	if ev != evControl {
		return nil
	}
	switch n.frames.opcode {
	case opPing:
		n.c.sendControl(opPong, n.frames.control)
	case opClose:
		code, reason, f := parseClose(n.frames.control)
		if f != nil {
			return f
		}
		n.err = &peerClosed{code, reason}
	}
	return nil
}

// discard reads on after a close frame of ours, until the end of the peer's stream or of the grace, without following the frames.
func (n *stream) discard() {
	for {
		if n.fill() != nil {
			return
		}
		n.buf = n.buf[:0]
	}
}
