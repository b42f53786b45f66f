package devtools

import (
	"bytes"
	"encoding/json"
	"strings"
)

// secretFields are the fields of a JSON value that its schema calls secret, by writeOnly. Nil holds none.
type secretFields struct {
	secret bool
	fields map[string]*secretFields
	items  *secretFields // of a list, or of an object with any keys
}

func (f *secretFields) isSecret() bool { return f != nil && f.secret }

func (f *secretFields) field(name []byte) *secretFields {
	if f == nil {
		return nil
	}
	if field, ok := f.fields[string(name)]; ok {
		return field
	}
	return f.items
}

func (f *secretFields) item() *secretFields {
	if f == nil {
		return nil
	}
	return f.items
}

// mergeSecrets returns the fields that are secret in a or in b.
func mergeSecrets(a, b *secretFields) *secretFields {
	done := map[[2]*secretFields]*secretFields{} // since schemas may hold themselves
	var merge func(a, b *secretFields) *secretFields
	merge = func(a, b *secretFields) *secretFields {
		if a == nil || a == b {
			return b
		}
		if b == nil {
			return a
		}
		pair := [2]*secretFields{a, b}
		if f := done[pair]; f != nil {
			return f
		}
		f := &secretFields{secret: a.secret || b.secret, fields: map[string]*secretFields{}}
		done[pair] = f
		for _, fields := range []map[string]*secretFields{a.fields, b.fields} {
			for name := range fields {
				f.fields[name] = merge(a.field([]byte(name)), b.field([]byte(name)))
			}
		}
		f.items = merge(a.items, b.items)
		return f
	}
	return merge(a, b)
}

// A schemaPart is what of a JSON Schema says where secrets are.
type schemaPart struct {
	WriteOnly            bool                   `json:"writeOnly"`
	Ref                  string                 `json:"$ref"`
	Defs                 map[string]*schemaPart `json:"$defs"`
	Properties           map[string]*schemaPart `json:"properties"`
	Items                *schemaPart            `json:"items"`
	AdditionalProperties json.RawMessage        `json:"additionalProperties"`
}

// secretsOf returns the fields that a schema calls secret, or nil.
func secretsOf(schema json.RawMessage) *secretFields {
	if !bytes.Contains(schema, []byte(`"writeOnly"`)) {
		return nil
	}
	var root schemaPart
	if json.Unmarshal(schema, &root) != nil {
		return nil
	}
	defs := map[string]*secretFields{}
	for name := range root.Defs {
		defs[name] = &secretFields{}
	}
	for name, part := range root.Defs {
		*defs[name] = *secretPart(part, defs)
	}
	return secretPart(&root, defs)
}

func secretPart(part *schemaPart, defs map[string]*secretFields) *secretFields {
	if name, ok := strings.CutPrefix(part.Ref, "#/$defs/"); ok {
		if f := defs[strings.NewReplacer("~1", "/", "~0", "~").Replace(name)]; f != nil {
			return f
		}
	}
	f := &secretFields{secret: part.WriteOnly}
	for name, property := range part.Properties {
		if f.fields == nil {
			f.fields = map[string]*secretFields{}
		}
		f.fields[name] = secretPart(property, defs)
	}
	if part.Items != nil {
		f.items = secretPart(part.Items, defs)
	}
	var values schemaPart
	if len(part.AdditionalProperties) > 0 && part.AdditionalProperties[0] == '{' && json.Unmarshal(part.AdditionalProperties, &values) == nil {
		f.items = secretPart(&values, defs)
	}
	return f
}
