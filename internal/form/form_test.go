package form_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/form"
	"github.com/mooncore/mooncore/internal/strictjson"
)

func TestParseQuery(t *testing.T) {
	type pairs = []form.Pair
	tests := []struct {
		raw  string
		want pairs
		err  string
	}{
		{"", nil, ""},
		{"&&", nil, ""},
		{"a=1&b=2&a=3", pairs{{"a", "1"}, {"b", "2"}, {"a", "3"}}, ""},
		{"a", pairs{{"a", ""}}, ""},
		{"a=", pairs{{"a", ""}}, ""},
		{"=x", pairs{{"", "x"}}, ""},
		{"a=b=c", pairs{{"a", "b=c"}}, ""},
		{"a+b=c+d", pairs{{"a b", "c d"}}, ""},
		{"a%2Bb=c%2bd%26%3D", pairs{{"a+b", "c+d&="}}, ""},
		{"user%5Bname%5D=x", pairs{{"user[name]", "x"}}, ""},
		{"a;b=1;c=2", pairs{{"a;b", "1;c=2"}}, ""},
		{"%C3%BC=ü", pairs{{"ü", "ü"}}, ""},
		{"a=%", nil, `in the value of "a"`},
		{"a=%4", nil, `in the value of "a"`},
		{"a=%zz", nil, `in the value of "a"`},
		{"a=%4g", nil, `in the value of "a"`},
		{"%g1=a", nil, `in the key "%g1"`},
		{"a=%ff", nil, `in the value of "a"`},
		{"a=\xff", nil, `in the value of "a"`},
		{"%ed%a0%80=a", nil, `in the key "%ed%a0%80"`},
		{"x%00" + strings.Repeat("k", 100) + "=%", nil, "…"},
		{strings.Repeat("a&", form.MaxPairs), slices.Repeat(pairs{{"a", ""}}, form.MaxPairs), ""},
		{strings.Repeat("a&", form.MaxPairs+1), nil, "more than 10000 keys"},
	}
	for _, tt := range tests {
		t.Run(clip(tt.raw), func(t *testing.T) {
			got, err := form.ParseQuery(tt.raw)
			checkError(t, err, tt.err)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func clip(s string) string { return s[:min(len(s), 40)] }

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Fatalf("error %v, want %q", err, want)
	}
}

// numbers lets top-level keys that begin with n be numbers.
func numbers(key, value string) (string, bool) {
	return value, strings.HasPrefix(key, "n") && value != "" && strings.Trim(value, "123456789") == ""
}

func TestAppendJSON(t *testing.T) {
	tests := []struct{ name, query, want, err string }{
		{"nothing", "", `{}`, ""},
		{"strings", "a=1&b=true&c", `{"a":"1","b":"true","c":""}`, ""},
		{"order of first appearance", "z=1&a=2&z=3", `{"z":"3","a":"2"}`, ""},
		{"nested", "action=echo&user[name]=x&user[tags][]=a&user[tags][]=b&l[]=1&l[]=2",
			`{"action":"echo","user":{"name":"x","tags":["a","b"]},"l":["1","2"]}`, ""},
		{"apart but together", "u[a]=1&x=2&u[b]=3", `{"u":{"a":"1","b":"3"},"x":"2"}`, ""},
		{"later value of a member", "u[a]=1&u[a]=2", `{"u":{"a":"2"}}`, ""},
		{"each [] is a new element", "l[]=1&l[][a]=2&l[][a]=3&l[][]=4", `{"l":["1",{"a":"2"},{"a":"3"},["4"]]}`, ""},
		{"list of lists", "l[][]=1&l[][]=2", `{"l":[["1"],["2"]]}`, ""},
		{"digits are names", "a[0]=x&a[1]=y", `{"a":{"0":"x","1":"y"}}`, ""},
		{"literal", "n=12&nx=x&m=12&n[]=1", "", `invalid key "n[]": "n" is used as a value and as a list`},
		{"literals only at the top", "n=12&nn=x&m=3&o[n]=4&nl[]=5", `{"n":12,"nn":"x","m":"3","o":{"n":"4"},"nl":["5"]}`, ""},
		{"literal of the later value", "n=1&n=2", `{"n":2}`, ""},
		{"escapes", "a%22%5C%0A=%00%7F%3C%E2%80%A8", "{\"a\\\"\\\\\\n\":\"\\u0000\x7f<\u2028\"}", ""},
		{"empty key", "=x", `{"":"x"}`, ""},
		{"brackets that don't pair up", "a[=1&b]=2&[c]=3&d[x]y=4&[]=5&e[[x]]=6&f[x=7&g[x]]=8",
			`{"a[":"1","b]":"2","[c]":"3","d[x]y":"4","[]":"5","e[[x]]":"6","f[x":"7","g[x]]":"8"}`, ""},
		{"value and object", "a=1&a[b]=2", "", `invalid key "a[b]": "a" is used as a value and as an object`},
		{"object and value", "a[b]=2&a=1", "", `invalid key "a": "a" is used as an object and as a value`},
		{"object and list", "a[b]=2&a[]=1", "", `as an object and as a list`},
		{"deep conflict", "a[b][c]=2&a[b]=1", "", `invalid key "a[b]": "b" is used`},
		{"deepest", "a" + strings.Repeat("[x]", 63) + "=1", strings.Repeat(`{"x":`, 63) + `"1"` + strings.Repeat("}", 63), ""},
		{"too deep", "a" + strings.Repeat("[x]", 64) + "=1", "", "more than 64 levels"},
		{"too deep lists", "a" + strings.Repeat("[]", 64) + "=1", "", "more than 64 levels"},
		{"too many values", manyValues(), "", "more than 65536 values"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pairs, err := form.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			if tt.name == "deepest" {
				tt.want = `{"a":` + tt.want + `}`
			}
			got, err := form.AppendJSON([]byte("x"), pairs, numbers)
			checkError(t, err, tt.err)
			if string(got) != "x"+tt.want {
				t.Errorf("got %s, want x%s", got, tt.want)
			}
		})
	}
}

// manyValues nests so that few pairs make many values.
func manyValues() string {
	var b strings.Builder
	for i := range 1100 {
		fmt.Fprintf(&b, "a[%d]%s=&", i, strings.Repeat("[x]", 60))
	}
	return b.String()
}

func TestAppendJSONPairs(t *testing.T) {
	tests := []struct {
		name  string
		pairs []form.Pair
		err   string
	}{
		{"key is no UTF-8", []form.Pair{{"a\xff", "x"}}, `invalid key "a\xff": `},
		{"value is no UTF-8", []form.Pair{{"a", "\xed\xa0\x80"}}, `invalid key "a": `},
		{"too many", make([]form.Pair, form.MaxPairs+1), "more than 10000 keys"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := form.AppendJSON(nil, tt.pairs, nil)
			checkError(t, err, tt.err)
		})
	}
}

func TestMerge(t *testing.T) {
	tests := []struct{ name, object, below, want string }{
		{"both empty", `{}`, `{}`, `{}`},
		{"nothing below", `{"a": 1}`, `{}`, `{"a": 1}`},
		{"nothing above", `{ }`, `{"a":1,"b":[2]}`, `{ "a":1,"b":[2]}`},
		{"object wins", `{"a":1}`, `{"a":2,"b":3}`, `{"a":1,"b":3}`},
		{"whole values, not their members", `{"a":{"x":1}}`, `{"a":{"y":2}}`, `{"a":{"x":1}}`},
		{"escaped keys are the same", `{"\u0061":1}`, `{"a":2}`, `{"\u0061":1}`},
		{"the other way round", `{"a":1}`, `{"\u0061":2,"\u0062":3}`, `{"a":1,"\u0062":3}`},
		{"bytes are kept", "\n{ \"a\" : 1.0e0 }\n", `{"b":"}"}`, "\n{ \"a\" : 1.0e0 ,\"b\":\"}\"}"},
		{"null counts as there", `{"a":null}`, `{"a":1}`, `{"a":null}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			object := []byte(tt.object)
			got := form.Merge(object, []byte(tt.below))
			if string(got) != tt.want || string(object) != tt.object {
				t.Errorf("got %q, want %q; object is now %q", got, tt.want, object)
			}
			if _, err := strictjson.Scan(got, nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// FuzzForm checks that a query either fails or becomes JSON that Scan finds no fault with, the same each time, alone and merged.
func FuzzForm(f *testing.F) {
	f.Add("action=echo&user[name]=x&user[tags][]=a&l[]=1&n=12", `{"a":1}`)
	f.Add("a[][b]=1&a[][b]=2&a[=3&%22%5C=%0a+&=", `{"user":{},"\u0061":[1]}`)
	f.Add("a"+strings.Repeat("[b]", 70)+"=1", `{ }`)
	f.Add("a=1&a[b]=2&;c=%ff&d=%u0061", "\n{\"n\":null}\n")
	f.Fuzz(func(t *testing.T, query, body string) {
		pairs, err := form.ParseQuery(query)
		if err != nil {
			return
		}
		got, err := form.AppendJSON(nil, pairs, numbers)
		if err != nil {
			return
		}
		if kind, err := strictjson.Scan(got, nil, nil); kind != strictjson.Object || err != nil {
			t.Fatalf("%q became %s: %v", query, got, err)
		}
		if again, err := form.AppendJSON(nil, pairs, numbers); err != nil || string(again) != string(got) {
			t.Fatalf("%q became %s, and then %s, %v", query, got, again, err)
		}
		if kind, err := strictjson.Scan([]byte(body), nil, nil); kind != strictjson.Object || err != nil {
			return
		}
		merged := form.Merge([]byte(body), got)
		if kind, err := strictjson.Scan(merged, nil, nil); kind != strictjson.Object || err != nil {
			t.Fatalf("%s over %s became %s: %v", body, got, merged, err)
		}
		if string(form.Merge(merged, got)) != string(merged) {
			t.Fatalf("merging %s twice into %s changes it", got, body)
		}
	})
}
