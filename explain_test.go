package mooncore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What explain says of a token is what verify does with it.
func TestExplainAgreesWithVerify(t *testing.T) {
	key := testECDSA()
	tok := testTokens(t, JWTConfig{PublicKeys: publicPEM(key)})
	tokens := []string{
		"", ".", "..", "a.b.c", strings.Repeat("a", maxTokenSize+1), signRaw(key, `{"alg":"ES256"}`, "{"+goodClaims+"}"),
		signRaw(key, `{"alg":"ES256"}`, "\t{"+goodClaims+"}\n"), signRaw(testEd25519(), `{"alg":"ES256"}`, "{"+goodClaims+"}"),
	}
	for _, h := range hostileTokens(key) {
		tokens = append(tokens, h.token)
	}
	good := 0
	for _, token := range tokens {
		_, err := tok.verify(token)
		r := tok.explain(token)
		if r.Good != (err == nil) {
			t.Errorf("%.100q: explain %+v, verify %v", token, r, err)
		}
		if r.Good {
			good++
		}
		failed := slices.ContainsFunc(r.Checks, func(c TokenCheck) bool { return !c.OK })
		if failed == r.Good || slices.ContainsFunc(r.Checks, func(c TokenCheck) bool { return c.Detail == "" }) {
			t.Errorf("%.100q: %+v", token, r)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("%.100q: %v", token, err)
		}
	}
	if good != 2 {
		t.Errorf("%d good tokens", good)
	}
}

func TestExplain(t *testing.T) {
	key := testECDSA()
	tok := testTokens(t, JWTConfig{PublicKeys: publicPEM(key)}, appRoles{"", []string{"admin"}})
	kid := tok.keys[0].kid
	tok.revoke(Revocation{TokenID: "gone"})
	hour := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC).Unix() // an hour after a bubble's clock starts
	claims := func(more map[string]any) string {
		all := map[string]any{"user": "alice", "roles": []string{"admin", "other"}, "aud": "api", "iss": "mooncore", "exp": hour}
		maps.Copy(all, more)
		return string(noError(json.Marshal(all)))
	}
	sign := func(key crypto.Signer, header string, more map[string]any) string {
		return signRaw(key, header, claims(more))
	}
	const es256 = `{"alg":"ES256"}`
	good := sign(key, es256, nil)
	for _, tt := range []struct {
		name, token string
		want        map[string]string // what failed, and a part of the text
	}{
		{"good", good, nil},
		{"not three parts", "x", map[string]string{"form": "not three parts"}},
		{"too large", strings.Repeat("x", 9000), map[string]string{"form": "9000 bytes: at most 8192"}},
		{"no header", strings.Replace(good, ".", "x.", 1), map[string]string{"header": "header: "}},
		{"a member of the header", sign(key, `{"alg":"ES256","crit":["x"]}`, nil), map[string]string{"header": "unknown member"}},
		{"no such key", sign(key, `{"alg":"RS256","kid":"k7"}`, nil), map[string]string{"signature": `The token has alg RS256, kid "k7"; the server has alg ES256, kid "` + kid + `"`}},
		{"another's signature", sign(noError(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), es256, nil), map[string]string{"signature": "signature: wrong"}},
		{"two faults", sign(key, `{"alg":"none"}`, map[string]any{"iss": "elsewhere"}), map[string]string{"signature": "no such key", "claims": `claim iss: "elsewhere", not "mooncore"`}},
		{"another app", sign(key, es256, map[string]any{"app": "tasks"}), map[string]string{"claims": `claim app: "tasks" is not registered`}},
		{"no user", sign(key, es256, map[string]any{"user": ""}), map[string]string{"claims": "claim user: missing or empty"}},
		{"expired", sign(key, es256, map[string]any{"exp": hour - 7200}), map[string]string{"now": "claim exp: it was good until "}},
		{"not good yet", sign(key, es256, map[string]any{"nbf": hour - 1800}), map[string]string{"now": "claim nbf: not good yet: it will be at "}},
		{"revoked", sign(key, es256, map[string]any{"jti": "gone"}), map[string]string{"now": "revoked"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r TokenReport
			synctest.Test(t, func(*testing.T) { r = tok.explain(tt.token) })
			failed := map[string]string{}
			for _, c := range r.Checks {
				if !c.OK {
					failed[c.Name] = c.Detail
				}
			}
			if len(failed) != len(tt.want) {
				t.Errorf("failed %v, want %v", failed, tt.want)
			}
			for name, text := range tt.want {
				if !strings.Contains(failed[name], text) {
					t.Errorf("%s: %q, want %q", name, failed[name], text)
				}
			}
			if r.Good != (len(tt.want) == 0) {
				t.Errorf("good: %v", r.Good)
			}
			if r.Good && !slices.Equal(r.Roles, []string{"admin"}) {
				t.Errorf("roles %q", r.Roles)
			}
			if tt.want["form"] == "" && tt.want["header"] == "" && (len(r.Header) == 0 || !strings.Contains(string(r.Claims), `"aud":"api"`)) {
				t.Errorf("header %s, claims %s", r.Header, r.Claims)
			}
		})
	}
}

// The set that a server gives out is one that another takes, with the same kids.
func TestJWKS(t *testing.T) {
	public := publicPEM(testRSA()) + publicPEM(testECDSA()) + publicPEM(testEd25519())
	for _, tt := range []struct {
		name string
		cfg  JWTConfig
		keys int
	}{
		{"three kinds", JWTConfig{PublicKeys: public}, 3},
		{"the public half", JWTConfig{PrivateKey: Secret(privatePEM(testRSA())), PublicKeys: public}, 3},
		{"a symmetric key", JWTConfig{Secret: Secret(strings.Repeat("s", 32))}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := noError(New(Config{Routers: []Router{{}}, JWT: tt.cfg, Development: true, Logger: slog.New(slog.DiscardHandler)}))
			defer srv.Shutdown(t.Context())
			set := string(srv.JWKS())
			if tt.keys == 0 {
				if set != `{"keys":[]}` {
					t.Errorf("got %s", set)
				}
				return
			}
			keys := noError(parsePublicKeys(set))
			if len(keys) != tt.keys {
				t.Fatalf("%d keys of %s", len(keys), set)
			}
			for i, key := range keys {
				if own := srv.tokens.keys[i]; key.kid != own.kid || key.method != own.method || !key.equal(own) {
					t.Errorf("key %d: %s %s", i, key.kid, key.method.Alg())
				}
			}
			if strings.Contains(set, `"d"`) || strings.Contains(set, `"p"`) {
				t.Error("a private key is in the set")
			}
		})
	}
}
