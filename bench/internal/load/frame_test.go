package load

import (
	"bytes"
	"compress/flate"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

func TestReadFrame(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	for name, c := range map[string]struct {
		in       string
		op       byte
		payload  string
		deflated bool
	}{
		"empty":     {"\x81\x00", opText, "", false},
		"short":     {"\x81\x03abc", opText, "abc", false},
		"16 bits":   {"\x81\x7e\x01\x00" + long[:256], opText, long[:256], false},
		"64 bits":   {"\x81\x7f\x00\x00\x00\x00\x00\x01\x11\x70" + long, opText, long, false},
		"ping":      {"\x89\x02hi", opPing, "hi", false},
		"deflated":  {"\xc1\x01x", opText, "x", true},
		"and more":  {"\x81\x01a\x81\x01b", opText, "a", false},
		"close":     {"\x88\x02\x03\xe8", opClose, "\x03\xe8", false},
		"close, no": {"\x88\x00", opClose, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			f, n, err := readFrame([]byte(c.in))
			if err != nil || f.op != c.op || string(f.payload) != c.payload || f.deflated != c.deflated {
				t.Fatalf("got op %d, %.20q, deflated %v, error %v", f.op, f.payload, f.deflated, err)
			}
			for i := range min(n, 300) { // no part of it is taken for the whole
				if _, used, err := readFrame([]byte(c.in[:i])); used != 0 || err != nil {
					t.Fatalf("of the first %d bytes it used %d, error %v", i, used, err)
				}
			}
		})
	}
	for name, in := range map[string]string{"fragment": "\x01\x01a", "continuation": "\x80\x01a", "masked": "\x81\x81abcda", "RSV2": "\xa1\x00"} {
		if _, _, err := readFrame([]byte(in)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAppendFrame(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 65_535, 65_536} {
		payload := bytes.Repeat([]byte{'p'}, size)
		out, start := appendFrame([]byte("before"), opText, payload)
		got := bytes.Clone(out[start:])
		for i := range got {
			got[i] ^= mask[i&3]
		}
		if !bytes.Equal(got, payload) || out[6] != 0x81 || out[7]&0x80 == 0 {
			t.Errorf("size %d: header % x", size, out[6:start])
		}
		// But for the mask, it is a frame that readFrame reads.
		unmasked := append(bytes.Clone(out[6:start-4]), payload...)
		unmasked[1] &^= 0x80
		if f, n, err := readFrame(unmasked); err != nil || n != len(unmasked) || len(f.payload) != size {
			t.Errorf("size %d: read back %d bytes, error %v", size, n, err)
		}
	}
}

func TestTemplate(t *testing.T) {
	request := newTemplate(`{"rayid":` + wire.ID + `,"again":` + wire.ID + `}`)
	frames, ids := request.frames(3)
	for i, places := range ids {
		for _, p := range places {
			p.put(frames, 1_234_560+i)
		}
	}
	for i := range 3 {
		size := int(frames[1] &^ 0x80)
		payload := bytes.Clone(frames[6 : 6+size])
		for j := range payload {
			payload[j] ^= mask[j&3]
		}
		if err := request.check(payload, 1_234_560+i); err != nil {
			t.Error(err)
		}
		if err := request.check(payload, 7_000_000); err == nil {
			t.Error("an answer with another id passed")
		}
		frames = frames[6+size:]
	}
	if len(frames) != 0 {
		t.Errorf("%d bytes too many", len(frames))
	}
	if nextID(lastID) != firstID || nextID(firstID) != firstID+1 {
		t.Error("ids don't go round")
	}
}

func TestEvent(t *testing.T) {
	const at = 1_700_000_000_123_456_789
	for _, size := range []int{wire.MinEvent, 200, 1024} {
		template := wire.Event(firstID, 1_800_000_000_000_000_000, size)
		event := wire.Event(1_000_042, at, size)
		if len(event) != size {
			t.Fatalf("an event of %d bytes, want %d", len(event), size)
		}
		if seq, got, err := wire.ReadEvent(event, template); err != nil || seq != 1_000_042 || got != at {
			t.Errorf("size %d: seq %d, at %d, error %v", size, seq, got, err)
		}
		event[size-3] ^= 1
		if _, _, err := wire.ReadEvent(event, template); err == nil {
			t.Errorf("size %d: a damaged event passed", size)
		}
	}
}

func TestInflater(t *testing.T) {
	plain := wire.Event(firstID, 1_800_000_000_000_000_000, 1024)
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(plain)
	w.Flush()
	packed := bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
	var inf inflater
	for range 2 { // the second time it knows the answer
		if got, err := inf.inflate(packed); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("got %.60q, error %v", got, err)
		}
	}
	if _, err := inf.inflate([]byte{0xff, 0xff, 0xff}); err == nil {
		t.Error("damaged data passed")
	}
}

func TestHistogram(t *testing.T) {
	var a, b Histogram
	if a.Quantile(0.5) != 0 {
		t.Error("an empty one has a median")
	}
	for i := 1; i <= 1000; i++ {
		h := &a
		if i%2 == 0 {
			h = &b
		}
		h.Add(time.Duration(i) * time.Microsecond)
	}
	a.Merge(&b)
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond, 1: time.Millisecond} {
		got := a.Quantile(q)
		if diff := (got - want).Abs(); diff > want/20 {
			t.Errorf("quantile %v is %v, want %v within 5 %%", q, got, want)
		}
	}
}

func TestHistogramBuckets(t *testing.T) {
	for range 10_000 {
		v := rand.Uint64() >> (1 + rand.UintN(60))
		if mid := middle(bucket(v)); mid > v+v/32+1 || mid+mid/32+1 < v {
			t.Fatalf("%d counts as %d", v, mid)
		}
	}
}
