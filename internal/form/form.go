// Package form turns the names and values of forms and queries into JSON (PROTOCOL.md section 2): user[name]=x into an object
// and tags[]=a into a list. Its functions hold no state and may be called concurrently.
package form

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// MaxPairs is how many pairs a form or a query may have.
const MaxPairs = 10_000

// A Pair is a name and a value, both decoded.
type Pair struct{ Key, Value string }

// ParseQuery parses application/x-www-form-urlencoded: a body, or a URL's query. It keeps the order. A part without "=" has
// the value "", an empty part is skipped, ";" separates nothing. More than [MaxPairs] pairs, a "%" without two hexadecimal
// digits and text that is no UTF-8 are errors, which clients may read.
func ParseQuery(raw string) ([]Pair, error) {
	var pairs []Pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		if len(pairs) == MaxPairs {
			return nil, errTooMany
		}
		rawKey, rawValue, _ := strings.Cut(part, "=")
		key, ok := unescape(rawKey)
		if !ok {
			return nil, fmt.Errorf("invalid percent-encoding or UTF-8 in the key %s", quoted(rawKey))
		}
		value, ok := unescape(rawValue)
		if !ok {
			return nil, fmt.Errorf("invalid percent-encoding or UTF-8 in the value of %s", quoted(key))
		}
		pairs = append(pairs, Pair{key, value})
	}
	return pairs, nil
}

var errTooMany = fmt.Errorf("more than %d keys", MaxPairs)

// unescape decodes percent-encoding, and "+" as a space. It reports false if the encoding or the decoded text is invalid.
func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, utf8.ValidString(s)
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			if i+2 >= len(s) {
				return "", false
			}
			hi, ok1 := unhex(s[i+1])
			lo, ok2 := unhex(s[i+2])
			if !ok1 || !ok2 {
				return "", false
			}
			c = hi<<4 | lo
			i += 2
		}
		b = append(b, c)
	}
	return string(b), utf8.Valid(b)
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// quoted quotes a key for an error text, the beginning of a long one.
func quoted(key string) string {
	const most = 64
	if len(key) > most {
		return fmt.Sprintf("%q…", key[:most])
	}
	return fmt.Sprintf("%q", key)
}

// AppendJSON appends a JSON object of pairs to dst, with keys in the order of their first appearance. In a key, [name] behind a
// name means a member, [] a new element of a list; brackets that don't pair up mean themselves. Values are strings. Of two
// values of one key the later stays. It fails, naming the key, if one is used for values of different kinds, is no UTF-8 or
// nests too deep ([strictjson.MaxDepth]), and if there are too many ([MaxPairs], [strictjson.MaxValues]). Clients may read
// the errors.
//
// If literal is not nil, it is asked for each value of a top-level key, and may return other JSON in place of the string.
func AppendJSON(dst []byte, pairs []Pair, literal func(key, value string) (json string, ok bool)) ([]byte, error) {
	if len(pairs) > MaxPairs {
		return dst, errTooMany
	}
	b := builder{root: node{kind: object}, values: 1}
	for _, p := range pairs {
		if err := b.add(p); err != nil {
			return dst, fmt.Errorf("invalid key %s: %w", quoted(p.Key), err)
		}
	}
	return b.root.append(dst, literal), nil
}

// A kind is what a node is, in words for errors.
type kind string

const (
	scalar kind = "a value"
	object kind = "an object"
	list   kind = "a list"
)

// A node is a value of the tree that grows from the pairs.
type node struct {
	kind  kind
	text  string           // of a scalar
	keys  []string         // of an object: those of items
	index map[string]*node // of an object: items by key
	items []*node          // of an object or a list
}

type builder struct {
	root   node
	values int
}

var (
	errUTF8   = errors.New("it or its value is no UTF-8")
	errDeep   = fmt.Errorf("more than %d levels", strictjson.MaxDepth)
	errValues = fmt.Errorf("more than %d values", strictjson.MaxValues)
)

// add puts a pair into the tree.
func (b *builder) add(p Pair) error {
	if !utf8.ValidString(p.Key) || !utf8.ValidString(p.Value) {
		return errUTF8
	}
	at := &b.root
	name, rest := cutKey(p.Key)
	for depth := 1; ; depth++ {
		next, want := "", scalar
		if rest != "" {
			if depth == strictjson.MaxDepth {
				return errDeep
			}
			next, rest, _ = strings.Cut(rest[1:], "]")
			if want = object; next == "" {
				want = list
			}
		}
		var err error
		if at, err = b.child(at, name, want); err != nil {
			return err
		}
		if want == scalar {
			at.text = p.Value
			return nil
		}
		name = next
	}
}

// child returns the member of that name of an object, or a new element of a list, which must be of the wanted kind.
func (b *builder) child(parent *node, name string, want kind) (*node, error) {
	if n := parent.index[name]; n != nil {
		if n.kind != want {
			return nil, fmt.Errorf("%s is used as %s and as %s", quoted(name), n.kind, want)
		}
		return n, nil
	}
	if b.values++; b.values > strictjson.MaxValues {
		return nil, errValues
	}
	n := &node{kind: want}
	parent.items = append(parent.items, n)
	if parent.kind == object {
		if parent.index == nil {
			parent.index = make(map[string]*node)
		}
		parent.index[name] = n
		parent.keys = append(parent.keys, name)
	}
	return n, nil
}

// cutKey splits name[a][b] into name and [a][b]. If the key has another form, all of it is the name.
func cutKey(key string) (name, rest string) {
	i := strings.IndexByte(key, '[')
	if i <= 0 {
		return key, ""
	}
	for rest = key[i:]; rest != ""; {
		end := strings.IndexByte(rest, ']')
		if rest[0] != '[' || end < 0 || strings.IndexByte(rest[1:end], '[') >= 0 {
			return key, ""
		}
		rest = rest[end+1:]
	}
	return key[:i], key[i:]
}

// append appends the JSON of n. Only the root hands on literal.
func (n *node) append(dst []byte, literal func(key, value string) (string, bool)) []byte {
	switch n.kind {
	case scalar:
		return strictjson.AppendQuote(dst, n.text)
	case list:
		dst = append(dst, '[')
		for i, item := range n.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = item.append(dst, nil)
		}
		return append(dst, ']')
	}
	dst = append(dst, '{')
	for i, item := range n.items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(strictjson.AppendQuote(dst, n.keys[i]), ':')
		if literal != nil && item.kind == scalar {
			if json, ok := literal(n.keys[i], item.text); ok {
				dst = append(dst, json...)
				continue
			}
		}
		dst = item.append(dst, nil)
	}
	return append(dst, '}')
}

// Merge returns a JSON object with the members of below that object lacks behind its own. Both must have passed
// [strictjson.Scan]. It returns object itself if there is nothing to add, and changes neither.
func Merge(object, below []byte) []byte {
	has := make(map[string]bool)
	for key := range strictjson.Members(object) {
		name, _ := strictjson.Unquote(key)
		has[name] = true
	}
	comma := len(has) > 0
	var merged []byte
	for key, value := range strictjson.Members(below) {
		if name, _ := strictjson.Unquote(key); has[name] {
			continue
		}
		if merged == nil {
			merged = make([]byte, 0, len(object)+len(below))
			merged = append(merged, object[:bytes.LastIndexByte(object, '}')]...)
		}
		if comma {
			merged = append(merged, ',')
		}
		comma = true
		merged = append(append(append(merged, key...), ':'), value...)
	}
	if merged == nil {
		return object
	}
	return append(merged, '}')
}
