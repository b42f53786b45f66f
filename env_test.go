package mooncore_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mooncore/mooncore"
)

// setenv sets the variables of vars and unsets all others that ConfigFromEnv reads.
func setenv(t *testing.T, vars map[string]string) {
	t.Helper()
	for _, name := range []string{
		"HOST", "PORT", "MOONCORE_ENV", "LOG_LEVEL", "CORS_ORIGINS", "JWT_ISSUER",
		"JWT_PRIVATE_KEY", "JWT_PUBLIC_KEY", "SECRET_KEY_BASE",
		"JWT_PRIVATE_KEY_FILE", "JWT_PUBLIC_KEY_FILE", "SECRET_KEY_BASE_FILE",
	} {
		t.Setenv(name, vars[name])
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var testBase = strings.Repeat("k", 32)

func TestConfigFromEnv(t *testing.T) {
	base := mooncore.Config{
		Logger: slog.New(slog.DiscardHandler),
		Addr:   "127.0.0.1:4100", Origins: []string{"https://base.example"}, SecretKeyBase: "base " + mooncore.Secret(testBase),
		JWT: mooncore.JWTConfig{Issuer: "base", PrivateKey: "base private", PublicKeys: "base public"},
	}
	addr := func(c mooncore.Config) string { return c.Addr }
	secretBase := func(c mooncore.Config) string { return string(c.SecretKeyBase) }
	privateKey := func(c mooncore.Config) string { return string(c.JWT.PrivateKey) }
	publicKeys := func(c mooncore.Config) string { return c.JWT.PublicKeys }
	tests := []struct {
		name string
		vars map[string]string
		got  func(c mooncore.Config) string
		want string
	}{
		{"address left", nil, addr, "127.0.0.1:4100"},
		{"PORT alone", map[string]string{"PORT": "80"}, addr, "127.0.0.1:80"},
		{"HOST alone", map[string]string{"HOST": "0.0.0.0"}, addr, "0.0.0.0:4100"},
		{"HOST and PORT", map[string]string{"HOST": "db.internal", "PORT": "0"}, addr, "db.internal:0"},
		{"HOST IPv6", map[string]string{"HOST": "::1"}, addr, "[::1]:4100"},
		{"HOST IPv6 in brackets", map[string]string{"HOST": "[::]", "PORT": "65535"}, addr, "[::]:65535"},
		{"JWT_ISSUER left", nil, func(c mooncore.Config) string { return c.JWT.Issuer }, "base"},
		{"JWT_ISSUER", map[string]string{"JWT_ISSUER": "acme"}, func(c mooncore.Config) string { return c.JWT.Issuer }, "acme"},
		{"JWT_PRIVATE_KEY left", nil, privateKey, "base private"},
		{"JWT_PRIVATE_KEY", map[string]string{"JWT_PRIVATE_KEY": "pem"}, privateKey, "pem"},
		{"JWT_PRIVATE_KEY_FILE", map[string]string{"JWT_PRIVATE_KEY_FILE": writeFile(t, "pem in file\n")}, privateKey, "pem in file"},
		{"JWT_PUBLIC_KEY left", nil, publicKeys, "base public"},
		{"JWT_PUBLIC_KEY", map[string]string{"JWT_PUBLIC_KEY": `{"keys":[]}`}, publicKeys, `{"keys":[]}`},
		{"JWT_PUBLIC_KEY_FILE", map[string]string{"JWT_PUBLIC_KEY_FILE": writeFile(t, "a\nb\r\n")}, publicKeys, "a\nb"},
		{"SECRET_KEY_BASE left", nil, secretBase, "base " + testBase},
		{"SECRET_KEY_BASE", map[string]string{"SECRET_KEY_BASE": testBase}, secretBase, testBase},
		{"SECRET_KEY_BASE_FILE", map[string]string{"SECRET_KEY_BASE_FILE": writeFile(t, testBase+"\n")}, secretBase, testBase},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			setenv(t, tt.vars)
			c, err := mooncore.ConfigFromEnv(base)
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.got(c); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestConfigFromEnvAddrDefaults(t *testing.T) {
	tests := []struct{ name, base, host, port, want string }{
		{"nothing set", "", "", "", ""},
		{"PORT", "", "", "8080", ":8080"},
		{"HOST", "", "localhost", "", "localhost:4000"},
		{"both replace a bad Addr", "nonsense", "localhost", "1", "localhost:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			setenv(t, map[string]string{"HOST": tt.host, "PORT": tt.port})
			c, err := mooncore.ConfigFromEnv(mooncore.Config{Addr: tt.base, Logger: slog.New(slog.DiscardHandler)})
			if err != nil || c.Addr != tt.want {
				t.Errorf("Addr = %q, %v, want %q", c.Addr, err, tt.want)
			}
		})
	}
}

func TestConfigFromEnvOrigins(t *testing.T) {
	setenv(t, map[string]string{"CORS_ORIGINS": " https://a.example, ,http://b.example:8080 ,"})
	c, err := mooncore.ConfigFromEnv(mooncore.Config{
		Origins: []string{"https://base.example"}, Logger: slog.New(slog.DiscardHandler),
	})
	want := []string{"https://a.example", "http://b.example:8080"}
	if err != nil || !slices.Equal(c.Origins, want) {
		t.Errorf("Origins = %q, %v, want %q", c.Origins, err, want)
	}
}

func TestConfigFromEnvDevelopment(t *testing.T) {
	tests := []struct {
		env  string
		base bool
		want bool
	}{
		{"", false, true},
		{"", true, true},
		{"development", false, true},
		{"production", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.env, func(t *testing.T) {
			setenv(t, map[string]string{"MOONCORE_ENV": tt.env})
			c, err := mooncore.ConfigFromEnv(mooncore.Config{Development: tt.base, Logger: slog.New(slog.DiscardHandler)})
			if err != nil || c.Development != tt.want {
				t.Errorf("Development = %v, %v, want %v", c.Development, err, tt.want)
			}
		})
	}
}

func TestConfigFromEnvLogLevel(t *testing.T) {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "WARN": slog.LevelWarn, "error": slog.LevelError,
	}
	for text, level := range levels {
		t.Run(text, func(t *testing.T) {
			setenv(t, map[string]string{"LOG_LEVEL": text, "MOONCORE_ENV": "production"})
			c, err := mooncore.ConfigFromEnv(mooncore.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if !c.Logger.Enabled(t.Context(), level) || c.Logger.Enabled(t.Context(), level-1) {
				t.Errorf("the logger's level is not %v", level)
			}
		})
	}
	t.Run("the program's own logger stays", func(t *testing.T) {
		setenv(t, map[string]string{"LOG_LEVEL": "error", "MOONCORE_ENV": "production"})
		own := slog.New(slog.DiscardHandler)
		if c, err := mooncore.ConfigFromEnv(mooncore.Config{Logger: own}); err != nil || c.Logger != own {
			t.Errorf("Logger was replaced, or %v", err)
		}
	})
}

func TestConfigFromEnvMakesSecretInDevelopmentOnly(t *testing.T) {
	make1 := func(env string) (mooncore.Secret, string) {
		setenv(t, map[string]string{"MOONCORE_ENV": env})
		var log bytes.Buffer
		c, err := mooncore.ConfigFromEnv(mooncore.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		if err != nil {
			t.Fatal(err)
		}
		return c.SecretKeyBase, log.String()
	}
	first, log := make1("development")
	second, _ := make1("")
	if len(first) < 32 || len(second) < 32 || first == second {
		t.Errorf("secrets of %d and %d bytes, equal: %v", len(first), len(second), first == second)
	}
	if !strings.Contains(log, "SECRET_KEY_BASE") || strings.Contains(log, string(first)) {
		t.Errorf("logged %q", log)
	}
	if secret, log := make1("production"); secret != "" || log != "" {
		t.Errorf("in production: %d bytes, logged %q", len(secret), log)
	}
}

func TestConfigFromEnvFaults(t *testing.T) {
	// Each of these values holds the canary where it may be a secret.
	const canary = "hunter2"
	tests := []struct {
		name string
		vars map[string]string
		want []string // starts of the lines
	}{
		{"PORT is a word", map[string]string{"PORT": "http"}, []string{`PORT: "http"`}},
		{"PORT is signed", map[string]string{"PORT": "+80"}, []string{`PORT: "+80"`}},
		{"PORT is too big", map[string]string{"PORT": "65536"}, []string{`PORT: "65536"`}},
		{"HOST has a port", map[string]string{"HOST": "localhost:80"}, []string{`HOST: "localhost:80"`}},
		{"HOST is a URL", map[string]string{"HOST": "http://localhost"}, []string{`HOST: "http://localhost"`}},
		{"HOST is half bracketed", map[string]string{"HOST": "[::1"}, []string{`HOST: "[::1"`}},
		{"MOONCORE_ENV is mistyped", map[string]string{"MOONCORE_ENV": "Production"}, []string{`MOONCORE_ENV: "Production"`}},
		{"LOG_LEVEL", map[string]string{"LOG_LEVEL": "loud"}, []string{`LOG_LEVEL: "loud"`}},
		{"CORS_ORIGINS star", map[string]string{"CORS_ORIGINS": "*"}, []string{`CORS_ORIGINS: "*"`}},
		{"CORS_ORIGINS empty list", map[string]string{"CORS_ORIGINS": " , "}, []string{`CORS_ORIGINS: it names no origin`}},
		{"CORS_ORIGINS twice wrong", map[string]string{"CORS_ORIGINS": "null,https://a.example,https://b.example/"},
			[]string{`CORS_ORIGINS: "null"`, `CORS_ORIGINS: "https://b.example/"`}},
		{"SECRET_KEY_BASE is short", map[string]string{"SECRET_KEY_BASE": canary}, []string{`SECRET_KEY_BASE: it has 7 bytes`}},
		{"SECRET_KEY_BASE_FILE is short", map[string]string{"SECRET_KEY_BASE_FILE": writeFile(t, canary)},
			[]string{`SECRET_KEY_BASE: it has 7 bytes`}},
		{"both ways", map[string]string{"SECRET_KEY_BASE": testBase + canary, "SECRET_KEY_BASE_FILE": writeFile(t, canary)},
			[]string{`SECRET_KEY_BASE: SECRET_KEY_BASE_FILE is set too`}},
		{"the key where the file's name belongs", map[string]string{"JWT_PRIVATE_KEY_FILE": canary},
			[]string{`JWT_PRIVATE_KEY_FILE: cannot open the file: `}},
		{"a directory", map[string]string{"JWT_PRIVATE_KEY_FILE": t.TempDir()}, []string{`JWT_PRIVATE_KEY_FILE: cannot read the file: `}},
		{"an empty file", map[string]string{"JWT_PUBLIC_KEY_FILE": writeFile(t, "\n")}, []string{`JWT_PUBLIC_KEY_FILE: the file is empty`}},
		{"a huge file", map[string]string{"JWT_PUBLIC_KEY_FILE": writeFile(t, strings.Repeat("x", 1<<20+1))},
			[]string{`JWT_PUBLIC_KEY_FILE: the file has more than`}},
		{"all together", map[string]string{
			"HOST": "a b", "PORT": "x", "MOONCORE_ENV": "test", "LOG_LEVEL": "x", "CORS_ORIGINS": "x", "SECRET_KEY_BASE": canary,
			"JWT_PRIVATE_KEY": canary, "JWT_PRIVATE_KEY_FILE": canary, "JWT_PUBLIC_KEY_FILE": canary,
		}, []string{
			"HOST: ", "PORT: ", "MOONCORE_ENV: ", "LOG_LEVEL: ", "CORS_ORIGINS: ", "JWT_PRIVATE_KEY: ", "JWT_PUBLIC_KEY_FILE: ",
			"SECRET_KEY_BASE: ",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			setenv(t, tt.vars)
			c, err := mooncore.ConfigFromEnv(mooncore.Config{JWT: mooncore.JWTConfig{Issuer: "base"}})
			if err == nil {
				t.Fatal("no error")
			}
			if c.JWT.Issuer != "base" {
				t.Error("the Config that comes with an error is not base")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("got %d lines, want %d:\n%v", len(lines), len(tt.want), err)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("line %d is %q, want %q…", i, lines[i], want)
				}
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
	t.Run("half of a bad Addr is needed", func(t *testing.T) {
		setenv(t, map[string]string{"PORT": "80"})
		_, err := mooncore.ConfigFromEnv(mooncore.Config{Addr: "nonsense"})
		if err == nil || !strings.HasPrefix(err.Error(), `Addr: "nonsense"`) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDeriveKey(t *testing.T) {
	c := mooncore.Config{SecretKeyBase: mooncore.Secret(testBase)}
	derive := func(c mooncore.Config, purpose string, length int) []byte {
		t.Helper()
		key, err := c.DeriveKey(purpose, length)
		if err != nil || len(key) != length {
			t.Fatalf("DeriveKey(%q, %d) = %d bytes, %v", purpose, length, len(key), err)
		}
		return key
	}
	key := derive(c, "session cookies", 32)

	// RFC 5869 written out: extract with a salt of zeros, then the first block of expand.
	mac := func(key []byte, parts ...string) []byte {
		h := hmac.New(sha256.New, key)
		for _, p := range parts {
			h.Write([]byte(p))
		}
		return h.Sum(nil)
	}
	if want := mac(mac(make([]byte, sha256.Size), testBase), "session cookies", "\x01"); !bytes.Equal(key, want) {
		t.Errorf("key = %x, want %x", key, want)
	}
	if !bytes.Equal(key, derive(c, "session cookies", 32)) {
		t.Error("the same purpose gave two keys")
	}
	if bytes.Equal(key, derive(c, "session cookie", 32)) {
		t.Error("two purposes gave the same key")
	}
	if bytes.Equal(key, derive(mooncore.Config{SecretKeyBase: mooncore.Secret(testBase) + "2"}, "session cookies", 32)) {
		t.Error("two secrets gave the same key")
	}
	derive(c, "x", 1)
	derive(c, "x", 8160)

	faults := []struct {
		name    string
		base    mooncore.Secret
		purpose string
		length  int
		want    string
	}{
		{"no secret", "", "x", 32, "SecretKeyBase is empty"},
		{"short secret", "hunter2", "x", 32, "less than 32 bytes"},
		{"no purpose", mooncore.Secret(testBase), "", 32, "purpose is empty"},
		{"length 0", mooncore.Secret(testBase), "x", 0, "length 0"},
		{"negative length", mooncore.Secret(testBase), "x", -1, "length -1"},
		{"too long", mooncore.Secret(testBase), "x", 8161, "length 8161"},
	}
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			key, err := mooncore.Config{SecretKeyBase: tt.base}.DeriveKey(tt.purpose, tt.length)
			if key != nil || err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, %v, want an error with %q", key, err, tt.want)
			}
		})
	}
}
