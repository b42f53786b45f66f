package ws

import (
	"context"
	"net/http"
	"time"
)

// A Type says what a message holds.
type Type int

// The types of messages.
const (
	Text   Type = opText   // UTF-8; a message that isn't closes the connection with 1007
	Binary Type = opBinary // any bytes
)

// Close codes: RFC 6455, section 7.4.1, and Mooncore's own from 4400 on (PROTOCOL.md, section 3).
const (
	CodeNormal       = 1000
	CodeGoingAway    = 1001
	CodeProtocol     = 1002 // broken framing
	CodeNone         = 1005 // never sent: the peer's close frame held no code
	CodeLost         = 1006 // never sent: the connection ended without a close frame
	CodeBadText      = 1007
	CodePolicy       = 1008
	CodeTooBig       = 1009
	CodeInternal     = 1011
	CodeRestart      = 1012
	CodeUnauthorized = 4401
	CodeSlow         = 4408 // the peer doesn't read what it is sent
	CodeIdle         = 4410 // the peer doesn't answer pings
	CodeRate         = 4429
)

// Options are the limits of the connections of a [Group]. The zero value means the defaults.
// Where it says so, a negative value means no limit.
type Options struct {
	// MaxMessage is the size of a message from the peer, in bytes. Each continuation frame counts 64 bytes at least.
	// Past it the connection closes with 1009. Default 1 MiB; negative = no limit.
	MaxMessage int64

	// MessageTimeout is how long one message may take from its first byte to its last. Past it the connection closes
	// with 1008. Default 10 s; negative = no limit.
	MessageTimeout time.Duration

	// SendBytes may wait to be sent beyond what the kernel holds and what is being written, with 32 bytes more for each frame. Past
	// it the connection closes with 4408. A message that is larger is sent if no other waits. Default 256 KiB; negative = no limit.
	SendBytes int

	// Pending is how many messages may wait to be handled, of 256 KiB in all if they are more than one. Past it reading pauses.
	// Default 64.
	Pending int

	// PingAfter is how long no frame may arrive before a ping is sent. Default three quarters of IdleTimeout, or 45 s if that has no
	// limit; negative = never.
	PingAfter time.Duration

	// IdleTimeout is how long no frame may arrive, the answer to a ping included, before the connection closes
	// with 4410. The clock stops while reading is paused. Default 60 s; negative = no limit.
	IdleTimeout time.Duration

	// FramesPerSecond is how many frames of any kind may arrive in a second. Past it the connection closes with 4429.
	// Default 0 = no limit.
	FramesPerSecond int

	// WriteTimeout is how long the kernel may take no bytes (16 KiB are written at a time), and how long what is queued may take to
	// go out when the connection closes. Past it the connection closes with 4408. Default 5 s.
	WriteTimeout time.Duration

	// CloseGrace is how long to wait for the peer's close frame after ours. Default 1 s.
	CloseGrace time.Duration

	// Compression offers permessage-deflate (RFC 7692) without context takeover: each message that is sent and has 512 bytes or more is
	// compressed by itself, a [Prepared] one once for all its receivers. A message received counts towards MaxMessage with
	// the size that it has inflated. Default false.
	Compression bool

	// Subprotocols are offered in this order of preference; the first that the client names too is selected. Default none.
	Subprotocols []string

	// Refuse answers a request that is no handshake, with this status: 426, 405 or 400, or 501 and 500 if it can't be taken over. Header
	// fields such as Upgrade are set. Default: the text.
	Refuse func(w http.ResponseWriter, r *http.Request, status int, text string)

	// Context is the parent of each Conn.Context. That it ends doesn't close a connection. Default context.Background().
	Context context.Context

	// Trace, if set, is called with every message: in the reader's goroutine for those received, in the sender's, perhaps
	// concurrently, for those sent. It must not block or keep data.
	Trace func(c *Conn, sent bool, typ Type, data []byte)

	// Panic, if set, is called with what a method of the Handler panicked with, in that goroutine. The connection
	// closes with 1011 in any case.
	Panic func(c *Conn, value any, stack []byte)
}

// withDefaults returns a copy of o, which may be nil, with the defaults in place of zeros.
func (o *Options) withDefaults() Options {
	var out Options
	if o != nil {
		out = *o
	}
	setDefault(&out.MaxMessage, 1<<20)
	setDefault(&out.MessageTimeout, 10*time.Second)
	setDefault(&out.SendBytes, 256<<10)
	setDefault(&out.IdleTimeout, 60*time.Second)
	if out.IdleTimeout > 0 {
		setDefault(&out.PingAfter, out.IdleTimeout/4*3)
	}
	setDefault(&out.PingAfter, 45*time.Second)
	if out.Pending <= 0 {
		out.Pending = 64
	}
	if out.WriteTimeout <= 0 {
		out.WriteTimeout = 5 * time.Second
	}
	if out.CloseGrace <= 0 {
		out.CloseGrace = time.Second
	}
	if out.Context == nil {
		out.Context = context.Background()
	}
	return out
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
