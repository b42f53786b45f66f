// Package devtools is a dashboard for developers: metrics, a form for each action, a log of calls with their details, connections and
// their frames, profiles, a console, guides, and pages of the program's own. List its Extension in Config.Extensions:
//
//	err := mooncore.Run(mooncore.Config{
//		DevTools:   true,
//		Extensions: []mooncore.Extension{devtools.Extension(devtools.Config{})},
//		Routers:    routers,
//	})
//
// Then start the program with MOONCORE_DEV_TOOLS=true in its environment, and open the link that it logs.
//
// # Gates
//
// Both Config.DevTools and MOONCORE_DEV_TOOLS=true are needed, and Config.Development. With one missing there is no listener, no
// route, nothing is recorded, and calls cost nothing more. In production New refuses Config.DevTools, whatever the variable says.
// Any other value of the variable is off, with a warning.
//
// Behind the gates, the dashboard listens on loopback. Beyond that takes an address that says so, and MOONCORE_DEV_SECRET with at
// least 32 characters in the environment. A request must come from an address that may connect, for a Host that the dashboard has,
// from no other web origin, and, but for the page itself, which holds nothing, with the cookie of a login: by MOONCORE_DEV_SECRET, or
// without one by a link that works once, which the program logs when it starts.
//
// Secrets are taken out before anything is recorded: fields by name, such as "password", and those of type [mooncore.Secret], in
// params, results, frames and claims, also in JSON that stands in a text; in any text what looks like a token, what stands behind such
// a name and ":" or "=", and what a URL has before its host. Tokens that clients send are not recorded at all.
package devtools

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/mooncore/mooncore"
)

// Config configures the developer tools. The zero Config is good.
type Config struct {
	// Addr is the TCP address of their own listener. Default "127.0.0.1:4040". One that is not on loopback takes
	// MOONCORE_DEV_SECRET. [Mount] ignores it.
	Addr string

	// TLS makes the listener serve HTTPS with these certificates. Without it, what crosses a network beyond loopback, the secret
	// included, can be read there. Default none. [Mount] ignores it.
	TLS *tls.Config

	// Peers are the addresses that may connect, of the connection's real peer: forwarding headers do not count. Others than
	// loopback take MOONCORE_DEV_SECRET. Default loopback if Addr is on it, and for [Mount]; else any.
	Peers []netip.Prefix

	// Hosts are further names, without a port, that a Host header may have: "dev.example.test". Those of loopback and the address
	// that was connected to are always good. Default none.
	Hosts []string

	// Guides is a directory of Markdown files that the dashboard shows. Nothing outside it is read. Default none.
	Guides string

	// Pages are the program's own. Default none.
	Pages []Page

	// Redact are further names of fields that hold secrets, in whole, without regard to case, "_" and "-": "iban", "diagnosis".
	// Default none.
	Redact []string

	// LogBytes bounds the log of calls. The oldest are forgotten. Default 16 MiB, at least 1 MiB.
	LogBytes int
}

const (
	variable       = "MOONCORE_DEV_TOOLS"
	secretVariable = "MOONCORE_DEV_SECRET"
	defaultAddr    = "127.0.0.1:4040"
)

// Extension returns the developer tools, on a listener of their own, for mooncore.Config.Extensions. New fails if the configuration has
// faults, or if the address is in use.
func Extension(cfg Config) mooncore.Extension {
	return func(srv *mooncore.Server) error {
		if !open(srv) {
			return nil
		}
		cfg := cfg // what is filled in is of this server
		cfg.Addr = cmp.Or(cfg.Addr, defaultAddr)
		onLoopback, err := loopbackAddr(cfg.Addr)
		if err != nil {
			return err
		}
		if cfg.Peers == nil && onLoopback {
			cfg.Peers = loopback
		}
		secret := os.Getenv(secretVariable)
		if err := checkSecret(secret, cfg.Peers, onLoopback, "Addr "+cfg.Addr); err != nil {
			return err
		}
		listener, err := net.Listen("tcp", cfg.Addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("devtools: %s is in use, perhaps by another program's developer tools: give devtools.Config another Addr: %w", cfg.Addr, err)
		}
		if err != nil {
			return fmt.Errorf("devtools: Addr: %w", err)
		}
		url := "http://" + listener.Addr().String() + "/"
		if cfg.TLS != nil {
			url = "https" + strings.TrimPrefix(url, "http")
			conf := cfg.TLS.Clone()
			conf.NextProtos = []string{"http/1.1"}
			listener = tls.NewListener(listener, conf)
		}
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		t, err := newTools(srv, cfg, newAuth(secret, cfg.TLS != nil, port), url)
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		if !onLoopback && cfg.TLS == nil {
			t.log.Warn("developer tools: plain HTTP beyond loopback: who can read the network can read the secret; set devtools.Config.TLS")
		}
		srv.Go(t.work)
		srv.Go(func(ctx context.Context) { t.serve(ctx, listener) })
		return nil
	}
}

// Mount returns the developer tools for mooncore.Config.Extensions, on a route of the program's own: mount is called with their handler
// when the gates are open, and not at all otherwise.
//
//	devtools.Mount(devtools.Config{}, func(h http.Handler) {
//		mux.Handle("/dev/", http.StripPrefix("/dev", h))
//	})
//
// All checks are the same, with the peer of the program's own listener.
func Mount(cfg Config, mount func(h http.Handler)) mooncore.Extension {
	return func(srv *mooncore.Server) error {
		if !open(srv) {
			return nil
		}
		cfg := cfg // what is filled in is of this server
		if cfg.Peers == nil {
			cfg.Peers = loopback
		}
		secret := os.Getenv(secretVariable)
		if err := checkSecret(secret, cfg.Peers, true, "Peers"); err != nil {
			return err
		}
		t, err := newTools(srv, cfg, newAuth(secret, srv.Config().TLS != nil, "mounted"), "")
		if err != nil {
			return err
		}
		srv.Go(t.work)
		mount(t)
		return nil
	}
}

// open reports whether all gates are, and logs why not where somebody may wonder.
func open(srv *mooncore.Server) bool {
	cfg := srv.Config()
	value := os.Getenv(variable)
	if value != "" && value != "true" {
		cfg.Logger.Warn("developer tools are off: "+variable+` turns them on by "true" only`, "value", clip(value))
	}
	switch {
	case !cfg.DevTools, !cfg.Development: // New has refused the flag without Development; to be twice sure costs nothing
		return false
	case value == "":
		cfg.Logger.Info("developer tools are off: set " + variable + "=true to turn them on")
	}
	return value == "true"
}

// loopbackAddr reports whether what listens on an address can be reached from this machine only.
func loopbackAddr(addr string) (bool, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false, fmt.Errorf("devtools: Addr: %q is not host:port", addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return false, fmt.Errorf("devtools: Addr: %q has no valid port", addr)
	}
	if strings.EqualFold(host, "localhost") {
		return true, nil
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback(), nil
}

// checkSecret refuses to be reached from elsewhere without a good secret.
func checkSecret(secret string, peers []netip.Prefix, onLoopback bool, what string) error {
	for i, p := range peers {
		if !p.IsValid() {
			return fmt.Errorf("devtools: Peers[%d]: it is no valid prefix", i)
		}
	}
	if (onLoopback && onlyLoopback(peers)) || len(secret) >= minSecret {
		return nil
	}
	how := fmt.Sprintf("it has %d", len(secret))
	if secret == "" {
		how = "it is not set"
	}
	return fmt.Errorf("devtools: %s reaches beyond loopback: %s must have at least %d characters, but %s (openssl rand -hex 32)",
		what, secretVariable, minSecret, how)
}

func onlyLoopback(peers []netip.Prefix) bool {
	for _, p := range peers {
		if !p.Addr().Unmap().IsLoopback() || p.Addr().Is4() && p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 128 {
			return false
		}
	}
	return true
}

// Limits of the listener. What takes longer, such as a profile, extends its own time.
const (
	headerTime     = 5 * time.Second
	bodyTime       = 10 * time.Second
	answerTime     = 30 * time.Second
	idleTime       = 60 * time.Second
	maxHeaderBytes = 16 << 10
	maxBody        = 1 << 20
)

// serve serves the listener until ctx ends. Streams and profiles end with it.
func (t *tools) serve(ctx context.Context, listener net.Listener) {
	server := &http.Server{
		Handler: t, ReadHeaderTimeout: headerTime, ReadTimeout: bodyTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:    slog.NewLogLogger(t.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(last) != nil {
			_ = server.Close() // it cuts off what is left
		}
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		t.log.Error("developer tools stopped", "cause", err)
	}
	<-stopped
}
