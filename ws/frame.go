package ws

import (
	"encoding/binary"
	"unicode/utf8"
)

// Opcodes of frames, RFC 6455, section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

const (
	finBit  = 0x80
	rsv1Bit = 0x40 // on a message's first frame: it is compressed
	rsvBits = 0x70
	maskBit = 0x80

	maxControl = 125 // bytes of a control frame's payload, RFC 6455, section 5.5

	// minFragment is what a continuation frame counts at least towards Options.MaxMessage, so that a message of endless empty
	// fragments ends too. It is about what handling a frame costs.
	minFragment = 64
)

// A fault is why a connection is closed by us: what the close frame says, and what Handler.Closed is told.
type fault struct {
	code   int
	reason string
}

func (f *fault) Error() string { return "ws: " + f.reason }

// An event is what the bytes just parsed completed.
type event int

const (
	evNone     event = iota
	evFragment       // a data frame that isn't its message's last
	evMessage        // a message's last frame
	evControl        // a control frame: see parser.opcode and parser.control
)

type parseState uint8

const (
	atOpcode parseState = iota // between frames
	atLength
	atExtended
	atKey
	atPayload
)

// A parser follows the frames of a client's stream through any division of its bytes, and finds what RFC 6455 forbids.
// It keeps the payload of control frames, and none of data frames.
type parser struct {
	max     int64 // bytes of a message, negative = no limit
	deflate bool  // messages may be compressed

	state     parseState
	opcode    byte
	message   byte // opcode of the last message's first frame
	fin       bool
	fragments bool // the last data frame wasn't its message's last
	packed    bool // the last message is compressed
	need      uint8
	wide      bool  // the extended length has 8 bytes, not 2
	keyPos    uint8 // of the next payload byte in key
	key       [4]byte
	length    uint64 // of the payload; while in it, what is left of it
	used      uint64 // of max, by the message so far
	control   []byte // payload of the control frame, unmasked; kept from frame to frame
}

// idle reports whether the stream stands between messages: no frame and no message has begun.
func (p *parser) idle() bool { return p.state == atOpcode && !p.fragments }

// left returns how many bytes of a data frame's payload are yet to come; 0 outside one.
func (p *parser) left() uint64 {
	if p.state != atPayload || p.isControl() {
		return 0
	}
	return p.length
}

// isControl reports whether the frame that next is in, or has just completed, is a control frame.
func (p *parser) isControl() bool { return p.opcode&0x8 != 0 }

// next consumes at least one byte of b, which is not empty, up to the end of a header or of a frame, whichever comes first. At a fault,
// n is the number of bytes before the one at fault.
func (p *parser) next(b []byte) (n int, ev event, f *fault) {
	if p.state == atPayload {
		n = int(min(uint64(len(b)), p.length))
		p.length -= uint64(n)
		if p.isControl() {
			p.control = append(p.control, b[:n]...)
			p.unmask(p.control[len(p.control)-n:])
		}
		if p.length > 0 {
			return n, evNone, nil
		}
		return n, p.endFrame(), nil
	}
	for n < len(b) {
		f = p.header(b[n])
		if f != nil {
			return n, evNone, f
		}
		n++
		if p.state == atPayload {
			if p.length == 0 {
				return n, p.endFrame(), nil
			}
			return n, evNone, nil
		}
	}
	return n, evNone, nil
}

func (p *parser) endFrame() event {
	p.state = atOpcode
	switch {
	case p.isControl():
		return evControl
	case p.fin:
		return evMessage
	default:
		return evFragment
	}
}

// header takes the next byte of a frame's header.
func (p *parser) header(x byte) *fault {
	switch p.state {
	case atOpcode:
		return p.first(x)
	case atLength:
		if x&maskBit == 0 {
			return &fault{CodeProtocol, "unmasked frame"}
		}
		length := x &^ maskBit
		if p.isControl() && length > maxControl {
			return &fault{CodeProtocol, "control frame too long"}
		}
		p.length = 0
		switch length {
		case 126:
			p.state, p.need, p.wide = atExtended, 2, false
		case 127:
			p.state, p.need, p.wide = atExtended, 8, true
		default:
			p.length = uint64(length)
			return p.beginKey()
		}
	case atExtended:
		if p.wide && p.need == 8 && x&0x80 != 0 {
			return &fault{CodeProtocol, "frame length out of range"}
		}
		length := p.length<<8 | uint64(x)
		if p.need == 1 && (p.wide && length <= 0xFFFF || !p.wide && length <= 125) {
			return &fault{CodeProtocol, "frame length not in its shortest form"}
		}
		p.length = length
		p.need--
		if p.need == 0 {
			return p.beginKey()
		}
	case atKey:
		p.key[4-p.need] = x
		p.need--
		if p.need == 0 {
			p.state, p.keyPos = atPayload, 0
		}
	}
	return nil
}

// unmask takes the masking off the next bytes of a frame's payload, which next has consumed: RFC 6455, section 5.3.
func (p *parser) unmask(b []byte) {
	var key [8]byte
	for i := range key {
		key[i] = p.key[(int(p.keyPos)+i)&3]
	}
	p.keyPos = uint8((int(p.keyPos) + len(b)) & 3)
	for mask := binary.NativeEndian.Uint64(key[:]); len(b) >= len(key); b = b[len(key):] {
		binary.NativeEndian.PutUint64(b, binary.NativeEndian.Uint64(b)^mask)
	}
	for i := range b {
		b[i] ^= key[i]
	}
}

// first takes the first byte of a frame.
func (p *parser) first(x byte) *fault {
	opcode, fin := x&0xF, x&finBit != 0
	compressed := p.deflate && x&rsvBits == rsv1Bit && (opcode == opText || opcode == opBinary)
	if x&rsvBits != 0 && !compressed {
		return &fault{CodeProtocol, "reserved bit set"}
	}
	switch opcode {
	case opContinuation:
		if !p.fragments {
			return &fault{CodeProtocol, "continuation of no message"}
		}
		p.fragments = !fin
	case opText, opBinary:
		if p.fragments {
			return &fault{CodeProtocol, "message begun inside another"}
		}
		p.message, p.fragments, p.packed = opcode, !fin, compressed
		p.used = 0
	case opClose, opPing, opPong:
		if !fin {
			return &fault{CodeProtocol, "fragmented control frame"}
		}
		p.control = p.control[:0]
	default:
		return &fault{CodeProtocol, "reserved opcode"}
	}
	p.opcode, p.fin = opcode, fin
	p.state = atLength
	return nil
}

// beginKey follows the length: it charges the frame to its message.
func (p *parser) beginKey() *fault {
	if !p.isControl() {
		cost := p.length
		if p.opcode == opContinuation {
			cost = max(cost, minFragment)
		}
		if p.max >= 0 && cost > uint64(p.max)-min(p.used, uint64(p.max)) {
			return &fault{CodeTooBig, "message too big"}
		}
		p.used += cost
	}
	p.state, p.need = atKey, 4
	return nil
}

// parseClose returns what the payload of a client's close frame says. An empty one has the code 1005 (RFC 6455, section 7.1.5).
func parseClose(payload []byte) (code int, reason string, f *fault) {
	if len(payload) == 0 {
		return CodeNone, "", nil
	}
	if len(payload) == 1 {
		return 0, "", &fault{CodeProtocol, "close frame too short"}
	}
	code = int(binary.BigEndian.Uint16(payload))
	if !validCode(code) {
		return 0, "", &fault{CodeProtocol, "invalid close code"}
	}
	if !utf8.Valid(payload[2:]) {
		return 0, "", &fault{CodeBadText, "close reason is not UTF-8"}
	}
	return code, string(payload[2:]), nil
}

// validCode reports whether a close frame may hold code: RFC 6455, section 7.4, and the IANA registry of close codes.
func validCode(code int) bool {
	switch code {
	case 1004, CodeNone, CodeLost, 1015:
		return false
	}
	return code >= 1000 && code <= 1014 || code >= 3000 && code <= 4999
}

// appendHeader appends the header of an unmasked frame that isn't fragmented.
func appendHeader(b []byte, opcode byte, length int) []byte {
	b = append(b, finBit|opcode)
	switch {
	case length <= 125:
		return append(b, byte(length))
	case length <= 0xFFFF:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(b, 127), uint64(length))
	}
}

// maxHeader is the size of the longest header that appendHeader writes.
const maxHeader = 10

// newFrame returns a whole frame with a copy of payload.
func newFrame(opcode byte, payload []byte) []byte {
	return appendFrame(make([]byte, 0, maxHeader+len(payload)), opcode, payload)
}

func appendFrame(b []byte, opcode byte, payload []byte) []byte {
	return append(appendHeader(b, opcode, len(payload)), payload...)
}

// closeFrame returns a close frame. CodeNone gives an empty one, any other code that may not stand in a frame becomes 1011.
// A reason past the 123 bytes that fit is cut at a character.
func closeFrame(code int, reason string) []byte {
	if code == CodeNone {
		return newFrame(opClose, nil)
	}
	if !validCode(code) {
		code = CodeInternal
	}
	payload := binary.BigEndian.AppendUint16(make([]byte, 0, maxControl), uint16(code))
	return newFrame(opClose, append(payload, cutReason(reason)...))
}

func cutReason(s string) string {
	const most = maxControl - 2
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
