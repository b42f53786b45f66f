package main_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const (
	undefined = `{"error":"Undefined action","code":"not_found"}`
	noAction  = `{"error":"Undefined action","code":"invalid_argument"}`
	denied    = `{"error":"Access denied","code":"permission_denied"}`
	stranger  = `{"error":"Access denied","code":"unauthenticated"}`
	badMethod = `{"error":"Method not allowed","code":"method_not_allowed"}`
	badType   = `{"error":"Unsupported media type","code":"unsupported_media_type"}`
	tooLarge  = `{"error":"Payload too large","code":"too_large"}`
	badOrigin = `{"error":"Origin not allowed","code":"permission_denied"}`
	malformed = `{"error":"*","code":"invalid_argument"}`
	internal  = `{"error":"Internal Server Error","code":"internal","request_id":"*"}`
)

// A call is a request over HTTP and what is wanted back.
type call struct {
	name    string
	target  string   // "POST /run"
	body    string   // JSON, unless headers say otherwise
	headers []string // of the request; {{name}} is a token
	status  int
	want    string   // JSON; "*" in it is any value. Empty is an empty body
	also    []string // headers of the response
}

func (c *call) run(t *testing.T, s *server, tokens map[string]string) {
	t.Helper()
	var headers []string
	for _, h := range c.headers {
		headers = append(headers, strings.ReplaceAll(fill(t, h, tokens), "HOST", s.addr))
	}
	got := s.do(t, c.target, c.body, headers...)
	if got.status != c.status || !sameJSON(got.body, c.want) {
		t.Errorf("got  %d %s\nwant %d %s", got.status, clip(got.body), c.status, clip(c.want))
	}
	for _, h := range c.also {
		name, want, _ := strings.Cut(h, ": ")
		if values := got.header.Values(name); !slices.Equal(values, []string{want}) {
			t.Errorf("%s: got %q, want %q", name, values, want)
		}
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json; charset=utf-8", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
	} {
		if values := got.header.Values(name); !slices.Equal(values, []string{want}) {
			t.Errorf("%s: got %q, want %q", name, values, want)
		}
	}
	if id := got.header.Values("X-Request-Id"); len(id) != 1 || id[0] == "" {
		t.Errorf("X-Request-Id: %q", id)
	} else if strings.Contains(got.body, `"request_id"`) && !strings.Contains(got.body, id[0]) {
		t.Errorf("X-Request-Id is %s, but the body %s", id[0], got.body)
	}
}

func runCalls(t *testing.T, s *server, calls []call) {
	t.Helper()
	tokens := tokens(t)
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) { c.run(t, s, tokens) })
	}
}

func as(token string, more ...string) []string {
	return append(more, "Authorization: Bearer {{"+token+"}}")
}

// post is a call by POST /run.
func post(name, body string, status int, want string) call {
	return call{name: name, target: "POST /run", body: body, status: status, want: want}
}

// postAs is post with a recorded token.
func postAs(token, name, body string, status int, want string) call {
	return call{name: name, target: "POST /run", body: body, headers: as(token), status: status, want: want}
}

// typed is a call of echo with a body of that type.
func typed(contentType, body string, status int, want string) call {
	return call{name: contentType, target: "POST /run/echo", body: body, headers: []string{"Content-Type: " + contentType},
		status: status, want: want}
}

const formType = "Content-Type: application/x-www-form-urlencoded"

func form(body string, status int, want string) call {
	return call{name: "form " + clip(body), target: "POST /run", body: body, headers: []string{formType}, status: status,
		want: want}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	echo := `{"echo":{"action":"echo","a":1}}`
	calls := []call{
		post("in the body", `{"action":"echo","a":1}`, 200, echo),
		{name: "in the path", target: "POST /run/echo", body: `{"a":1}`, status: 200, want: `{"echo":{"a":1}}`},
		{name: "in both", target: "POST /run/echo", body: `{"action":"echo","a":1}`, status: 200, want: echo},
		{name: "another in the body", target: "POST /run/echo", body: `{"action":"dump"}`, status: 400, want: malformed},
		{name: "a number in the body", target: "POST /run/echo", body: `{"action":5}`, status: 400, want: malformed},
		{name: "null in the body", target: "POST /run/echo", body: `{"action":null}`, status: 400, want: malformed},
		{name: "another in the query", target: "POST /run/echo?action=dump", status: 400, want: malformed},
		{name: "with a dot in the path", target: "POST /run/list.value", status: 200, want: `[1,"two",null,true]`},
		{name: "escaped in the path", target: "POST /run/list%2Evalue", status: 200, want: `[1,"two",null,true]`},
		{name: "unknown in the path", target: "POST /run/nope", status: 404, want: undefined},
		{name: "slash behind", target: "POST /run/echo/", status: 404, want: undefined},
		{name: "two parts", target: "POST /run/echo/x", status: 404, want: undefined},
		{name: "another case", target: "POST /run/Echo", status: 404, want: undefined},
		{name: "in the query", target: "POST /run?action=echo&a=1", status: 200, want: `{"echo":{"action":"echo","a":"1"}}`},
		{name: "query below the body", target: "POST /run?action=dump&a=2&b=3", body: `{"action":"echo","a":1}`, status: 200,
			want: `{"echo":{"action":"echo","a":1,"b":"3"}}`},
		{name: "query nests", target: "POST /run/echo?u[n]=x&l[]=1&l[]=2", status: 200,
			want: `{"echo":{"u":{"n":"x"},"l":["1","2"]}}`},
		{name: "query with a bad escape", target: "POST /run/echo?a=%zz", status: 400, want: malformed},
		{name: "query with bad UTF-8", target: "POST /run/echo?a=%ff", status: 400, want: malformed},
		post("no action", `{}`, 400, noAction), post("action a number", `{"action":5}`, 400, noAction),
		post("action null", `{"action":null}`, 400, noAction), post("action an object", `{"action":{}}`, 400, noAction),
		post("action empty", `{"action":""}`, 400, noAction),
		{name: "no body", target: "POST /run", status: 400, want: noAction},
		{name: "length 0", target: "POST /run/echo", headers: []string{"Content-Length: 0"}, status: 200, want: `{"echo":{}}`},
		post("unknown action", `{"action":"nope"}`, 404, undefined),
		post("name with a space", `{"action":"echo "}`, 404, undefined),
		post("method of Go", `{"action":"String"}`, 404, undefined),
		post("very long name", `{"action":"`+strings.Repeat("a", 10_000)+`"}`, 404, undefined),

		{name: "GET read-only", target: "GET /run?action=echo&a=1", status: 200, want: `{"echo":{"action":"echo","a":"1"}}`},
		{name: "GET in the path", target: "GET /run/echo?a=1", status: 200, want: `{"echo":{"a":"1"}}`},
		{name: "GET that changes state", target: "GET /run?action=pub", status: 405, want: badMethod,
			also: []string{"Allow: POST"}},
		{name: "GET that changes state, in the path", target: "GET /run/boom", status: 405, want: badMethod,
			also: []string{"Allow: POST"}},
		{name: "GET with the role", target: "GET /run?action=task.list", headers: as("r_user"), status: 405, want: badMethod,
			also: []string{"Allow: POST"}},
		{name: "GET unknown", target: "GET /run?action=nope", status: 404, want: undefined},
		{name: "GET nothing", target: "GET /run", status: 400, want: noAction},
		{name: "GET does not read a body", target: "GET /run/echo", body: `{"a":1}`, status: 200, want: `{"echo":{}}`},
		{name: "HEAD", target: "HEAD /run?action=echo", status: 200},
		{name: "HEAD that changes state", target: "HEAD /run?action=pub", status: 405, also: []string{"Allow: POST"}},
	}
	for _, method := range []string{"PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "LIST"} {
		for _, path := range []string{" /run", " /run/echo"} {
			calls = append(calls, call{name: method + path, target: method + path, body: `{"action":"echo"}`, status: 405,
				want: badMethod, also: []string{"Allow: POST"}})
		}
	}
	runCalls(t, recorded(t), calls)
}

func TestBodies(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat(`[`, n) + strings.Repeat(`]`, n) }
	body := `{"a":1}`
	echo := `{"echo":{"a":1}}`
	boundary := "Content-Type: multipart/form-data; boundary=x"
	part := func(head, body string) string {
		return "--x\r\nContent-Disposition: form-data; " + head + "\r\n\r\n" + body + "\r\n"
	}
	hello := `"sha256":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824","size":5`
	big := strings.Repeat("x", 1<<20)
	s := recorded(t)
	runCalls(t, s, []call{
		typed("application/json", body, 200, echo), typed("application/json; charset=utf-8", body, 200, echo),
		typed("application/json;charset=UTF-8", body, 200, echo), typed("APPLICATION/JSON", body, 200, echo),
		typed("application/vnd.api+json", body, 200, echo), typed("application/problem+json; x=y", body, 200, echo),
		typed("application/json; charset=latin1", body, 415, badType), typed("application/jsonx", body, 415, badType),
		typed("text/json", body, 415, badType), typed("text/plain", body, 415, badType),
		typed("application/xml", "<a/>", 415, badType),
		typed("application/octet-stream", "abc", 415, badType), typed("json", body, 415, badType),
		typed("multipart/mixed; boundary=x", "", 200, `{"echo":{}}`),
		{name: "no type", target: "POST /run/echo", body: body, headers: []string{"Content-Type:"}, status: 415, want: badType},
		{name: "no type, no body", target: "POST /run/echo", status: 200, want: `{"echo":{}}`},
		{name: "type, no body", target: "POST /run/echo", headers: []string{"Content-Type: application/json"}, status: 200,
			want: `{"echo":{}}`},
		{name: "gzip", target: "POST /run/echo", body: body, headers: []string{"Content-Encoding: gzip"}, status: 415,
			want: badType},

		{name: "list", target: "POST /run/echo", body: `[1,{"a":2}]`, status: 200, want: `{"echo":{"_json":[1,{"a":2}]}}`},
		{name: "number", target: "POST /run/echo", body: `1.50`, status: 200, want: `{"echo":{"_json":1.50}}`},
		{name: "string", target: "POST /run/echo", body: `"s"`, status: 200, want: `{"echo":{"_json":"s"}}`},
		{name: "null", target: "POST /run/echo", body: `null`, status: 200, want: `{"echo":{"_json":null}}`},
		{name: "false", target: "POST /run/echo", body: `false`, status: 200, want: `{"echo":{"_json":false}}`},
		{name: "list and query", target: "POST /run?action=echo", body: `[]`, status: 200,
			want: `{"echo":{"_json":[],"action":"echo"}}`},
		post("list without an action", `[{"action":"echo"}]`, 400, noAction),
		post("numbers stay exact", `{"action":"echo","n":[123456789012345678901234567890,1.10,1e400,-0.0,1E+2]}`, 200,
			`{"echo":{"action":"echo","n":[123456789012345678901234567890,1.10,1e400,-0.0,1E+2]}}`),
		post("text stays exact", `{"action":"echo","s":"é漢😀\u0000\u2028\ud83d\ude00\/","<":"&"}`, 200,
			`{"echo":{"action":"echo","s":"é漢😀\u0000\u2028😀/","<":"&"}}`),
		post("white space", " \n{\t\"action\" : \"echo\"\r}\n ", 200, `{"echo":{"action":"echo"}}`),
		post("escaped key", `{"\u0061ction":"echo"}`, 200, `{"echo":{"action":"echo"}}`),
		post("keys that differ in case below", `{"action":"dump","o":{"a":1,"A":2}}`, 200,
			`{"auth":null,"db":"dbhandle","ip":"127.0.0.1","params":{"action":"dump","o":{"a":1,"A":2}},"source":"http"}`),
		post("64 levels", `{"action":"echo","a":`+deep(63)+`}`, 200, `{"echo":{"action":"echo","a":`+deep(63)+`}}`),
		post("65 levels", `{"action":"echo","a":`+deep(64)+`}`, 400, malformed),
		post("70,000 levels", `{"action":"echo","a":`+deep(70_000)+`}`, 400, malformed),
		post("65,537 values", `{"action":"echo","a":[`+strings.Repeat("1,", 65_533)+`1]}`, 400, malformed),
		post("not JSON", `{"action":"echo"`, 400, malformed), post("white space only", ` `, 400, malformed),
		post("two values", `{"action":"echo"} {}`, 400, malformed),
		post("single quotes", `{'action':'echo'}`, 400, malformed), post("trailing comma", `{"action":"echo",}`, 400, malformed),
		post("NaN", `{"action":"echo","a":NaN}`, 400, malformed),
		post("leading zero", `{"action":"echo","a":01}`, 400, malformed),
		post("byte order mark", "\ufeff"+`{"action":"echo"}`, 400, malformed),
		post("line break in a string", "{\"action\":\"echo\",\"a\":\"\n\"}", 400, malformed),
		post("two equal keys", `{"action":"echo","a":1,"a":1}`, 400, malformed),
		post("two equal keys below", `{"action":"echo","o":[{"a":1,"\u0061":1}]}`, 400, malformed),
		post("two actions", `{"action":"echo","action":"dump"}`, 400, malformed),
		post("Action beside action", `{"action":"echo","Action":"dump"}`, 400, malformed),
		post("ACTION alone", `{"ACTION":"echo"}`, 400, malformed),
		post("key of another case", `{"action":"form.submit","Title":"abc"}`, 400, malformed),
		post("key of another case below", `{"action":"form.nested","address":{"City":"x"}}`, 400, malformed),
		post("bad UTF-8", "{\"action\":\"echo\",\"a\":\"\xff\"}", 400, malformed),
		post("lone surrogate", `{"action":"echo","a":"\ud800"}`, 400, malformed),

		form("action=echo&a=1&b=true&c=&d", 200, `{"echo":{"action":"echo","a":"1","b":"true","c":"","d":""}}`),
		form("action=echo&a+b=c%20d%2B%26", 200, `{"echo":{"action":"echo","a b":"c d+&"}}`),
		form("action=echo&user[name]=x&user[a][b]=y&tags[]=a&tags[]=b&l[][k]=1", 200,
			`{"echo":{"action":"echo","user":{"name":"x","a":{"b":"y"}},"tags":["a","b"],"l":[{"k":"1"}]}}`),
		form("action=echo&a=1&a=2", 200, `{"echo":{"action":"echo","a":"2"}}`),
		form("action=echo&a=1&a[b]=2", 400, malformed), form("action=echo&a[]=1&a[b]=2", 400, malformed),
		form("action=echo&a=%ff", 400, malformed),
		form("action=echo&a=%", 400, malformed), form("action=nope", 404, undefined), form("a=1", 400, noAction),
		form("action[]=echo", 400, noAction),
		form("action=form.submit&title=abc&email=a@b.c&age=20", 422,
			`{"error":"validation_failed","code":"validation_failed","errors":{"age":["must be an integer"]}}`),
		form("action=form.nested&address[city]=x&address[zip]=12345", 200, `{"valid":true}`),
		form("action=echo&a"+strings.Repeat("[a]", 70)+"=1", 400, malformed),
		form("action=echo&n=x&password=p", 200, `{"echo":{"action":"echo","n":"x","password":"p"}}`),

		{name: "multipart", target: "POST /run", headers: []string{boundary}, status: 200,
			want: `{"echo":{"action":"echo","u":{"n":"é"},"t":["1"]}}`,
			body: part(`name="action"`, "echo") + part(`name="u[n]"`, "é") + part(`name="t[]"`, "1") + "--x--\r\n"},
		{name: "multipart with a file", target: "POST /run", headers: []string{boundary}, status: 200,
			want: `{` + hello + `,"meta":{"action":"bin","a":"1"}}`,
			body: part(`name="action"`, "bin") + part(`name="f"; filename="a.txt"`, "hello") + part(`name="a"`, "1") + "--x--\r\n"},
		{name: "a file is no param", target: "POST /run/echo", headers: []string{boundary}, status: 200, want: `{"echo":{"a":"1"}}`,
			body: part(`name="f"; filename="a.txt"`, "hello") + part(`name="a"`, "1") + "--x--\r\n"},
		{name: "keys with odd brackets", target: "POST /run/echo", headers: []string{formType}, status: 200,
			want: `{"echo":{"a[b":"1","c]":"2","":"x","[x]":"1","d":{"0":"a"}}}`, body: "a[b=1&c]=2&=x&[x]=1&d[0]=a"},
		{name: "multipart in the path", target: "POST /run/bin", headers: []string{boundary}, status: 200,
			want: `{` + hello + `,"meta":{}}`,
			body: part(`name="f"; filename="../../a"`, "hello") + "--x--\r\n"},
		{name: "multipart bad UTF-8", target: "POST /run/echo", headers: []string{boundary}, status: 400, want: malformed,
			body: part(`name="a"`, "\xff") + "--x--\r\n"},
		{name: "multipart without an end", target: "POST /run/echo", headers: []string{boundary}, status: 400,
			want: malformed, body: part(`name="a"`, "1")},
		{name: "multipart without boundary", target: "POST /run/echo", headers: []string{"Content-Type: multipart/form-data"},
			status: 400, want: malformed, body: "x"},
		{name: "multipart too large", target: "POST /run/bin", headers: []string{boundary}, status: 413, want: tooLarge,
			body: part(`name="f"; filename="a"`, big) + "--x--\r\n"},

		{name: "1 MiB", target: "POST /run/bin", body: `{"a":"` + big[:1<<20-8] + `"}`, status: 200,
			want: `{"meta":"*","sha256":"*","size":0}`},
		{name: "1 MiB and 1 byte", target: "POST /run/bin", body: `{"a":"` + big[:1<<20-7] + `"}`, status: 413, want: tooLarge},
		{name: "chunked", target: "POST /run/echo", body: "7\r\n" + body + "\r\n0\r\n\r\n",
			headers: []string{"Transfer-Encoding: chunked"}, status: 200, want: echo},
		{name: "chunked too large", target: "POST /run/bin", body: "100008\r\n{\"a\":\"" + big + "\"}\r\n0\r\n\r\n",
			headers: []string{"Transfer-Encoding: chunked"}, status: 413, want: tooLarge},
	})
}

func TestQueryTypes(t *testing.T) {
	t.Parallel()
	fault := func(text string) string {
		return `{"error":"validation_failed","code":"validation_failed","errors":{` + text + `}}`
	}
	rules := func(query string, status int, want string) call {
		return call{name: query, target: "POST /run/rules?" + query, body: `{"required":1,"one_other":1}`, status: status,
			want: want}
	}
	runCalls(t, recorded(t), []call{
		{name: "integer", target: "POST /run/slow?ms=1", status: 200, want: `{"slept":1}`},
		{name: "no integer", target: "POST /run/slow?ms=x", status: 422, want: fault(`"ms":["must be an integer"]`)},
		{name: "fraction", target: "POST /run/slow?ms=1.5", status: 422, want: fault(`"ms":["must be an integer"]`)},
		{name: "empty", target: "POST /run/slow?ms=", status: 422, want: fault(`"ms":["must be an integer"]`)},
		{name: "body above", target: "POST /run/slow?ms=60000", body: `{"ms":1}`, status: 200, want: `{"slept":1}`},
		{name: "form below query", target: "POST /run/slow?ms=1", body: "ms=2", headers: []string{formType}, status: 422,
			want: fault(`"ms":["must be an integer"]`)},
		{name: "strings stay", target: "POST /run/value?kind=string", status: 200, want: `"plain"`},
		{name: "form.submit", target: "POST /run/form.submit?age=20&priority=2&title=123&email=a@b.c&tags[]=1", status: 200,
			want: `{"valid":true}`},
		{name: "overridden", target: "POST /run/report.forced?format=html&x=1", status: 200,
			want: `{"format":null,"params":{"x":"1","format":"pdf","opts":{"a":1}}}`},
		rules("integer=5", 200, `{"valid":true}`), rules("integer=5.5", 422, fault(`"integer":["must be an integer"]`)),
		rules("boolean=true", 200, `{"valid":true}`), rules("boolean=1", 422, fault(`"boolean":["must be a boolean"]`)),
		rules("float=1e3", 200, `{"valid":true}`), rules("number=-1", 200, `{"valid":true}`),
		rules("min=2", 422, fault(`"min":["must be at least 3"]`)),
		rules("string=5", 200, `{"valid":true}`), rules("number=0x10", 422, fault(`"number":["must be a number"]`)),
	})
}

func TestAuthorization(t *testing.T) {
	t.Parallel()
	user := `{"secret":42,"user":"alice"}`
	// any.role needs a role of r_all.
	with := func(name string, status int, want string, headers ...string) call {
		c := call{name: name, target: "POST /run/any.role", headers: headers, status: status, want: want}
		if status == 401 {
			c.also = []string{"WWW-Authenticate: Bearer"}
		}
		return c
	}
	app := func(app string, user, roles string) string {
		return `{"app":"` + app + `","user":` + user + `,"roles":` + roles + `}`
	}
	runCalls(t, recorded(t), []call{
		with("Bearer", 200, user, "Authorization: Bearer {{r_all}}"),
		with("bearer", 200, user, "Authorization: bearer {{r_all}}"),
		with("BEARER", 200, user, "authorization: BEARER {{r_all}}"),
		with("two spaces", 200, user, "Authorization: Bearer   {{r_all}}"),
		with("bare", 200, user, "Authorization: {{r_all}}"), with("Token:", 200, user, "Authorization: Token: {{r_all}}"),
		with("Auth:", 200, user, "Authorization: Auth: {{r_all}}"), with("Basic", 401, invalidToken, "Authorization: Basic YTpi"),
		with("Bearer alone", 401, invalidToken, "Authorization: Bearer"), with("none", 401, stranger),
		with("empty", 401, stranger, "Authorization:"),
		with("word", 401, invalidToken, "Authorization: Bearer x"),
		with("expired", 401, expiredToken, "Authorization: Bearer {{f_expired}}"),
		with("two tokens in one", 401, invalidToken, "Authorization: Bearer {{r_all}}, Bearer {{r_all}}"),
		with("two headers", 400, malformed, "Authorization: Bearer {{r_all}}", "Authorization: Bearer {{r_all}}"),
		with("cookie", 401, stranger, "Cookie: token={{r_all}}; Authorization={{r_all}}"),
		with("sub-protocol", 401, stranger, "Sec-WebSocket-Protocol: mooncore.v1, bearer.{{r_all}}"),
		{name: "query", target: "POST /run/any.role?token=x&access_token=x&jwt=x&Authorization=x", status: 401, want: stranger},
		{name: "bad token at a public action", target: "POST /run/echo", headers: as("f_none"), status: 401,
			want: invalidToken, also: []string{"WWW-Authenticate: Bearer"}},
		{name: "bad token at an unknown action", target: "POST /run/nope", headers: as("f_none"), status: 401,
			want: invalidToken},

		postAs("r_user", "lacks the role", `{"action":"admin.only"}`, 403, denied),
		postAs("r_none", "no roles", `{"action":"task.list"}`, 403, denied),
		postAs("c_identity", "no claim roles", `{"action":"task.list"}`, 403, denied),
		postAs("r_all", "admin", `{"action":"admin.only"}`, 200, user),
		postAs("r_reversed_dup", "one of two roles", `{"action":"any.role"}`, 200, user),
		postAs("r_user", "list", `{"action":"task.list"}`, 200, `[]`),
		postAs("f_roles_list_admin", "names", `{"action":"admin.only"}`, 200, user),
		postAs("r_user", "create", `{"action":"task.create","title":"ab","x":1}`, 200, `{"title":"ab"}`),
		postAs("r_none", "access before validation", `{"action":"task.create"}`, 403, denied),
		post("access before validation, nobody", `{"action":"task.create","title":5}`, 401, stranger),
		postAs("r_user", "validation after access", `{"action":"task.create"}`, 422,
			`{"error":"validation_failed","code":"validation_failed","errors":{"title":["is required"]}}`),

		postAs("r_user", "another app's action", `{"action":"other.only"}`, 404, undefined),
		postAs("r_user", "unknown action", `{"action":"nope"}`, 404, undefined),
		postAs("r_all", "another app's role action", `{"action":"owner.only"}`, 404, undefined),
		postAs("other_owner", "myapp's action", `{"action":"dump"}`, 404, undefined),
		postAs("other_owner", "own echo", `{"action":"echo"}`, 200, app("otherapp", `"alice"`, `["owner"]`)),
		postAs("other_owner", "own role", `{"action":"owner.only"}`, 200, app("otherapp", `"alice"`, `["owner"]`)),
		postAs("big_r79", "80th role", `{"action":"zbig.r79"}`, 200, `{"roles":["r79"]}`),
		postAs("big_all80", "80 roles", `{"action":"zbig.r79"}`, 200, `{"roles":`+eighty()+`}`),
		post("nobody: first app with it", `{"action":"echo"}`, 200, `{"echo":{"action":"echo"}}`),
		post("nobody: second app", `{"action":"other.only"}`, 200, app("otherapp", "null", "null")),
		post("nobody: third app", `{"action":"roles"}`, 200, `{"roles":null}`),
		post("nobody: not public in any", `{"action":"owner.only"}`, 401, stranger),
		post("nobody: not public in the third", `{"action":"zbig.r79"}`, 401, stranger),
		post("nobody: unknown", `{"action":"nope"}`, 404, undefined),
		{name: "nobody: GET not public", target: "GET /run?action=task.list", status: 401, want: stranger,
			also: []string{"WWW-Authenticate: Bearer"}},
	})
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	value := func(kind string, want string) call {
		return post(kind, `{"action":"value","kind":"`+kind+`"}`, 200, want)
	}
	secret := func(kind string, want string) call {
		return post(kind, `{"action":"secret","kind":"`+kind+`"}`, 200, want)
	}
	runCalls(t, recorded(t), []call{
		post("panic", `{"action":"boom"}`, 500, internal),
		post("not found", `{"action":"err.tuple"}`, 404, `{"error":"not found","code":"not_found"}`),
		post("log id", `{"action":"err.log"}`, 412, `{"error":"failed","code":"failed_precondition","log_id":"log-123"}`),
		post("list", `{"action":"list.value"}`, 200, `[1,"two",null,true]`),
		value("string", `"plain"`), value("int", `7`), value("nil", `null`), value("true", `true`), value("false", `false`),
		value("datetime", `{"t":"2026-01-02T03:04:05.678Z"}`), value("unicode", "{\"s\":\"é漢😀</script>\u2028\u007f\"}"),
		value("ctrl", `{"s":"\u0000\u0001\u001f\"\\/"}`),
		value("bigint", `{"n":123456789012345678901234567890}`), value("keyorder", `{"b":1,"a":2,"C":3,"10":4,"9":5}`),
		secret("string_key", `{"name":"n"}`), secret("nested", `{"user":{"password":"p"},"name":"n"}`),
		secret("list", `[{"password":"p"}]`),
		post("slow", `{"action":"slow","ms":5}`, 200, `{"slept":5}`),
		post("report.pdf", `{"action":"report.pdf","format":"html","a":[1]}`, 200,
			`{"format":"pdf","params":{"action":"report.pdf","format":"html","a":[1]}}`),
		post("report.forced", `{"action":"report.forced","format":"html","opts":{"b":2},"c":3}`, 200,
			`{"format":null,"params":{"action":"report.forced","c":3,"format":"pdf","opts":{"a":1}}}`),
		post("bin without payload", `{"action":"bin"}`, 200,
			`{"meta":{"action":"bin"},"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}`),
		post("pub by nobody", `{"action":"pub","x":1}`, 200, `{"published":true}`),
		postAs("r_user", "pub", `{"action":"pub","x":1}`, 200, `{"published":true}`),
		postAs("r_user", "pub.to",
			`{"action":"pub.to","event":"e","data":{"password":"p","a":1},"channels":["main:default","@bob"]}`, 200,
			`{"returned":{"a":1}}`),
		postAs("r_user", "pub.to reserved", `{"action":"pub.to","event":"response","data":1}`, 400, malformed),
		postAs("r_user", "pub.to lost", `{"action":"pub.to","event":"lost","data":1}`, 400, malformed),
		postAs("r_user", "dump", `{"action":"dump","x":1}`, 200,
			`{"auth":"*","db":"dbhandle","ip":"127.0.0.1","params":{"action":"dump","x":1},"source":"http"}`),
	})
}

// TestExactBytes: what a handler gives as raw JSON goes out as it is.
func TestExactBytes(t *testing.T) {
	t.Parallel()
	s := recorded(t)
	for kind, want := range map[string]string{
		"keyorder": `{"b":1,"a":2,"C":3,"10":4,"9":5}`, "bigint": `{"n":123456789012345678901234567890}`, "nil": "null",
		"string":  `"plain"`,
		"unicode": "{\"s\":\"é漢😀</script>\u2028\u007f\"}",
	} {
		if got := s.do(t, "POST /run", `{"action":"value","kind":"`+kind+`"}`); got.body != want {
			t.Errorf("%s: got %s, want %s", kind, got.body, want)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	s := recorded(t)
	for _, tt := range []struct {
		name, id string
		kept     bool
	}{
		{"uuid", "0190f7a4-7a68-7c5e-8f5f-2d5f4d1c2b3a", true}, {"128 characters", strings.Repeat("x", 128), true},
		{"printable", `a b"<>\~!`, true},
		{"129 characters", strings.Repeat("x", 129), false}, {"not ASCII", "é", false}, {"tab", "a\tb", false},
		{"empty", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, target := range []string{"POST /run/echo", "POST /run/boom", "PUT /run", "POST /run/nope"} {
				got := s.do(t, target, "", "X-Request-Id: "+tt.id).header.Get("X-Request-Id")
				if (got == tt.id) != tt.kept || got == "" {
					t.Errorf("%s: got %q for %q", target, got, tt.id)
				}
			}
		})
	}
	if a, b := s.do(t, "GET /run/echo", "").header.Get("X-Request-Id"),
		s.do(t, "GET /run/echo", "").header.Get("X-Request-Id"); a == b {
		t.Errorf("the same fresh id twice: %q", a)
	}
}

func TestHTTPOrigin(t *testing.T) {
	t.Parallel()
	s := recorded(t, "ALLOW_ORIGINS=https://app.example, http://localhost:3000")
	ok := func(name string, headers ...string) call {
		return call{name: name, target: "POST /run/echo", headers: headers, status: 200, want: `{"echo":{}}`}
	}
	refused := func(name string, headers ...string) call {
		return call{name: name, target: "POST /run/echo", headers: headers, status: 403, want: badOrigin}
	}
	runCalls(t, s, []call{
		ok("no browser"), ok("no browser with a cookie", "Cookie: a=b"), ok("same origin", "Origin: http://HOST"),
		ok("same origin, fetch", "Origin: http://HOST", "Sec-Fetch-Site: same-origin"),
		ok("typed in", "Sec-Fetch-Site: none"), ok("listed", "Origin: https://app.example", "Sec-Fetch-Site: cross-site"),
		ok("listed with its port", "Origin: https://app.example:443"),
		ok("listed in capitals", "Origin: HTTPS://APP.example"), ok("listed, other port", "Origin: http://localhost:3000"),
		refused("foreign", "Origin: https://evil.example"), refused("null", "Origin: null"), refused("empty", "Origin: "),
		refused("other scheme", "Origin: https://HOST"),
		refused("other port", "Origin: http://127.0.0.1:1"), refused("no port", "Origin: http://127.0.0.1"),
		refused("listed, other scheme", "Origin: http://app.example"),
		refused("listed, other port", "Origin: https://app.example:8443"),
		refused("below a listed one", "Origin: https://x.app.example"), refused("suffix", "Origin: https://app.example.evil"),
		refused("with a path", "Origin: https://app.example/"),
		refused("two origins", "Origin: http://HOST", "Origin: http://HOST"),
		refused("two in one", "Origin: http://HOST, http://HOST"),
		refused("cross-site", "Sec-Fetch-Site: cross-site"), refused("same-site", "Sec-Fetch-Site: same-site"),
		refused("same origin, but cross-site", "Origin: http://HOST", "Sec-Fetch-Site: cross-site"),
		{name: "foreign GET", target: "GET /run/echo", headers: []string{"Origin: https://evil.example"}, status: 403,
			want: badOrigin},
		{name: "foreign form", target: "POST /run/echo", body: "a=1",
			headers: []string{formType, "Origin: https://evil.example"}, status: 403, want: badOrigin},
		{name: "before the token", target: "POST /run/echo",
			headers: []string{"Origin: https://evil.example", "Authorization: Bearer x"}, status: 403, want: badOrigin},
	})
	preflight := func(origin string) response {
		return s.do(t, "OPTIONS /run", "", "Origin: "+origin, "Access-Control-Request-Method: POST",
			"Access-Control-Request-Headers: authorization,content-type")
	}
	if got := preflight("https://app.example"); got.status/100 != 2 || got.header.Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Errorf("preflight of a listed origin: %d %v", got.status, got.header)
	}
	if got := preflight("https://evil.example"); got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("preflight of a foreign origin: %d %v", got.status, got.header)
	}
	if got := s.do(t, "POST /run/echo", "",
		"Origin: https://app.example"); got.header.Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Errorf("listed origin: %v", got.header)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := recorded(t)
	for _, tt := range []struct {
		target string
		status int
		want   string
	}{
		{"GET /livez", 200, "ok"}, {"GET /readyz", 200, `{"status":"ok","checks":{}}`},
		{"GET /health", 200, `{"status":"ok","checks":{}}`},
		{"HEAD /livez", 200, ""}, {"HEAD /health", 200, ""}, {"POST /health", 405, badMethod}, {"POST /livez", 405, badMethod},
	} {
		if got := s.do(t, tt.target,
			""); got.status != tt.status || strings.TrimSpace(got.body) != tt.want && !sameJSON(got.body, tt.want) {
			t.Errorf("%s: got %d %q, want %d %q", tt.target, got.status, got.body, tt.status, tt.want)
		}
	}
	for _, path := range []string{"/", "/nope", "/runx", "/ws/", "/health/", "/run/../nope", "//run", "/dev", "/mcp", "/debug/pprof/"} {
		if got := s.do(t, "GET "+path, ""); got.status == 200 || got.status >= 500 {
			t.Errorf("GET %s: %d %s", path, got.status, got.body)
		}
	}
	if got := s.do(t, "GET /", ""); got.status != 404 {
		t.Errorf("GET /: %d", got.status)
	}
}

// TestLegacyStatus: 200 to every outcome of an action; what cannot be read keeps its status.
func TestLegacyStatus(t *testing.T) {
	t.Parallel()
	s := recorded(t, "MOONCORE_LEGACY=true")
	legacy := func(c call) call { c.status = http.StatusOK; return c }
	runCalls(t, s, []call{
		legacy(post("unknown", `{"action":"nope"}`, 0, undefined)), legacy(post("no action", `{}`, 0, noAction)),
		legacy(post("nobody", `{"action":"task.list"}`, 0, stranger)),
		legacy(postAs("r_none", "no role", `{"action":"task.list"}`, 0, denied)),
		legacy(post("panic", `{"action":"boom"}`, 0, internal)),
		legacy(post("log id", `{"action":"err.log"}`, 0, `{"error":"failed","code":"failed_precondition","log_id":"log-123"}`)),
		legacy(post("validation", `{"action":"form.nested"}`, 0,
			`{"error":"validation_failed","code":"validation_failed","errors":{"address":["is required"]}}`)),
		legacy(postAs("f_none", "bad token is none", `{"action":"echo"}`, 0, `{"echo":{"action":"echo"}}`)),
		legacy(postAs("f_expired", "expired token is none", `{"action":"task.list"}`, 0, stranger)),
		post("not JSON", `{`, 400, malformed), post("two equal keys", `{"action":"echo","a":1,"a":2}`, 400, malformed),
		typed("text/plain", "x", 415, badType),
		post("too large", `{"action":"echo","a":"`+strings.Repeat("x", 1<<20)+`"}`, 413, tooLarge),
		{name: "method", target: "PUT /run", status: 405, want: badMethod, also: []string{"Allow: POST"}},
		{name: "GET that changes state", target: "GET /run/pub", status: 405, want: badMethod, also: []string{"Allow: POST"}},
		{name: "origin", target: "POST /run/echo", headers: []string{"Origin: null"}, status: 403, want: badOrigin},
		{name: "two headers", target: "POST /run/echo", headers: []string{"Authorization: a", "Authorization: b"},
			status: 400, want: malformed},
	})
	c, answer := s.dial(t, "Authorization: Bearer "+tokens(t)["f_none"])
	if c == nil {
		t.Fatalf("a bad token at the upgrade: %d %s", answer.status, answer.body)
	}
	c.sendText("channel_list", fmt.Sprintf(`["jwt",%q]`, tokens(t)["f_none"]))
	c.expect(`["channel_list",[]]`, `["jwt","jwt_failed"]`)
}
