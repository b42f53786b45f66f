package mooncore

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

type color struct{ name string }

func (c *color) UnmarshalText(text []byte) error {
	if c.name = string(text); c.name != "red" && c.name != "blue" {
		return errors.New("no such color")
	}
	return nil
}

type even int

func (e *even) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return errors.New("null")
	}
	if err := json.Unmarshal(raw, (*int)(e)); err != nil || *e%2 != 0 {
		return errors.New("odd")
	}
	return nil
}

type embedded struct {
	Inner string `json:"inner" validate:"min_length=2"`
}

type typedFields struct {
	embedded
	I8     int8                 `json:"i8"`
	I64    int64                `json:"i64"`
	U8     uint8                `json:"u8" validate:"max=200"`
	U64    uint64               `json:"u64"`
	F32    float32              `json:"f32"`
	F64    float64              `json:"f64" validate:"in=1 2.5"`
	B      bool                 `json:"b"`
	N      json.Number          `json:"n"`
	S      *string              `json:"s" validate:"starts_with='a, ''b'"`
	T      time.Time            `json:"t"`
	TP     *time.Time           `json:"tp"`
	Bytes  []byte               `json:"bytes"`
	Raw    json.RawMessage      `json:"raw" validate:"min=2"`
	Any    any                  `json:"any"`
	Color  color                `json:"color"`
	Even   even                 `json:"even"`
	EvenP  *even                `json:"evenp"`
	IP     netip.Addr           `json:"ip"`
	List   []int8               `json:"list" validate:"min_items=1,each,min=2"`
	Grid   [][]int              `json:"grid" validate:"each,max_items=2,each,max=9"`
	Array  [2]string            `json:"array"`
	Ptrs   []*int               `json:"ptrs"`
	Needed []*int               `json:"needed" validate:"each,required"`
	Items  []item               `json:"items" validate:"max_items=3"`
	PItems []*item              `json:"pitems"`
	Map    map[string]int       `json:"map"`
	Maps   map[string][]item    `json:"maps"`
	Tree   *tree                `json:"tree"`
	Anys   []any                `json:"anys" validate:"list_of=string,each,max_length=2"`
	Opt    any                  `json:"opt" validate:"each,integer"`
	Times  []time.Time          `json:"times" validate:"max_items=9"`
	Deep   []map[string]*item   `json:"deep"`
	Fixed  string               `json:"fixed" validate:"in=a 'b c' '1'"`
	Mixed  any                  `json:"mixed" validate:"in=a '1' true 2.50"`
	Two    string               `json:"two" validate:"required_with=i8 i64,forbidden_with=u8 u64"`
	Flag   bool                 `json:"flag" validate:"in=true"`
	If     string               `json:"if" validate:"required_if=b true"`
	Lookup map[string]*typedSub `json:"lookup"`
}

type typedSub struct {
	Low  int `json:"low"`
	High int `json:"high" validate:"greater_than=low"`
}

type item struct {
	Name string `json:"name" validate:"required,trimmed"`
	Qty  int    `json:"qty" validate:"positive"`
}

type tree struct {
	Name string           `json:"name" validate:"required"`
	Kids []tree           `json:"kids"`
	By   map[string]*tree `json:"by"`
}

func TestTypes(t *testing.T) {
	h := handlerOf[typedFields](t)
	for _, tt := range []struct{ params, want string }{
		{`{}`, ""},
		{`"inner":"a"`, "inner: must be at least 2 characters"},
		{`"i8":127,"i64":-9223372036854775808,"u8":0,"u64":18446744073709551615,"f32":1e30,"f64":2.50,"two":null`,
			"two: is required when i8 is present"},
		{`"i8":128`, "i8: must be at most 127; two: is required when i8 is present"},
		{`"i8":-129,"two":"x"`, "i8: must be at least -128"},
		{`"i64":9223372036854775808,"two":"x"`, "i64: must be at most 9223372036854775807"},
		{`"i64":-9223372036854775809,"two":"x"`, "i64: must be at least -9223372036854775808"},
		{`"i64":1.5,"two":"x"`, "i64: must be an integer"},
		{`"u8":256`, "u8: must be at most 200"},
		{`"u8":-1`, "u8: must be non-negative"},
		{`"u64":18446744073709551616`, "u64: must be at most 18446744073709551615"},
		{`"u64":1,"two":"x"`, "two: cannot be present together with u64"},
		{`"f32":1e39`, "f32: must be a number"},
		{`"f64":1.0`, ""},
		{`"f64":3`, "f64: must be one of: 1, 2.5"},
		{`"f64":"1"`, "f64: must be a number"},
		{`"b":1,"n":"1"`, "b: must be a boolean; n: must be a number"},
		{`"n":1e999999999`, ""},
		{`"s":"a, 'b!"`, ""},
		{`"s":"x"`, `s: must start with "a, 'b"`},
		{`"t":"2024-02-29T00:00:00Z","tp":null`, ""},
		{`"t":"2024-02-30T00:00:00Z","tp":5`, "t: must be a valid ISO 8601 datetime; tp: must be a valid ISO 8601 datetime"},
		{`"bytes":"AQI="`, ""},
		{`"bytes":"A"`, "bytes: is invalid"},
		{`"bytes":[1]`, "bytes: must be a string"},
		{`"raw":2,"any":{"x":[1]}`, ""},
		{`"raw":1`, "raw: must be at least 2"},
		{`"color":"red","even":2,"evenp":null,"ip":"::1"`, ""},
		{`"color":"x","even":3,"evenp":5,"ip":"x"`, "color: is invalid; even: is invalid; evenp: is invalid; ip: is invalid"},
		{`"color":5,"even":"2"`, "color: must be a string; even: is invalid"},
		{`"even":null`, "even: is invalid"},
		{`"list":[]`, "list: must have at least 1 items"},
		{`"list":[2,3]`, ""},
		{`"list":[2,1]`, "list: index 1: must be at least 2"},
		{`"list":[2,300]`, "list: index 1: must be at most 127"},
		{`"list":[2,"x"]`, "list: index 1: must be an integer"},
		{`"list":{"0":1}`, "list: must be a list"},
		{`"grid":[[1],[2,3]]`, ""},
		{`"grid":[[1],[2,3,4]]`, "grid: index 1: must have at most 2 items"},
		{`"grid":[[1],[2,10]]`, "grid: index 1: index 1: must be at most 9"},
		{`"grid":[[1],5]`, "grid: index 1: must be a list"},
		{`"grid":[null]`, "grid: index 0: must be a list"},
		{`"array":["a","b"]`, ""},
		{`"array":["a","b","c"]`, "array: must have at most 2 items"},
		{`"ptrs":[null,1]`, ""},
		{`"needed":[1,null]`, "needed: index 1: is required"},
		{`"items":[{"name":"a"},{"name":" b","qty":0}]`,
			"items.1.name: must not have leading or trailing whitespace; items.1.qty: must be positive"},
		{`"items":[{"name":"a"},null]`, "items.1: must be an object"},
		{`"items":[5,{"name":"a","Qty":1}]`, `invalid_argument: key "Qty" differs from "qty" only in case in items.1`},
		{`"items":[{},{},{},{}]`, "items: must have at most 3 items"},
		{`"pitems":[null,{}]`, "pitems.1.name: is required"},
		{`"map":{"a":1,"b":null}`, "map.b: must be an integer"},
		{`"map":{"a":"x"}`, "map.a: must be an integer"},
		{`"map":[]`, "map: must be an object"},
		{`"maps":{"x":[{"name":"a"},{}]}`, "maps.x.1.name: is required"},
		{`"deep":[{"x":{"name":"a"}},{"y":{}}]`, "deep.1.y.name: is required"},
		{`"tree":{"name":"a","kids":[{"name":"b","kids":[{}]}],"by":{"x":{"name":"c","by":{"y":{}}}}}`,
			"tree.by.x.by.y.name: is required; tree.kids.0.kids.0.name: is required"},
		{`"anys":["a","bcd"]`, "anys: index 1: must be at most 2 characters"},
		{`"anys":["a",1]`, "anys: index 1: must be a string"},
		{`"opt":[1,2]`, ""},
		{`"opt":1`, "opt: must be a list"},
		{`"opt":[1,"x"]`, "opt: index 1: must be an integer"},
		{`"times":["2024-02-29T00:00:00Z","x"]`, "times: index 1: must be a valid ISO 8601 datetime"},
		{`"fixed":"b c"`, ""},
		{`"fixed":"1"`, ""},
		{`"fixed":"b"`, "fixed: must be one of: a, b c, 1"},
		{`"mixed":"1"`, ""},
		{`"mixed":true`, ""},
		{`"mixed":2.5`, ""},
		{`"mixed":1`, "mixed: must be one of: a, 1, true, 2.50"},
		{`"mixed":"true"`, "mixed: must be one of: a, 1, true, 2.50"},
		{`"flag":false`, "flag: must be one of: true"},
		{`"b":true`, "if: is required when b is true"},
		{`"b":false`, ""},
		{`"lookup":{"x":{"low":2,"high":2},"y":{"high":1},"z":null}`, "lookup.x.high: must be greater than low"},
	} {
		params := tt.params
		if params[0] != '{' {
			params = "{" + params + "}"
		}
		if got := verdict(h, params); got != tt.want {
			t.Errorf("%s: got %q; want %q", params, got, tt.want)
		}
	}
}

func TestFaultsAreBounded(t *testing.T) {
	h := handlerOf[typedFields](t)
	for _, params := range []string{
		`{"pitems":[` + strings.Repeat("{},", 10_000) + `{}]}`,
		`{"map":{` + strings.Repeat(`"x":null,`, 1) + manyKeys(10_000) + `}}`,
	} {
		_, err := h.decode(json.RawMessage(params))
		if e, ok := errors.AsType[*Error](err); !ok || len(e.Fields) != maxFaults {
			t.Errorf("%.30s…: not %d faults", params, maxFaults)
		}
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"k%d":"x",`, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}
