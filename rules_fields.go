package mooncore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/mooncore/mooncore/internal/format"
	"github.com/mooncore/mooncore/internal/strictjson"
)

// The rules that look at other fields of the same struct.

// other returns the index of another field of the struct, which a value of the tag names.
func (b *ruleBuilder) other(i int) (int, error) {
	if b.item {
		return 0, errors.New("items have no other fields")
	}
	name := b.values[i].text
	j, ok := b.set.index[name]
	switch {
	case !ok:
		return 0, fmt.Errorf("no field has the JSON name %q", name)
	case j == b.self:
		return 0, errors.New("the field names itself")
	}
	return j, nil
}

func (b *ruleBuilder) others() ([]int, error) {
	indexes := make([]int, len(b.values))
	for i := range b.values {
		j, err := b.other(i)
		if err != nil {
			return nil, err
		}
		if slices.Contains(indexes[:i], j) {
			return nil, fmt.Errorf("%q stands twice", b.values[i].text)
		}
		indexes[i] = j
	}
	return indexes, nil
}

func (b *ruleBuilder) equalTo() error {
	other, err := b.other(0)
	if err != nil {
		return err
	}
	b.rule.text = "must equal " + b.values[0].text
	b.rule.ok = func(v *value) bool { return equalJSON(v.raw, v.members[other]) }
	return nil
}

// equalJSON reports whether two raw values mean the same: numbers by value, objects whatever the order of their keys.
func equalJSON(a, b []byte) bool {
	kind := strictjson.KindOf(a)
	if b == nil || kind != strictjson.KindOf(b) {
		return false
	}
	if bytes.Equal(a, b) {
		return true
	}
	switch kind {
	case strictjson.Number:
		return format.ParseDecimal(a).Compare(format.ParseDecimal(b)) == 0
	case strictjson.Bool, strictjson.Null:
		return false
	}
	var x, y any
	decode := func(raw []byte, to *any) error {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		return dec.Decode(to)
	}
	return decode(a, &x) == nil && decode(b, &y) == nil && reflect.DeepEqual(x, y)
}

func (b *ruleBuilder) greaterThan() error {
	other, err := b.other(0)
	if err != nil {
		return err
	}
	if suits := numberKinds | textKinds; suits&(1<<b.set.fields[other].kind) == 0 {
		return fmt.Errorf("does not suit the type %v of %s", b.set.fields[other].typ, b.values[0].text)
	}
	text := "must be greater than " + b.values[0].text
	b.rule.say = func(v *value) string {
		limit := value{raw: v.members[other]}
		if !present(limit.raw) {
			return ""
		}
		limit.kind = strictjson.KindOf(limit.raw)
		greater := false
		switch {
		case limit.kind == strictjson.Number && v.kind != strictjson.Number:
			return textNumber
		case v.kind == strictjson.Number && limit.kind != strictjson.Number:
			return b.values[0].text + " " + textNumber
		case limit.kind != v.kind:
		case v.kind == strictjson.Number:
			greater = v.number().Compare(*limit.number()) > 0
		case v.kind == strictjson.String:
			greater = bytes.Compare(v.text(), limit.text()) > 0
		}
		if greater {
			return ""
		}
		return text
	}
	return nil
}

func (b *ruleBuilder) onlyOneOf() error {
	others, err := b.others()
	if err != nil {
		return err
	}
	names := []string{b.set.fields[b.self].name}
	for _, v := range b.values {
		names = append(names, v.text)
	}
	last := len(names) - 1
	b.rule.presence = true
	b.rule.text = "exactly one of " + strings.Join(names[:last], ", ") + " or " + names[last] + " must be present"
	b.rule.ok = func(v *value) bool {
		n := 0
		if present(v.raw) {
			n++
		}
		for _, other := range others {
			if present(v.members[other]) {
				n++
			}
		}
		return n == 1
	}
	return nil
}

// firstPresent returns the name of the first other field that is present, or "".
func (b *ruleBuilder) firstPresent() (func(v *value) string, error) {
	others, err := b.others()
	set := b.set
	return func(v *value) string {
		for _, other := range others {
			if present(v.members[other]) {
				return set.fields[other].name
			}
		}
		return ""
	}, err
}

func (b *ruleBuilder) forbiddenWith() error {
	first, err := b.firstPresent()
	b.rule.say = func(v *value) string {
		if name := first(v); name != "" {
			return "cannot be present together with " + name
		}
		return ""
	}
	return err
}

func (b *ruleBuilder) requiredWith() error {
	first, err := b.firstPresent()
	b.rule.presence = true
	b.rule.say = func(v *value) string {
		if present(v.raw) {
			return ""
		}
		if name := first(v); name != "" {
			return "is required when " + name + " is present"
		}
		return ""
	}
	return err
}

func (b *ruleBuilder) requiredIf() error {
	other, err := b.other(0)
	if err != nil {
		return err
	}
	want, err := literalOf(b.values[1], &b.set.fields[other].spec)
	if err != nil {
		return err
	}
	b.rule.presence = true
	b.rule.text = "is required when " + b.values[0].text + " is " + want.text
	b.rule.ok = func(v *value) bool {
		if present(v.raw) || !present(v.members[other]) {
			return true
		}
		condition := value{raw: v.members[other], kind: strictjson.KindOf(v.members[other])}
		return !want.equals(&condition)
	}
	return nil
}
