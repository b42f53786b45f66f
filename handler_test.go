package mooncore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// faultsOf returns what New would report of the tags of an input type.
func faultsOf[In any]() string {
	h := Func(func(_ context.Context, in In) (any, error) { return nil, nil }).h
	return errorText(h.faults)
}

func errorText(faults []error) string {
	if err := errors.Join(faults...); err != nil {
		return err.Error()
	}
	return ""
}

func TestTagFaults(t *testing.T) {
	for _, tt := range []struct {
		typ       any
		tag, want string
	}{
		{"", `min_lenght=2`, `unknown rule "min_lenght"`},
		{"", `Required`, `unknown rule "Required"`},
		{"", `min=3`, "rule min does not suit the type string"},
		{0, `min_length=3`, "rule min_length does not suit the type int"},
		{0, `boolean`, "rule boolean does not suit the type int"},
		{0, `email`, "rule email does not suit the type int"},
		{false, `in=1`, `rule in: "1" is no value of the type bool`},
		{0, `in=1 x`, `rule in: "x" is no value of the type int`},
		{0, `in=1.5`, "rule in: 1.5 is not an integer"},
		{[]int{}, `in=1`, "rule in does not suit the type []int"},
		{[]int{}, `length=1`, "rule length does not suit the type []int"},
		{[]int{}, `list_of=string`, "rule list_of: the type []int has no such items"},
		{[]any{}, `list_of=integers`, `rule list_of: "integers" is none of string, integer, float, number, boolean`},
		{map[string]int{}, `min_items=1`, "rule min_items does not suit the type map[string]int"},
		{"", `each,min_length=1`, "each: does not suit the type string"},
		{[]string{}, `each,min=1`, "rule min does not suit the type string"},
		{[]string{}, `each=1`, "each: takes no value"},
		{[]string{}, `each,equal_to=other`, "rule equal_to: items have no other fields"},
		{time.Time{}, `greater_than=other`, "rule greater_than does not suit the type time.Time"},
		{"", `min_length`, "rule min_length takes 1 values, not 0"},
		{"", `min_length=1 2`, "rule min_length takes 1 values, not 2: put a value that holds spaces in single quotes"},
		{"", `min_length=-1`, `rule min_length: "-1" is not a number of characters or items`},
		{"", `min_length=x`, `rule min_length: "x" is not a number of characters or items`},
		{"", `email=1`, "rule email takes no value"},
		{"", `in`, "rule in takes a value"},
		{"", `in=`, "rule in: no value after ="},
		{0, `min=x`, `rule min: "x" is not a number`},
		{0, `min=+1`, `rule min: "+1" is not a number`},
		{0, `min=' 1'`, `rule min: " 1" is not a number`},
		{0, `between=3 1`, "rule between: 3 is more than 1"},
		{0, `between=3`, "rule between takes 2 values, not 1"},
		{0, `multiple_of=0`, "rule multiple_of: 0 is not above zero, or has more than 18 digits"},
		{0, `multiple_of=-5`, "rule multiple_of: -5 is not above zero, or has more than 18 digits"},
		{"", `regex=(`, "rule regex: error parsing regexp: missing closing ): `(`"},
		{"", `regex=(?m)^a$`, "rule regex: the flag m lets a line break end the match: leave it out"},
		{"", `required,required`, "rule required stands twice"},
		{"", `equal_to=nothing`, `rule equal_to: no field has the JSON name "nothing"`},
		{"", `equal_to=Other`, `rule equal_to: no field has the JSON name "Other"`},
		{"", `equal_to=f`, "rule equal_to: the field names itself"},
		{"", `only_one_of=other other`, `rule only_one_of: "other" stands twice`},
		{"", `required_if=other`, "rule required_if takes 2 values, not 1"},
		{"", `required_if=other x`, `rule required_if: "x" is no value of the type int`},
		{"", `required_if=list x`, "rule required_if: a field of type []string has no such value"},
		{0, `greater_than=list`, "rule greater_than: does not suit the type []string of list"},
		{"", `required,`, "a rule without a name"},
		{"", `,required`, "a rule without a name"},
		{"", `required,,email`, "a rule without a name"},
		{"", `in='a`, "rule in: a single quote has no partner"},
		{"", `in='a'b`, `rule in: "b" after a closing quote`},
		{"", `in=don't`, "rule in: a quote in don't: put the value in single quotes, and double the quote"},
		{"", `required email`, `unknown rule "required email"`},
		// These are well-formed.
		{"", ` required , email `, ""},
		{"", ``, ""},
		{"", `in=a  'b, c' '' 'don''t'`, ""},
		{"", `regex=^(?i)a+$`, ""},
		{[]string{}, `min_items=1,required,each,required,min_length=1,in=a b`, ""},
		{(*int)(nil), `min=1.5,multiple_of=0.5,in=1 2`, ""},
		{json.Number(""), `integer,min=1`, ""},
		{any(nil), `each,each,min=1`, ""},
	} {
		typ := reflect.TypeOf(tt.typ)
		if typ == nil {
			typ = reflect.TypeFor[any]()
		}
		c := newCompiler(false)
		c.input(reflect.StructOf([]reflect.StructField{
			{Name: "F", Type: typ, Tag: reflect.StructTag(fmt.Sprintf(`json:"f" validate:%q`, tt.tag))},
			{Name: "Other", Type: reflect.TypeFor[int](), Tag: `json:"other"`},
			{Name: "List", Type: reflect.TypeFor[[]string](), Tag: `json:"list"`},
		}))
		want := tt.want
		if want != "" {
			want = "field F: validate: " + want
		}
		if got := errorText(c.faults); got != want {
			t.Errorf("%s on %v: got %q; want %q", tt.tag, typ, got, want)
		}
	}
}

type embeddedPointer struct{ A int }

type withValidate struct{ A int }

func (withValidate) Validate() error { return nil }

type withValidateToo struct{ B int }

func (withValidateToo) Validate() error { return nil }

type validMap map[string]int

func (validMap) Validate() error { return nil }

type selfMap map[string]selfMap

type opaque struct {
	A int `validate:"min=1"`
}

func (*opaque) UnmarshalJSON([]byte) error { return nil }

type Node struct {
	Value string `json:"value" validate:"required"`
	Next  *Node  `json:"next"`
}

func TestTypeFaults(t *testing.T) {
	for _, tt := range []struct{ name, got, want string }{
		{"nested", faultsOf[struct {
			Address struct {
				City string `json:"city" validate:"mandatory"`
			}
		}](), `field Address.City: validate: unknown rule "mandatory"`},
		{"in a list", faultsOf[struct {
			Items []struct {
				City string `json:"city" validate:"mandatory"`
			}
		}](), `field Items.City: validate: unknown rule "mandatory"`},
		{"name twice but for case", faultsOf[struct {
			A int `json:"x"`
			X int
		}](), `field X: JSON name "X" differs from "x" of A only in case`},
		{"embedded name twice", faultsOf[struct {
			embedded
			Inner int `json:"inner"`
		}](), `field Inner: JSON name "inner" is that of Inner too`},
		{"embedded pointer", faultsOf[struct{ *embeddedPointer }](),
			"field embeddedPointer: encoding/json cannot set an embedded pointer to a type that is not exported"},
		{"exported embedded pointer", faultsOf[struct{ *Node }](), ""},
		{"not exported", faultsOf[struct {
			a int `validate:"min=1"`
		}](), "field a: the validate tag has no effect: the field is not exported"},
		{"no JSON", faultsOf[struct {
			A int `json:"-" validate:"min=1"`
		}](), "field A: the validate tag has no effect: the field has no JSON"},
		{"named dash", faultsOf[struct {
			A int `json:"-," validate:"min=1"`
		}](), ""},
		{"string option", faultsOf[struct {
			A int `json:"a,string"`
		}](), "field A: json: the option string is not supported"},
		{"bad name", faultsOf[struct {
			A int `json:"a\\b"`
		}](), `field A: json: encoding/json ignores the name "a\\b"`},
		{"channel", faultsOf[struct{ A chan int }](), "field A: type chan int has no JSON"},
		{"interface", faultsOf[struct{ A io.Reader }](), "field A: type io.Reader: JSON cannot become an interface with methods"},
		{"map key", faultsOf[struct{ A map[int]int }](), "field A: type map[int]int: keys must be plain strings"},
		{"unmarshaler", faultsOf[struct{ O opaque }](), "field O.A: the validate tag has no effect: mooncore.opaque has UnmarshalJSON"},
		{"map of itself", faultsOf[selfMap](), "type mooncore.selfMap holds itself without a struct between"},
		{"string as In", faultsOf[string](), "In is string: params are a JSON object, so it must be a struct, a map, json.RawMessage or any"},
		{"list as In", faultsOf[[]int](), "In is []int: params are a JSON object, so it must be a struct, a map, json.RawMessage or any"},
		{"Validate on a map", faultsOf[validMap](), "In is mooncore.validMap: Validate is only called on structs that encoding/json decodes"},
		{"Validate twice", faultsOf[struct {
			withValidate
			withValidateToo
		}](), "struct { mooncore.withValidate; mooncore.withValidateToo } embeds several types with Validate and has none: none would be called"},
		{"recursive", faultsOf[Node](), ""},
		{"any", faultsOf[any]() + faultsOf[map[string]any]() + faultsOf[json.RawMessage]() + faultsOf[struct{}]() + faultsOf[*Node](), ""},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, tt.got, tt.want)
		}
	}

	// These are what go vet finds too.
	for _, tt := range []struct {
		name, want string
		tags       []reflect.StructTag
	}{
		{"malformed", "field A: malformed struct tag", []reflect.StructTag{`json:"a", validate:"min=1"`}},
		{"no quotes", "field A: malformed struct tag", []reflect.StructTag{`validate:min=1`}},
		{"name twice", `field B: JSON name "x" is that of A too`, []reflect.StructTag{`json:"x"`, `json:"x"`}},
	} {
		var fields []reflect.StructField
		for i, tag := range tt.tags {
			fields = append(fields, reflect.StructField{Name: string(rune('A' + i)), Type: reflect.TypeFor[int](), Tag: tag})
		}
		c := newCompiler(false)
		c.input(reflect.StructOf(fields))
		if got := errorText(c.faults); got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
	}
}

type result struct {
	ID      int64             `json:"id"`
	When    time.Time         `json:"when"`
	Tags    []string          `json:"tags"`
	Owner   *Node             `json:"owner"`
	Sizes   [2]int            `json:"sizes"`
	Extra   map[string]any    `json:"extra,omitempty"`
	Any     any               `json:"any"`
	Err     json.RawMessage   `json:"raw"`
	Secret  string            `json:"-"`
	Bin     []byte            `json:"bin"`
	Iface   json.Marshaler    `json:"m"`
	ByValue map[string]embedd `json:"by_value"`
}

type embedd struct {
	embedded
	Own bool
}

func TestSchemas(t *testing.T) {
	input := func(h Handler) json.RawMessage { return h.InputSchema() }
	output := func(h Handler) json.RawMessage { return h.OutputSchema() }
	for _, tt := range []struct {
		name string
		got  json.RawMessage
		want string
	}{
		{name: "form", got: input(Func(func(context.Context, submitForm) (any, error) { return nil, nil })), want: `
			{"type":"object","properties":{
			"title":{"type":"string","minLength":2,"maxLength":5},
			"priority":{"type":"integer","enum":[1,2,3]},
			"email":{"type":"string","format":"email"},
			"age":{"type":"integer","exclusiveMinimum":0,"minimum":18,"maximum":120},
			"tags":{"type":"array","items":{"type":"string"},"maxItems":3}},
			"required":["title","email","age"]}`},
		{name: "descriptions and patterns", got: input(Func(func(context.Context, struct {
			Title string  `json:"title" jsonschema:"shown in \"lists\", <b>"`
			Zip   string  `json:"zip" validate:"regex='^[0-9]{5}$'"`
			Flags string  `json:"flags" validate:"regex=(?i)x"`
			Affix string  `json:"affix" validate:"starts_with=a.b,ends_with=c"`
			Not   float64 `json:"not" validate:"not_in=1 2.5,min=0,multiple_of=0.5"`
		}) (any, error) {
			return nil, nil
		})), want: `{"type":"object","properties":{
			"title":{"type":"string","description":"shown in \"lists\", <b>"},
			"zip":{"type":"string","pattern":"^[0-9]{5}$"},
			"flags":{"type":"string"},
			"affix":{"type":"string","pattern":"^a\\.b"},
			"not":{"type":"number","not":{"enum":[1,2.5]},"minimum":0,"multipleOf":0.5}}}`},
		{name: "recursive", got: input(Func(func(context.Context, Node) (any, error) { return nil, nil })), want: `
			{"$ref":"#/$defs/Node","$defs":{
			"Node":{"type":"object","properties":{"value":{"type":"string"},"next":{"$ref":"#/$defs/Node"}},"required":["value"]}}}`},
		{name: "nothing", got: input(Func(func(context.Context, struct{}) (any, error) { return nil, nil })), want: `{"type":"object"}`},
		{name: "raw", got: input(Func(func(context.Context, json.RawMessage) (any, error) { return nil, nil })), want: `{"type":"object"}`},
		{name: "any", got: input(Func(func(context.Context, any) (any, error) { return nil, nil })), want: `{"type":"object"}`},
		{name: "map", got: input(Func(func(context.Context, map[string]int) (any, error) { return nil, nil })),
			want: `{"type":"object","additionalProperties":{"type":"integer"}}`},
		{name: "any result", got: output(Func(func(context.Context, any) (any, error) { return nil, nil })), want: `{}`},
		{name: "text result", got: output(Func(func(context.Context, any) (string, error) { return "", nil })), want: `{"type":"string"}`},
		{name: "list result", got: output(Func(func(context.Context, any) ([]result, error) { return nil, nil })), want: `
			{"type":["array","null"],"items":{"type":"object","properties":{
			"id":{"type":"integer"},
			"when":{"type":"string","format":"date-time"},
			"tags":{"type":["array","null"],"items":{"type":"string"}},
			"owner":{"anyOf":[{"$ref":"#/$defs/Node"},{"type":"null"}]},
			"sizes":{"type":"array","items":{"type":"integer"},"maxItems":2},
			"extra":{"type":["object","null"]},
			"any":{},
			"raw":{},
			"bin":{"type":["string","null"],"contentEncoding":"base64"},
			"m":{},
			"by_value":{"type":["object","null"],"additionalProperties":{"type":"object","properties":{
				"inner":{"type":"string"},"Own":{"type":"boolean"}}}}}},
			"$defs":{"Node":{"type":"object","properties":{"value":{"type":"string"},
				"next":{"anyOf":[{"$ref":"#/$defs/Node"},{"type":"null"}]}}}}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want bytes.Buffer
			if err := json.Compact(&want, []byte(tt.want)); err != nil {
				t.Fatal(err)
			}
			if !json.Valid(tt.got) || string(tt.got) != want.String() {
				t.Errorf("got  %s\nwant %s", tt.got, want.String())
			}
		})
	}
}

func TestSchemaIsACopy(t *testing.T) {
	h := Func(func(context.Context, Node) (Node, error) { return Node{}, nil })
	clear(h.InputSchema())
	clear(h.OutputSchema())
	if h.InputSchema()[0] != '{' || h.OutputSchema()[0] != '{' {
		t.Error("a caller can change the handler's schema")
	}
}

func FuzzTag(f *testing.F) {
	for name := range maps.Keys(ruleTable) {
		f.Add(name+"=1 2", `"ab"`)
	}
	for _, tag := range []string{"required,min_length=2", "in=a b 'c d'", "regex='^[0-9]{5}$'",
		"required_if=other 1,each,min=2", "in='a''b',each"} {
		f.Add(tag, `[1,"a",null]`)
	}
	types := []reflect.Type{
		reflect.TypeFor[string](), reflect.TypeFor[int](), reflect.TypeFor[[]string](), reflect.TypeFor[any](), reflect.TypeFor[*float64](),
	}
	f.Fuzz(func(t *testing.T, tag, value string) {
		for _, typ := range types {
			c := newCompiler(false)
			input := c.input(reflect.StructOf([]reflect.StructField{
				{Name: "F", Type: typ, Tag: reflect.StructTag(fmt.Sprintf(`json:"f" validate:%q`, tag))},
				{Name: "Other", Type: reflect.TypeFor[any](), Tag: `json:"other"`},
			}))
			if len(c.faults) > 0 {
				continue
			}
			if schema := inputSchema(input); !json.Valid(schema) {
				t.Errorf("%s on %v: schema %s", tag, typ, schema)
			}
			params := []byte(`{"f":` + value + `,"other":` + value + `}`)
			if kind, err := strictjson.Scan(params, nil, nil); err != nil || kind != strictjson.Object {
				continue
			}
			in := reflect.New(input.typ)
			err := decodeInput(input, params, in.Interface())
			if err != nil && CodeOf(err) != CodeValidationFailed && !strings.Contains(err.Error(), "only in case") {
				t.Errorf("%s on %v, %s: %v", tag, typ, params, err)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, params := range []string{
		flatParams, `{}`, `{"i8":1,"list":[2],"items":[{"name":"a"}],"tree":{"name":"b","kids":[{"name":"c"}]}}`,
		`{"required":1,"one_other":1,"in":"a"}`,
		`{"even":null,"color":null,"t":null,"ip":null,"bytes":null,"grid":[[1,null]],"array":["a",null]}`,
		`{"map":{"a":1},"maps":{"x":[null]}}`,
		`{"f32":1e38,"f64":2.5,"n":1e99,"any":{"a":[1]},"raw":2,"times":["2024-02-29T00:00:00.5Z"],"lookup":{"x":{"low":1}}}`, `{"title":5}`,
		`{"low":1,"two":{"n":-1},"parts":[{"n":1},null],"by_name":{"a":{"n":1}}}`,
	} {
		f.Add([]byte(params))
	}
	handlers := []*handler{
		handlerOf[flat](f), handlerOf[typedFields](f), handlerOf[ruleFields](f), handlerOf[submitForm](f),
		handlerOf[map[string]any](f), handlerOf[customForm](f),
	}
	f.Fuzz(func(t *testing.T, params []byte) {
		if kind, err := strictjson.Scan(params, nil, nil); err != nil || kind != strictjson.Object {
			return
		}
		for _, h := range handlers {
			in, err := h.decode(params)
			if err == nil {
				if in == nil {
					t.Fatal("nothing decoded")
				}
				continue
			}
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Message == errInvalidParams.Message {
				t.Fatalf("%s: %v", params, err)
			}
			if e.Code == CodeValidationFailed && len(e.Fields) == 0 {
				t.Fatalf("%s: no fields", params)
			}
		}
	})
}

// Changing Request.Params in a middleware does not change what the handler gets, also when it takes the params as they are.
func TestParamsAfterMiddleware(t *testing.T) {
	change := Before(func(ctx context.Context, req *Request) (context.Context, error) {
		req.Params = json.RawMessage(`{"a":2}`)
		return ctx, nil
	})
	raw := Func(func(_ context.Context, params json.RawMessage) (json.RawMessage, error) { return params, nil })
	fields := Func(func(_ context.Context, in struct{ A int }) (json.RawMessage, error) { return json.Marshal(in) })
	srv, err := New(Config{Development: true, Logger: slog.New(slog.DiscardHandler), Routers: []Router{{
		Middleware: []Middleware{change},
		Actions:    []Action{{Name: "raw", Allow: Public, Handler: raw}, {Name: "fields", Allow: Public, Handler: fields}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown(t.Context())
	for _, action := range []string{"raw", "fields"} {
		out, err := srv.Call(t.Context(), &Request{Action: action, Params: json.RawMessage(`{"A":1}`)})
		if got, _ := out.(json.RawMessage); err != nil || string(got) != `{"A":1}` {
			t.Errorf("%s: %s, %v", action, got, err)
		}
	}
}
