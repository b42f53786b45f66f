package devtools

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/strictjson"
)

func TestRedactJSON(t *testing.T) {
	type inner struct {
		Key mooncore.Secret `json:"key"`
	}
	type input struct {
		Name  string                     `json:"name"`
		Code  mooncore.Secret            `json:"code"`
		Codes []mooncore.Secret          `json:"codes"`
		ByID  map[string]mooncore.Secret `json:"by_id"`
		Deep  []inner                    `json:"deep"`
		Tree  *input                     `json:"tree"`
	}
	fields := secretsOf(mooncore.Func(func(context.Context, input) (int, error) { return 0, nil }).InputSchema())
	long := strings.Repeat("ä", maxText)
	for _, test := range []struct {
		name, in, want string
		marks          marks
	}{
		{"nothing secret", ` { "a" : [ 1 , -2.5e3 , "x\n\u00e4" , true , null , {} , [] ] } `, `{"a":[1,-2.5e3,"x\n\u00e4",true,null,{},[]]}`, 0},
		{"by name", `{"password":"x","user":"u"}`, `{"password":"[redacted]","user":"u"}`, wasRedacted},
		{"name in any case", `{"PassWord":1,"API_KEY":{"a":1},"x-auth-token":["a"]}`, `{"PassWord":"[redacted]","API_KEY":"[redacted]","x-auth-token":"[redacted]"}`, wasRedacted},
		{"part of a name", `{"old_password_2":"x","passwordHash":"y"}`, `{"old_password_2":"[redacted]","passwordHash":"[redacted]"}`, wasRedacted},
		{"escaped name", `{"pass\u0077ord":"x"}`, `{"pass\u0077ord":"[redacted]"}`, wasRedacted},
		{"the program's name", `{"Diag-Nosis":"x"}`, `{"Diag-Nosis":"[redacted]"}`, wasRedacted},
		{"whole short names only", `{"pin":1,"spin":2,"pinned":3}`, `{"pin":"[redacted]","spin":2,"pinned":3}`, wasRedacted},
		{"deep", `{"a":[{"b":{"secret":"x"}}]}`, `{"a":[{"b":{"secret":"[redacted]"}}]}`, wasRedacted},
		{"absent is not hidden", `{"password":null,"token":""}`, `{"password":null,"token":""}`, 0},
		{"by type", `{"name":"n","code":"x","codes":["y"],"by_id":{"a":"z"},"deep":[{"key":"q"}]}`,
			`{"name":"n","code":"[redacted]","codes":["[redacted]"],"by_id":{"a":"[redacted]"},"deep":[{"key":"[redacted]"}]}`, wasRedacted},
		{"by type, within itself", `{"tree":{"tree":{"code":"x","name":"n"}}}`, `{"tree":{"tree":{"code":"[redacted]","name":"n"}}}`, wasRedacted},
		{"a token anywhere", `{"text":"see eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln now"}`, `{"text":"see [redacted] now"}`, wasRedacted},
		{"an escaped token", `["\u0065yJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln"]`, `["[redacted]"]`, wasRedacted},
		{"a bearer", `["Authorization: Bearer abcdef"]`, `["Authorization: [redacted]"]`, wasRedacted},
		{"a private key", `["-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----"]`, `["[redacted]"]`, wasRedacted},
		{"a bearer in capitals", `{"h":"BEARER abcdef"}`, `{"h":"[redacted]"}`, wasRedacted},
		{"a bearer in any case", `["BeArEr x", "to beareR+abcdef", "the bearer", "bearer"]`, `["[redacted]","to [redacted]","the bearer","bearer"]`, wasRedacted},
		{"an encrypted token", `["eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn"]`, `["[redacted]"]`, wasRedacted},
		{"a token as a name", `{"eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln":1}`, `{"[redacted]":1}`, wasRedacted},
		{"JSON in a text", `{"body":"{\"password\":[\"x\"],\"n\":1}"}`, `{"body":"{\"password\":\"[redacted]\",\"n\":1}"}`, wasRedacted},
		{"JSON in JSON in a text", `["{\"a\":\"{\\\"token\\\":\\\"x\\\"}\"}"]`, `["{\"a\":\"{\\\"token\\\":\\\"[redacted]\\\"}\"}"]`, wasRedacted},
		{"JSON without a secret", `["{ \"a\" : 1 }"]`, `["{ \"a\" : 1 }"]`, 0},
		{"a query", `["https://x.example/?access_token=x&page=2"]`, `["https://x.example/?access_token=[redacted]&page=2"]`, wasRedacted},
		{"a password in a URL", `["postgres://app:x@db.example/shop"]`, `["postgres://[redacted]@db.example/shop"]`, wasRedacted},
		{"a header", `["Authorization: Basic dXNlcjpwYXNz"]`, `["Authorization: [redacted]"]`, wasRedacted},
		{"a time", `["2026-01-02T03:04:05Z", "https://x.example:8080/a@b?page=2"]`, `["2026-01-02T03:04:05Z","https://x.example:8080/a@b?page=2"]`, 0},
		{"a long text", `["` + long + `"]`, `["` + strings.Repeat("ä", maxText/2) + `…[` + fmt.Sprint(maxText) + ` bytes more]"]`, wasCut},
		{"large numbers", `[9007199254740993]`, `[9007199254740993]`, 0},
		{"no JSON", `{"password":"x"`, `"[no JSON, 15 bytes]"`, wasCut},
		{"trailing", `{} {}`, `"[no JSON, 5 bytes]"`, wasCut},
		{"bad number", `[01]`, `"[no JSON, 4 bytes]"`, wasCut},
		{"bad UTF-8", "[\"\xff\"]", `"[no JSON, 5 bytes]"`, wasCut},
		{"too deep", strings.Repeat("[", 200) + strings.Repeat("]", 200), `"[no JSON, 400 bytes]"`, wasCut},
		{"empty", ``, `"[no JSON, 0 bytes]"`, wasCut},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRedactor([]string{"diagnosis"})
			for range 2 { // the second time, names are known
				got, m := r.json(nil, []byte(test.in), fields)
				if string(got) != test.want || m != test.marks {
					t.Errorf("got %s, %d; want %s, %d", got, m, test.want, test.marks)
				}
			}
		})
	}
}

// What is recorded of a value is bounded, and is JSON.
func TestRedactBounds(t *testing.T) {
	r := newRedactor(nil)
	for name, in := range map[string]string{
		"many items":   "[" + strings.Repeat(`"0123456789",`, 100_000) + "1]",
		"many fields":  `{"a":1` + strings.Repeat(`,"field":"0123456789"`, 100_000) + "}",
		"long name":    `{"` + strings.Repeat("n", 1<<20) + `":1}`,
		"long texts":   "[" + strings.Repeat(`"`+strings.Repeat("x", 100_000)+`",`, 20) + "1]",
		"long number":  "[" + strings.Repeat("1", 1<<20) + "]",
		"many objects": "[" + strings.Repeat(`{"a":{"b":[1]}},`, 100_000) + "1]",
	} {
		got, m := r.json(nil, []byte(in), nil)
		if len(got) > maxValue+2*maxText+maxDepth || m&wasCut == 0 || !json.Valid(got) {
			t.Errorf("%s: %d bytes, marks %d, JSON %v", name, len(got), m, json.Valid(got))
		}
	}
	for i := range 3 * maxKnown {
		r.secret(fmt.Append(nil, "name", i))
	}
	if n := len(*r.known.Load()); n > maxKnown {
		t.Errorf("%d names are remembered", n)
	}
}

func TestRedactProse(t *testing.T) {
	r := newRedactor(nil)
	for in, want := range map[string]string{
		"connect postgres: password=hunter2 user=app":   "connect postgres: password=[redacted] user=app",
		`bad {"token": "abc", "n": 1}`:                  `bad {"token": "[redacted]", "n": 1}`,
		"dial tcp 127.0.0.1:5432: connection refused":   "dial tcp 127.0.0.1:5432: connection refused",
		"Get https://x.example/?api_key=abc&page=2: no": "Get https://x.example/?api_key=[redacted]&page=2: no",
		"Authorization: Basic dXNlcjpwYXNz\nnext: 1":    "Authorization: [redacted]\nnext: 1",
		`secret = 'two words' x`:                        `secret = '[redacted]' x`,
		"dial postgres://app:x@db:5432/shop: refused":   "dial postgres://[redacted]@db:5432/shop: refused",
		`row {\"password\":\"x\",\"n\":1}`:              `row {\"password\":\"[redacted]",\"n\":1}`,
		"the cookie jar: token=abc n=1":                 "the cookie jar: token=[redacted] n=1",
		`tokens=["a","b"] n=1`:                          `tokens=[redacted] n=1`,
		"secret: password: x":                           "secret: [redacted] [redacted]",
		"token eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln bad": "token [redacted] bad",
	} {
		if got := r.prose(in); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Whatever bytes come: the result is JSON, bounded, and holds no value of a secret field. The same bytes as a text lose what prose
// finds, whatever the quick checks before it say.
func FuzzRedact(f *testing.F) {
	for _, seed := range []string{`{"password":"CANARY"}`, `[{"a":{"token":["CANARY"]}},1e9,"x\u00e4"]`, `{"a":`, `"\ud800"`, "{\"\xff\":1}", `["jwt","CANARY"]`,
		"the bEARer x", "Bearer+x", "postgres://a:b@c", "a: b", "my token = x", "-----BEGIN PRIVATE KEY-----x", "eyJhIjoxfQ.e30.c2ln", "Authorization:\tx",
	} {
		f.Add([]byte(seed))
	}
	r := newRedactor(nil)
	f.Fuzz(func(t *testing.T, in []byte) {
		got, m := r.json(nil, in, nil)
		if !json.Valid(got) {
			t.Fatalf("%q became %q", in, got)
		}
		if len(got) > maxValue+2*maxText+maxDepth+len(in)/8 && m&wasCut == 0 {
			t.Fatalf("%d bytes became %d", len(in), len(got))
		}
		if m == 0 && json.Valid(in) {
			var compact bytes.Buffer
			if err := json.Compact(&compact, in); err == nil && compact.String() != string(got) {
				t.Fatalf("%s became %s without a mark", compact.String(), got)
			}
		}
		if quoted := strictjson.AppendQuote(nil, string(in)); utf8.Valid(in) && len(quoted) <= maxText {
			clean, _ := r.json(nil, quoted, nil)
			if text, _ := strictjson.Unquote(clean); text != r.text(string(in)) {
				t.Fatalf("%q became %q, want %q", in, text, r.text(string(in)))
			}
		}
		var fields map[string]json.RawMessage
		if json.Unmarshal(got, &fields) != nil {
			return
		}
		for name, value := range fields {
			if r.judge([]byte(name)) && string(value) != `""` && string(value) != "null" && string(value) != `"`+redacted+`"` {
				t.Fatalf("%s keeps %s", name, value)
			}
		}
	})
}

// A closed connection gives its place up soon, an open one later.
func TestUnwatch(t *testing.T) {
	for _, test := range []struct {
		name   string
		closed bool
		after  time.Duration
		want   int64
	}{
		{"open", false, watchFor - time.Second, 1},
		{"open, long ago", false, watchFor + time.Second, 0},
		{"closed", true, watchGoneFor - time.Second, 1},
		{"closed, long ago", true, watchGoneFor + time.Second, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRecorder(nil, 1<<20, newRedactor(nil))
			c := new(mooncore.Conn)
			log, err := r.watch(c)
			if err != nil {
				t.Fatal(err)
			}
			if test.closed {
				r.ConnClose(c, 1000, "")
			}
			looked := time.Unix(0, log.looked.Load())
			log.watchers.Add(1)
			r.unwatch(looked.Add(test.after))
			if n := r.watching.Load(); n != 1 {
				t.Errorf("%d are watched while somebody looks, want 1", n)
			}
			log.watchers.Add(-1)
			r.unwatch(looked.Add(test.after))
			if n := r.watching.Load(); n != test.want {
				t.Errorf("%d are watched, want %d", n, test.want)
			}
		})
	}
}

func TestHistogram(t *testing.T) {
	h := &histogram{}
	s := h.snapshot()
	if _, ok := s.percentile(50); ok {
		t.Error("a percentile of nothing")
	}
	for i := range buckets - 1 {
		if bucketOf(bucketStart(i)) != i || bucketOf(bucketStart(i+1)-1) != i {
			t.Fatalf("bucket %d from %v is %d to %d", i, bucketStart(i), bucketOf(bucketStart(i)), bucketOf(bucketStart(i+1)-1))
		}
	}
	for range 1000 {
		h.add(0)
		h.add(1e6)
	}
	for range 20 {
		h.add(1e9)
	}
	s = h.snapshot()
	for p, want := range map[float64]float64{10: 0, 60: 1e6, 98: 1e6, 99.9: 1e9} {
		got, _ := s.percentile(p)
		if float64(got) > want*1.13+200 || float64(got) < want*0.87 {
			t.Errorf("p%v is %v, want about %v", p, got, want)
		}
	}
	earlier := s
	h.add(5)
	s = h.snapshot()
	s = s.since(&earlier)
	if s.total() != 1 {
		t.Errorf("%d since", s.total())
	}
	h.add(-1)
	h.add(1 << 62)
}

func TestGroupStacks(t *testing.T) {
	const text = `goroutine 1 [chan receive, 12 minutes]:
main.work(0xc000, {0x1, 0x2})
	/src/main.go:10 +0x1d
main.main()
	/src/main.go:20 +0x25

goroutine 7 [chan receive, 3 minutes, locked to thread]:
main.work(0xc111, {0x3, 0x4})
	/src/main.go:10 +0x1d
main.main()
	/src/main.go:20 +0x25

goroutine 8 [running]:
main.(*server).loop(...)
	/src/server.go:5
created by main.start in goroutine 1
	/src/server.go:3 +0x99
`
	got, _ := json.Marshal(groupStacks(text))
	const want = `[{"count":2,"state":"chan receive","wait_minutes":12,"frames":[{"func":"main.work","file":"/src/main.go","line":10},` +
		`{"func":"main.main","file":"/src/main.go","line":20}]},{"count":1,"state":"running","frames":[{"func":"main.(*server).loop",` +
		`"file":"/src/server.go","line":5}],"created_by":{"func":"main.start","file":"/src/server.go","line":3}}]`
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if own := goroutines(); own.Total == 0 || len(own.Groups) == 0 {
		t.Errorf("%+v", own)
	}
}

func FuzzGroupStacks(f *testing.F) {
	f.Add("goroutine 1 [running]:\nmain.main()\n\t/x.go:1 +0x1\n")
	f.Add("goroutine [\n\n:\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, g := range groupStacks(text) {
			if g.Count < 1 {
				t.Fatalf("%+v", g)
			}
		}
	})
}
