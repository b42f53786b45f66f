package mooncore

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// conformanceApps are those that the recorded tokens were made for.
func conformanceApps() []appRoles {
	big := appRoles{app: "zbig"}
	for i := range 80 {
		big.roles = append(big.roles, fmt.Sprintf("r%d", i))
	}
	return []appRoles{
		{"myapp", []string{"admin", "user", "editor", "channel_chat"}},
		{"otherapp", []string{"owner", "user"}},
		big,
	}
}

// testTokens fails the test if cfg has a fault.
func testTokens(t testing.TB, cfg JWTConfig, apps ...appRoles) *tokens {
	t.Helper()
	if apps == nil {
		apps = conformanceApps()
	}
	tok, err := newTokens(cfg, apps, false, false)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// wantRefused checks an error of verify.
func wantRefused(t *testing.T, err error, text string) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("err = %v, want an *Error with %q", err, text)
	}
	if e.Code != CodeUnauthenticated || e.Message != text {
		t.Errorf("%s %q (%v), want %s %q", e.Code, e.Message, e.Err, CodeUnauthenticated, text)
	}
}

func TestVerifyRecorded(t *testing.T) {
	public := string(noError(os.ReadFile("testdata/conformance/jwt_public.pem")))
	type record struct {
		Name, Token string
		Solved      map[string]any
	}
	read := func(name string, v any) {
		t.Helper()
		if err := json.Unmarshal(noError(os.ReadFile("testdata/conformance/"+name)), v); err != nil {
			t.Fatal(err)
		}
	}
	var minted struct{ Tokens []record }
	var forged []record
	read("tokens.json", &minted)
	read("forged.json", &forged)

	roles := map[string][]string{
		"f_good": {"user"}, "f_roles_list_admin": {"admin", "user"}, "f_password_claim": {"user"}, "f_bob": {"user"},
	}
	refused := map[string]string{"c_user_int": textInvalidToken, "f_expired": textTokenExpired}
	for _, name := range []string{
		"f_wrong_aud", "f_none", "f_hs256_pub", "f_hs256_priv", "f_typ_at", "f_roles_list_mixed", "f_app_number", "f_no_app",
		"f_no_app_list", "f_no_user", "f_user_map", "f_tenant_anon",
	} {
		refused[name] = textInvalidToken
	}
	good := 0
	for _, r := range slices.Concat(minted.Tokens, forged) {
		t.Run(r.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)))
				tok := testTokens(t, JWTConfig{Issuer: "myapp", PublicKeys: public})
				id, err := tok.verify(r.Token)
				if text := refused[r.Name]; text != "" {
					delete(refused, r.Name)
					wantRefused(t, err, text)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				good++
				if _, err := tok.sign(*id); err == nil {
					t.Error("a server that only verifies signed")
				}
				if r.Solved == nil { // the forged ones, whose record does not say
					if !slices.Equal(id.Roles, roles[r.Name]) {
						t.Errorf("Roles = %v, want %v", id.Roles, roles[r.Name])
					}
					return
				}
				var claims map[string]any
				if err := json.Unmarshal(noError(json.Marshal(id.Claims)), &claims); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(claims, r.Solved) {
					t.Errorf("Claims = %v, want %v", claims, r.Solved)
				}
				if id.Claims["exp"] != json.Number("4102444800") {
					t.Errorf("claim exp = %#v, want an exact number", id.Claims["exp"])
				}
				var want []string
				if list, ok := r.Solved["roles"].([]any); ok {
					for _, role := range list {
						want = append(want, role.(string))
					}
				}
				switch {
				case !slices.Equal(id.Roles, want):
					t.Errorf("Roles = %v, want %v", id.Roles, want)
				case id.User != r.Solved["user"], id.App != r.Solved["app"], id.Tenant != r.Solved["tenant"], id.Scope != r.Solved["scope"],
					id.TokenID != r.Solved["jti"], !id.Expires.Equal(time.Unix(4102444800, 0)), float64(id.issued) != r.Solved["iat"]:
					t.Errorf("identity %+v, want %v", id, r.Solved)
				}
			})
		})
	}
	if len(refused) > 0 || good != 12+4 {
		t.Errorf("%d good; not seen: %v", good, refused)
	}
}

func TestSign(t *testing.T) {
	rsaKey, ecKey, edKey := testRSA(), testECDSA(), testEd25519()
	secret := strings.Repeat("s", 32)
	for _, test := range []struct {
		name   string
		cfg    JWTConfig
		method jwt.SigningMethod
		key    any
		text   string
	}{
		{"RS256", JWTConfig{PrivateKey: Secret(privatePEM(rsaKey))}, jwt.SigningMethodRS256, rsaKey.Public(), "RS256"},
		{"ES256", JWTConfig{PrivateKey: Secret(privatePEM(ecKey))}, jwt.SigningMethodES256, ecKey.Public(), "ES256"},
		{"EdDSA", JWTConfig{PrivateKey: Secret(privatePEM(edKey))}, jwt.SigningMethodEdDSA, edKey.Public(), "EdDSA"},
		{"HS256", JWTConfig{Secret: Secret(secret)}, jwt.SigningMethodHS256, []byte(secret), "HS256"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tok := testTokens(t, test.cfg)
				if got := tok.String(); got != test.text {
					t.Errorf("String = %q, want %q", got, test.text)
				}
				token, err := tok.sign(Identity{
					User: "alice", App: "myapp", Tenant: "t1", Roles: []string{"editor", "user"},
					Claims: map[string]any{"plan": "gold", "n": json.Number("123456789012345678901234567890"), "user": "mallory", "exp": 1},
				})
				if err != nil {
					t.Fatal(err)
				}

				// As any other program sees it.
				claims := jwt.MapClaims{}
				parsed, err := jwt.NewParser(jwt.WithValidMethods([]string{test.method.Alg()}), jwt.WithIssuer("mooncore"),
					jwt.WithAudience("api"), jwt.WithExpirationRequired(), jwt.WithJSONNumber()).
					ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return test.key, nil })
				if err != nil {
					t.Fatal(err)
				}
				if want := map[string]any{"alg": test.method.Alg(), "typ": "JWT"}; !maps.Equal(parsed.Header, want) {
					t.Errorf("header %v, want %v", parsed.Header, want)
				}
				now := time.Now().Unix()
				number := func(n int64) json.Number { return json.Number(fmt.Sprint(n)) }
				jti := claims["jti"].(string)
				delete(claims, "jti")
				if want := (jwt.MapClaims{
					"user": "alice", "app": "myapp", "tenant": "t1", "scope": "default", "roles": "6", "aud": "api", "iss": "mooncore",
					"iat": number(now), "nbf": number(now), "exp": number(now + 18*3600),
					"plan": "gold", "n": json.Number("123456789012345678901234567890"),
				}); !maps.Equal(claims, want) {
					t.Errorf("claims %v, want %v", claims, want)
				}

				id, err := tok.verify(token)
				if err != nil {
					t.Fatal(err)
				}
				if id.User != "alice" || id.App != "myapp" || id.Tenant != "t1" || id.Scope != "default" || id.TokenID != jti ||
					!slices.Equal(id.Roles, []string{"user", "editor"}) || id.Expires.Unix() != now+18*3600 || id.issued != now {
					t.Errorf("identity %+v", id)
				}
				again, err := tok.sign(*id) // as a program does that refreshes tokens
				if err != nil {
					t.Fatal(err)
				}
				other, err := tok.verify(again)
				if err != nil {
					t.Fatal(err)
				}
				if other.TokenID == id.TokenID || len(other.TokenID) != 22 {
					t.Errorf("jti %q after %q", other.TokenID, id.TokenID)
				}
			})
		})
	}
}

func TestSignDefaults(t *testing.T) {
	cfg := JWTConfig{PrivateKey: Secret(privatePEM(testECDSA())), Lifetime: time.Minute}
	for _, test := range []struct {
		name string
		app  appRoles
	}{
		{"a named app", appRoles{"solo", []string{"user"}}},
		{"an app without a name", appRoles{"", []string{"user"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tok := testTokens(t, cfg, test.app)
				id := noError(tok.verify(noError(tok.sign(Identity{User: "bob"}))))
				if id.App != test.app.app || id.Tenant != "" || id.Scope != "default" || id.Roles == nil || len(id.Roles) != 0 {
					t.Errorf("identity %+v", id)
				}
				if _, ok := id.Claims["app"]; ok != (test.app.app != "") {
					t.Errorf("claims %v", id.Claims)
				}
				if want := time.Now().Add(time.Minute); !id.Expires.Equal(want) {
					t.Errorf("Expires = %v, want %v", id.Expires, want)
				}
			})
		})
	}
}

func TestSignRefuses(t *testing.T) {
	tok := testTokens(t, JWTConfig{PrivateKey: Secret(privatePEM(testECDSA())), MaxLifetime: time.Hour})
	for _, test := range []struct {
		name  string
		id    Identity
		fault string
	}{
		{"no user", Identity{App: "myapp"}, "Identity.User: empty"},
		{"no app of several", Identity{User: "a"}, `Identity.App: "" is not registered`},
		{"unknown app", Identity{User: "a", App: "none"}, `Identity.App: "none"`},
		{"the tenant of nobody", Identity{User: "a", App: "myapp", Tenant: "_anon"}, "Identity.Tenant: _anon"},
		{"unknown role", Identity{User: "a", App: "myapp", Roles: []string{"user", "owner"}},
			`Identity.Roles: the app "myapp" has no role "owner"`},
		{"control character", Identity{User: "a\n", App: "myapp"}, "Identity.User: has a control"},
		{"bidirectional character", Identity{User: "a", App: "myapp", Tenant: "t\u202e"}, "Identity.Tenant: has a control or bidi"},
		{"invalid UTF-8", Identity{User: "a", App: "myapp", Scope: "\xff"}, "Identity.Scope: invalid UTF-8"},
		{"expired", Identity{User: "a", App: "myapp", Expires: time.Now().Add(-time.Second)}, "Identity.Expires: in the past"},
		{"too long", Identity{User: "a", App: "myapp", Expires: time.Now().Add(2 * time.Hour)}, "Identity.Expires: past JWT.MaxLifetime"},
		{"year 10000", Identity{User: "a", App: "myapp", Expires: time.Unix(maxUnixTime+1, 0)}, "Identity.Expires: past the year"},
		{"case variant", Identity{User: "a", App: "myapp", Claims: map[string]any{"Exp": 1}}, "only in case"},
		{"no JSON", Identity{User: "a", App: "myapp", Claims: map[string]any{"f": func() {}}}, "Identity.Claims: json"},
		{"too large", Identity{User: "a", App: "myapp", Claims: map[string]any{"x": strings.Repeat("x", 8<<10)}},
			"Identity.Claims: the token has"},
	} {
		t.Run(test.name, func(t *testing.T) {
			token, err := tok.sign(test.id)
			if err == nil || !strings.Contains(err.Error(), test.fault) || token != "" {
				t.Errorf("err = %v, want %q", err, test.fault)
			}
		})
	}
}

func TestVerifyOnlyApp(t *testing.T) {
	private := Secret(privatePEM(testECDSA()))
	solo := testTokens(t, JWTConfig{PrivateKey: private}, appRoles{"solo", []string{"user"}})
	several := testTokens(t, JWTConfig{PrivateKey: private})
	token := signRaw(testECDSA(), `{"alg":"ES256"}`,
		`{"user":"a","aud":["web","api"],"iss":"mooncore","exp":4102444800,"roles":["user","x","user"]}`)
	id, err := solo.verify(token)
	if err != nil {
		t.Fatal(err)
	}
	if id.App != "solo" || id.Tenant != "" || id.Scope != "default" ||
		!slices.Equal(id.Roles, []string{"user"}) || id.TokenID != "" || id.issued != 0 {
		t.Errorf("identity %+v", id)
	}
	_, err = several.verify(token)
	wantRefused(t, err, textInvalidToken)
	_, err = solo.verify(noError(several.sign(Identity{User: "a", App: "myapp"})))
	wantRefused(t, err, textInvalidToken)
}

func TestVerifyTimes(t *testing.T) {
	key := testECDSA()
	const now = 1_900_000_000
	for _, test := range []struct {
		name   string
		cfg    JWTConfig
		claims string
		want   string // "" when good
	}{
		{"a second left", JWTConfig{}, `"exp":1900000001`, ""},
		{"expires now", JWTConfig{}, `"exp":1900000000`, textTokenExpired},
		{"expired within the leeway", JWTConfig{Leeway: 5 * time.Second}, `"exp":1899999996`, ""},
		{"expired past the leeway", JWTConfig{Leeway: 5 * time.Second}, `"exp":1899999995`, textTokenExpired},
		{"good from now", JWTConfig{}, `"exp":1900000009,"nbf":1900000000`, ""},
		{"not good yet", JWTConfig{}, `"exp":1900000009,"nbf":1900000001`, textInvalidToken},
		{"not good yet within the leeway", JWTConfig{Leeway: 5 * time.Second}, `"exp":1900000009,"nbf":1900000005`, ""},
		{"not good yet past the leeway", JWTConfig{Leeway: 5 * time.Second}, `"exp":1900000009,"nbf":1900000006`, textInvalidToken},
		{"the year 9999", JWTConfig{}, `"exp":253402300799`, ""},
		{"maximum lifetime", JWTConfig{MaxLifetime: time.Minute}, `"exp":1900000059,"iat":1899999999`, ""},
		{"past the maximum lifetime", JWTConfig{MaxLifetime: time.Minute}, `"exp":1900000059,"iat":1899999998`, textInvalidToken},
		{"issued after it expires", JWTConfig{MaxLifetime: time.Minute}, `"exp":1900000059,"iat":1900000060`, textInvalidToken},
		{"maximum lifetime without iat", JWTConfig{MaxLifetime: time.Minute}, `"exp":1900000059`, textInvalidToken},
		{"expired and of another issuer", JWTConfig{Issuer: "x"}, `"exp":1`, textInvalidToken},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Unix(now, 0)))
				test.cfg.PublicKeys = publicPEM(key)
				tok := testTokens(t, test.cfg)
				token := signRaw(key, `{"alg":"ES256"}`, `{"user":"a","app":"myapp","aud":"api","iss":"mooncore",`+test.claims+`}`)
				_, err := tok.verify(token)
				if test.want != "" {
					wantRefused(t, err, test.want)
				} else if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestRotation(t *testing.T) {
	oldKey, newKey := testRSA(), testECDSA()
	third := testEd25519()
	kid := func(key crypto.Signer) string { return noError(newVerifyKey(key.Public())).kid }
	before := testTokens(t, JWTConfig{PrivateKey: Secret(privatePEM(oldKey))})
	between := testTokens(t, JWTConfig{PrivateKey: Secret(privatePEM(newKey)), PublicKeys: publicPEM(oldKey) + publicPEM(third)})
	elsewhere := testTokens(t, JWTConfig{PublicKeys: `{"keys":[` + jwkOf(newKey, map[string]any{"kid": kid(newKey)}) + "," +
		jwkOf(oldKey, map[string]any{"kid": "old"}) + `]}`})
	after := testTokens(t, JWTConfig{PrivateKey: Secret(privatePEM(newKey))})
	named := testTokens(t, JWTConfig{PrivateKey: Secret(privatePEM(newKey)),
		PublicKeys: `{"keys":[` + jwkOf(newKey, map[string]any{"kid": "2030"}) + "," + jwkOf(oldKey, nil) + `]}`})

	if got, want := between.String(), "ES256 RS256 EdDSA, 3 keys"; got != want {
		t.Errorf("String = %q, want %q", got, want)
	}
	if got, want := elsewhere.String(), "ES256 RS256, 2 keys, verify only"; got != want {
		t.Errorf("String = %q, want %q", got, want)
	}

	id := Identity{User: "a", App: "myapp"}
	claims := `{"user":"a","app":"myapp","aud":"api","iss":"mooncore","exp":4102444800}`
	header := func(alg, kid string) string { return fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, kid) }
	oldToken, newToken, namedToken := noError(before.sign(id)), noError(between.sign(id)), noError(named.sign(id))
	for _, test := range []struct {
		name  string
		tok   *tokens
		token string
		ok    bool
	}{
		{"the old token before", before, oldToken, true},
		{"the old token while both keys are there", between, oldToken, true},
		{"the new token too", between, newToken, true},
		{"the new token on another server", elsewhere, newToken, true},
		{"the old token there", elsewhere, oldToken, true},
		{"the old token after", after, oldToken, false},
		{"the new token after", after, newToken, true},
		{"the new token before", before, newToken, false},
		{"a kid of the JWK set", named, namedToken, true},
		{"the same where the key has another kid", between, namedToken, false},
		{"the same where the key is alone", after, namedToken, true},
		{"a known kid", between, signRaw(newKey, header("ES256", kid(newKey)), claims), true},
		{"an unknown kid", between, signRaw(newKey, header("ES256", "x"), claims), false},
		{"an empty kid", between, signRaw(newKey, header("ES256", ""), claims), false},
		{"an unknown kid where the key is alone", after, signRaw(newKey, header("ES256", "x"), claims), true},
		{"the kid of another key", between, signRaw(newKey, header("ES256", kid(oldKey)), claims), false},
		{"the kid and alg of another key", between, signRaw(newKey, header("RS256", kid(oldKey)), claims), false},
		{"the kid of a key of another alg", between, signRaw(third, header("ES256", kid(third)), claims), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // the second from the cache
				_, err := test.tok.verify(test.token)
				if test.ok && err != nil {
					t.Error(err)
				} else if !test.ok {
					wantRefused(t, err, textInvalidToken)
				}
			}
		})
	}
	if !strings.Contains(headerOf(newToken), `"kid":"`+kid(newKey)+`"`) {
		t.Errorf("header %s lacks the kid", headerOf(newToken))
	}
	if got, want := headerOf(namedToken), `{"alg":"ES256","kid":"2030","typ":"JWT"}`; got != want {
		t.Errorf("header %s, want %s", got, want)
	}
}

func headerOf(token string) string {
	header, _, _ := strings.Cut(token, ".")
	return string(noError(tokenEncoding.DecodeString(header)))
}

func TestNewTokensFaults(t *testing.T) {
	secret := Secret(strings.Repeat("hunter2-", 4))
	private := Secret(privatePEM(testECDSA()))
	tooMany := make([]string, maxRoles+1)
	for i := range tooMany {
		tooMany[i] = fmt.Sprint(i)
	}
	for _, test := range []struct {
		name   string
		cfg    JWTConfig
		apps   []appRoles
		faults []string
	}{
		{"no key", JWTConfig{}, nil, []string{"JWT_PRIVATE_KEY not set: "}},
		{"everything", JWTConfig{
			PrivateKey: "hunter2", PublicKeys: "x", Lifetime: -1, MaxLifetime: time.Millisecond, Leeway: -1,
			Revoked: []Revocation{{User: "a"}, {}}, Issuer: "\xff",
		}, nil, []string{"JWT.Issuer: ", "JWT.PrivateKey: no PEM block", "JWT.PublicKeys: no PEM block", "JWT.Lifetime: ",
			"JWT.MaxLifetime: ", "JWT.Leeway: ", "JWT.Revoked[0]: has no IssuedUntil", "JWT.Revoked[1]: has neither"}},
		{"short secret", JWTConfig{Secret: "hunter2"}, nil, []string{"JWT.Secret: 7 bytes: at least 32"}},
		{"secret beside a private key", JWTConfig{Secret: secret, PrivateKey: private}, nil,
			[]string{"JWT.Secret: must not stand beside"}},
		{"secret beside public keys", JWTConfig{Secret: secret, PublicKeys: publicPEM(testRSA())}, nil,
			[]string{"JWT.Secret: must not stand beside"}},
		{"two keys with one kid", JWTConfig{PublicKeys: `{"keys":[` + jwkOf(testRSA(), map[string]any{"kid": "a"}) + "," +
			jwkOf(testECDSA(), map[string]any{"kid": "a"}) + `]}`}, nil, []string{`JWT.PublicKeys: two keys have the kid "a"`}},
		{"lifetime past the maximum", JWTConfig{PrivateKey: private, Lifetime: 2 * time.Hour, MaxLifetime: time.Hour}, nil,
			[]string{"JWT.Lifetime: 2h0m0s is longer than MaxLifetime 1h0m0s"}},
		{"too many roles", JWTConfig{PrivateKey: private}, []appRoles{{"a", nil}, {"b", tooMany}},
			[]string{"Routers[1].Roles: 1500 roles"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tok, err := newTokens(test.cfg, test.apps, false, false)
			if err == nil || tok != nil {
				t.Fatal("no error")
			}
			for _, fault := range test.faults {
				if !strings.Contains(err.Error(), fault) {
					t.Errorf("err = %v, want %q", err, fault)
				}
			}
			if got := strings.Count(err.Error(), "\n") + 1; got != len(test.faults) {
				t.Errorf("%d faults, want %d: %v", got, len(test.faults), err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func TestNewTokensWithoutKey(t *testing.T) {
	for _, test := range []struct {
		name                      string
		development, authenticate bool
		enabled                   bool
		text                      string
	}{
		{"development", true, false, true, "ES256, made at start"},
		{"the program authenticates", false, true, false, "off"},
		{"both", true, true, false, "off"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tok, err := newTokens(JWTConfig{}, conformanceApps(), test.development, test.authenticate)
			if err != nil {
				t.Fatal(err)
			}
			if tok.enabled() != test.enabled || tok.String() != test.text {
				t.Errorf("enabled %v, %q", tok.enabled(), tok)
			}
			token, err := tok.sign(Identity{User: "a", App: "myapp"})
			if (err == nil) != test.enabled {
				t.Fatalf("sign: %v", err)
			}
			if !test.enabled {
				token = signRaw(testECDSA(), `{"alg":"ES256"}`, `{}`)
			}
			_, err = tok.verify(token)
			if test.enabled && err != nil {
				t.Error(err)
			} else if !test.enabled {
				wantRefused(t, err, textInvalidToken)
			}
		})
	}
}

func TestLifetimeDefaults(t *testing.T) {
	private := Secret(privatePEM(testECDSA()))
	for _, test := range []struct {
		name string
		cfg  JWTConfig
		want time.Duration
	}{
		{"default", JWTConfig{}, 18 * time.Hour},
		{"given", JWTConfig{Lifetime: 90 * time.Second}, 90 * time.Second},
		{"maximum below the default", JWTConfig{MaxLifetime: time.Hour}, time.Hour},
		{"maximum above the default", JWTConfig{MaxLifetime: 24 * time.Hour}, 18 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.cfg.PrivateKey = private
				tok := testTokens(t, test.cfg)
				time.Sleep(700 * time.Millisecond) // so that now is no whole second
				id := noError(tok.verify(noError(tok.sign(Identity{User: "a", App: "myapp"}))))
				if got := id.Expires.Sub(time.Now().Truncate(time.Second)); got != test.want {
					t.Errorf("good for %v, want %v", got, test.want)
				}
			})
		})
	}
}
