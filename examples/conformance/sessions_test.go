package main_test

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/wsraw"
)

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
		"a": "r_user_chat", "a2": "r_user_chat", "u": "r_user", "b": "bob_user", "c": "carol_t2", "s": "alice_scope2",
		"o": "other_owner", "p": "f_roles_list_admin", "i": "c_identity", "n": "", "n2": "",
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
			{`a: channel_list`, one("a", channels("@alice")...)},
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)},
			{`a: ["join","chat"]`, one("a", channels("chat:default", "main:default", "@alice")...)},
			{`a: ["join","main"]`, one("a", channels("chat:default", "main:default", "@alice")...)},
			{`a: ["leave","main"]`, one("a", channels("chat:default", "@alice")...)},
			{`a: ["leave","main"]`, one("a", channels("chat:default", "@alice")...)},
			{`a: ["join","main"]`, one("a", channels("main:default", "chat:default", "@alice")...)},
			{`a: ["leave","nope"]`, one("a", channels("main:default", "chat:default", "@alice")...)},
		},
		"joins that join nothing": {
			{`a: ["join","@bob"]`, one("a", channels("@alice")...)},
			{`a: ["join","main:default"]`, one("a", channels("@alice")...)},
			{`a: ["join","chat:branch1"]`, one("a", channels("@alice")...)},
			{`a: ["join",""]`, one("a", channels("@alice")...)}, {`a: ["join","Main"]`, one("a", channels("@alice")...)},
			{`a: ["join","main "]`, one("a", channels("@alice")...)},
			{`a: ["join",5]`, one("a", channels("@alice")...)}, {`a: ["join",["main"]]`, one("a", channels("@alice")...)},
			{`a: ["join",{}]`, one("a", channels("@alice")...)},
			{`a: ["join","a\u0000b"]`, one("a", channels("@alice")...)},
			{`a: ["join","main\u202e"]`, one("a", channels("@alice")...)},
			{`a: ["join","` + long + `é"]`, one("a", channels("@alice")...)},
			{`a: ["join","ws:pending"]`, one("a", channels("@alice")...)},
			{`a: ["join","*"]`, one("a", channels("@alice")...)}, {`a: ["join","news"]`, one("a", channels("@alice")...)},
			{`a: ["leave","@alice"]`, one("a", channels("@alice")...)}, {`a: ["leave",5]`, one("a", channels("@alice")...)},
			{`u: ["join","chat"]`, one("u", channels("@alice")...)}, {`i: ["join","chat"]`, one("i", channels("@alice")...)},
			{`i: ["join","main"]`, one("i", channels("main:default", "@alice")...)},
			{`s: ["join","chat"]`, one("s", channels("chat:branch1", "@alice")...)},
			{`n: ["join","main"]`, one("n", channels()...)},
		},
		"events stay in tenant and scope": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)},
			{`b: ["join","main"]`, one("b", channels("main:default", "@bob")...)},
			{`c: ["join","main"]`, one("c", channels("main:default", "@carol")...)},
			{`s: ["join","main"]`, one("s", channels("main:branch1", "@alice")...)},
			{`o: ["join","main"]`, one("o", channels("main:default", "@alice")...)},
			{`b: {"action":"pub","x":1}`, map[string][]string{"a": {`["task-created",{"action":"pub","x":1}]`},
				"o": {`["task-created",{"action":"pub","x":1}]`},
				"b": {`["task-created",{"action":"pub","x":1}]`, respond(`{"published":true}`)}}},
			{`c: {"action":"pub"}`, one("c", `["task-created",{"action":"pub"}]`, respond(`{"published":true}`))},
			{`s: {"action":"pub"}`, map[string][]string{"a": {`["task-created",{"action":"pub"}]`},
				"b": {`["task-created",{"action":"pub"}]`}, "o": {`["task-created",{"action":"pub"}]`},
				"s": {respond(`{"published":true}`)}}},
			{`b: ` + pubTo(`1`, `["main:branch1"]`), map[string][]string{"s": {`["e",1]`}, "b": {returned(`1`)}}},
			{`b: ` + pubTo(`2`, `["@alice"]`),
				map[string][]string{"a": {`["e",2]`}, "s": {`["e",2]`}, "o": {`["e",2]`}, "b": {returned(`2`)}}},
			{`b: ` + pubTo(`3`, `["@carol"]`), one("b", returned(`3`))},
			{`n: ` + pubTo(`4`, `["main:default","@alice"]`), one("n", returned(`4`))},
			{`n: {"action":"pub"}`, one("n", respond(`{"published":true}`))},
			{`b: {"action":"task.create","title":"Milk"}`,
				map[string][]string{"a": {`["task-created",{"title":"Milk"}]`}, "o": {`["task-created",{"title":"Milk"}]`},
					"b": {`["task-created",{"title":"Milk"}]`, respond(`{"title":"Milk"}`)}}},
		},
		"once per connection": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)},
			{`a: ["join","chat"]`, one("a", channels("chat:default", "main:default", "@alice")...)},
			{`a2: ["join","main"]`, one("a2", channels("main:default", "@alice")...)},
			{`b: ` + pubTo(`1`, `["main:default","@alice","chat:default","main:default","@alice"]`),
				map[string][]string{"a": {`["e",1]`}, "a2": {`["e",1]`}, "b": {returned(`1`)}}},
			{`b: ` + pubTo(`2`, `["chat:default"]`), map[string][]string{"a": {`["e",2]`}, "b": {returned(`2`)}}},
			{`b: ` + pubTo(`3`, `["@alice","@bob"]`),
				map[string][]string{"a": {`["e",3]`}, "a2": {`["e",3]`}, "b": {`["e",3]`, returned(`3`)}}},
			{`b: ` + pubTo(`4`, `[]`), one("b", returned(`4`))},
			{`a: ["leave","main"]`, one("a", channels("chat:default", "@alice")...)},
			{`b: ` + pubTo(`5`, `["main:default"]`), map[string][]string{"a2": {`["e",5]`}, "b": {returned(`5`)}}},
		},
		"passwords go": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)},
			{`b: ` + pubTo(`{"password":"p","n":1,"o":{"password":"q"}}`, `["main:default"]`),
				map[string][]string{"a": {`["e",{"n":1,"o":{"password":"q"}}]`},
					"b": {returned(`{"n":1,"o":{"password":"q"}}`)}}},
			{`b: ` + pubTo(`{"password":"p"}`, `["main:default"]`),
				map[string][]string{"a": {`["e",{}]`}, "b": {returned(`{}`)}}},
			{`b: ` + pubTo(`{"Password":"p","pass\u0077ord":"q"}`, `["main:default"]`),
				map[string][]string{"a": {`["e",{"Password":"p"}]`}, "b": {returned(`{"Password":"p"}`)}}},
			{`b: ` + pubTo(`[{"password":"p"}]`, `["main:default"]`),
				map[string][]string{"a": {`["e",[{"password":"p"}]]`}, "b": {returned(`[{"password":"p"}]`)}}},
			{`b: ` + pubTo(`"password"`, `["main:default"]`),
				map[string][]string{"a": {`["e","password"]`}, "b": {returned(`"password"`)}}},
			{`b: ` + pubTo(`12345678901234567890.10`, `["main:default"]`),
				map[string][]string{"a": {`["e",12345678901234567890.10]`}, "b": {returned(`12345678901234567890.10`)}}},
			{`b: {"action":"pub","password":"p","rayid":9}`,
				map[string][]string{"a": {`["task-created",{"action":"pub","rayid":9}]`},
					"b": {`["response",{"published":true},9]`}}},
		},
		"reserved events": {
			{`a: {"action":"pub.to","event":"jwt","data":1,"channels":["@alice"]}`, one("a", respond(malformed))},
			{`a: {"action":"pub.to","event":"channel_list","data":1,"channels":["@alice"]}`, one("a", respond(malformed))},
			{`a: {"action":"pub.to","event":"server_time","data":1,"channels":["@alice"]}`, one("a", respond(malformed))},
			{`a: {"action":"pub.to","event":"socket_error","data":1,"channels":["@alice"]}`, one("a", respond(malformed))},
			{`a: {"action":"pub.to","event":"lost","data":1,"channels":["@alice"]}`, one("a", respond(malformed))},
			{`a: {"action":"pub.to","event":"response","data":1,"channels":["@alice"]}`, one("a", respond(malformed))},
			{`a: {"action":"pub.to","event":"Response","data":1,"channels":["@alice"]}`,
				one("a", `["Response",1]`, returned(`1`))},
			{`a: {"action":"pub.to","data":1,"channels":["@alice"]}`, one("a", `["ev",1]`, returned(`1`))},
		},
		"log in later": {
			{`n: ["join","main"]`, one("n", channels()...)},
			{`n: ["jwt","{{r_user_chat}}"]`, one("n", jwt("r_user_chat", `["user","channel_chat"]`))},
			{`n: channel_list`, one("n", channels("@alice")...)},
			{`n: {"action":"task.list"}`, one("n", respond(`[]`))},
			{`n: ["join","chat"]`, one("n", channels("chat:default", "@alice")...)},
			{`n: ["jwt","{{f_expired}}"]`, one("n", jwtFailed)},
			{`n: channel_list`, one("n", channels("chat:default", "@alice")...)},
			{`n: {"action":"task.list"}`, one("n", respond(`[]`))},
			{`n: {"action":"dump","rayid":1}`, one("n", `["response",{"action":"dump","auth":`+claimsOf(t, all["r_user_chat"],
				`["user","channel_chat"]`)+`,"db":"dbhandle","params":{"action":"dump","rayid":1},"rayid":1,"source":"ws"},1]`)},
		},
		"anonymous are among themselves": {
			{`n: ` + pubTo(`1`, `["ws:pending"]`), map[string][]string{"n": {`["e",1]`, returned(`1`)}, "n2": {`["e",1]`}}},
			{`n: ["jwt","{{r_user}}"]`, one("n", jwt("r_user", `["user"]`))},
			{`n2: ` + pubTo(`2`, `["ws:pending"]`), one("n2", `["e",2]`, returned(`2`))},
		},
		"a refresh keeps the channels": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)},
			{`a: ["join","chat"]`, one("a", channels("chat:default", "main:default", "@alice")...)},
			{`a: ["jwt","{{r_all}}"]`, one("a", jwt("r_all", `["admin","user","editor","channel_chat"]`))},
			{`a: channel_list`, one("a", channels("chat:default", "main:default", "@alice")...)},
			{`a: {"action":"admin.only"}`, one("a", respond(`{"secret":42,"user":"alice"}`))},
			{`b: ` + pubTo(`1`, `["chat:default"]`), map[string][]string{"a": {`["e",1]`}, "b": {returned(`1`)}}},
			{`a: ["jwt","{{f_good}}"]`, one("a", jwt("f_good", `["user"]`))},
			{`a: channel_list`, one("a", channels("main:default", "@alice")...)},
			{`b: ` + pubTo(`2`, `["chat:default"]`), one("b", returned(`2`))},
			{`a: {"action":"admin.only"}`, one("a", respond(denied))},
			{`b: ` + pubTo(`3`, `["main:default","@alice"]`), map[string][]string{"a": {`["e",3]`}, "b": {returned(`3`)}}},
		},
		"another scope": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)},
			{`a: ["jwt","{{alice_scope2}}"]`, one("a", jwt("alice_scope2", `["user","channel_chat"]`))},
			{`a: channel_list`, one("a", channels("@alice")...)},
			{`a: ["join","main"]`, one("a", channels("main:branch1", "@alice")...)},
		},
		"another user": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)},
			{`a: ["jwt","{{bob_user}}"]`, one("a", jwt("bob_user", `["user"]`))},
			{`a: channel_list`, one("a", channels("@bob")...)},
			{`b: ` + pubTo(`1`, `["main:default","@alice"]`), one("b", returned(`1`))},
			{`b: ` + pubTo(`2`, `["@bob"]`), map[string][]string{"a": {`["e",2]`}, "b": {`["e",2]`, returned(`2`)}}},
		},
		"another app": {
			{`a: ["join","main"]`, one("a", channels("main:default", "@alice")...)},
			{`a: ["jwt","{{other_owner}}"]`, one("a", jwt("other_owner", `["owner"]`))},
			{`a: channel_list`, one("a", channels("@alice")...)},
			{`a: {"action":"dump"}`, one("a", respond(undefined))},
			{`a: {"action":"owner.only"}`, one("a", respond(`{"app":"otherapp","user":"alice","roles":["owner"]}`))},
		},
		"five bad tokens": {
			{`a: ["jwt","x"]`, one("a", jwtFailed)}, {`a: ["jwt",5]`, one("a", jwtFailed)},
			{`a: ["jwt","{{f_none}}"]`, one("a", jwtFailed)}, {`a: ["jwt",null]`, one("a", jwtFailed)},
			{`a: ["jwt","{{f_expired}}"]`, one("a", jwtFailed, "<close 1008>", "<eof>")},
		},
		"a good token does not forgive": {
			{`n: ["jwt","x"]`, one("n", jwtFailed)}, {`n: ["jwt"]`, one("n", unknown)},
			{`n: ["jwt","x"]`, one("n", jwtFailed)}, {`n: ["jwt","{{r_user}}"]`, one("n", jwt("r_user", `["user"]`))},
			{`n: ["jwt","x"]`, one("n", jwtFailed)},
		},
		"roles as names": {
			{`p: ["join","chat"]`, one("p", channels("@alice")...)},
			{`p: {"action":"admin.only"}`, one("p", respond(`{"secret":42,"user":"alice"}`))},
		},
		"roles": {
			{`u: {"action":"admin.only"}`, one("u", respond(denied))},
			{`u: {"action":"other.only"}`, one("u", respond(undefined))},
			{`u: {"action":"nope"}`, one("u", respond(undefined))},
			{`i: {"action":"task.list"}`, one("i", respond(denied))},
			{`o: {"action":"echo"}`, one("o", respond(`{"app":"otherapp","user":"alice","roles":["owner"]}`))},
			{`u: <` + hex.EncodeToString(binaryCall(`{"action":"task.create"}`, "x")) + `>`,
				one("u", respond(`{"error":"validation_failed","code":"validation_failed","errors":{"title":["is required"]}}`))},
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
