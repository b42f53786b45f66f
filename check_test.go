package mooncore

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// checkMachine is one that the limits of goodConfig suit.
var checkMachine = machine{
	descriptors: 65536,
	memory:      memory{golang: 900 << 20, cgroup: 1 << 30, machine: 16 << 30},
	now:         time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
}

func rsaPEM(t testing.TB, bits int) Secret {
	t.Helper()
	if bits < 1024 {
		t.Fatal("crypto/rsa makes no such key")
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func ecPEM(t testing.TB) Secret {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(testECDSA())
	if err != nil {
		t.Fatal(err)
	}
	return Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func nothing(context.Context, struct{}) (any, error) { return nil, nil }

// goodConfig is one that Check has nothing against.
func goodConfig(t testing.TB) Config {
	return Config{
		Routers: []Router{{Actions: []Action{{Name: "a", Allow: Public, Handler: Func(nothing), ReadOnly: true}}}},
		Logger:  slog.New(slog.NewTextHandler(new(bytes.Buffer), nil)),
		JWT: JWTConfig{
			Issuer: "https://api.example.com", PrivateKey: ecPEM(t), MaxLifetime: 24 * time.Hour,
			OnRevoke: func(context.Context, Revocation) error { return nil },
		},
		SecretKeyBase:  "kFz0n9Qw3vXy7RtLpB2mHs8JcDgA5eU1",
		Origins:        []string{"https://app.example.com"},
		Hosts:          []string{"api.example.com"},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Inner:          "127.0.0.1:4001",
		Checks:         map[string]func(context.Context) error{"database": func(context.Context) error { return nil }},
		Limits:         Limits{AnonConns: 100, Conns: 3000},
	}
}

func TestCheckFindsNothingInAGoodConfig(t *testing.T) {
	if findings := goodConfig(t).checkOn(checkMachine); len(findings) != 0 || findings == nil {
		t.Errorf("found %+v", findings)
	}
}

func TestCheck(t *testing.T) {
	const canary = "hunter2hunter2hunter2hunter2hunter2"
	guide, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name     string
		change   func(c *Config, m *machine)
		id       string
		severity Severity
		what     string
	}{
		{"dev tools", func(c *Config, _ *machine) { c.DevTools = true }, "dev_tools", SeverityFatal, "DevTools: it is true"},
		{"development", func(c *Config, _ *machine) { c.Development = true }, "development", SeverityWarning, "Development: it is on"},
		{"the variable of dev tools", func(_ *Config, m *machine) { m.devTools = true }, "dev_tools_variable", SeverityWarning, "MOONCORE_DEV_TOOLS: it is true"},
		{"no garbage collection", func(_ *Config, m *machine) { m.gcOff, m.memory = true, memory{golang: math.MaxInt64} }, "gogc_off", SeverityWarning, "GOGC: it is off"},
		{"any port", func(c *Config, _ *machine) { c.Addr = "127.0.0.1:0" }, "random_port", SeverityWarning, "Addr: 127.0.0.1:0"},
		{"endless actions", func(c *Config, _ *machine) { c.Limits.Timeout = time.Hour }, "long_timeout", SeverityInfo, "Limits.Timeout: it is 1h0m0s"},
		{"key file that a group may replace", func(c *Config, _ *machine) {
			c.keyFiles = []keyFile{{"JWT_PRIVATE_KEY_FILE", "/run/key.pem", 0o660}}
		}, "key_file_writable", SeverityWarning, "JWT_PRIVATE_KEY_FILE: /run/key.pem has mode 0660, which lets its group write"},
		{"no key", func(c *Config, _ *machine) { c.JWT.PrivateKey = "" }, "no_key", SeverityFatal, "JWT_PRIVATE_KEY not set"},
		{"no key in development", func(c *Config, _ *machine) { c.JWT.PrivateKey, c.Development = "", true }, "no_key", SeverityFatal, "JWT_PRIVATE_KEY not set"},
		{"weak RSA key", func(c *Config, _ *machine) { c.JWT.PrivateKey = rsaPEM(t, 1024) }, "weak_key", SeverityFatal, "JWT.PrivateKey: RSA key of 1024 bits"},
		{"short secret", func(c *Config, _ *machine) { c.JWT.PrivateKey, c.JWT.Secret = "", "hunter2" }, "weak_key", SeverityFatal, "JWT.Secret: 7 bytes: at least 32"},
		{"repeated secret", func(c *Config, _ *machine) { c.JWT.PrivateKey, c.JWT.Secret = "", canary }, "weak_key", SeverityFatal, "JWT.Secret: it is long enough, but not random"},
		{"no PEM", func(c *Config, _ *machine) { c.JWT.PrivateKey = canary }, "invalid_config", SeverityFatal, "JWT.PrivateKey: no PEM block"},
		{"placeholder", func(c *Config, _ *machine) { c.SecretKeyBase = "please-ChangeMe-before-you-deploy-it-89" }, "weak_secret_key_base", SeverityFatal, "SecretKeyBase: it is long enough"},
		{"SecretKeyBase of one letter", func(c *Config, _ *machine) { c.SecretKeyBase = Secret(strings.Repeat("k", 64)) }, "weak_secret_key_base", SeverityFatal, "SecretKeyBase: "},
		{"short SecretKeyBase", func(c *Config, _ *machine) { c.SecretKeyBase = "hunter2" }, "invalid_config", SeverityFatal, "SecretKeyBase: it has 7 bytes"},
		{"one secret for both", func(c *Config, _ *machine) { c.JWT.PrivateKey, c.JWT.Secret = "", c.SecretKeyBase }, "shared_secret", SeverityWarning, "SecretKeyBase: it is JWT.Secret"},
		{"key file for everybody", func(c *Config, _ *machine) {
			c.keyFiles = []keyFile{{"JWT_PRIVATE_KEY_FILE", "/run/key.pem", 0o644}}
		}, "key_file_readable", SeverityWarning, "JWT_PRIVATE_KEY_FILE: /run/key.pem has mode 0644"},
		{"key file that everybody may replace", func(c *Config, _ *machine) {
			c.keyFiles = []keyFile{{"JWT_PUBLIC_KEY_FILE", "/run/key.pub", 0o666}}
		}, "key_file_writable", SeverityFatal, "JWT_PUBLIC_KEY_FILE: /run/key.pub has mode 0666"},
		{"any origin", func(c *Config, _ *machine) { c.Origins = []string{"*"} }, "any_origin", SeverityFatal, `Origins[0]: "*" would let every site`},
		{"wildcard origin", func(c *Config, _ *machine) { c.Origins = []string{"https://*.example.com"} }, "wildcard_origin", SeverityFatal, `Origins[0]: "https://*.example.com" has a wildcard`},
		{"origin without TLS", func(c *Config, _ *machine) { c.Origins = []string{"http://app.example.com"} }, "insecure_origin", SeverityWarning, "Origins[0]: http://app.example.com"},
		{"origin of a developer", func(c *Config, _ *machine) { c.Origins = []string{"https://a.example", "http://localhost:3000"} }, "local_origin", SeverityWarning, "Origins[1]: http://localhost:3000"},
		{"no origin", func(c *Config, _ *machine) { c.Origins = []string{"app.example.com"} }, "invalid_config", SeverityFatal, `Origins[0]: "app.example.com" is not an origin`},
		{"no hosts", func(c *Config, _ *machine) { c.Hosts = nil }, "any_host", SeverityInfo, "Hosts: "},
		{"no issuer", func(c *Config, _ *machine) { c.JWT.Issuer = "" }, "default_issuer", SeverityWarning, "JWT.Issuer: it is not set"},
		{"tokens for a year", func(c *Config, _ *machine) { c.JWT.Lifetime, c.JWT.MaxLifetime = 365*24*time.Hour, 365*24*time.Hour }, "long_tokens", SeverityWarning, "JWT.Lifetime: tokens are good for 8760h"},
		{"leeway", func(c *Config, _ *machine) { c.JWT.Leeway = time.Hour }, "wide_leeway", SeverityWarning, "JWT.Leeway: tokens are good for 1h0m0s"},
		{"revocations", func(c *Config, _ *machine) { c.JWT.OnRevoke = nil }, "revocations_in_memory", SeverityInfo, "JWT.OnRevoke: "},
		{"revocations for ever", func(c *Config, _ *machine) { c.JWT.MaxLifetime = 0 }, "endless_revocations", SeverityInfo, "JWT.MaxLifetime: "},
		{"plain HTTP", func(c *Config, _ *machine) { c.TrustedProxies = nil }, "plain_http", SeverityWarning, "Addr: :4000 serves plain HTTP"},
		{"trusts everybody", func(c *Config, _ *machine) {
			c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix("0.0.0.0/0"))
		}, "trusts_everybody", SeverityWarning, "TrustedProxies[1]: 0.0.0.0/0"},
		{"TLS 1.0", func(c *Config, _ *machine) {
			c.TLS = &tls.Config{MinVersion: tls.VersionTLS10, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}
		}, "old_tls", SeverityWarning, "TLS.MinVersion: "},
		{"certificate", func(c *Config, _ *machine) {
			c.TLS = &tls.Config{Certificates: []tls.Certificate{{Leaf: &x509.Certificate{NotAfter: time.Date(2030, 1, 9, 0, 0, 0, 0, time.UTC)}}}}
		}, "certificate_expires", SeverityWarning, "TLS.Certificates[0]: it is good until 2030-01-09T00:00:00Z"},
		{"inner listener", func(c *Config, _ *machine) { c.Inner = ":4001" }, "inner_exposed", SeverityWarning, "Inner: :4001"},
		{"no readiness check", func(c *Config, _ *machine) { c.Checks = nil }, "no_readiness_check", SeverityWarning, "Checks: there is none"},
		{"debug log", func(c *Config, _ *machine) {
			c.Logger = slog.New(slog.NewTextHandler(new(bytes.Buffer), &slog.HandlerOptions{Level: slog.LevelDebug}))
		}, "debug_logging", SeverityWarning, "Logger: it logs at level debug"},
		{"legacy status", func(c *Config, _ *machine) { c.LegacyStatus = true }, "legacy_status", SeverityWarning, "LegacyStatus: "},
		{"legacy auth", func(c *Config, _ *machine) { c.LegacyAuth = true }, "legacy_auth", SeverityWarning, "LegacyAuth: "},
		{"messages larger than memory", func(c *Config, _ *machine) { c.Limits.MaxBytes = 1 << 30 }, "memory_per_client", SeverityFatal,
			"Limits: one WebSocket can make the server hold 3 GiB: three messages of the largest MaxBytes, 1 GiB, and 527 KiB in queues. The process may have 900 MiB (GOMEMLIMIT)."},
		{"messages that fill memory", func(c *Config, _ *machine) { c.Limits.MaxBytes = 400 << 20 }, "memory_per_client", SeverityWarning, "which 1 client can fill"},
		{"an action's messages", func(c *Config, _ *machine) {
			c.Routers = []Router{{Actions: []Action{{Name: "a", Allow: Public, Handler: Func(nothing), ReadOnly: true, MaxBytes: 100 << 20}}}}
		}, "memory_per_client", SeverityWarning, "which 3 clients can fill"},
		{"messages without limit", func(c *Config, _ *machine) { c.Limits.MaxBytes = -1 }, "unlimited_messages", SeverityFatal, "Limits.MaxBytes: it is off"},
		{"messages without limit on an unknown machine", func(c *Config, m *machine) { c.Limits.MaxBytes, m.memory = -1, memory{} }, "unlimited_messages", SeverityFatal, "Limits.MaxBytes: it is off"},
		{"queues", func(c *Config, _ *machine) { c.Limits.SendBytes = 1 << 20 }, "memory_of_queues", SeverityWarning,
			"Limits.Conns, Limits.SendBytes: 3000 connections with 1 MiB waiting for each, and 15 KiB for itself, are 3 GiB."},
		{"GOMEMLIMIT unset", func(_ *Config, m *machine) { m.memory.golang = math.MaxInt64 }, "gomemlimit", SeverityWarning, "GOMEMLIMIT: it is not set, and the control group may use 1 GiB"},
		{"GOMEMLIMIT too high", func(_ *Config, m *machine) { m.memory.golang = 2 << 30 }, "gomemlimit", SeverityWarning, "GOMEMLIMIT: it is 2 GiB, more than the 1 GiB"},
		{"descriptors", func(c *Config, m *machine) { m.descriptors = 2048 }, "few_descriptors", SeverityWarning, "Limits.Conns: it is 3000, and the process may have 2048 descriptors"},
		{"hardly any descriptors", func(c *Config, m *machine) { c.Limits.Conns, m.descriptors = 200, 256 }, "few_descriptors", SeverityWarning, "Limits.Conns: it is 200, since"},
		{"limits off", func(c *Config, _ *machine) { c.Limits.Timeout, c.Limits.IdleTimeout = -1, -1 }, "limits_off", SeverityWarning, "Limits.Timeout, Limits.IdleTimeout: off"},
		{"unlimited actions", func(c *Config, _ *machine) {
			a := Action{Allow: Public, Handler: Func(nothing)}
			var actions []Action
			for _, name := range []string{"login", "b", "c", "d", "e", "f"} {
				a.Name = name
				actions = append(actions, a)
			}
			a.Name, a.Rate = "limited", PerAddress(1, time.Minute)
			c.Routers = []Router{{Actions: append(actions, a)}}
		}, "unlimited_actions", SeverityInfo, "Rate: 6 actions without one, which everybody may call and which may change something: login, b, c, d, e, …"},
		{"strangers", func(c *Config, _ *machine) { c.Limits.AnonConns = 0 }, "anonymous_connections", SeverityInfo, "Limits.AnonConns, Limits.AuthTimeout: "},
		{"no drain delay", func(c *Config, _ *machine) { c.DrainDelay = -1 }, "short_drain_delay", SeverityWarning, "DrainDelay: it is 0s"},
		{"slow shutdown", func(c *Config, _ *machine) { c.ShutdownTimeout = time.Minute }, "shutdown_timeout", SeverityWarning, "ShutdownTimeout: it is 1m0s"},
		{"hasty shutdown", func(c *Config, _ *machine) { c.ShutdownTimeout = 4 * time.Second }, "shutdown_timeout", SeverityWarning, "ShutdownTimeout: it is 4s"},
		{"faulty address", func(c *Config, _ *machine) { c.Addr = "localhost" }, "invalid_config", SeverityFatal, `Addr: "localhost" is not host:port`},
		{"faulty action", func(c *Config, _ *machine) { c.Routers[0].Actions[0].Allow = Access{} }, "invalid_config", SeverityFatal, "Routers[0].Actions[0] (a).Allow: is required"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, m := goodConfig(t), checkMachine
			test.change(&c, &m)
			if !bytes.Contains(guide, []byte("| `"+test.id+"` | "+string(test.severity))) {
				t.Errorf("docs/operations.md has no row for %s, %s", test.id, test.severity)
			}
			findings := c.checkOn(m)
			i := slices.IndexFunc(findings, func(f Finding) bool { return f.ID == test.id })
			if i < 0 {
				t.Fatalf("%s is not among %+v", test.id, findings)
			}
			f := findings[i]
			if f.Severity != test.severity || !strings.Contains(f.What, test.what) {
				t.Errorf("got %s %q, want %s %q", f.Severity, f.What, test.severity, test.what)
			}
			for _, f := range findings {
				if f.What == "" || f.Why == "" || f.Fix == "" {
					t.Errorf("a text is missing: %+v", f)
				}
				if text := f.What + f.Why + f.Fix; strings.Contains(text, "hunter2") {
					t.Errorf("it shows a secret: %s", text)
				}
				if f.ID != test.id && f.ID != "development" && (f.ID != "short_drain_delay" || test.id != "shutdown_timeout") {
					t.Errorf("also found %+v", f)
				}
			}
		})
	}
}

func TestCheckSortsTheWorstFirst(t *testing.T) {
	c := goodConfig(t)
	c.Hosts, c.Checks, c.DevTools, c.Development = nil, nil, true, true
	var got []Severity
	for _, f := range c.checkOn(checkMachine) {
		got = append(got, f.Severity)
	}
	if want := []Severity{SeverityFatal, SeverityWarning, SeverityWarning, SeverityInfo}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCheckCallsNoMiddleware(t *testing.T) {
	c := goodConfig(t)
	c.Routers[0].Middleware = []Middleware{func(next Next) Next {
		t.Error("it was called")
		return next
	}}
	c.Extensions = []Extension{func(*Server) error { t.Error("it was called"); return nil }}
	c.Check()
}

func TestReachable(t *testing.T) {
	for addr, want := range map[string]bool{
		":4000": true, "0.0.0.0:4000": true, "[::]:4000": true, "192.0.2.1:4000": true, "api.example.com:443": true,
		"127.0.0.1:4000": false, "127.9.9.9:1": false, "[::1]:4000": false, "[::ffff:127.0.0.1]:4000": false, "localhost:4000": false,
	} {
		if got := (&Config{Addr: addr}).reachable(); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}

func TestGuessable(t *testing.T) {
	for range 10000 {
		raw := make([]byte, 16)
		rand.Read(raw)
		for _, s := range []string{rand.Text() + rand.Text(), string(raw)} {
			if len(s) >= 16 && guessable(s) {
				t.Fatalf("%q is random", s)
			}
		}
	}
	for _, s := range []string{
		strings.Repeat("a", 32), "0123012301230123012301230123012301", strings.Repeat("x7Jw9qLp", 4), "my-very-long-secret-key-for-tokens!",
	} {
		if !guessable(s) {
			t.Errorf("%q is taken for random", s)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  int64
		from  string
	}{
		{"nothing known", nil, 0, ""},
		{"the machine's", map[string]string{"proc/meminfo": "MemFree: 1 kB\nMemTotal:       2048 kB\n"}, 2 << 20, "the machine's memory"},
		{"version 2", map[string]string{
			"proc/self/cgroup": "0::/app/main\n", "sys/fs/cgroup/app/main/memory.max": "max\n", "sys/fs/cgroup/app/memory.max": "1048576\n",
		}, 1 << 20, "the limit of its control group"},
		{"version 2, the outer one wider", map[string]string{
			"proc/self/cgroup": "0::/app/main\n", "sys/fs/cgroup/app/main/memory.max": "1048576\n", "sys/fs/cgroup/app/memory.max": "2097152\n",
		}, 1 << 20, "the limit of its control group"},
		{"version 2 in a container", map[string]string{
			"proc/self/cgroup": "0::/../../kubepods/x\n", "sys/fs/cgroup/memory.max": "4096\n",
		}, 4096, "the limit of its control group"},
		{"version 1", map[string]string{
			"proc/meminfo":     "MemTotal: 8192 kB\n",
			"proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/job\n0::/\n", "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "2097152\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 2 << 20, "the limit of its control group"},
		{"version 1 without limit", map[string]string{
			"proc/meminfo":     "MemTotal: 8192 kB\n",
			"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 8 << 20, "the machine's memory"},
		{"nonsense", map[string]string{"proc/self/cgroup": "x\n0::\n::\n", "proc/meminfo": "MemTotal: much kB\n"}, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range test.files {
				path := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			m := memoryLimit(root)
			m.golang = math.MaxInt64
			if got, from := m.least(); got != test.want || from != test.from {
				t.Errorf("got %d by %q, want %d by %q", got, from, test.want, test.from)
			}
		})
	}
}

func TestNewRefusesWhatIsFatalInProduction(t *testing.T) {
	c := goodConfig(t)
	c.DevTools, c.SecretKeyBase, c.Origins = true, Secret(strings.Repeat("k", 64)), []string{"*"}
	_, err := New(c)
	if err == nil {
		t.Fatal("New made a server")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[1], "Origins[0]: ") || !strings.HasPrefix(lines[2], "DevTools: ") ||
		!strings.Contains(lines[2], "MOONCORE_ENV=development") || !strings.HasPrefix(lines[3], "SecretKeyBase: ") {
		t.Errorf("got:\n%v", err)
	}
}

func TestNewLogsFindingsOnceInProduction(t *testing.T) {
	for _, development := range []bool{false, true} {
		var log bytes.Buffer
		c := goodConfig(t)
		c.Logger = slog.New(slog.NewJSONHandler(&log, nil))
		c.Checks, c.Hosts, c.JWT.OnRevoke, c.JWT.MaxLifetime, c.Development, c.TrustedProxies = nil, nil, nil, 0, development, nil
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		s.cfg.DrainDelay = 0
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if development {
			if log.Len() > 0 {
				t.Errorf("in development it logged %s", &log)
			}
			continue
		}
		type line struct{ Msg, Level, ID, IDs, What, Why, Fix string }
		var got []line
		for text := range strings.Lines(log.String()) {
			var l line
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatal(err)
			}
			if l.ID == "gomemlimit" {
				continue // that of the machine of the test
			}
			got = append(got, l)
		}
		if len(got) != 2 || got[0].ID != "no_readiness_check" || got[0].Level != "WARN" || got[0].Fix == "" || got[1].Level != "INFO" ||
			got[1].IDs != "revocations_in_memory,endless_revocations,any_host" {
			t.Errorf("logged %+v", got) // plain_http is for Run to say
		}
	}
}

// A publicListener is one that other machines could reach. Nobody does.
type publicListener struct{ closed chan struct{} }

func (l publicListener) Accept() (net.Conn, error) { <-l.closed; return nil, net.ErrClosed }
func (l publicListener) Close() error              { close(l.closed); return nil }
func (publicListener) Addr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

func TestRunLogsFindingsOfListening(t *testing.T) {
	for development, want := range map[bool]string{false: "plain_http,short_drain_delay", true: ""} {
		var log bytes.Buffer
		c := goodConfig(t)
		c.Logger = slog.New(slog.NewJSONHandler(&log, nil))
		c.TrustedProxies, c.DrainDelay, c.Inner, c.Development = nil, -1, "", development
		c.Listener = publicListener{make(chan struct{})}
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
		var ids []string
		for line := range strings.Lines(log.String()) {
			var record struct{ ID, What string }
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Fatal(err)
			}
			if record.ID != "" && record.ID != "gomemlimit" {
				ids = append(ids, record.ID)
			}
			if record.ID == "plain_http" && !strings.HasPrefix(record.What, "Addr: 192.0.2.1:80 ") {
				t.Errorf("said %q", record.What)
			}
		}
		if got := strings.Join(ids, ","); got != want {
			t.Errorf("logged %s, want %s", got, want)
		}
	}
}

func TestCheckEnvironment(t *testing.T) {
	c := goodConfig(t)
	run := func(format string, vars map[string]string) (string, error) {
		t.Helper()
		for _, name := range []string{"HOST", "PORT", "MOONCORE_ENV", "LOG_LEVEL", "CORS_ORIGINS", "JWT_PRIVATE_KEY", "JWT_PRIVATE_KEY_FILE", "SECRET_KEY_BASE"} {
			t.Setenv(name, vars[name])
		}
		var out bytes.Buffer
		err := checkEnvironment(c, format, &out)
		return out.String(), err
	}
	production := map[string]string{"MOONCORE_ENV": "production"}

	t.Run("a format that is none", func(t *testing.T) {
		if out, err := run("yes", production); out != "" || err == nil || !strings.Contains(err.Error(), `MOONCORE_CHECK: "yes"`) {
			t.Errorf("got %q, %v", out, err)
		}
	})
	t.Run("good", func(t *testing.T) {
		out, err := run("json", production)
		var findings []Finding
		if jsonErr := json.Unmarshal([]byte(out), &findings); err != nil || jsonErr != nil || findings == nil {
			t.Fatalf("got %q, %v", out, err)
		}
		for _, f := range findings {
			if f.ID != "gomemlimit" {
				t.Errorf("found %+v", f)
			}
		}
	})
	t.Run("bad variables beside bad fields", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(file, []byte(ecPEM(t)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		c := c
		c.Checks, c.DevTools = nil, true
		for name, value := range map[string]string{
			"HOST": "", "PORT": "http", "MOONCORE_ENV": "production", "LOG_LEVEL": "", "CORS_ORIGINS": "*", "SECRET_KEY_BASE": "hunter2",
			"JWT_PRIVATE_KEY": "", "JWT_PRIVATE_KEY_FILE": file,
		} {
			t.Setenv(name, value)
		}
		var out bytes.Buffer
		err := checkEnvironment(c, "text", &out)
		if err == nil || err.Error() != "mooncore: MOONCORE_CHECK: 4 fatal findings" {
			t.Errorf("got %v", err)
		}
		for _, want := range []string{
			"fatal: invalid_environment\n  PORT: \"http\"", "fatal: any_origin\n  CORS_ORIGINS: ", "fatal: invalid_environment\n  SECRET_KEY_BASE: it has 7 bytes",
			"fatal: dev_tools\n  DevTools: ", "warning: key_file_readable\n  JWT_PRIVATE_KEY_FILE: " + file + " has mode 0644", "warning: no_readiness_check",
			"\n  why: ", "\n  fix: ", "4 fatal findings, ",
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("nothing about %q in:\n%s", want, &out)
			}
		}
		if strings.Contains(out.String(), "hunter2") {
			t.Errorf("it shows a secret:\n%s", &out)
		}
	})
	t.Run("a key's file that is not there", func(t *testing.T) {
		c := c
		c.JWT.PrivateKey = ""
		t.Setenv("MOONCORE_ENV", "production")
		t.Setenv("JWT_PRIVATE_KEY_FILE", "/nowhere")
		var out bytes.Buffer
		err := checkEnvironment(c, "text", &out)
		if err == nil || !strings.Contains(out.String(), "JWT_PRIVATE_KEY_FILE: cannot open the file") || strings.Contains(out.String(), "no_key") {
			t.Errorf("got %v:\n%s", err, &out)
		}
	})
}

func TestServerCheck(t *testing.T) {
	c := goodConfig(t)
	c.Development, c.Handler = true, http.NotFoundHandler()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	ids := []string{}
	for _, f := range s.Check() {
		if f.ID != "gomemlimit" {
			ids = append(ids, f.ID)
		}
	}
	if !slices.Equal(ids, []string{"development"}) {
		t.Errorf("found %v", ids)
	}
}
