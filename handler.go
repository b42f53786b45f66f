package mooncore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// A Handler is a function of an [Action], and the JSON Schemas of its input and output. [Func] makes one.
type Handler struct{ h *handler }

// InputSchema is the JSON Schema (2020-12) of the params: what the types and rules of In say, as far as a schema can. An
// optional field may be null too, which counts as absent; the schema does not say so. It is nil for the zero Handler.
func (h Handler) InputSchema() json.RawMessage {
	if h.h == nil {
		return nil
	}
	return slices.Clone(h.h.input)
}

// OutputSchema is the JSON Schema (2020-12) of the result, {} if Out is any. It is nil for the zero Handler.
func (h Handler) OutputSchema() json.RawMessage {
	if h.h == nil {
		return nil
	}
	return slices.Clone(h.h.output)
}

// Func makes a Handler of fn. Params are validated, then decoded into In: a struct, which is struct{} when fn needs none of
// them, json.RawMessage to get them as they came, to keep but not to change, or a map. Out is anything that has JSON; any when there
// is nothing to say but null. fn finds the rest in its context: the caller, the files and the tenant by [RequestFrom], values of
// middleware by a [Key].
//
// Fields of In declare their constraints in a tag, and their description in another:
//
//	Title string   `json:"title" validate:"required,min_length=2,max_length=200" jsonschema:"shown in lists"`
//	Kind  string   `json:"kind"  validate:"in=a b 'c d'"`
//	Zip   string   `json:"zip"   validate:"required_if=kind a,regex='^[0-9]{5}$'"`
//	Tags  []string `json:"tags"  validate:"max_items=3,each,min_length=2"`
//
// The rules are those of the protocol's table, with its texts. A field's Go type is a rule too, and structs nest. Rules after
// "each" are for the items of a list. Another field is named as in JSON. Only "required" refuses an absent or null field, and
// only those: "" takes min_length=1. New refuses tags that it doesn't understand or that don't suit the field's type.
//
// A value in a tag that holds a comma, a space or a quote stands in single quotes, a quote in it is doubled. For a field of type
// any, 1 and true are a number and a boolean, '1' is a string. Numbers reach fields of type any as [json.Number], so that they stay exact.
//
// If In, or a struct in it, has a method Validate() error, it is called on what the rules let pass, inner ones first; it reports
// by [FieldError] with paths that start at that struct, several faults by [errors.Join]. An empty text is answered as "failed
// custom validation", any error but an [*Error] as internal.
//
// An [*Error] that fn returns is answered. Any other error, and a panic, is logged and answered as internal.
func Func[In, Out any](fn func(ctx context.Context, in In) (Out, error)) Handler {
	if fn == nil {
		return Handler{}
	}
	c := newCompiler(false)
	input := c.input(reflect.TypeFor[In]())
	out := newCompiler(true)
	output := out.spec(reflect.TypeFor[Out](), "")
	h := &handler{input: inputSchema(input), output: schemaOf(output), faults: c.faults, scalars: scalarsOf(input)}
	h.fields = fieldsOf(input)
	h.raw = reflect.TypeFor[In]() == typeRawMessage
	h.decode = func(params json.RawMessage) (any, error) {
		in := new(In)
		if err := decodeInput(input, params, in); err != nil {
			return nil, err
		}
		return in, nil
	}
	h.call = func(ctx context.Context, in any) (any, error) {
		p, ok := in.(*In)
		if !ok {
			return nil, errors.New("mooncore: handler called with params that its decode did not return")
		}
		return fn(ctx, *p)
	}
	return Handler{h}
}

// handler is a Handler without its types.
type handler struct {
	input, output json.RawMessage
	faults        []error // of tags and types, for New

	raw bool // In is json.RawMessage: the params are what decode would return

	// decode validates and decodes params that strictjson.Scan let pass as an object; empty counts as {}. Its errors are *Error.
	// It may panic if a method of the program's types does.
	decode func(params json.RawMessage) (any, error)

	// call calls the function with what decode returned.
	call func(ctx context.Context, in any) (any, error)

	// fields are the top-level fields of In, by JSON name; nil if In is no struct.
	fields map[string]*spec

	// scalars are the top-level fields of In, by JSON name, whose values a query can only hold as text.
	scalars map[string]scalarKind
}

type scalarKind byte

const (
	scalarNumber scalarKind = iota + 1
	scalarBool
)

// literal returns the JSON of a text from a query or path for the top-level field key, if that is a number or boolean. Otherwise
// the text stays a string, which validation then judges.
func (h *handler) literal(key, text string) (string, bool) {
	switch h.scalars[key] {
	case scalarNumber:
		if text == "" || text[0] != '-' && (text[0] < '0' || text[0] > '9') || text[len(text)-1] <= ' ' {
			return "", false
		}
		kind, err := strictjson.Scan([]byte(text), nil, nil)
		return text, err == nil && kind == strictjson.Number
	case scalarBool:
		return text, text == "true" || text == "false"
	}
	return "", false
}

var errInvalidParams = &Error{Code: CodeInvalidArgument, Message: "Invalid params"}

// decodeInput validates params and decodes them into in, a pointer to what input describes.
func decodeInput(input *spec, params []byte, in any) error {
	if input.kind == kindStruct && !input.pointer && len(input.set.fields) == 0 && !input.validates() {
		return nil
	}
	if len(params) == 0 {
		params = []byte("{}")
	}
	to := reflect.Value{}
	if input.plain() {
		to = reflect.ValueOf(in).Elem()
	}
	if err := checkInput(input, params, to); err != nil {
		return err
	}
	if to.IsValid() {
		return validateInput(input, params, in)
	}
	if err := unmarshal(input, params, in); err != nil {
		// The rules let nothing pass that the types don't take, but for surprises of a program's own UnmarshalJSON.
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && e.Field != "" {
			return FieldError(e.Field, textInvalid)
		}
		if e, ok := errors.AsType[*Error](err); ok {
			return e
		}
		return &Error{Code: errInvalidParams.Code, Message: errInvalidParams.Message, Err: err}
	}
	return validateInput(input, params, in)
}

// validateInput calls the program's own Validate methods.
func validateInput(input *spec, params []byte, in any) error {
	if !input.validates() {
		return nil
	}
	return callValidate(input, params, reflect.ValueOf(in).Elem())
}

// unmarshal keeps numbers exact where the type leaves their type open.
func unmarshal(input *spec, params []byte, in any) error {
	if !input.open() {
		return json.Unmarshal(params, in)
	}
	dec := json.NewDecoder(bytes.NewReader(params))
	dec.UseNumber()
	return dec.Decode(in)
}
