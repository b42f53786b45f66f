package mooncore

import (
	"context"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"time"
)

// A machine is what a checklist knows of the process and where it runs.
type machine struct {
	descriptors int    // that the process may have; 0 if unknown
	memory      memory // that it may use
	gcOff       bool   // GOGC=off
	devTools    bool   // the variable of package devtools opens its gate
	now         time.Time
}

func thisMachine() machine {
	gogc := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(gogc)
	return machine{
		descriptors: descriptorLimit(), memory: memoryLimit("/"),
		gcOff:    gogc[0].Value.Kind() == metrics.KindUint64 && gogc[0].Value.Uint64() == math.MaxUint64,
		devTools: os.Getenv("MOONCORE_DEV_TOOLS") == "true", now: time.Now(),
	}
}

// A checklist gathers findings.
type checklist []Finding

func (l *checklist) fatal(id, what, why, fix string) {
	*l = append(*l, Finding{id, SeverityFatal, what, why, fix})
}

func (l *checklist) warn(id, what, why, fix string) {
	*l = append(*l, Finding{id, SeverityWarning, what, why, fix})
}

func (l *checklist) note(id, what, why, fix string) {
	*l = append(*l, Finding{id, SeverityInfo, what, why, fix})
}

// checkServing returns what stands against c, which has its defaults, in production, but for faults and for what is about the
// listeners that Run opens.
func (c *Config) checkServing(m machine) []Finding {
	var l checklist
	c.checkModes(&l, m)
	c.checkSecrets(&l)
	c.checkTokens(&l)
	c.checkClients(&l)
	c.checkMemory(&l, m)
	c.checkLimits(&l, m)
	return l
}

func (c *Config) checkModes(l *checklist, m machine) {
	if !c.DevTools && m.devTools {
		l.warn("dev_tools_variable", "MOONCORE_DEV_TOOLS: it is true.",
			"It opens one of the two gates of the developer tools; Config.DevTools alone keeps them shut.",
			"Unset it: only developers' machines should have it.")
	}
	if c.DevTools {
		l.fatal("dev_tools", "DevTools: it is true, and developer tools are for development only.",
			"Developer tools show calls, tokens and connections, and act as any user.",
			"Set it from a variable that only developers' machines have, or in development set MOONCORE_ENV=development.")
	}
	if c.LegacyStatus {
		l.warn("legacy_status", "LegacyStatus: it is true, so a call that fails is answered with 200.",
			"Proxies, monitors and retrying clients take every failure for a success.",
			"Move clients to the field code of errors, then leave Config.LegacyStatus false.")
	}
	if c.LegacyAuth {
		l.warn("legacy_auth", "LegacyAuth: it is true, so a token that is no good counts as none.",
			"A client whose session ended goes on as a stranger and never learns it.",
			"Move clients to the status 401, then leave Config.LegacyAuth false.")
	}
	if c.Logger.Enabled(context.Background(), slog.LevelDebug) {
		l.warn("debug_logging", "Logger: it logs at level debug.",
			"Each connection is logged twice; under load the log costs more than the calls, and fills disks.",
			"Set LOG_LEVEL=info, or give Config.Logger a handler of that level.")
	}
	if len(c.Checks) == 0 {
		l.warn("no_readiness_check", "Checks: there is none, so /readyz says ok as long as the process serves.",
			"A load balancer keeps sending calls to a server whose database is away.",
			`Add a check of each dependency that calls cannot do without: Config.Checks["database"] = db.PingContext.`)
	}
}

// A keyFile is a file that ConfigFromEnv read a key from.
type keyFile struct {
	variable, path string
	mode           fs.FileMode
}

func (c *Config) checkSecrets(l *checklist) {
	for _, f := range c.keyFiles {
		switch perm := f.mode.Perm(); {
		case runtime.GOOS == "windows": // has no such modes
		case perm&0o002 != 0:
			l.fatal("key_file_writable", fmt.Sprintf("%s: %s has mode %04o, which lets everybody write to it.", f.variable, f.path, perm),
				"Whoever puts a key of their own there makes tokens that this server takes.",
				"chmod 600 "+f.path+", as the user that the server runs as.")
		case perm&0o020 != 0:
			l.warn("key_file_writable", fmt.Sprintf("%s: %s has mode %04o, which lets its group write to it.", f.variable, f.path, perm),
				"Whoever in that group puts a key of their own there makes tokens that this server takes.",
				"chmod 640 "+f.path+", or 600.")
		case perm&0o004 != 0 && f.variable != "JWT_PUBLIC_KEY_FILE":
			l.warn("key_file_readable", fmt.Sprintf("%s: %s has mode %04o, which lets everybody read it.", f.variable, f.path, perm),
				"Whoever reads the key makes tokens for any user, or reads what was encrypted with it.",
				"chmod 600 "+f.path+", as the user that the server runs as; in Kubernetes set defaultMode: 0400 on the secret's volume, in Docker mode: 0400.")
		}
	}
	const random = "Make a new one: openssl rand -base64 48"
	if s := string(c.JWT.Secret); len(s) >= minHMACSize && guessable(s) {
		l.fatal(idWeakKey, "JWT.Secret: it is long enough, but not random.",
			"Who has one token can try words and patterns until a secret fits, and then signs tokens for anybody.", random)
	}
	if s := string(c.SecretKeyBase); len(s) >= minSecretBytes && guessable(s) {
		l.fatal("weak_secret_key_base", "SecretKeyBase: it is long enough, but not random.",
			"All keys of Config.DeriveKey can be made by who guesses it.", random)
	}
	if c.SecretKeyBase != "" && c.SecretKeyBase == c.JWT.Secret {
		l.warn("shared_secret", "SecretKeyBase: it is JWT.Secret.",
			"Who gets the one has the other too, and neither can be changed alone.", "Make one for each: openssl rand -base64 48")
	}
}

// placeholders stand in secrets that nobody has replaced.
var placeholders = []string{"changeme", "change-me", "change_me", "change this", "change-this", "password", "secret", "example", "placeholder", "12345678", "abcdefgh"}

// guessable reports whether a secret that is long enough is one that people think of: few different characters, something
// repeated, or a placeholder. None of these is likely in 16 random bytes, however they are written.
func guessable(s string) bool {
	distinct := map[byte]bool{}
	for i := range len(s) {
		distinct[s[i]] = true
	}
	if len(distinct) < 8 {
		return true
	}
	for period := 1; period <= len(s)/2; period++ {
		if s[period:] == s[:len(s)-period] {
			return true
		}
	}
	lower := strings.ToLower(s)
	return slices.ContainsFunc(placeholders, func(word string) bool { return strings.Contains(lower, word) })
}

const (
	longLifetime = 30 * 24 * time.Hour
	wideLeeway   = 5 * time.Minute
)

func (c *Config) checkTokens(l *checklist) {
	jwt := &c.JWT
	if jwt.PrivateKey == "" && jwt.PublicKeys == "" && jwt.Secret == "" {
		return // no tokens, or a fault
	}
	if jwt.Issuer == "" {
		l.warn("default_issuer", `JWT.Issuer: it is not set, so tokens are issued by "mooncore".`,
			"Every service that left it so takes the tokens of the others, if they share a key.",
			"Set JWT_ISSUER to a name of this service, such as https://api.example.com.")
	}
	if jwt.Lifetime > longLifetime {
		l.warn("long_tokens", fmt.Sprintf("JWT.Lifetime: tokens are good for %v.", jwt.Lifetime),
			"A token that leaks is of use to its finder for as long.",
			"Issue tokens for hours and renew them: a WebSocket takes a fresh one in a jwt frame without losing its channels.")
	}
	if jwt.Leeway > wideLeeway {
		l.warn("wide_leeway", fmt.Sprintf("JWT.Leeway: tokens are good for %v after they expired.", jwt.Leeway),
			"It is meant for clocks that differ, by seconds.", "Keep the clocks right by NTP, and the leeway below a minute.")
	}
	if jwt.OnRevoke == nil {
		l.note("revocations_in_memory", "JWT.OnRevoke: it is not set, so revocations end with the process.",
			"A token that was revoked is good again after a restart, until it expires.",
			"Keep them in a database by JWT.OnRevoke, and give them back by JWT.Revoked.")
	}
	if jwt.MaxLifetime == 0 {
		l.note("endless_revocations", "JWT.MaxLifetime: it is not set, so a revocation is never forgotten.",
			"A token may be good for any time, so each logout by RevokeToken takes some 100 bytes for as long as the process runs.",
			"Set JWT.MaxLifetime to the lifetime of your tokens: a revocation ends with the last token that it can refuse.")
	}
}

// namedActions is how many actions a finding names.
const namedActions = 5

// checkClients is about who may call.
func (c *Config) checkClients(l *checklist) {
	for i, text := range c.Origins {
		o, err := parseListedOrigin(text)
		if err != nil || o.scheme != "http" {
			continue
		}
		if isLoopback(o.host) {
			l.warn("local_origin", fmt.Sprintf("Origins[%d]: %s is a page on the user's own machine.", i, text),
				"Whatever program serves that port there may call with the user's cookies.",
				"List it in development only: set CORS_ORIGINS per environment.")
			continue
		}
		l.warn("insecure_origin", fmt.Sprintf("Origins[%d]: %s comes without TLS.", i, text),
			"Who sits between a user and that page can put code into it, which may call with the user's cookies.",
			"Serve the page by HTTPS, and list its https origin.")
	}
	if len(c.Hosts) == 0 {
		l.note("any_host", "Hosts: any is answered.",
			"A name that somebody points at this server reaches it, and responses may be cached or linked under that name.",
			`List the names that clients use: Config.Hosts = []string{"api.example.com"}.`)
	}
	for i, p := range c.TrustedProxies {
		if p.IsValid() && p.Bits() < 8 {
			l.warn("trusts_everybody", fmt.Sprintf("TrustedProxies[%d]: %v is a good part of the Internet.", i, p),
				"Clients there write X-Forwarded-For themselves, and so choose the address that limits and logs know them by.",
				"List the addresses of your proxies alone, such as 10.0.0.0/8.")
		}
	}
	var open []string
	for _, r := range c.Routers {
		for _, a := range r.Actions {
			if a.Allow.kind == accessPublic && !a.ReadOnly && a.Rate.by == rateUnset && a.Concurrency == 0 {
				open = append(open, a.Name)
			}
		}
	}
	if n := len(open); n > 0 {
		more := ""
		if n > namedActions {
			open, more = open[:namedActions], ", …"
		}
		l.note("unlimited_actions", fmt.Sprintf("Rate: %s without one, which everybody may call and which may change something: %s.",
			plural(n, "action"), strings.Join(open, ", ")+more),
			"One client can call it as fast as it sends: guess passwords, fill a database, keep the processors busy.",
			"Set Rate, such as mooncore.PerAddress(10, time.Minute), or Concurrency; ReadOnly, if it changes nothing.")
	}
	if c.Limits.AnonConns == noLimit && c.Limits.AuthTimeout <= 0 {
		l.note("anonymous_connections", "Limits.AnonConns, Limits.AuthTimeout: neither is set, so WebSockets of strangers may stay, as many as Limits.Conns.",
			"A few clients that never log in can take every place.",
			"Set Limits.AnonConns to some hundreds, or Limits.AuthTimeout to 10s if strangers have nothing to do on a WebSocket.")
	}
}

// What a connection makes the server hold beside its messages and its queue; see docs/operations.md.
const (
	idleBytes    = 15 << 10  // measured
	pendingBytes = 256 << 10 // of messages that wait to be handled

	fewClients = 16
)

// clientBytes is the most that one WebSocket can make the server hold: docs/operations.md#memory.
func (c *Config) clientBytes() (total, largest int64) {
	largest = c.Limits.MaxBytes
	for _, r := range c.Routers {
		for _, a := range append(slices.Clone(r.Actions), r.Fallback) {
			switch {
			case a.MaxBytes < 0:
				largest = noLimitBytes
			case a.MaxBytes > largest:
				largest = a.MaxBytes
			}
		}
	}
	return 3*min(largest, noLimitBytes) + pendingBytes + int64(c.Limits.SendBytes) + idleBytes, largest
}

func (c *Config) checkMemory(l *checklist, m machine) {
	have := m.memory
	if have.cgroup > 0 && have.golang == math.MaxInt64 {
		l.warn("gomemlimit", fmt.Sprintf("GOMEMLIMIT: it is not set, and the control group may use %s.", bytesText(have.cgroup)),
			"The garbage collector does not know of that limit: the process is killed while much of its memory is garbage.",
			fmt.Sprintf("Set GOMEMLIMIT=%dMiB, nine tenths of it.", have.cgroup/10*9>>20))
	} else if have.cgroup > 0 && have.golang > have.cgroup {
		l.warn("gomemlimit", fmt.Sprintf("GOMEMLIMIT: it is %s, more than the %s that the control group may use.", bytesText(have.golang), bytesText(have.cgroup)),
			"The process is killed before the garbage collector gets to work.",
			fmt.Sprintf("Set GOMEMLIMIT=%dMiB, nine tenths of that.", have.cgroup/10*9>>20))
	}

	if m.gcOff && have.golang == math.MaxInt64 {
		l.warn("gogc_off", "GOGC: it is off, and GOMEMLIMIT is not set.",
			"Garbage is never collected: the process grows until it is killed.", "Unset GOGC, or set GOMEMLIMIT too.")
	}
	limit, from := have.least()
	perClient, largest := c.clientBytes()
	if largest >= noLimitBytes {
		l.fatal("unlimited_messages", "Limits.MaxBytes: it is off, there or as MaxBytes of an action.",
			"One client can send a message that ends the process.",
			"Give the size that the largest message really needs, or send large things in parts.")
		return
	}
	if limit == 0 {
		return
	}
	sum := fmt.Sprintf("one WebSocket can make the server hold %s: three messages of the largest MaxBytes, %s, and %s in queues",
		bytesText(perClient), bytesText(largest), bytesText(perClient-3*largest))
	const lower = "Lower Limits.MaxBytes and Limits.SendBytes, let the action that needs more take it by HTTP in parts, or give the process more memory."
	switch {
	case largest >= limit:
		l.fatal("memory_per_client", fmt.Sprintf("Limits: %s. The process may have %s (%s).", sum, bytesText(limit), from),
			"One message can end the process.", lower)
	case perClient > limit/fewClients:
		l.warn("memory_per_client", fmt.Sprintf("Limits: %s. The process may have %s (%s), which %s can fill.",
			sum, bytesText(limit), from, plural(int(limit/perClient)+1, "client")),
			"A few clients can end the process.", lower)
	}
	raised := int64(c.Limits.Conns) > int64(connLimit(m.descriptors)) || c.Limits.SendBytes > Limits{}.withDefaults().SendBytes
	if queues := int64(c.Limits.Conns) * (int64(c.Limits.SendBytes) + idleBytes); raised && c.Limits.Conns < noLimit && queues > limit {
		l.warn("memory_of_queues", fmt.Sprintf("Limits.Conns, Limits.SendBytes: %d connections with %s waiting for each, and %s for itself, are %s. The process may have %s (%s).",
			c.Limits.Conns, bytesText(int64(c.Limits.SendBytes)), bytesText(idleBytes), bytesText(queues), bytesText(limit), from),
			"When many clients are slow at once, as after a burst of events, their queues fill the memory.",
			"Lower one of the two, or give the process more memory.")
	}
}

const longTimeout = 10 * time.Minute

// smallDescriptors is less than any system gives by default once Go has raised the soft limit to the hard one.
const smallDescriptors = 1024

func (c *Config) checkLimits(l *checklist, m machine) {
	const more = "Raise the limit of descriptors (LimitNOFILE= with systemd, --ulimit nofile= with Docker, ulimit -n in a shell)"
	switch {
	case m.descriptors == 0:
	case c.Limits.Conns < noLimit && c.Limits.Conns > m.descriptors/10*9:
		l.warn("few_descriptors", fmt.Sprintf("Limits.Conns: it is %d, and the process may have %d descriptors.", c.Limits.Conns, m.descriptors),
			"When they run out, accepting fails for everybody, health checks and databases included.",
			more+fmt.Sprintf(" to %d at least, or leave Limits.Conns at its default, 80 %% of it.", c.Limits.Conns/4*5))
	case m.descriptors < smallDescriptors:
		l.warn("few_descriptors", fmt.Sprintf("Limits.Conns: it is %d, since the process may have %d descriptors.", c.Limits.Conns, m.descriptors),
			"More WebSockets than that get 503.", more+", such as to 65536.")
	}
	if c.Limits.Timeout > longTimeout {
		l.note("long_timeout", fmt.Sprintf("Limits.Timeout: it is %v, for every action that says nothing else.", c.Limits.Timeout),
			"A call that hangs holds its connection, and all that it took, as long.",
			"Leave it at its default, 30s, and set Timeout on the actions that need more.")
	}
	var off []string
	for _, limit := range []struct {
		field string
		off   bool
	}{
		{"Timeout", c.Limits.Timeout < 0}, {"SendBytes", c.Limits.SendBytes == noLimit}, {"Channels", c.Limits.Channels == noLimit},
		{"Calls", c.Limits.Calls == noLimit}, {"IdleTimeout", c.Limits.IdleTimeout < 0}, {"Conns", c.Limits.Conns == noLimit && m.descriptors > 0},
		{"IdempotencyBytes", c.Limits.IdempotencyBytes == noLimitBytes},
	} {
		if limit.off {
			off = append(off, "Limits."+limit.field)
		}
	}
	if len(off) > 0 {
		l.warn("limits_off", strings.Join(off, ", ")+": off.",
			"What nothing bounds, one client can take all of.",
			"Leave 0 for the default, or give a limit that the largest honest client stays below.")
	}
}

// Load balancers ask each second or more seldom, and orchestrators kill what has not ended.
const (
	shortDrainDelay = 2 * time.Second
	shortShutdown   = 5 * time.Second
	longShutdown    = 30 * time.Second
)

// checkListening returns what stands against c, which has its defaults, when Run opens its listeners and ends it. None of it is
// fatal: New knows nothing of whether Run will be called.
func (c *Config) checkListening(m machine) []Finding {
	var l checklist
	if c.TLS == nil && len(c.TrustedProxies) == 0 && c.reachable() {
		l.warn("plain_http", fmt.Sprintf("Addr: %s serves plain HTTP beyond this machine, and TrustedProxies names no proxy that ends TLS.", c.listenAddr()),
			"Tokens and answers can be read on their way. If a proxy does end TLS, all clients have its address here, in limits and logs, and WebSockets of pages are refused, because their origin is https.",
			"Name the networks of the proxy in Config.TrustedProxies, give Config.TLS a certificate, or listen on 127.0.0.1 behind a proxy on this machine.")
	}
	if _, port, err := net.SplitHostPort(c.Addr); err == nil && port == "0" && c.Listener == nil {
		l.warn("random_port", fmt.Sprintf("Addr: %s is another port at each start.", c.Addr),
			"No client and no load balancer knows it.", "Set PORT to a number.")
	}
	if c.TLS != nil {
		c.checkTLS(&l, m)
	}
	if host, _, err := net.SplitHostPort(c.Inner); c.Inner != "" && err == nil && !isLoopback(host) {
		l.warn("inner_exposed", fmt.Sprintf("Inner: %s can be reached from other machines.", c.Inner),
			"It has no authentication, and /debug/pprof/ shows what is in memory and can slow the process down.",
			`Listen on loopback, "127.0.0.1:4001", or let a firewall or network policy admit the monitor alone.`)
	}
	if c.DrainDelay < shortDrainDelay {
		l.warn("short_drain_delay", fmt.Sprintf("DrainDelay: it is %v.", max(c.DrainDelay, 0)),
			"Load balancers have not noticed by then that the server stops, and their clients get refusals.",
			"Leave it at its default, 5s, or set it to what your load balancer needs to notice that /readyz fails.")
	}
	switch {
	case c.ShutdownTimeout >= longShutdown:
		l.warn("shutdown_timeout", fmt.Sprintf("ShutdownTimeout: it is %v.", c.ShutdownTimeout),
			"After SIGTERM, Kubernetes waits 30 s, Docker 10 s and systemd 90 s before it kills the process with all that still runs.",
			"Keep it some seconds below that, or raise terminationGracePeriodSeconds, stop_grace_period or TimeoutStopSec above it.")
	case c.ShutdownTimeout < shortShutdown:
		l.warn("shutdown_timeout", fmt.Sprintf("ShutdownTimeout: it is %v.", c.ShutdownTimeout),
			"Calls that take longer are cut off at each deployment.", "Leave it at its default, 25s.")
	}
	return l
}

func (c *Config) checkTLS(l *checklist, m machine) {
	if v := c.TLS.MinVersion; v != 0 && v < 0x0303 {
		l.warn("old_tls", "TLS.MinVersion: it permits TLS 1.0 or 1.1.",
			"Both have known weaknesses; RFC 8996 says not to use them.", "Leave it 0: Go's default is TLS 1.2.")
	}
	for i, cert := range c.TLS.Certificates {
		leaf := cert.Leaf
		if leaf == nil && len(cert.Certificate) > 0 {
			leaf, _ = x509.ParseCertificate(cert.Certificate[0])
		}
		const soon = 14 * 24 * time.Hour
		if leaf != nil && m.now.Add(soon).After(leaf.NotAfter) {
			l.warn("certificate_expires", fmt.Sprintf("TLS.Certificates[%d]: it is good until %s.", i, leaf.NotAfter.UTC().Format(time.RFC3339)),
				"No client connects after that.", "Renew it; with TLS.GetCertificate a server takes a new one without a restart.")
		}
	}
}

// listenAddr is what Run listens on.
func (c *Config) listenAddr() string {
	if c.Listener != nil {
		return c.Listener.Addr().String()
	}
	return c.Addr
}

// reachable reports whether other machines can connect to what Run listens on.
func (c *Config) reachable() bool {
	if c.Listener != nil && c.Listener.Addr().Network() != "tcp" {
		return false
	}
	host, _, err := net.SplitHostPort(c.listenAddr())
	return err == nil && !isLoopback(host)
}

// isLoopback reports whether a host, without a port, is this machine by its name or address.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// bytesText returns n in the largest unit that it has one of.
func bytesText(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	v, unit := float64(n), 0
	for v >= 1024 && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + units[unit]
}
