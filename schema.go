package mooncore

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// A schemaEntry is a keyword of a JSON Schema and its value.
type schemaEntry struct {
	key  string
	json []byte
}

// A schemaNode is a JSON Schema with its keywords in order.
type schemaNode []schemaEntry

// set adds a keyword, or replaces its value.
func (n *schemaNode) set(key string, json []byte) {
	if i := slices.IndexFunc(*n, func(e schemaEntry) bool { return e.key == key }); i >= 0 {
		(*n)[i].json = json
		return
	}
	*n = append(*n, schemaEntry{key, json})
}

func (n schemaNode) has(key string) bool {
	return slices.ContainsFunc(n, func(e schemaEntry) bool { return e.key == key })
}

func (n schemaNode) json() []byte {
	b := []byte{'{'}
	for i, e := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(strictjson.AppendQuote(b, e.key), ':'), e.json...)
	}
	return append(b, '}')
}

// A schemaWriter makes the schema of one type. Structs that hold themselves are definitions.
type schemaWriter struct {
	output bool
	names  map[*ruleSet]string
	defs   schemaNode
}

// inputSchema returns the schema of params, which are an object.
func inputSchema(s *spec) json.RawMessage {
	w := schemaWriter{names: map[*ruleSet]string{}}
	n := w.node(s)
	if !n.has("type") && !n.has("$ref") {
		n.set("type", []byte(`"object"`))
	}
	return w.finish(n)
}

// schemaOf returns the schema of a result.
func schemaOf(s *spec) json.RawMessage {
	w := schemaWriter{output: true, names: map[*ruleSet]string{}}
	return w.finish(w.node(s))
}

func (w *schemaWriter) finish(n schemaNode) json.RawMessage {
	if len(w.defs) > 0 {
		n.set("$defs", w.defs.json())
	}
	return n.json()
}

// node returns the schema of a value.
func (w *schemaWriter) node(s *spec) schemaNode {
	var n schemaNode
	nullable := w.output && s.pointer
	typed := func(name string) {
		n.set("type", []byte(strconv.Quote(name)))
	}
	switch s.kind {
	case kindString, kindText:
		typed("string")
		if s.typ == typeSecret && !w.output {
			n.set("writeOnly", []byte("true"))
		}
	case kindBytes:
		typed("string")
		n.set("contentEncoding", []byte(`"base64"`))
		nullable = w.output
	case kindTime:
		typed("string")
		n.set("format", []byte(`"date-time"`))
	case kindInt:
		typed("integer")
	case kindUint:
		typed("integer")
		n.set("minimum", []byte("0"))
	case kindFloat, kindNumber:
		typed("number")
	case kindBool:
		typed("boolean")
	case kindList:
		typed("array")
		if items := w.node(s.elem); len(items) > 0 {
			n.set("items", items.json())
		}
		if s.maxItems > 0 {
			n.set("maxItems", strconv.AppendInt(nil, int64(s.maxItems), 10))
		}
		nullable = w.output && (nullable || s.maxItems == 0)
	case kindMap:
		typed("object")
		if values := w.node(s.elem); len(values) > 0 {
			n.set("additionalProperties", values.json())
		}
		nullable = w.output
	case kindStruct:
		n = w.object(s.set)
	case kindAny:
		w.open(&n, s)
	}
	if nullable {
		n = orNull(n)
	}
	for i := range s.rules {
		w.rule(&n, &s.rules[i])
	}
	return n
}

// open says what the rules of a value of any type say of its type.
func (w *schemaWriter) open(n *schemaNode, s *spec) {
	types := map[strictjson.Kind]string{
		strictjson.String: "string", strictjson.Number: "number", strictjson.Bool: "boolean", strictjson.Array: "array",
	}
	if name := types[s.jsonKind()]; name != "" {
		n.set("type", []byte(strconv.Quote(name)))
	}
	if s.elem != nil {
		if items := w.node(s.elem); len(items) > 0 {
			n.set("items", items.json())
		}
	}
}

// rule adds what a rule says. Of two patterns, the first stands.
func (w *schemaWriter) rule(n *schemaNode, r *rule) {
	for _, e := range r.schema {
		switch {
		case e.key == "pattern" && n.has("pattern"), e.key == "items" && n.has("items"):
		case e.key == "type" && string(e.json) == `"number"` && n.has("type"):
		default:
			n.set(e.key, e.json)
		}
	}
}

// orNull lets a schema allow null as well.
func orNull(n schemaNode) schemaNode {
	for i, e := range n {
		if e.key == "type" {
			n[i].json = []byte("[" + string(e.json) + `,"null"]`)
			return n
		}
	}
	if len(n) == 0 {
		return n
	}
	return schemaNode{{"anyOf", []byte("[" + string(n.json()) + `,{"type":"null"}]`)}}
}

// object returns the schema of a struct, or a reference to it.
func (w *schemaWriter) object(set *ruleSet) schemaNode {
	if name, ok := w.names[set]; ok {
		return schemaNode{reference(name)}
	}
	if !set.reachesItself() {
		return w.properties(set)
	}
	name := set.name
	for i := 2; name == "" || w.named(name); i++ {
		name = set.name + strconv.Itoa(i)
	}
	w.names[set] = name
	at := len(w.defs)
	w.defs = append(w.defs, schemaEntry{key: name})
	w.defs[at].json = w.properties(set).json()
	return schemaNode{reference(name)}
}

func reference(name string) schemaEntry {
	pointer := strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	return schemaEntry{"$ref", strictjson.AppendQuote(nil, "#/$defs/"+pointer)}
}

func (w *schemaWriter) named(name string) bool { return w.defs.has(name) }

func (set *ruleSet) reachesItself() bool {
	seen := map[*ruleSet]bool{}
	for i := range set.fields {
		for s := &set.fields[i].spec; s != nil; s = s.elem {
			if s.set != nil && s.set.reaches(func(other *ruleSet) bool { return other == set }, nil, seen) {
				return true
			}
		}
	}
	return false
}

func (w *schemaWriter) properties(set *ruleSet) schemaNode {
	n := schemaNode{{"type", []byte(`"object"`)}}
	var properties schemaNode
	required := []byte{'['}
	for i := range set.fields {
		f := &set.fields[i]
		property := w.node(&f.spec)
		if f.description != "" {
			property.set("description", strictjson.AppendQuote(nil, f.description))
		}
		properties.set(f.name, property.json())
		if f.required {
			if len(required) > 1 {
				required = append(required, ',')
			}
			required = strictjson.AppendQuote(required, f.name)
		}
	}
	if len(properties) > 0 {
		n.set("properties", properties.json())
	}
	if len(required) > 1 {
		n.set("required", append(required, ']'))
	}
	return n
}

// portable reports whether a regular expression means the same in ECMA 262, which JSON Schema uses: the rest it leaves out.
func portable(expr string) bool {
	if strings.Contains(expr, "[[:") || strings.Contains(strings.ReplaceAll(expr, "(?:", ""), "(?") {
		return false
	}
	for i := 0; i < len(expr); i++ {
		if expr[i] == '\\' {
			i++
			if i >= len(expr) || !strings.ContainsRune(`dDwWbBtnrfv.\/+*?()[]{}|^$-`, rune(expr[i])) {
				return false
			}
		}
	}
	return true
}
