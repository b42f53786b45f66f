package main_test

import (
	"encoding/json"
	"fmt"
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
		{"ping", "ping", "pong"}, {"time", "time", `["server_time","*"]`},
		{"channel_list", "channel_list", `["channel_list",[]]`},
		{"Ping", "Ping", undecoded}, {"ping and a space", "ping ", undecoded}, {"ping and a line break", "ping\n", undecoded},
		{"empty", "", undecoded},
		{"space", " ", undecoded}, {"quit and more", "quit!", undecoded}, {"half an object", `{"action":"echo"`, undecoded},
		{"half a list", `["join"`, undecoded},
		{"NaN", `{"action":NaN}`, undecoded}, {"two objects", `{}{}`, undecoded}, {"byte order mark", "\ufeff{}", undecoded},
		{"NUL", "\x00", undecoded},
		{"ping as JSON", `"ping"`, unknown}, {"quit as JSON", `"quit"`, unknown}, {"number", `5`, unknown},
		{"null", `null`, unknown}, {"true", ` true `, unknown},
		{"[]", `[]`, unknown}, {"[[]]", `[[]]`, unknown}, {"[{}]", `[{}]`, unknown}, {`["join"]`, `["join"]`, unknown},
		{`["jwt"]`, `["jwt"]`, unknown}, {`["leave"]`, `["leave"]`, unknown},
		{"join two", `["join","a","b"]`, unknown}, {"leave two", `["leave","a","b"]`, unknown},
		{"jwt two", `["jwt","a","b"]`, unknown},
		{"JOIN", `["JOIN","main"]`, unknown}, {"ping in a list", `["ping"]`, unknown},
		{"number first", `[5,"main"]`, unknown}, {"unknown pair", `["nope","main"]`, unknown},
		{"null pair", `[null,null]`, unknown}, {"object first", `[{"action":"echo"},"x"]`, unknown},
		{"deep list", deep, unknown}, {"deep join", `["join",` + deep + `]`, unknown},
		{"lone surrogate in a list", `["join","\ud800"]`, unknown},
		{"jwt a number", `["jwt",5]`, jwtFailed}, {"jwt null", `["jwt",null]`, jwtFailed},
		{"jwt empty", `["jwt",""]`, jwtFailed}, {"jwt an object", `["jwt",{"token":"x"}]`, jwtFailed},
		{"jwt a list", `["jwt",["x"]]`, jwtFailed}, {"jwt a word", ` [ "jwt" , "x" ] `, jwtFailed},
		{"jwt of 70,000 bytes", `["jwt","` + strings.Repeat("x", 70_000) + `"]`, jwtFailed},
		{"escaped command", `["\u006awt","x"]`, jwtFailed},
		{"join by nobody", `["join","main"]`, `["channel_list",[]]`},
		{"leave by nobody", `["leave","main"]`, `["channel_list",[]]`},
		{"leave ws:pending", `["leave","ws:pending"]`, `["channel_list",[]]`},
		{"join a number", `["join",5]`, `["channel_list",[]]`}, {"leave null", `["leave",null]`, `["channel_list",[]]`},

		{"{}", `{}`, `["response",` + noAction + `,null]`},
		{"action a number", `{"action":5,"rayid":1}`, `["response",` + noAction + `,1]`},
		{"action empty", `{"action":"","rayid":1}`, `["response",` + noAction + `,1]`},
		{"action null", `{"action":null}`, `["response",` + noAction + `,null]`},
		{"unknown action", `{"action":"nope","rayid":"a"}`, `["response",` + undefined + `,"a"]`},
		{"not public", `{"action":"task.list","rayid":"a"}`, `["response",` + stranger + `,"a"]`},
		{"second app", `{"action":"other.only"}`, `["response",{"app":"otherapp","user":null,"roles":null},null]`},
		{"panic", `{"action":"boom","rayid":"a"}`, `["response",` + internal + `,"a"]`},
		{"validation", `{"action":"form.nested","address":{"zip":"1"},"rayid":"a"}`,
			`["response",{"error":"validation_failed","code":"validation_failed","errors":{"address.city":["is required"],"address.zip":["must be exactly 5 characters"]}},"a"]`},
		{"log id", `{"action":"err.log"}`,
			`["response",{"error":"failed","code":"failed_precondition","log_id":"log-123"},null]`},
		{"dump", `{"action":"dump","rayid":"a","x":1}`,
			`["response",{"action":"dump","auth":null,"db":"dbhandle","params":{"action":"dump","rayid":"a","x":1},"rayid":"a","source":"ws"},"a"]`},
		{"dump without a rayid", `{"action":"dump"}`,
			`["response",{"action":"dump","auth":null,"db":"dbhandle","params":{"action":"dump"},"rayid":null,"source":"ws"},null]`},
		{"white space", " {\n" + listAction + "\t} ", `["response",` + list + `,null]`},
		{"two equal keys", `{"action":"echo","rayid":"a","x":1,"x":2}`, fault(`"a"`)},
		{"two equal keys before", `{"x":1,"x":2,"rayid":"a","action":"echo"}`, fault(`"a"`)},
		{"Action", `{"action":"echo","Action":"echo","rayid":7}`, fault(`7`)},
		{"RAYID", `{"action":"echo","RAYID":7}`, fault(`null`)},
		{"deep", `{"action":"echo","rayid":"a","x":` + deep + `}`, fault(`"a"`)},
		{"deep before", `{"x":` + deep + `,"rayid":"a","action":"echo"}`, fault(`"a"`)},
		{"70,000 values", `{"rayid":"a","action":"echo","x":[` + strings.Repeat("1,", 70_000) + `1]}`, fault(`"a"`)},
		{"lone surrogate", `{"action":"echo","rayid":"a","s":"\udc00"}`, fault(`"a"`)},
		{"value nil", `{"action":"value","kind":"nil"}`, `["response",null,null]`},
		{"value bigint", `{"action":"value","kind":"bigint"}`, `["response",{"n":123456789012345678901234567890},null]`},
		{"value keyorder", `{"action":"value","kind":"keyorder"}`, `["response",{"b":1,"a":2,"C":3,"10":4,"9":5},null]`},
		{"reserved fields",
			`{` + listAction + `,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","idempotency_key":"a"}`,
			`["response",` + list + `,null]`},
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
		`"a"`, `""`, `"\u0041\/\n"`, `"é漢😀"`, "\"</script>\u2028\u007f\"", `0`, `-0`, `1.50e+1`,
		`123456789012345678901234567890`, `1E400`, `true`, `false`, `null`,
		`{}`, `{"b": 1,"a":[1, 2 ],"B":null}`, `[ ]`, `[[["x"]]]`, `"barrier"`,
	} {
		for _, frame := range []string{`{` + listAction + `,"rayid":` + ray + `}`, `{"rayid" :  ` + ray + "\n, " + listAction + `}`} {
			c.sendText(frame)
			if got, want := c.received(), []string{`["response",` + list + `,` + ray + `]`}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		if err := c.Send(wsraw.Frame{Op: wsraw.Binary,
			Payload: binaryCall(`{`+listAction+`,"rayid":`+ray+`}`, "x")}); err != nil {
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
		{"empty", "", undecoded}, {"one byte", "\x05", undecoded}, {"length 0", "\x00\x00", undecoded},
		{"length 0 and payload", "\x00\x00{}", undecoded},
		{"length past the end", "\x05\x00{}", undecoded}, {"length 65,535 past the end", "\xff\xff{}", undecoded},
		{"big-endian length", "\x00\x02{}", undecoded},
		{"metadata a list", bin(`["join","main"]`, ""), undecoded}, {"metadata null", bin(`null`, ""), undecoded},
		{"metadata a string", bin(`"ping"`, ""), undecoded},
		{"metadata ping", bin(`ping`, ""), undecoded}, {"metadata half", bin(`{"action":"bin"`, ""), undecoded},
		{"metadata of spaces", bin(`  `, ""), undecoded},
		{"metadata and more", bin(`{} {}`, ""), undecoded}, {"no action", bin(`{}`, "x"), `["response",` + noAction + `,null]`},
		{"two equal keys", bin(`{"action":"bin","rayid":"a","x":1,"x":1}`, "x"), `["response",` + malformed + `,"a"]`},
		{"unknown action", bin(`{"action":"nope","rayid":1}`, "x"), `["response",` + undefined + `,1]`},
		{"not public", bin(`{"action":"task.list","rayid":1}`, "x"), `["response",` + stranger + `,1]`},
		{"no payload", bin(`{"action":"bin"}`, ""), size(`{"action":"bin"}`, 0, empty, `null`)},
		{"payload", bin(`{"action":"bin","rayid":"a"}`, "hello"),
			size(`{"action":"bin","rayid":"a"}`, 5, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", `"a"`)},
		{"payload of any bytes", bin(`{"action":"bin"}`, "\x00\xff"), size(`{"action":"bin"}`, 2, "*", `null`)},
		{"large payload", bin(`{"action":"bin"}`, strings.Repeat("x", 1_000_000)),
			size(`{"action":"bin"}`, 1_000_000, "*", `null`)},
		{"payload like metadata", bin(`{"action":"bin"}`, `{"action":"boom"}`), size(`{"action":"bin"}`, 17, "*", `null`)},
		{"payload as text", bin(`{"action":"echo"}`, "é"), `["response",{"echo":{"action":"echo","bind":"é"}},null]`},
		{"payload no text", bin(`{"action":"echo"}`, "\xff"), `["response",{"echo":{"action":"echo"}},null]`},
		{"metadata poses as payload", bin(`{"action":"echo","bind":"meta"}`, "payload"),
			`["response",{"echo":{"action":"echo","bind":"payload"}},null]`},
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
		{"ping frame", []wsraw.Frame{frame(wsraw.Ping, "abc")}, []string{"<pong abc>"}},
		{"empty ping frame", []wsraw.Frame{frame(wsraw.Ping, "")}, []string{"<pong >"}},
		{"longest ping frame", []wsraw.Frame{frame(wsraw.Ping, strings.Repeat("x", 125))},
			[]string{"<pong " + strings.Repeat("x", 125) + ">"}},
		{"pong frame unasked", []wsraw.Frame{frame(wsraw.Pong, "abc")}, nil},
		{"fragments", []wsraw.Frame{more(wsraw.Text, "p"), more(0, "i"), more(0, ""), frame(0, "ng")}, []string{"pong"}},
		{"ping between fragments", []wsraw.Frame{more(wsraw.Text, "pi"), frame(wsraw.Ping, "x"), frame(0, "ng")},
			[]string{"<pong x>", "pong"}},
		{"fragments of a character", split(wsraw.Text, `{"action":"echo","s":"漢"}`, 23),
			[]string{`["response",{"echo":{"action":"echo","s":"漢"}},null]`}},
		{"close empty", []wsraw.Frame{frame(wsraw.Close, "")}, closed(1005)},
		{"close with a reason", []wsraw.Frame{wsraw.CloseFrame(1000, "bye")}, closed(1000)},
		{"close 3000", []wsraw.Frame{wsraw.CloseFrame(3000, "")}, closed(3000)},
		{"close 4999", []wsraw.Frame{wsraw.CloseFrame(4999, "")}, closed(4999)},
		{"close 1003", []wsraw.Frame{wsraw.CloseFrame(1003, "")}, closed(1003)},
		{"close 1011", []wsraw.Frame{wsraw.CloseFrame(1011, "")}, closed(1011)},
		{"close 1004", []wsraw.Frame{wsraw.CloseFrame(1004, "")}, closed(1002)},
		{"close 1005", []wsraw.Frame{wsraw.CloseFrame(1005, "")}, closed(1002)},
		{"close 1006", []wsraw.Frame{wsraw.CloseFrame(1006, "")}, closed(1002)},
		{"close 1015", []wsraw.Frame{wsraw.CloseFrame(1015, "")}, closed(1002)},
		{"close 2999", []wsraw.Frame{wsraw.CloseFrame(2999, "")}, closed(1002)},
		{"close 5000", []wsraw.Frame{wsraw.CloseFrame(5000, "")}, closed(1002)},
		{"close 0", []wsraw.Frame{wsraw.CloseFrame(0, "")}, closed(1002)},
		{"close of one byte", []wsraw.Frame{frame(wsraw.Close, "\x03")}, closed(1002)},
		{"close reason no UTF-8", []wsraw.Frame{wsraw.CloseFrame(1000, "\xff")}, closed(1007)},
		{"close reason too long", []wsraw.Frame{wsraw.CloseFrame(1000, strings.Repeat("x", 124))}, closed(1002)},
		{"unmasked", []wsraw.Frame{{Op: wsraw.Text, Unmasked: true, Payload: []byte("ping")}}, closed(1002)},
		{"RSV1", []wsraw.Frame{{Op: wsraw.Text, RSV: 4, Payload: []byte("ping")}}, closed(1002)},
		{"RSV3", []wsraw.Frame{{Op: wsraw.Text, RSV: 1, Payload: []byte("ping")}}, closed(1002)},
		{"RSV1 on a ping", []wsraw.Frame{{Op: wsraw.Ping, RSV: 4}}, closed(1002)},
		{"opcode 3", []wsraw.Frame{frame(3, "x")}, closed(1002)}, {"opcode 7", []wsraw.Frame{frame(7, "x")}, closed(1002)},
		{"opcode 11", []wsraw.Frame{frame(11, "x")}, closed(1002)},
		{"opcode 15", []wsraw.Frame{frame(15, "x")}, closed(1002)},
		{"continuation of nothing", []wsraw.Frame{frame(0, "ping")}, closed(1002)},
		{"text inside a message", []wsraw.Frame{more(wsraw.Text, "pi"), frame(wsraw.Text, "ping")}, closed(1002)},
		{"binary inside a text", []wsraw.Frame{more(wsraw.Text, "pi"), frame(wsraw.Binary, "ng")}, closed(1002)},
		{"fragmented ping frame", []wsraw.Frame{more(wsraw.Ping, "x")}, closed(1002)},
		{"fragmented close", []wsraw.Frame{more(wsraw.Close, "")}, closed(1002)},
		{"ping frame too long", []wsraw.Frame{frame(wsraw.Ping, strings.Repeat("x", 126))}, closed(1002)},
		{"text no UTF-8", []wsraw.Frame{frame(wsraw.Text, "\xff")}, closed(1007)},
		{"call no UTF-8", []wsraw.Frame{frame(wsraw.Text, "{\"action\":\"echo\",\"a\":\"\xc3\"}")}, closed(1007)},
		{"surrogate in UTF-8", []wsraw.Frame{frame(wsraw.Text, "\"\xed\xa0\x80\"")}, closed(1007)},
		{"overlong UTF-8", []wsraw.Frame{frame(wsraw.Text, "\xc0\xaf")}, closed(1007)},
		{"fragments no UTF-8", []wsraw.Frame{more(wsraw.Text, "\xe6"), frame(0, "x")}, closed(1007)},
		{"unfinished character", []wsraw.Frame{frame(wsraw.Text, "\xe6\xbc")}, closed(1007)},
		{"1 MiB", []wsraw.Frame{frame(wsraw.Text, `{`+listAction+`,"x":"`+strings.Repeat("x", 1<<20-30)+`"}`)},
			[]string{`["response",` + list + `,null]`}},
		{"1 MiB and 1 byte", []wsraw.Frame{frame(wsraw.Text, `{`+listAction+`,"x":"`+strings.Repeat("x", 1<<20-29)+`"}`)},
			closed(1009)},
		{"1 MiB and 1 byte in fragments",
			[]wsraw.Frame{more(wsraw.Binary, strings.Repeat("x", 1<<19)), frame(0, strings.Repeat("x", 1<<19+1))}, closed(1009)},
		{"answers before the close", []wsraw.Frame{frame(wsraw.Text, `{`+listAction+`}`), frame(wsraw.Text, "quit"),
			frame(wsraw.Text, `{"action":"boom"}`)},
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
		{"no Origin", nil, 101, ""}, {"no Origin, cookie", []string{"Cookie: a=b"}, 403, badOrigin},
		{"same origin", []string{"Origin: http://" + s.addr}, 101, ""},
		{"same origin, cookie", []string{"Origin: http://" + s.addr, "Cookie: a=b"}, 101, ""},
		{"listed", []string{"Origin: https://app.example", "Cookie: a=b"}, 101, ""},
		{"listed in a request across sites", []string{"Origin: https://app.example", "Sec-Fetch-Site: cross-site"}, 101, ""},
		{"null", []string{"Origin: null"}, 403, badOrigin}, {"empty", []string{"Origin: "}, 403, badOrigin},
		{"foreign", []string{"Origin: https://evil.example"}, 403, badOrigin},
		{"other scheme", []string{"Origin: https://" + s.addr}, 403, badOrigin},
		{"ws scheme", []string{"Origin: ws://" + s.addr}, 403, badOrigin},
		{"other port", []string{"Origin: http://127.0.0.1"}, 403, badOrigin},
		{"two origins", []string{"Origin: http://" + s.addr, "Origin: http://" + s.addr}, 403, badOrigin},
		{"below a listed one", []string{"Origin: https://x.app.example"}, 403, badOrigin},
		{"scheme of a stranger", []string{"Origin: https://" + s.addr, "X-Forwarded-Proto: https"}, 403, badOrigin},
		{"foreign, with a token", []string{"Origin: https://evil.example", "Authorization: Bearer " + token}, 403, badOrigin},
		{"two Authorization headers", []string{"Authorization: Bearer " + token, "Authorization: Bearer " + token}, 400,
			malformed},
		{"bad token", []string{"Authorization: Bearer x"}, 401, invalidToken},
		{"bad token in the sub-protocols", []string{"Sec-WebSocket-Protocol: mooncore.v1, bearer.x"}, 401, invalidToken},
		{"empty token in the sub-protocols", []string{"Sec-WebSocket-Protocol: mooncore.v1, bearer."}, 401, invalidToken},
		{"sub-protocol alone", []string{"Sec-WebSocket-Protocol: mooncore.v1"}, 101, ""},
		{"foreign sub-protocol", []string{"Sec-WebSocket-Protocol: chat"}, 101, ""},
		{"two lines of sub-protocols",
			[]string{"Sec-WebSocket-Protocol: mooncore.v1", "Sec-WebSocket-Protocol: bearer." + token}, 101, ""},
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
				if want := strings.Contains(strings.Join(tt.headers, ""),
					"mooncore.v1"); (got.header.Get("Sec-WebSocket-Protocol") == "mooncore.v1") != want {
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
			"<pong x>", `["server_time","*"]`, "pong", `["response",{"slept":300},1]`, `["response",` + list + `,2]`,
			`["channel_list",[]]`,
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
	t.Run("log in, join and call at once", func(t *testing.T) {
		c, token := s.connect(t, ""), tokens(t)["r_user"]
		err := c.Send(wsraw.TextFrame(`{"action":"task.list","rayid":1}`), wsraw.TextFrame(fmt.Sprintf(`["jwt",%q]`, token)),
			wsraw.TextFrame(`{"action":"task.list","rayid":2}`), wsraw.TextFrame(`["join","main"]`), wsraw.TextFrame(`{"action":"pub","x":1}`),
			wsraw.TextFrame(`["leave","main"]`), wsraw.TextFrame(`{"action":"pub","x":2}`), wsraw.TextFrame("channel_list"))
		if err != nil {
			t.Fatal(err)
		}
		c.expect(`["response",`+stranger+`,1]`, `["jwt",`+claimsOf(t, token, `["user"]`)+`]`, `["response",[],2]`,
			`["channel_list",["main:default","@alice"]]`, `["task-created",{"action":"pub","x":1}]`, `["response",{"published":true},null]`,
			`["channel_list",["@alice"]]`, `["response",{"published":true},null]`, `["channel_list",["@alice"]]`)
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
	if err := json.Unmarshal([]byte(m.Reason()),
		&reason); m.String() != "<close 1012>" || err != nil || reason.RetryAfter == nil || *reason.RetryAfter <= 0 {
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
