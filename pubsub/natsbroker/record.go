package natsbroker

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// maxBefore is how many messages before it a message names. To find those of one subject, the server walks through all that are between
// them in the stream; to find one by its number, it does not.
const maxBefore = 16

// A marker begins with the byte markerByte, the offset in 8 bytes, big-endian, and the epoch. Else the first byte is the length of the
// numbers, which are not that long; these follow, then the ID in 8 bytes, and the Entry as subscriptions get it.
const (
	markerByte = 0xff
	markerHead = 9
	idSize     = 8
)

// A record is a message of a stream.
type record struct {
	pubsub.Entry
	isMarker bool     // it is no message: it holds the position while there are none
	id       uint64   // tells a message from another one of the same position and data; not a marker's
	before   []uint64 // the numbers of the messages before it in its epoch, the latest first
	seq      uint64   // its own number in the stream
	time     time.Time
}

// next returns the record behind r, which may be nil.
func (r *record) next(data []byte) *record {
	if r == nil {
		return &record{Entry: pubsub.Entry{Position: pubsub.Position{Epoch: newEpoch(), Offset: 1}, Data: data}, id: rand.Uint64()}
	}
	n := &record{Entry: pubsub.Entry{Position: pubsub.Position{Epoch: r.Epoch, Offset: r.Offset + 1}, Data: data}, id: rand.Uint64()}
	if !r.isMarker {
		n.before = append(append(make([]uint64, 0, maxBefore), r.seq), r.before[:min(len(r.before), maxBefore-1)]...)
	}
	return n
}

// marker returns a marker of r's position, or of a new epoch if r is nil.
func (r *record) marker() *record {
	m := &record{isMarker: true}
	if r != nil {
		m.Position = r.Position
	} else {
		m.Epoch = newEpoch()
	}
	return m
}

// spread is how far the messages before r are from each other in the stream.
func (r *record) spread() uint64 {
	n := uint64(len(r.before))
	if n == 0 {
		return 1
	}
	return (r.seq - r.before[n-1] + n - 1) / n
}

// bare returns a copy without the data.
func (r *record) bare() *record {
	if r == nil {
		return nil
	}
	c := *r
	c.Data = nil
	return &c
}

// contradicts reports whether r can't be the last message if another one, which may be nil, was: the stream is behind, or has lost
// messages that it had taken.
func (r *record) contradicts(known *record) bool {
	if known == nil || r.Epoch != known.Epoch {
		return false
	}
	if r.Offset == known.Offset && !r.isMarker {
		return r.seq != known.seq && (!known.isMarker || r.seq > known.seq) // a marker may have ended before its message
	}
	return r.Offset < known.Offset || r.seq < known.seq
}

// encode writes a record as the stream has it: the numbers, as varints, after their length in one byte, and the Entry.
func (r *record) encode() []byte {
	if r.isMarker {
		return append(binary.BigEndian.AppendUint64([]byte{markerByte}, r.Offset), r.Epoch...)
	}
	var numbers []byte
	for i, seq := range r.before {
		if i > 0 {
			seq = r.before[i-1] - seq
		}
		numbers = binary.AppendUvarint(numbers, seq)
	}
	b := make([]byte, 0, 1+len(numbers)+idSize+9+len(r.Epoch)+len(r.Data))
	b = append(append(b, byte(len(numbers))), numbers...)
	b = binary.BigEndian.AppendUint64(b, r.id)
	return pubsub.AppendEntry(b, r.Entry)
}

// decode reads what encode wrote, which r's Data is part of. entry is what subscriptions get; a marker has none.
func decode(b []byte) (r *record, entry []byte, ok bool) {
	switch {
	case len(b) == 0:
		return nil, nil, false
	case b[0] == markerByte && len(b) > markerHead:
		at := pubsub.Position{Epoch: string(b[markerHead:]), Offset: binary.BigEndian.Uint64(b[1:])}
		return &record{Entry: pubsub.Entry{Position: at}, isMarker: true}, nil, true
	case len(b) < 1+int(b[0])+idSize:
		return nil, nil, false
	}
	numbers, rest := b[1:1+b[0]], b[1+b[0]:]
	entry = rest[idSize:]
	e, err := pubsub.ParseEntry(entry)
	r = &record{Entry: e, id: binary.BigEndian.Uint64(rest)}
	for len(numbers) > 0 {
		seq, n := binary.Uvarint(numbers)
		if i := len(r.before); i > 0 {
			seq = r.before[i-1] - seq
		}
		if n <= 0 || len(r.before) == maxBefore || seq == 0 || len(r.before) > 0 && seq >= r.before[len(r.before)-1] {
			return nil, nil, false
		}
		r.before, numbers = append(r.before, seq), numbers[n:]
	}
	return r, entry, err == nil
}
