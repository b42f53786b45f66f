package mooncore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// handlerOf makes the handler of an input type.
func handlerOf[In any](t testing.TB) *handler {
	t.Helper()
	h := Func(func(_ context.Context, in In) (In, error) { return in, nil }).h
	for _, fault := range h.faults {
		t.Errorf("fault: %v", fault)
	}
	return h
}

// verdict validates params and returns the faults of fields, "field: text" by field, or the error.
func verdict(h *handler, params string) string {
	_, err := h.decode(json.RawMessage(params))
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return fmt.Sprintf("%T", err)
	}
	if e.Code != CodeValidationFailed || e.Message != "validation_failed" || len(e.Fields) == 0 {
		return string(e.Code) + ": " + e.Message
	}
	var lines []string
	for _, field := range slices.Sorted(maps.Keys(e.Fields)) {
		lines = append(lines, field+": "+strings.Join(e.Fields[field], " + "))
	}
	return strings.Join(lines, "; ")
}

// ruleFields has one field for each rule, as CONFORMANCE.md says of the action rules.
type ruleFields struct {
	Required     any        `json:"required" validate:"required"`
	OnlyOneOf    any        `json:"only_one_of" validate:"only_one_of=one_other"`
	OneOther     any        `json:"one_other"`
	String       any        `json:"string" validate:"string"`
	Integer      any        `json:"integer" validate:"integer"`
	Float        any        `json:"float" validate:"float"`
	Number       any        `json:"number" validate:"number"`
	Boolean      any        `json:"boolean" validate:"boolean"`
	Min          any        `json:"min" validate:"min=3"`
	Max          any        `json:"max" validate:"max=3"`
	Between      any        `json:"between" validate:"between=1 3"`
	Positive     any        `json:"positive" validate:"positive"`
	NonNegative  any        `json:"non_negative" validate:"non_negative"`
	MultipleOf   any        `json:"multiple_of" validate:"multiple_of=5"`
	MinLength    any        `json:"min_length" validate:"min_length=3"`
	MaxLength    any        `json:"max_length" validate:"max_length=3"`
	Length       any        `json:"length" validate:"length=3"`
	Email        any        `json:"email" validate:"email"`
	UUID         any        `json:"uuid" validate:"uuid"`
	URL          any        `json:"url" validate:"url"`
	ISO8601      any        `json:"iso8601" validate:"iso8601"`
	Date         any        `json:"date" validate:"date"`
	Regex        any        `json:"regex" validate:"regex=^a+$"`
	Trimmed      any        `json:"trimmed" validate:"trimmed"`
	StartsWith   any        `json:"starts_with" validate:"starts_with=ab"`
	EndsWith     any        `json:"ends_with" validate:"ends_with=yz"`
	In           any        `json:"in" validate:"in=a b 1"`
	NotIn        any        `json:"not_in" validate:"not_in=root admin"`
	ListOf       any        `json:"list_of" validate:"list_of=integer"`
	MinItems     any        `json:"min_items" validate:"min_items=2"`
	MaxItems     any        `json:"max_items" validate:"max_items=2"`
	Nested       *ruleInner `json:"nested"`
	EqualTo      any        `json:"equal_to" validate:"equal_to=equal_other"`
	EqualOther   any        `json:"equal_other"`
	GreaterThan  any        `json:"greater_than" validate:"greater_than=gt_other"`
	GtOther      any        `json:"gt_other"`
	Forbidden    any        `json:"forbidden_with" validate:"forbidden_with=forb_other"`
	ForbOther    any        `json:"forb_other"`
	RequiredIf   any        `json:"required_if" validate:"required_if=rif_other yes"`
	RifOther     any        `json:"rif_other"`
	RequiredWith any        `json:"required_with" validate:"required_with=rw_other"`
	RwOther      any        `json:"rw_other"`
	Fn3          any        `json:"fn3"`
}

type ruleInner struct {
	A int    `json:"a" validate:"required"`
	B string `json:"b"`
}

func (r *ruleFields) Validate() error {
	if r.Fn3 == nil {
		return nil
	}
	number, _ := r.Fn3.(json.Number)
	if n, ok := new(big.Int).SetString(number.String(), 10); ok && n.Bit(0) == 0 {
		return nil
	}
	return FieldError("fn3", "must be even")
}

func TestRules(t *testing.T) {
	h := handlerOf[ruleFields](t)
	const (
		str, number, list = "must be a string", "must be a number", "must be a list"
		integer           = "must be an integer"
	)
	for _, tt := range []struct {
		field string
		text  string
		good  string // JSON values, by spaces
		bad   string
		other map[string]string // the values with another text
	}{
		{"string", str, `"" "a"`, `5 true {} []`, nil},
		{"integer", integer, `0 -1 -0 123456789012345678901234567890`, `1.0 1e2 "1" true [1]`, nil},
		{"float", "must be a float", `1 1.5 -1e9 1e999999999`, `"1.5" true`, nil},
		{"number", number, `5 1.5 1e2`, `"5" false {}`, nil},
		{"boolean", "must be a boolean", `true false`, `0 1 "true" []`, nil},
		{"min", "must be at least 3", `3 3.0 4 1e999999999 30e-1`, `2 2.9999999999999999999999 -1e999999999 1e-999999999`,
			map[string]string{`"abc"`: number, `true`: number, `[]`: number}},
		{"max", "must be at most 3", `3 -5 2.9`, `3.0000000000000000000000001 1e99`, map[string]string{`"1"`: number}},
		{"between", "must be between 1 and 3", `1 2.5 3`, `0 3.1 0.999`, map[string]string{`"2"`: number}},
		{"positive", "must be positive", `1 0.1 1e-999999999`, `0 -1 0.0 -0`, map[string]string{`"1"`: number}},
		{"non_negative", "must be non-negative", `0 1 -0`, `-1 -0.1`, map[string]string{`"1"`: number}},
		{"multiple_of", "must be a multiple of 5", `0 5 -10 1e1 15.0`, `1 5.5 7e0 123456789012345678901234567891`,
			map[string]string{`"5"`: number}},
		{"min_length", "must be at least 3 characters", `"abc" "žlu" "😀😀😀"`, `"" "ab" "😀😀" "\u00e9\u00e9"`,
			map[string]string{`5`: str, `[1,2,3]`: str}},
		{"max_length", "must be at most 3 characters", `"" "abc" "😀😀😀"`, `"abcd" "e\u0301e\u0301"`, map[string]string{`5`: str}},
		{"length", "must be exactly 3 characters", `"abc" "\u00e9\ud83d\ude00a"`, `"ab" "abcd" ""`, map[string]string{`123`: str}},
		{"email", "must be a valid email address", `"a@b.c"`, `"" "a" "a@b" "@b.c" "a@@b.c"`, map[string]string{`5`: str}},
		{"uuid", "must be a valid UUID", `"018F3b0a-1c2d-7e3f-8a4b-5c6d7e8f9a0b"`, `"" "018f3b0a1c2d7e3f8a4b5c6d7e8f9a0b"`,
			map[string]string{`5`: str}},
		{"url", "must be a valid URL", `"http://a.b" "https://x/y?z"`, `"" "http://" "http://.x" "ftp://a.b" "a.b" "//a.b"`,
			map[string]string{`5`: str}},
		{"iso8601", "must be a valid ISO 8601 datetime", `"2024-02-29T00:00:00Z" "2024-02-29T00:00:00.5+01:00"`,
			`"" "2024-02-29" "2024-02-29T00:00:00"`,
			map[string]string{`5`: str}},
		{"date", "must be a valid date (YYYY-MM-DD)", `"2024-02-29"`, `"" "2023-02-29" "20240229"`, map[string]string{`20240229`: str}},
		{"regex", "has invalid format", `"a" "aaa"`, `"" "b" "a\n" "a\nb"`, map[string]string{`5`: str}},
		{"trimmed", "must not have leading or trailing whitespace", `"" "a"`, `"\u00a0a" "a\n" "\u3000"`, map[string]string{`5`: str}},
		{"starts_with", `must start with "ab"`, `"ab" "abc"`, `"" "AB" "a"`, map[string]string{`5`: str}},
		{"ends_with", `must end with "yz"`, `"yz" "xyz"`, `"" "yzx" "YZ"`, map[string]string{`5`: str}},
		{"in", "must be one of: a, b, 1", `"a" "b" 1 "\u0061"`, `"" "c" "1" 2 1.0 true [] {}`, nil},
		{"not_in", "contains a reserved or blocked value", `"" "user" "Root" 5 []`, `"root" "admin" "\u0072oot"`, nil},
		{"list_of", "", `[] [1] [1,2] [null]`, ``, map[string]string{`5`: list, `"x"`: list, `{}`: list, `[1,"a"]`: "index 1: " + integer,
			`["a",null,1.5]`: "index 0: " + integer + "; index 2: " + integer, `[1,2,3.5]`: "index 2: " + integer}},
		{"min_items", "must have at least 2 items", `[1,2] [[],{}]`, `[] [1]`, map[string]string{`"x"`: list, `2`: list}},
		{"max_items", "must have at most 2 items", `[] [1,2]`, `[1,2,3]`, map[string]string{`"x"`: list}},
		{"fn3", "must be even", `2 -4 123456789012345678901234567890`, `3 "2" 2.0 123456789012345678901234567891`, nil},
	} {
		t.Run(tt.field, func(t *testing.T) {
			try := func(value, text string) {
				t.Helper()
				want := ""
				if text != "" {
					want = tt.field + ": " + text
				}
				params := fmt.Sprintf(`{"required":1,"one_other":1,"%s":%s}`, tt.field, value)
				if got := verdict(h, params); got != want {
					t.Errorf("%s: got %q; want %q", value, got, want)
				}
			}
			try("null", "")
			for value := range strings.FieldsSeq(tt.good) {
				try(value, "")
			}
			for value := range strings.FieldsSeq(tt.bad) {
				try(value, tt.text)
			}
			for value, text := range tt.other {
				try(value, text)
			}
		})
	}
}

func TestRulesAboutOtherFields(t *testing.T) {
	h := handlerOf[ruleFields](t)
	for _, tt := range []struct{ params, want string }{
		{``, "required: is required"},
		{`"required":null`, "required: is required"},
		{`"required":""`, ""},
		{`"required":0`, ""},
		{`"required":false`, ""},
		{`"required":1,"one_other":null`, "only_one_of: exactly one of only_one_of or one_other must be present"},
		{`"required":1,"only_one_of":null,"one_other":null`, "only_one_of: exactly one of only_one_of or one_other must be present"},
		{`"required":1,"only_one_of":1,"one_other":1`, "only_one_of: exactly one of only_one_of or one_other must be present"},
		{`"required":1,"only_one_of":"","one_other":null`, ""},
		{`"equal_to":1`, "equal_to: must equal equal_other"},
		{`"equal_to":1,"equal_other":null`, "equal_to: must equal equal_other"},
		{`"equal_to":null,"equal_other":1`, ""},
		{`"equal_to":"a","equal_other":"\u0061"`, ""},
		{`"equal_to":"a","equal_other":"b"`, "equal_to: must equal equal_other"},
		{`"equal_to":1,"equal_other":1.0`, ""},
		{`"equal_to":1,"equal_other":"1"`, "equal_to: must equal equal_other"},
		{`"equal_to":123456789012345678901,"equal_other":123456789012345678902`, "equal_to: must equal equal_other"},
		{`"equal_to":{"a":1,"b":[2]},"equal_other":{"b":[2],"a":1}`, ""},
		{`"equal_to":[1,2],"equal_other":[2,1]`, "equal_to: must equal equal_other"},
		{`"equal_to":true,"equal_other":false`, "equal_to: must equal equal_other"},
		{`"greater_than":1`, ""},
		{`"greater_than":1,"gt_other":null`, ""},
		{`"greater_than":2,"gt_other":1`, ""},
		{`"greater_than":1,"gt_other":1`, "greater_than: must be greater than gt_other"},
		{`"greater_than":9007199254740993,"gt_other":9007199254740992`, ""},
		{`"greater_than":1e999999999,"gt_other":1e999999998`, ""},
		{`"greater_than":"b","gt_other":"a"`, ""},
		{`"greater_than":"a","gt_other":"b"`, "greater_than: must be greater than gt_other"},
		{`"greater_than":"2","gt_other":1`, "greater_than: must be a number"},
		{`"greater_than":2,"gt_other":"1"`, "greater_than: gt_other must be a number"},
		{`"greater_than":true,"gt_other":false`, "greater_than: must be greater than gt_other"},
		{`"forbidden_with":1,"forb_other":1`, "forbidden_with: cannot be present together with forb_other"},
		{`"forbidden_with":1,"forb_other":null`, ""},
		{`"forbidden_with":null,"forb_other":1`, ""},
		{`"rif_other":"yes"`, "required_if: is required when rif_other is yes"},
		{`"rif_other":"yes","required_if":null`, "required_if: is required when rif_other is yes"},
		{`"rif_other":"yes","required_if":""`, ""},
		{`"rif_other":"no"`, ""},
		{`"rif_other":null`, ""},
		{`"rw_other":0`, "required_with: is required when rw_other is present"},
		{`"rw_other":null`, ""},
		{`"rw_other":0,"required_with":false`, ""},
		{`"nested":{}`, "nested.a: is required"},
		{`"nested":5`, "nested: must be an object"},
		{`"nested":null`, ""},
		{`"nested":{"a":"1","b":2}`, "nested.a: must be an integer; nested.b: must be a string"},
		{`"nested":{"a":1,"b":null,"c":[]}`, ""},
		{`"min":1,"max":9,"fn3":3`, "max: must be at most 3; min: must be at least 3"},
		{`"unknown":1`, ""},
		{`"Min":5`, `invalid_argument: key "Min" differs from "min" only in case`},
		{`"mın":5`, ""}, // a dotless i is another letter
		{`"ſtring":5`, `invalid_argument: key "ſtring" differs from "string" only in case`},
		{`"min":1,"nested":{"A":1}`, `invalid_argument: key "A" differs from "a" only in case in nested`},
	} {
		params := "{" + tt.params + "}"
		switch {
		case tt.params == "":
			params = `{"one_other":1}`
		case strings.HasPrefix(tt.params, `"required":1`):
		case strings.HasPrefix(tt.params, `"required"`):
			params = `{"one_other":1,` + tt.params + "}"
		default:
			params = `{"required":1,"one_other":1,` + tt.params + "}"
		}
		if got := verdict(h, params); got != tt.want {
			t.Errorf("%s: got %q; want %q", params, got, tt.want)
		}
	}
	if got := verdict(h, ""); got != "only_one_of: exactly one of only_one_of or one_other must be present; required: is required" {
		t.Errorf("no params: %q", got)
	}
}

// Inputs of CONFORMANCE.md: task.create, form.submit, form.nested.
type (
	taskForm struct {
		Title string `json:"title" validate:"required,min_length=2"`
	}
	submitForm struct {
		Title    string   `json:"title" validate:"required,min_length=2,max_length=5"`
		Priority int      `json:"priority" validate:"in=1 2 3"`
		Email    string   `json:"email" validate:"required,email"`
		Age      int      `json:"age" validate:"required,positive,between=18 120"`
		Tags     []string `json:"tags" validate:"max_items=3"`
	}
	nestedForm struct {
		Address struct {
			City string `json:"city" validate:"required"`
			Zip  string `json:"zip" validate:"length=5"`
		} `json:"address" validate:"required"`
	}
)

func TestForms(t *testing.T) {
	task, submit, nested := handlerOf[taskForm](t), handlerOf[submitForm](t), handlerOf[nestedForm](t)
	const good = `"title":"Milk","email":"a@b.c","age":30`
	for _, tt := range []struct {
		h            *handler
		params, want string
	}{
		{task, `{"action":"task.create","title":"Milk"}`, ""},
		{task, `{"title":null}`, "title: is required"},
		{task, `{"title":"a"}`, "title: must be at least 2 characters"},
		{task, `{"title":5}`, "title: must be a string"},
		{task, `{}`, "title: is required"},
		{submit, `{` + good + `}`, ""},
		{submit, `{` + good + `,"priority":2,"tags":["a","b","c"]}`, ""},
		{submit, `{}`, "age: is required; email: is required; title: is required"},
		{submit, `{"title":5,"email":5,"age":"x","priority":"1","tags":"a"}`,
			"age: must be an integer; email: must be a string; priority: must be an integer; tags: must be a list; title: must be a string"},
		{submit, `{"title":"toolong","email":"a","age":-1,"priority":4,"tags":["a","b","c","d"]}`,
			"age: must be positive; email: must be a valid email address; priority: must be one of: 1, 2, 3; tags: must have at most 3 items; " +
				"title: must be at most 5 characters"},
		{submit, `{"title":"ab","email":"a@b.c","age":17}`, "age: must be between 18 and 120"},
		{submit, `{"title":"ab","email":"a@b.c","age":99999999999999999999}`, "age: must be between 18 and 120"},
		{submit, `{"title":"ab","email":"a@b.c","age":18.0}`, "age: must be an integer"},
		{submit, `{` + good + `,"tags":["a",1]}`, "tags: index 1: must be a string"},
		{submit, `{` + good + `,"tags":["a",null,"b","c"]}`, "tags: index 1: must be a string"},
		{submit, `{` + good + `,"tags":null,"priority":null}`, ""},
		{nested, `{}`, "address: is required"},
		{nested, `{"address":null}`, "address: is required"},
		{nested, `{"address":"x"}`, "address: must be an object"},
		{nested, `{"address":{}}`, "address.city: is required"},
		{nested, `{"address":{"city":5,"zip":"1"}}`, "address.city: must be a string; address.zip: must be exactly 5 characters"},
		{nested, `{"address":{"city":"Wien","zip":"12345"}}`, ""},
		{nested, `{"address":{"city":"Wien","City":"Graz"}}`, `invalid_argument: key "City" differs from "city" only in case in address`},
	} {
		if got := verdict(tt.h, tt.params); got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.params, got, tt.want)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Run("struct", func(t *testing.T) {
		in := decodeAs[typedFields](t, `{"any":123456789012345678901234567890,"raw":3,"s":"a, 'bc","list":[2],"inner":"xy","I8":1}`, true)
		if in != nil {
			t.Error("a variant of a key in another case passed")
		}
		in = decodeAs[typedFields](t, `{"any":123456789012345678901234567890,"raw":3,"s":"a, 'bc","list":[2],"inner":"xy"}`, false)
		if in.Any != json.Number("123456789012345678901234567890") || string(in.Raw) != "3" || *in.S != "a, 'bc" || in.Inner != "xy" {
			t.Errorf("got %+v", in)
		}
	})
	t.Run("pointer", func(t *testing.T) {
		in := *decodeAs[*taskForm](t, `{"title":"Milk"}`, false)
		if in == nil || in.Title != "Milk" {
			t.Errorf("got %+v", in)
		}
		if decodeAs[*taskForm](t, ``, true) != nil {
			t.Error("no params passed")
		}
	})
	t.Run("nothing", func(t *testing.T) {
		decodeAs[struct{}](t, `{"a":1}`, false)
	})
	t.Run("raw", func(t *testing.T) {
		const params = `{"b":1, "a":1.0}`
		if in := decodeAs[json.RawMessage](t, params, false); string(*in) != params {
			t.Errorf("got %s", *in)
		}
	})
	t.Run("any", func(t *testing.T) {
		in := decodeAs[any](t, `{"a":1.0}`, false)
		if m, ok := (*in).(map[string]any); !ok || m["a"] != json.Number("1.0") {
			t.Errorf("got %v", *in)
		}
	})
	t.Run("map of any", func(t *testing.T) {
		if in := decodeAs[map[string]any](t, ``, false); *in == nil || len(*in) != 0 {
			t.Errorf("got %v", *in)
		}
	})
	t.Run("map of strings", func(t *testing.T) {
		if in := decodeAs[map[string]string](t, `{"a":"b"}`, false); (*in)["a"] != "b" {
			t.Errorf("got %v", *in)
		}
		if got := verdict(handlerOf[map[string]string](t), `{"a":1}`); got != "a: must be a string" {
			t.Errorf("got %q", got)
		}
	})
}

func decodeAs[In any](t *testing.T, params string, fails bool) *In {
	t.Helper()
	in, err := handlerOf[In](t).decode(json.RawMessage(params))
	if (err != nil) != fails {
		t.Fatalf("%s: %v", params, err)
	}
	if err != nil {
		return nil
	}
	return in.(*In)
}

func TestCallAndNil(t *testing.T) {
	h := Func(func(_ context.Context, in taskForm) (string, error) { return in.Title + "!", nil })
	in, err := h.h.decode(json.RawMessage(`{"title":"Milk"}`))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := h.h.call(t.Context(), in); out != "Milk!" || err != nil {
		t.Errorf("got %v, %v", out, err)
	}
	if _, err := h.h.call(t.Context(), nil); err == nil {
		t.Error("a call with nothing decoded passed")
	}
	var none func(context.Context, taskForm) (string, error)
	if h := Func(none); h.h != nil || h.InputSchema() != nil || h.OutputSchema() != nil {
		t.Error("Func(nil) is not the zero Handler")
	}
}

type customForm struct {
	Low    int                   `json:"low"`
	High   int                   `json:"high" validate:"max=100"`
	Kind   string                `json:"kind"`
	One    customPart            `json:"one"`
	Two    *customPart           `json:"two"`
	Parts  []customPart          `json:"parts"`
	ByName map[string]customPart `json:"by_name"`
}

func (in customForm) Validate() error {
	switch in.Kind {
	case "join":
		return errors.Join(FieldError("low", "is low"), FieldError("high", "is high"), FieldError("low", "very low"))
	case "empty":
		return FieldError("low", "")
	case "plain":
		return errors.New("database is gone")
	case "mixed":
		return errors.Join(FieldError("low", "is low"), errors.New("database is gone"))
	case "code":
		return Errorf(CodePermissionDenied, "not you")
	case "wrapped":
		return fmt.Errorf("wrapped: %w", FieldError("parts.0.n", "x"))
	case "whole":
		return FieldError("", "is no pair")
	}
	if in.High < in.Low {
		return FieldError("high", "must not be below low")
	}
	return nil
}

type customPart struct {
	N int `json:"n"`
}

func (p *customPart) Validate() error {
	if p.N < 0 {
		return FieldError("n", "is below zero")
	}
	p.N++
	return nil
}

func TestCustomValidation(t *testing.T) {
	h := handlerOf[customForm](t)
	for _, tt := range []struct{ params, want string }{
		{`{}`, ""},
		{`{"low":2,"high":1}`, "high: must not be below low"},
		{`{"low":200,"high":101}`, "high: must be at most 100"},
		{`{"kind":"join"}`, "high: is high; low: is low + very low"},
		{`{"kind":"empty"}`, "low: failed custom validation"},
		{`{"kind":"plain"}`, "internal: "},
		{`{"kind":"mixed"}`, "internal: "},
		{`{"kind":"code"}`, "permission_denied: not you"},
		{`{"kind":"wrapped"}`, "parts.0.n: x"},
		{`{"kind":"whole"}`, ": is no pair"},
		{`{"low":2,"high":1,"one":{"n":-1},"two":{"n":-1},"parts":[{},{"n":-1}],"by_name":{"x":{"n":-1},"y":{}}}`,
			"by_name.x.n: is below zero; one.n: is below zero; parts.1.n: is below zero; two.n: is below zero"},
		{`{"two":null,"parts":null,"by_name":null,"one":null}`, ""},
	} {
		if got := verdict(h, tt.params); got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.params, got, tt.want)
		}
	}
	in := decodeAs[customForm](t, `{"two":{"n":1},"parts":[{"n":1}],"by_name":{"x":{"n":1}}}`, false)
	if in.One.N != 0 || in.Two.N != 2 || in.Parts[0].N != 2 || in.ByName["x"].N != 2 {
		t.Errorf("what Validate changed is lost: %+v", in)
	}
}

func TestLiteral(t *testing.T) {
	h := handlerOf[typedFields](t)
	for _, tt := range []struct {
		key, text, want string
		ok              bool
	}{
		{"i8", "12", "12", true},
		{"i8", "-1.5e3", "-1.5e3", true},
		{"i8", "x", "", false},
		{"i8", "", "", false},
		{"i8", " 1", "", false},
		{"i8", "1 ", "", false},
		{"i8", "01", "", false},
		{"i8", "+1", "", false},
		{"b", "true", "true", true},
		{"b", "1", "", false},
		{"raw", "1", "1", true},
		{"s", "1", "", false},
		{"any", "1", "", false},
		{"list", "1", "", false},
		{"unknown", "1", "", false},
	} {
		if got, ok := h.literal(tt.key, tt.text); ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s=%q: got %q, %v; want %q, %v", tt.key, tt.text, got, ok, tt.want, tt.ok)
		}
	}
	rules := handlerOf[ruleFields](t)
	for field, want := range map[string]scalarKind{
		"integer": scalarNumber, "float": scalarNumber, "boolean": scalarBool, "min": scalarNumber, "string": 0, "in": 0,
	} {
		if got := rules.scalars[field]; got != want {
			t.Errorf("%s is scalar kind %v; want %v", field, got, want)
		}
	}
}

type flat struct {
	Title    string `json:"title" validate:"required,trimmed,min_length=2,max_length=200"`
	Priority int    `json:"priority" validate:"between=1 3"`
	Kind     string `json:"kind" validate:"in=a b c"`
	Done     bool   `json:"done"`
	Email    string `json:"email" validate:"email"`
	Zip      string `json:"zip" validate:"regex='^[0-9]{5}$'"`
	Link     string `json:"link" validate:"forbidden_with=done"`
}

const flatParams = `{"action":"task.create","title":"Milk","priority":2,"kind":"b","done":true,"email":"a@b.c","zip":"12345"}`

func TestValidationAllocatesNothing(t *testing.T) {
	input := newCompiler(false).input(reflect.TypeFor[flat]())
	params := []byte(flatParams)
	var c checker
	if n := testing.AllocsPerRun(100, func() {
		if text := c.check(input, params, nil, reflect.Value{}); text != "" || c.faults != nil || c.err != nil {
			t.Fatal(text, c.faults, c.err)
		}
		c.reset()
	}); n != 0 {
		t.Errorf("%v allocations; want 0", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	h := handlerOf[flat](b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.decode(json.RawMessage(flatParams)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		in := new(flat)
		if err := json.Unmarshal([]byte(flatParams), in); err != nil {
			b.Fatal(err)
		}
	}
}
