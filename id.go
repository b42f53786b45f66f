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

// idBlock is the text of ids, some of which nobody has yet. Ids made together cost half as much.
type idBlock struct {
	text [idsAhead * idLength]byte
	used int
}

var idBlocks = sync.Pool{New: func() any { return &idBlock{used: idsAhead * idLength} }}

// newID returns an id with 130 random bits, in the letters of [rand.Text].
func newID() string {
	b := idBlocks.Get().(*idBlock)
	if b.used == len(b.text) {
		var random [len(b.text) * 5 / 8]byte
		rand.Read(random[:]) // never fails
		base32.StdEncoding.Encode(b.text[:], random[:])
		b.used = 0
	}
	id := string(b.text[b.used : b.used+idLength])
	b.used += idLength
	idBlocks.Put(b)
	return id
}
