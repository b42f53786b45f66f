package devtools_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/devtools"
	"github.com/mooncore/mooncore/internal/freeport"
)

// Of flag, variable and environment, one combination opens a listener.
func TestGates(t *testing.T) {
	for _, flag := range []bool{false, true} {
		for _, variable := range []string{"", "true", "TRUE", "1", "yes", "false", " true"} {
			for _, development := range []bool{false, true} {
				t.Run(fmt.Sprintf("flag=%v variable=%q development=%v", flag, variable, development), func(t *testing.T) {
					t.Setenv("MOONCORE_DEV_TOOLS", variable)
					log := &logText{}
					addr := freeport.Addr(t)
					cfg := shop(devtools.Extension(devtools.Config{Addr: addr}))
					cfg.DevTools, cfg.Development, cfg.Logger = flag, development, slog.New(slog.NewTextHandler(log, nil))
					cfg.JWT.Secret, cfg.SecretKeyBase = mooncore.Secret(rand.Text()+rand.Text()), mooncore.Secret(rand.Text()+rand.Text())
					cfg.DrainDelay, cfg.Hosts, cfg.Origins = -1, []string{"shop.example"}, []string{"https://shop.example"}
					srv, err := mooncore.New(cfg)
					if refused := flag && !development; (err != nil) != refused {
						t.Fatalf("New: %v, want an error: %v", err, refused)
					}
					if err != nil {
						if !strings.Contains(err.Error(), "DevTools") {
							t.Errorf("the error names no DevTools: %v", err)
						}
						return
					}
					defer srv.Shutdown(context.Background())
					open := flag && development && variable == "true"
					conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
					if (err == nil) != open {
						t.Errorf("dial: %v, want a listener: %v", err, open)
					}
					if err == nil {
						conn.Close()
					}
					if warned := strings.Contains(log.String(), `level=WARN msg="developer tools are off: MOONCORE_DEV_TOOLS turns them on`); warned != (variable != "" && variable != "true") {
						t.Errorf("warned: %v\n%s", warned, log)
					}
					if n := len(srv.Config().Observers); (n == 1) != open {
						t.Errorf("%d observers", n)
					}
				})
			}
		}
	}
}

// Behind the gates: peer, Host, Origin, Sec-Fetch-Site and credential. Exactly the cells where all five are good answer.
func TestRequestMatrix(t *testing.T) {
	d := start(t, mooncore.Config{}, devtools.Config{
		Peers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16")}, Hosts: []string{"dev.example.test"},
	}).login()
	good := d.cookie
	other := *good
	other.Value = strings.Repeat("A", len(good.Value))
	expired := *good
	expired.Value = good.Value[:len(good.Value)-4] + "AAAA"
	peers := map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::ffff:127.0.0.1]:1": true, "10.1.2.3:9": true,
		"10.2.0.1:1": false, "[::1]:1": false, "192.168.1.1:1": false, "8.8.8.8:1": false, "garbage": false, "": false,
	}
	hosts := map[string]bool{
		"localhost": true, "localhost:9": true, "LOCALHOST:4040": true, "127.0.0.1:4040": true, "[::1]:4040": true, "dev.example.test:80": true,
		"DEV.example.test": true, "192.0.2.7:4040": true, // that is the address that was connected to
		"evil.example": false, "localhost.evil.example": false, "127.0.0.1.evil.example:4040": false, "192.0.2.8": false, "": false,
		"dev.example.test.evil": false, "evil.example/localhost": false, "localhost@evil.example": false, "0.0.0.0:4040": false,
	}
	origins := map[string]func(host string) (string, bool){
		"none":   func(string) (string, bool) { return "", true },
		"same":   func(host string) (string, bool) { return "http://" + host, true },
		"https":  func(host string) (string, bool) { return "https://" + host, false },
		"null":   func(string) (string, bool) { return "null", false },
		"other":  func(string) (string, bool) { return "http://evil.example", false },
		"prefix": func(host string) (string, bool) { return "http://" + host + ".evil.example", false },
	}
	sites := map[string]bool{"": true, "same-origin": true, "none": true, "same-site": false, "cross-site": false, "nonsense": false}
	cookies := map[string]*http.Cookie{"none": nil, "good": good, "made up": &other, "changed": &expired}
	ok := 0
	for peer, peerOK := range peers {
		for host, hostOK := range hosts {
			for originName, originOf := range origins {
				for site, siteOK := range sites {
					for cookieName, cookie := range cookies {
						origin, originOK := originOf(host)
						d.cookie = cookie
						r := d.request("GET", "/api/session", "")
						r.RemoteAddr, r.Host = peer, host
						local := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4040}
						r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
						for name, value := range map[string]string{
							"Origin": origin, "Sec-Fetch-Site": site, // and what must change nothing:
							"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost", "X-Real-Ip": "127.0.0.1", "Forwarded": "for=127.0.0.1;host=localhost",
						} {
							if value != "" {
								r.Header.Set(name, value)
							}
						}
						want := http.StatusOK
						switch {
						case !peerOK || !hostOK || !originOK || !siteOK:
							want = http.StatusForbidden
						case cookie != good:
							want = http.StatusUnauthorized
						default:
							ok++
						}
						if w := d.send(r); w.Code != want {
							t.Errorf("peer %q, host %q, origin %s, site %q, cookie %s: %d, want %d", peer, host, originName, site, cookieName, w.Code, want)
						}
					}
				}
			}
		}
	}
	if want := 4 * 8 * 2 * 3; ok != want {
		t.Errorf("%d cells answered, want %d", ok, want)
	}
}

// Every route but the page and the login takes a session, and every change its CSRF token.
func TestEveryRouteTakesALogin(t *testing.T) {
	d := start(t, mooncore.Config{}, devtools.Config{})
	routes := []string{
		"GET session", "GET info", "GET metrics", "GET settings", "GET cluster", "GET actions", "POST run", "GET log", "DELETE log", "GET log/1",
		"POST log/1/replay", "GET conns", "GET conns/x", "GET conns/x/frames", "POST conns/x/send", "POST conns/x/kick", "POST conns/x/join",
		"POST conns/x/leave", "POST publish", "GET runtime/goroutines", "GET runtime/memory", "POST runtime/gc", "GET runtime/profile/heap",
		"POST tools/token", "POST tools/token/inspect", "GET console", "POST console", "GET guides", "GET guides/a.md", "GET pages",
		"GET pages/x", "POST pages/x/buttons/1", "GET doctor", "GET stream",
	}
	for _, route := range routes {
		method, path, _ := strings.Cut(route, " ")
		d.ask(method, "/api/"+path, "", http.StatusUnauthorized, nil)
	}
	d.ask("POST", "/logout", "{}", http.StatusUnauthorized, nil)
	d.login()
	csrf := d.csrf
	for _, bad := range []string{"", "x", csrf + "x", strings.Repeat("A", len(csrf))} {
		d.csrf = bad
		for _, route := range routes {
			if method, path, _ := strings.Cut(route, " "); method != "GET" {
				d.ask(method, "/api/"+path, "{}", http.StatusForbidden, nil)
			}
		}
		d.ask("POST", "/logout", "{}", http.StatusForbidden, nil)
	}
	d.csrf = csrf
	r := d.request("POST", "/api/console", `{"expr":"1"}`)
	r.Header.Set("Content-Type", "text/plain") // what a form of another site can send
	if w := d.send(r); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: %d", w.Code)
	}
	d.ask("GET", "/api/nothing", "", http.StatusNotFound, nil)
}

func TestPageNeedsNoLogin(t *testing.T) {
	d := start(t, mooncore.Config{}, devtools.Config{})
	r := d.request("GET", "/", "")
	r.Header.Set("Sec-Fetch-Site", "cross-site") // a link in a chat
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	w := d.send(r)
	if w.Code != 200 || !strings.Contains(w.Body.String(), "<!doctype html>") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	policy := w.Header().Get("Content-Security-Policy")
	if strings.Contains(policy, "unsafe") || !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("policy %q", policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	r.URL.Path = "/login"
	if w := d.send(r); w.Code != http.StatusForbidden {
		t.Errorf("another site leads to /login: %d", w.Code)
	}
}

func TestLoginWithSecret(t *testing.T) {
	d := start(t, mooncore.Config{}, devtools.Config{}).login()
	c := d.cookie
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Domain != "" || c.Path != "/" || c.Secure {
		t.Errorf("cookie %+v", c)
	}
	if strings.Contains(d.log.String(), testSecret) || strings.Contains(d.log.String(), "token=") {
		t.Errorf("the log tells the secret, or a link:\n%s", d.log)
	}
	if w := d.send(d.request("GET", "/login?token="+url.QueryEscape(testSecret), "")); w.Header().Get("Location") != "./?login=expired" || len(w.Result().Cookies()) > 0 {
		t.Errorf("the secret works in a URL: %d to %q", w.Code, w.Header().Get("Location"))
	}
	d.ask("POST", "/logout", "{}", http.StatusNoContent, nil)
	d.ask("GET", "/api/session", "", http.StatusUnauthorized, nil) // though the browser kept the cookie
}

// With a secret, a login outlives the process; without, it does not.
func TestLoginSurvivesARestart(t *testing.T) {
	before := start(t, mooncore.Config{}, devtools.Config{}).login()
	after := start(t, mooncore.Config{}, devtools.Config{})
	after.cookie = before.cookie
	after.get("/api/session", nil)
	t.Setenv("MOONCORE_DEV_SECRET", testSecret+"x")
	changed := startHere(t, mooncore.Config{}, devtools.Config{})
	changed.cookie = before.cookie
	changed.ask("GET", "/api/session", "", http.StatusUnauthorized, nil)
}

func TestLoginEnds(t *testing.T) {
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	t.Setenv("MOONCORE_DEV_SECRET", testSecret)
	synctest.Test(t, func(t *testing.T) {
		d := startHere(t, mooncore.Config{}, devtools.Config{}).login()
		time.Sleep(12*time.Hour - time.Second)
		d.get("/api/session", nil)
		time.Sleep(time.Second)
		d.ask("GET", "/api/session", "", http.StatusUnauthorized, nil)
	})
}

// Without a secret, a link that works once is the way in.
func TestLoginLink(t *testing.T) {
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	t.Setenv("MOONCORE_DEV_SECRET", "")
	synctest.Test(t, func(t *testing.T) {
		d := startHere(t, mooncore.Config{}, devtools.Config{})
		synctest.Wait()
		link := func() string {
			_, after, ok := strings.Cut(d.log.String()[strings.LastIndex(d.log.String(), "open once"):], "login?token=")
			if !ok {
				t.Fatalf("no link in the log:\n%s", d.log)
			}
			return strings.TrimRight(strings.Fields(after)[0], `"`)
		}
		var hint struct{ Login string }
		d.ask("GET", "/api/session", "", http.StatusUnauthorized, &hint)
		if hint.Login != "link" {
			t.Errorf("hint %q", hint.Login)
		}
		first := link()
		follow := func(token, location string) *httptest.ResponseRecorder {
			t.Helper()
			w := d.send(d.request("GET", "/login?token="+token, ""))
			if w.Code != http.StatusSeeOther || w.Header().Get("Location") != location {
				t.Fatalf("%d to %q, want %q", w.Code, w.Header().Get("Location"), location)
			}
			return w
		}
		d.cookie = follow(first, "./").Result().Cookies()[0]
		d.get("/api/session", nil)
		if cookies := follow(first, "./?login=expired").Result().Cookies(); len(cookies) > 0 {
			t.Error("the link works twice")
		}
		if second := link(); second == first {
			t.Error("no other link for another browser")
		} else {
			d.ask("POST", "/login", `{"secret":"`+second+`"}`, http.StatusNoContent, nil)
		}
		follow("", "./?login=expired")
	})
}

// Five wrong secrets a minute, then even the right one waits. Those who are logged in notice nothing.
func TestGuessingIsSlow(t *testing.T) {
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	t.Setenv("MOONCORE_DEV_SECRET", testSecret)
	synctest.Test(t, func(t *testing.T) {
		d := startHere(t, mooncore.Config{}, devtools.Config{}).login()
		guess := func(secret string, want int) *httptest.ResponseRecorder {
			t.Helper()
			w := d.send(d.request("POST", "/login", `{"secret":"`+secret+`"}`))
			if w.Code != want {
				t.Fatalf("%q: %d, want %d", secret, w.Code, want)
			}
			return w
		}
		for i, wrong := range []string{"", "x", testSecret[1:], testSecret + "x", strings.ToUpper(testSecret)} {
			if i > 0 {
				time.Sleep(10 * time.Second)
			}
			guess(wrong, http.StatusUnauthorized)
		}
		for range 1000 {
			if retry := guess("x", http.StatusTooManyRequests).Header().Get("Retry-After"); retry != "20" {
				t.Fatalf("Retry-After %q, want 20", retry)
			}
		}
		guess(testSecret, http.StatusTooManyRequests)
		d.get("/api/session", nil)
		time.Sleep(20 * time.Second)
		guess(testSecret, http.StatusNoContent)
	})
}

func TestBeyondLoopbackTakesASecret(t *testing.T) {
	anywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	for _, test := range []struct {
		name, secret string
		cfg          devtools.Config
		want         string // in the error; empty for none
	}{
		{"loopback", "", devtools.Config{Addr: "127.0.0.1:0"}, ""},
		{"localhost", "", devtools.Config{Addr: "localhost:0"}, ""},
		{"loopback, IPv6", "", devtools.Config{Addr: "[::1]:0"}, ""},
		{"a short secret will do on loopback", "short", devtools.Config{Addr: "127.0.0.1:0"}, ""},
		{"all addresses", "", devtools.Config{Addr: "0.0.0.0:0"}, "it is not set"},
		{"no host", "", devtools.Config{Addr: ":0"}, "it is not set"},
		{"31 characters", testSecret[:31], devtools.Config{Addr: "0.0.0.0:0"}, "it has 31"},
		{"32 characters", testSecret[:32], devtools.Config{Addr: "0.0.0.0:0"}, ""},
		{"a name", "", devtools.Config{Addr: "dev.example.test:0"}, "it is not set"},
		{"peers beyond loopback", "", devtools.Config{Addr: "127.0.0.1:0", Peers: anywhere}, "it is not set"},
		{"a bad prefix", "", devtools.Config{Addr: "127.0.0.1:0", Peers: make([]netip.Prefix, 1)}, "Peers[0]"},
		{"no port", "", devtools.Config{Addr: "127.0.0.1"}, "not host:port"},
		{"a bad port", "", devtools.Config{Addr: "127.0.0.1:99999"}, "no valid port"},
		{"a small log", "", devtools.Config{Addr: "127.0.0.1:0", LogBytes: 1}, "LogBytes"},
		{"no directory", "", devtools.Config{Addr: "127.0.0.1:0", Guides: "does/not/exist"}, "Guides"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("MOONCORE_DEV_TOOLS", "true")
			t.Setenv("MOONCORE_DEV_SECRET", test.secret)
			srv, err := mooncore.New(shop(devtools.Extension(test.cfg)))
			if err == nil {
				defer srv.Shutdown(context.Background())
			}
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err != nil && test.secret != "" && strings.Contains(err.Error(), test.secret) {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func TestAddressInUse(t *testing.T) {
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	_, err = mooncore.New(shop(devtools.Extension(devtools.Config{Addr: addr})))
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "devtools") {
		t.Errorf("got %v", err)
	}
}

// What an Extension opened is closed when another one fails, and when the server stops.
func TestListenerIsClosed(t *testing.T) {
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	addr := freeport.Addr(t)
	_, err := mooncore.New(shop(devtools.Extension(devtools.Config{Addr: addr}), func(*mooncore.Server) error { return errors.New("no luck") }))
	if err == nil {
		t.Fatal("New succeeded")
	}
	srv, err := mooncore.New(shop(devtools.Extension(devtools.Config{Addr: addr})))
	if err != nil {
		t.Fatalf("the address is still taken: %v", err)
	}
	resp, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("tcp", addr); err != nil {
		t.Errorf("after Shutdown: %v", err)
	} else {
		l.Close()
	}
}
