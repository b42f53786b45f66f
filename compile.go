package mooncore

import (
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// A valueKind is what a Go type makes of JSON.
type valueKind byte

const (
	kindAny    valueKind = iota // any JSON: interfaces, json.RawMessage
	kindCustom                  // what UnmarshalJSON takes
	kindText                    // a string that UnmarshalText takes
	kindString
	kindBytes // a string of base64
	kindInt
	kindUint
	kindFloat
	kindNumber // json.Number
	kindBool
	kindTime
	kindList
	kindMap
	kindStruct
	kindNone // no JSON at all
)

// A spec is what a value must be: a Go type, and the rules of the field that it stands in.
type spec struct {
	kind    valueKind
	typ     reflect.Type // without pointers
	pointer bool
	rules   []rule
	elem    *spec    // of a list or map
	set     *ruleSet // of a struct

	required bool // the value may not be absent or null
	maxItems int  // of an array type, else 0
}

// A ruleSet is the fields of a struct type.
type ruleSet struct {
	name   string
	fields []field
	index  map[string]int // by JSON name
	folded map[string]int // by JSON name without case
	fold   int            // length of the longest key of folded

	method    bool // has Validate
	validates bool // method, or one in a field; set when all is compiled
	open      bool // holds any somewhere
	plain     bool // the checker decodes it: see decode.go
	pointers  bool // embeds a pointer
}

type field struct {
	spec
	name        string // in JSON
	goName      string
	at          []int // for reflect.Value.FieldByIndex
	description string
	tag         reflect.StructTag
}

var (
	typeRawMessage      = reflect.TypeFor[json.RawMessage]()
	typeNumber          = reflect.TypeFor[json.Number]()
	typeSecret          = reflect.TypeFor[Secret]()
	typeTime            = reflect.TypeFor[time.Time]()
	typeUnmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	typeMarshaler       = reflect.TypeFor[json.Marshaler]()
	typeTextUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	typeTextMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	typeValidator       = reflect.TypeFor[validator]()
)

// validator is what a struct of the input may be.
type validator interface{ Validate() error }

// A compiler makes specs of types, once for each struct type.
type compiler struct {
	output bool // the types are a result's: marshalled, without rules
	sets   map[reflect.Type]*ruleSet
	within map[reflect.Type]bool // lists and maps that are being compiled
	faults []error
}

func newCompiler(output bool) *compiler {
	return &compiler{output: output, sets: map[reflect.Type]*ruleSet{}, within: map[reflect.Type]bool{}}
}

// fault adds what New will report of the field at a path of Go names.
func (c *compiler) fault(at, format string, args ...any) {
	if c.output {
		return
	}
	text := fmt.Sprintf(format, args...)
	if at != "" {
		text = "field " + at + ": " + text
	}
	c.faults = append(c.faults, fmt.Errorf("%s", text))
}

// input compiles the type of params.
func (c *compiler) input(t reflect.Type) *spec {
	s := c.spec(t, "")
	switch s.kind {
	case kindStruct, kindMap, kindCustom:
	case kindAny:
		if t != typeRawMessage && t.Kind() != reflect.Interface {
			c.fault("", "In is %v: params are a JSON object", t)
		}
	default:
		c.fault("", "In is %v: params are a JSON object, so it must be a struct, a map, json.RawMessage or any", t)
	}
	if s.kind != kindStruct && t.Implements(typeValidator) {
		c.fault("", "In is %v: Validate is only called on structs that encoding/json decodes", t)
	}
	for _, set := range c.sets {
		set.validates = set.reaches(func(s *ruleSet) bool { return s.method }, nil, map[*ruleSet]bool{})
		set.open = set.reaches(nil, func(s *spec) bool { return s.kind == kindAny }, map[*ruleSet]bool{})
		set.plain = !set.reaches(func(s *ruleSet) bool { return s.pointers }, func(s *spec) bool { return !s.plainKind() },
			map[*ruleSet]bool{})
	}
	return s
}

// validates reports whether Validate is to be called on the value or in it.
func (s *spec) validates() bool {
	switch {
	case s.set != nil:
		return s.set.validates
	case s.elem != nil:
		return s.elem.validates()
	}
	return false
}

// open reports whether the type leaves open what a number becomes.
func (s *spec) open() bool {
	switch {
	case s.kind == kindAny:
		return true
	case s.set != nil:
		return s.set.open
	case s.elem != nil:
		return s.elem.open()
	}
	return false
}

// reaches reports whether a struct or value for which there is a function that says so is the set itself or in it.
func (set *ruleSet) reaches(is func(*ruleSet) bool, isValue func(*spec) bool, seen map[*ruleSet]bool) bool {
	if seen[set] {
		return false
	}
	seen[set] = true
	if is != nil && is(set) {
		return true
	}
	for i := range set.fields {
		for s := &set.fields[i].spec; s != nil; s = s.elem {
			if isValue != nil && isValue(s) || s.set != nil && s.set.reaches(is, isValue, seen) {
				return true
			}
		}
	}
	return false
}

// spec compiles a type; path is its place in Go names.
func (c *compiler) spec(t reflect.Type, path string) *spec {
	s := &spec{typ: t}
	for s.typ.Kind() == reflect.Pointer {
		s.typ = s.typ.Elem()
		s.pointer = true
	}
	t = s.typ
	pointer := reflect.PointerTo(t)
	custom, text := typeUnmarshaler, typeTextUnmarshaler
	if c.output {
		custom, text = typeMarshaler, typeTextMarshaler
	}
	switch {
	case t == typeRawMessage:
	case t == typeNumber:
		s.kind = kindNumber
	case t == typeTime:
		s.kind = kindTime
	case t.Kind() == reflect.Interface:
		if t.NumMethod() > 0 && !c.output {
			c.fault(path, "type %v: JSON cannot become an interface with methods", t)
		}
	case pointer.Implements(custom):
		s.kind = kindCustom
	case pointer.Implements(text):
		s.kind = kindText
	default:
		c.plain(s, path)
	}
	if s.kind == kindNone {
		c.fault(path, "type %v has no JSON", t)
	}
	if c.output {
		return s
	}
	if s.kind == kindCustom && t.Kind() == reflect.Struct {
		for field := range t.Fields() {
			if _, ok := field.Tag.Lookup("validate"); ok {
				c.fault(join(path, field.Name), "the validate tag has no effect: %v has UnmarshalJSON", t)
			}
		}
	}
	return s
}

// plain compiles a type that has no methods for JSON.
func (c *compiler) plain(s *spec, path string) {
	t := s.typ
	if c.within[t] {
		s.kind = kindAny
		c.fault(path, "type %v holds itself without a struct between", t)
		return
	}
	switch t.Kind() {
	case reflect.String:
		s.kind = kindString
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.kind = kindInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		s.kind = kindUint
	case reflect.Float32, reflect.Float64:
		s.kind = kindFloat
	case reflect.Bool:
		s.kind = kindBool
	case reflect.Slice, reflect.Array:
		s.kind = kindList
		if elem := reflect.PointerTo(t.Elem()); t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 &&
			!elem.Implements(typeUnmarshaler) && !elem.Implements(typeTextUnmarshaler) {
			s.kind = kindBytes
			return
		}
		if t.Kind() == reflect.Array {
			s.maxItems = t.Len()
		}
		s.elem = c.inner(t, path)
	case reflect.Map:
		s.kind = kindMap
		key := t.Key()
		if key.Kind() != reflect.String || reflect.PointerTo(key).Implements(typeTextUnmarshaler) {
			c.fault(path, "type %v: keys must be plain strings", t)
		}
		s.elem = c.inner(t, path)
	case reflect.Struct:
		s.kind = kindStruct
		s.set = c.set(t, path)
	default:
		s.kind = kindNone
	}
}

// inner compiles what a list or map holds.
func (c *compiler) inner(t reflect.Type, path string) *spec {
	c.within[t] = true
	defer delete(c.within, t)
	return c.spec(t.Elem(), path)
}

// set compiles a struct type.
func (c *compiler) set(t reflect.Type, path string) *ruleSet {
	if set := c.sets[t]; set != nil {
		return set
	}
	set := &ruleSet{name: t.Name(), index: map[string]int{}, folded: map[string]int{}}
	c.sets[t] = set
	set.method = reflect.PointerTo(t).Implements(typeValidator)
	c.collect(set, t, nil, path, []reflect.Type{t})
	for i := range set.fields {
		key := fold(nil, []byte(set.fields[i].name))
		if j, ok := set.folded[string(key)]; ok {
			c.fault(join(path, set.fields[i].goName), "JSON name %q differs from %q of %s only in case",
				set.fields[i].name, set.fields[j].name, set.fields[j].goName)
		}
		set.folded[string(key)] = i
		set.fold = max(set.fold, len(key))
	}
	if !c.output {
		for i := range set.fields {
			c.rules(set, i, join(path, set.fields[i].goName))
		}
	}
	return set
}

// collect adds the fields of t, those of embedded structs in place, to set.
func (c *compiler) collect(set *ruleSet, t reflect.Type, at []int, path string, outer []reflect.Type) {
	validators := 0
	for i := range t.NumField() {
		f := t.Field(i)
		place := join(path, f.Name)
		if !wellFormedTag(string(f.Tag)) {
			c.fault(place, "malformed struct tag")
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		_, tagged := f.Tag.Lookup("validate")
		index := append(slices.Clone(at), i)
		base := f.Type
		if base.Kind() == reflect.Pointer {
			base = base.Elem()
		}
		switch {
		case f.Tag.Get("json") == "-":
			if tagged {
				c.fault(place, "the validate tag has no effect: the field has no JSON")
			}
			continue
		case f.Anonymous && name == "" && base.Kind() == reflect.Struct:
			if tagged {
				c.fault(place, "the validate tag has no effect: the struct is embedded")
			}
			if f.Type != base && !f.IsExported() {
				c.fault(place, "encoding/json cannot set an embedded pointer to a type that is not exported")
				continue
			}
			if slices.Contains(outer, base) {
				c.fault(place, "type %v is embedded in itself", base)
				continue
			}
			if reflect.PointerTo(base).Implements(typeValidator) {
				validators++
			}
			set.pointers = set.pointers || f.Type != base
			c.collect(set, base, index, path, append(slices.Clone(outer), base))
			continue
		case !f.IsExported():
			if tagged {
				c.fault(place, "the validate tag has no effect: the field is not exported")
			}
			continue
		}
		if name == "" {
			name = f.Name
		} else if !validJSONName(name) {
			c.fault(place, "json: encoding/json ignores the name %q", name)
		}
		asString := slices.Contains(strings.Split(options, ","), "string")
		if asString {
			c.fault(place, "json: the option string is not supported")
		}
		n := field{name: name, goName: f.Name, at: index, description: f.Tag.Get("jsonschema"), tag: f.Tag}
		n.spec = *c.spec(f.Type, place)
		if asString {
			n.kind = kindAny
		}
		if j, ok := set.index[name]; ok {
			c.fault(place, "JSON name %q is that of %s too", name, set.fields[j].goName)
			if c.output { // encoding/json takes the one that is embedded less deep
				switch old := &set.fields[j]; {
				case len(old.at) > len(index):
					*old = n
				case len(old.at) == len(index):
					old.spec = spec{typ: old.typ}
				}
			}
			continue
		}
		set.index[name] = len(set.fields)
		set.fields = append(set.fields, n)
	}
	if validators > 1 && !reflect.PointerTo(t).Implements(typeValidator) {
		c.fault(path, "%v embeds several types with Validate and has none: none would be called", t)
	}
}

// rules compiles the validate tag of a field.
func (c *compiler) rules(set *ruleSet, i int, path string) {
	f := &set.fields[i]
	parsed, err := parseTag(f.tag.Get("validate"))
	if err != nil {
		c.fault(path, "validate: %v", err)
		return
	}
	b := ruleBuilder{set: set, self: i, spec: &f.spec}
	seen := map[string]bool{}
	for _, r := range parsed {
		if r.name == "each" {
			if err := b.each(r); err != nil {
				c.fault(path, "validate: each: %v", err)
				return
			}
			clear(seen)
			continue
		}
		if seen[r.name] {
			c.fault(path, "validate: rule %s stands twice", r.name)
		}
		seen[r.name] = true
		if err := b.add(r); err != nil {
			c.fault(path, "validate: %v", err)
		}
	}
}

// validJSONName reports whether encoding/json takes the name from a tag.
func validJSONName(name string) bool {
	for _, r := range name {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return false
		}
	}
	return name != ""
}

// fold appends key with each letter replaced by one that stands for all its cases, as strings.EqualFold sees them.
func fold(dst, key []byte) []byte {
	for _, r := range string(key) {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		dst = utf8.AppendRune(dst, least)
	}
	return dst
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// scalarsOf returns the top-level fields that are numbers or booleans.
func scalarsOf(input *spec) map[string]scalarKind {
	if input.set == nil {
		return nil
	}
	scalars := map[string]scalarKind{}
	for i := range input.set.fields {
		switch f := &input.set.fields[i]; f.jsonKind() {
		case strictjson.Number:
			scalars[f.name] = scalarNumber
		case strictjson.Bool:
			scalars[f.name] = scalarBool
		}
	}
	return scalars
}

func fieldsOf(input *spec) map[string]*spec {
	if input.set == nil {
		return nil
	}
	fields := make(map[string]*spec, len(input.set.fields))
	for i := range input.set.fields {
		fields[input.set.fields[i].name] = &input.set.fields[i].spec
	}
	return fields
}

// jsonKind is the only kind of JSON that the value can have, or 0.
func (s *spec) jsonKind() strictjson.Kind {
	switch s.kind {
	case kindString, kindText, kindBytes, kindTime:
		return strictjson.String
	case kindInt, kindUint, kindFloat, kindNumber:
		return strictjson.Number
	case kindBool:
		return strictjson.Bool
	case kindList:
		return strictjson.Array
	case kindMap, kindStruct:
		return strictjson.Object
	}
	for i := range s.rules {
		if kind := cmp.Or(s.rules[i].needs, s.rules[i].implies); kind != 0 {
			return kind
		}
	}
	return 0
}
