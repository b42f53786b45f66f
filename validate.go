package mooncore

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mooncore/mooncore/internal/format"
	"github.com/mooncore/mooncore/internal/strictjson"
)

// maxFaults is how many faulty fields are reported at once.
const maxFaults = 100

// A value is a raw value that rules look at, and the fields that stand beside it.
type value struct {
	raw     []byte // nil when it is absent
	kind    strictjson.Kind
	members [][]byte // raw values of the fields of the struct; nil for items

	unquoted []byte
	decimal  format.Decimal
	parsed   bool // decimal is raw's
}

// set makes it another value.
func (v *value) set(raw []byte, kind strictjson.Kind, members [][]byte) {
	v.raw, v.kind, v.members, v.unquoted, v.parsed = raw, kind, members, nil, false
}

// text returns the text of a string. It must not be changed.
func (v *value) text() []byte {
	if v.unquoted == nil {
		if bytes.IndexByte(v.raw, '\\') < 0 {
			v.unquoted = v.raw[1 : len(v.raw)-1]
		} else {
			text, _ := strictjson.Unquote(v.raw)
			v.unquoted = []byte(text)
		}
	}
	return v.unquoted
}

func (v *value) number() *format.Decimal {
	if !v.parsed {
		v.decimal, v.parsed = format.ParseDecimal(v.raw), true
	}
	return &v.decimal
}

// present reports whether a raw value is there, and not null.
func present(raw []byte) bool { return len(raw) > 0 && raw[0] != 'n' }

// A checker checks one call's params. It keeps its memory for the next.
type checker struct {
	value   value
	members [][]byte // of the structs that are being checked, outer ones first
	path    []byte
	folded  []byte
	faults  map[string][]string
	err     error // of a key that differs from a field's only in case
}

var checkers = sync.Pool{New: func() any { return new(checker) }}

// checkInput returns nil if the params are what the input says, else an [*Error]. If to is valid, it decodes them into it.
func checkInput(input *spec, params []byte, to reflect.Value) error {
	c := checkers.Get().(*checker)
	text := c.check(input, params, nil, to)
	faults, err := c.faults, c.err
	c.reset()
	checkers.Put(c)
	switch {
	case err != nil:
		return err
	case text != "":
		return &Error{Code: errInvalidParams.Code, Message: "Params " + text}
	case faults != nil:
		return &Error{Code: CodeValidationFailed, Message: string(CodeValidationFailed), Fields: faults}
	}
	return nil
}

// reset forgets the params, and keeps the memory.
func (c *checker) reset() {
	clear(c.members[:cap(c.members)])
	*c = checker{members: c.members[:0], path: c.path[:0], folded: c.folded[:0]}
}

// fault adds a fault of the value at the path.
func (c *checker) fault(text string) {
	if c.faults == nil {
		c.faults = map[string][]string{}
	}
	if len(c.faults) < maxFaults {
		c.faults[string(c.path)] = []string{text}
	}
}

// enter makes the path that of something inside; the caller cuts it back to the length that it had.
func (c *checker) enter(name string) {
	if len(c.path) > 0 {
		c.path = append(c.path, '.')
	}
	c.path = append(c.path, name...)
}

// check returns the text of the value's first fault, or "". Faults of values inside that have paths of their own it adds to c.
// A value without faults it decodes into to, if that is valid; what to holds after a fault is nothing.
func (c *checker) check(s *spec, raw []byte, members [][]byte, to reflect.Value) string {
	kind := strictjson.KindOf(raw)
	if !present(raw) {
		return c.checkAbsent(s, raw, members)
	}
	if text := s.typeFault(raw, kind); text != "" {
		return text
	}
	if len(s.rules) > 0 {
		c.value.set(raw, kind, members)
		for i := range s.rules {
			if text := s.rules[i].check(&c.value); text != "" {
				return text
			}
		}
	}
	if text := s.rangeFault(raw); text != "" {
		return text
	}
	to = s.target(to)
	switch {
	case s.set != nil:
		c.object(s.set, raw, to)
	case s.kind == kindMap:
		return c.mapping(s.elem, raw)
	case s.elem != nil:
		return c.list(s, raw, to)
	case to.IsValid():
		return s.store(raw, to)
	}
	return ""
}

func (c *checker) checkAbsent(s *spec, raw []byte, members [][]byte) string {
	if s.required {
		return textRequired
	}
	for i := range s.rules {
		if s.rules[i].presence {
			c.value.set(raw, strictjson.KindOf(raw), members)
			if text := s.rules[i].check(&c.value); text != "" {
				return text
			}
		}
	}
	if raw != nil && !s.pointer && s.kind == kindCustom { // it may not like null
		return s.customFault(raw)
	}
	return ""
}

// object checks the fields of a struct.
func (c *checker) object(set *ruleSet, raw []byte, to reflect.Value) {
	first := len(c.members)
	for range set.fields {
		c.members = append(c.members, nil)
	}
	members := c.members[first:]
	for key, member := range strictjson.Members(raw) {
		if i, ok := c.find(set, key); ok {
			members[i] = member
		}
	}
	if c.err != nil {
		return
	}
	length := len(c.path)
	for i := range set.fields {
		f := &set.fields[i]
		c.enter(f.name)
		fieldTo := to
		if to.IsValid() {
			fieldTo = to.FieldByIndex(f.at)
		}
		if text := c.check(&f.spec, members[i], members, fieldTo); text != "" {
			c.fault(text)
		}
		c.path = c.path[:length]
		if c.err != nil {
			return
		}
	}
	c.members = c.members[:first]
}

// find returns the field that a raw key names. A key that encoding/json would take for one, though it differs in case, is an error.
func (c *checker) find(set *ruleSet, raw []byte) (int, bool) {
	key := raw[1 : len(raw)-1]
	if bytes.IndexByte(key, '\\') >= 0 {
		text, _ := strictjson.Unquote(raw)
		key = []byte(text)
	}
	if i, ok := set.index[string(key)]; ok {
		return i, true
	}
	if len(key) > 3*set.fold { // no letter is more than three times as long as its other cases
		return 0, false
	}
	c.folded = fold(c.folded[:0], key)
	if i, ok := set.folded[string(c.folded)]; ok && c.err == nil {
		text := strictjson.CaseText(string(key), set.fields[i].name)
		if len(c.path) > 0 {
			text += " in " + string(c.path)
		}
		c.err = &Error{Code: CodeInvalidArgument, Message: text}
	}
	return 0, false
}

// mapping checks the values of a map, each of which has a path of its own.
func (c *checker) mapping(elem *spec, raw []byte) string {
	length := len(c.path)
	for key, member := range strictjson.Members(raw) {
		name, _ := strictjson.Unquote(key)
		c.enter(name)
		if text := c.item(elem, member, reflect.Value{}); text != "" {
			c.fault(text)
		}
		c.path = c.path[:length]
		if c.err != nil || len(c.faults) >= maxFaults {
			break
		}
	}
	return ""
}

// list checks the items of a list. Structs and maps among them have paths of their own, faults of others are the list's.
func (c *checker) list(s *spec, raw []byte, to reflect.Value) string {
	if s.maxItems > 0 && count(raw, s.maxItems+1) > s.maxItems {
		return "must have at most " + strconv.Itoa(s.maxItems) + " items"
	}
	if s.elem.kind == kindAny && len(s.elem.rules) == 0 && !s.elem.required && s.elem.elem == nil {
		return ""
	}
	if to.IsValid() {
		startList(raw, to)
	}
	length, i := len(c.path), 0
	var faults itemFaults
	for member := range strictjson.Elements(raw) {
		c.enter(strconv.Itoa(i))
		itemTo := reflect.Value{}
		if to.IsValid() && c.faults == nil && faults == nil { // nothing is allocated for items after a fault
			itemTo = addItem(to)
		}
		text := c.item(s.elem, member, itemTo)
		if text != "" && (s.elem.kind == kindStruct || s.elem.kind == kindMap) {
			c.fault(text)
			text = ""
		}
		c.path = c.path[:length]
		if faults.add(i, text); c.err != nil || len(c.faults)+len(faults) >= maxFaults {
			break
		}
		i++
	}
	return faults.String()
}

// itemFaults are the faults of a list's items that share the list's path.
type itemFaults []string

func (f *itemFaults) add(i int, text string) {
	if text != "" {
		*f = append(*f, "index "+strconv.Itoa(i)+": "+text)
	}
}

func (f itemFaults) String() string { return strings.Join(f, "; ") }

// item checks a value in a list or map, where null is a value of the wrong type unless the Go type has a nil.
func (c *checker) item(s *spec, raw []byte, to reflect.Value) string {
	if !present(raw) && !s.required && !s.pointer && s.kind != kindAny && s.kind != kindCustom {
		return s.typeText()
	}
	return c.check(s, raw, nil, to)
}

// typeText is the text of a value that the Go type does not take.
func (s *spec) typeText() string {
	switch s.kind {
	case kindString, kindText, kindBytes:
		return textString
	case kindInt, kindUint:
		return textInteger
	case kindFloat, kindNumber:
		return textNumber
	case kindBool:
		return textBoolean
	case kindTime:
		return textDateTime
	case kindList:
		return textList
	case kindMap, kindStruct:
		return textObject
	}
	return textInvalid
}

// typeFault returns a text if the Go type does not take the value: for an integer's size see rangeFault.
func (s *spec) typeFault(raw []byte, kind strictjson.Kind) string {
	want := s.jsonKind()
	switch s.kind {
	case kindAny:
		return ""
	case kindCustom:
		return s.customFault(raw)
	}
	if kind != want {
		return s.typeText()
	}
	switch s.kind {
	case kindInt, kindUint:
		if bytes.IndexByte(raw, '.') >= 0 || bytes.IndexByte(raw, 'e') >= 0 || bytes.IndexByte(raw, 'E') >= 0 {
			return textInteger
		}
	case kindTime:
		var t time.Time
		if t.UnmarshalJSON(raw) != nil {
			return textDateTime
		}
	case kindText:
		text, _ := strictjson.Unquote(raw)
		if reflect.New(s.typ).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)) != nil {
			return textInvalid
		}
	case kindBytes:
		var b []byte
		if json.Unmarshal(raw, &b) != nil {
			return textInvalid
		}
	case kindList:
		return s.itemsFault(raw)
	}
	return ""
}

func (s *spec) customFault(raw []byte) string {
	if reflect.New(s.typ).Interface().(json.Unmarshaler).UnmarshalJSON(raw) != nil {
		return textInvalid
	}
	return ""
}

// itemsFault is typeFault for the items of a list, as far as they are scalars.
func (s *spec) itemsFault(raw []byte) string {
	switch s.elem.kind {
	case kindAny, kindStruct, kindMap, kindCustom, kindText, kindTime, kindBytes:
		return "" // found with the rules of the items
	}
	if len(s.rules) == 0 {
		return "" // nothing comes between
	}
	var faults itemFaults
	i := 0
	for item := range strictjson.Elements(raw) {
		if present(item) {
			faults.add(i, s.elem.typeFault(item, strictjson.KindOf(item)))
		} else if !s.elem.pointer {
			faults.add(i, s.elem.typeText())
		}
		if len(faults) >= maxFaults {
			break
		}
		i++
	}
	return faults.String()
}

// rangeFault returns a text if the Go type is too small for the number.
func (s *spec) rangeFault(raw []byte) string {
	switch s.kind {
	case kindInt:
		bits := s.typ.Bits()
		if _, err := strconv.ParseInt(string(raw), 10, bits); err != nil {
			most := uint64(1)<<(bits-1) - 1
			if raw[0] == '-' {
				return "must be at least " + strconv.FormatInt(-int64(most)-1, 10)
			}
			return "must be at most " + strconv.FormatUint(most, 10)
		}
	case kindUint:
		if raw[0] == '-' {
			return "must be non-negative"
		}
		bits := s.typ.Bits()
		if _, err := strconv.ParseUint(string(raw), 10, bits); err != nil {
			return "must be at most " + strconv.FormatUint(1<<bits-1, 10)
		}
	case kindFloat:
		if _, err := strconv.ParseFloat(string(raw), s.typ.Bits()); err != nil {
			return textNumber
		}
	}
	return ""
}

// callValidate calls the Validate methods of what was decoded from params, and returns an [*Error] if one has a fault to tell.
func callValidate(input *spec, params []byte, v reflect.Value) error {
	var c custom
	c.walk(input, params, v, "")
	switch {
	case c.err != nil:
		return c.err
	case c.faults != nil:
		return &Error{Code: CodeValidationFailed, Message: string(CodeValidationFailed), Fields: c.faults}
	}
	return nil
}

// custom collects what Validate methods return.
type custom struct {
	faults map[string][]string
	err    error // what is no fault of a field
}

// walk calls Validate of the value and in it, where params have a value.
func (c *custom) walk(s *spec, raw []byte, v reflect.Value, path string) {
	if !s.validates() || !present(raw) || c.err != nil {
		return
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	switch s.kind {
	case kindStruct:
		c.object(s.set, raw, v, path)
	case kindList:
		i := 0
		for item := range strictjson.Elements(raw) {
			if i < v.Len() {
				c.walk(s.elem, item, v.Index(i), join(path, strconv.Itoa(i)))
			}
			i++
		}
	case kindMap:
		for key, member := range strictjson.Members(raw) {
			name, _ := strictjson.Unquote(key)
			mapKey := reflect.ValueOf(name).Convert(v.Type().Key())
			if item := v.MapIndex(mapKey); item.IsValid() {
				set := reflect.New(item.Type()).Elem() // Validate may change the value
				set.Set(item)
				c.walk(s.elem, member, set, join(path, name))
				v.SetMapIndex(mapKey, set)
			}
		}
	}
}

func (c *custom) object(set *ruleSet, raw []byte, v reflect.Value, path string) {
	before := len(c.faults)
	for key, member := range strictjson.Members(raw) {
		name, _ := strictjson.Unquote(key)
		i, ok := set.index[name]
		if !ok || !set.fields[i].validates() {
			continue
		}
		if f, err := v.FieldByIndexErr(set.fields[i].at); err == nil {
			c.walk(&set.fields[i].spec, member, f, join(path, name))
		}
	}
	if !set.method || len(c.faults) > before || c.err != nil {
		return
	}
	if err := v.Addr().Interface().(validator).Validate(); err != nil {
		c.add(err, path)
	}
}

// add takes what Validate returned for the struct at the path.
func (c *custom) add(err error, path string) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			c.add(err, path)
		}
		return
	}
	e, ok := errors.AsType[*Error](err)
	switch {
	case c.err != nil && CodeOf(c.err) == CodeInternal:
	case !ok:
		c.err = &Error{Code: CodeInternal, Err: err}
	case e.Code != CodeValidationFailed || len(e.Fields) == 0:
		c.err = e
	default:
		c.addFields(e, path)
	}
}

func (c *custom) addFields(e *Error, path string) {
	if c.faults == nil {
		c.faults = map[string][]string{}
	}
	for name, texts := range e.Fields {
		at := path
		if name != "" {
			at = join(path, name)
		}
		if len(texts) == 0 {
			texts = []string{""}
		}
		for _, text := range texts {
			if text == "" {
				text = textCustom
			}
			c.faults[at] = append(c.faults[at], text)
		}
	}
}
