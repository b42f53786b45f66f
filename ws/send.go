package ws

import "time"

var errSlow = &fault{CodeSlow, "slow consumer"}

// push queues a segment and has it written. It reports whether it did. A queue that is too long closes the connection with 4408.
func (c *Conn) push(s segment) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.addLocked(s) {
		return false
	}
	c.startFlush()
	return true
}

// reply queues a frame behind other replies. While the reader runs, it is the one that has them written, before it waits.
func (c *Conn) reply(opcode byte, payload []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.closing() {
		return false
	}
	if !c.awake {
		if !c.addLocked(segment{b: newFrame(opcode, payload)}) {
			return false
		}
		c.startFlush()
		return true
	}
	return c.out.addReply(opcode, payload) || c.addLocked(newReplies(opcode, payload))
}

// newReplies returns a segment for a frame, and others behind it if it is small.
func newReplies(opcode byte, payload []byte) segment {
	if maxHeader+len(payload) > replyChunk {
		return segment{b: newFrame(opcode, payload)}
	}
	chunk := chunks.Get().(*[replyChunk]byte)
	return segment{appendFrame(chunk[:0], opcode, payload), chunk}
}

// sendControl queues a control frame. Only the reader calls it, which has it written before it waits.
func (c *Conn) sendControl(opcode byte, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.out.closing() && !c.out.addReply(opcode, payload) {
		c.addLocked(newReplies(opcode, payload))
	}
}

// addLocked queues a segment, if the connection isn't closing. Options.SendBytes is the limit.
func (c *Conn) addLocked(s segment) bool {
	q := &c.out
	if q.closing() {
		return false
	}
	if !q.room(s.cost(), c.group.opts.SendBytes) {
		c.startFlush() // it may be that nobody has tried yet
	}
	if !q.room(s.cost(), c.group.opts.SendBytes) {
		q.drop()
		c.shutLocked(errSlow.code, errSlow.reason, errSlow, c.group.opts.CloseGrace)
		if c.in.Conn != nil {
			_ = c.in.Conn.SetWriteDeadline(c.group.time(q.drainBy))
		}
		return false
	}
	q.add(s)
	return true
}

// opened has what was queued before the handshake written.
func (c *Conn) opened(deflate bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deflate.Store(deflate)
	c.in.frames.deflate = deflate
	q := &c.out
	q.flushing = false
	if q.lost {
		q.drop()
		_ = c.raw.Close()
	}
	if q.drainBy != 0 { // Close was called: its time begins now
		q.drainBy = c.group.now() + c.group.opts.WriteTimeout
	}
	c.startFlush()
}

// shut queues a close frame as the last one, to be written within Options.WriteTimeout, and forgets the messages that wait to be
// handled. The first call wins.
func (c *Conn) shut(code int, reason string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.out.closing() {
		c.shutLocked(code, reason, err, c.group.opts.WriteTimeout)
	}
}

func (c *Conn) shutLocked(code int, reason string, err error, drain time.Duration) {
	c.sayCloseLocked(code, reason, err, drain)
	c.dropPendingLocked()
}

// echo answers the peer's close frame. Messages that it sent before are still handled.
func (c *Conn) echo(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.out.closing() {
		c.sayCloseLocked(code, reason, nil, c.group.opts.WriteTimeout)
	}
}

func (c *Conn) sayCloseLocked(code int, reason string, err error, drain time.Duration) {
	c.endLocked(code, reason, err)
	c.out.drainBy = c.group.now() + drain
	c.out.add(segment{b: closeFrame(code, reason)})
	c.startFlush()
}

// lose ends the connection without a close frame. What waits to be sent is dropped. After a write that failed, and only
// then, the kernel is told to forget what it holds too.
func (c *Conn) lose(err error, forget bool) {
	c.mu.Lock()
	q := &c.out
	if !q.closing() {
		c.endLocked(CodeLost, "", err)
	}
	q.lost = true
	q.drop()
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
	c.out.ending = &ending{code, reason, err}
	c.wakeReaderLocked()
	if c.ctx != nil {
		c.ctx.cancel()
	}
}

// isClosing reports whether a close frame is queued, or the connection is lost.
func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.closing()
}
