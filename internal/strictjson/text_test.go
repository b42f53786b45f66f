package strictjson_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/strictjson"
)

func TestMembersOfGarbage(t *testing.T) {
	for _, in := range []string{
		"", " ", "{", "{}", "{ }", "[", "]", "}", "{,", `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":}`, `{"a":,`, `{"a" "b"}`,
		`{"a":1`, `{"a":1,`, `{"a":[`,
		`{"a":]}`, `{"a":"`, `{"a":"\`, `[,`, `["`, `[1,`, `[}`, `{1:2}`, `"\"`, "null", strings.Repeat("[", 1000),
	} {
		for key, value := range strictjson.Members([]byte(in)) {
			if len(key) == 0 || len(value) == 0 {
				t.Errorf("%q: key %q, value %q", in, key, value)
			}
		}
		for value := range strictjson.Elements([]byte(in)) {
			if len(value) == 0 {
				t.Errorf("%q: empty element", in)
			}
		}
		_, _ = strictjson.Unquote([]byte(in))
	}
}

func TestMembersStop(t *testing.T) {
	n := 0
	for range strictjson.Members([]byte(`{"a":1,"b":2}`)) {
		n++
		break
	}
	for range strictjson.Elements([]byte(`[1,2]`)) {
		n++
		break
	}
	if n != 2 {
		t.Errorf("%d steps; want 2", n)
	}
}

func TestUnquote(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		ok       bool
	}{
		{`""`, "", true},
		{` "a" `, "a", true},
		{`"a\"\\\/\b\f\n\r\t\u00e9"`, "a\"\\/\b\f\n\r\té", true},
		{`"\ud83d\ude00"`, "😀", true},
		{`"\ud800\u0041"`, "\ufffdA", true},
		{"\"\xff\"", "\ufffd", true},
		{`"`, "", false},
		{`"\"`, "", false},
		{`"a"b`, "", false},
		{`5`, "", false},
		{``, "", false},
	} {
		if got, ok := strictjson.Unquote([]byte(tt.in)); got != tt.want || ok != tt.ok {
			t.Errorf("Unquote(%q) = %q, %v; want %q, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func FuzzAppendQuote(f *testing.F) {
	for _, seed := range []string{"", "a", "\"\\\b\f\n\r\t\x00\x1f\x7f", "é😀</script>\u2028", "\xff\xed\xa0\x80a", "\ufffd"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		raw := strictjson.AppendQuote([]byte("x"), s)[1:]
		var got string
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		want := string([]rune(s)) // each invalid byte becomes U+FFFD
		if text, ok := strictjson.Unquote(raw); got != want || !ok || text != want {
			t.Errorf("%q is %q; want %q", raw, got, want)
		}
	})
}

func TestAppendQuote(t *testing.T) {
	if got, want := string(strictjson.AppendQuote(nil, "<é\u2028\x01\n\"")), "\"<é\u2028\\u0001\\n\\\"\""; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}
