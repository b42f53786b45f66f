package load

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

const (
	firstID = 1_000_001
	lastID  = 9_999_999
)

// nextID returns the id after id. All have as many digits.
func nextID(id int) int {
	if id == lastID {
		return firstID
	}
	return id + 1
}

// A template is a message with places for an id.
type template struct {
	text   []byte
	places []int // where ids start
}

func newTemplate(text string) template {
	t := template{text: []byte(text)}
	for at := 0; ; {
		i := strings.Index(text[at:], wire.ID)
		if i < 0 {
			return t
		}
		t.places = append(t.places, at+i)
		at += i + len(wire.ID)
	}
}

// putID writes id in decimal to b.
func putID(b []byte, id int) {
	for i := len(wire.ID) - 1; i >= 0; i-- {
		b[i] = byte('0' + id%10)
		id /= 10
	}
}

// check compares got with the template for an id. It changes the template.
func (t template) check(got []byte, id int) error {
	for _, at := range t.places {
		putID(t.text[at:], id)
	}
	if !bytes.Equal(got, t.text) {
		return fmt.Errorf("wrong answer\n got %.300q\nwant %.300q", got, t.text)
	}
	return nil
}

// frames returns n masked frames of the template, one after another, and where the ids of each stand.
func (t template) frames(n int) (out []byte, ids [][]maskedID) {
	for range n {
		var start int
		out, start = appendFrame(out, opText, t.text)
		var places []maskedID
		for _, at := range t.places {
			places = append(places, maskedID{at: start + at, phase: at & 3})
		}
		ids = append(ids, places)
	}
	return out, ids
}

// A maskedID is the place of an id in a masked frame: at is its offset, phase that of the mask, or unmasked.
type maskedID struct{ at, phase int }

const unmasked = -1

// put writes id, masked, to frames.
func (m maskedID) put(frames []byte, id int) {
	b := frames[m.at : m.at+len(wire.ID)]
	putID(b, id)
	if m.phase == unmasked {
		return
	}
	for i := range b {
		b[i] ^= mask[(m.phase+i)&3]
	}
}
