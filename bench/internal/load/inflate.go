package load

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
)

// An inflater undoes permessage-deflate without context takeover. It remembers what it has inflated, since in a fan-out
// most receivers get the same bytes.
type inflater struct {
	known  map[string][]byte
	reader io.ReadCloser
}

// tail is what RFC 7692, section 7.2.2, appends, and an empty last block.
var tail = []byte{0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff}

// inflate returns the message that was compressed. It is good until the next call, and read-only.
func (f *inflater) inflate(data []byte) ([]byte, error) {
	if plain, ok := f.known[string(data)]; ok {
		return plain, nil
	}
	src := io.MultiReader(bytes.NewReader(data), bytes.NewReader(tail))
	if f.reader == nil {
		f.reader = flate.NewReader(src)
	} else if err := f.reader.(flate.Resetter).Reset(src, nil); err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(f.reader, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("inflate: %w", err)
	}
	if len(f.known) >= 256 || f.known == nil {
		f.known = map[string][]byte{}
	}
	f.known[string(data)] = plain
	return plain, nil
}
