package devtools

import (
	"slices"
	"sync"
	"sync/atomic"
)

// chunkSize is how much of the log is allocated at once, and forgotten at once.
const chunkSize = 64 << 10

// A ring keeps the last records of the log, as many as fit in a number of bytes. Records are bytes in chunks without pointers, so
// that a long log costs the garbage collector nothing. Its methods may be called concurrently.
type ring struct {
	max  int
	last atomic.Uint64 // id of the last record; they count from 1

	mu     sync.Mutex
	chunks []*chunk // oldest first
	bytes  int      // of chunks
	clears uint64   // how often clear was called
}

// A chunk is consecutive records. What is in it never changes; more comes behind.
type chunk struct {
	first uint64 // id of the first record
	buf   []byte
	ends  []uint32 // in buf
}

func (c *chunk) size() int { return cap(c.buf) + 4*cap(c.ends) }

func (c *chunk) record(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = c.ends[i-1]
	}
	return c.buf[start:c.ends[i]]
}

func newRing(max int) *ring { return &ring{max: max} }

// add copies a record into the ring and returns its id.
func (r *ring) add(record []byte) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.last.Load() + 1
	var c *chunk
	if n := len(r.chunks); n > 0 {
		c = r.chunks[n-1]
	}
	if c == nil || cap(c.buf)-len(c.buf) < len(record) || len(c.ends) == cap(c.ends) {
		c = &chunk{first: id, buf: make([]byte, 0, max(chunkSize, len(record))), ends: make([]uint32, 0, 1024)}
		r.chunks = append(r.chunks, c)
		r.bytes += c.size()
		for r.bytes > r.max && len(r.chunks) > 1 {
			r.bytes -= r.chunks[0].size()
			r.chunks[0] = nil
			r.chunks = r.chunks[1:]
		}
	}
	c.buf = append(c.buf, record...)
	c.ends = append(c.ends, uint32(len(c.buf)))
	r.last.Store(id)
	return id
}

// view returns the chunks as they are now. What is added later does not appear in them.
func (r *ring) view() []chunk {
	r.mu.Lock()
	defer r.mu.Unlock()
	view := make([]chunk, len(r.chunks))
	for i, c := range r.chunks {
		view[i] = chunk{c.first, slices.Clip(c.buf), slices.Clip(c.ends)}
	}
	return view
}

// get returns a record, nil if there is none any more.
func (r *ring) get(id uint64) []byte {
	for _, c := range r.view() {
		if id >= c.first && id < c.first+uint64(len(c.ends)) {
			return c.record(int(id - c.first))
		}
	}
	return nil
}

// newest calls fn with each record, newest first, until it returns false.
func (r *ring) newest(fn func(id uint64, record []byte) bool) {
	view := r.view()
	for i := len(view) - 1; i >= 0; i-- {
		c := &view[i]
		for j := range slices.Backward(c.ends) {
			if !fn(c.first+uint64(j), c.record(j)) {
				return
			}
		}
	}
}

// clear forgets all records. Ids go on.
func (r *ring) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chunks, r.bytes = nil, 0
	r.clears++
}

// A ringState tells how full a ring is.
type ringState struct {
	kept, bytes int
	clears      uint64
}

func (r *ring) state() ringState {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := ringState{bytes: r.bytes, clears: r.clears}
	for _, c := range r.chunks {
		s.kept += len(c.ends)
	}
	return s
}
