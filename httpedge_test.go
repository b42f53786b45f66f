package mooncore_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
)

// Who may call and connect from where, through the real server.
func TestHostAndOriginMatrix(t *testing.T) {
	srv := serve(t, mooncore.Config{
		Hosts: []string{"app.example"}, Origins: []string{"https://front.example"}, Routers: catalogue(returning("whoami", whoami)),
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	for _, test := range []struct {
		name     string
		header   []string
		call     int // status over HTTP
		upgrade  int
		getsCORS bool
	}{
		{name: "no browser", header: nil, call: 200, upgrade: 101},
		{name: "no browser, with a cookie", header: []string{"Cookie", "session=1"}, call: 200, upgrade: 403},
		{name: "own origin", header: []string{"Origin", "http://app.example"}, call: 200, upgrade: 101},
		{name: "own origin, with a cookie", header: []string{"Origin", "http://app.example", "Cookie", "a=b"}, call: 200, upgrade: 101},
		{name: "own origin, in other letters", header: []string{"Origin", "HTTP://App.Example:80"}, call: 200, upgrade: 101},
		{name: "own host, other scheme", header: []string{"Origin", "https://app.example"}, call: 403, upgrade: 403},
		{name: "own host, other port", header: []string{"Origin", "http://app.example:8080"}, call: 403, upgrade: 403},
		{name: "behind a proxy that ends TLS", header: []string{"Origin", "https://app.example", "X-Forwarded-Proto", "https"}, call: 200, upgrade: 101},
		{name: "behind such a proxy, plain origin", header: []string{"Origin", "http://app.example", "X-Forwarded-Proto", "https"}, call: 403, upgrade: 403},
		{name: "listed origin", header: []string{"Origin", "https://front.example"}, call: 200, upgrade: 101, getsCORS: true},
		{name: "listed origin, cross-site", header: []string{"Origin", "https://front.example", "Sec-Fetch-Site", "cross-site"}, call: 200, upgrade: 101, getsCORS: true},
		{name: "listed host, other scheme", header: []string{"Origin", "http://front.example"}, call: 403, upgrade: 403},
		{name: "below the listed one", header: []string{"Origin", "https://a.front.example"}, call: 403, upgrade: 403},
		{name: "like the listed one", header: []string{"Origin", "https://front.example.evil"}, call: 403, upgrade: 403},
		{name: "null", header: []string{"Origin", "null"}, call: 403, upgrade: 403},
		{name: "empty", header: []string{"Origin", ""}, call: 403, upgrade: 403},
		{name: "two origins", header: []string{"Origin", "http://app.example", "Origin", "http://evil.example"}, call: 403, upgrade: 403},
		{name: "evil", header: []string{"Origin", "https://evil.example"}, call: 403, upgrade: 403},
		{name: "cross-site without origin", header: []string{"Sec-Fetch-Site", "cross-site"}, call: 403, upgrade: 101},
		{name: "same-site is another site's too", header: []string{"Sec-Fetch-Site", "same-site"}, call: 403, upgrade: 101},
		{name: "typed by the user", header: []string{"Sec-Fetch-Site", "none"}, call: 200, upgrade: 101},
		{name: "rebound host", header: []string{"Host", "evil.example"}, call: 403, upgrade: 403},
		{name: "rebound host and origin", header: []string{"Host", "evil.example", "Origin", "http://evil.example"}, call: 403, upgrade: 403},
		{name: "host with any port", header: []string{"Host", "app.example:4000", "Origin", "http://app.example:4000"}, call: 200, upgrade: 101},
		{name: "host with a dot", header: []string{"Host", "app.example."}, call: 200, upgrade: 101},
		{name: "address as host", header: []string{"Host", srv.addr}, call: 403, upgrade: 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := append([]string{"Host", "app.example"}, test.header...)
			resp, body := srv.call("whoami", "{}", header...)
			if resp.StatusCode != test.call {
				t.Errorf("HTTP: %d %s, want %d", resp.StatusCode, body, test.call)
			}
			if got := resp.Header.Get("Access-Control-Allow-Origin"); (got != "") != test.getsCORS || got == "*" {
				t.Errorf("Access-Control-Allow-Origin %q", got)
			}
			if _, resp := dialURL(t, "ws://"+srv.addr+"/ws", srv.client, header...); resp.StatusCode != test.upgrade {
				t.Errorf("upgrade: %d, want %d", resp.StatusCode, test.upgrade)
			}
		})
	}
}

// A form crosses origins without a preflight: the types that forms have don't carry another site's call.
func TestForeignFormsAreRefused(t *testing.T) {
	srv := serve(t, mooncore.Config{Routers: catalogue(returning("whoami", whoami))})
	for _, contentType := range []string{"application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"} {
		resp, body := srv.call("whoami", "a=b", "Content-Type", contentType, "Origin", "https://evil.example")
		if resp.StatusCode != 403 {
			t.Errorf("%s: %d %s", contentType, resp.StatusCode, body)
		}
	}
	if resp, _ := srv.request("GET", "/run/whoami", ""); resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET of what may change state: %s", resp.Status)
	}
}

func TestPreflight(t *testing.T) {
	for _, test := range []struct {
		name    string
		origins []string
		origin  string
		allowed bool
	}{
		{"none listed", nil, "https://front.example", false},
		{"listed", []string{"https://front.example"}, "https://front.example", true},
		{"another", []string{"https://front.example"}, "https://evil.example", false},
		{"null", []string{"https://front.example"}, "null", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := serve(t, mooncore.Config{Origins: test.origins, Routers: catalogue(returning("whoami", whoami))})
			resp, _ := srv.request("OPTIONS", "/run/whoami", "", "Origin", test.origin,
				"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")
			h := resp.Header
			want := map[bool]string{true: test.origin}[test.allowed]
			if h.Get("Access-Control-Allow-Origin") != want || (h.Get("Access-Control-Allow-Methods") == "POST") != test.allowed {
				t.Errorf("%s %v", resp.Status, h)
			}
			if test.allowed && h.Get("Access-Control-Allow-Credentials") != "true" {
				t.Errorf("no credentials: %v", h)
			}
		})
	}
	for _, origin := range []string{"*", "https://*.example", "https://front.example/", "front.example", "null", "wss://front.example"} {
		if _, err := mooncore.New(mooncore.Config{Development: true, Origins: []string{origin}, Routers: catalogue()}); err == nil || !strings.Contains(err.Error(), "Origins[0]") {
			t.Errorf("%s: New returned %v", origin, err)
		}
	}
}

// A client can't choose its address.
func TestClientAddressBehindProxies(t *testing.T) {
	addr := returning("addr", func(ctx context.Context) (string, error) { return mooncore.RequestFrom(ctx).RemoteAddr.String(), nil })
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, test := range []struct {
		name    string
		trusted []netip.Prefix
		header  []string
		want    string
	}{
		{"no proxy is trusted", nil, []string{"X-Forwarded-For", "6.6.6.6"}, "127.0.0.1"},
		{"one proxy", trusted, []string{"X-Forwarded-For", "1.2.3.4"}, "1.2.3.4"},
		{"the client lied", trusted, []string{"X-Forwarded-For", "6.6.6.6, 1.2.3.4"}, "1.2.3.4"},
		{"two proxies", trusted, []string{"X-Forwarded-For", "6.6.6.6, 1.2.3.4, 10.1.1.1"}, "1.2.3.4"},
		{"in two headers", trusted, []string{"X-Forwarded-For", "6.6.6.6, 1.2.3.4", "X-Forwarded-For", "10.1.1.1"}, "1.2.3.4"},
		{"IPv6", trusted, []string{"X-Forwarded-For", "2001:db8::1, fd00::1"}, "2001:db8::1"},
		{"with a port", trusted, []string{"X-Forwarded-For", "[2001:db8::1]:80"}, "2001:db8::1"},
		{"nonsense", trusted, []string{"X-Forwarded-For", "6.6.6.6, unknown"}, "127.0.0.1"},
		{"others' headers", trusted, []string{"X-Real-IP", "6.6.6.6", "Forwarded", "for=6.6.6.6"}, "127.0.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := serve(t, mooncore.Config{TrustedProxies: test.trusted, Routers: catalogue(addr)})
			if _, body := srv.call("addr", "", test.header...); body != `"`+test.want+`"` {
				t.Errorf("HTTP: %s, want %s", body, test.want)
			}
			conn := srv.dial(test.header...)
			if got := conn.ask(`{"action":"addr"}`); got != `["response","`+test.want+`",null]` {
				t.Errorf("WebSocket: %s, want %s", got, test.want)
			}
			if got := srv.Conns()[0].RemoteAddr().String(); got != test.want {
				t.Errorf("Conn: %s, want %s", got, test.want)
			}
		})
	}
}

func TestRequestIDs(t *testing.T) {
	id := returning("id", func(ctx context.Context) (string, error) { return mooncore.RequestFrom(ctx).ID, nil })
	srv := serve(t, mooncore.Config{Routers: catalogue(id)})
	seen := map[string]bool{}
	for _, test := range []struct {
		name string
		id   string
		kept bool
	}{
		{"the client's", "abc-123 ~!", true}, {"128 characters", strings.Repeat("x", 128), true}, {"129", strings.Repeat("x", 129), false},
		{"none", "", false}, {"not ASCII", "é", false}, {"a tab", "a\tb", false},
	} {
		for _, path := range []string{"/run/id", "/run/none"} {
			resp, body := srv.request("POST", path, "{}", "X-Request-Id", test.id)
			got := resp.Header.Get("X-Request-Id")
			if (got == test.id) != test.kept || got == "" {
				t.Errorf("%s: %q", test.name, got)
			}
			if path == "/run/id" && body != fmt.Sprintf("%q", got) {
				t.Errorf("%s: the action saw %s, the header says %s", test.name, body, got)
			}
			if !test.kept && seen[got] {
				t.Errorf("%s: %s came twice", test.name, got)
			}
			seen[got] = true
		}
	}
}

// Responses say what they are, and that nobody keeps them.
func TestHeadersOfResponses(t *testing.T) {
	srv := serve(t, mooncore.Config{Routers: catalogue(returning("whoami", whoami))})
	for _, path := range []string{"/run/whoami", "/run/none", "/ws"} {
		resp, body := srv.request("POST", path, "{}")
		if path == "/ws" {
			continue // no handshake: what it answers is the library's
		}
		h := resp.Header
		if h.Get("Content-Type") != "application/json; charset=utf-8" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" || !json.Valid([]byte(body)) {
			t.Errorf("%s: %v %s", path, h, body)
		}
	}
	if resp, _ := srv.call("whoami", "", "Authorization", "Bearer nonsense"); resp.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("401 with %v", resp.Header)
	}
	if resp, _ := srv.call("whoami", "", "Authorization", "Bearer a", "Authorization", "Bearer b"); resp.StatusCode != 400 {
		t.Errorf("two Authorization headers: %s", resp.Status)
	}
}

// Routes of the program's own: their wildcards stand above the body, the query below it, each as the input's type.
func TestActionHandler(t *testing.T) {
	type input struct {
		ID    int      `json:"id" validate:"required"`
		Name  string   `json:"name"`
		Rest  string   `json:"rest"`
		Limit float64  `json:"limit"`
		All   bool     `json:"all"`
		Tags  []string `json:"tags"`
	}
	show := mooncore.Func(func(_ context.Context, in input) (input, error) { return in, nil })
	cfg := mooncore.Config{Origins: []string{"https://front.example"}, Routers: catalogue(
		mooncore.Action{Name: "change", Allow: mooncore.Public, Handler: show},
		mooncore.Action{Name: "show", Allow: mooncore.Public, Handler: show, ReadOnly: true},
		mooncore.Action{Name: "secret", Allow: mooncore.Authenticated, Handler: show},
	)}
	mux := http.NewServeMux()
	cfg.Handler = mux
	srv := serve(t, cfg)
	mux.Handle("DELETE /v1/tasks/{id}", srv.ActionHandler("change"))
	mux.Handle("/v1/any/{id}/{rest...}", srv.ActionHandler("change"))
	mux.Handle("GET /v1/tasks/{id}", srv.ActionHandler("show"))
	mux.Handle("POST /v1/secrets/{id}", srv.ActionHandler("secret"))
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"a wildcard as number", "DELETE", "/v1/tasks/7", "", 200, `{"id":7,"name":"","rest":"","limit":0,"all":false,"tags":null}`},
		{"above the body", "DELETE", "/v1/tasks/7?id=8&name=q", `{"id":9,"name":"b"}`, 200, `{"id":7,"name":"b","rest":"","limit":0,"all":false,"tags":null}`},
		{"the query typed", "GET", "/v1/tasks/7?limit=1.5&all=true&name=12&tags[]=1&tags[]=x", "", 200,
			`{"id":7,"name":"12","rest":"","limit":1.5,"all":true,"tags":["1","x"]}`},
		{"the rest of a path", "PUT", "/v1/any/1/a/b%2Fc", "", 200, `{"id":1,"name":"","rest":"a/b/c","limit":0,"all":false,"tags":null}`},
		{"no number", "DELETE", "/v1/tasks/x", "", 422, `{"error":"validation_failed","code":"validation_failed","errors":{"id":["must be an integer"]}}`},
		{"GET of what is not read-only", "GET", "/v1/any/1/x", "", 405, `{"error":"Method not allowed","code":"method_not_allowed"}`},
		{"access first", "POST", "/v1/secrets/x", "", 401, `{"error":"Access denied","code":"unauthenticated"}`},
		{"another action in the params is a param", "DELETE", "/v1/tasks/7", `{"action":"secret"}`, 200, `{"id":7,"name":"","rest":"","limit":0,"all":false,"tags":null}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, body := srv.request(test.method, test.path, test.body)
			if resp.StatusCode != test.status || body != test.want {
				t.Errorf("got  %d %s\nwant %d %s", resp.StatusCode, body, test.status, test.want)
			}
		})
	}
	if resp, _ := srv.request("OPTIONS", "/v1/any/1/x", "", "Origin", "https://front.example", "Access-Control-Request-Method", "DELETE"); resp.Header.Get("Access-Control-Allow-Methods") != "DELETE" {
		t.Errorf("preflight: %s %v", resp.Status, resp.Header)
	}
	defer func() {
		if recover() == nil {
			t.Error("ActionHandler of an unknown action did not panic")
		}
	}()
	srv.ActionHandler("none")
}

// The server below a prefix of another one, and another one's routes below the server.
func TestMounting(t *testing.T) {
	srv, err := mooncore.New(mooncore.Config{Development: true, Hosts: []string{"127.0.0.1"}, Routers: catalogue(returning("whoami", whoami)),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "own ", r.URL.Path) })})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown(context.Background())
	mux := http.NewServeMux()
	mux.Handle("/api/", http.StripPrefix("/api", srv))
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, test := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"POST", "/api/run/whoami", 200, `"@"`}, {"GET", "/api/livez", 200, "ok"}, {"GET", "/api/other", 200, "own /other"},
		{"GET", "/api/runner", 200, "own /runner"}, {"POST", "/run/whoami", 404, "404 page not found\n"},
	} {
		if resp, body := request(t, server.Client(), test.method, server.URL+test.path, ""); resp.StatusCode != test.status || body != test.body {
			t.Errorf("%s: %d %q", test.path, resp.StatusCode, body)
		}
	}
	if resp, body := request(t, server.Client(), "GET", server.URL+"/api/other", "", "Host", "evil.example"); resp.StatusCode != 403 || strings.Contains(body, "own") {
		t.Errorf("Config.Handler under another host: %d %s", resp.StatusCode, body)
	}
	conn, _ := dialURL(t, "ws"+strings.TrimPrefix(server.URL, "http")+"/api/ws", server.Client())
	if got := conn.ask(`{"action":"whoami"}`); got != `["response","@",null]` {
		t.Error(got)
	}
	conn.send("quit")
	conn.expectClose(1000)
}

// What is for operators stands on a listener of its own, and only there.
func TestInnerListener(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inner := free.Addr().String()
	free.Close()
	srv := serve(t, mooncore.Config{Inner: inner, Routers: catalogue(returning("whoami", whoami)), Extensions: []mooncore.Extension{
		func(srv *mooncore.Server) error {
			srv.HandleInner("/metrics", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "metrics") }))
			return nil
		},
	}})
	eventually(t, "the inner listener is open", func() bool {
		conn, err := net.Dial("tcp", inner)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	for path, want := range map[string][2]int{ // inside, outside
		"/livez": {200, 200}, "/readyz": {200, 200}, "/health": {200, 200}, "/debug/pprof/": {200, 404}, "/debug/pprof/goroutine": {200, 404},
		"/debug/pprof/cmdline": {200, 404}, "/metrics": {200, 404}, "/run/whoami": {404, 405},
	} {
		for i, addr := range []string{inner, srv.addr} {
			if resp, body := request(t, srv.client, "GET", "http://"+addr+path, ""); resp.StatusCode != want[i] {
				t.Errorf("%s on listener %d: %d %.100s", path, i, resp.StatusCode, body)
			}
		}
	}
}

func TestTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	srv := serve(t, mooncore.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}, Routers: catalogue(returning("whoami", whoami))})
	srv.scheme = "https"
	srv.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool}
	srv.client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	resp, body := srv.call("whoami", "{}", "Origin", "https://"+srv.addr)
	if resp.StatusCode != 200 || resp.ProtoMajor != 1 {
		t.Errorf("https: %s %s %s", resp.Proto, resp.Status, body)
	}
	if resp, _ := srv.call("whoami", "{}", "Origin", "http://"+srv.addr); resp.StatusCode != 403 {
		t.Errorf("a page that was not encrypted: %s", resp.Status)
	}
	conn := srv.dial("Origin", "https://"+srv.addr)
	if got := conn.ask(`{"action":"whoami"}`); got != `["response","@",null]` {
		t.Error(got)
	}
	big := `{"action":"whoami","x":"` + strings.Repeat("x", 100<<10) + `"}` // several TLS records
	if got := conn.ask(big); got != `["response","@",null]` {
		t.Error(got)
	}
	conn.send("quit")
	conn.expectClose(1000)
}

// selfSigned returns a certificate for loopback, and who trusts it.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
