package mooncore

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/rs/cors"
)

// An origin is a web origin (RFC 6454 section 4) in the form that compares: lower case, with its port.
type origin struct{ scheme, host, port string }

// defaultPorts are the ports that browsers leave out.
var defaultPorts = map[string]string{"http": "80", "https": "443"}

// parseOrigin parses scheme://host or scheme://host:port. Nothing may follow, and "null" is no origin.
func parseOrigin(s string) (origin, bool) {
	scheme, hostport, ok := strings.Cut(s, "://")
	if !ok || !isScheme(scheme) {
		return origin{}, false
	}
	scheme = strings.ToLower(scheme)
	host, port, ok := splitHostPort(hostport)
	if port == "" {
		port = defaultPorts[scheme]
	}
	return origin{scheme, host, port}, ok
}

// parseListedOrigin is parseOrigin for those that a program lists, with errors that help.
func parseListedOrigin(s string) (origin, error) {
	o, ok := parseOrigin(s)
	switch {
	case s == "*":
		return origin{}, errAnyOrigin
	case strings.Contains(s, "*"):
		return origin{}, errWildcardOrigin(s)
	case !ok:
		return origin{}, fmt.Errorf("%q is not an origin: want scheme://host or scheme://host:port, in ASCII and with nothing after", s)
	case o.scheme == "ws" || o.scheme == "wss":
		return origin{}, fmt.Errorf("%q is no origin of a page: want http or https", s)
	}
	return o, nil
}

// isScheme reports whether s is a URI scheme (RFC 3986 section 3.1).
func isScheme(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case isLetter(c):
		case i > 0 && (isDigit(c) || c == '+' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return s != ""
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

// splitHostPort splits what stands in a Host header: a name or an IP address, IPv6 in brackets, and a port or none, then "".
// It returns the host in lower case and IPv6 addresses in their one short spelling, without brackets.
func splitHostPort(s string) (host, port string, ok bool) {
	host = s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host, port = s[:i], s[i+1:]
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return "", "", false
		}
		port = strconv.FormatUint(n, 10)
	}
	if inner, found := strings.CutPrefix(host, "["); found {
		inner, found = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !found || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", "", false
		}
		return addr.String(), port, true
	}
	for i := range len(host) {
		if c := host[i]; !isLetter(c) && !isDigit(c) && c != '-' && c != '.' && c != '_' {
			return "", "", false
		}
	}
	return strings.ToLower(host), port, host != ""
}

// bracketed puts an IPv6 address in brackets.
func bracketed(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
		return "[" + host + "]"
	}
	return host
}

// An originPolicy says which web pages may call and connect: those of the server's own origin, and those listed.
// The zero originPolicy lists none.
type originPolicy struct{ listed []origin }

// newOriginPolicy returns the policy of Config.Origins, or all of their faults.
func newOriginPolicy(origins []string) (originPolicy, error) {
	var p originPolicy
	var errs []error
	for i, s := range origins {
		o, err := parseListedOrigin(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("Origins[%d]: %w", i, err))
			continue
		}
		p.listed = append(p.listed, o)
	}
	return p, errors.Join(errs...)
}

func (p originPolicy) isListed(s string) bool {
	o, ok := parseOrigin(s)
	return ok && slices.Contains(p.listed, o)
}

// allowRequest reports whether an HTTP request, which came by that scheme, may run an action: it is no browser's, or from a
// page of the same or a listed origin (PROTOCOL.md section 2).
func (p originPolicy) allowRequest(r *http.Request, scheme string) bool {
	site := strings.Join(r.Header["Sec-Fetch-Site"], ",")
	sameSite := site == "" || site == "same-origin" || site == "none"

	values := r.Header["Origin"]
	if len(values) == 0 {
		return sameSite
	}
	o, ok := parseOrigin(values[0])
	switch {
	case !ok || len(values) > 1:
		return false
	case slices.Contains(p.listed, o):
		return true
	case !sameSite:
		// The browser knows better than what is compared below: a page on http://host is another origin than
		// https://host, but looks the same if a proxy that is not declared ends TLS.
		return false
	case o == requestOrigin(r, scheme):
		return true
	}
	// Such a proxy makes an own page look foreign, too. The browser vouches for it.
	return site == "same-origin" && o == requestOrigin(r, o.scheme)
}

// allowUpgrade reports whether a WebSocket upgrade, which came by that scheme, may go on: from a page of exactly the same
// origin or a listed one, or from no browser and without cookies (PROTOCOL.md section 3).
func (p originPolicy) allowUpgrade(r *http.Request, scheme string) bool {
	values := r.Header["Origin"]
	if len(values) == 0 {
		return len(r.Header["Cookie"]) == 0
	}
	o, ok := parseOrigin(values[0])
	return ok && len(values) == 1 && (o == requestOrigin(r, scheme) || slices.Contains(p.listed, o))
}

// requestOrigin returns the origin that r was sent to, the zero one if Host is no good.
func requestOrigin(r *http.Request, scheme string) origin {
	host, port, ok := splitHostPort(r.Host)
	if !ok {
		return origin{}
	}
	if port == "" {
		port = defaultPorts[scheme]
	}
	return origin{scheme, host, port}
}

// cors returns what answers preflights and adds the headers for pages of listed origins, nil if none is listed.
func (p originPolicy) cors() *cors.Cors {
	if len(p.listed) == 0 {
		return nil // rs/cors takes an empty list for every origin
	}
	return cors.New(cors.Options{
		AllowOriginFunc: p.isListed,
		AllowedMethods: []string{
			http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead,
		},
		AllowedHeaders: []string{
			"Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id", "Traceparent", "Tracestate",
			"Mcp-Protocol-Version", "Mcp-Session-Id", "Mcp-Method", "Mcp-Name",
		},
		ExposedHeaders:   []string{"X-Request-Id", "Retry-After", "Mcp-Session-Id"},
		AllowCredentials: true, // each origin is listed by name
		MaxAge:           600,
	})
}

// A hostPolicy says which values of Host are answered. The zero hostPolicy allows all.
type hostPolicy struct {
	// hosts are pairs of host and port, with an empty port for any. nil allows all.
	hosts map[[2]string]bool
}

// newHostPolicy returns the policy of Config.Hosts. Entries that validate refuses match nothing.
func newHostPolicy(hosts []string) hostPolicy {
	if len(hosts) == 0 {
		return hostPolicy{}
	}
	m := make(map[[2]string]bool, len(hosts))
	for _, s := range hosts {
		if host, port, ok := splitHostPort(bracketed(s)); ok {
			m[[2]string{strings.TrimSuffix(host, "."), port}] = true
		}
	}
	return hostPolicy{m}
}

// allow reports whether the Host of r is answered. Case and a trailing dot don't count.
func (p hostPolicy) allow(r *http.Request) bool {
	if p.hosts == nil {
		return true
	}
	host, port, ok := splitHostPort(r.Host)
	host = strings.TrimSuffix(host, ".")
	return ok && (p.hosts[[2]string{host, ""}] || p.hosts[[2]string{host, port}])
}
