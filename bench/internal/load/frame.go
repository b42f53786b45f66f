package load

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Opcodes of RFC 6455, section 5.2.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa
)

// A frame is one that a server sent. Its payload is part of the buffer that it was read into.
type frame struct {
	op       byte
	deflated bool // RSV1
	payload  []byte
}

var errFragment = errors.New("a fragmented message, which the load generator doesn't read")

// readFrame returns the frame at the start of b and its length, 0 if b doesn't hold all of it.
func readFrame(b []byte) (frame, int, error) {
	if len(b) < 2 {
		return frame{}, 0, nil
	}
	b0, size, head := b[0], uint64(b[1]), 2
	if b0&0x80 == 0 || b0&0xf == 0 {
		return frame{}, 0, errFragment
	}
	switch {
	case b0&0x30 != 0 || size&0x80 != 0:
		return frame{}, 0, fmt.Errorf("broken frame % x", b[:2])
	case size == 126:
		if head = 4; len(b) < head {
			return frame{}, 0, nil
		}
		size = uint64(binary.BigEndian.Uint16(b[2:]))
	case size == 127:
		if head = 10; len(b) < head {
			return frame{}, 0, nil
		}
		size = binary.BigEndian.Uint64(b[2:])
	}
	if uint64(len(b)-head) < size {
		return frame{}, 0, nil
	}
	end := head + int(size)
	return frame{op: b0 & 0xf, deflated: b0&0x40 != 0, payload: b[head:end]}, end, nil
}

// mask is the key of every frame that the load generator sends.
var mask = [4]byte{0x3a, 0xc5, 0x6d, 0x91}

// appendFrame appends a masked frame to dst, and returns where in it the payload starts.
func appendFrame(dst []byte, op byte, payload []byte) ([]byte, int) {
	dst = append(dst, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	dst = append(dst, mask[:]...)
	start := len(dst)
	for i, c := range payload {
		dst = append(dst, c^mask[i&3])
	}
	return dst, start
}
