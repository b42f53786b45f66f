package ws

import (
	"errors"
	"slices"
	"time"
)

const (
	// restAfter is how long no frame may come before a reader whose stack has grown is replaced by one that has a small stack: the
	// runtime shrinks none to the least size.
	restAfter = time.Second

	// pendingBytes may wait to be handled, in several messages; past it reading pauses, as past Options.Pending messages.
	pendingBytes = 256 << 10

	// lastReplies is how long the peer's close frame, or what ends the connection otherwise by the peer's doing, may wait for
	// the messages before it to be answered. It is short, so that a slow action doesn't keep the peer waiting.
	lastReplies = 100 * time.Millisecond
)

// A reader is the goroutine that reads. It handles messages itself, one after the other, and sends the replies when it has no more to
// read. One that takes long costs it the role: another reader replaces it, and it goes on as the worker, which handles what
// the other reads, until nothing is left.
type reader struct {
	c        *Conn
	replaced bool // Conn.mu guards it
	grown    bool // it has handled a message
}

var errRested = errors.New("ws: nothing to read for long")

// startReader starts a new reader. The one before does nothing more with c.in. Conn.mu is held.
func (c *Conn) startReader() {
	c.reader = &reader{c: c}
	go c.reader.run()
}

func (r *reader) run() {
	c := r.c
	rested := false
	defer func() {
		if rested {
			return
		}
		c.mu.Lock()
		replaced := r.replaced
		if !replaced {
			c.inline = false // the handler may have ended the goroutine
		}
		c.mu.Unlock()
		if replaced {
			c.workers.Done()
		} else {
			c.finish()
		}
	}()
	for {
		m, err := c.in.next()
		if errors.Is(err, errRested) {
			rested = true
			c.mu.Lock()
			c.startReader()
			c.mu.Unlock()
			return
		}
		if err != nil {
			return
		}
		r.grown = true
		if !r.take(m) {
			return
		}
	}
}

// take deals with a message, and reports whether r is the reader still.
func (r *reader) take(m message) bool {
	c := r.c
	if !c.accept() || c.urgent(m) {
		putBuffer(m.data)
		return true
	}
	c.mu.Lock()
	switch {
	case c.out.closing():
		c.mu.Unlock()
		putBuffer(m.data)
		return true
	case c.working:
		c.enqueueLocked(m)
		c.mu.Unlock()
		return true
	}
	c.working, c.inline = true, true
	c.turn++
	c.group.watch(c)
	c.mu.Unlock()
	c.handle(m)
	c.mu.Lock()
	if r.replaced {
		c.mu.Unlock()
		c.work()
		return false
	}
	c.working, c.inline = false, false
	c.mu.Unlock()
	return true
}

// accept reports whether a message that was read is handled: not while the connection closes, nor when too many came since
// CloseAfterPending.
func (c *Conn) accept() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.closing() {
		return false
	}
	if c.leaving != nil {
		if c.late++; int(c.late) > c.group.opts.Pending {
			return false
		}
	}
	c.awake = true
	return true
}

func (c *Conn) urgent(m message) (dealtWith bool) {
	c.guard(func() {
		if c.group.opts.Trace != nil {
			c.group.opts.Trace(c, false, m.typ, *m.data)
		}
		dealtWith = c.handler.Urgent(c, m.typ, *m.data)
	})
	return dealtWith
}

func (c *Conn) handle(m message) {
	c.guard(func() { c.handler.Message(c, m.typ, *m.data) })
	putBuffer(m.data)
}

// beforeRead is called by the reader when it is about to wait for the peer.
func (c *Conn) beforeRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest()
	c.in.arm()
}

// rest sends the replies that wait for the reader to have time, and leaves if that is due. Conn.mu is held.
func (c *Conn) rest() {
	c.awake = false
	if c.leaving != nil && !c.working && !c.out.closing() {
		c.shutLocked(c.leaving.code, c.leaving.reason, nil, c.group.opts.WriteTimeout)
	}
	c.flushHere()
}

// enqueueLocked hands a message to the worker, and returns when there is room for another.
func (c *Conn) enqueueLocked(m message) {
	c.pending = append(c.pending, m)
	c.pendingBytes += int64(len(*m.data))
	if c.fullLocked() {
		c.rest()
	}
	for c.fullLocked() {
		room := make(chan struct{})
		c.room = room
		c.mu.Unlock()
		<-room
		c.in.resume()
		c.mu.Lock()
	}
}

// fullLocked reports whether as many messages wait as may.
func (c *Conn) fullLocked() bool {
	n := len(c.pending)
	return (n >= c.group.opts.Pending || c.pendingBytes >= pendingBytes && n > 1) && !c.out.closing()
}

// work handles the messages that wait.
func (c *Conn) work() {
	for {
		c.mu.Lock()
		if len(c.pending) == 0 {
			c.working = false
			c.pending = nil
			if c.handled != nil {
				close(c.handled)
				c.handled = nil
			}
			leaving, awake := c.leaving, c.awake
			c.mu.Unlock()
			if leaving != nil && !awake {
				c.Close(leaving.code, leaving.reason)
			}
			return
		}
		m := c.pending[0]
		c.pending = slices.Delete(c.pending, 0, 1)
		c.pendingBytes -= int64(len(*m.data))
		c.wakeReaderLocked()
		c.mu.Unlock()
		c.handle(m)
	}
}

func (c *Conn) wakeReaderLocked() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

func (c *Conn) dropPendingLocked() {
	for _, m := range c.pending {
		putBuffer(m.data)
	}
	c.pending, c.pendingBytes = nil, 0
}

// awaitReplies waits until the messages read so far are handled, but not for long.
func (c *Conn) awaitReplies() {
	c.mu.Lock()
	if !c.working || c.out.closing() {
		c.mu.Unlock()
		return
	}
	handled := make(chan struct{})
	c.handled = handled
	c.mu.Unlock()
	ctx := c.Context()
	t := time.NewTimer(lastReplies)
	defer t.Stop()
	select {
	case <-handled:
	case <-ctx.Done():
	case <-t.C:
	}
}

// finish ends the connection after the last read.
func (c *Conn) finish() {
	defer c.end()
	var broken *fault
	var closed *peerClosed
	switch err := c.in.err; {
	case err == nil: // the handler has ended the goroutine: see guard
		c.in.discard()
	case errors.As(err, &broken):
		c.awaitReplies()
		c.shut(broken.code, broken.reason, broken)
		c.in.discard()
	case errors.As(err, &closed):
		c.awaitReplies()
		c.echo(closed.code, closed.reason)
	default:
		c.lose(err, false)
	}
	c.out.flushers.Wait()
	if closed != nil {
		_ = c.in.Conn.Close() // says goodbye on TLS too
	}
	_ = c.raw.Close()
	c.in.release()
	c.workers.Wait()
	e := c.out.ending
	c.guard(func() { c.handler.Closed(c, e.code, e.reason, e.err) })
}

// end lets go of what others wait for.
func (c *Conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx != nil {
		c.ctx.cancel()
	}
	c.ended = true
	if c.done != nil {
		close(c.done)
	}
}
