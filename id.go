package mooncore

import (
	"crypto/rand"
	"encoding/base32"
	"sync"
)

const (
	idLength = 26 // letters, of 5 random bits each
	idsAhead = 16
)

// idBlock is the text of ids that nobody has yet. Ids made together, which share their memory, cost a quarter.
type idBlock struct{ rest string }

var idBlocks = sync.Pool{New: func() any { return new(idBlock) }}

// newID returns an id with 130 random bits, in the letters of [rand.Text]. Who keeps it for long clones it.
func newID() string {
	b := idBlocks.Get().(*idBlock)
	if b.rest == "" {
		var text [idsAhead * idLength]byte
		var random [len(text) * 5 / 8]byte
		rand.Read(random[:]) // never fails
		base32.StdEncoding.Encode(text[:], random[:])
		b.rest = string(text[:])
	}
	id := b.rest[:idLength]
	b.rest = b.rest[idLength:]
	idBlocks.Put(b)
	return id
}
