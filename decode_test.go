package mooncore

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/race"
	"github.com/mooncore/mooncore/internal/strictjson"
)

type (
	plainName string

	plainInner struct {
		X     int8    `json:"x"`
		Inner string  `json:"inner"`
		F32   float32 `json:"f32"`
	}

	PlainEmbedded struct{ X int }

	// plainFields is all that the checker decodes itself.
	plainFields struct {
		plainInner
		S     string         `json:"s"`
		Name  plainName      `json:"name"`
		P     *string        `json:"p"`
		PP    **int          `json:"pp"`
		I     int            `json:"i"`
		I64   int64          `json:"i64"`
		U8    uint8          `json:"u8"`
		U64   uint64         `json:"u64"`
		F     float64        `json:"f"`
		B     bool           `json:"b"`
		N     json.Number    `json:"n"`
		T     time.Time      `json:"t"`
		TP    *time.Time     `json:"tp"`
		IP    netip.Addr     `json:"ip"`
		IPs   []netip.Addr   `json:"ips"`
		List  []string       `json:"list"`
		Grid  [][]int        `json:"grid"`
		Ptrs  []*float64     `json:"ptrs"`
		In    plainInner     `json:"in"`
		InP   *plainInner    `json:"inp"`
		Ins   []plainInner   `json:"ins"`
		Kids  []*plainFields `json:"kids"`
		Quote string         `json:"q\u00e9"`
	}

	// plainRules has a rule on each of them.
	plainRules struct {
		Title string        `json:"title" validate:"required,min_length=2,max_length=4"`
		Small int8          `json:"small" validate:"min=-3,max=100"`
		Large uint32        `json:"large" validate:"multiple_of=5"`
		Ratio *float32      `json:"ratio" validate:"positive"`
		N     json.Number   `json:"n" validate:"between=1 3"`
		Yes   bool          `json:"yes" validate:"required"`
		From  time.Time     `json:"from"`
		Until *time.Time    `json:"until" validate:"required_with=from"`
		IP    netip.Addr    `json:"ip" validate:"required_if=title home"`
		Tags  []string      `json:"tags" validate:"max_items=3,each,min_length=1"`
		Grid  [][]int8      `json:"grid" validate:"min_items=1"`
		Again string        `json:"again" validate:"equal_to=title"`
		Inner *plainInner   `json:"inner" validate:"required"`
		Kids  []*plainRules `json:"kids" validate:"max_items=2"`
	}
)

// plainTypes are decoded by the checker.
var plainTypes = []reflect.Type{
	reflect.TypeFor[plainFields](), reflect.TypeFor[plainRules](), reflect.TypeFor[flat](), reflect.TypeFor[submitForm](),
	reflect.TypeFor[Node](), reflect.TypeFor[struct{ PlainEmbedded }](), reflect.TypeFor[struct{ A []Node }](),
}

var plainParams = []string{
	`{}`,
	`{"s":"a","name":"b","p":"c","pp":-3,"i":1,"i64":-9223372036854775808,"u8":255,"u64":18446744073709551615}`,
	`{"f":1e-400,"b":true,"n":-0.10e5,"x":-128,"inner":"\ud83d\ude00\n\"é\u0000","f32":3.4e38,"i":-0}`,
	`{"t":"2024-02-29T23:59:59.123456789+01:00","tp":"2024-02-29T00:00:00Z","ip":"::1%eth0","ips":["1.2.3.4",""]}`,
	`{"list":[],"grid":[[],[1,2]],"ptrs":[null,1.5,-0],"in":{"x":1},"inp":{},"ins":[{"x":1},{}],"kids":[{"s":"k"},null,{"kids":[]}]}`,
	`{"s":null,"p":null,"pp":null,"list":null,"in":null,"inp":null,"kids":null,"t":null,"n":null,"b":null}`,
	`{"list":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17","18"]," s ":1,"q\u00e9":"x"}`,
	`{"f":2.50,"n":1e99999,"f32":1e38,"list":["\u0041","` + "\u2028" + `"]}`,
}

// faultyParams are refused by one of plainTypes at least.
var faultyParams = []string{
	`{"i":1.0}`, `{"i":1e2}`, `{"i":9223372036854775808}`, `{"u8":256}`, `{"u8":-1}`, `{"x":-129}`, `{"f":1e309}`, `{"f32":3.5e38}`,
	`{"s":1}`, `{"b":"true"}`, `{"n":"1"}`, `{"n":true}`, `{"t":"2024-02-30T00:00:00Z"}`, `{"ip":"1.2.3"}`, `{"list":{}}`, `{"in":[]}`,
	`{"S":"a"}`, `{"in":{"X":1}}`, `{"kids":[{"\u017f":"long s"}]}`, `{"ins":[{"x":1},{"INNER":""}]}`,
	`{"list":["a",null]}`, `{"list":["a",1,"b",2]}`, `{"grid":[[1],[2,"3"],null]}`, `{"ins":[{"x":1},{"x":200},null,5]}`,
	`{"kids":[{"kids":[{"i":true}]},{"s":2}]}`, `{"ips":["1.2.3.4","x"]}`, `{"ptrs":["1",null]}`, `{"pp":"1","p":2}`,
	`{"title":"a","small":101,"large":4294967296,"ratio":0,"n":4,"yes":null,"tags":["","a","b","c"],"grid":[]}`,
	`{"title":"home","small":1,"large":7,"ratio":-1e-50,"yes":true,"from":"2024-01-02T00:00:00Z","until":"2024-01-01T00:00:00Z","inner":{}}`,
	`{"title":"ok","yes":true,"inner":{"x":128},"kids":[{},{"title":"ok","yes":false,"inner":null},{}],"again":"no","grid":[[1,1000]]}`,
	`{"value":"a","next":{"value":"b","next":{"next":null}}}`, `{"value":5,"next":[]}`, `{"A":[{"value":"x"},{}],"X":"1"}`,
}

func TestDecodePlain(t *testing.T) {
	input := plainInput(t, reflect.TypeFor[plainFields]())
	for _, params := range plainParams {
		if !comparePlain(t, input, []byte(params)) {
			t.Errorf("refused: %s", params)
		}
	}
	const good = `{"title":"home","small":-3,"large":5,"ratio":0.5,"n":1,"yes":true,"from":"2024-01-01T00:00:00Z","again":"home",` +
		`"until":"2024-01-02T00:00:00Z","ip":"::1","tags":["a"],"grid":[[1],[]],"inner":{"x":1},"kids":[null]}`
	if !comparePlain(t, plainInput(t, reflect.TypeFor[plainRules]()), []byte(good)) {
		t.Errorf("refused: %s", good)
	}
}

func TestDecodePlainFaults(t *testing.T) {
	refused := map[string]bool{}
	for _, typ := range plainTypes {
		input := plainInput(t, typ)
		for _, params := range faultyParams {
			if !comparePlain(t, input, []byte(params)) {
				refused[params] = true
			}
		}
	}
	for _, params := range faultyParams {
		if !refused[params] {
			t.Errorf("no type refuses %s", params)
		}
	}
}

func FuzzDecodePlain(f *testing.F) {
	for _, params := range append(plainParams, faultyParams...) {
		f.Add([]byte(params))
	}
	var inputs []*spec
	for _, typ := range plainTypes {
		inputs = append(inputs, plainInput(f, typ))
	}
	f.Fuzz(func(t *testing.T, params []byte) {
		if kind, err := strictjson.Scan(params, nil, nil); err != nil || kind != strictjson.Object {
			return
		}
		for _, input := range inputs {
			comparePlain(t, input, params)
		}
	})
}

func plainInput(t testing.TB, typ reflect.Type) *spec {
	t.Helper()
	c := newCompiler(false)
	input := c.input(typ)
	if len(c.faults) > 0 || !input.plain() {
		t.Fatalf("%v: plain %v, faults %v", typ, input.plain(), c.faults)
	}
	return input
}

// comparePlain checks params with and without decoding them: the faults must be the same, and what is decoded that of
// encoding/json. It reports whether there are none.
func comparePlain(t *testing.T, input *spec, params []byte) bool {
	t.Helper()
	got, want := reflect.New(input.typ), reflect.New(input.typ)
	gotErr, wantErr := checkInput(input, params, got.Elem()), checkInput(input, params, reflect.Value{})
	if !reflect.DeepEqual(gotErr, wantErr) {
		t.Fatalf("%v, %s\ndecoding: %v\nchecking: %v", input.typ, params, gotErr, wantErr)
	}
	if wantErr != nil {
		return false
	}
	if err := json.Unmarshal(params, want.Interface()); err != nil {
		t.Fatalf("%v, %s\ndecoded, but encoding/json says: %v", input.typ, params, err)
	}
	if !reflect.DeepEqual(got.Interface(), want.Interface()) {
		t.Fatalf("%v, %s\ndecoded as %+v\nencoding/json: %+v", input.typ, params, got, want)
	}
	return true
}

// TestDecodeOther checks that what the checker can't decode is left to encoding/json.
func TestDecodeOther(t *testing.T) {
	for _, typ := range []reflect.Type{
		reflect.TypeFor[struct{ A any }](),
		reflect.TypeFor[struct{ A map[string]int }](),
		reflect.TypeFor[struct{ A [2]int }](),
		reflect.TypeFor[struct{ A []byte }](),
		reflect.TypeFor[struct{ A json.RawMessage }](),
		reflect.TypeFor[struct{ A []struct{ B any } }](),
		reflect.TypeFor[struct{ *PlainEmbedded }](),
		reflect.TypeFor[map[string]string](),
	} {
		if newCompiler(false).input(typ).plain() {
			t.Errorf("the checker decodes %v itself", typ)
		}
	}
}

func TestDecodeAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	h := handlerOf[flat](t)
	params := []byte(flatParams)
	const most = 6 // the struct, and its five strings
	if n := testing.AllocsPerRun(100, func() {
		if _, err := h.decode(params); err != nil {
			t.Fatal(err)
		}
	}); n > most {
		t.Errorf("%v allocations; want at most %d", n, most)
	}
}
