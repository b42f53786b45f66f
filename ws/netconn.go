package ws

import (
	"bufio"
	"errors"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readBuffer is how many bytes are read at once, unless a message's payload is read straight into its buffer.
	readBuffer = 8 << 10

	// waitBuffer is what a connection holds on to while it waits in a blocking read: over TLS.
	waitBuffer = 1 << 10
)

var readBuffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}

var errWrite = errors.New("ws: coder/websocket must not write")

// A netConn is the net.Conn that coder/websocket reads. It polices the frames that pass, answers control frames itself and lets only data
// frames through, all of them valid, so that coder/websocket never writes nor closes. It returns no byte beyond the end of a
// message, so that nothing is left in coder/websocket between messages, when a connection waits here, without a buffer.
// Only the reader uses its fields.
type netConn struct {
	net.Conn
	c  *Conn
	br *bufio.Reader // coder/websocket's, as small as can be

	frames parser
	pooled *[readBuffer]byte // what buf lies in, or nil
	own    *[waitBuffer]byte // the same, where reads block
	buf    []byte            // what was read of the socket and not yet returned by Read
	data   int               // bytes at the front of buf that Read may return; what is behind has yet to be parsed
	err    error             // the end of the stream, after those

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
func (n *netConn) init(c *Conn, early []byte) {
	n.c, n.buf = c, early
	n.frames.max = c.group.opts.MaxMessage
	n.br = bufio.NewReaderSize(n, 16)
	if c.socket != nil {
		n.readSocket = n.tryRead
	}
}

// await returns nil when there are bytes of a message to read. Between messages it is where connections spend their time, so little
// stands on the stack, and what was received is answered before it blocks.
func (n *netConn) await() error {
	for n.data == 0 {
		if n.err != nil {
			return n.err
		}
		if len(n.buf) > 0 {
			n.parse()
		} else if err := n.fill(); errors.Is(err, errRested) {
			return err
		} else if err != nil {
			n.err = err
		}
	}
	return nil
}

// between reports whether everything that was received of the last message has been read from coder/websocket.
func (n *netConn) between() bool {
	return n.data == 0 && n.frames.idle() && n.br.Buffered() == 0
}

// complete reports whether the last message has been read to its end. What a compressed one ends with only coder/websocket knows.
func (n *netConn) complete() bool { return !n.frames.packed && n.between() }

// mayRest reports whether the reader can be replaced by one with a small stack.
func (n *netConn) mayRest() bool { return n.c.reader.grown && n.between() }

// Read returns bytes of data frames. What comes before a fault is returned before the fault.
func (n *netConn) Read(p []byte) (int, error) {
	if n.data == 0 && len(n.buf) == 0 && n.err == nil && n.frames.left() > 0 && len(p) > waitBuffer {
		return n.readPayload(p[:min(uint64(len(p)), n.frames.left())])
	}
	if err := n.await(); err != nil {
		return 0, err
	}
	m := copy(p, n.buf[:n.data])
	n.buf, n.data = n.buf[m:], n.data-m
	return m, nil
}

// readPayload reads some of a frame's payload past the buffer.
func (n *netConn) readPayload(p []byte) (m int, err error) {
	err = n.wait(func() error {
		m, err = n.Conn.Read(p)
		if m > 0 {
			return nil // an error comes again
		}
		return err
	})
	if err != nil {
		n.err = err
		return 0, err
	}
	n.step(p[:m])
	return m, nil
}

// Write refuses: all that is written goes through the queue.
func (n *netConn) Write([]byte) (int, error) { return 0, errWrite }

// Close ends the connection at once.
func (n *netConn) Close() error {
	n.c.lose(net.ErrClosed, false)
	return nil
}

// fill reads from the socket when buf is empty. It holds no buffer while it waits, but over TLS a small one.
func (n *netConn) fill() error {
	n.release()
	if n.readSocket == nil {
		return n.wait(n.blockingRead)
	}
	return n.wait(n.socketRead)
}

func (n *netConn) socketRead() error {
	if err := n.c.socket.Read(n.readSocket); err != nil {
		return err
	}
	return n.readErr
}

// tryRead reads what the kernel has, and reports whether that was anything, be it an error.
func (n *netConn) tryRead(fd uintptr) bool {
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

func (n *netConn) blockingRead() error {
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

// release gives the buffer back.
func (n *netConn) release() {
	if n.pooled != nil {
		readBuffers.Put(n.pooled)
		n.pooled, n.buf = nil, nil
	}
}

// wait calls read until it returns something, with what was queued before sent, and within the time that the clocks leave.
func (n *netConn) wait(read func() error) error {
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
func (n *netConn) arm() {
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
func (n *netConn) due() (t time.Duration) {
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
func (n *netConn) expired() error {
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
func (n *netConn) resume() {
	n.now = n.c.group.now()
	n.last, n.pinged = n.now, false
	if n.begun != 0 {
		n.begun = n.now
	}
}

// parse follows the frames in buf, to the end of a data frame or of buf. It answers pings. A fault or the peer's close frame ends
// the stream: n.err.
func (n *netConn) parse() {
	for n.data < len(n.buf) && n.err == nil {
		m, end := n.step(n.buf[n.data:])
		if !n.frames.isControl() {
			n.data += m
			if end {
				return
			}
			continue
		}
		n.buf = n.buf[m:]
	}
}

// step takes the next bytes of the stream, returns how many it took, and whether they end a frame.
func (n *netConn) step(b []byte) (taken int, end bool) {
	m, ev, f := n.frames.next(b)
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
	}
	return m, ev != evNone
}

// frame is called after each frame.
func (n *netConn) frame(ev event) *fault {
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
func (n *netConn) discard() {
	for {
		if n.fill() != nil {
			return
		}
		n.buf = n.buf[:0]
	}
}
