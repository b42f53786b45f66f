package ws

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// maxWrite is how many bytes are written at once: as much as a TLS record holds.
	maxWrite = 16 << 10

	// frameOverhead is what a waiting frame counts towards Options.SendBytes beyond its bytes.
	frameOverhead = 32
)

var scratches = sync.Pool{New: func() any { return new([maxWrite]byte) }}

var (
	errSlow   = &fault{CodeSlow, "slow consumer"}
	pingFrame = newFrame(opPing, nil)
	errWrite  = errors.New("ws: coder/websocket must not write")
)

// A sendQueue holds whole frames that wait to be written. The flusher, a goroutine that exists only while there are some, is the only
// one that writes to the socket. Conn.mu guards it.
type sendQueue struct {
	frames   [][]byte // behind the frames that the flusher writes
	waiting  int      // bytes in frames
	inflight int      // bytes that the flusher has yet to write
	flushing bool

	closing bool      // nothing more is queued: a close frame is, or the connection is lost
	sent    bool      // the close frame has been written
	lost    bool      // the socket is closed
	drainBy time.Time // when closing: by when the close frame must be written
	code    int       // when closing: what Handler.Closed is told
	reason  string
	err     error

	flushers sync.WaitGroup // none starts once closing is set and the close frame is queued
}

// push queues a frame, and reports whether it did. A queue that is too long closes the connection with 4408.
func (c *Conn) push(frame []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.out
	if q.closing {
		return false
	}
	limit := c.opts.SendBytes
	if limit >= 0 && len(q.frames) > 0 && q.waiting+len(frame)+frameOverhead*(len(q.frames)+1) > limit {
		clear(q.frames)
		q.frames, q.waiting = nil, 0
		c.shutLocked(errSlow.code, errSlow.reason, errSlow, c.opts.CloseGrace)
		if c.netConn != nil {
			_ = c.netConn.SetWriteDeadline(q.drainBy)
		}
		return false
	}
	c.appendLocked(frame)
	return true
}

// opened writes what was queued before the handshake.
func (c *Conn) opened() {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.out
	if q.lost {
		_ = c.raw.Close()
	}
	q.flushing = false
	if b, _ := q.take(); b != nil {
		q.flushing = true
		if !q.drainBy.IsZero() { // Close was called: its time begins now
			q.drainBy = time.Now().Add(c.opts.WriteTimeout)
		}
		q.flushers.Go(func() { c.flush(b) })
	}
}

func (c *Conn) appendLocked(frame []byte) {
	q := &c.out
	if q.flushing {
		q.frames = append(q.frames, frame)
		q.waiting += len(frame)
		return
	}
	q.flushing = true
	q.inflight = len(frame)
	q.flushers.Go(func() { c.flush(frame) })
}

// shut queues a close frame as the last one, to be written within Options.WriteTimeout, and forgets the messages that wait to be
// handled. The first call wins.
func (c *Conn) shut(code int, reason string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.out.closing {
		c.shutLocked(code, reason, err, c.opts.WriteTimeout)
	}
}

func (c *Conn) shutLocked(code int, reason string, err error, drain time.Duration) {
	c.endLocked(code, reason, err)
	c.out.drainBy = time.Now().Add(drain)
	c.appendLocked(closeFrame(code, reason))
	c.dropPendingLocked()
}

// echo answers the peer's close frame. Messages that it sent before are still handled.
func (c *Conn) echo(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.closing {
		return
	}
	c.endLocked(code, reason, nil)
	c.out.drainBy = time.Now().Add(c.opts.WriteTimeout)
	c.appendLocked(closeFrame(code, reason))
}

// lose ends the connection without a close frame. What waits to be sent is dropped. After a write that failed, and only
// then, the kernel is told to forget what it holds too.
func (c *Conn) lose(err error, forget bool) {
	c.mu.Lock()
	q := &c.out
	if !q.closing {
		c.endLocked(CodeLost, "", err)
	}
	q.lost = true
	clear(q.frames)
	q.frames, q.waiting = nil, 0
	raw := c.raw
	c.mu.Unlock()
	if raw == nil {
		return // before the handshake
	}
	if forget {
		if t, ok := raw.(interface{ SetLinger(sec int) error }); ok {
			_ = t.SetLinger(0)
		}
	}
	_ = raw.Close()
}

func (c *Conn) endLocked(code int, reason string, err error) {
	c.out.closing = true
	c.out.code, c.out.reason, c.out.err = code, reason, err
	c.wakeReaderLocked()
	c.cancel()
}

// isClosing reports whether a close frame is queued, or the connection is lost.
func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.closing
}

// flush writes b, and then what is queued until there is nothing.
func (c *Conn) flush(b []byte) {
	q := &c.out
	var scratch *[maxWrite]byte // what b lies in, if not in one frame
	for b != nil {
		for len(b) > 0 {
			c.mu.Lock()
			by := time.Now().Add(c.opts.WriteTimeout)
			if !q.drainBy.IsZero() && q.drainBy.Before(by) {
				by = q.drainBy
			}
			_ = c.netConn.SetWriteDeadline(by)
			c.mu.Unlock()

			n, err := c.netConn.Write(b[:min(len(b), maxWrite)])
			b = b[n:]
			c.mu.Lock()
			q.inflight -= n
			c.mu.Unlock()
			if err != nil {
				c.writeFailed(err)
				return
			}
		}
		if scratch != nil {
			scratches.Put(scratch)
		}
		c.mu.Lock()
		b, scratch = q.take()
		closed := b == nil && q.closing && !q.lost
		if b == nil {
			q.flushing = false
		}
		if closed {
			q.sent = true
			_ = c.netConn.SetReadDeadline(time.Now().Add(c.opts.CloseGrace))
		}
		_, broken := errors.AsType[*fault](q.err)
		c.mu.Unlock()
		if t, ok := c.netConn.(interface{ CloseWrite() error }); ok && closed && broken {
			// The peer's frames are not followed any more. As RFC 6455, section 7.1.1 has it, it learns by the end of our
			// stream that nothing comes after the close frame, and we wait for the end of its.
			_ = t.CloseWrite()
		}
	}
}

// take removes frames from the front, one or as many small ones as are written at once, and returns their bytes, and what holds these
// if they are several. It returns nil if there are none.
func (q *sendQueue) take() (b []byte, scratch *[maxWrite]byte) {
	n, size := 0, 0
	for n < len(q.frames) && size+len(q.frames[n]) <= maxWrite {
		size += len(q.frames[n])
		n++
	}
	switch {
	case len(q.frames) == 0:
		return nil, nil
	case n <= 1:
		n, b = 1, q.frames[0]
	default:
		scratch = scratches.Get().(*[maxWrite]byte)
		b = scratch[:0]
		for _, frame := range q.frames[:n] {
			b = append(b, frame...)
		}
	}
	q.waiting -= len(b)
	q.inflight = len(b)
	if n == len(q.frames) && cap(q.frames) > 16 {
		q.frames = nil
	} else {
		q.frames = slices.Delete(q.frames, 0, n)
	}
	return b, scratch
}

func (c *Conn) writeFailed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.mu.Lock()
		if !c.out.closing {
			c.endLocked(CodeSlow, errSlow.reason, errSlow)
			c.dropPendingLocked()
		}
		c.mu.Unlock()
	}
	c.lose(err, true)
}

// rawConn returns what is below TLS and other wrappers.
func rawConn(conn net.Conn) net.Conn {
	for {
		w, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = w.NetConn()
	}
}
