package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestTokens(t *testing.T) {
	w := newWorld(t)
	w.must("", "keys", "generate", "--alg", "ES256", "--out", "private.pem")
	w.must("", "keys", "generate", "--alg", "EdDSA", "--out", "other.pem")
	w.write("public.pem", w.must("", "keys", "public", "private.pem"))
	w.write("secret", strings.Repeat("s", 40)+"\n")
	made := w.must("", "token", "make", "--key", "private.pem", "--user", "alice", "--tenant", "acme", "--app", "tasks",
		"--app-roles", "admin, user", "--role", "user", "--claim", "plan=pro", "--claim", "seats:=5", "--lifetime", "10m")
	if strings.Count(made, ".") != 2 || strings.Count(made, "\n") != 1 {
		t.Fatalf("made %q", made)
	}
	w.write("token", made)
	foreign := w.must("", "token", "make", "--key", "other.pem", "--user", "alice")
	symmetric := w.must("", "token", "make", "--secret-file", "secret", "--user", "alice")
	w.steps([]step{
		{name: "from a file", args: []string{"token", "verify", "--key", "public.pem", "--app-roles", "admin,user", "token"}, out: `^✓ the token is good\n.*✓ signature .*\nroles: user\n.*plan +"pro"\n.*seats +5\n.*tenant +"acme"\n.*user +"alice"`},
		{name: "from standard input", args: []string{"token", "verify", "--key", "public.pem"}, stdin: made, out: `✓ the token is good`},
		{name: "as a header", args: []string{"token", "verify", "--key", "public.pem", "-"}, stdin: "Authorization: Bearer " + made, out: `✓ the token is good`},
		{name: "with the private key", args: []string{"token", "verify", "--key", "private.pem", "token"}, out: `good`},
		{name: "with keys of the environment", args: []string{"token", "verify", "token"}, env: []string{"JWT_PUBLIC_KEY_FILE=" + filepath.Join(w.dir, "public.pem")}, out: `good`},
		{name: "as JSON", args: []string{"token", "verify", "--key", "public.pem", "--json", "token"}, out: `^\{"good":true,"header":\{.*"checks":\[\{"name":"form","ok":true.*\}\n$`},
		{name: "another key", args: []string{"token", "verify", "--key", "public.pem"}, stdin: foreign, code: 1, out: `^✗ the token is no good\n.*✗ signature +header alg or kid: no such key\. The token has alg EdDSA without kid; the server has alg ES256`},
		{name: "another issuer", args: []string{"token", "verify", "--key", "public.pem", "--issuer", "elsewhere", "token"}, code: 1, out: `✗ claims +claim iss: "mooncore", not "elsewhere"`},
		{name: "the issuer of the environment", args: []string{"token", "verify", "--key", "public.pem", "token"}, env: []string{"JWT_ISSUER=elsewhere"}, code: 1, out: `not "elsewhere"`},
		{name: "another app", args: []string{"token", "verify", "--key", "public.pem", "--app", "chat", "token"}, code: 1, out: `✗ claims +claim app: "tasks" is not registered`},
		{name: "symmetric", args: []string{"token", "verify", "--secret-file", "secret"}, stdin: symmetric, out: `good`},
		{name: "garbage", args: []string{"token", "verify", "--key", "public.pem"}, stdin: "garb\x1b[31mage", code: 1, out: `✗ form +not three parts in base64url`},
		{name: "nothing", args: []string{"token", "verify", "--key", "public.pem"}, code: 2, err: `there is no token in the input`},
		{name: "tampered, as JSON", args: []string{"token", "verify", "--key", "public.pem", "--json"}, stdin: strings.Replace(made, ".", ".e30", 1), code: 1, out: `^\{"good":false,`},
		{name: "an unknown role", args: []string{"token", "make", "--key", "private.pem", "--user", "a", "--app-roles", "admin", "--role", "boss"}, code: 2, err: `Identity\.Roles: the app .* has no role "boss"`},
		{name: "made as JSON", args: []string{"token", "make", "--key", "private.pem", "--user", "a", "--json"}, out: `^\{"token":"[^"]+","claims":\{.*"user":"a"\}\}\n$`},
		{name: "made with keys of the environment", args: []string{"token", "make", "--user", "a"}, env: []string{"JWT_PRIVATE_KEY_FILE=" + filepath.Join(w.dir, "private.pem")}, out: `^[\w-]+\.[\w-]+\.[\w-]+\n$`},
		{name: "two private keys", args: []string{"token", "make", "--key", "private.pem", "--key", "other.pem", "--user", "a"}, code: 2, err: `other\.pem is a second private key`},
	})
	if out, _, _ := w.run("garb\x1b[31mage", "token", "verify", "--key", "public.pem"); strings.Contains(out, "\x1b") {
		t.Error("what is in a token controls the terminal")
	}
}

func TestKeysGenerate(t *testing.T) {
	for _, alg := range []string{"RS256", "es256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			w := newWorld(t)
			out, errOut, code := w.run("", "keys", "generate", "--alg", alg, "--out", "private.pem")
			if code != 0 || !strings.Contains(errOut, "private.pem holds a new key for ") || strings.Contains(out+errOut, "PRIVATE") {
				t.Fatalf("%d\n%s%s", code, out, errOut)
			}
			if block, _ := pem.Decode([]byte(out)); block == nil || block.Type != "PUBLIC KEY" {
				t.Errorf("no public key: %s", out)
			} else if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
				t.Error(err)
			}
			if info, err := os.Stat(filepath.Join(w.dir, "private.pem")); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			before := w.read("private.pem")
			if _, errOut, code := w.run("", "keys", "generate", "--alg", alg, "--out", "private.pem"); code != 1 || !strings.Contains(errOut, "exists already") || w.read("private.pem") != before {
				t.Errorf("a second time: %d, %s", code, errOut)
			}
			if public := w.must("", "keys", "public", "private.pem"); public != out {
				t.Errorf("keys public says\n%swhich is not\n%s", public, out)
			}
			var report struct{ File, Alg, Kid, Public string }
			if err := json.Unmarshal([]byte(w.must("", "keys", "generate", "--alg", alg, "--out", "second.pem", "--json")), &report); err != nil || report.File != "second.pem" || !strings.EqualFold(report.Alg, alg) || len(report.Kid) != 43 || !strings.HasPrefix(report.Public, "-----BEGIN PUBLIC KEY") {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}

func TestKeysJWKS(t *testing.T) {
	w := newWorld(t)
	w.must("", "keys", "generate", "--alg", "ES256", "--out", "a.pem")
	w.write("b.pem", w.must("", "keys", "generate", "--alg", "EdDSA", "--out", "b-private.pem"))
	set := w.must("", "keys", "jwks", "a.pem", "b.pem")
	var keys keySet
	if err := json.Unmarshal([]byte(set), &keys); err != nil || len(keys.Keys) != 2 || keys.Keys[0].Alg != "ES256" || keys.Keys[1].Alg != "EdDSA" || strings.Contains(set, `"d"`) {
		t.Fatalf("%s, %v", set, err)
	}
	w.write("jwks.json", set)
	token := w.must("", "token", "make", "--key", "a.pem", "--user", "alice")
	w.steps([]step{
		{name: "a set verifies", args: []string{"token", "verify", "--key", "jwks.json"}, stdin: token, out: `good`},
		{name: "from standard input", args: []string{"keys", "jwks", "-"}, stdin: w.read("a.pem"), out: `^\{"keys":\[\{"alg":"ES256"`},
		{name: "an encrypted key", args: []string{"keys", "public", "-"}, stdin: "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", code: 2, err: `the key is encrypted`},
		{name: "a broken key", args: []string{"keys", "public", "-"}, stdin: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", code: 2, err: `PEM block of type PRIVATE KEY cannot be read`},
	})
}

// After each step of a rotation, servers of before and after it take the tokens that are there.
func TestKeysRotate(t *testing.T) {
	w := newWorld(t)
	w.must("", "keys", "generate", "--alg", "ES256", "--out", "1.pem")
	old := w.must("", "token", "make", "--key", "1.pem", "--user", "alice")
	out := w.must("", "keys", "rotate", "--key", "1.pem", "--out", "2.pem", "--public", "public.pem")
	if !strings.Contains(out, "restart them one by one") || strings.Count(w.read("public.pem"), "BEGIN PUBLIC KEY") != 2 || strings.Contains(w.read("public.pem"), "PRIVATE") {
		t.Fatalf("%s\n%s", out, w.read("public.pem"))
	}
	if info, err := os.Stat(filepath.Join(w.dir, "2.pem")); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	w.write("token-1", old)
	w.write("token-1b", w.must("", "token", "make", "--key", "1.pem", "--key", "public.pem", "--user", "alice")) // of a server after step 1
	w.write("token-2", w.must("", "token", "make", "--key", "2.pem", "--key", "public.pem", "--user", "alice"))  // and after step 2
	var steps []step
	for _, token := range []string{"token-1", "token-1b", "token-2"} {
		for _, key := range []string{"1.pem", "2.pem"} {
			steps = append(steps, step{name: token + " by a server with " + key, args: []string{"token", "verify", "--key", key, "--key", "public.pem", token}, out: `good`})
		}
	}
	w.write("jwks.json", w.must("", "keys", "jwks", "public.pem"))
	before := w.read("1.pem") + w.read("2.pem") + w.read("public.pem")
	w.steps(append(steps,
		step{name: "out is there", args: []string{"keys", "rotate", "--key", "1.pem", "--out", "2.pem", "--public", "public.pem"}, code: 1, err: `--out: 2\.pem exists already`},
		step{name: "public is private", args: []string{"keys", "rotate", "--key", "1.pem", "--out", "3.pem", "--public", "1.pem"}, code: 2, err: `--public: 1\.pem holds a private key`},
		step{name: "public is a set", args: []string{"keys", "rotate", "--key", "1.pem", "--out", "3.pem", "--public", "jwks.json"}, code: 2, err: `is a JWK set`},
		step{name: "public cannot be written", args: []string{"keys", "rotate", "--key", "1.pem", "--out", "3.pem", "--public", "missing/public.pem"}, code: 3, err: `--public: `},
	))
	if _, err := os.Stat(filepath.Join(w.dir, "3.pem")); !os.IsNotExist(err) {
		t.Error("a rotation that failed leaves a key")
	}
	if w.read("1.pem")+w.read("2.pem")+w.read("public.pem") != before {
		t.Error("a rotation that failed changed a file")
	}
	w.must("", "keys", "rotate", "--key", "2.pem", "--out", "3.pem", "--public", "public.pem", "--alg", "EdDSA")
	if n := strings.Count(w.read("public.pem"), "BEGIN PUBLIC KEY"); n != 3 {
		t.Errorf("%d public keys after the second rotation", n)
	}
}

func TestWarningOfMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode there")
	}
	w := newWorld(t)
	w.must("", "keys", "generate", "--alg", "ES256", "--out", "private.pem")
	if err := os.Chmod(filepath.Join(w.dir, "private.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.steps([]step{{name: "0644", args: []string{"token", "make", "--key", "private.pem", "--user", "a"}, out: `.`, err: `^warning: private\.pem can be read by others: chmod 600 private\.pem\n$`}})
}
