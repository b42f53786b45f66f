package mooncore

import (
	"encoding"
	"reflect"
	"strconv"
	"time"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// The checker decodes the values that it has checked, where it can do as encoding/json does with little code: into structs of
// strings, numbers, booleans, times, text and lists of them. Any other In is left to encoding/json, which reads the params twice
// more.

// plain reports whether the checker decodes the value.
func (s *spec) plain() bool { return s.kind == kindStruct && s.set.plain }

// plainKind is plain for one value, whatever is in it.
func (s *spec) plainKind() bool {
	switch s.kind {
	case kindString, kindInt, kindUint, kindFloat, kindNumber, kindBool, kindTime, kindText, kindStruct:
		return true
	case kindList:
		return s.typ.Kind() == reflect.Slice
	}
	return false
}

// target returns where a present value of the spec goes, new if to is a pointer. The zero Value stands for no decoding.
func (s *spec) target(to reflect.Value) reflect.Value {
	if s.pointer && to.IsValid() {
		for to.Kind() == reflect.Pointer {
			to.Set(reflect.New(to.Type().Elem()))
			to = to.Elem()
		}
	}
	return to
}

// store decodes a scalar that was checked. It returns a text if the program's own type does not take it after all.
func (s *spec) store(raw []byte, to reflect.Value) string {
	switch s.kind {
	case kindString:
		v := value{raw: raw}
		to.SetString(string(v.text()))
	case kindNumber:
		to.SetString(string(raw))
	case kindInt:
		n, _ := strconv.ParseInt(string(raw), 10, 64)
		to.SetInt(n)
	case kindUint:
		n, _ := strconv.ParseUint(string(raw), 10, 64)
		to.SetUint(n)
	case kindFloat:
		n, _ := strconv.ParseFloat(string(raw), s.typ.Bits())
		to.SetFloat(n)
	case kindBool:
		to.SetBool(raw[0] == 't')
	case kindTime:
		if to.Addr().Interface().(*time.Time).UnmarshalJSON(raw) != nil {
			return textDateTime
		}
	case kindText:
		text, _ := strictjson.Unquote(raw)
		if to.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)) != nil {
			return textInvalid
		}
	}
	return ""
}

// firstItems is how many items of a list are made room for before any has been checked.
const firstItems = 16

// startList makes a list that has no items yet. encoding/json makes an empty list another thing than none.
func startList(raw []byte, to reflect.Value) {
	if n := count(raw, firstItems); n > 0 {
		to.Grow(n)
	} else {
		to.Set(reflect.MakeSlice(to.Type(), 0, 0))
	}
}

// addItem returns where the next item of a list goes.
func addItem(list reflect.Value) reflect.Value {
	n := list.Len()
	if n == list.Cap() {
		list.Grow(1)
	}
	list.SetLen(n + 1)
	return list.Index(n)
}
