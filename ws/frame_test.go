package ws

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// A verdict is all that a parser says of a stream.
type verdict struct {
	kept   []byte // of data frames
	events string
	fault  string
	idle   bool
}

// parse gives b to a parser in parts, whose lengths next returns.
func parse(b []byte, next func() int) (v verdict) {
	p := parser{max: 1000}
	for len(b) > 0 {
		part := b[:min(next(), len(b))]
		b = b[len(part):]
		for len(part) > 0 {
			n, ev, f := p.next(part)
			if n > 0 && !p.isControl() {
				v.kept = append(v.kept, part[:n]...)
			}
			part = part[n:]
			if f != nil {
				v.fault = fmt.Sprint(f.code, f.reason)
				return v
			}
			if ev != evNone {
				v.events += fmt.Sprint(ev, p.opcode)
				if ev == evControl {
					v.events += fmt.Sprintf("%q", p.control)
				}
				v.events += " "
			}
			if n == 0 {
				panic("no progress")
			}
		}
	}
	v.idle = p.idle()
	return v
}

func (v verdict) equal(o verdict) bool {
	return bytes.Equal(v.kept, o.kept) && v.events == o.events && v.fault == o.fault && v.idle == o.idle
}

// However a stream is divided, the verdict is the same, and what is let through has no fault and no control frame.
func FuzzParser(f *testing.F) {
	frame := func(b0 byte, payload string) []byte {
		b := []byte{b0, 0x80 | byte(len(payload)), 1, 2, 3, 4}
		return append(b, payload...)
	}
	f.Add([]byte{}, uint64(1))
	f.Add([]byte{0x81, 0x01, 'a'}, uint64(1))
	f.Add(frame(0x81, "text"), uint64(2))
	f.Add(bytes.Join([][]byte{frame(0x01, "a"), frame(0x89, "ping"), frame(0x80, "b"), frame(0x88, "xx")}, nil), uint64(3))
	f.Add(bytes.Repeat(frame(0x00, ""), 20), uint64(4))
	f.Add(append(frame(0x01, ""), bytes.Repeat(frame(0x00, ""), 20)...), uint64(5))
	f.Add([]byte{0x82, 0xFE, 0, 126, 0, 0, 0, 0, 1}, uint64(6))
	f.Add([]byte{0x82, 0xFE, 0, 125, 0, 0, 0, 0, 1}, uint64(7))
	f.Add([]byte{0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1}, uint64(8))
	f.Add([]byte{0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0}, uint64(9))
	f.Add([]byte{0xC1, 0x80}, uint64(10))
	f.Add([]byte{0x83, 0x80}, uint64(11))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		whole := parse(b, func() int { return len(b) })
		if v := parse(b, func() int { return 1 }); !v.equal(whole) {
			t.Errorf("byte by byte: %+v, in one: %+v", v, whole)
		}
		r := rand.New(rand.NewPCG(seed, 0))
		if v := parse(b, func() int { return 1 + r.IntN(9) }); !v.equal(whole) {
			t.Errorf("divided: %+v, in one: %+v", v, whole)
		}
		again := parse(whole.kept, func() int { return len(whole.kept) })
		if again.fault != "" || !bytes.Equal(again.kept, whole.kept) {
			t.Errorf("let through: %q, of which the parser says %+v", whole.kept, again)
		}
	})
}

func TestHeaderLengths(t *testing.T) {
	tests := []struct {
		length int
		want   []byte
	}{
		{0, []byte{0x81, 0}},
		{125, []byte{0x81, 125}},
		{126, []byte{0x81, 126, 0, 126}},
		{65535, []byte{0x81, 126, 0xFF, 0xFF}},
		{65536, []byte{0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
	}
	for _, test := range tests {
		if got := appendHeader(nil, opText, test.length); !bytes.Equal(got, test.want) {
			t.Errorf("%d: % x, want % x", test.length, got, test.want)
		}
	}
}

// However a payload is divided, it is unmasked as RFC 6455, section 5.3, says.
func TestUnmask(t *testing.T) {
	plain := []byte("The quick brown fox jumps over the lazy dog.")
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	masked := make([]byte, len(plain))
	for i, c := range plain {
		masked[i] = c ^ key[i%4]
	}
	for first := range plain {
		for second := range len(plain) - first {
			p, b := parser{key: key}, bytes.Clone(masked)
			p.unmask(b[:first])
			p.unmask(b[first : first+second])
			p.unmask(b[first+second:])
			if !bytes.Equal(b, plain) {
				t.Fatalf("in parts of %d, %d and the rest: %q", first, second, b)
			}
		}
	}
}
