package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// settings are what the environment says beyond the variables that Mooncore itself reads.
type settings struct {
	databaseURL    string         // DATABASE_URL, or the content of the file DATABASE_URL_FILE
	databaseConns  int            // DATABASE_CONNS
	redisURL       string         // REDIS_URL, or the content of the file REDIS_URL_FILE
	trustedProxies []netip.Prefix // TRUSTED_PROXIES
	hosts          []string       // HOSTS
	innerAddr      string         // INNER_ADDR
	demoLogin      bool           // DEMO_LOGIN
}

// readSettings reads the environment. Its error names every variable that is wrong, and no value that may be secret.
func readSettings() (settings, error) {
	s := settings{databaseConns: 10, innerAddr: os.Getenv("INNER_ADDR")}
	var err error
	var errs []error
	if s.databaseURL, err = secret("DATABASE_URL"); err != nil {
		errs = append(errs, err)
	}
	if s.redisURL, err = secret("REDIS_URL"); err != nil {
		errs = append(errs, err)
	}
	if v := os.Getenv("DATABASE_CONNS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			errs = append(errs, fmt.Errorf("DATABASE_CONNS: %q is no number above 0", v))
		}
		s.databaseConns = n
	}
	for _, v := range list("TRUSTED_PROXIES") {
		prefix, err := netip.ParsePrefix(v)
		if addr, addrErr := netip.ParseAddr(v); addrErr == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("TRUSTED_PROXIES: %q is neither an address nor a prefix such as 10.0.0.0/8", v))
		}
		s.trustedProxies = append(s.trustedProxies, prefix)
	}
	s.hosts = list("HOSTS")
	switch v := os.Getenv("DEMO_LOGIN"); v {
	case "", "false":
	case "true":
		s.demoLogin = true
		if os.Getenv("MOONCORE_ENV") == "production" {
			errs = append(errs, errors.New("DEMO_LOGIN: it lets everybody in, so it is not for production"))
		}
	default:
		errs = append(errs, fmt.Errorf(`DEMO_LOGIN: %q is neither "true" nor "false"`, v))
	}
	return s, errors.Join(errs...)
}

// secret reads a variable, or the file that the one with _FILE names.
func secret(name string) (string, error) {
	file := os.Getenv(name + "_FILE")
	if file == "" {
		return os.Getenv(name), nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s_FILE: %w", name, err)
	}
	return strings.TrimSpace(string(content)), nil
}

// list reads a variable whose values are separated by commas.
func list(name string) (values []string) {
	for v := range strings.SplitSeq(os.Getenv(name), ",") {
		if v = strings.TrimSpace(v); v != "" {
			values = append(values, v)
		}
	}
	return values
}

// newLogger logs text for people in development, and JSON for machines in production.
func newLogger() (*slog.Logger, error) {
	var options slog.HandlerOptions
	if v := os.Getenv("LOG_LEVEL"); v != "" {
		var level slog.Level
		if err := level.UnmarshalText([]byte(v)); err != nil {
			return nil, fmt.Errorf("LOG_LEVEL: %q is none of debug, info, warn, error", v)
		}
		options.Level = level
	}
	if os.Getenv("MOONCORE_ENV") == "production" {
		return slog.New(slog.NewJSONHandler(os.Stderr, &options)), nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &options)), nil
}

// newConfig is the configuration of the service; mooncore.Run lays the environment over it.
func newConfig(s settings, store *store, log *slog.Logger) mooncore.Config {
	service := &service{store: store, log: log, demoLogin: s.demoLogin}
	// Extensions run before the server listens: nothing is served on an old schema.
	extensions := []mooncore.Extension{func(*mooncore.Server) error { return store.migrate(context.Background(), log) }}
	if s.innerAddr != "" {
		registry := prometheus.NewRegistry()
		registry.MustRegister(collectors.NewDBStatsCollector(store.db, "tasks"))
		extensions = append(extensions, metrics.Extension(metrics.Config{Registry: registry}))
	}
	return mooncore.Config{
		Addr:           "127.0.0.1:4000", // until HOST says otherwise
		Inner:          s.innerAddr,
		Logger:         log,
		Routers:        []mooncore.Router{service.router()},
		Handler:        servePage(),
		TrustedProxies: s.trustedProxies,
		Hosts:          s.hosts,
		Checks:         map[string]func(context.Context) error{"database": store.check},
		Extensions:     extensions,
		JWT:            mooncore.JWTConfig{Issuer: "tasks", Lifetime: 12 * time.Hour, MaxLifetime: 24 * time.Hour},
		Limits: mooncore.Limits{
			Timeout:         10 * time.Second,
			MaxBytes:        64 << 10,         // a task is small
			AuthTimeout:     10 * time.Second, // the page logs in at once; strangers do not stay
			FramesPerSecond: 100,
			AnonConns:       1000,
		},
	}
}
