package ws

import (
	"slices"
	"sync"
	"time"
)

const (
	// maxWrite is how many bytes are written at once: as much as a TLS record holds.
	maxWrite = 16 << 10

	// frameOverhead is what a waiting frame counts towards Options.SendBytes beyond its bytes.
	frameOverhead = 32

	// replyChunk is the size of the buffers that hold small replies together.
	replyChunk = 4 << 10
)

// A segment is one or more whole frames: one that other connections may share, or small replies in a chunk of the queue's own.
type segment struct {
	b     []byte
	chunk *[replyChunk]byte // what b lies in; nil for a frame by itself
}

// cost is what a waiting segment counts towards Options.SendBytes: about the memory that it holds.
func (s *segment) cost() int {
	if s.chunk != nil {
		return replyChunk + frameOverhead
	}
	return len(s.b) + frameOverhead
}

var (
	chunks       = sync.Pool{New: func() any { return new([replyChunk]byte) }}
	segmentLists = sync.Pool{New: func() any { return new([64]segment) }}
)

// A sendQueue holds what waits to be written. One goroutine at a time writes: who sets flushing sees to it that somebody does.
// Conn.mu guards the queue.
type sendQueue struct {
	segments []segment
	one      [1]segment   // what segments lies in while it is short
	many     *[64]segment // and then, unless it is longer still
	busy     int          // segments at the front that are being written
	written  int          // bytes of the first segment that have been
	bytes    int          // in segments, but for those written
	waiting  int          // cost of the segments that aren't busy
	flushing bool

	sent    bool          // the close frame has been written
	lost    bool          // the socket is closed
	ending  *ending       // if not nil, nothing more is queued: a close frame is, or the connection is lost
	drainBy time.Duration // by when, in Group.now, the close frame must be written

	flushers sync.WaitGroup // holds 1 while flushing; not set any more once ending is, and the close frame is queued
}

// An ending is how a connection ends: what Handler.Closed is told.
type ending struct {
	code   int
	reason string
	err    error
}

// closing reports whether nothing more is queued.
func (q *sendQueue) closing() bool { return q.ending != nil }

// room reports whether a segment of that cost may wait too. One may whatever its size if no other does.
func (q *sendQueue) room(cost, limit int) bool {
	return limit < 0 || q.waiting == 0 || q.waiting+cost <= limit
}

func (q *sendQueue) add(s segment) {
	switch n := len(q.segments); {
	case n == 0:
		q.segments = q.one[:0]
	case n == len(q.one) && q.many == nil:
		q.many = segmentLists.Get().(*[64]segment)
		q.segments = append(q.many[:0], q.segments...)
	}
	q.segments = append(q.segments, s)
	q.bytes += len(s.b)
	q.waiting += s.cost()
}

// addReply copies a frame behind the replies that wait already, and reports whether there is place for it.
func (q *sendQueue) addReply(opcode byte, payload []byte) bool {
	n := len(q.segments)
	if n <= q.busy {
		return false
	}
	last := &q.segments[n-1]
	if last.chunk == nil || replyChunk-len(last.b) < maxHeader+len(payload) {
		return false
	}
	before := len(last.b)
	last.b = appendFrame(last.b, opcode, payload)
	q.bytes += len(last.b) - before
	return true
}

// begin makes as many segments busy as are written at once: one, or several small ones.
func (q *sendQueue) begin() {
	size := 0
	for i := range q.segments[:q.busy] {
		size += len(q.segments[i].b)
	}
	for q.busy < len(q.segments) && (q.busy == 0 || size+len(q.segments[q.busy].b) <= maxWrite) {
		size += len(q.segments[q.busy].b)
		q.waiting -= q.segments[q.busy].cost()
		q.busy++
	}
}

// take returns the bytes to write next. Those of several segments lie in scratch.
func (q *sendQueue) take(scratch *[maxWrite]byte) []byte {
	switch q.begin(); {
	case q.busy == 0:
		return nil
	case q.busy == 1 || q.written > 0:
		return q.segments[0].b[q.written:]
	}
	b := scratch[:0]
	for _, s := range q.segments[:q.busy] {
		b = append(b, s.b...)
	}
	return b
}

// wrote forgets n bytes from the front.
func (q *sendQueue) wrote(n int) {
	q.bytes -= n
	done := 0
	for done < q.busy && n >= len(q.segments[done].b)-q.written {
		n -= len(q.segments[done].b) - q.written
		q.written = 0
		q.free(done)
		done++
	}
	q.written += n
	q.busy -= done
	q.segments = slices.Delete(q.segments, 0, done)
	if len(q.segments) == 0 {
		q.reset()
	}
}

func (q *sendQueue) free(i int) {
	if chunk := q.segments[i].chunk; chunk != nil {
		chunks.Put(chunk)
	}
}

// drop forgets what waits, and what is being written, too, if nobody writes.
func (q *sendQueue) drop() {
	if !q.flushing {
		q.busy, q.written = 0, 0
	}
	for i := q.busy; i < len(q.segments); i++ {
		q.free(i)
		q.bytes -= len(q.segments[i].b)
	}
	clear(q.segments[q.busy:])
	q.segments = q.segments[:q.busy]
	q.waiting = 0
	if len(q.segments) == 0 {
		q.reset()
	}
}

func (q *sendQueue) reset() {
	q.segments, q.bytes = nil, 0
	if q.many != nil {
		clear(q.many[:])
		segmentLists.Put(q.many)
		q.many = nil
	}
}
