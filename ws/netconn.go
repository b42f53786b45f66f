package ws

import (
	"errors"
	"net"
	"os"
	"time"
)

// readBuffer is how many bytes are read at once, unless a message's payload is read straight into its buffer.
const readBuffer = 4 << 10

var errPeerClosed = errors.New("ws: the peer closed")

// A netConn is the net.Conn that coder/websocket reads. It polices the frames that pass, answers control frames itself and
// lets only data frames through, all of them valid, so that coder/websocket never writes nor closes.
// Only the reader's goroutine uses its fields.
type netConn struct {
	net.Conn
	c     *Conn
	first []byte // what net/http has read already

	frames parser
	buf    []byte
	r, w   int   // buf[r:w] is for coder/websocket
	err    error // the end of the stream, after buf[r:w]
	code   int   // what the peer's close frame said
	reason string

	last     time.Time // when a frame was last complete
	begun    time.Time // when the message that is under way began; zero between messages
	pinged   bool      // since last
	deadline time.Time // for reading, as set last
	rearm    bool      // the deadline has passed
	second   time.Time // when the second began in which count frames came
	count    int
}

// Read returns bytes of data frames. What comes before a fault is returned before the fault.
func (n *netConn) Read(p []byte) (int, error) {
	for n.r == n.w {
		if n.err != nil {
			return 0, n.err
		}
		dst := n.buf
		direct := len(p) >= len(n.buf)
		if direct {
			dst = p
		}
		m, err := n.read(dst)
		if err != nil {
			n.err = err
			continue
		}
		kept := n.filter(dst[:m])
		if direct {
			if kept > 0 {
				return kept, nil
			}
			continue
		}
		n.r, n.w = 0, kept
	}
	m := copy(p, n.buf[n.r:n.w])
	n.r += m
	return m, nil
}

// Write refuses: all that is written goes through the queue.
func (n *netConn) Write([]byte) (int, error) { return 0, errWrite }

// Close ends the connection at once.
func (n *netConn) Close() error {
	n.c.lose(net.ErrClosed, false)
	return nil
}

// read reads from the socket, within the time that the clocks leave.
func (n *netConn) read(dst []byte) (int, error) {
	if len(n.first) > 0 {
		m := copy(dst, n.first)
		n.first = n.first[m:]
		if len(n.first) == 0 {
			n.first = nil
		}
		return m, nil
	}
	for {
		n.arm()
		m, err := n.Conn.Read(dst)
		if m > 0 {
			return m, nil // an error comes again
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			n.rearm = true
			err = n.expired()
		}
		if err != nil {
			return 0, err
		}
	}
}

// arm sets the read deadline if the present one is too late. One that is too early only wakes the reader, who then sets the next.
func (n *netConn) arm() {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	var want time.Time
	if n.c.out.closing {
		if n.c.out.sent {
			return // the grace for the peer's close frame is set
		}
	} else {
		want = n.due()
	}
	if n.rearm || !want.IsZero() && (n.deadline.IsZero() || want.Before(n.deadline)) {
		_ = n.Conn.SetReadDeadline(want)
		n.deadline, n.rearm = want, false
	}
}

// due returns when the clocks next want something done, or zero.
func (n *netConn) due() (t time.Time) {
	o := &n.c.opts
	if o.IdleTimeout > 0 {
		t = n.last.Add(o.IdleTimeout)
	}
	if o.PingAfter > 0 && !n.pinged {
		t = earlier(t, n.last.Add(o.PingAfter))
	}
	if o.MessageTimeout > 0 && !n.begun.IsZero() {
		t = earlier(t, n.begun.Add(o.MessageTimeout))
	}
	return t
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// expired does what is due, and returns an error if the connection must end.
func (n *netConn) expired() error {
	n.c.mu.Lock()
	closing, sent := n.c.out.closing, n.c.out.sent
	n.c.mu.Unlock()
	if closing {
		if sent {
			return os.ErrDeadlineExceeded
		}
		return nil
	}
	o, now := &n.c.opts, time.Now()
	switch {
	case o.MessageTimeout > 0 && !n.begun.IsZero() && !now.Before(n.begun.Add(o.MessageTimeout)):
		return &fault{CodePolicy, "message took too long"}
	case o.IdleTimeout > 0 && !now.Before(n.last.Add(o.IdleTimeout)):
		return &fault{CodeIdle, "idle"}
	case o.PingAfter > 0 && !n.pinged && !now.Before(n.last.Add(o.PingAfter)):
		n.pinged = true
		n.c.push(pingFrame)
	}
	return nil
}

// resume starts the clocks anew after a pause in reading.
func (n *netConn) resume() {
	n.last, n.pinged = time.Now(), false
	if !n.begun.IsZero() {
		n.begun = n.last
	}
}

// filter follows the frames in b, moves the bytes of data frames to its front and returns their number. It answers
// pings. A fault or the peer's close frame ends the stream: n.err.
func (n *netConn) filter(b []byte) int {
	now := time.Now()
	kept := 0
	for i := 0; i < len(b) && n.err == nil; {
		m, ev, f := n.frames.next(b[i:])
		if m > 0 && !n.frames.isControl() {
			if kept != i {
				copy(b[kept:], b[i:i+m])
			}
			kept += m
		}
		i += m
		if f == nil && ev != evNone {
			f = n.frame(ev, now)
		}
		if f != nil {
			n.err = f
		}
	}
	switch {
	case n.frames.idle():
		n.begun = time.Time{}
	case n.begun.IsZero():
		n.begun = now
	}
	return kept
}

// frame is called after each frame.
func (n *netConn) frame(ev event, now time.Time) *fault {
	n.last, n.pinged = now, false
	if n.frames.idle() {
		n.begun = time.Time{}
	}
	if limit := n.c.opts.FramesPerSecond; limit > 0 {
		if now.Sub(n.second) >= time.Second {
			n.second, n.count = now, 0
		}
		n.count++
		if n.count > limit {
			return &fault{CodeRate, "too many frames"}
		}
	}
	if ev != evControl {
		return nil
	}
	switch n.frames.opcode {
	case opPing:
		n.c.push(newFrame(opPong, n.frames.control))
	case opClose:
		code, reason, f := parseClose(n.frames.control)
		if f != nil {
			return f
		}
		n.code, n.reason, n.err = code, reason, errPeerClosed
	}
	return nil
}

// discard reads on after a close frame of ours, until the end of the peer's stream or of the grace, without following the frames.
func (n *netConn) discard() {
	for {
		if _, err := n.read(n.buf); err != nil {
			return
		}
	}
}
