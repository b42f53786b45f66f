package main_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/wsraw"
)

const (
	unknown    = `["socket_error","unknown_message"]`
	undecoded  = `["socket_error","json_decode_failed"]`
	jwtFailed  = `["jwt","jwt_failed"]`
	list       = `[1,"two",null,true]`
	listAction = `"action":"list.value"`
)

// TestTextFrames sends one text message on a fresh connection: PROTOCOL.md section 3.
func TestTextFrames(t *testing.T) {
	t.Parallel()
	s := recorded(t)
	deep := strings.Repeat(`[`, 70) + strings.Repeat(`]`, 70)
	fault := func(ray string) string { return `["response",` + malformed + `,` + ray + `]` }
	for _, tt := range []struct{ name, send, want string }{
		{"ping", "ping", "pong"}, {"time", "time", `["server_time","*"]`}, {"channel_list", "channel_list", `["channel_list",[]]`},
		{"Ping", "Ping", undecoded}, {"ping and a space", "ping ", undecoded}, {"ping and a line break", "ping\n", undecoded}, {"empty", "", undecoded},
		{"space", " ", undecoded}, {"quit and more", "quit!", undecoded}, {"half an object", `{"action":"echo"`, undecoded}, {"half a list", `["join"`, undecoded},
		{"NaN", `{"action":NaN}`, undecoded}, {"two objects", `{}{}`, undecoded}, {"byte order mark", "\ufeff{}", undecoded}, {"NUL", "\x00", undecoded},
		{"ping as JSON", `"ping"`, unknown}, {"quit as JSON", `"quit"`, unknown}, {"number", `5`, unknown}, {"null", `null`, unknown}, {"true", ` true `, unknown},
		{"[]", `[]`, unknown}, {"[[]]", `[[]]`, unknown}, {"[{}]", `[{}]`, unknown}, {`["join"]`, `["join"]`, unknown}, {`["jwt"]`, `["jwt"]`, unknown}, {`["leave"]`, `["leave"]`, unknown},
		{"join two", `["join","a","b"]`, unknown}, {"leave two", `["leave","a","b"]`, unknown}, {"jwt two", `["jwt","a","b"]`, unknown},
		{"JOIN", `["JOIN","main"]`, unknown}, {"ping in a list", `["ping"]`, unknown}, {"number first", `[5,"main"]`, unknown}, {"unknown pair", `["nope","main"]`, unknown},
		{"null pair", `[null,null]`, unknown}, {"object first", `[{"action":"echo"},"x"]`, unknown}, {"deep list", deep, unknown}, {"deep join", `["join",` + deep + `]`, unknown},
		{"lone surrogate in a list", `["join","\ud800"]`, unknown},
		{"jwt a number", `["jwt",5]`, jwtFailed}, {"jwt null", `["jwt",null]`, jwtFailed}, {"jwt empty", `["jwt",""]`, jwtFailed}, {"jwt an object", `["jwt",{"token":"x"}]`, jwtFailed},
		{"jwt a list", `["jwt",["x"]]`, jwtFailed}, {"jwt a word", ` [ "jwt" , "x" ] `, jwtFailed}, {"jwt of 70,000 bytes", `["jwt","` + strings.Repeat("x", 70_000) + `"]`, jwtFailed},
		{"escaped command", `["\u006awt","x"]`, jwtFailed},
		{"join by nobody", `["join","main"]`, `["channel_list",[]]`}, {"leave by nobody", `["leave","main"]`, `["channel_list",[]]`},
		{"leave ws:pending", `["leave","ws:pending"]`, `["channel_list",[]]`}, {"join a number", `["join",5]`, `["channel_list",[]]`}, {"leave null", `["leave",null]`, `["channel_list",[]]`},

		{"{}", `{}`, `["response",` + noAction + `,null]`}, {"action a number", `{"action":5,"rayid":1}`, `["response",` + noAction + `,1]`},
		{"action empty", `{"action":"","rayid":1}`, `["response",` + noAction + `,1]`}, {"action null", `{"action":null}`, `["response",` + noAction + `,null]`},
		{"unknown action", `{"action":"nope","rayid":"a"}`, `["response",` + undefined + `,"a"]`}, {"not public", `{"action":"task.list","rayid":"a"}`, `["response",` + stranger + `,"a"]`},
		{"second app", `{"action":"other.only"}`, `["response",{"app":"otherapp","user":null,"roles":null},null]`},
		{"panic", `{"action":"boom","rayid":"a"}`, `["response",` + internal + `,"a"]`},
		{"validation", `{"action":"form.nested","address":{"zip":"1"},"rayid":"a"}`, `["response",{"error":"validation_failed","code":"validation_failed","errors":{"address.city":["is required"],"address.zip":["must be exactly 5 characters"]}},"a"]`},
		{"log id", `{"action":"err.log"}`, `["response",{"error":"failed","code":"failed_precondition","log_id":"log-123"},null]`},
		{"dump", `{"action":"dump","rayid":"a","x":1}`, `["response",{"action":"dump","auth":null,"db":"dbhandle","params":{"action":"dump","rayid":"a","x":1},"rayid":"a","source":"ws"},"a"]`},
		{"dump without a rayid", `{"action":"dump"}`, `["response",{"action":"dump","auth":null,"db":"dbhandle","params":{"action":"dump"},"rayid":null,"source":"ws"},null]`},
		{"white space", " {\n" + listAction + "\t} ", `["response",` + list + `,null]`},
		{"two equal keys", `{"action":"echo","rayid":"a","x":1,"x":2}`, fault(`"a"`)}, {"two equal keys before", `{"x":1,"x":2,"rayid":"a","action":"echo"}`, fault(`"a"`)},
		{"Action", `{"action":"echo","Action":"echo","rayid":7}`, fault(`7`)}, {"RAYID", `{"action":"echo","RAYID":7}`, fault(`null`)},
		{"deep", `{"action":"echo","rayid":"a","x":` + deep + `}`, fault(`"a"`)}, {"deep before", `{"x":` + deep + `,"rayid":"a","action":"echo"}`, fault(`"a"`)},
		{"70,000 values", `{"rayid":"a","action":"echo","x":[` + strings.Repeat("1,", 70_000) + `1]}`, fault(`"a"`)}, {"lone surrogate", `{"action":"echo","rayid":"a","s":"\udc00"}`, fault(`"a"`)},
		{"value nil", `{"action":"value","kind":"nil"}`, `["response",null,null]`}, {"value bigint", `{"action":"value","kind":"bigint"}`, `["response",{"n":123456789012345678901234567890},null]`},
		{"value keyorder", `{"action":"value","kind":"keyorder"}`, `["response",{"b":1,"a":2,"C":3,"10":4,"9":5},null]`},
		{"reserved fields", `{` + listAction + `,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","idempotency_key":"a"}`, `["response",` + list + `,null]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := s.connect(t, "")
			c.sendText(tt.send)
			c.expect(tt.want)
			c.sendText("ping")
			c.expect("pong") // the connection stays
		})
	}
}

// TestRayID: any JSON value comes back byte for byte.
func TestRayID(t *testing.T) {
	t.Parallel()
	c := recorded(t).connect(t, "")
	for _, ray := range []string{
		`"a"`, `""`, `"\u0041\/\n"`, `"é漢😀"`, "\"</script>\u2028\u007f\"", `0`, `-0`, `1.50e+1`, `123456789012345678901234567890`, `1E400`, `true`, `false`, `null`,
		`{}`, `{"b": 1,"a":[1, 2 ],"B":null}`, `[ ]`, `[[["x"]]]`, `"barrier"`,
	} {
		for _, frame := range []string{`{` + listAction + `,"rayid":` + ray + `}`, `{"rayid" :  ` + ray + "\n, " + listAction + `}`} {
			c.sendText(frame)
			if got, want := c.received(), []string{`["response",` + list + `,` + ray + `]`}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		if err := c.Send(wsraw.Frame{Op: wsraw.Binary, Payload: binaryCall(`{`+listAction+`,"rayid":`+ray+`}`, "x")}); err != nil {
			t.Fatal(err)
		}
		if got, want := c.received(), []string{`["response",` + list + `,` + ray + `]`}; !slices.Equal(got, want) {
			t.Errorf("binary: got %q, want %q", got, want)
		}
	}
}

func TestBinaryFrames(t *testing.T) {
	t.Parallel()
	s := recorded(t)
	bin := func(meta, payload string) string { return string(binaryCall(meta, payload)) }
	size := func(meta string, size int, sum, ray string) string {
		return fmt.Sprintf(`["response",{"meta":%s,"sha256":%q,"size":%d},%s]`, meta, sum, size, ray)
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, tt := range []struct{ name, send, want string }{
		{"empty", "", undecoded}, {"one byte", "\x05", undecoded}, {"length 0", "\x00\x00", undecoded}, {"length 0 and payload", "\x00\x00{}", undecoded},
		{"length past the end", "\x05\x00{}", undecoded}, {"length 65,535 past the end", "\xff\xff{}", undecoded}, {"big-endian length", "\x00\x02{}", undecoded},
		{"metadata a list", bin(`["join","main"]`, ""), undecoded}, {"metadata null", bin(`null`, ""), undecoded}, {"metadata a string", bin(`"ping"`, ""), undecoded},
		{"metadata ping", bin(`ping`, ""), undecoded}, {"metadata half", bin(`{"action":"bin"`, ""), undecoded}, {"metadata of spaces", bin(`  `, ""), undecoded},
		{"metadata and more", bin(`{} {}`, ""), undecoded}, {"no action", bin(`{}`, "x"), `["response",` + noAction + `,null]`},
		{"two equal keys", bin(`{"action":"bin","rayid":"a","x":1,"x":1}`, "x"), `["response",` + malformed + `,"a"]`},
		{"unknown action", bin(`{"action":"nope","rayid":1}`, "x"), `["response",` + undefined + `,1]`}, {"not public", bin(`{"action":"task.list","rayid":1}`, "x"), `["response",` + stranger + `,1]`},
		{"no payload", bin(`{"action":"bin"}`, ""), size(`{"action":"bin"}`, 0, empty, `null`)},
		{"payload", bin(`{"action":"bin","rayid":"a"}`, "hello"), size(`{"action":"bin","rayid":"a"}`, 5, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", `"a"`)},
		{"payload of any bytes", bin(`{"action":"bin"}`, "\x00\xff"), size(`{"action":"bin"}`, 2, "*", `null`)},
		{"large payload", bin(`{"action":"bin"}`, strings.Repeat("x", 1_000_000)), size(`{"action":"bin"}`, 1_000_000, "*", `null`)},
		{"payload like metadata", bin(`{"action":"bin"}`, `{"action":"boom"}`), size(`{"action":"bin"}`, 17, "*", `null`)},
		{"payload as text", bin(`{"action":"echo"}`, "é"), `["response",{"echo":{"action":"echo","bind":"é"}},null]`},
		{"payload no text", bin(`{"action":"echo"}`, "\xff"), `["response",{"echo":{"action":"echo"}},null]`},
		{"metadata poses as payload", bin(`{"action":"echo","bind":"meta"}`, "payload"), `["response",{"echo":{"action":"echo","bind":"payload"}},null]`},
		{"no payload as text", bin(`{"action":"echo"}`, ""), `["response",{"echo":{"action":"echo","bind":""}},null]`},
		{"panic", bin(`{"action":"boom","rayid":"a"}`, "x"), `["response",` + internal + `,"a"]`},
		{"metadata no UTF-8", bin("{\"action\":\"bin\",\"rayid\":1,\"x\":\"\xff\"}", "x"), `["response",` + malformed + `,1]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := s.connect(t, "")
			if err := c.Send(wsraw.Frame{Op: wsraw.Binary, Payload: []byte(tt.send)}); err != nil {
				t.Fatal(err)
			}
			c.expect(tt.want)
			c.sendText("ping")
			c.expect("pong")
		})
	}
}

// TestFraming sends frames and bytes that are right or wrong by RFC 6455.
func TestFraming(t *testing.T) {
	t.Parallel()
	s := recorded(t)
	frame := func(op byte, payload string) wsraw.Frame { return wsraw.Frame{Op: op, Payload: []byte(payload)} }
	more := func(op byte, payload string) wsraw.Frame {
		return wsraw.Frame{Op: op, More: true, Payload: []byte(payload)}
	}
	closed := func(code int) []string { return []string{fmt.Sprintf("<close %d>", code), "<eof>"} }
	for _, tt := range []struct {
		name string
		send []wsraw.Frame
		want []string
	}{
		{"quit", []wsraw.Frame{frame(wsraw.Text, "quit")}, closed(1000)},
		{"ping frame", []wsraw.Frame{frame(wsraw.Ping, "abc")}, []string{"<pong abc>"}}, {"empty ping frame", []wsraw.Frame{frame(wsraw.Ping, "")}, []string{"<pong >"}},
		{"longest ping frame", []wsraw.Frame{frame(wsraw.Ping, strings.Repeat("x", 125))}, []string{"<pong " + strings.Repeat("x", 125) + ">"}},
		{"pong frame unasked", []wsraw.Frame{frame(wsraw.Pong, "abc")}, nil},
		{"fragments", []wsraw.Frame{more(wsraw.Text, "p"), more(0, "i"), more(0, ""), frame(0, "ng")}, []string{"pong"}},
		{"ping between fragments", []wsraw.Frame{more(wsraw.Text, "pi"), frame(wsraw.Ping, "x"), frame(0, "ng")}, []string{"<pong x>", "pong"}},
		{"fragments of a character", split(wsraw.Text, `{"action":"echo","s":"漢"}`, 23), []string{`["response",{"echo":{"action":"echo","s":"漢"}},null]`}},
		{"close empty", []wsraw.Frame{frame(wsraw.Close, "")}, closed(1005)}, {"close with a reason", []wsraw.Frame{wsraw.CloseFrame(1000, "bye")}, closed(1000)},
		{"close 3000", []wsraw.Frame{wsraw.CloseFrame(3000, "")}, closed(3000)}, {"close 4999", []wsraw.Frame{wsraw.CloseFrame(4999, "")}, closed(4999)},
		{"close 1003", []wsraw.Frame{wsraw.CloseFrame(1003, "")}, closed(1003)}, {"close 1011", []wsraw.Frame{wsraw.CloseFrame(1011, "")}, closed(1011)},
		{"close 1004", []wsraw.Frame{wsraw.CloseFrame(1004, "")}, closed(1002)}, {"close 1005", []wsraw.Frame{wsraw.CloseFrame(1005, "")}, closed(1002)},
		{"close 1006", []wsraw.Frame{wsraw.CloseFrame(1006, "")}, closed(1002)}, {"close 1015", []wsraw.Frame{wsraw.CloseFrame(1015, "")}, closed(1002)},
		{"close 2999", []wsraw.Frame{wsraw.CloseFrame(2999, "")}, closed(1002)}, {"close 5000", []wsraw.Frame{wsraw.CloseFrame(5000, "")}, closed(1002)}, {"close 0", []wsraw.Frame{wsraw.CloseFrame(0, "")}, closed(1002)},
		{"close of one byte", []wsraw.Frame{frame(wsraw.Close, "\x03")}, closed(1002)}, {"close reason no UTF-8", []wsraw.Frame{wsraw.CloseFrame(1000, "\xff")}, closed(1007)},
		{"close reason too long", []wsraw.Frame{wsraw.CloseFrame(1000, strings.Repeat("x", 124))}, closed(1002)},
		{"unmasked", []wsraw.Frame{{Op: wsraw.Text, Unmasked: true, Payload: []byte("ping")}}, closed(1002)},
		{"RSV1", []wsraw.Frame{{Op: wsraw.Text, RSV: 4, Payload: []byte("ping")}}, closed(1002)}, {"RSV3", []wsraw.Frame{{Op: wsraw.Text, RSV: 1, Payload: []byte("ping")}}, closed(1002)},
		{"RSV1 on a ping", []wsraw.Frame{{Op: wsraw.Ping, RSV: 4}}, closed(1002)},
		{"opcode 3", []wsraw.Frame{frame(3, "x")}, closed(1002)}, {"opcode 7", []wsraw.Frame{frame(7, "x")}, closed(1002)}, {"opcode 11", []wsraw.Frame{frame(11, "x")}, closed(1002)}, {"opcode 15", []wsraw.Frame{frame(15, "x")}, closed(1002)},
		{"continuation of nothing", []wsraw.Frame{frame(0, "ping")}, closed(1002)}, {"text inside a message", []wsraw.Frame{more(wsraw.Text, "pi"), frame(wsraw.Text, "ping")}, closed(1002)},
		{"binary inside a text", []wsraw.Frame{more(wsraw.Text, "pi"), frame(wsraw.Binary, "ng")}, closed(1002)},
		{"fragmented ping frame", []wsraw.Frame{more(wsraw.Ping, "x")}, closed(1002)}, {"fragmented close", []wsraw.Frame{more(wsraw.Close, "")}, closed(1002)},
		{"ping frame too long", []wsraw.Frame{frame(wsraw.Ping, strings.Repeat("x", 126))}, closed(1002)},
		{"text no UTF-8", []wsraw.Frame{frame(wsraw.Text, "\xff")}, closed(1007)}, {"call no UTF-8", []wsraw.Frame{frame(wsraw.Text, "{\"action\":\"echo\",\"a\":\"\xc3\"}")}, closed(1007)},
		{"surrogate in UTF-8", []wsraw.Frame{frame(wsraw.Text, "\"\xed\xa0\x80\"")}, closed(1007)}, {"overlong UTF-8", []wsraw.Frame{frame(wsraw.Text, "\xc0\xaf")}, closed(1007)},
		{"fragments no UTF-8", []wsraw.Frame{more(wsraw.Text, "\xe6"), frame(0, "x")}, closed(1007)}, {"unfinished character", []wsraw.Frame{frame(wsraw.Text, "\xe6\xbc")}, closed(1007)},
		{"1 MiB", []wsraw.Frame{frame(wsraw.Text, `{`+listAction+`,"x":"`+strings.Repeat("x", 1<<20-30)+`"}`)}, []string{`["response",` + list + `,null]`}},
		{"1 MiB and 1 byte", []wsraw.Frame{frame(wsraw.Text, `{`+listAction+`,"x":"`+strings.Repeat("x", 1<<20-29)+`"}`)}, closed(1009)},
		{"1 MiB and 1 byte in fragments", []wsraw.Frame{more(wsraw.Binary, strings.Repeat("x", 1<<19)), frame(0, strings.Repeat("x", 1<<19+1))}, closed(1009)},
		{"answers before the close", []wsraw.Frame{frame(wsraw.Text, `{`+listAction+`}`), frame(wsraw.Text, "quit"), frame(wsraw.Text, `{"action":"boom"}`)},
			append([]string{`["response",` + list + `,null]`}, closed(1000)...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := s.connect(t, "")
			c.Send(tt.send...) // fails when the server closes before it has read all
			c.expect(tt.want...)
		})
	}
	t.Run("length of 8 bytes past 63 bits", func(t *testing.T) {
		c := s.connect(t, "")
		c.Write([]byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4})
		if got := c.received(); len(got) != 2 || got[0] != "<close 1002>" && got[0] != "<close 1009>" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a flood of empty fragments", func(t *testing.T) {
		c := s.connect(t, "")
		flood := more(wsraw.Text, "").Append(nil)
		for range 20_000 {
			flood = more(0, "").Append(flood)
		}
		c.Write(flood)
		if got := c.received(); len(got) == 0 || got[0] != "<close 1009>" && got[0] != "<close 1008>" {
			t.Errorf("got %q", got)
		}
	})
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := recorded(t, "ALLOW_ORIGINS=https://app.example")
	token := tokens(t)["r_user"]
	for _, tt := range []struct {
		name    string
		headers []string
		status  int
		body    string
	}{
		{"no Origin", nil, 101, ""}, {"no Origin, cookie", []string{"Cookie: a=b"}, 403, badOrigin}, {"same origin", []string{"Origin: http://" + s.addr}, 101, ""},
		{"same origin, cookie", []string{"Origin: http://" + s.addr, "Cookie: a=b"}, 101, ""}, {"listed", []string{"Origin: https://app.example", "Cookie: a=b"}, 101, ""},
		{"listed in a request across sites", []string{"Origin: https://app.example", "Sec-Fetch-Site: cross-site"}, 101, ""},
		{"null", []string{"Origin: null"}, 403, badOrigin}, {"empty", []string{"Origin: "}, 403, badOrigin}, {"foreign", []string{"Origin: https://evil.example"}, 403, badOrigin},
		{"other scheme", []string{"Origin: https://" + s.addr}, 403, badOrigin}, {"ws scheme", []string{"Origin: ws://" + s.addr}, 403, badOrigin}, {"other port", []string{"Origin: http://127.0.0.1"}, 403, badOrigin},
		{"two origins", []string{"Origin: http://" + s.addr, "Origin: http://" + s.addr}, 403, badOrigin}, {"below a listed one", []string{"Origin: https://x.app.example"}, 403, badOrigin},
		{"scheme of a stranger", []string{"Origin: https://" + s.addr, "X-Forwarded-Proto: https"}, 403, badOrigin}, {"foreign, with a token", []string{"Origin: https://evil.example", "Authorization: Bearer " + token}, 403, badOrigin},
		{"two Authorization headers", []string{"Authorization: Bearer " + token, "Authorization: Bearer " + token}, 400, malformed},
		{"bad token", []string{"Authorization: Bearer x"}, 401, invalidToken}, {"bad token in the sub-protocols", []string{"Sec-WebSocket-Protocol: mooncore.v1, bearer.x"}, 401, invalidToken},
		{"empty token in the sub-protocols", []string{"Sec-WebSocket-Protocol: mooncore.v1, bearer."}, 401, invalidToken},
		{"sub-protocol alone", []string{"Sec-WebSocket-Protocol: mooncore.v1"}, 101, ""}, {"foreign sub-protocol", []string{"Sec-WebSocket-Protocol: chat"}, 101, ""},
		{"two lines of sub-protocols", []string{"Sec-WebSocket-Protocol: mooncore.v1", "Sec-WebSocket-Protocol: bearer." + token}, 101, ""},
		{"compression offered", []string{"Sec-WebSocket-Extensions: permessage-deflate"}, 101, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, got := s.dial(t, tt.headers...)
			if got.status != tt.status || !sameJSON(got.body, tt.body) {
				t.Fatalf("got %d %s, want %d %s", got.status, got.body, tt.status, tt.body)
			}
			if id := got.header.Get("X-Request-Id"); c == nil && id == "" {
				t.Error("no X-Request-Id")
			}
			if c != nil {
				if got.header.Get("Sec-WebSocket-Extensions") != "" {
					t.Errorf("an extension: %v", got.header)
				}
				if want := strings.Contains(strings.Join(tt.headers, ""), "mooncore.v1"); (got.header.Get("Sec-WebSocket-Protocol") == "mooncore.v1") != want {
					t.Errorf("sub-protocol %q", got.header.Get("Sec-WebSocket-Protocol"))
				}
				c.sendText("ping")
				c.expect("pong")
			}
		})
	}
	handshake := string(wsraw.Handshake(s.addr, "/ws"))
	for name, tt := range map[string]struct{ request, status string }{
		"no upgrade":     {"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", "4"},
		"POST":           {strings.Replace(handshake, "GET", "POST", 1), "4"},
		"no key":         {strings.Replace(handshake, "Sec-WebSocket-Key: "+wsraw.Key+"\r\n", "", 1), "400"},
		"version 12":     {strings.Replace(handshake, "Version: 13", "Version: 12", 1), "4"},
		"HTTP/1.0":       {strings.Replace(handshake, "HTTP/1.1", "HTTP/1.0", 1), "4"},
		"other path":     {strings.Replace(handshake, "/ws", "/ws/x", 1), "404"},
		"token in query": {strings.Replace(handshake, "/ws", "/ws?token="+token, 1), "101"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.exchange(t, []byte(tt.request)); !strings.HasPrefix(fmt.Sprint(got.status), tt.status) {
				t.Errorf("got %d %s, want %s", got.status, got.body, tt.status)
			}
		})
	}
	t.Run("a token in the query is none", func(t *testing.T) {
		conn, err := wsraw.Dial(s.addr, "/ws?token="+token+"&jwt="+token)
		if err != nil {
			t.Fatal(err)
		}
		c := &client{Conn: conn, t: t}
		defer conn.Close()
		c.sendText(`{"action":"task.list"}`)
		c.expect(`["response",` + stranger + `,null]`)
	})
}

// A step of a session: what one client sends, and what each then has received.
type step struct {
	send string // "a: text", with {{name}} for a token; "a: <hex>" in angle brackets is a binary message
	want map[string][]string
}

func channels(names ...string) []string {
	quoted, _ := json.Marshal(append([]string{}, names...))
	return []string{`["channel_list",` + string(quoted) + `]`}
}

func respond(v string) string { return `["response",` + v + `,null]` }

// TestSessions are conversations of several clients. A client's name says its token: a of r_user_chat, b of bob_user, and so on.
func TestSessions(t *testing.T) {
	t.Parallel()
	s := recorded(t)
	all := tokens(t)
	identity := map[string]string{
		"a": "r_user_chat", "a2": "r_user_chat", "u": "r_user", "b": "bob_user", "c": "carol_t2", "s": "alice_scope2", "o": "other_owner", "p": "f_roles_list_admin", "i": "c_identity", "n": "", "n2": "",
	}
	one := func(name string, messages ...string) map[string][]string { return map[string][]string{name: messages} }
	jwt := func(token, roles string) string { return `["jwt",` + claimsOf(t, all[token], roles) + `]` }
	long := strings.Repeat("é", 128)
	pubTo := func(data, channels string) string {
		return `{"action":"pub.to","event":"e","data":` + data + `,"channels":` + channels + `}`
	}
	returned := func(data string) string { return respond(`{"returned":` + data + `}`) }
	for name, steps := range map[string][]step{
		"join and leave": {
			{`a: channel_list`, one("a", channels("@alice")...)}, {`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)},
			{`a: ["join","chat"]`, one("a", channels("chat:default", "main:default", "@alice")...)}, {`a: ["join","main"]`, one("a", channels("chat:default", "main:default", "@alice")...)},
			{`a: ["leave","main"]`, one("a", channels("chat:default", "@alice")...)}, {`a: ["leave","main"]`, one("a", channels("chat:default", "@alice")...)},
			{`a: ["join","main"]`, one("a", channels("main:default", "chat:default", "@alice")...)}, {`a: ["leave","nope"]`, one("a", channels("main:default", "chat:default", "@alice")...)},
		},
		"joins that join nothing": {
			{`a: ["join","@bob"]`, one("a", channels("@alice")...)}, {`a: ["join","main:default"]`, one("a", channels("@alice")...)}, {`a: ["join","chat:branch1"]`, one("a", channels("@alice")...)},
			{`a: ["join",""]`, one("a", channels("@alice")...)}, {`a: ["join","Main"]`, one("a", channels("@alice")...)}, {`a: ["join","main "]`, one("a", channels("@alice")...)},
			{`a: ["join",5]`, one("a", channels("@alice")...)}, {`a: ["join",["main"]]`, one("a", channels("@alice")...)}, {`a: ["join",{}]`, one("a", channels("@alice")...)},
			{`a: ["join","a\u0000b"]`, one("a", channels("@alice")...)}, {`a: ["join","main\u202e"]`, one("a", channels("@alice")...)}, {`a: ["join","` + long + `é"]`, one("a", channels("@alice")...)},
			{`a: ["join","ws:pending"]`, one("a", channels("@alice")...)}, {`a: ["join","*"]`, one("a", channels("@alice")...)}, {`a: ["join","news"]`, one("a", channels("@alice")...)},
			{`a: ["leave","@alice"]`, one("a", channels("@alice")...)}, {`a: ["leave",5]`, one("a", channels("@alice")...)},
			{`u: ["join","chat"]`, one("u", channels("@alice")...)}, {`i: ["join","chat"]`, one("i", channels("@alice")...)}, {`i: ["join","main"]`, one("i", channels("main:default", "@alice")...)},
			{`s: ["join","chat"]`, one("s", channels("chat:branch1", "@alice")...)}, {`n: ["join","main"]`, one("n", channels()...)},
		},
		"events stay in tenant and scope": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)}, {`b: ["join","main"]`, one("b", channels("main:default", "@bob")...)},
			{`c: ["join","main"]`, one("c", channels("main:default", "@carol")...)}, {`s: ["join","main"]`, one("s", channels("main:branch1", "@alice")...)},
			{`o: ["join","main"]`, one("o", channels("main:default", "@alice")...)},
			{`b: {"action":"pub","x":1}`, map[string][]string{"a": {`["task-created",{"action":"pub","x":1}]`}, "o": {`["task-created",{"action":"pub","x":1}]`},
				"b": {`["task-created",{"action":"pub","x":1}]`, respond(`{"published":true}`)}}},
			{`c: {"action":"pub"}`, one("c", `["task-created",{"action":"pub"}]`, respond(`{"published":true}`))},
			{`s: {"action":"pub"}`, map[string][]string{"a": {`["task-created",{"action":"pub"}]`}, "b": {`["task-created",{"action":"pub"}]`}, "o": {`["task-created",{"action":"pub"}]`},
				"s": {respond(`{"published":true}`)}}},
			{`b: ` + pubTo(`1`, `["main:branch1"]`), map[string][]string{"s": {`["e",1]`}, "b": {returned(`1`)}}},
			{`b: ` + pubTo(`2`, `["@alice"]`), map[string][]string{"a": {`["e",2]`}, "s": {`["e",2]`}, "o": {`["e",2]`}, "b": {returned(`2`)}}},
			{`b: ` + pubTo(`3`, `["@carol"]`), one("b", returned(`3`))}, {`n: ` + pubTo(`4`, `["main:default","@alice"]`), one("n", returned(`4`))},
			{`n: {"action":"pub"}`, one("n", respond(`{"published":true}`))},
			{`b: {"action":"task.create","title":"Milk"}`, map[string][]string{"a": {`["task-created",{"title":"Milk"}]`}, "o": {`["task-created",{"title":"Milk"}]`},
				"b": {`["task-created",{"title":"Milk"}]`, respond(`{"title":"Milk"}`)}}},
		},
		"once per connection": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)}, {`a: ["join","chat"]`, one("a", channels("chat:default", "main:default", "@alice")...)}, {`a2: ["join","main"]`, one("a2", channels("main:default", "@alice")...)},
			{`b: ` + pubTo(`1`, `["main:default","@alice","chat:default","main:default","@alice"]`), map[string][]string{"a": {`["e",1]`}, "a2": {`["e",1]`}, "b": {returned(`1`)}}},
			{`b: ` + pubTo(`2`, `["chat:default"]`), map[string][]string{"a": {`["e",2]`}, "b": {returned(`2`)}}},
			{`b: ` + pubTo(`3`, `["@alice","@bob"]`), map[string][]string{"a": {`["e",3]`}, "a2": {`["e",3]`}, "b": {`["e",3]`, returned(`3`)}}},
			{`b: ` + pubTo(`4`, `[]`), one("b", returned(`4`))},
			{`a: ["leave","main"]`, one("a", channels("chat:default", "@alice")...)}, {`b: ` + pubTo(`5`, `["main:default"]`), map[string][]string{"a2": {`["e",5]`}, "b": {returned(`5`)}}},
		},
		"passwords go": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)},
			{`b: ` + pubTo(`{"password":"p","n":1,"o":{"password":"q"}}`, `["main:default"]`), map[string][]string{"a": {`["e",{"n":1,"o":{"password":"q"}}]`}, "b": {returned(`{"n":1,"o":{"password":"q"}}`)}}},
			{`b: ` + pubTo(`{"password":"p"}`, `["main:default"]`), map[string][]string{"a": {`["e",{}]`}, "b": {returned(`{}`)}}},
			{`b: ` + pubTo(`{"Password":"p","pass\u0077ord":"q"}`, `["main:default"]`), map[string][]string{"a": {`["e",{"Password":"p"}]`}, "b": {returned(`{"Password":"p"}`)}}},
			{`b: ` + pubTo(`[{"password":"p"}]`, `["main:default"]`), map[string][]string{"a": {`["e",[{"password":"p"}]]`}, "b": {returned(`[{"password":"p"}]`)}}},
			{`b: ` + pubTo(`"password"`, `["main:default"]`), map[string][]string{"a": {`["e","password"]`}, "b": {returned(`"password"`)}}},
			{`b: ` + pubTo(`12345678901234567890.10`, `["main:default"]`), map[string][]string{"a": {`["e",12345678901234567890.10]`}, "b": {returned(`12345678901234567890.10`)}}},
			{`b: {"action":"pub","password":"p","rayid":9}`, map[string][]string{"a": {`["task-created",{"action":"pub","rayid":9}]`}, "b": {`["response",{"published":true},9]`}}},
		},
		"reserved events": {
			{`a: {"action":"pub.to","event":"jwt","data":1,"channels":["@alice"]}`, one("a", respond(malformed))}, {`a: {"action":"pub.to","event":"channel_list","data":1,"channels":["@alice"]}`, one("a", respond(malformed))},
			{`a: {"action":"pub.to","event":"server_time","data":1,"channels":["@alice"]}`, one("a", respond(malformed))}, {`a: {"action":"pub.to","event":"socket_error","data":1,"channels":["@alice"]}`, one("a", respond(malformed))},
			{`a: {"action":"pub.to","event":"lost","data":1,"channels":["@alice"]}`, one("a", respond(malformed))}, {`a: {"action":"pub.to","event":"response","data":1,"channels":["@alice"]}`, one("a", respond(malformed))},
			{`a: {"action":"pub.to","event":"Response","data":1,"channels":["@alice"]}`, one("a", `["Response",1]`, returned(`1`))}, {`a: {"action":"pub.to","data":1,"channels":["@alice"]}`, one("a", `["ev",1]`, returned(`1`))},
		},
		"log in later": {
			{`n: ["join","main"]`, one("n", channels()...)}, {`n: ["jwt","{{r_user_chat}}"]`, one("n", jwt("r_user_chat", `["user","channel_chat"]`))}, {`n: channel_list`, one("n", channels("@alice")...)},
			{`n: {"action":"task.list"}`, one("n", respond(`[]`))}, {`n: ["join","chat"]`, one("n", channels("chat:default", "@alice")...)},
			{`n: ["jwt","{{f_expired}}"]`, one("n", jwtFailed)}, {`n: channel_list`, one("n", channels("chat:default", "@alice")...)}, {`n: {"action":"task.list"}`, one("n", respond(`[]`))},
			{`n: {"action":"dump","rayid":1}`, one("n", `["response",{"action":"dump","auth":`+claimsOf(t, all["r_user_chat"], `["user","channel_chat"]`)+`,"db":"dbhandle","params":{"action":"dump","rayid":1},"rayid":1,"source":"ws"},1]`)},
		},
		"anonymous are among themselves": {
			{`n: ` + pubTo(`1`, `["ws:pending"]`), map[string][]string{"n": {`["e",1]`, returned(`1`)}, "n2": {`["e",1]`}}},
			{`n: ["jwt","{{r_user}}"]`, one("n", jwt("r_user", `["user"]`))}, {`n2: ` + pubTo(`2`, `["ws:pending"]`), one("n2", `["e",2]`, returned(`2`))},
		},
		"a refresh keeps the channels": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)}, {`a: ["join","chat"]`, one("a", channels("chat:default", "main:default", "@alice")...)},
			{`a: ["jwt","{{r_all}}"]`, one("a", jwt("r_all", `["admin","user","editor","channel_chat"]`))}, {`a: channel_list`, one("a", channels("chat:default", "main:default", "@alice")...)},
			{`a: {"action":"admin.only"}`, one("a", respond(`{"secret":42,"user":"alice"}`))}, {`b: ` + pubTo(`1`, `["chat:default"]`), map[string][]string{"a": {`["e",1]`}, "b": {returned(`1`)}}},
			{`a: ["jwt","{{f_good}}"]`, one("a", jwt("f_good", `["user"]`))}, {`a: channel_list`, one("a", channels("main:default", "@alice")...)}, {`b: ` + pubTo(`2`, `["chat:default"]`), one("b", returned(`2`))},
			{`a: {"action":"admin.only"}`, one("a", respond(denied))}, {`b: ` + pubTo(`3`, `["main:default","@alice"]`), map[string][]string{"a": {`["e",3]`}, "b": {returned(`3`)}}},
		},
		"another scope": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)}, {`a: ["jwt","{{alice_scope2}}"]`, one("a", jwt("alice_scope2", `["user","channel_chat"]`))},
			{`a: channel_list`, one("a", channels("@alice")...)}, {`a: ["join","main"]`, one("a", channels("main:branch1", "@alice")...)},
		},
		"another user": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)}, {`a: ["jwt","{{bob_user}}"]`, one("a", jwt("bob_user", `["user"]`))}, {`a: channel_list`, one("a", channels("@bob")...)},
			{`b: ` + pubTo(`1`, `["main:default","@alice"]`), one("b", returned(`1`))}, {`b: ` + pubTo(`2`, `["@bob"]`), map[string][]string{"a": {`["e",2]`}, "b": {`["e",2]`, returned(`2`)}}},
		},
		"another app": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)}, {`a: ["jwt","{{other_owner}}"]`, one("a", jwt("other_owner", `["owner"]`))}, {`a: channel_list`, one("a", channels("@alice")...)},
			{`a: {"action":"dump"}`, one("a", respond(undefined))}, {`a: {"action":"owner.only"}`, one("a", respond(`{"app":"otherapp","user":"alice","roles":["owner"]}`))},
		},
		"five bad tokens": {
			{`a: ["jwt","x"]`, one("a", jwtFailed)}, {`a: ["jwt",5]`, one("a", jwtFailed)}, {`a: ["jwt","{{f_none}}"]`, one("a", jwtFailed)}, {`a: ["jwt",null]`, one("a", jwtFailed)},
			{`a: ["jwt","{{f_expired}}"]`, one("a", jwtFailed, "<close 1008>", "<eof>")},
		},
		"a good token does not forgive": {
			{`n: ["jwt","x"]`, one("n", jwtFailed)}, {`n: ["jwt"]`, one("n", unknown)}, {`n: ["jwt","x"]`, one("n", jwtFailed)}, {`n: ["jwt","{{r_user}}"]`, one("n", jwt("r_user", `["user"]`))}, {`n: ["jwt","x"]`, one("n", jwtFailed)},
		},
		"roles as names": {
			{`p: ["join","chat"]`, one("p", channels("@alice")...)}, {`p: {"action":"admin.only"}`, one("p", respond(`{"secret":42,"user":"alice"}`))},
		},
		"roles": {
			{`u: {"action":"admin.only"}`, one("u", respond(denied))}, {`u: {"action":"other.only"}`, one("u", respond(undefined))}, {`u: {"action":"nope"}`, one("u", respond(undefined))},
			{`i: {"action":"task.list"}`, one("i", respond(denied))}, {`o: {"action":"echo"}`, one("o", respond(`{"app":"otherapp","user":"alice","roles":["owner"]}`))},
			{`u: <` + hex.EncodeToString(binaryCall(`{"action":"task.create"}`, "x")) + `>`, one("u", respond(`{"error":"validation_failed","code":"validation_failed","errors":{"title":["is required"]}}`))},
		},
	} {
		t.Run(name, func(t *testing.T) {
			conns := map[string]*client{}
			for _, st := range steps {
				for _, who := range append(slices.Collect(maps.Keys(st.want)), strings.SplitN(st.send, ":", 2)[0]) {
					if conns[who] == nil {
						conns[who] = s.connect(t, all[identity[who]])
					}
				}
			}
			for _, st := range steps {
				who, text, _ := strings.Cut(st.send, ": ")
				if binary, ok := strings.CutPrefix(text, "<"); ok {
					payload, _ := hex.DecodeString(strings.TrimSuffix(binary, ">"))
					conns[who].Send(wsraw.Frame{Op: wsraw.Binary, Payload: payload})
				} else {
					conns[who].sendText(fill(t, text, all))
				}
				// The sender first: its answer comes after its events have gone out to all.
				got := conns[who].received()
				t.Run(clip(st.send), func(t *testing.T) {
					compareFrames(t, got, st.want[who])
					for other, c := range conns {
						if other != who {
							compareFrames(t, c.received(), st.want[other])
						}
					}
				})
			}
		})
	}
}

// TestOrder: calls are answered in their order, ping and time do not wait, events of one publisher keep their order.
func TestOrder(t *testing.T) {
	t.Parallel()
	s := recorded(t)
	t.Run("ping does not wait for a slow action", func(t *testing.T) {
		c := s.connect(t, "")
		c.sendText(`{"action":"slow","ms":300,"rayid":1}`, `{"action":"list.value","rayid":2}`, `channel_list`, "ping", "time")
		if err := c.Send(wsraw.Frame{Op: wsraw.Ping, Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		got := c.received()
		slices.Sort(got[:min(3, len(got))]) // those that do not wait have no order among them
		compareFrames(t, got, []string{
			"<pong x>", `["server_time","*"]`, "pong", `["response",{"slept":300},1]`, `["response",` + list + `,2]`, `["channel_list",[]]`,
		})
	})
	t.Run("a client's close does not wait", func(t *testing.T) {
		c := s.connect(t, "")
		c.sendText(`{"action":"slow","ms":20000}`)
		if err := c.Send(wsraw.CloseFrame(1001, "")); err != nil {
			t.Fatal(err)
		}
		if got := c.Next().String(); got != "<close 1001>" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("events", func(t *testing.T) {
		a, b := s.connect(t, tokens(t)["r_user"]), s.connect(t, tokens(t)["bob_user"])
		a.sendText(`["join","main"]`)
		a.expect(channels("main:default", "@alice")...)
		var want []string
		for i := range 100 {
			b.sendText(fmt.Sprintf(`{"action":"pub.to","event":"e","data":%d}`, i))
			want = append(want, fmt.Sprintf(`["e",%d]`, i))
		}
		b.received()
		a.expect(want...)
	})
	t.Run("200 calls at once", func(t *testing.T) {
		c := s.connect(t, "")
		var frames []wsraw.Frame
		var want []string
		for i := range 200 {
			frames = append(frames, wsraw.TextFrame(fmt.Sprintf(`{%s,"rayid":%d}`, listAction, i)))
			want = append(want, fmt.Sprintf(`["response",%s,%d]`, list, i))
		}
		if err := c.Send(frames...); err != nil {
			t.Fatal(err)
		}
		c.expect(want...)
	})
}

// TestShutdown: SIGTERM closes with 1012 and a time to come back, and lets a running action finish.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s := recorded(t)
	c := s.connect(t, tokens(t)["r_user"])
	busy := s.connect(t, "")
	c.expect()
	busy.sendText(`{"action":"slow","ms":300,"rayid":"s"}`, "ping")
	if got := busy.Next().String(); got != "pong" { // the call has been read
		t.Fatalf("got %s", got)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	m := c.Next()
	var reason struct {
		RetryAfter *int `json:"retry_after"`
	}
	if err := json.Unmarshal([]byte(m.Reason()), &reason); m.String() != "<close 1012>" || err != nil || reason.RetryAfter == nil || *reason.RetryAfter <= 0 {
		t.Errorf("got %v %q", m, m.Reason())
	}
	c.Close()
	for _, want := range []string{`["response",{"slept":300},"s"]`, "<close 1012>"} {
		if got := busy.Next().String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	busy.Close()
	if err := <-stopped; err != nil {
		t.Errorf("the program ended with %v\n%s", err, &s.stderr)
	}
}
