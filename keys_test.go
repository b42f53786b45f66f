package mooncore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"
)

// Keys of tests, made when the first test wants them.
var (
	testRSA     = sync.OnceValue(func() *rsa.PrivateKey { return noError(rsa.GenerateKey(rand.Reader, 2048)) })
	testECDSA   = sync.OnceValue(func() *ecdsa.PrivateKey { return noError(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	testEd25519 = sync.OnceValue(func() ed25519.PrivateKey {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return noError(key, err)
	})
)

func noError[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func privatePEM(key crypto.Signer) string {
	return pemText("PRIVATE KEY", noError(x509.MarshalPKCS8PrivateKey(key)))
}

func publicPEM(key crypto.Signer) string {
	return pemText("PUBLIC KEY", noError(x509.MarshalPKIXPublicKey(key.Public())))
}

// jwkOf returns a public key as a JWK with more members, or others.
func jwkOf(key crypto.Signer, more map[string]any) string {
	members := map[string]any{}
	switch k := key.Public().(type) {
	case *rsa.PublicKey:
		members["kty"], members["n"], members["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		point := noError(k.Bytes())
		members["kty"], members["crv"], members["x"], members["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	case ed25519.PublicKey:
		members["kty"], members["crv"], members["x"] = "OKP", "Ed25519", b64(k)
	}
	maps.Copy(members, more)
	return string(noError(json.Marshal(members)))
}

func certificatePEM(key crypto.Signer) string {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}
	return pemText("CERTIFICATE", noError(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)))
}

func TestParsePrivateKey(t *testing.T) {
	pkcs1 := pemText("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(testRSA()))
	sec1 := pemText("EC PRIVATE KEY", noError(x509.MarshalECPrivateKey(testECDSA())))
	pkcs8 := privatePEM(testRSA())
	weak := noError(rsa.GenerateKey(rand.Reader, 1024))
	p384 := noError(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	for _, test := range []struct {
		name, text string
		alg, fault string
	}{
		{"RSA PKCS #8", pkcs8, "RS256", ""},
		{"RSA PKCS #1", pkcs1, "RS256", ""},
		{"EC SEC 1", sec1, "ES256", ""},
		{"EC with parameters ahead", pemText("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}) + sec1, "ES256", ""},
		{"EC PKCS #8", privatePEM(testECDSA()), "ES256", ""},
		{"Ed25519", privatePEM(testEd25519()), "EdDSA", ""},
		{"literal newlines", strings.ReplaceAll(pkcs8, "\n", `\n`), "RS256", ""},
		{"literal newlines in quotes", ` "` + strings.ReplaceAll(pkcs8, "\n", `\r\n`) + `" `, "RS256", ""},
		{"CRLF and space around", "\r\n\t " + strings.ReplaceAll(pkcs8, "\n", "\r\n") + " \r\n", "RS256", ""},
		{"single quotes", "'" + pkcs8 + "'", "RS256", ""},
		{"a comment ahead", "a key\n" + pkcs8, "RS256", ""},

		{"no PEM", "hunter2hunter2", "", "no PEM block"},
		{"base64 without lines", b64(noError(x509.MarshalPKCS8PrivateKey(testRSA()))), "", "no PEM block"},
		{"cut off", pkcs8[:len(pkcs8)/2], "", "0 of 1 PEM blocks"},
		{"two", pkcs8 + sec1, "", "2 PEM blocks"},
		{"second broken", pkcs8 + sec1[:80], "", "1 of 2 PEM blocks"},
		{"public", publicPEM(testRSA()), "", "belongs in PublicKeys"},
		{"encrypted", pemText("ENCRYPTED PRIVATE KEY", []byte("hunter2")), "", "encrypted"},
		{"encrypted the old way", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\naHVudGVyMg==\n" +
			"-----END RSA PRIVATE KEY-----", "", "encrypted"},
		{"other block", pemText("OPENSSH PRIVATE KEY", []byte("hunter2")), "", "none of"},
		{"no key in it", pemText("PRIVATE KEY", []byte("hunter2")), "", "cannot be read"},
		{"PKCS #1 labelled PKCS #8", pemText("PRIVATE KEY", x509.MarshalPKCS1PrivateKey(testRSA())), "", "cannot be read"},
		{"weak RSA", privatePEM(weak), "", "RSA key of 1024 bits: at least 2048"},
		{"P-384", privatePEM(p384), "", "not P-256"},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, err := parsePrivateKey(test.text)
			if test.fault == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got := key.method.Alg(); got != test.alg {
					t.Errorf("alg = %s, want %s", got, test.alg)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.fault) {
				t.Fatalf("err = %v, want %q", err, test.fault)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells the key: %v", err)
			}
		})
	}
}

func TestParsePublicKeys(t *testing.T) {
	rsaKey, ecKey, edKey := testRSA(), testECDSA(), testEd25519()
	weak := noError(rsa.GenerateKey(rand.Reader, 1024))
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	type members = map[string]any
	for _, test := range []struct {
		name, text string
		algs       string
		fault      string
	}{
		{"one PEM", publicPEM(rsaKey), "RS256", ""},
		{"three PEMs", publicPEM(rsaKey) + "\n" + publicPEM(ecKey) + publicPEM(edKey), "RS256 ES256 EdDSA", ""},
		{"PKCS #1", pemText("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)), "RS256", ""},
		{"certificate", certificatePEM(ecKey), "ES256", ""},
		{"literal newlines", strings.ReplaceAll(publicPEM(rsaKey)+publicPEM(ecKey), "\n", `\n`), "RS256 ES256", ""},
		{"one JWK", jwkOf(rsaKey, members{"alg": "RS256", "use": "sig"}), "RS256", ""},
		{"JWK set", set(jwkOf(rsaKey, nil), jwkOf(ecKey, members{"key_ops": []string{"verify"}}), jwkOf(edKey, nil)),
			"RS256 ES256 EdDSA", ""},
		{"JWK set in quotes", "'" + set(jwkOf(rsaKey, nil)) + "'", "RS256", ""},
		{"keys of other uses are passed over", set(jwkOf(rsaKey, members{"use": "enc"}), jwkOf(rsaKey, members{"alg": "RSA-OAEP"}),
			jwkOf(ecKey, members{"crv": "P-384"}), jwkOf(ecKey, members{"key_ops": []string{"sign"}}), `{"kty":"X"}`, jwkOf(edKey, nil)),
			"EdDSA", ""},

		{"second PEM broken", publicPEM(rsaKey) + publicPEM(ecKey)[:70], "", "1 of 2 PEM blocks"},
		{"first PEM broken", strings.Replace(publicPEM(rsaKey), "MII", "!!!", 1) + publicPEM(ecKey), "", "1 of 2 PEM blocks"},
		{"private PEM", publicPEM(rsaKey) + privatePEM(ecKey), "", "PEM block 2: holds a private key"},
		{"weak PEM", publicPEM(weak), "", "PEM block 1: RSA key of 1024 bits"},
		{"no key in PEM", pemText("PUBLIC KEY", []byte("x")), "", "PEM block 1: PUBLIC KEY cannot be read"},
		{"other PEM", pemText("X", nil), "", "PEM block 1: none of"},
		{"neither", "secret", "", "no PEM block"},
		{"private JWK", jwkOf(rsaKey, members{"d": "AQAB"}), "", "JWK 1: holds a private key"},
		{"symmetric JWK", set(jwkOf(rsaKey, nil), `{"kty":"oct","k":"c2VjcmV0"}`), "", "JWK 2: symmetric key"},
		{"weak JWK", jwkOf(weak, nil), "", "JWK 1: RSA key of 1024 bits"},
		{"JWK of exponent 1", jwkOf(rsaKey, members{"e": "AQ"}), "", "RSA key is not valid"},
		{"JWK of a large exponent", jwkOf(rsaKey, members{"e": "AQAAAAE"}), "", "e is too large"},
		{"JWK padded", jwkOf(ecKey, members{"x": strings.Repeat("A", 43) + "="}), "", "x is missing or not base64url"},
		{"JWK off the curve", jwkOf(ecKey, members{"x": b64(make([]byte, 32))}), "", "no point of P-256"},
		{"JWK of 31 bytes", jwkOf(ecKey, members{"y": b64(make([]byte, 31))}), "", "must be 32 bytes"},
		{"Ed25519 of 31 bytes", jwkOf(edKey, members{"x": b64(make([]byte, 31))}), "", "Ed25519 key is not valid"},
		{"JWK without n", `{"kty":"RSA","e":"AQAB"}`, "", "n is missing"},
		{"JWK without kty", set(`{"n":"AQAB"}`), "", "JWK 1: has no kty"},
		{"JWK of wrong types", set(`{"kty":1}`), "", "JWK 1: not an object"},
		{"no object", set(`1`), "", "JWK 1: not an object"},
		{"keys no array", `{"keys":{}}`, "", `"keys" must be an array`},
		{"duplicate keys", `{"keys":[],"keys":[]}`, "", "duplicate"},
		{"no key of ours", set(jwkOf(rsaKey, members{"use": "enc"})), "", "no key for"},
		{"empty set", set(), "", "no key for"},
		{"half a JSON", `{"keys":[`, "", "malformed JSON"},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys, err := parsePublicKeys(test.text)
			if test.fault != "" {
				if err == nil || !strings.Contains(err.Error(), test.fault) {
					t.Fatalf("err = %v, want %q", err, test.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var algs []string
			for _, key := range keys {
				algs = append(algs, key.method.Alg())
			}
			if got := strings.Join(algs, " "); got != test.algs {
				t.Errorf("algs = %s, want %s", got, test.algs)
			}
		})
	}
}

func TestKeyIDs(t *testing.T) {
	for _, test := range []struct{ name, jwk, want string }{
		// The examples of RFC 7638 section 3.1 and RFC 8037 appendix A.3.
		{"RSA", `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXj` +
			`BZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ` +
			`vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",` +
			`"e":"AQAB","alg":"RS256"}`, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
		{"Ed25519", `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`,
			"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
		{"own", jwkOf(testECDSA(), map[string]any{"kid": "2030-01"}), "2030-01"},
		{"own, empty", jwkOf(testECDSA(), map[string]any{"kid": ""}), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys, err := parsePublicKeys(test.jwk)
			if err != nil {
				t.Fatal(err)
			}
			if got := keys[0].kid; got != test.want {
				t.Errorf("kid = %q, want %q", got, test.want)
			}
		})
	}
	fromPEM := noError(parsePublicKeys(publicPEM(testECDSA())))[0]
	fromJWK := noError(parsePublicKeys(jwkOf(testECDSA(), nil)))[0]
	if fromPEM.kid != fromJWK.kid || !fromPEM.equal(fromJWK) {
		t.Error("a PEM block and a JWK of one key differ")
	}
}

func FuzzParsePublicKeys(f *testing.F) {
	f.Add(publicPEM(testECDSA()))
	f.Add(publicPEM(testRSA()) + publicPEM(testEd25519()))
	f.Add(`{"keys":[` + jwkOf(testECDSA(), nil) + "," + jwkOf(testRSA(), map[string]any{"kid": "a"}) + "]}")
	f.Add(jwkOf(testEd25519(), map[string]any{"use": "sig", "key_ops": []string{"verify"}}))
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := parsePublicKeys(text)
		if err == nil && len(keys) == 0 {
			t.Error("neither key nor error")
		}
		parsePrivateKey(text)
	})
}
