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
)

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

// TestDecodePlain compares what the checker decodes with what encoding/json does.
func TestDecodePlain(t *testing.T) {
	input := newCompiler(false).input(reflect.TypeFor[plainFields]())
	if !input.plain() {
		t.Fatal("the checker leaves plainFields to encoding/json")
	}
	h := handlerOf[plainFields](t)
	for _, params := range plainParams {
		if !comparePlain(t, h, []byte(params)) {
			t.Errorf("refused: %s", params)
		}
	}
}

func FuzzDecodePlain(f *testing.F) {
	for _, params := range plainParams {
		f.Add([]byte(params))
	}
	h := handlerOf[plainFields](f)
	f.Fuzz(func(t *testing.T, params []byte) {
		if kind, err := strictjson.Scan(params, nil, nil); err == nil && kind == strictjson.Object {
			comparePlain(t, h, params)
		}
	})
}

// comparePlain reports whether params were decoded.
func comparePlain(t *testing.T, h *handler, params []byte) bool {
	t.Helper()
	got, err := h.decode(params)
	if err != nil {
		return false
	}
	var want plainFields
	if err := json.Unmarshal(params, &want); err != nil {
		t.Fatalf("%s\ndecoded, but encoding/json says: %v", params, err)
	}
	if !reflect.DeepEqual(got, &want) {
		t.Fatalf("%s\ndecoded as %+v\nencoding/json: %+v", params, got, &want)
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
