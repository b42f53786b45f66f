package main_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	invalidToken = `{"error":"Invalid token","code":"unauthenticated"}`
	expiredToken = `{"error":"Token expired","code":"unauthenticated"}`
)

// verdicts says of each recorded token which user and roles it gives, or how it is refused: PROTOCOL.md section 1.
var verdicts = map[string]struct{ app, user, roles, refused string }{
	"r_none":         {app: "myapp", user: "alice", roles: `[]`},
	"r_user":         {app: "myapp", user: "alice", roles: `["user"]`},
	"r_user_chat":    {app: "myapp", user: "alice", roles: `["user","channel_chat"]`},
	"r_all":          {app: "myapp", user: "alice", roles: `["admin","user","editor","channel_chat"]`},
	"r_reversed_dup": {app: "myapp", user: "alice", roles: `["admin","user","channel_chat"]`},
	"bob_user":       {app: "myapp", user: "bob", roles: `["user"]`},
	"carol_t2":       {app: "myapp", user: "carol", roles: `["user","channel_chat"]`},
	"alice_scope2":   {app: "myapp", user: "alice", roles: `["user","channel_chat"]`},
	"other_owner":    {app: "otherapp", user: "alice", roles: `["owner"]`},
	"big_r79":        {app: "zbig", user: "alice", roles: `["r79"]`},
	"big_all80":      {app: "zbig", user: "alice", roles: eighty()},
	"c_identity":     {app: "myapp", user: "alice"},
	"f_good":         {app: "myapp", user: "alice", roles: `["user"]`},
	"f_bob":          {app: "myapp", user: "bob", roles: `["user"]`},
	// The second name is none of the app's.
	"f_roles_list_admin": {app: "myapp", user: "alice", roles: `["admin","user"]`},
	"f_password_claim":   {app: "myapp", user: "alice", roles: `["user"]`},

	"f_expired":          {refused: expiredToken},
	"c_user_int":         {refused: invalidToken},
	"f_wrong_aud":        {refused: invalidToken},
	"f_none":             {refused: invalidToken},
	"f_hs256_pub":        {refused: invalidToken},
	"f_hs256_priv":       {refused: invalidToken},
	"f_typ_at":           {refused: invalidToken},
	"f_roles_list_mixed": {refused: invalidToken},
	"f_app_number":       {refused: invalidToken},
	"f_no_app":           {refused: invalidToken},
	"f_no_app_list":      {refused: invalidToken},
	"f_no_user":          {refused: invalidToken},
	"f_user_map":         {refused: invalidToken},
	"f_tenant_anon":      {refused: invalidToken},
}

func eighty() string {
	names := make([]string, 80)
	for i := range names {
		names[i] = fmt.Sprintf("%q", fmt.Sprintf("r%d", i))
	}
	return "[" + strings.Join(names, ",") + "]"
}

// TestRecordedTokens presents every recorded token in each place where a token may stand.
func TestRecordedTokens(t *testing.T) {
	t.Parallel()
	s := recorded(t)
	all := tokens(t)
	if len(all) != len(verdicts) {
		t.Errorf("%d tokens, %d verdicts", len(all), len(verdicts))
	}
	for name, token := range all {
		t.Run(name, func(t *testing.T) {
			want, ok := verdicts[name]
			if !ok {
				t.Fatal("no verdict")
			}
			t.Run("Authorization", func(t *testing.T) { checkHTTP(t, s, token, want.app, want.roles, want.refused) })
			for place, header := range map[string]string{
				"upgrade":      "Authorization: Bearer " + token,
				"sub-protocol": "Sec-WebSocket-Protocol: mooncore.v1, bearer." + token,
			} {
				t.Run(place, func(t *testing.T) {
					c, answer := s.dial(t, header)
					if want.refused != "" {
						if answer.status != 401 || answer.body != want.refused || answer.header.Get("WWW-Authenticate") != "Bearer" {
							t.Errorf("got %d %s", answer.status, answer.body)
						}
						return
					}
					if c == nil {
						t.Fatalf("got %d %s", answer.status, answer.body)
					}
					if place == "sub-protocol" && answer.header.Get("Sec-WebSocket-Protocol") != "mooncore.v1" {
						t.Errorf("sub-protocol %q", answer.header.Get("Sec-WebSocket-Protocol"))
					}
					c.sendText("channel_list")
					c.expect(fmt.Sprintf(`["channel_list",["@%s"]]`, want.user))
				})
			}
			t.Run("jwt frame", func(t *testing.T) {
				c := s.connect(t, "")
				c.sendText(fmt.Sprintf(`["jwt",%q]`, token), "channel_list")
				if want.refused != "" {
					c.expect(`["jwt","jwt_failed"]`, `["channel_list",[]]`)
					return
				}
				c.expect(`["jwt",`+claimsOf(t, token, want.roles)+`]`, fmt.Sprintf(`["channel_list",["@%s"]]`, want.user))
			})
		})
	}
}

// checkHTTP calls an action of the token's app that shows its roles.
func checkHTTP(t *testing.T, s *server, token, app, roles, refused string) {
	t.Helper()
	action, shown := "dump", roles
	switch app {
	case "otherapp":
		action = "echo"
	case "zbig":
		action = "roles"
	}
	got := s.do(t, "POST /run/"+action, "", "Authorization: Bearer "+token)
	if refused != "" {
		if got.status != 401 || got.body != refused || got.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("got %d %s, want 401 %s", got.status, got.body, refused)
		}
		return
	}
	var body struct {
		Auth  json.RawMessage
		Roles json.RawMessage
	}
	if err := json.Unmarshal([]byte(got.body), &body); err != nil || got.status != 200 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	if action == "dump" {
		if want := claimsOf(t, token, roles); !sameJSON(string(body.Auth), want) {
			t.Errorf("claims %s, want %s", body.Auth, want)
		}
		return
	}
	if !sameJSON(string(body.Roles), shown) {
		t.Errorf("roles %s, want %s", body.Roles, shown)
	}
}

// claimsOf is the token's payload with the roles as names.
func claimsOf(t *testing.T, token, roles string) string {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]json.RawMessage
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	if roles != "" {
		claims["roles"] = json.RawMessage(roles)
	}
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// An issuer signs what it is told.
type issuer struct {
	key    *rsa.PrivateKey
	public string // PEM
}

var newIssuer = sync.OnceValues(func() (*issuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	return &issuer{key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}, err
})

// own starts a program that verifies tokens of the issuer.
func own(t *testing.T, env ...string) (*server, *issuer) {
	t.Helper()
	i, err := newIssuer()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, append(env, "JWT_PUBLIC_KEY="+i.public)...), i
}

const rs256 = `{"alg":"RS256","typ":"JWT"}`

// token signs a header and claims as they stand.
func (i *issuer) token(t *testing.T, header, claims string) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, i.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// claims are those of a good token without the named one, and then more.
func claims(without, more string) string {
	var parts []string
	for _, part := range [][2]string{{"user", `"alice"`}, {"app", `"myapp"`}, {"iss", `"myapp"`}, {"aud", `"api"`},
		{"exp", `4102444800`}} {
		if part[0] != without {
			parts = append(parts, fmt.Sprintf("%q:%s", part[0], part[1]))
		}
	}
	if more != "" {
		parts = append(parts, more)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// TestTokenRules goes through section 1 of the protocol with tokens whose signature is good.
func TestTokenRules(t *testing.T) {
	t.Parallel()
	s, issuer := own(t)
	good := issuer.token(t, rs256, claims("", ""))
	last := good[len(good)-1]
	type rule struct{ name, token, roles, refused string }
	claim := func(name, without, more string) rule {
		return rule{name: name, token: issuer.token(t, rs256, claims(without, more)), refused: invalidToken}
	}
	header := func(name, header string) rule {
		return rule{name: name, token: issuer.token(t, header, claims("", "")), refused: invalidToken}
	}
	raw := func(name, token string) rule { return rule{name: name, token: token, refused: invalidToken} }
	ok := func(r rule) rule { r.refused = ""; return r }
	roles := func(claim, names string) rule {
		return rule{name: "roles " + clip(claim), token: issuer.token(t, rs256, claims("", `"roles":`+claim)), roles: names}
	}
	for _, tt := range []rule{
		{name: "least", token: good},
		{name: "expired", token: issuer.token(t, rs256, claims("exp", `"exp":1700000000`)), refused: expiredToken},

		claim("no user", "user", ""), claim("empty user", "user", `"user":""`), claim("null user", "user", `"user":null`),
		claim("list as user", "user", `"user":["alice"]`), claim("control character in user", "user", `"user":"a\u0000"`),
		claim("line break in user", "user", `"user":"a\nb"`), claim("bidirectional user", "user", `"user":"a\u202eb"`),
		claim("bidirectional tenant", "", `"tenant":"a\u202eb"`),
		claim("no app", "app", ""), claim("other app", "app", `"app":"nope"`), claim("empty app", "app", `"app":""`),
		claim("null app", "app", `"app":null`),
		ok(claim("tenant", "", `"tenant":"t1"`)), ok(claim("empty tenant", "", `"tenant":""`)),
		claim("tenant a number", "", `"tenant":5`),
		claim("tenant _anon", "", `"tenant":"_anon"`), claim("null tenant", "", `"tenant":null`),
		claim("scope a number", "", `"scope":5`),
		claim("no iss", "iss", ""), claim("other iss", "iss", `"iss":"other"`), claim("iss a list", "iss", `"iss":["myapp"]`),
		claim("no aud", "aud", ""), claim("other aud", "aud", `"aud":"API"`), claim("empty aud", "aud", `"aud":[]`),
		ok(claim("aud list", "aud", `"aud":["web","api"]`)), claim("aud list without api", "aud", `"aud":["web"]`),
		claim("aud list with a number", "aud", `"aud":["api",1]`), claim("aud object", "aud", `"aud":{"api":1}`),
		claim("no exp", "exp", ""), claim("exp a string", "exp", `"exp":"4102444800"`),
		claim("exp a float", "exp", `"exp":4102444800.0`),
		claim("exp with exponent", "exp", `"exp":4.1e9`), claim("exp null", "exp", `"exp":null`),
		claim("exp negative", "exp", `"exp":-1`),
		claim("exp past int64", "exp", `"exp":92233720368547758070`), claim("exp 9e18", "exp", `"exp":9000000000000000000`),
		ok(claim("nbf past", "", `"nbf":1700000000`)), claim("nbf future", "", `"nbf":4102444000`),
		claim("nbf a string", "", `"nbf":"1"`),
		ok(claim("iat", "", `"iat":1700000000`)), claim("iat a string", "", `"iat":"1"`), claim("jti a number", "", `"jti":1`),
		claim("two users", "", `"user":"bob"`), claim("User", "", `"User":"bob"`), claim("EXP", "", `"EXP":4102444800`),
		claim("roleſ", "", `"roleſ":["admin"]`), claim("two of another claim", "", `"x":1,"x":2`),
		ok(claim("other claims", "", `"x":{"y":[1]}`)),
		raw("claims a list", issuer.token(t, rs256, `[]`)), raw("claims no JSON", issuer.token(t, rs256, `{`)),

		roles(`""`, `[]`), roles(`"Q"`, `[]`), roles(`"QQ2"`, `["user"]`), roles(`"6"`, `["user","editor"]`),
		roles(`"J"`, `["user"]`),
		roles(`"`+strings.Repeat("Q", 255)+`2"`, `["user"]`), roles(`[]`, `[]`),
		roles(`["editor","user","nope","user"]`, `["user","editor"]`),
		roles(`"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"`, `["admin","user","editor","channel_chat"]`),
		claim("roles too long", "", `"roles":"`+strings.Repeat("Q", 256)+`2"`), claim("digit 0", "", `"roles":"20"`),
		claim("digit O", "", `"roles":"O"`), claim("digit I", "", `"roles":"I"`), claim("digit space", "", `"roles":" 2"`),
		claim("roles null", "", `"roles":null`), claim("roles a number", "", `"roles":2`),
		claim("roles an object", "", `"roles":{"user":true}`),

		ok(header("alg only", `{"alg":"RS256"}`)), ok(header("kid, with one key", `{"alg":"RS256","kid":"nope"}`)),
		ok(header("x5t", `{"alg":"RS256","x5t":"a","x5t#S256":"b"}`)), header("kid a list", `{"alg":"RS256","kid":["a"]}`),
		header("no alg", `{"typ":"JWT"}`), header("alg RS512", `{"alg":"RS512"}`), header("alg rs256", `{"alg":"rs256"}`),
		header("alg none", `{"alg":"none"}`), header("two algs", `{"alg":"RS256","alg":"RS256"}`),
		header("ALG", `{"alg":"RS256","ALG":"none"}`),
		header("typ a number", `{"alg":"RS256","typ":1}`), header("typ at+jwt", `{"alg":"RS256","typ":"at+jwt"}`),
		header("crit", `{"alg":"RS256","crit":["x"]}`), header("empty crit", `{"alg":"RS256","crit":[]}`),
		header("jku", `{"alg":"RS256","jku":"http://x"}`),
		header("x5u", `{"alg":"RS256","x5u":"http://x"}`), header("jwk", `{"alg":"RS256","jwk":{}}`),
		header("x5c", `{"alg":"RS256","x5c":[]}`),
		header("b64", `{"alg":"RS256","b64":true}`), header("zip", `{"alg":"RS256","zip":"DEF"}`), header("list", `["RS256"]`),

		raw("padding", good+"=="), raw("last character not canonical", good[:len(good)-1]+string(nextDigit(last))),
		raw("two parts", good[:strings.LastIndex(good, ".")]), raw("four parts", good+".x"),
		raw("no signature", good[:strings.LastIndex(good, ".")+1]),
		raw("another token's signature",
			issuer.token(t, rs256, claims("", `"x":1`))[:strings.LastIndex(issuer.token(t, rs256, claims("", `"x":1`)), ".")]+
				good[strings.LastIndex(good, "."):]),
		raw("over 8 KiB", issuer.token(t, rs256, claims("", `"x":"`+strings.Repeat("x", 8192)+`"`))), raw("a word", "token"),
		raw("dots", ".."),
		raw("space inside", strings.Replace(good, ".", ". ", 1)),
	} {
		t.Run(tt.name, func(t *testing.T) { checkHTTP(t, s, tt.token, "myapp", tt.roles, tt.refused) })
	}
	t.Run("line break in a jwt frame", func(t *testing.T) {
		c := s.connect(t, "")
		c.sendText(fmt.Sprintf("[\"jwt\",%q]", good[:len(good)-1]+"\n"+good[len(good)-1:]),
			fmt.Sprintf(`["jwt",%q]`, "Bearer "+good))
		c.expect(`["jwt","jwt_failed"]`, `["jwt","jwt_failed"]`)
	})
}

// TestRoleDigits reads the recorded spellings of bitmasks as roles of an app that has 80.
func TestRoleDigits(t *testing.T) {
	t.Parallel()
	s, issuer := own(t)
	var records struct {
		Base58 []struct{ Int, Str string } `json:"base58_encode"`
	}
	readJSON(t, "tokens.json", &records)
	if len(records.Base58) == 0 {
		t.Fatal("no records")
	}
	for _, record := range records.Base58 {
		mask, ok := new(big.Int).SetString(record.Int, 10)
		if !ok {
			t.Fatalf("%q is no number", record.Int)
		}
		names := []string{}
		for bit := range mask.BitLen() {
			if mask.Bit(bit) == 1 {
				names = append(names, fmt.Sprintf("r%d", bit))
			}
		}
		want, err := json.Marshal(names)
		if err != nil {
			t.Fatal(err)
		}
		checkHTTP(t, s, issuer.token(t, rs256, claims("app", fmt.Sprintf(`"app":"zbig","roles":%q`, record.Str))), "zbig", string(want), "")
	}
}

// nextDigit is another last character of base64 for the same bytes.
func nextDigit(c byte) byte {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return digits[strings.IndexByte(digits, c)|1]
}

// TestTokenExpires holds a connection over the end of its token.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	s, issuer := own(t)
	short := func() string {
		return issuer.token(t, rs256, claims("exp", fmt.Sprintf(`"tenant":"t1","roles":["user"],"exp":%d`, time.Now().Unix()+2)))
	}
	c := s.connect(t, short())
	c.sendText(`["join","main"]`)
	c.expect(`["channel_list",["main:default","@alice"]]`)
	if got := c.Next().String(); got != `["jwt","jwt_expired"]` {
		t.Fatalf("got %s", got)
	}
	c.sendText("channel_list", `{"action":"task.list"}`, `{"action":"dump","rayid":1}`, `["join","main"]`,
		fmt.Sprintf(`["jwt",%q]`, short()), "channel_list", `{"action":"task.list"}`)
	c.expect(`["channel_list",[]]`, `["response",`+expiredToken+`,null]`,
		`["response",{"auth":null,"action":"dump","rayid":1,"db":"dbhandle","params":{"action":"dump","rayid":1},"source":"ws"},1]`,
		`["channel_list",[]]`, `["jwt","*"]`, `["channel_list",["@alice"]]`, `["response",[],null]`)
}
