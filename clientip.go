package mooncore

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the peers whose forwarding headers are believed: Config.TrustedProxies.
type proxies []netip.Prefix

func newProxies(prefixes []netip.Prefix) proxies { return slices.Clone(prefixes) }

// trusts reports whether addr, as parsePeer returns it, is a trusted proxy.
func (p proxies) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(prefix netip.Prefix) bool { return prefix.Contains(addr) })
}

// client returns the address that r came from: the peer of the connection, or if that is a trusted proxy, the rightmost
// address of X-Forwarded-For that is none. It is the zero Addr if the peer has no IP address.
func (p proxies) client(r *http.Request) netip.Addr {
	addr, ok := parsePeer(r.RemoteAddr)
	if !ok || !p.trusts(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for _, hop := range slices.Backward(hops) {
		next, ok := parsePeer(strings.TrimSpace(hop))
		if !ok {
			break
		}
		addr = next
		if !p.trusts(addr) {
			break
		}
	}
	return addr
}

// scheme returns "https" or "http": how r came to the server, or to the trusted proxy before it.
func (p proxies) scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	values := r.Header["X-Forwarded-Proto"]
	if len(values) == 0 {
		return "http"
	}
	if addr, ok := parsePeer(r.RemoteAddr); !ok || !p.trusts(addr) {
		return "http"
	}
	// The rightmost is what the peer itself wrote. Some proxies write wss for a WebSocket.
	last := values[len(values)-1]
	last = strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
	if strings.EqualFold(last, "https") || strings.EqualFold(last, "wss") {
		return "https"
	}
	return "http"
}

// parsePeer parses an IP address with or without a port. It returns an IPv4-mapped IPv6 address as IPv4, without zone.
func parsePeer(s string) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(s)
	addr := ap.Addr()
	if err != nil {
		if addr, err = netip.ParseAddr(s); err != nil {
			return netip.Addr{}, false
		}
	}
	return addr.Unmap().WithZone(""), true
}
