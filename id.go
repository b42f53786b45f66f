package mooncore

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
)

const idBytes = 16

// randomBytes are asked of the system for many ids at once. Each id has bytes of its own.
type randomBytes struct {
	bytes [32 * idBytes]byte
	used  int
}

var randomPool = sync.Pool{New: func() any { return &randomBytes{used: 32 * idBytes} }}

// newID returns an id with 128 random bits, in the letters of [rand.Text].
func newID() string {
	r := randomPool.Get().(*randomBytes)
	if r.used == len(r.bytes) {
		rand.Read(r.bytes[:])
		r.used = 0
	}
	random := r.bytes[r.used : r.used+idBytes]
	high, low := binary.BigEndian.Uint64(random), binary.BigEndian.Uint64(random[8:])
	clear(random)
	r.used += idBytes
	randomPool.Put(r)
	var id [26]byte
	for i := range id {
		id[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
	return string(id[:])
}
