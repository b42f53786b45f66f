package mooncore

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mooncore/mooncore/internal/format"
	"github.com/mooncore/mooncore/internal/strictjson"
)

// Texts of PROTOCOL.md section 2, "Validation texts".
const (
	textRequired = "is required"
	textString   = "must be a string"
	textInteger  = "must be an integer"
	textFloat    = "must be a float"
	textNumber   = "must be a number"
	textBoolean  = "must be a boolean"
	textList     = "must be a list"
	textObject   = "must be an object"
	textDateTime = "must be a valid ISO 8601 datetime"
	textInvalid  = "is invalid"
	textCustom   = "failed custom validation"
)

// A rule is one rule of a field, compiled.
type rule struct {
	needs    strictjson.Kind // the kind of JSON that the rule is about, or 0
	text     string          // of the fault
	implies  strictjson.Kind // the kind that it refuses all others of, with a text of its own, or 0
	presence bool            // the rule is asked of absent and null fields too
	ok       func(v *value) bool
	say      func(v *value) string // in place of ok and text: the text of the fault, or ""

	schema []schemaEntry
}

// check returns the text of the fault, or "".
func (r *rule) check(v *value) string {
	switch {
	case r.needs != 0 && v.kind != r.needs:
		return kindFault(r.needs)
	case r.say != nil:
		return r.say(v)
	case r.ok != nil && !r.ok(v):
		return r.text
	}
	return ""
}

func kindFault(k strictjson.Kind) string {
	switch k {
	case strictjson.String:
		return textString
	case strictjson.Number:
		return textNumber
	case strictjson.Bool:
		return textBoolean
	case strictjson.Array:
		return textList
	}
	return textObject
}

// A ruleBuilder adds the rules of a tag to the spec of a field, or, after "each", to that of its items.
type ruleBuilder struct {
	set  *ruleSet
	self int // index of the field in set
	spec *spec
	item bool

	name   string
	values []tagValue
	rule   rule
}

type kindSet uint32

func kinds(list ...valueKind) kindSet {
	var set kindSet
	for _, k := range list {
		set |= 1 << k
	}
	return set
}

var (
	everyKind   = ^kindSet(0)
	numberKinds = kinds(kindAny, kindCustom, kindInt, kindUint, kindFloat, kindNumber)
	textKinds   = kinds(kindAny, kindCustom, kindText, kindString)
	scalarKinds = numberKinds | textKinds | kinds(kindBool)
	listKinds   = kinds(kindAny, kindCustom, kindList)
)

// ruleTable says for each rule which types it suits, how many values it takes (most -1: any number), and how it is compiled.
var ruleTable = map[string]struct {
	suits       kindSet
	least, most int
	build       func(b *ruleBuilder) error
}{
	"required":       {everyKind, 0, 0, (*ruleBuilder).required},
	"string":         {textKinds | kinds(kindBytes, kindTime), 0, 0, typeRule(strictjson.String)},
	"number":         {numberKinds, 0, 0, typeRule(strictjson.Number)},
	"boolean":        {kinds(kindAny, kindCustom, kindBool), 0, 0, typeRule(strictjson.Bool)},
	"integer":        {numberKinds, 0, 0, (*ruleBuilder).integer},
	"float":          {numberKinds, 0, 0, (*ruleBuilder).float},
	"min":            {numberKinds, 1, 1, (*ruleBuilder).bounds},
	"max":            {numberKinds, 1, 1, (*ruleBuilder).bounds},
	"between":        {numberKinds, 2, 2, (*ruleBuilder).bounds},
	"positive":       {numberKinds, 0, 0, (*ruleBuilder).sign},
	"non_negative":   {numberKinds, 0, 0, (*ruleBuilder).sign},
	"multiple_of":    {numberKinds, 1, 1, (*ruleBuilder).multipleOf},
	"min_length":     {textKinds, 1, 1, (*ruleBuilder).length},
	"max_length":     {textKinds, 1, 1, (*ruleBuilder).length},
	"length":         {textKinds, 1, 1, (*ruleBuilder).length},
	"email":          {textKinds, 0, 0, textRule("must be a valid email address", format.Email, "email")},
	"uuid":           {textKinds, 0, 0, textRule("must be a valid UUID", format.UUID, "uuid")},
	"url":            {textKinds, 0, 0, textRule("must be a valid URL", format.URL, "uri")},
	"iso8601":        {textKinds | kinds(kindTime), 0, 0, textRule(textDateTime, format.DateTime, "date-time")},
	"date":           {textKinds, 0, 0, textRule("must be a valid date (YYYY-MM-DD)", format.Date, "date")},
	"trimmed":        {textKinds, 0, 0, textRule("must not have leading or trailing whitespace", format.Trimmed, "")},
	"regex":          {textKinds, 1, 1, (*ruleBuilder).regex},
	"starts_with":    {textKinds, 1, 1, (*ruleBuilder).affix},
	"ends_with":      {textKinds, 1, 1, (*ruleBuilder).affix},
	"in":             {scalarKinds, 1, -1, (*ruleBuilder).in},
	"not_in":         {scalarKinds, 1, -1, (*ruleBuilder).in},
	"list_of":        {listKinds, 1, 1, (*ruleBuilder).listOf},
	"min_items":      {listKinds, 1, 1, (*ruleBuilder).items},
	"max_items":      {listKinds, 1, 1, (*ruleBuilder).items},
	"equal_to":       {everyKind, 1, 1, (*ruleBuilder).equalTo},
	"greater_than":   {numberKinds | textKinds, 1, 1, (*ruleBuilder).greaterThan},
	"only_one_of":    {everyKind, 1, -1, (*ruleBuilder).onlyOneOf},
	"forbidden_with": {everyKind, 1, -1, (*ruleBuilder).forbiddenWith},
	"required_with":  {everyKind, 1, -1, (*ruleBuilder).requiredWith},
	"required_if":    {everyKind, 2, 2, (*ruleBuilder).requiredIf},
}

// add compiles one rule of a tag.
func (b *ruleBuilder) add(r tagRule) error {
	known, ok := ruleTable[r.name]
	switch {
	case !ok:
		return fmt.Errorf("unknown rule %q", r.name)
	case known.suits&(1<<b.spec.kind) == 0:
		return fmt.Errorf("rule %s does not suit the type %v", r.name, b.spec.typ)
	case len(r.values) < known.least && known.least == known.most:
		return fmt.Errorf("rule %s takes %d values, not %d", r.name, known.least, len(r.values))
	case len(r.values) < known.least:
		return fmt.Errorf("rule %s takes a value", r.name)
	case known.most == 0 && len(r.values) > 0:
		return fmt.Errorf("rule %s takes no value", r.name)
	case known.most > 0 && len(r.values) > known.most:
		return fmt.Errorf("rule %s takes %d values, not %d: put a value that holds spaces in single quotes",
			r.name, known.most, len(r.values))
	}
	b.name, b.values, b.rule = r.name, r.values, rule{}
	if err := known.build(b); err != nil {
		return fmt.Errorf("rule %s: %w", r.name, err)
	}
	if b.rule.ok != nil || b.rule.say != nil || b.rule.needs != 0 {
		b.spec.rules = append(b.spec.rules, b.rule)
	}
	return nil
}

// each turns to the items of the list.
func (b *ruleBuilder) each(r tagRule) error {
	switch {
	case len(r.values) > 0:
		return errors.New("takes no value")
	case b.spec.kind == kindAny && b.spec.elem == nil:
		b.spec.elem = &spec{typ: b.spec.typ}
		b.spec.rules = append(b.spec.rules, rule{needs: strictjson.Array})
	case b.spec.kind != kindList && (b.spec.kind != kindAny || b.spec.elem == nil):
		return fmt.Errorf("does not suit the type %v", b.spec.typ)
	}
	elem := *b.spec.elem // specs of types are shared, those of fields are not
	b.spec.elem, b.spec, b.item = &elem, &elem, true
	return nil
}

func (b *ruleBuilder) describe(key string, json []byte) {
	b.rule.schema = append(b.rule.schema, schemaEntry{key, json})
}

func (b *ruleBuilder) required() error {
	b.spec.required = true
	return nil
}

func typeRule(k strictjson.Kind) func(b *ruleBuilder) error {
	return func(b *ruleBuilder) error {
		b.rule.needs = k
		return nil
	}
}

func (b *ruleBuilder) integer() error {
	b.rule.say = func(v *value) string { return itemFault(textInteger, v.raw, v.kind) }
	b.rule.implies = strictjson.Number
	b.describe("type", []byte(`"integer"`))
	return nil
}

func (b *ruleBuilder) float() error {
	b.rule.say = func(v *value) string { return itemFault(textFloat, v.raw, v.kind) }
	b.rule.implies = strictjson.Number
	b.describe("type", []byte(`"number"`))
	return nil
}

// itemFault returns text if a value is not of the type that the text names.
func itemFault(text string, raw []byte, kind strictjson.Kind) string {
	ok := false
	switch text {
	case textInteger:
		ok = kind == strictjson.Number && format.ParseDecimal(raw).IsInteger()
	case textFloat, textNumber:
		ok = kind == strictjson.Number
	case textString:
		ok = kind == strictjson.String
	case textBoolean:
		ok = kind == strictjson.Bool
	}
	if ok {
		return ""
	}
	return text
}

// number returns a value of the tag that is a number.
func (b *ruleBuilder) number(i int) (format.Decimal, []byte, error) {
	raw := []byte(b.values[i].text)
	if kind, err := strictjson.Scan(raw, nil, nil); err != nil || kind != strictjson.Number || len(bytes.TrimSpace(raw)) < len(raw) {
		return format.Decimal{}, nil, fmt.Errorf("%q is not a number", b.values[i].text)
	}
	return format.ParseDecimal(raw), raw, nil
}

func (b *ruleBuilder) bounds() error {
	low, rawLow, err := b.number(0)
	if err != nil {
		return err
	}
	high, rawHigh := low, rawLow
	if b.name == "between" {
		if high, rawHigh, err = b.number(1); err != nil {
			return err
		}
		if low.Compare(high) > 0 {
			return fmt.Errorf("%s is more than %s", rawLow, rawHigh)
		}
	}
	b.rule.needs = strictjson.Number
	if b.name != "max" {
		b.rule.text = "must be at least " + string(rawLow)
		b.describe("minimum", rawLow)
	}
	if b.name != "min" {
		b.rule.text = "must be at most " + string(rawHigh)
		b.describe("maximum", rawHigh)
	}
	switch b.name {
	case "min":
		b.rule.ok = func(v *value) bool { return v.number().Compare(low) >= 0 }
	case "max":
		b.rule.ok = func(v *value) bool { return v.number().Compare(high) <= 0 }
	default:
		b.rule.text = fmt.Sprintf("must be between %s and %s", rawLow, rawHigh)
		b.rule.ok = func(v *value) bool {
			n := v.number()
			return n.Compare(low) >= 0 && n.Compare(high) <= 0
		}
	}
	return nil
}

func (b *ruleBuilder) sign() error {
	b.rule.needs = strictjson.Number
	least := 0
	if b.rule.text = "must be non-negative"; b.name == "positive" {
		b.rule.text = "must be positive"
		least = 1
		b.describe("exclusiveMinimum", []byte("0"))
	} else {
		b.describe("minimum", []byte("0"))
	}
	b.rule.ok = func(v *value) bool { return v.number().Sign() >= least }
	return nil
}

func (b *ruleBuilder) multipleOf() error {
	divisor, raw, err := b.number(0)
	if err != nil {
		return err
	}
	if !divisor.Divides() {
		return fmt.Errorf("%s is not above zero, or has more than 18 digits", raw)
	}
	b.rule.needs = strictjson.Number
	b.rule.text = "must be a multiple of " + string(raw)
	b.rule.ok = func(v *value) bool { return v.number().MultipleOf(divisor) }
	b.describe("multipleOf", raw)
	return nil
}

// count returns the value of the tag, which is a number of characters or items.
func (b *ruleBuilder) count() (int, []byte, error) {
	n, err := strconv.ParseUint(b.values[0].text, 10, 31)
	if err != nil {
		return 0, nil, fmt.Errorf("%q is not a number of characters or items", b.values[0].text)
	}
	return int(n), strconv.AppendUint(nil, n, 10), nil
}

func (b *ruleBuilder) length() error {
	n, raw, err := b.count()
	if err != nil {
		return err
	}
	b.rule.needs = strictjson.String
	if b.name != "max_length" {
		b.describe("minLength", raw)
	}
	if b.name != "min_length" {
		b.describe("maxLength", raw)
	}
	switch b.name {
	case "min_length":
		b.rule.text = fmt.Sprintf("must be at least %d characters", n)
		b.rule.ok = func(v *value) bool { return utf8.RuneCount(v.text()) >= n }
	case "max_length":
		b.rule.text = fmt.Sprintf("must be at most %d characters", n)
		b.rule.ok = func(v *value) bool { return utf8.RuneCount(v.text()) <= n }
	default:
		b.rule.text = fmt.Sprintf("must be exactly %d characters", n)
		b.rule.ok = func(v *value) bool { return utf8.RuneCount(v.text()) == n }
	}
	return nil
}

func textRule(text string, ok func([]byte) bool, schemaFormat string) func(b *ruleBuilder) error {
	return func(b *ruleBuilder) error {
		b.rule.needs = strictjson.String
		b.rule.text = text
		b.rule.ok = func(v *value) bool { return ok(v.text()) }
		if schemaFormat != "" {
			b.describe("format", strictjson.AppendQuote(nil, schemaFormat))
		}
		return nil
	}
}

func (b *ruleBuilder) regex() error {
	expr := b.values[0].text
	re, err := regexp.Compile(expr)
	if err != nil {
		return err
	}
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return err
	}
	if multiline(parsed) {
		return errors.New("the flag m lets a line break end the match: leave it out")
	}
	b.rule.needs = strictjson.String
	b.rule.text = "has invalid format"
	b.rule.ok = func(v *value) bool { return re.Match(v.text()) }
	if portable(expr) {
		b.describe("pattern", strictjson.AppendQuote(nil, expr))
	}
	return nil
}

func multiline(re *syntax.Regexp) bool {
	return re.Op == syntax.OpBeginLine || re.Op == syntax.OpEndLine || slices.ContainsFunc(re.Sub, multiline)
}

func (b *ruleBuilder) affix() error {
	want := b.values[0].text
	quoted := string(strictjson.AppendQuote(nil, want))
	b.rule.needs = strictjson.String
	if b.name == "starts_with" {
		b.rule.text = "must start with " + quoted
		b.rule.ok = func(v *value) bool { return bytes.HasPrefix(v.text(), []byte(want)) }
		b.describe("pattern", strictjson.AppendQuote(nil, "^"+regexp.QuoteMeta(want)))
	} else {
		b.rule.text = "must end with " + quoted
		b.rule.ok = func(v *value) bool { return bytes.HasSuffix(v.text(), []byte(want)) }
		b.describe("pattern", strictjson.AppendQuote(nil, regexp.QuoteMeta(want)+"$"))
	}
	return nil
}

// A literal is a value of a tag that values are compared with.
type literal struct {
	kind   strictjson.Kind
	text   string // what clients read; the value of a string
	number format.Decimal
	strict bool // 1.0 is another than 1: the field's type does not make them the same
}

// literalOf reads a value of the tag as the type of a field.
func literalOf(v tagValue, s *spec) (literal, error) {
	l := literal{kind: strictjson.String, text: v.text}
	switch s.kind {
	case kindString, kindText, kindTime, kindBytes:
		return l, nil
	case kindList, kindMap, kindStruct:
		return l, fmt.Errorf("a field of type %v has no such value", s.typ)
	}
	open := s.kind == kindAny || s.kind == kindCustom
	if open && v.quoted {
		return l, nil
	}
	kind, err := strictjson.Scan([]byte(v.text), nil, nil)
	if strings.TrimSpace(v.text) != v.text {
		kind = strictjson.String
	}
	switch {
	case err == nil && kind == strictjson.Number && s.kind != kindBool:
		l.kind = kind
		l.number = format.ParseDecimal([]byte(v.text))
		l.strict = open
		if (s.kind == kindInt || s.kind == kindUint) && !l.number.IsInteger() {
			return l, fmt.Errorf("%s is not an integer", v.text)
		}
	case err == nil && kind == strictjson.Bool && (open || s.kind == kindBool):
		l.kind = kind
	case !open:
		return l, fmt.Errorf("%q is no value of the type %v", v.text, s.typ)
	}
	return l, nil
}

func (l *literal) json() []byte {
	if l.kind == strictjson.String {
		return strictjson.AppendQuote(nil, l.text)
	}
	return []byte(l.text)
}

func (l *literal) equals(v *value) bool {
	if v.kind != l.kind {
		return false
	}
	switch l.kind {
	case strictjson.String:
		return string(v.text()) == l.text
	case strictjson.Number:
		n := v.number()
		return n.Compare(l.number) == 0 && (!l.strict || n.IsInteger() == l.number.IsInteger())
	}
	return string(v.raw) == l.text
}

func (b *ruleBuilder) in() error {
	literals := make([]literal, len(b.values))
	texts := make([]string, len(b.values))
	enum := []byte("[")
	for i, v := range b.values {
		l, err := literalOf(v, b.spec)
		if err != nil {
			return err
		}
		literals[i], texts[i] = l, l.text
		if i > 0 {
			enum = append(enum, ',')
		}
		enum = append(enum, l.json()...)
	}
	enum = append(enum, ']')
	among := func(v *value) bool {
		return slices.ContainsFunc(literals, func(l literal) bool { return l.equals(v) })
	}
	if b.name == "not_in" {
		b.rule.text = "contains a reserved or blocked value"
		b.rule.ok = func(v *value) bool { return !among(v) }
		b.describe("not", append(append([]byte(`{"enum":`), enum...), '}'))
		return nil
	}
	b.rule.text = "must be one of: " + strings.Join(texts, ", ")
	b.rule.ok = among
	b.describe("enum", enum)
	return nil
}

func (b *ruleBuilder) listOf() error {
	var text string
	suits := numberKinds
	switch item := b.values[0].text; item {
	case "string":
		text, suits = textString, textKinds|kinds(kindBytes, kindTime)
	case "integer":
		text = textInteger
	case "float":
		text = textFloat
	case "number":
		text = textNumber
	case "boolean":
		text, suits = textBoolean, kinds(kindAny, kindCustom, kindBool)
	default:
		return fmt.Errorf("%q is none of string, integer, float, number, boolean", item)
	}
	if b.spec.kind == kindList && suits&(1<<b.spec.elem.kind) == 0 {
		return fmt.Errorf("the type %v has no such items", b.spec.typ)
	}
	b.rule.needs = strictjson.Array
	b.rule.say = func(v *value) string {
		var faults itemFaults
		i := 0
		for item := range strictjson.Elements(v.raw) {
			if present(item) {
				faults.add(i, itemFault(text, item, strictjson.KindOf(item)))
			}
			if len(faults) >= maxFaults {
				break
			}
			i++
		}
		return faults.String()
	}
	item := b.values[0].text
	if item == "float" {
		item = "number"
	}
	b.describe("items", []byte(`{"type":"`+item+`"}`))
	return nil
}

func (b *ruleBuilder) items() error {
	n, raw, err := b.count()
	if err != nil {
		return err
	}
	b.rule.needs = strictjson.Array
	if b.name == "min_items" {
		b.rule.text = fmt.Sprintf("must have at least %d items", n)
		b.rule.ok = func(v *value) bool { return count(v.raw, n) >= n }
		b.describe("minItems", raw)
	} else {
		b.rule.text = fmt.Sprintf("must have at most %d items", n)
		b.rule.ok = func(v *value) bool { return count(v.raw, n+1) <= n }
		b.describe("maxItems", raw)
	}
	return nil
}

// count counts the items of a list, up to most.
func count(list []byte, most int) int {
	n := 0
	for range strictjson.Elements(list) {
		if n == most {
			break
		}
		n++
	}
	return n
}
