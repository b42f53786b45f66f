package devtools

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/mooncore/mooncore"
)

const (
	// minSecret is the least length of MOONCORE_DEV_SECRET where others than loopback can connect.
	minSecret = 32

	// sessionTime is how long a login lasts.
	sessionTime = 12 * time.Hour

	// maxTries are wrong secrets, of all callers together, within tryWindow. Then none is looked at until the oldest is that old.
	maxTries  = 5
	tryWindow = time.Minute
)

// auth knows who is logged in. A session is a cookie that only this process, or one with the same secret, can have made: so a
// program that is restarted with a secret in its environment asks nobody to log in again. Its methods may be called concurrently.
type auth struct {
	secret []byte // SHA-256 of MOONCORE_DEV_SECRET; nil when a link is the way in
	key    []byte // of the cookies' MACs
	cookie string // its name
	secure bool   // it is sent by HTTPS only
	token  string // what agents send, unless there is a secret

	logins, bearers tries

	mu    sync.Mutex
	link  string               // the token of the one-time link, unless there is a secret
	ended map[string]time.Time // sessions that were logged out, until they would have ended anyway
	onUse func()               // called when the link was used, and another took its place
}

func newAuth(secret string, secure bool, port string) *auth {
	a := &auth{secure: secure, cookie: "mooncore_dev_" + port, ended: map[string]time.Time{}}
	if secure {
		a.cookie = "__Host-mooncore_dev"
	}
	if secret == "" {
		a.key = make([]byte, sha256.Size)
		rand.Read(a.key)
		a.link, a.token = rand.Text(), rand.Text()
		return a
	}
	sum := sha256.Sum256([]byte(secret))
	a.secret = sum[:]
	a.key, _ = hkdf.Key(sha256.New, []byte(secret), nil, "mooncore devtools session", sha256.Size) // no error for this length
	return a
}

// tries counts wrong secrets.
type tries struct {
	mu    sync.Mutex
	wrong [maxTries]time.Time // a ring
	next  int
}

// try asks whether a secret is right, unless too many were wrong. One is asked at a time, so that no two slip through together.
func (t *tries) try(right func() bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if oldest := t.wrong[t.next]; !oldest.IsZero() {
		if wait := tryWindow - now.Sub(oldest); wait > 0 {
			return &tooManyTries{wait}
		}
	}
	if right() {
		return nil
	}
	t.wrong[t.next] = now
	t.next = (t.next + 1) % maxTries
	return errWrong
}

var (
	errLogin = &mooncore.Error{Code: mooncore.CodeUnauthenticated, Message: "Log in"}
	errWrong = &mooncore.Error{Code: mooncore.CodeUnauthenticated, Message: "Wrong secret"}
)

// login checks a secret, or the token of the link, which is used up by it.
func (a *auth) login(given string) error {
	return a.logins.try(func() bool { return a.matches(given) || a.takeLink(given) })
}

// follow checks the token of the link alone: the secret has no place in a URL, which browsers remember.
func (a *auth) follow(token string) error {
	return a.logins.try(func() bool { return a.takeLink(token) })
}

// bearer checks the secret of a client that is no browser: MOONCORE_DEV_SECRET, or the token that was made in its place.
func (a *auth) bearer(r *http.Request) error {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || given == "" {
		return errLogin
	}
	given = strings.TrimSpace(given)
	return a.bearers.try(func() bool { return a.matches(given) || a.secret == nil && sameText(given, a.token) })
}

// tooManyTries is answered with 429.
type tooManyTries struct{ wait time.Duration }

func (e *tooManyTries) Error() string { return "Too many wrong secrets. Wait a minute." }

// matches compares hashes, so that the time tells nothing, not even a length.
func (a *auth) matches(given string) bool {
	sum := sha256.Sum256([]byte(given))
	return a.secret != nil && subtle.ConstantTimeCompare(sum[:], a.secret) == 1
}

func sameText(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

func (a *auth) takeLink(given string) bool {
	a.mu.Lock()
	if a.link == "" || subtle.ConstantTimeCompare([]byte(given), []byte(a.link)) != 1 {
		a.mu.Unlock()
		return false
	}
	a.link = rand.Text()
	a.mu.Unlock()
	if a.onUse != nil {
		a.onUse()
	}
	return true
}

func (a *auth) linkToken() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.link
}

// A session is a login.
type session struct {
	id      string
	csrf    string
	expires time.Time
}

// start sets the cookie of a new session.
func (a *auth) start(w http.ResponseWriter) {
	expires := time.Now().Add(sessionTime)
	id := make([]byte, 16, 24)
	rand.Read(id)
	id = binary.BigEndian.AppendUint64(id, uint64(expires.Unix()))
	http.SetCookie(w, &http.Cookie{
		Name: a.cookie, Value: encode(append(id, a.mac("session", id)...)), Path: "/", Secure: a.secure, HttpOnly: true,
		SameSite: http.SameSiteStrictMode, MaxAge: int(sessionTime / time.Second),
	})
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (a *auth) mac(purpose string, id []byte) []byte {
	h := hmac.New(sha256.New, a.key)
	h.Write([]byte(purpose))
	h.Write(id)
	return h.Sum(nil)
}

// session returns the one that a request belongs to.
func (a *auth) session(r *http.Request) (session, bool) {
	for _, cookie := range r.CookiesNamed(a.cookie) {
		b, err := base64.RawURLEncoding.Strict().DecodeString(cookie.Value)
		if err != nil || len(b) != 24+sha256.Size || !hmac.Equal(b[24:], a.mac("session", b[:24])) {
			continue
		}
		s := session{id: string(b[:24]), csrf: encode(a.mac("csrf", b[:24])), expires: time.Unix(int64(binary.BigEndian.Uint64(b[16:24])), 0)}
		if a.alive(s) {
			return s, true
		}
	}
	return session{}, false
}

// alive reports whether a session is neither over nor logged out.
func (a *auth) alive(s session) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ended := a.ended[s.id]
	return !ended && time.Now().Before(s.expires)
}

// end logs a session out.
func (a *auth) end(w http.ResponseWriter, s session) {
	now := time.Now()
	a.mu.Lock()
	for id, expires := range a.ended {
		if now.After(expires) {
			delete(a.ended, id)
		}
	}
	a.ended[s.id] = s.expires
	a.mu.Unlock()
	http.SetCookie(w, &http.Cookie{
		Name: a.cookie, Path: "/", Secure: a.secure, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: -1,
	})
}

// checkCSRF reports whether a request carries the token that only the page of its session knows.
func (s session) checkCSRF(r *http.Request) bool {
	return subtle.ConstantTimeCompare([]byte(r.Header.Get("X-CSRF-Token")), []byte(s.csrf)) == 1
}

// A guard refuses requests by what a page in a browser, or a peer, cannot choose: before anything else of them is looked at.
type guard struct {
	peers []netip.Prefix // who may connect; nil for all
	hosts []string       // names that the developer tools have, besides those of loopback
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

var (
	errPeer   = &mooncore.Error{Code: mooncore.CodePermissionDenied, Message: "Address not allowed"}
	errHost   = &mooncore.Error{Code: mooncore.CodePermissionDenied, Message: "Host not allowed"}
	errOrigin = &mooncore.Error{Code: mooncore.CodePermissionDenied, Message: "Origin not allowed"}
	errCSRF   = &mooncore.Error{Code: mooncore.CodePermissionDenied, Message: "The header X-CSRF-Token is missing or wrong"}
)

// check returns why a request is refused, or nil.
func (g *guard) check(r *http.Request) error {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !g.allowPeer(peer.Addr().Unmap()) {
		return errPeer
	}
	if !g.allowHost(r) {
		return errHost
	}
	if !allowOrigin(r) {
		return errOrigin
	}
	return nil
}

func (g *guard) allowPeer(peer netip.Addr) bool {
	if g.peers == nil {
		return true
	}
	for _, p := range g.peers {
		if p.Contains(peer.WithZone("")) {
			return true
		}
	}
	return false
}

// allowHost lets in names that no page can have pointed here: those of loopback, the address that was connected to, and what the
// program lists. Any port, since a tunnel may have another.
func (g *guard) allowHost(r *http.Request) bool {
	host := hostname(r.Host)
	if host == "" {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	for _, name := range g.hosts {
		if strings.EqualFold(host, name) {
			return true
		}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if addr = addr.Unmap(); addr.IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	own, err := netip.ParseAddrPort(local.String())
	return err == nil && own.Addr().Unmap().WithZone("") == addr.WithZone("")
}

// hostname is the host of a Host header without its port and brackets, "" if it is none.
func hostname(hostport string) string {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	} else if h, ok := strings.CutPrefix(host, "["); ok {
		host, ok = strings.CutSuffix(h, "]")
		if !ok {
			return ""
		}
	}
	if strings.ContainsAny(host, "/@\\?#, ") {
		return ""
	}
	return strings.TrimSuffix(host, ".")
}

// allowOrigin refuses what another page's script sent. A link from elsewhere may lead to the page itself, which holds nothing.
func allowOrigin(r *http.Request) bool {
	if origins := r.Header["Origin"]; len(origins) > 0 {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		if len(origins) > 1 || !strings.EqualFold(origins[0], scheme+"://"+r.Host) {
			return false
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	}
	return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.URL.Path == "/"
}
