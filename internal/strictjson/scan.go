// Package strictjson reads the outline of untrusted JSON before anything decodes it. It is stricter than encoding/json, which
// takes the last of two equal keys, matches keys without regard to case, and mends broken Unicode.
//
// Its functions hold no state, don't recurse, and may be called concurrently. What they return points into their input.
package strictjson

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of [Scan].
const (
	MaxDepth  = 64     // objects and arrays inside one another; the outermost counts
	MaxValues = 65_536 // values in all, objects and arrays included, keys not
	MaxWants  = 16
)

// A Kind is the type of a JSON value.
type Kind byte

// The kinds. The zero Kind is no JSON.
const (
	Object Kind = iota + 1
	Array
	String
	Number
	Bool
	Null
)

// KindOf returns the kind of a raw value that was scanned before, or 0 if there is none.
func KindOf(raw []byte) Kind {
	i := space(raw, 0)
	if i >= len(raw) {
		return 0
	}
	switch c := raw[i]; {
	case c == '{':
		return Object
	case c == '[':
		return Array
	case c == '"':
		return String
	case c == '-' || '0' <= c && c <= '9':
		return Number
	case c == 't' || c == 'f':
		return Bool
	case c == 'n':
		return Null
	}
	return 0
}

// A SyntaxError says that the input is no JSON text of RFC 8259.
type SyntaxError struct {
	Offset int    // of the byte that is wrong, from 0
	Msg    string // what is wrong and where; clients may read it
}

func (e *SyntaxError) Error() string { return e.Msg }

// A Fault says that the input is JSON, but not strict: a key that stands twice in an object, or differs from a wanted one only in
// case, invalid UTF-8, an unpaired surrogate, nesting past [MaxDepth], more values than [MaxValues].
type Fault struct {
	Offset int    // of the byte where the fault is, from 0; of a key's first quote
	Path   string // of the value or key, such as "address.city" or "items.1"; "" for the whole
	Msg    string // what is wrong and where; clients may read it
}

func (e *Fault) Error() string { return e.Msg }

// Scan reads one JSON text and returns its kind. Each got[i] becomes the raw value of the top-level member wants[i], nil if it is
// absent; got must be as long as wants, which are at most [MaxWants].
//
// The error is nil, a [*SyntaxError] or a [*Fault]. After a Fault, Scan reads on: a SyntaxError further down wins, and got holds
// the first value of each wanted key, so that a faulty call can still be answered by its id. After a SyntaxError got holds nils.
//
// It takes time in proportion to the input (n log n in the keys of one object), allocates nothing for small clean input, and
// never more than a few times the input.
func Scan(data []byte, wants []string, got [][]byte) (Kind, error) {
	clear(got)
	s := scanner{data: data, wants: wants, want: -1}
	if err := s.scan(); err != nil {
		return 0, err
	}
	for i := range wants {
		if at := s.found[i]; at.end > 0 {
			got[i] = data[at.start:at.end:at.end]
		}
	}
	if s.fault != nil {
		return KindOf(data), s.fault
	}
	return KindOf(data), nil
}

// Valid reports whether data is one JSON text in UTF-8. It allows all else that [Scan] calls a fault, and allocates nothing unless
// the text is nested deeper than [MaxDepth].
func Valid(data []byte) bool {
	s := scanner{data: data, want: -1, fault: &faultAllowed}
	return s.scan() == nil && utf8.Valid(data)
}

// faultAllowed stands where a scanner keeps its first fault, so that it looks for none.
var faultAllowed Fault

// seed makes hashes that an attacker cannot make collide.
var seed = maphash.MakeSeed()

type scanner struct {
	data  []byte
	wants []string
	found [MaxWants]span // values of wants

	want   int // index of the wanted top-level member that is being read, or -1
	start  int // where its value starts
	values int
	depth  int
	fault  *Fault

	// few and then many hold the keys of the objects that are open, outer ones first: 32 bits of outline, then the offset.
	few  [16]uint64
	many []uint64
	keys int

	upper [8]level
	lower []level // up to MaxDepth
	deep  []byte  // '{' or '[' of the levels below MaxDepth, a bit each
}

// A span is where a value stands.
type span struct{ start, end int32 }

// A level is an object or array that is open.
type level struct {
	object bool
	first  int32 // how many keys stood before its first
	at     int32 // offset of the current key, -1 before the first; index of the current element
}

func (s *scanner) scan() error {
	if len(s.data) > math.MaxInt32 {
		return syntaxError(math.MaxInt32, "too long")
	}
	i, err := 0, error(nil)
value:
	for {
		i = space(s.data, i)
		if i >= len(s.data) {
			return syntaxError(i, "unexpected end")
		}
		if s.want >= 0 && s.depth == 1 {
			s.start = i
		}
		if s.values++; s.values == MaxValues+1 {
			s.fail(i, "more than "+strconv.Itoa(MaxValues)+" values")
		}
		switch c := s.data[i]; c {
		case '{', '[':
			s.push(c == '{', i)
			i = space(s.data, i+1)
			if i < len(s.data) && s.data[i] == c+2 { // '}' or ']'
				i++
				s.pop()
				break
			}
			if c == '{' {
				if i, err = s.key(i); err != nil {
					return err
				}
			}
			continue value
		case '"':
			if i, _, err = s.str(i); err != nil {
				return err
			}
		case 't':
			i, err = s.literal(i, "true")
		case 'f':
			i, err = s.literal(i, "false")
		case 'n':
			i, err = s.literal(i, "null")
		default:
			i, err = s.number(i)
		}
		if err != nil {
			return err
		}

		// A value has ended at i.
		for {
			if s.want >= 0 && s.depth == 1 {
				if at := &s.found[s.want]; at.end == 0 {
					*at = span{int32(s.start), int32(i)}
				}
				s.want = -1
			}
			i = space(s.data, i)
			if s.depth == 0 {
				if i < len(s.data) {
					return s.unexpected(i, "after the value")
				}
				return nil
			}
			object := s.inObject()
			closing := byte(']')
			if object {
				closing = '}'
			}
			switch {
			case i >= len(s.data):
				return syntaxError(i, "unexpected end")
			case s.data[i] == closing:
				i++
				s.pop()
			case s.data[i] != ',':
				return s.unexpected(i, "where ',' or '"+string(closing)+"' should be")
			case object:
				if i, err = s.key(space(s.data, i+1)); err != nil {
					return err
				}
				continue value
			default:
				i++
				if s.depth <= MaxDepth {
					s.level(s.depth-1).at++
				}
				continue value
			}
		}
	}
}

func (s *scanner) level(n int) *level {
	if n < len(s.upper) {
		return &s.upper[n]
	}
	return &s.lower[n-len(s.upper)]
}

func (s *scanner) push(object bool, at int) {
	if s.depth < MaxDepth {
		if s.depth == len(s.upper) && s.lower == nil {
			s.lower = make([]level, MaxDepth-len(s.upper))
		}
		l := s.level(s.depth)
		l.object, l.first, l.at = object, int32(s.keys), 0
		if object {
			l.at = -1
		}
		s.depth++
		return
	}
	if s.depth == MaxDepth && s.fault == nil {
		s.fail(at, "nested deeper than "+strconv.Itoa(MaxDepth))
	}
	n := s.depth - MaxDepth
	if n/8 == len(s.deep) {
		s.deep = append(s.deep, 0)
	}
	if object {
		s.deep[n/8] |= 1 << (n % 8)
	} else {
		s.deep[n/8] &^= 1 << (n % 8)
	}
	s.depth++
}

// keep adds a key. It goes on in the heap when there are many, doubling: append would copy more often.
func (s *scanner) keep(key uint64) {
	switch {
	case s.many == nil && s.keys < len(s.few):
		s.few[s.keys] = key
		s.keys++
		return
	case s.many == nil:
		s.many = make([]uint64, 4*len(s.few))
		copy(s.many, s.few[:])
	case s.keys == len(s.many):
		more := make([]uint64, 2*len(s.many))
		copy(more, s.many)
		s.many = more
	}
	s.many[s.keys] = key
	s.keys++
}

func (s *scanner) pop() {
	s.depth--
	if s.depth >= MaxDepth {
		return
	}
	l := s.level(s.depth)
	if !l.object {
		return
	}
	if s.keys-int(l.first) > 1 && s.fault == nil {
		keys := s.few[:]
		if s.many != nil {
			keys = s.many
		}
		if at := s.duplicate(keys[l.first:s.keys]); at >= 0 {
			l.at = int32(at)
			s.depth++
			s.fail(at, "duplicate key "+s.quoteKey(at))
			s.depth--
		}
	}
	s.keys = int(l.first)
}

func (s *scanner) inObject() bool {
	if s.depth <= MaxDepth {
		return s.level(s.depth - 1).object
	}
	n := s.depth - 1 - MaxDepth
	return s.deep[n/8]&(1<<(n%8)) != 0
}

// key reads a member's key and colon.
func (s *scanner) key(i int) (int, error) {
	if i >= len(s.data) {
		return i, syntaxError(i, "unexpected end")
	}
	if s.data[i] != '"' {
		return i, s.unexpected(i, "where a key should be")
	}
	if s.depth <= MaxDepth {
		s.level(s.depth - 1).at = int32(i)
	}
	end, escaped, err := s.str(i)
	if err != nil {
		return end, err
	}
	top := s.depth == 1 && len(s.wants) > 0
	if s.fault == nil || top {
		key := s.data[i+1 : end-1]
		if escaped {
			key = appendUnquoted(nil, key)
		}
		if top {
			s.match(i, key)
		}
		if s.fault == nil {
			s.keep(uint64(outline(key))<<32 | uint64(i))
		}
	}
	if end = space(s.data, end); end >= len(s.data) {
		return end, syntaxError(end, "unexpected end")
	}
	if s.data[end] != ':' {
		return end, s.unexpected(end, "where ':' should be")
	}
	return end + 1, nil
}

// match finds the key at offset i among the wanted ones.
func (s *scanner) match(i int, key []byte) {
	s.want = -1
	for n, want := range s.wants {
		if string(key) == want {
			s.want = n
			return
		}
	}
	if s.fault != nil {
		return
	}
	for _, want := range s.wants {
		// A letter and its other cases are at most three times as long as one another: K is 1 byte, the Kelvin sign 3.
		if len(key) <= 3*len(want) && len(want) <= 3*len(key) && mayFold(key[0], want[0]) && strings.EqualFold(string(key), want) {
			s.fault = &Fault{Offset: i, Path: s.path(), Msg: CaseText(string(key), want)}
			return
		}
	}
}

// mayFold is a quick no where two texts start with ASCII letters that are not each other's case.
func mayFold(a, b byte) bool { return a >= utf8.RuneSelf || b >= utf8.RuneSelf || a|0x20 == b|0x20 }

// CaseText is the text of the fault of a key that differs from a known one only in case.
func CaseText(key, known string) string {
	b := AppendQuote([]byte("key "), clip(key))
	b = AppendQuote(append(b, " differs from "...), known)
	return string(append(b, " only in case"...))
}

// outline is a quick no where two keys differ.
func outline(key []byte) uint32 {
	if len(key) == 0 {
		return 0
	}
	return uint32(len(key))<<16 | uint32(key[0])<<8 | uint32(key[len(key)-1])
}

// duplicate returns the offset of the first key that stands a second time, or -1. It may sort keys, by hashes that it puts in
// place of their outlines.
func (s *scanner) duplicate(keys []uint64) int {
	found := -1
	if len(keys) <= 12 {
		for j, b := range keys {
			for _, a := range keys[:j] {
				if a>>32 == b>>32 && s.equalKeys(a, b) {
					return int(uint32(b))
				}
			}
		}
		return -1
	}
	for j, k := range keys {
		at := int(uint32(k))
		key := s.keyAt(at)
		if bytes.IndexByte(key, '\\') >= 0 {
			key = appendUnquoted(nil, key)
		}
		keys[j] = maphash.Bytes(seed, key)&^math.MaxUint32 | uint64(at)
	}
	slices.Sort(keys)
	for j := 1; j < len(keys); j++ {
		for k := j - 1; k >= 0 && keys[k]>>32 == keys[j]>>32; k-- {
			if at := int(uint32(keys[j])); s.equalKeys(keys[k], keys[j]) {
				if found < 0 || at < found {
					found = at
				}
				break
			}
		}
	}
	return found
}

func (s *scanner) equalKeys(a, b uint64) bool {
	rawA, rawB := s.keyAt(int(uint32(a))), s.keyAt(int(uint32(b)))
	if bytes.Equal(rawA, rawB) {
		return true
	}
	if bytes.IndexByte(rawA, '\\') < 0 && bytes.IndexByte(rawB, '\\') < 0 {
		return false
	}
	return bytes.Equal(appendUnquoted(nil, rawA), appendUnquoted(nil, rawB))
}

// keyAt returns what stands between the quotes of the key at offset i.
func (s *scanner) keyAt(i int) []byte { return s.data[i+1 : max(stringEnd(s.data, i)-1, i+1)] }

func (s *scanner) quoteKey(i int) string {
	return string(AppendQuote(nil, clip(string(appendUnquoted(nil, s.keyAt(i))))))
}

// str reads the string that starts at i, and reports whether it has escapes.
func (s *scanner) str(i int) (end int, escaped bool, err error) {
	data := s.data
	for i = plain(data, i+1); i < len(data); { // past the first byte that isn't ASCII there are often more
		switch c := data[i]; {
		case c == '"':
			return i + 1, escaped, nil
		case c == '\\':
			escaped = true
			if i, err = s.escape(i); err != nil {
				return i, escaped, err
			}
		case c < 0x20:
			return i, escaped, syntaxError(i, "control character "+strconv.QuoteRuneToASCII(rune(c))+" in a string")
		case c < utf8.RuneSelf:
			i++
		default:
			r, size := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && size == 1 {
				s.fail(i, "invalid UTF-8")
			}
			i += size
		}
	}
	return i, escaped, syntaxError(i, "unexpected end in a string")
}

// plain returns the offset of the first byte from i on that may be neither ASCII nor plain text in a string: a quote, a backslash,
// a control character, or a byte of a longer character. It looks at eight bytes at once, and so may stop a little too early near the end.
func plain(data []byte, i int) int {
	const each = 0x0101010101010101 // times a byte: that byte in each of eight
	for ; len(data)-i >= 8; i += 8 {
		x := binary.LittleEndian.Uint64(data[i:])
		quote, backslash := x^each*'"', x^each*'\\'
		// Subtracting borrows into the high bit of the first byte that is too small, and maybe wrongly of bytes behind it.
		if found := (x | (x - each*' ') | (quote - each) | (backslash - each)) & (each * 0x80); found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	return i
}

// escape reads the escape at i, both halves of a surrogate pair together.
func (s *scanner) escape(i int) (int, error) {
	if i+1 >= len(s.data) {
		return i, syntaxError(i+1, "unexpected end in a string")
	}
	switch s.data[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2, nil
	case 'u':
	default:
		return i, s.unexpected(i+1, "in an escape")
	}
	for j := i + 2; j < i+6; j++ {
		if j >= len(s.data) {
			return j, syntaxError(j, "unexpected end in a string")
		}
		if hexDigit(s.data[j]) < 0 {
			return j, s.unexpected(j, "in an escape")
		}
	}
	switch r := hex4(s.data[i:]); {
	case r < 0xd800 || r > 0xdfff:
		return i + 6, nil
	case r < 0xdc00:
		if low := hex4(s.data[i+6:]); 0xdc00 <= low && low <= 0xdfff {
			return i + 12, nil
		}
	}
	s.fail(i, "unpaired surrogate")
	return i + 6, nil
}

func (s *scanner) literal(i int, want string) (int, error) {
	for j := range len(want) {
		switch {
		case i+j >= len(s.data):
			return i + j, syntaxError(i+j, "unexpected end")
		case s.data[i+j] != want[j]:
			return i + j, s.unexpected(i+j, "in "+want)
		}
	}
	return i + len(want), nil
}

func (s *scanner) number(i int) (int, error) {
	data := s.data
	if c := data[i]; c != '-' && (c < '0' || c > '9') {
		return i, s.unexpected(i, "where a value should be")
	}
	if data[i] == '-' {
		i++
	}
	var ok bool
	if i < len(data) && data[i] == '0' {
		i++
	} else if i, ok = digits(data, i); !ok {
		return i, s.badNumber(i)
	}
	if i < len(data) && data[i] == '.' {
		if i, ok = digits(data, i+1); !ok {
			return i, s.badNumber(i)
		}
	}
	if i < len(data) && data[i]|0x20 == 'e' {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		if i, ok = digits(data, i); !ok {
			return i, s.badNumber(i)
		}
	}
	return i, nil
}

// digits returns the offset after the digits at i, and whether there are any.
func digits(data []byte, i int) (int, bool) {
	start := i
	for i < len(data) && '0' <= data[i] && data[i] <= '9' {
		i++
	}
	return i, i > start
}

func (s *scanner) badNumber(i int) error {
	if i >= len(s.data) {
		return syntaxError(i, "unexpected end in a number")
	}
	return s.unexpected(i, "in a number")
}

// fail keeps the first fault.
func (s *scanner) fail(at int, what string) {
	if s.fault == nil {
		s.fault = &Fault{Offset: at, Path: s.path(), Msg: what + " at byte " + strconv.Itoa(at)}
	}
}

// path names the value that is being read.
func (s *scanner) path() string {
	var b []byte
	for n := range min(s.depth, MaxDepth) {
		l := s.level(n)
		if l.at < 0 {
			break
		}
		if n > 0 {
			b = append(b, '.')
		}
		if l.object {
			b = append(b, clip(string(appendUnquoted(nil, s.keyAt(int(l.at)))))...)
		} else {
			b = strconv.AppendInt(b, int64(l.at), 10)
		}
	}
	return string(b)
}

func (s *scanner) unexpected(i int, where string) error {
	r, _ := utf8.DecodeRune(s.data[i:])
	return syntaxError(i, "unexpected "+strconv.QuoteRune(r)+" "+where)
}

func syntaxError(at int, what string) error {
	return &SyntaxError{Offset: at, Msg: "malformed JSON at byte " + strconv.Itoa(at) + ": " + what}
}

// clip shortens a client's key for an error text.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
