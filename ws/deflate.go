package ws

import (
	"bytes"
	"compress/flate"
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
