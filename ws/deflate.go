package ws

import (
	"bytes"
	"compress/flate"
	"io"
	"slices"
	"sync"
)

// compressFrom is the size of the smallest message that is compressed. Smaller ones gain little.
const compressFrom = 512

// deflateTail ends what flate.Writer.Flush writes. It is left out of a message: RFC 7692, section 7.2.1.
const deflateTail = "\x00\x00\xff\xff"

// A compressor is large, half a megabyte, so few are kept.
type compressor struct {
	out bytes.Buffer
	w   *flate.Writer
}

var compressors = sync.Pool{New: func() any {
	c := new(compressor)
	c.w, _ = flate.NewWriter(&c.out, flate.BestSpeed) // an error is for a level that doesn't exist
	return c
}}

// compressedFrame returns a frame with the payload compressed, or nil if that isn't smaller.
func compressedFrame(opcode byte, payload []byte) []byte {
	c := compressors.Get().(*compressor)
	defer compressors.Put(c)
	c.out.Reset()
	c.w.Reset(&c.out)
	_, _ = c.w.Write(payload) // a bytes.Buffer takes everything
	_ = c.w.Flush()
	deflated := bytes.TrimSuffix(c.out.Bytes(), []byte(deflateTail))
	if len(deflated) >= len(payload) {
		return nil
	}
	return newFrame(rsv1Bit|opcode, deflated)
}

// inflateTail ends the last block of a message, and the stream: what was left out, and a block that is empty and the last one.
const inflateTail = deflateTail + "\x01\x00\x00\xff\xff"

// An inflater takes nothing beyond the end of a stream from in.
type inflater struct {
	in bytes.Reader
	r  io.Reader // a flate.Resetter
}

var inflaters = sync.Pool{New: func() any {
	d := new(inflater)
	d.r = flate.NewReader(&d.in)
	return d
}}

// inflate appends to dst what src is compressed of, at most most bytes of it, any number if most is negative. It changes src.
func inflate(dst, src *[]byte, most int64) *fault {
	d := inflaters.Get().(*inflater)
	defer inflaters.Put(d)
	*src = append(*src, inflateTail...)
	d.in.Reset(*src)
	_ = d.r.(flate.Resetter).Reset(&d.in, nil) // never fails
	defer d.in.Reset(nil)
	for {
		if len(*dst) == cap(*dst) {
			*dst = slices.Grow(*dst, max(512, len(*dst)))
		}
		n, err := d.r.Read((*dst)[len(*dst):cap(*dst)])
		*dst = (*dst)[:len(*dst)+n]
		switch {
		case most >= 0 && int64(len(*dst)) > most:
			return &fault{CodeTooBig, "message too big"}
		case err == io.EOF:
			// A message may say itself that it has ended, and then have the header of the empty block: RFC 7692, section 7.2.3.4.
			rest := bytes.TrimPrefix((*src)[len(*src)-d.in.Len():], []byte{0})
			if len(rest) > len(inflateTail) {
				return &fault{CodeBadText, "compressed message ends early"}
			}
			return nil
		case err != nil:
			return &fault{CodeBadText, "compressed message is broken"}
		}
	}
}
