package pubsub

import (
	"context"
	"encoding/binary"
	"errors"
	"time"
)

// A Log is a [Broker] that can also keep the latest messages of a topic, so that who missed some reads them. Implementations
// must pass package pubsubtest's RunLog. Its methods may be called concurrently.
//
// What is kept of a topic has an epoch, and offsets in it: the first message that was ever appended has offset 1, and each one has
// the next. A new epoch begins at offset 0 when the log can't vouch any more that offsets go on where they were: what it kept is
// gone, or may be. An epoch is never used again.
//
// A topic is either appended to or published to, never both, and always with the same Keep.
type Log interface {
	Broker

	// Append is Publish, and keeps the message. Subscriptions of the topic get each message once, in the order of offsets, as an [Entry]
	// that [ParseEntry] reads. A subscription that misses one is told by lost, or by the next Entry, whose offset does not follow.
	// If Append fails with anything but [ErrAway] or [ErrClosed], the message may have been appended or not.
	Append(ctx context.Context, topic string, data []byte, keep Keep) (Position, error)

	// Read returns what is kept of a topic behind an offset, oldest first, as much as fits into about maxBytes of data, and at least
	// one entry if there is one. It may be behind: a message that was appended lately may be missing at the end.
	//
	// A topic of which nothing is kept gets a new epoch by it, and keeps that for a minute at least, and on as long as it is read.
	Read(ctx context.Context, topic string, after uint64, maxBytes int, keep Keep) (Page, error)
}

// Keep says how much of a topic is kept: the latest Events, as long as they are not older than Age. Both are above 0. An
// implementation may keep somewhat more.
type Keep struct {
	Events int
	Age    time.Duration // it may be rounded up to seconds
}

// A Position is a place in what is kept of a topic.
type Position struct {
	Epoch  string // 1 to 32 characters of A-Z, a-z and 0-9
	Offset uint64 // 0 before the first message
}

// An Entry is a message and where it stands.
type Entry struct {
	Position
	Data []byte
}

// A Page is what [Log].Read returns.
type Page struct {
	Entries []Entry  // of one epoch, without holes between them
	Top     Position // of the last message that was appended, as far as the log knows, or of the beginning of the epoch
}

const maxEpoch = 32

// AppendEntry writes an Entry as subscriptions get it: the offset in 8 bytes, big-endian, the epoch after its length in one byte,
// the data.
func AppendEntry(dst []byte, e Entry) []byte {
	dst = binary.BigEndian.AppendUint64(dst, e.Offset)
	dst = append(dst, byte(len(e.Epoch)))
	dst = append(dst, e.Epoch...)
	return append(dst, e.Data...)
}

var errEntry = errors.New("pubsub: malformed entry")

// ParseEntry reads what [AppendEntry] wrote. The Entry's Data is part of b.
func ParseEntry(b []byte) (Entry, error) {
	if len(b) < 9 {
		return Entry{}, errEntry
	}
	offset, n := binary.BigEndian.Uint64(b), int(b[8])
	b = b[9:]
	if offset == 0 || n == 0 || n > maxEpoch || n > len(b) {
		return Entry{}, errEntry
	}
	return Entry{Position{string(b[:n]), offset}, b[n:]}, nil
}
