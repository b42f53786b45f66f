package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mooncore/mooncore/internal/strictjson"
)

func TestScanKinds(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want strictjson.Kind
	}{
		{`{}`, strictjson.Object},
		{" \t\r\n{ \"a\" : [ ] } ", strictjson.Object},
		{`[]`, strictjson.Array},
		{`[ 1 , [ 2 , { "a" : null } ] ]`, strictjson.Array},
		{`""`, strictjson.String},
		{`"a\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t"`, strictjson.String},
		{`0`, strictjson.Number},
		{`-0.5e+10`, strictjson.Number},
		{`1E999999999`, strictjson.Number},
		{`true`, strictjson.Bool},
		{`false`, strictjson.Bool},
		{` null `, strictjson.Null},
		{strings.Repeat("[", 64) + strings.Repeat("]", 64), strictjson.Array},
		{`{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}],"A":1,"":2}`, strictjson.Object},
		{`[` + strings.Repeat("0,", strictjson.MaxValues-2) + `0]`, strictjson.Array},
	} {
		got, err := strictjson.Scan([]byte(tt.in), nil, nil)
		if err != nil || got != tt.want {
			t.Errorf("Scan(%.60q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
		if kind := strictjson.KindOf([]byte(tt.in)); kind != tt.want {
			t.Errorf("KindOf(%.60q) = %v; want %v", tt.in, kind, tt.want)
		}
	}
}

func TestScanSyntaxErrors(t *testing.T) {
	for _, tt := range []struct {
		in     string
		offset int
		msg    string
	}{
		{``, 0, "malformed JSON at byte 0: unexpected end"},
		{`  `, 2, "malformed JSON at byte 2: unexpected end"},
		{"\xef\xbb\xbf{}", 0, `malformed JSON at byte 0: unexpected '\ufeff' where a value should be`},
		{`{"a":1} x`, 8, "malformed JSON at byte 8: unexpected 'x' after the value"},
		{`{"a":1`, 6, "malformed JSON at byte 6: unexpected end"},
		{`{"a" 1}`, 5, "malformed JSON at byte 5: unexpected '1' where ':' should be"},
		{`{"a"`, 4, "malformed JSON at byte 4: unexpected end"},
		{`{a:1}`, 1, "malformed JSON at byte 1: unexpected 'a' where a key should be"},
		{`{"a":1,}`, 7, "malformed JSON at byte 7: unexpected '}' where a key should be"},
		{`{"a":1]`, 6, "malformed JSON at byte 6: unexpected ']' where ',' or '}' should be"},
		{`[1,]`, 3, "malformed JSON at byte 3: unexpected ']' where a value should be"},
		{`[1 2]`, 3, "malformed JSON at byte 3: unexpected '2' where ',' or ']' should be"},
		{`[`, 1, "malformed JSON at byte 1: unexpected end"},
		{`{`, 1, "malformed JSON at byte 1: unexpected end"},
		{`{"a":1,`, 7, "malformed JSON at byte 7: unexpected end"},
		{`"a`, 2, "malformed JSON at byte 2: unexpected end in a string"},
		{`"\`, 2, "malformed JSON at byte 2: unexpected end in a string"},
		{`"\u12`, 5, "malformed JSON at byte 5: unexpected end in a string"},
		{`"\u12x4"`, 5, "malformed JSON at byte 5: unexpected 'x' in an escape"},
		{`"\x"`, 2, "malformed JSON at byte 2: unexpected 'x' in an escape"},
		{"\"\n\"", 1, `malformed JSON at byte 1: control character '\n' in a string`},
		{`01`, 1, "malformed JSON at byte 1: unexpected '1' after the value"},
		{`-`, 1, "malformed JSON at byte 1: unexpected end in a number"},
		{`-x`, 1, "malformed JSON at byte 1: unexpected 'x' in a number"},
		{`1.`, 2, "malformed JSON at byte 2: unexpected end in a number"},
		{`[1.]`, 3, "malformed JSON at byte 3: unexpected ']' in a number"},
		{`1e+`, 3, "malformed JSON at byte 3: unexpected end in a number"},
		{`tru`, 3, "malformed JSON at byte 3: unexpected end"},
		{`trux`, 3, "malformed JSON at byte 3: unexpected 'x' in true"},
		{`NaN`, 0, "malformed JSON at byte 0: unexpected 'N' where a value should be"},
		{"\u00a0{}", 0, `malformed JSON at byte 0: unexpected '\u00a0' where a value should be`},
		// A syntax error wins over a fault before it.
		{`{"a":1,"a":2`, 12, "malformed JSON at byte 12: unexpected end"},
		{strings.Repeat("[", 100), 100, "malformed JSON at byte 100: unexpected end"},
		{strings.Repeat("[", 100) + "}", 100, "malformed JSON at byte 100: unexpected '}' where a value should be"},
		{strings.Repeat(`{"a":`, 70) + "1]", 351, "malformed JSON at byte 351: unexpected ']' where ',' or '}' should be"},
		{"{\"\xff", 3, "malformed JSON at byte 3: unexpected end in a string"},
	} {
		got := make([][]byte, 1)
		kind, err := strictjson.Scan([]byte(tt.in), []string{"a"}, got)
		e, ok := errors.AsType[*strictjson.SyntaxError](err)
		if !ok || e.Offset != tt.offset || e.Msg != tt.msg || kind != 0 || got[0] != nil {
			t.Errorf("Scan(%.60q) = %v, %#v, got %q; want offset %d, %q", tt.in, kind, err, got, tt.offset, tt.msg)
		}
	}
}

func TestScanFaults(t *testing.T) {
	deep := strings.Repeat("[", 65) + strings.Repeat("]", 65)
	for _, tt := range []struct {
		name, in string
		offset   int
		path     string
		msg      string
	}{
		{"duplicate", `{"a":1,"b":2,"a":3}`, 13, "a", `duplicate key "a" at byte 13`},
		{"duplicate with space", `{"a":1, "a":2}`, 8, "a", `duplicate key "a" at byte 8`},
		{"duplicate by escape", `{"a":1,"\u0061":2}`, 7, "a", `duplicate key "a" at byte 7`},
		{"duplicate surrogate pair", `{"😀":1,"\ud83d\ude00":2}`, 10, "😀", `duplicate key "😀" at byte 10`},
		{"duplicate empty", `{"":1,"":2}`, 6, "", `duplicate key "" at byte 6`},
		{"duplicate below", `{"x":[0,{"k":{"a":1,"a":2}}]}`, 20, "x.1.k.a", `duplicate key "a" at byte 20`},
		{"duplicate after an inner object", `{"x":{"a":1,"b":2},"y":{"a":1},"x":0}`, 31, "x", `duplicate key "x" at byte 31`},
		{"duplicate control character", `{"\u0000":1,"\u0000":2}`, 12, "\x00", `duplicate key "\u0000" at byte 12`},
		{"duplicate long", `{"` + strings.Repeat("é", 50) + `":1,"` + strings.Repeat("é", 50) + `":1}`, 106,
			strings.Repeat("é", 32) + "…", `duplicate key "` + strings.Repeat("é", 32) + `…" at byte 106`},
		{"case", `{"Action":1}`, 1, "Action", `key "Action" differs from "action" only in case`},
		{"upper case", `{"action":1,"ACTION":1}`, 12, "ACTION", `key "ACTION" differs from "action" only in case`},
		{"long s", `{"roleſ":1}`, 1, "roleſ", `key "roleſ" differs from "roles" only in case`},
		{"Kelvin", `{"\u212a":1}`, 1, "\u212a", "key \"\u212a\" differs from \"k\" only in case"},
		{"invalid UTF-8", "{\"a\":\"\xff\"}", 6, "a", "invalid UTF-8 at byte 6"},
		{"invalid UTF-8 in a key", "{\"\xffa\":1}", 2, "\ufffda", "invalid UTF-8 at byte 2"},
		{"surrogate in UTF-8", "\"\xed\xa0\x80\"", 1, "", "invalid UTF-8 at byte 1"},
		{"overlong UTF-8", "\"\xc0\x80\"", 1, "", "invalid UTF-8 at byte 1"},
		{"high surrogate", `["\ud800"]`, 2, "0", "unpaired surrogate at byte 2"},
		{"low surrogate", `"\udc00"`, 1, "", "unpaired surrogate at byte 1"},
		{"two high surrogates", `"\ud800\ud800\udc00"`, 1, "", "unpaired surrogate at byte 1"},
		{"high surrogate and a letter", `"\ud800a"`, 1, "", "unpaired surrogate at byte 1"},
		{"too deep", deep, 64, strings.Repeat(".0", 64)[1:], "nested deeper than 64 at byte 64"},
		{"too many values", "[" + strings.Repeat("0,", 65_535) + "0]", 131_071, "65535", "more than 65536 values at byte 131071"},
		{"the first fault counts", `{"a":"\ud800","a":1}`, 6, "a", "unpaired surrogate at byte 6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wants := []string{"action", "roles", "k"}
			_, err := strictjson.Scan([]byte(tt.in), wants, make([][]byte, len(wants)))
			e, ok := errors.AsType[*strictjson.Fault](err)
			if !ok || e.Offset != tt.offset || e.Path != tt.path || e.Msg != tt.msg {
				t.Errorf("got %#v; want offset %d, path %q, %q", err, tt.offset, tt.path, tt.msg)
			}
		})
	}
}

func TestScanDuplicateFarApart(t *testing.T) {
	for _, n := range []int{2, 11, 12, 13, 100, 30_000} {
		var b bytes.Buffer
		b.WriteByte('{')
		for i := range n {
			fmt.Fprintf(&b, `"key%d":0,`, i)
		}
		clean := b.String()[:b.Len()-1] + "}"
		if _, err := strictjson.Scan([]byte(clean), nil, nil); err != nil {
			t.Errorf("%d keys: %v", n, err)
		}
		at := b.Len()
		b.WriteString(`"key0":0,"key1":0}`)
		_, err := strictjson.Scan(b.Bytes(), nil, nil)
		if want := fmt.Sprintf(`duplicate key "key0" at byte %d`, at); err == nil || err.Error() != want {
			t.Errorf("%d keys and two again: %v; want %s", n, err, want)
		}
	}
}

func TestScanWants(t *testing.T) {
	wants := []string{"action", "rayid", "none"}
	for _, tt := range []struct {
		name, in string
		want     []string
		fault    bool
	}{
		{"plain", `{"rayid": {"x":[1, 2]} , "action":"a"}`, []string{`"a"`, `{"x":[1, 2]}`, ""}, false},
		{"only at the top", `{"x":{"action":1,"Action":2},"y":[{"rayid":3}]}`, []string{"", "", ""}, false},
		{"escaped", `{"\u0061ction":null}`, []string{"null", "", ""}, false},
		{"first of two", `{"rayid":1,"action":"a","rayid":2}`, []string{`"a"`, "1", ""}, true},
		{"after a fault", `{"x":"` + "\xff" + `","rayid":[ ] }`, []string{"", "[ ]", ""}, true},
		{"past the depth", `{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,"rayid":7}`, []string{"", "7", ""}, true},
		{"a faulty value", `{"rayid":"\ud800","action":"a"}`, []string{`"a"`, `"\ud800"`, ""}, true},
		{"no object", `["action",{"action":1}]`, []string{"", "", ""}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := [][]byte{nil, []byte("old"), nil}
			_, err := strictjson.Scan([]byte(tt.in), wants, got)
			if _, fault := errors.AsType[*strictjson.Fault](err); fault != tt.fault || err != nil && !fault {
				t.Fatalf("error %v; want a fault: %v", err, tt.fault)
			}
			for i := range wants {
				if string(got[i]) != tt.want[i] {
					t.Errorf("%s = %q; want %q", wants[i], got[i], tt.want[i])
				}
			}
		})
	}
}

const typical = `{"action":"task.create","rayid":"r-17","title":"Milk","note":"two \u00bd litres, \"fresh\"","priority":2,` +
	`"done":false,"due":null,"tags":["a","b"],"place":{"city":"Wien","zip":"1010"},"n":-1.5e3}`

func TestScanAllocatesNothing(t *testing.T) {
	data, wants, got := []byte(typical), []string{"action", "rayid"}, make([][]byte, 2)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := strictjson.Scan(data, wants, got); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations; want 0", n)
	}
}

// TestScanMemory holds Scan to eight times the bytes of its input.
func TestScanMemory(t *testing.T) {
	var keys bytes.Buffer
	keys.WriteByte('{')
	for i := range 65_000 {
		fmt.Fprintf(&keys, `"%x":0,`, i)
	}
	keys.WriteString(`"":0}`)
	for _, tt := range []struct{ name, in string }{
		{"many keys", keys.String()},
		{"many objects", "[" + strings.Repeat("{},", 1<<18) + "0]"},
		{"many brackets", strings.Repeat("[", 1<<20)},
		{"many braces", strings.Repeat(`{"":`, 1<<18)},
		{"many duplicates", "{" + strings.Repeat(`"":0,`, 1<<18) + `"":0}`},
		{"many surrogates", "[" + strings.Repeat(`"\ud800",`, 1<<16) + "0]"},
		{"invalid UTF-8", `"` + strings.Repeat("\xff", 1<<20) + `"`},
		{"escaped keys", "{" + strings.Repeat(`"\u0061":0,`, 1<<16) + `"":0}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := []byte(tt.in)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = strictjson.Scan(data, nil, nil)
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 8*uint64(len(data)) {
				t.Errorf("%d bytes allocated for %d", n, len(data))
			}
		})
	}
}

// reference is the plain way to find duplicate keys. It reports whether there are any.
func reference(data []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var walk func() bool
	walk = func() bool {
		token, err := dec.Token()
		if err != nil {
			return false
		}
		found := false
		switch token {
		case json.Delim('{'):
			seen := map[string]bool{}
			for dec.More() {
				key, err := dec.Token()
				if err != nil {
					return found
				}
				found = found || seen[key.(string)]
				seen[key.(string)] = true
				found = walk() || found
			}
			_, _ = dec.Token()
		case json.Delim('['):
			for dec.More() {
				found = walk() || found
			}
			_, _ = dec.Token()
		}
		return found
	}
	return walk()
}

func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		typical, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `[1,{"b":[]},"\ud83d\ude00"]`, `"\ud800"`, "\"\xff\"", `{"Action":1}`,
		`[`, `{"a":`, `-0.1e+5`, strings.Repeat("[", 65) + strings.Repeat("]", 65), `{"a":{"b":1,"b":2}}`, `tru`, ` null `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		wants := []string{"action", "a"}
		got := make([][]byte, 2)
		kind, err := strictjson.Scan(data, wants, got)
		_, malformed := errors.AsType[*strictjson.SyntaxError](err)
		// Scan refuses nothing for its depth that encoding/json would take: json.Valid stops at 10,000.
		if valid := json.Valid(data); valid == malformed && (valid || bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) < 10_000) {
			t.Fatalf("json.Valid is %v, Scan says %v", valid, err)
		}
		if malformed {
			for range strictjson.Members(data) {
			}
			for range strictjson.Elements(data) {
			}
			return
		}
		if !utf8.Valid(data) && err == nil {
			t.Fatal("invalid UTF-8 passed")
		}
		fault, _ := errors.AsType[*strictjson.Fault](err)
		if duplicate := reference(data); duplicate && err == nil {
			t.Fatal("a duplicate passed")
		} else if fault != nil && strings.HasPrefix(fault.Msg, "duplicate") && !duplicate {
			t.Fatalf("no duplicate, but %v", err)
		}
		if err != nil {
			return
		}
		switch kind {
		case strictjson.Object:
			var want map[string]json.RawMessage
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			for i, key := range wants {
				if !bytes.Equal(got[i], want[key]) {
					t.Errorf("%s = %q; want %q", key, got[i], want[key])
				}
			}
			n := 0
			for key, value := range strictjson.Members(data) {
				text, ok := strictjson.Unquote(key)
				if raw, found := want[text]; !ok || !found || !bytes.Equal(raw, value) {
					t.Errorf("member %q is %q; want %q", key, value, raw)
				}
				n++
			}
			if n != len(want) {
				t.Errorf("%d members; want %d", n, len(want))
			}
		case strictjson.Array:
			var want []json.RawMessage
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			n := 0
			for value := range strictjson.Elements(data) {
				if n >= len(want) || !bytes.Equal(want[n], value) {
					t.Errorf("element %d is %q", n, value)
				}
				n++
			}
			if n != len(want) {
				t.Errorf("%d elements; want %d", n, len(want))
			}
		case strictjson.String:
			var want string
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			if text, ok := strictjson.Unquote(data); !ok || text != want {
				t.Errorf("Unquote(%q) = %q, %v; want %q", data, text, ok, want)
			}
		}
	})
}

func BenchmarkScan(b *testing.B) {
	var keys bytes.Buffer
	keys.WriteByte('{')
	for i := range 60_000 {
		fmt.Fprintf(&keys, `"key%d":0,`, i)
	}
	keys.WriteString(`"":0}`)
	for _, bb := range []struct {
		name string
		data []byte
	}{
		{"typical", []byte(typical)},
		{"small", []byte(`{"action":"echo","rayid":1,"title":"Milk"}`)},
		{"60000keys", keys.Bytes()},
		{"text", []byte(`{"t":"` + strings.Repeat("lorem ipsum ", 4000) + `"}`)},
		{"unicode", []byte(`{"t":"` + strings.Repeat("žluťoučký kůň ", 3000) + `"}`)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			wants, got := []string{"action", "rayid"}, make([][]byte, 2)
			b.SetBytes(int64(len(bb.data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := strictjson.Scan(bb.data, wants, got); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
