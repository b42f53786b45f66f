package mooncore

import (
	"net/http"
	"testing"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// FuzzParamsDigest: what belongs to a frame changes no digest, any other member does, and a key that is read is one.
func FuzzParamsDigest(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"action":"a","rayid":[1,2],"idempotency_key":"k","item":"milk"}`, `{"idempotency_key":"\u006b"}`, `{"idempotency_key":7}`,
		`{"idempotency_key":"` + "\\ud83d" + `"}`, ` { "a" : { "action" : 1 } } `, `{"traceparent":null,"":""}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, params []byte) {
		kind, err := strictjson.Scan(params, nil, nil)
		if err != nil || kind != strictjson.Object {
			return
		}
		digestOf := func(params []byte) digest {
			d, err := (&Request{Params: params}).paramsDigest()
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		with := func(name string) []byte {
			return appendMembers(nil, params, func(key []byte) bool { k, _ := strictjson.Unquote(key); return k == name }, map[string][]byte{name: []byte(`"x"`)})
		}
		want := digestOf(params)
		for _, name := range []string{"action", "rayid", "traceparent", "idempotency_key"} {
			if digestOf(with(name)) != want {
				t.Errorf("%s changes the digest of %q", name, params)
			}
		}
		for _, name := range []string{"item", "Action", "rayid ", ""} {
			if member(params, name) == nil && digestOf(with(name)) == want {
				t.Errorf("%q does not change the digest of %q", name, params)
			}
		}
		req := &Request{Params: params, conn: &Conn{}}
		if err := req.readIdempotencyKey(); err != nil {
			if CodeOf(err) != CodeValidationFailed {
				t.Errorf("%q: %v", params, err)
			}
		} else if key := req.IdempotencyKey; (key == "") != (member(params, idempotencyField) == nil) || len(key) > maxIdempotencyKey {
			t.Errorf("%q: key %q", params, key)
		}
	})
}

func TestIdempotencyKeyOfAHeader(t *testing.T) {
	for _, test := range []struct {
		values []string
		key    string
		ok     bool
	}{
		{nil, "", true}, {[]string{"k"}, "k", true}, {[]string{`"k"`}, "k", true}, {[]string{`"`}, `"`, true}, {[]string{`""`}, "", false}, {[]string{""}, "", false},
		{[]string{"a", "b"}, "", false}, {[]string{"a\x7f"}, "a\x7f", false}, {[]string{"a b"}, "a b", true},
	} {
		req := &Request{header: http.Header{"Idempotency-Key": test.values}}
		if test.values == nil {
			req.header = http.Header{}
		}
		if err := req.readIdempotencyKey(); (err == nil) != test.ok || req.IdempotencyKey != test.key {
			t.Errorf("%q: key %q, %v", test.values, req.IdempotencyKey, err)
		}
	}
}
