package mooncore

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestConfigDefaults(t *testing.T) {
	c := Config{}.withDefaults()
	conns := connLimit(descriptorLimit())
	wantLimits := Limits{
		Timeout: 30 * time.Second, MaxBytes: 1 << 20, SendBytes: 256 << 10, Channels: 128, Calls: 1,
		IdleTimeout: 60 * time.Second, FramesPerSecond: noLimit, Conns: conns, TenantConns: noLimit, AnonConns: noLimit,
		IdempotencyBytes: 64 << 20,
	}
	if c.Limits != wantLimits {
		t.Errorf("Limits = %+v, want %+v", c.Limits, wantLimits)
	}
	if c.Addr != ":4000" || len(c.Pools) != 1 || c.Pools[0] != "default" {
		t.Errorf("Addr %q, Pools %q", c.Addr, c.Pools)
	}
	if c.Logger == nil || c.Handler == nil {
		t.Error("no Logger or no Handler")
	}
	if err := c.validate(); err != nil {
		t.Errorf("the defaults are not valid: %v", err)
	}
	if again := c.withDefaults(); !reflect.DeepEqual(again.Limits, c.Limits) || again.DrainDelay != c.DrainDelay {
		t.Error("the defaults of the defaults differ")
	}
}

func TestConfigKeepsWhatIsSet(t *testing.T) {
	l := Limits{
		Timeout: 1, MaxBytes: 2, SendBytes: 3, Channels: 4, Calls: 5, AuthTimeout: 6, IdleTimeout: 7, FramesPerSecond: 8, Conns: 9,
		TenantConns: 10, AnonConns: 11, IdempotencyBytes: 12,
	}
	log := slog.New(slog.DiscardHandler)
	c := Config{Addr: ":1", Logger: log, Limits: l, Pools: []string{"a", "b"}, ShutdownTimeout: time.Minute}.withDefaults()
	if c.Addr != ":1" || c.Logger != log || c.Limits != l || len(c.Pools) != 2 || c.ShutdownTimeout != time.Minute {
		t.Errorf("changed to %+v", c)
	}
}

func TestNegativeLimits(t *testing.T) {
	l := Limits{
		Timeout: -1, MaxBytes: -1, SendBytes: -1, Channels: -1, Calls: -1, AuthTimeout: -1, IdleTimeout: -1, FramesPerSecond: -1,
		Conns: -1, TenantConns: -1, AnonConns: -1, IdempotencyBytes: -1,
	}.withDefaults()
	want := Limits{
		Timeout: -1, MaxBytes: noLimitBytes, SendBytes: noLimit, Channels: noLimit, Calls: noLimit, AuthTimeout: -1, IdleTimeout: -1,
		FramesPerSecond: noLimit, Conns: noLimit, TenantConns: noLimit, AnonConns: noLimit, IdempotencyBytes: noLimitBytes,
	}
	if l != want {
		t.Errorf("got %+v, want %+v", l, want)
	}
}

func TestDrainDelay(t *testing.T) {
	tests := []struct {
		name string
		c    Config
		want time.Duration
	}{
		{"production", Config{}, 5 * time.Second},
		{"development", Config{Development: true}, 0},
		{"set in development", Config{Development: true, DrainDelay: time.Second}, time.Second},
		{"negative", Config{DrainDelay: -1}, -1},
		{"short ShutdownTimeout", Config{ShutdownTimeout: 4 * time.Second}, 2 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.c.withDefaults()
			if c.DrainDelay != tt.want {
				t.Errorf("DrainDelay = %v, want %v", c.DrainDelay, tt.want)
			}
			if err := c.validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	check := func(context.Context) error { return nil }
	tests := []struct {
		name string
		c    Config
		want []string // starts of the lines
	}{
		{"nothing set", Config{}, nil},
		{"all good", Config{
			Addr: "localhost:http", Inner: "127.0.0.1:0", TLS: &tls.Config{Certificates: make([]tls.Certificate, 1)},
			Origins: listedOrigins, Hosts: []string{"api.example", "[::1]:4000"},
			TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")},
			SecretKeyBase:  Secret(strings.Repeat("k", 32)), Checks: map[string]func(context.Context) error{"db": check},
			Pools: []string{"default", "admin"}, Extensions: []Extension{func(*Server) error { return nil }},
		}, nil},
		{"Addr", Config{Addr: "localhost"}, []string{`Addr: "localhost" is not host:port`}},
		{"Addr's port", Config{Addr: ":65536"}, []string{`Addr: ":65536" has no valid port`}},
		{"Addr beside Listener", Config{Addr: "unused", Listener: &net.TCPListener{}}, nil},
		{"Inner", Config{Inner: "4001"}, []string{`Inner: "4001"`}},
		{"Inner is Addr", Config{Inner: "127.0.0.1:4000"}, []string{`Inner: "127.0.0.1:4000" is what Run listens on too`}},
		{"Inner beside Addr", Config{Addr: "127.0.0.1:4000", Inner: "127.0.0.2:4000"}, nil},
		{"Inner and Addr on free ports", Config{Addr: "127.0.0.1:0", Inner: "127.0.0.1:0"}, nil},
		{"TLS", Config{TLS: &tls.Config{}}, []string{"TLS: "}},
		{"Origins", Config{Origins: []string{"https://a.example", "*", "null"}}, []string{`Origins[1]: "*"`, `Origins[2]: "null"`}},
		{"Hosts", Config{Hosts: []string{"*.example", "http://a.example"}}, []string{`Hosts[0]: "*.example"`, `Hosts[1]: "http`}},
		{"TrustedProxies", Config{TrustedProxies: []netip.Prefix{{}, netip.MustParsePrefix("::ffff:10.0.0.0/104")}},
			[]string{"TrustedProxies[0]: ", "TrustedProxies[1]: "}},
		{"SecretKeyBase", Config{SecretKeyBase: "hunter2"}, []string{"SecretKeyBase: it has 7 bytes"}},
		{"Checks", Config{Checks: map[string]func(context.Context) error{"": check, "db": nil}}, []string{"Checks: ", `Checks["db"]: `}},
		{"Pools", Config{Pools: []string{"a", "", "a"}}, []string{"Pools[1]: ", `Pools[2]: "a"`}},
		{"nil entries", Config{Observers: []Observer{nil}, Extensions: []Extension{nil}}, []string{"Observers[0]: ", "Extensions[0]: "}},
		{"ShutdownTimeout", Config{ShutdownTimeout: -1}, []string{"ShutdownTimeout: "}},
		{"DrainDelay", Config{DrainDelay: 25 * time.Second}, []string{"DrainDelay: 25s"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, c := range []Config{tt.c, tt.c.withDefaults()} {
				var lines []string
				if err := c.validate(); err != nil {
					lines = strings.Split(err.Error(), "\n")
				}
				if len(lines) != len(tt.want) {
					t.Fatalf("got %q, want %q", lines, tt.want)
				}
				for i, want := range tt.want {
					if !strings.HasPrefix(lines[i], want) || strings.Contains(lines[i], "hunter2") {
						t.Errorf("line %d is %q, want %q…", i, lines[i], want)
					}
				}
			}
		})
	}
}
