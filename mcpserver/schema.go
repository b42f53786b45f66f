package mcpserver

import (
	"encoding/json"
	"slices"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/strictjson"
)

// An object is a JSON object with its members in order.
type object []member

type member struct {
	name  string
	value json.RawMessage
}

func parseObject(raw json.RawMessage) object {
	var o object
	for key, value := range strictjson.Members(raw) {
		name, _ := strictjson.Unquote(key)
		o = append(o, member{name, value})
	}
	return o
}

func (o object) json() json.RawMessage {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strictjson.AppendQuote(b, m.name), ':')
		b = append(b, m.value...)
	}
	return append(b, '}')
}

// get returns the value of a member, nil if there is none.
func (o object) get(name string) json.RawMessage {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// without returns o without the members that drop names.
func (o object) without(drop func(name string) bool) object {
	return slices.DeleteFunc(o, func(m member) bool { return drop(m.name) })
}

var typeObject = json.RawMessage(`"object"`)

// inputSchema is the schema of an action's params, but for those that its Override sets. The protocol wants the type at its top.
func inputSchema(action mooncore.Action) json.RawMessage {
	schema := parseObject(action.Handler.InputSchema())
	if schema.get("type") == nil { // it refers to a definition
		schema = slices.Insert(schema, 0, member{"type", typeObject})
	}
	overridden := func(name string) bool { _, ok := action.Override[name]; return ok }
	for i, m := range schema {
		switch m.name {
		case "properties":
			schema[i].value = parseObject(m.value).without(overridden).json()
		case "required":
			left := []string{}
			for element := range strictjson.Elements(m.value) {
				if name, _ := strictjson.Unquote(element); !overridden(name) {
					left = append(left, name)
				}
			}
			schema[i].value, _ = json.Marshal(left) // strings
		}
	}
	return schema.json()
}

// outputSchema is the schema of a tool's structured content, nil if nothing is known of it. The protocol wants an object: another
// result is wrapped in one.
func outputSchema(action mooncore.Action) (schema json.RawMessage, wrapped bool) {
	result := parseObject(action.Handler.OutputSchema())
	switch typ := result.get("type"); {
	case len(result) == 0:
		return nil, false
	case string(typ) == string(typeObject):
		return result.json(), false
	case typ == nil && result.get("$ref") != nil:
		return slices.Insert(result, 0, member{"type", typeObject}).json(), false
	}
	isDefs := func(name string) bool { return name == "$defs" }
	defs := result.get("$defs")
	properties := object{{"result", result.without(isDefs).json()}}.json()
	outer := object{{"type", typeObject}, {"properties", properties}, {"required", json.RawMessage(`["result"]`)}}
	if defs != nil {
		outer = append(outer, member{"$defs", defs}) // what refers to them counts from the top
	}
	return outer.json(), true
}
