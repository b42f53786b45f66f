package mooncore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

const goodClaims = `"user":"alice","app":"myapp","tenant":"t1","scope":"default","roles":"2","aud":"api","iss":"mooncore",` +
	`"iat":1700000000,"nbf":1700000000,"exp":4102444800,"jti":"id"`

// signRaw signs a header and claims as they are.
func signRaw(key crypto.Signer, header, claims string) string {
	return signText(key, b64([]byte(header))+"."+b64([]byte(claims)))
}

func signText(key crypto.Signer, text string) string {
	k := noError(newSignKey(key))
	return text + "." + b64(noError(k.method.Sign(text, k.private)))
}

// A hostileToken must be refused, although the key's owner signed it, where the attack is not about that.
type hostileToken struct{ name, token string }

func hostileTokens(key *ecdsa.PrivateKey) []hostileToken {
	var all []hostileToken
	add := func(name, token string) { all = append(all, hostileToken{name, token}) }
	claims := "{" + goodClaims + "}"
	header := func(h string) { add("header "+h, signRaw(key, h, claims)) }
	claim := func(c string) { add("claims "+c, signRaw(key, `{"alg":"ES256","typ":"JWT"}`, c)) }

	// The header.
	for _, name := range []string{
		"jku", "x5u", "jwk", "x5c", "crit", "cty", "zip", "b64", "enc", "epk", "apu", "p2c", "url", "nonce", "iss", "foo", "",
	} {
		for _, value := range []string{`"JWT"`, `["exp"]`, `{"kty":"EC"}`, `null`, `false`} {
			header(fmt.Sprintf(`{"alg":"ES256",%q:%s}`, name, value))
		}
	}
	for _, alg := range []string{`"none"`, `"None"`, `"NONE"`, `""`, `"HS256"`, `"RS256"`, `"ES384"`, `"ES512"`, `"ES256K"`, `"EdDSA"`,
		`"PS256"`, `"es256"`, `"ES256 "`, `null`, `5`, `[]`, `["ES256"]`, `{}`, `true`} {
		header(`{"alg":` + alg + `,"typ":"JWT"}`)
	}
	for _, typ := range []string{
		`"jwt"`, `"at+jwt"`, `"JWS"`, `"application/jwt"`, `""`, `"JWT "`, `"JWT\u0000"`, `null`, `1`, `["JWT"]`, `{}`,
	} {
		header(`{"alg":"ES256","typ":` + typ + `}`)
	}
	for _, name := range []string{"kid", "x5t", "x5t#S256"} {
		for _, value := range []string{`null`, `1`, `[]`, `["a"]`, `{}`, `true`} {
			header(fmt.Sprintf(`{"alg":"ES256",%q:%s}`, name, value))
		}
	}
	for _, h := range []string{
		``, ` `, `{}`, `[]`, `null`, `"ES256"`, `1`, `{`, `{"alg":"ES256"`, `{"alg":"ES256"}}`, `{"alg":"ES256"}{}`, `{"alg":"ES256",}`,
		`{'alg':'ES256'}`, `{"alg":"ES256"} x`, "\ufeff" + `{"alg":"ES256"}`, "{\"alg\":\"ES256\",\"kid\":\"\xff\"}",
		`{"alg":"ES256","kid":"\ud800"}`,
		`[{"alg":"ES256"}]`, `{"alg":"ES256","alg":"ES256"}`, `{"alg":"none","alg":"ES256"}`, `{"alg":"ES256","alg":"none"}`,
		`{"alg":"ES256","\u0061lg":"ES256"}`, `{"alg":"ES256","typ":"JWT","typ":"JWT"}`, `{"alg":"ES256","kid":"a","kid":"b"}`,
		`{"Alg":"ES256"}`, `{"alg":"ES256","ALG":"ES256"}`, `{"alg":"ES256","Typ":"JWT"}`, `{"alg":"ES256","KID":"a"}`,
		`{"alg":"ES256","` + "\u212a" + `id":"a"}`, `{"alg":"ES256","X5T":"a"}`, `{"alg":"ES256","x5t#s256":"a"}`,
		"{\"alg\":\"ES256\"}\x00",
		`{"alg":"ES256","kid":"` + "\n" + `"}`,
	} {
		header(h)
	}

	// The claims.
	for _, name := range claimNames {
		for _, variant := range []string{
			strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], strings.ReplaceAll(name, "s", "ſ"),
		} {
			if variant != name {
				claim("{" + goodClaims + `,"` + variant + `":"api"}`)
			}
		}
		claim("{" + goodClaims + `,"` + name + `":"api"}`)
		claim(fmt.Sprintf(`{%s,"\u%04x%s":"api"}`, goodClaims, name[0], name[1:]))
		for _, value := range []string{`null`, `1.5`, `true`, `{}`, `[]`, `[[]]`, `[1]`, `{"a":"api"}`} {
			if name != "roles" || value != "[]" {
				claim(replaceClaim(name, value))
			}
		}
		if name != "exp" && name != "iat" && name != "nbf" {
			claim(replaceClaim(name, "1700000000"))
		}
	}
	for _, name := range []string{"exp", "iat", "nbf"} {
		for _, value := range []string{`"4102444800"`, `""`, `4102444800.0`, `4.1e9`, `41E8`, `9e18`,
			`9223372036854775807`, `9223372036854775808`, `18446744073709551617`, `1e400`, `-1`, `-0.0`, `253402300800`,
			`+4102444800`, `04102444800`, `0x7fffffff`, `NaN`, `[4102444800]`} {
			claim(replaceClaim(name, value))
		}
	}
	claim(replaceClaim("nbf", "4102444799"))
	for _, name := range []string{"user", "tenant", "scope"} {
		for _, value := range []string{`a\u0000`, `a\nb`, `a\r`, `\t`, `\u007f`, `\u0085`, `\u061c`, `\u200e`, `\u200f`,
			`\u202a`, `\u202e`, `\u2066`, `\u2069`, `\ud800`, `\udc00x`, "\xff", "\xc0\x80", "\u202e"} {
			claim(replaceClaim(name, `"`+value+`"`))
		}
	}
	for name, values := range map[string][]string{
		"user":   {`""`},
		"tenant": {`"_anon"`, `"\u005fanon"`},
		"app":    {`""`, `"Myapp"`, `"myapp "`, `"none"`, `"myapp\u0000"`},
		"aud":    {`""`, `"API"`, `"api "`, `"web"`, `["web"]`, `["API"]`, `["api",1]`, `["api",null]`, `[["api"]]`, `"api,web"`},
		"iss":    {`""`, `"Mooncore"`, `"mooncore/"`, `"x"`, `["mooncore"]`},
		"roles": {`"0"`, `"O"`, `"I"`, `"l"`, `"2 "`, `"2\n"`, `"-2"`, `"é"`, `"` + strings.Repeat("2", 257) + `"`,
			`["user",null]`, `["user",["admin"]]`, `{"admin":true}`, `2`, `[{}]`},
	} {
		for _, value := range values {
			claim(replaceClaim(name, value))
		}
	}
	for _, name := range []string{"user", "app", "aud", "iss", "exp"} {
		claim(replaceClaim(name, ""))
	}
	for _, c := range []string{
		``, `{}`, `[]`, `null`, `1`, `"x"`, claims[:len(claims)-1], claims + "}", claims + claims, claims + "\x00",
		"\ufeff" + claims, "[" + claims + "]", "{" + goodClaims + ",}", "{" + goodClaims + ",/**/}",
		"{" + goodClaims + `,"x":{"a":1,"a":2}}`, "{" + goodClaims + `,"x":1,"x":1}`,
		"{" + goodClaims + `,"x":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + "}", "{" + goodClaims + `,"x":tru}`,
		"{" + goodClaims + ",\"x\":\"\xff\"}", "{" + goodClaims + `,"\ud800":1}`,
	} {
		claim(c)
	}

	// The encoding. Line breaks and padding are signed too, where they stand in what is signed.
	h, p := b64([]byte(`{"alg":"ES256","typ":"JWT"}`)), b64([]byte(claims))
	good := signText(key, h+"."+p)
	sig := good[len(h)+len(p)+2:]
	for _, junk := range []string{"=", "==", "\n", "\r\n", " ", "\t", "\x00", "+", "/", "%3D", "é", ".", "~"} {
		add(fmt.Sprintf("%q after the header", junk), signText(key, h+junk+"."+p))
		add(fmt.Sprintf("%q in the header", junk), signText(key, h[:4]+junk+h[4:]+"."+p))
		add(fmt.Sprintf("%q after the claims", junk), signText(key, h+"."+p+junk))
		add(fmt.Sprintf("%q in the claims", junk), signText(key, h+"."+p[:4]+junk+p[4:]))
		add(fmt.Sprintf("%q after the signature", junk), good+junk)
		add(fmt.Sprintf("%q in the signature", junk), good[:len(good)-4]+junk+good[len(good)-4:])
		add(fmt.Sprintf("%q ahead", junk), junk+good)
	}
	std := base64.RawStdEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"???>>>"}`))
	add("standard alphabet", signText(key, std+"."+p))
	h1 := b64([]byte(`{"alg":"ES256"}`)) // one byte more makes two digits with four unused bits
	for len(h1)%4 != 2 {
		h1 = b64(append(noError(tokenEncoding.DecodeString(h1)), ' '))
	}
	add("unused bits in the header", signText(key, nextDigit(h1)+"."+p))
	p1 := b64([]byte(claims))
	for len(p1)%4 != 2 {
		p1 = b64(append(noError(tokenEncoding.DecodeString(p1)), ' '))
	}
	add("unused bits in the claims", signText(key, h+"."+nextDigit(p1)))
	add("unused bits in the signature", h+"."+p+"."+nextDigit(sig))
	raw := noError(tokenEncoding.DecodeString(sig))
	flipped := func(i int) string {
		b := append([]byte(nil), raw...)
		b[i] ^= 1
		return b64(b)
	}
	for name, s := range map[string]string{
		"empty": "", "of zeros": b64(make([]byte, 64)), "of ones": b64([]byte(strings.Repeat("\xff", 64))), "cut": b64(raw[:63]),
		"one byte longer": b64(append(raw[:64:64], 0)), "zero ahead": b64(append([]byte{0}, raw...)), "twice": sig + sig,
		"DER": b64(noError(key.Sign(rand.Reader, make([]byte, 32), crypto.SHA256))), "r flipped": flipped(0), "s flipped": flipped(63),
		"halves swapped": b64(append(raw[32:64:64], raw[:32]...)), "one digit": "A",
	} {
		add("signature "+name, h+"."+p+"."+s)
	}
	for name, token := range map[string]string{
		"empty": "", "dot": ".", "dots": "..", "not ASCII": "é.é.é", "two parts": h + "." + p, "four parts": good + "." + sig,
		"five parts": h + "." + sig + "." + sig + "." + p + "." + sig, "no header": "." + p + "." + sig, "no claims": h + ".." + sig,
		"bearer": "Bearer " + good, "JSON": `{"payload":"` + p + `"}`, "header twice": h + "." + h + "." + sig,
		"other claims":       h + "." + b64([]byte("{"+goodClaims+`,"x":1}`)) + "." + sig,
		"too large":          signRaw(key, `{"alg":"ES256"}`, "{"+goodClaims+`,"x":"`+strings.Repeat("x", 8<<10)+`"}`),
		"2 MiB":              strings.Repeat("A", 2<<20) + good,
		"another key":        signText(noError(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), h+"."+p),
		"RS256 by other key": signText(testRSA(), b64([]byte(`{"alg":"RS256"}`))+"."+p),
		"EdDSA by other key": signText(testEd25519(), b64([]byte(`{"alg":"EdDSA"}`))+"."+p),
		"none":               b64([]byte(`{"alg":"none"}`)) + "." + p + ".",
		"HS256, public key":  hmacToken(`{"alg":"HS256"}`, p, publicPEM(key)),
		"ES256 header, HMAC": hmacToken(`{"alg":"ES256"}`, p, publicPEM(key)),
	} {
		add(name, token)
	}
	return all
}

// replaceClaim returns the good claims with another value of one, or without it if value is empty.
func replaceClaim(name, value string) string {
	var b strings.Builder
	for c := range strings.SplitSeq(goodClaims, ",") {
		if strings.HasPrefix(c, `"`+name+`":`) {
			if value == "" {
				continue
			}
			c = `"` + name + `":` + value
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(c)
	}
	return "{" + b.String() + "}"
}

// nextDigit changes only bits past the end of the last byte.
func nextDigit(s string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return s[:len(s)-1] + string(digits[strings.IndexByte(digits, s[len(s)-1])+1])
}

func hmacToken(header, payload, secret string) string {
	text := b64([]byte(header)) + "." + payload
	return text + "." + b64(noError(jwt.SigningMethodHS256.Sign(text, []byte(secret))))
}

func TestVerifyRefusesHostileTokens(t *testing.T) {
	key := testECDSA()
	tok := testTokens(t, JWTConfig{PublicKeys: publicPEM(key)})
	if _, err := tok.verify(signRaw(key, `{"alg":"ES256","typ":"JWT"}`, "{"+goodClaims+"}")); err != nil {
		t.Fatalf("the token that the others are made from: %v", err)
	}
	hostile := hostileTokens(key)
	if len(hostile) < 250 {
		t.Errorf("only %d tokens", len(hostile))
	}
	for _, h := range hostile {
		for range 2 { // a refused token must not be remembered as good
			_, err := tok.verify(h.token)
			if err == nil {
				t.Errorf("accepted: %.200q", h.name)
				continue
			}
			wantRefused(t, err, textInvalidToken)
			if len(h.token) > 8 && strings.Contains(err.Error(), h.token) {
				t.Errorf("the error tells the token: %.200q", h.name)
			}
		}
	}
}

// These look odd, and are good.
func TestVerifyAcceptsUnusualTokens(t *testing.T) {
	key := testECDSA()
	tok := testTokens(t, JWTConfig{PublicKeys: publicPEM(key)})
	for _, test := range []struct{ name, header, claims string }{
		{"no typ", `{"alg":"ES256"}`, "{" + goodClaims + "}"},
		{"all members", `{"x5t#S256":"a","x5t":"b","kid":"c","typ":"JWT","alg":"ES256"}`, "{" + goodClaims + "}"},
		{"escapes and space", " {\n\"\\u0061lg\" : \"ES\\u00325" + "6\" } ", "\t{" + goodClaims + "}\n"},
		{"claims of others", `{"alg":"ES256"}`, "{" + goodClaims + `,"sub":1,"azp":null,"x":{"user":[1.5e3]},"":0}`},
		{"audiences", `{"alg":"ES256"}`, replaceClaim("aud", `["web","api","api"]`)},
		{"no roles in an array", `{"alg":"ES256"}`, replaceClaim("roles", `[]`)},
		{"bits past the roles", `{"alg":"ES256"}`, replaceClaim("roles", `"`+strings.Repeat("z", 256)+`"`)},
		{"empty tenant, scope and jti", `{"alg":"ES256"}`,
			`{"user":"é😀","app":"myapp","tenant":"","scope":"","aud":"api","iss":"mooncore","exp":4102444800,"jti":""}`},
		{"unusual names", `{"alg":"ES256"}`, replaceClaim("user", `"a.b:c@d/e *>\u200d\u00a0"`)},
		{"largest", `{"alg":"ES256"}`, "{" + goodClaims + `,"x":"` + strings.Repeat("x", 5800) + `"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := tok.verify(signRaw(key, test.header, test.claims)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRefusingCostsLittle(t *testing.T) {
	key := testECDSA()
	tok := testTokens(t, JWTConfig{PublicKeys: publicPEM(key)})
	tooLarge := strings.Repeat("A", 2<<20)
	if allocs := testing.AllocsPerRun(100, func() { tok.verify(tooLarge) }); allocs != 0 {
		t.Errorf("a token over 8 KiB allocates %v times", allocs)
	}
	fill := func(format, part string) string {
		return fmt.Sprintf(format, strings.Repeat(part, 5500/len(part)))
	}
	var members strings.Builder
	for i := range 700 {
		fmt.Fprintf(&members, `,"%d":1`, i)
	}
	const maxBytes = 64 << 10
	for _, test := range []struct{ name, token string }{
		{"nested header", signRaw(key, fill(`{"alg":%s`, "["), "{}")},
		{"objects in the header", signRaw(key, fill(`{"alg":[%s{}]}`, "{},"), "{}")},
		{"long kid", signRaw(key, fill(`{"alg":"ES256","kid":"%s"}`, "a")+" ", "{}")},
		{"escapes in the kid", signRaw(key, fill(`{"alg":"ES256","kid":"%s"}`, `\u0001`), "{}")},
		{"members in the header", signRaw(key, `{"alg":"ES256"`+members.String()+"}", "{}")},
		{"members in the claims", signRaw(key, `{"alg":"ES256"}`, `{"exp":1`+members.String()+"}")},
		{"objects in the claims", signRaw(key, `{"alg":"ES256"}`, fill(`{"x":[%s{}]}`, "{},"))},
		{"roles in the claims", signRaw(key, `{"alg":"ES256"}`, `{`+goodClaims+fill(`,"roles":[%s1]}`, `"",`))},
		{"long signature", b64([]byte(`{"alg":"ES256"}`)) + ".e30." + strings.Repeat("A", 8000)},
		{"dots", strings.Repeat(".", maxTokenSize)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if len(test.token) > maxTokenSize {
				t.Fatalf("%d bytes", len(test.token))
			}
			const runs = 50
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range runs {
				if _, err := tok.verify(test.token); err == nil {
					t.Fatal("accepted")
				}
			}
			runtime.ReadMemStats(&after)
			if got := (after.TotalAlloc - before.TotalAlloc) / runs; got > maxBytes {
				t.Errorf("%d bytes allocated, want at most %d", got, maxBytes)
			}
		})
	}
}

// FuzzVerify looks for panics, and for tokens that are good here and not for a library that other programs use.
func FuzzVerify(f *testing.F) {
	key := testECDSA()
	tok := testTokens(f, JWTConfig{PublicKeys: publicPEM(key)})
	f.Add(`{"alg":"ES256","typ":"JWT"}`, "{"+goodClaims+"}", "")
	f.Add(`{"alg":"ES256","kid":"a"}`, replaceClaim("roles", `["user"]`), "")
	f.Add(`{"alg":"none"}`, "{"+goodClaims+"}", "x")
	f.Add(`{"alg":"ES256","alg":"ES256"}`, replaceClaim("exp", "9e18"), "=")
	f.Add(`{"alg":"ES256"}`, "{"+goodClaims+`,"Exp":1}`, "")
	f.Fuzz(func(t *testing.T, header, claims, junk string) {
		tok.verify(header + "." + claims + "." + junk)
		token := signRaw(key, header, claims) + junk
		id, err := tok.verify(token)
		if err != nil {
			return
		}
		if junk != "" || id.User == "" || id.App == "" || id.Tenant == anonTenant || id.Roles == nil || id.Expires.IsZero() {
			t.Fatalf("accepted %+v", id)
		}
		if _, err := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithStrictDecoding(), jwt.WithIssuer("mooncore"),
			jwt.WithAudience("api"), jwt.WithExpirationRequired(), jwt.WithJSONNumber()).
			Parse(token, func(*jwt.Token) (any, error) { return key.Public(), nil }); err != nil {
			t.Fatalf("good here, and elsewhere: %v", err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, bench := range []struct {
		name string
		key  crypto.Signer
	}{{"RS256", testRSA()}, {"ES256", testECDSA()}, {"EdDSA", testEd25519()}} {
		tok := testTokens(b, JWTConfig{PrivateKey: Secret(privatePEM(bench.key))})
		token := noError(tok.sign(Identity{User: "alice", App: "myapp", Tenant: "t1", Roles: []string{"user"}}))
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tok.read(token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bench.name+" cached", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tok.verify(token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
