package main

import (
	"context"
	"encoding/json"
	"math/big"

	"github.com/mooncore/mooncore"
)

func forms() []mooncore.Action {
	return []mooncore.Action{
		{Name: "form.submit", Allow: mooncore.Public, Handler: mooncore.Func(valid[submitForm])},
		{Name: "form.nested", Allow: mooncore.Public, Handler: mooncore.Func(valid[nestedForm])},
		{Name: "rules", Allow: mooncore.Public, Handler: mooncore.Func(valid[rules])},
	}
}

func valid[In any](context.Context, In) (object, error) { return object{"valid": true}, nil }

type submitForm struct {
	Title    string    `json:"title"    validate:"required,min_length=2,max_length=5"`
	Priority int       `json:"priority" validate:"in=1 2 3"`
	Email    string    `json:"email"    validate:"required,email"`
	Age      int       `json:"age"      validate:"required,positive,between=18 120"`
	Tags     []*string `json:"tags"     validate:"max_items=3"`
}

type nestedForm struct {
	Address *address `json:"address" validate:"required"`
}

type address struct {
	City string `json:"city" validate:"required"`
	Zip  string `json:"zip"  validate:"length=5"`
}

// rules has one field for each validation rule, named after it.
type rules struct {
	Required     any     `json:"required"      validate:"required"`
	OnlyOneOf    any     `json:"only_one_of"   validate:"only_one_of=one_other"`
	OneOther     any     `json:"one_other"`
	String       string  `json:"string"        validate:"string"`
	Integer      any     `json:"integer"       validate:"integer"`
	Float        any     `json:"float"         validate:"float"`
	Number       any     `json:"number"        validate:"number"`
	Boolean      any     `json:"boolean"       validate:"boolean"`
	Min          any     `json:"min"           validate:"min=3"`
	Max          any     `json:"max"           validate:"max=3"`
	Between      any     `json:"between"       validate:"between=1 3"`
	Positive     any     `json:"positive"      validate:"positive"`
	NonNegative  any     `json:"non_negative"  validate:"non_negative"`
	MultipleOf   any     `json:"multiple_of"   validate:"multiple_of=5"`
	MinLength    any     `json:"min_length"    validate:"min_length=3"`
	MaxLength    any     `json:"max_length"    validate:"max_length=3"`
	Length       any     `json:"length"        validate:"length=3"`
	Email        any     `json:"email"         validate:"email"`
	UUID         any     `json:"uuid"          validate:"uuid"`
	URL          any     `json:"url"           validate:"url"`
	ISO8601      any     `json:"iso8601"       validate:"iso8601"`
	Date         any     `json:"date"          validate:"date"`
	Regex        any     `json:"regex"         validate:"regex=^a+$"`
	Trimmed      any     `json:"trimmed"       validate:"trimmed"`
	StartsWith   any     `json:"starts_with"   validate:"starts_with=ab"`
	EndsWith     any     `json:"ends_with"     validate:"ends_with=yz"`
	In           any     `json:"in"            validate:"in=a b 1"`
	NotIn        any     `json:"not_in"        validate:"not_in=root admin"`
	ListOf       any     `json:"list_of"       validate:"list_of=integer"`
	MinItems     any     `json:"min_items"     validate:"min_items=2"`
	MaxItems     any     `json:"max_items"     validate:"max_items=2"`
	Nested       *nested `json:"nested"`
	EqualTo      any     `json:"equal_to"      validate:"equal_to=equal_other"`
	EqualOther   any     `json:"equal_other"`
	GreaterThan  any     `json:"greater_than"  validate:"greater_than=gt_other"`
	GTOther      any     `json:"gt_other"`
	Forbidden    any     `json:"forbidden_with" validate:"forbidden_with=forb_other"`
	ForbOther    any     `json:"forb_other"`
	RequiredIf   any     `json:"required_if"   validate:"required_if=rif_other yes"`
	RIFOther     any     `json:"rif_other"`
	RequiredWith any     `json:"required_with" validate:"required_with=rw_other"`
	RWOther      any     `json:"rw_other"`
	Fn3          any     `json:"fn3"`
}

type nested struct {
	A int    `json:"a" validate:"required"`
	B string `json:"b"`
}

// Validate is the custom rule: fn3 must be even.
func (r rules) Validate() error {
	if r.Fn3 == nil {
		return nil
	}
	n, ok := r.Fn3.(json.Number)
	if i, isInt := new(big.Int).SetString(string(n), 10); ok && isInt && i.Bit(0) == 0 {
		return nil
	}
	return mooncore.FieldError("fn3", "must be even")
}
