package mooncore

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// originRequest is a request to host. Headers are "Name: value" lines; one name may come twice.
func originRequest(method, host string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, "/run", nil)
	r.Host = host
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

var listedOrigins = []string{"https://app.example", "http://localhost:3000", "capacitor://localhost"}

func mustOrigins(t *testing.T, origins ...string) originPolicy {
	t.Helper()
	p, err := newOriginPolicy(origins)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAllowUpgrade(t *testing.T) {
	// What the request's own origin is decides each cell; "-" sends no Origin.
	servers := []struct{ scheme, host string }{
		{"https", "api.example"}, {"http", "api.example"}, {"https", "api.example:8443"}, {"http", "[::1]:4000"},
	}
	type cell struct {
		origin string
		allow  [4]bool // by server
	}
	none, all := [4]bool{}, [4]bool{true, true, true, true}
	cells := []cell{
		{"-", all},
		{"https://api.example", [4]bool{true}},
		{"https://api.example:443", [4]bool{true}},
		{"https://API.example", [4]bool{true}},
		{"http://api.example", [4]bool{false, true}},
		{"http://api.example:80", [4]bool{false, true}},
		{"http://api.example:443", none},
		{"https://api.example:80", none},
		{"https://api.example:8443", [4]bool{false, false, true}},
		{"http://api.example:8443", none},
		{"http://[::1]:4000", [4]bool{false, false, false, true}},
		{"http://[0:0:0:0:0:0:0:1]:4000", [4]bool{false, false, false, true}},
		{"https://[::1]:4000", none},
		{"http://[::1]", none},
		{"null", none},
		{"", none},
		{"*", none},
		{"https://", none},
		{"api.example", none},
		{"//api.example", none},
		{"wss://api.example", none},
		{"https://evil.example", none},
		{"https://api.example.evil.example", none},
		{"https://evilapi.example", none},
		{"https://sub.api.example", none},
		{"https://api.example.", none},
		{"https://api.example/", none},
		{"https://api.example/x", none},
		{"https://api.example?x", none},
		{"https://api.example#x", none},
		{"https://user@api.example", none},
		{"https://evil.example@api.example", none},
		{"https://api.example:", none},
		{"https://api.example:0", none},
		{"https://api.example:443x", none},
		{"https://api.example, https://api.example", none},
		{" https://api.example", none},
		{"https://аpi.example", none}, // Cyrillic а
		{"https://app.example", all},
		{"https://app.example:443", all},
		{"http://app.example", none},
		{"https://app.example:8443", none},
		{"https://x.app.example", none},
		{"http://localhost:3000", all},
		{"http://localhost", none},
		{"https://localhost:3000", none},
		{"capacitor://localhost", all},
		{"capacitor://localhost:80", none},
		{"capacitor://evil", none},
	}
	p := mustOrigins(t, listedOrigins...)
	for _, c := range cells {
		for i, server := range servers {
			for _, cookie := range []bool{false, true} {
				var headers []string
				if c.origin != "-" {
					headers = append(headers, "Origin: "+c.origin)
				}
				want := c.allow[i]
				if cookie {
					headers = append(headers, "Cookie: session=1")
					want = want && c.origin != "-"
				}
				r := originRequest("GET", server.host, headers...)
				if got := p.allowUpgrade(r, server.scheme); got != want {
					t.Errorf("Origin %q to %s://%s, cookie %v: allowed %v, want %v", c.origin, server.scheme, server.host, cookie, got, want)
				}
			}
		}
	}
}

func TestAllowUpgradeOddRequests(t *testing.T) {
	p := mustOrigins(t, listedOrigins...)
	tests := []struct {
		name string
		r    *http.Request
	}{
		{"two origins", originRequest("GET", "api.example", "Origin: https://api.example", "Origin: https://api.example")},
		{"a bad Host that is also the origin", originRequest("GET", "a b", "Origin: https://a b")},
		{"no Host", originRequest("GET", "", "Origin: https://")},
		{"an empty cookie", originRequest("GET", "api.example", "Cookie: ")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if p.allowUpgrade(tt.r, "https") {
				t.Error("allowed")
			}
		})
	}
}

func TestAllowRequest(t *testing.T) {
	const own, foreign, listed = "https://api.example", "https://evil.example", "https://app.example"
	tests := []struct {
		name   string
		scheme string
		origin string // "-" for none
		site   string // "-" for none
		want   bool
	}{
		{"no browser", "https", "-", "-", true},
		{"own page, GET", "https", "-", "same-origin", true},
		{"address bar", "https", "-", "none", true},
		{"link on another site", "https", "-", "cross-site", false},
		{"link on a sister site", "https", "-", "same-site", false},
		{"unknown Sec-Fetch-Site", "https", "-", "x", false},
		{"old browser, own page", "https", own, "-", true},
		{"own page", "https", own, "same-origin", true},
		{"own origin, but the browser says cross-site", "https", own, "cross-site", false},
		{"old browser, other page", "https", foreign, "-", false},
		{"other page", "https", foreign, "cross-site", false},
		{"other page that claims to be ours", "https", foreign, "same-origin", false},
		{"other page, none", "https", foreign, "none", false},
		{"null", "https", "null", "-", false},
		{"null of an own page", "https", "null", "same-origin", false},
		{"listed page", "https", listed, "cross-site", true},
		{"listed page, old browser", "https", listed, "-", true},
		{"listed page, sister site", "https", listed, "same-site", true},
		{"listed, other scheme", "https", "http://app.example", "cross-site", false},
		{"listed, other port", "https", "https://app.example:1", "cross-site", false},
		{"TLS ended by an undeclared proxy, own page", "http", own, "same-origin", true},
		{"TLS ended by an undeclared proxy, old browser", "http", own, "-", false},
		{"TLS ended by an undeclared proxy, plain page", "http", "http://api.example", "cross-site", false},
		{"TLS ended by an undeclared proxy, other port", "http", own + ":8443", "same-origin", false},
		{"page without TLS", "https", "http://api.example", "-", false},
		{"trailing slash", "https", own + "/", "same-origin", false},
	}
	p := mustOrigins(t, listedOrigins...)
	for _, tt := range tests {
		for _, method := range []string{"GET", "POST"} {
			t.Run(tt.name+" "+method, func(t *testing.T) {
				r := originRequest(method, "api.example")
				if tt.origin != "-" {
					r.Header.Set("Origin", tt.origin)
				}
				if tt.site != "-" {
					r.Header.Set("Sec-Fetch-Site", tt.site)
				}
				if got := p.allowRequest(r, tt.scheme); got != tt.want {
					t.Errorf("allowed %v, want %v", got, tt.want)
				}
			})
		}
	}
	t.Run("two values of Sec-Fetch-Site", func(t *testing.T) {
		r := originRequest("POST", "api.example", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site")
		if p.allowRequest(r, "https") {
			t.Error("allowed")
		}
	})
	t.Run("two origins", func(t *testing.T) {
		if p.allowRequest(originRequest("POST", "api.example", "Origin: "+own, "Origin: "+foreign), "https") {
			t.Error("allowed")
		}
	})
}

func TestNewOriginPolicyFaults(t *testing.T) {
	tests := []struct{ origin, want string }{
		{"*", `"*" would let every site`},
		{"https://*.example", "has a wildcard"},
		{"null", "is not an origin"},
		{"", "is not an origin"},
		{"app.example", "is not an origin"},
		{"https://app.example/", "is not an origin"},
		{"https://bücher.example", "is not an origin"},
		{"file://", "is not an origin"},
		{"1http://app.example", "is not an origin"},
		{"wss://app.example", "want http or https"},
	}
	for _, tt := range tests {
		t.Run(tt.origin, func(t *testing.T) {
			_, err := newOriginPolicy([]string{"https://good.example", tt.origin})
			if err == nil || !strings.HasPrefix(err.Error(), "Origins[1]: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCORS(t *testing.T) {
	serve := func(p originPolicy, r *http.Request) http.Header {
		w := httptest.NewRecorder()
		h := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
		if c := p.cors(); c != nil {
			h = c.Handler(h)
		}
		h.ServeHTTP(w, r)
		return w.Header()
	}
	tests := []struct {
		name   string
		listed []string
		origin string
		want   bool
	}{
		{"none listed", nil, "https://app.example", false},
		{"empty list", []string{}, "https://app.example", false},
		{"listed", listedOrigins, "https://app.example", true},
		{"listed with a port", listedOrigins, "http://localhost:3000", true},
		{"other", listedOrigins, "https://evil.example", false},
		{"other scheme", listedOrigins, "http://app.example", false},
		{"null", listedOrigins, "null", false},
		{"suffix", listedOrigins, "https://app.example.evil.example", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := mustOrigins(t, tt.listed...)
			want, credentials := "", ""
			if tt.want {
				want, credentials = tt.origin, "true"
			}
			for name, r := range map[string]*http.Request{
				"actual": originRequest("POST", "api.example", "Origin: "+tt.origin),
				"preflight": originRequest("OPTIONS", "api.example", "Origin: "+tt.origin,
					"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type,idempotency-key"),
			} {
				h := serve(p, r)
				if got := h.Get("Access-Control-Allow-Origin"); got != want {
					t.Errorf("%s: Access-Control-Allow-Origin %q, want %q", name, got, want)
				}
				if got := h.Get("Access-Control-Allow-Credentials"); got != credentials {
					t.Errorf("%s: Access-Control-Allow-Credentials %q, want %q", name, got, credentials)
				}
				if len(tt.listed) > 0 && !strings.Contains(h.Get("Vary"), "Origin") {
					t.Errorf("%s: Vary %q lacks Origin", name, h.Get("Vary"))
				}
			}
		})
	}

	p := mustOrigins(t, listedOrigins...)
	preflight := func(method, header string) bool {
		h := serve(p, originRequest("OPTIONS", "api.example", "Origin: https://app.example",
			"Access-Control-Request-Method: "+method, "Access-Control-Request-Headers: "+header))
		return h.Get("Access-Control-Allow-Origin") != ""
	}
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"} {
		if !preflight(method, "content-type") {
			t.Errorf("%s is not allowed", method)
		}
	}
	for _, header := range []string{"authorization", "content-type", "idempotency-key", "x-request-id", "traceparent"} {
		if !preflight("POST", header) {
			t.Errorf("header %s is not allowed", header)
		}
	}
	if preflight("TRACE", "content-type") || preflight("POST", "x-other") {
		t.Error("TRACE or an unknown header is allowed")
	}
	h := serve(p, originRequest("POST", "api.example", "Origin: https://app.example"))
	if got := h.Get("Access-Control-Expose-Headers"); got != "X-Request-Id, Retry-After, Mcp-Session-Id" {
		t.Errorf("exposed %q", got)
	}
}

func TestHostPolicy(t *testing.T) {
	configured := []string{"api.example", "Admin.Example:8443", "10.0.0.1", "[::1]", "2001:db8::1", "dot.example."}
	tests := []struct {
		host string
		want bool
	}{
		{"api.example", true},
		{"api.example:443", true},
		{"api.example:1", true},
		{"API.EXAMPLE", true},
		{"api.example.", true},
		{"api.example.:80", true},
		{"api.example..", false},
		{"admin.example:8443", true},
		{"admin.example", false},
		{"admin.example:443", false},
		{"10.0.0.1:4000", true},
		{"10.0.0.2", false},
		{"[::1]", true},
		{"[::1]:4000", true},
		{"[0:0::1]", true},
		{"::1", false},
		{"[2001:db8::1]:80", true},
		{"[2001:db8::2]:80", false},
		{"[::1", false},
		{"[::1%25lo]", false},
		{"dot.example", true},
		{"evil.example", false},
		{"api.example.evil.example", false},
		{"evilapi.example", false},
		{"api.example:", false},
		{"api.example:x", false},
		{"api.example:99999", false},
		{"api.example@evil.example", false},
		{"api.example/", false},
		{"", false},
		{".", false},
	}
	p := newHostPolicy(configured)
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			if got := p.allow(originRequest("GET", tt.host)); got != tt.want {
				t.Errorf("allowed %v, want %v", got, tt.want)
			}
			if !newHostPolicy(nil).allow(originRequest("GET", tt.host)) {
				t.Error("refused though no host is configured")
			}
		})
	}
	t.Run("only bad entries", func(t *testing.T) {
		if newHostPolicy([]string{"http://api.example"}).allow(originRequest("GET", "api.example")) {
			t.Error("allowed")
		}
	})
}

func TestClient(t *testing.T) {
	trusted := newProxies([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")})
	tests := []struct {
		name, peer string
		forwarded  []string
		want       string // "" for the zero Addr
	}{
		{"no header", "203.0.113.1:5", nil, "203.0.113.1"},
		{"IPv6 peer", "[2001:db8::1]:5", nil, "2001:db8::1"},
		{"IPv4-mapped peer", "[::ffff:203.0.113.1]:5", nil, "203.0.113.1"},
		{"zone is dropped", "[fe80::1%eth0]:5", nil, "fe80::1"},
		{"stranger's header is ignored", "203.0.113.1:5", []string{"198.51.100.7"}, "203.0.113.1"},
		{"trusted peer, no header", "10.0.0.1:5", nil, "10.0.0.1"},
		{"trusted peer", "10.0.0.1:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"mapped trusted peer", "[::ffff:10.0.0.1]:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"spoofed first entries", "10.0.0.1:5", []string{"1.1.1.1, 2.2.2.2, 198.51.100.7"}, "198.51.100.7"},
		{"chain of proxies", "10.0.0.1:5", []string{"1.1.1.1, 198.51.100.7, 10.0.0.3,10.0.0.2"}, "198.51.100.7"},
		{"spoofed trusted address", "10.0.0.1:5", []string{"10.9.9.9, 198.51.100.7, 10.0.0.2"}, "198.51.100.7"},
		{"several headers", "10.0.0.1:5", []string{"1.1.1.1", "198.51.100.7", "10.0.0.2"}, "198.51.100.7"},
		{"all trusted", "10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"garbage stops", "10.0.0.1:5", []string{"198.51.100.7, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"only garbage", "10.0.0.1:5", []string{"unknown"}, "10.0.0.1"},
		{"empty header", "10.0.0.1:5", []string{""}, "10.0.0.1"},
		{"empty entry stops", "10.0.0.1:5", []string{"198.51.100.7,,10.0.0.2"}, "10.0.0.2"},
		{"entry with a port", "10.0.0.1:5", []string{"198.51.100.7:1234"}, "198.51.100.7"},
		{"IPv6 entry", "[fd00::1]:5", []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv6 entry with a port", "[fd00::1]:5", []string{"[2001:db8::7]:99"}, "2001:db8::7"},
		{"mapped entry", "10.0.0.1:5", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		{"mapped trusted entry", "10.0.0.1:5", []string{"198.51.100.7, ::ffff:10.0.0.2"}, "198.51.100.7"},
		{"Unix socket", "@", []string{"198.51.100.7"}, ""},
		{"pipe", "pipe", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := originRequest("GET", "api.example")
			r.RemoteAddr = tt.peer
			r.Header["X-Forwarded-For"] = tt.forwarded
			var want netip.Addr
			if tt.want != "" {
				want = netip.MustParseAddr(tt.want)
			}
			if got := trusted.client(r); got != want {
				t.Errorf("client = %v, want %v", got, want)
			}
			if tt.forwarded != nil {
				peer, _ := parsePeer(tt.peer)
				if got := newProxies(nil).client(r); got != peer {
					t.Errorf("without trusted proxies: client = %v, want %v", got, peer)
				}
			}
		})
	}
}

func TestScheme(t *testing.T) {
	trusted := newProxies([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
	tests := []struct {
		name, peer string
		proto      []string
		want       string
	}{
		{"plain", "203.0.113.1:5", nil, "http"},
		{"stranger's header", "203.0.113.1:5", []string{"https"}, "http"},
		{"trusted, none", "10.0.0.1:5", nil, "http"},
		{"trusted, https", "10.0.0.1:5", []string{"https"}, "https"},
		{"trusted, HTTPS", "10.0.0.1:5", []string{" HTTPS "}, "https"},
		{"trusted, wss", "10.0.0.1:5", []string{"wss"}, "https"},
		{"trusted, http", "10.0.0.1:5", []string{"http"}, "http"},
		{"rightmost counts", "10.0.0.1:5", []string{"https, http"}, "http"},
		{"last header counts", "10.0.0.1:5", []string{"http", "http,https"}, "https"},
		{"garbage", "10.0.0.1:5", []string{"httpsx"}, "http"},
		{"Unix socket", "@", []string{"https"}, "http"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := originRequest("GET", "api.example")
			r.RemoteAddr = tt.peer
			r.Header["X-Forwarded-Proto"] = slices.Clone(tt.proto)
			if got := trusted.scheme(r); got != tt.want {
				t.Errorf("scheme = %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("TLS", func(t *testing.T) {
		if got := trusted.scheme(httptest.NewRequest("GET", "https://api.example/", nil)); got != "https" {
			t.Errorf("scheme = %q", got)
		}
	})
}
