package ws

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A Group makes connections that share their options and the goroutines that write to them, of which there are as many as
// [runtime.GOMAXPROCS] said when the group was made, and none while there is nothing to write. Its methods may be called concurrently.
type Group struct {
	opts  Options
	start time.Time
	procs int // most flushers; GOMAXPROCS takes a lock of the scheduler

	mu         sync.Mutex
	head, tail *Conn // connections that have something to write, linked by Conn.next
	flushers   int
	run        func()      // Group.flushAll, made once, so that starting it allocates nothing
	watched    []*Conn     // whose readers are looked after
	looking    bool        // lookAll runs
	clock      *time.Timer // for lookAll; it runs while watched isn't empty
}

// NewGroup returns a Group. opts may be nil. It holds nothing that must be closed.
func NewGroup(opts *Options) *Group {
	g := &Group{opts: opts.withDefaults(), start: time.Now().Add(-1), procs: runtime.GOMAXPROCS(0)}
	g.run = g.flushAll
	return g
}

// now returns the time since shortly before the group was made, never 0. It is smaller than a time.Time, and cheaper to read.
func (g *Group) now() time.Duration { return time.Since(g.start) }

// time returns a result of now as a time.Time; for 0 the zero one.
func (g *Group) time(t time.Duration) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return g.start.Add(t)
}

// flush has what c has queued written, in the background. c.out.flushing is set, by the caller.
func (g *Group) flush(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.head == nil {
		g.head = c
	} else {
		g.tail.next = c
	}
	g.tail = c
	if g.flushers < g.procs {
		g.flushers++
		go g.run()
	}
}

func (g *Group) take() *Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.head
	if c == nil {
		g.flushers--
		return nil
	}
	g.head, c.next = c.next, nil
	return c
}

// flushAll writes for one connection after another, at most maxWrite bytes in one system call, so that each gets its turn. It never
// waits for a peer.
func (g *Group) flushAll() {
	w := writers.Get().(*writer)
	defer writers.Put(w)
	for c := g.take(); c != nil; c = g.take() {
		if c.write(w) {
			g.flush(c)
		}
	}
}

var errWouldBlock = errors.New("ws: the kernel has no room")

// A writer writes to sockets without waiting.
type writer struct {
	scratch [maxWrite]byte
	b       []byte
	n       int
	err     error
	control func(fd uintptr) // made once, so that no write allocates
}

var writers = sync.Pool{New: func() any {
	w := new(writer)
	w.control = func(fd uintptr) { w.n, w.err = writeNow(fd, w.b) }
	return w
}}

func (w *writer) write(socket syscall.RawConn, b []byte) (int, error) {
	w.b, w.n, w.err = b, 0, nil
	err := socket.Control(w.control)
	w.b = nil
	if err != nil {
		return 0, err
	}
	return w.n, w.err
}

// startFlush has the queue written, unless that is under way. Conn.mu is held.
func (c *Conn) startFlush() {
	if c.out.flushing || len(c.out.segments) == 0 {
		return
	}
	c.out.flushing = true
	c.out.flushers.Add(1)
	c.out.begin()
	if c.socket == nil {
		go c.writeAll()
		return
	}
	c.group.flush(c)
}

// flushHere is startFlush, but that the calling goroutine does the writing as long as it need not wait. Conn.mu is held.
func (c *Conn) flushHere() {
	if c.out.flushing || len(c.out.segments) == 0 || c.socket == nil {
		c.startFlush()
		return
	}
	c.out.flushing = true
	c.out.flushers.Add(1)
	c.mu.Unlock()
	w := writers.Get().(*writer)
	for c.write(w) {
	}
	writers.Put(w)
	c.mu.Lock()
}

// write writes some of the queue, and reports whether there is more for the caller to write. If the kernel is full, a goroutine
// takes over, which waits for it.
func (c *Conn) write(w *writer) (more bool) {
	c.mu.Lock()
	b := c.out.take(&w.scratch)
	c.mu.Unlock()
	n, err := 0, error(nil)
	if b != nil {
		n, err = w.write(c.socket, b)
	}
	c.mu.Lock()
	c.out.wrote(n)
	switch {
	case err != nil && !errors.Is(err, errWouldBlock):
		c.mu.Unlock()
		c.writeFailed(err)
		return false
	case n < len(b):
		c.mu.Unlock()
		go c.writeAll()
		return false
	}
	return !c.flushedLocked()
}

// writeAll writes the queue until it is empty, waiting for the peer as long as the options allow.
func (c *Conn) writeAll() {
	w := writers.Get().(*writer)
	defer writers.Put(w)
	for {
		c.mu.Lock()
		b := c.out.take(&w.scratch)
		if b == nil {
			if c.flushedLocked() {
				return
			}
			continue
		}
		by := c.group.now() + c.group.opts.WriteTimeout
		if c.out.drainBy != 0 {
			by = min(by, c.out.drainBy)
		}
		_ = c.in.Conn.SetWriteDeadline(c.group.time(by))
		c.mu.Unlock()

		n, err := c.in.Conn.Write(b[:min(len(b), maxWrite)])
		c.mu.Lock()
		c.out.wrote(n)
		c.mu.Unlock()
		if err != nil {
			c.writeFailed(err)
			return
		}
	}
}

// flushedLocked ends the writing if the queue is empty, and reports whether it is. It unlocks Conn.mu.
func (c *Conn) flushedLocked() bool {
	q := &c.out
	if q.lost {
		q.flushing = false
		q.drop()
	}
	if len(q.segments) > 0 {
		c.mu.Unlock()
		return false
	}
	q.flushing = false
	closed, broken := q.closing() && !q.lost, false
	if closed {
		q.sent = true
		_ = c.in.Conn.SetReadDeadline(time.Now().Add(c.group.opts.CloseGrace))
		_, broken = errors.AsType[*fault](q.ending.err)
	}
	c.mu.Unlock()
	if t, ok := c.in.Conn.(interface{ CloseWrite() error }); ok && broken {
		// The peer's frames are not followed any more. As RFC 6455, section 7.1.1 has it, it learns by the end of our
		// stream that nothing comes after the close frame, and we wait for the end of its.
		_ = t.CloseWrite()
	}
	q.flushers.Done()
	return true
}

// writeFailed ends the connection, and the writing.
func (c *Conn) writeFailed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.mu.Lock()
		if !c.out.closing() {
			c.endLocked(CodeSlow, errSlow.reason, errSlow)
			c.dropPendingLocked()
		}
		c.mu.Unlock()
	}
	c.lose(err, true)
	c.mu.Lock()
	c.flushedLocked()
}
