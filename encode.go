package mooncore

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// An encoder writes JSON behind what a slice holds. It is kept for the next result.
type encoder struct {
	dst []byte
	enc *json.Encoder
}

func (e *encoder) Write(b []byte) (int, error) {
	e.dst = append(e.dst, b...)
	return len(b), nil
}

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.enc = json.NewEncoder(e)
	e.enc.SetEscapeHTML(false)
	return e
}}

// encode returns v as JSON.
func encode(v any) ([]byte, error) { return appendJSON(nil, v) }

// appendJSON appends v as JSON to dst, without escaping for HTML. With an error it returns dst as it was. A panic in a
// MarshalJSON is an error.
func appendJSON(dst []byte, v any) (out []byte, err error) {
	if raw, ok := v.(json.RawMessage); ok && len(raw) > 0 {
		if !strictjson.Valid(raw) {
			return dst, errors.New("a json.RawMessage is not JSON in UTF-8")
		}
		for raw[0] <= ' ' {
			raw = raw[1:]
		}
		return append(dst, raw...), nil
	}
	defer func() {
		if v := recover(); v != nil {
			out, err = dst, newPanicError(v)
		}
	}()
	e := encoders.Get().(*encoder) // one that panics is not kept
	e.dst = dst
	err = e.enc.Encode(v)
	out, e.dst = e.dst, nil
	encoders.Put(e)
	if err != nil {
		return dst, err
	}
	if !utf8.Valid(out[len(dst):]) {
		return dst, errors.New("a MarshalJSON or json.RawMessage in it is not UTF-8")
	}
	return out[:len(out)-1], nil // the encoder ends a value with a line feed
}

// appendError writes an error as clients see it. PROTOCOL.md section 2.
func appendError(dst []byte, e *Error, requestID string) []byte {
	code, message := e.code(), e.Message
	if code == CodeInternal {
		message = CodeInternal.text()
	}
	dst = append(dst, `{"error":`...)
	dst = strictjson.AppendQuote(dst, message)
	dst = append(dst, `,"code":`...)
	dst = strictjson.AppendQuote(dst, string(code))
	if len(e.Fields) > 0 {
		dst = append(dst, `,"errors":{`...)
		for i, field := range slices.Sorted(maps.Keys(e.Fields)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strictjson.AppendQuote(dst, field)
			dst = append(dst, ":["...)
			for j, text := range e.Fields[field] {
				if j > 0 {
					dst = append(dst, ',')
				}
				dst = strictjson.AppendQuote(dst, text)
			}
			dst = append(dst, ']')
		}
		dst = append(dst, '}')
	}
	if e.LogID != "" {
		dst = append(dst, `,"log_id":`...)
		dst = strictjson.AppendQuote(dst, e.LogID)
	}
	if code == CodeInternal {
		dst = append(dst, `,"request_id":`...)
		dst = strictjson.AppendQuote(dst, requestID)
	}
	return append(dst, '}')
}

// appendEvent writes ["<event>",<payload>].
func appendEvent(dst []byte, event string, payload []byte) []byte {
	dst = append(dst, '[')
	dst = strictjson.AppendQuote(dst, event)
	dst = append(dst, ',')
	dst = append(dst, payload...)
	return append(dst, ']')
}

// withoutMember returns a JSON object without the members of that name; anything else as it is.
func withoutMember(value []byte, name string) []byte {
	if len(value) == 0 || value[0] != '{' {
		return value
	}
	if bytes.IndexByte(value, '\\') < 0 && !bytes.Contains(value, []byte(name)) {
		return value // the usual case: a name can't be written otherwise without an escape
	}
	drop := func(key []byte) bool {
		k, ok := strictjson.Unquote(key)
		return ok && k == name
	}
	found := false
	for key := range strictjson.Members(value) {
		found = found || drop(key)
	}
	if !found {
		return value
	}
	return appendMembers(make([]byte, 0, len(value)), value, drop, nil)
}

// override returns the object with the values of overrides in place of its own.
func override(object []byte, overrides map[string][]byte) []byte {
	if len(object) == 0 {
		object = []byte("{}")
	}
	drop := func(key []byte) bool {
		k, ok := strictjson.Unquote(key)
		_, overridden := overrides[k]
		return ok && overridden
	}
	return appendMembers(make([]byte, 0, len(object)+64), object, drop, overrides)
}

// appendMembers writes the members of an object that drop spares, and then those of more.
func appendMembers(dst, object []byte, drop func(key []byte) bool, more map[string][]byte) []byte {
	dst = append(dst, '{')
	comma := false
	member := func(key, value []byte) {
		if comma {
			dst = append(dst, ',')
		}
		comma = true
		dst = append(append(append(dst, key...), ':'), value...)
	}
	for key, value := range strictjson.Members(object) {
		if !drop(key) {
			member(key, value)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(more)) {
		member(strictjson.AppendQuote(nil, key), more[key])
	}
	return append(dst, '}')
}

func orEmptyObject(params []byte) []byte {
	if len(params) == 0 {
		return []byte("{}")
	}
	return params
}
