package devtools

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/mooncore/mooncore"
)

// dist is the dashboard, built from ui by "npm ci && npm run build" there.
//
//go:embed dist
var dist embed.FS

// policy lets the page load its own files and nothing else, and talk to nobody else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// ServeHTTP checks where a request comes from before anything else of it is looked at.
func (t *tools) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	extendWrite(w, answerTime)
	if t.url == "" { // the connection is another server's, which may have no deadlines
		defer func() { _ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) }()
	}
	if err := t.guard.check(r); err != nil {
		t.log.Warn("developer tools: refused", "why", err.(*mooncore.Error).Message, "peer", r.RemoteAddr, "host", clip(r.Host), //nolint:errorlint // check returns nothing else
			"origin", clip(r.Header.Get("Origin")))
		writeError(w, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(t.agents.stopping, cancel)() // another server does not end it with the program
	t.mux.ServeHTTP(w, r.WithContext(ctx))
}

// extendWrite bounds the time until an answer must be written. Not every ResponseWriter can.
func extendWrite(w http.ResponseWriter, d time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d))
}

// routes are those of the dashboard. What stands under api/ takes a login.
func (t *tools) routes() http.Handler {
	mux := http.NewServeMux()
	files, _ := fs.Sub(dist, "dist")
	entries, _ := fs.ReadDir(files, ".")
	for _, entry := range entries {
		content, err := fs.ReadFile(files, entry.Name())
		if err != nil {
			continue
		}
		pattern := "/" + entry.Name()
		if entry.Name() == "index.html" {
			pattern = "/{$}"
		}
		mux.Handle("GET "+pattern, staticFile(entry.Name(), content))
	}
	mux.HandleFunc("POST /login", t.serveLogin)
	mux.HandleFunc("GET /login", t.serveLink)
	mux.HandleFunc("POST /logout", t.serveLogout)
	mux.HandleFunc("/mcp", t.serveMCP)
	for pattern, fn := range map[string]endpoint{
		"GET /api/session":                        t.getSession,
		"GET /api/info":                           t.getInfo,
		"GET /api/metrics":                        t.getMetrics,
		"GET /api/settings":                       t.getSettings,
		"GET /api/cluster":                        t.getCluster,
		"GET /api/actions":                        t.getActions,
		"POST /api/run":                           t.postRun,
		"GET /api/log":                            t.getLog,
		"DELETE /api/log":                         t.deleteLog,
		"GET /api/log/{id}":                       t.getLogEntry,
		"POST /api/log/{id}/replay":               t.postReplay,
		"GET /api/conns":                          t.getConns,
		"GET /api/conns/{id}":                     t.getConn,
		"GET /api/conns/{id}/frames":              t.getFrames,
		"POST /api/conns/{id}/send":               t.postSend,
		"POST /api/conns/{id}/kick":               t.postKick,
		"POST /api/conns/{id}/join":               t.postJoin,
		"POST /api/conns/{id}/leave":              t.postLeave,
		"POST /api/publish":                       t.postPublish,
		"GET /api/runtime/goroutines":             t.getGoroutines,
		"GET /api/runtime/memory":                 t.getMemory,
		"POST /api/runtime/gc":                    t.postGC,
		"POST /api/tools/token":                   t.postToken,
		"POST /api/tools/token/inspect":           t.postInspect,
		"GET /api/console":                        t.getConsole,
		"POST /api/console":                       t.postConsole,
		"GET /api/guides":                         t.getGuides,
		"GET /api/pages":                          t.getPages,
		"GET /api/pages/{name}":                   t.getPage,
		"POST /api/pages/{name}/buttons/{button}": t.postButton,
		"GET /api/doctor":                         t.getDoctor,
	} {
		mux.HandleFunc(pattern, t.authenticated(func(w http.ResponseWriter, r *http.Request, _ session) {
			answer(w, r, fn)
		}))
	}
	mux.HandleFunc("GET /api/stream", t.authenticated(t.serveStream))
	mux.HandleFunc("GET /api/runtime/profile/{name}", t.authenticated(t.serveProfile))
	mux.HandleFunc("GET /api/guides/{path...}", t.authenticated(t.serveGuide))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, mooncore.Errorf(mooncore.CodeNotFound, "Nothing is here"))
	})
	return mux
}

// An endpoint answers a request with a value, as JSON, or with nothing.
type endpoint func(r *http.Request) (any, error)

// authenticated serves requests of a session. Those that change something carry its CSRF token.
func (t *tools) authenticated(h func(w http.ResponseWriter, r *http.Request, s session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, ok := t.auth.session(r)
		switch {
		case !ok:
			writeJSON(w, http.StatusUnauthorized, map[string]string{"error": errLogin.Message, "code": string(errLogin.Code), "login": t.loginHint()})
		case r.Method != http.MethodGet && r.Method != http.MethodHead && !s.checkCSRF(r):
			writeError(w, errCSRF)
		default:
			h(w, r, s)
		}
	}
}

func (t *tools) loginHint() string {
	if t.auth.secret == nil {
		return "link"
	}
	return "secret"
}

func answer(w http.ResponseWriter, r *http.Request, fn endpoint) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	out, err := fn(r)
	switch {
	case err != nil:
		writeError(w, err)
	case out == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		writeJSON(w, http.StatusOK, out)
	}
}

// readBody reads a JSON object. Another site's form cannot send that type.
func readBody[T any](r *http.Request) (T, error) {
	var in T
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return in, mooncore.Errorf(mooncore.CodeUnsupportedMediaType, "The body must be application/json")
	}
	dec := json.NewDecoder(r.Body)
	err := dec.Decode(&in)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something stands behind the object")
		}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return in, mooncore.Errorf(mooncore.CodeTooLarge, "The body has more than %d bytes", maxBody)
	}
	if err != nil {
		return in, mooncore.Errorf(mooncore.CodeInvalidArgument, "The body: %v", err)
	}
	return in, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		status = http.StatusInternalServerError
		b.Reset()
		b.WriteString(`{"error":"The answer has no JSON","code":"internal"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

func writeError(w http.ResponseWriter, err error) {
	if wait, ok := errors.AsType[*tooManyTries](err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.wait.Seconds()))))
		err = &mooncore.Error{Code: mooncore.CodeRateLimited, Message: wait.Error()}
	}
	body, status := errorBody(err)
	writeJSON(w, status, json.RawMessage(body))
}

// staticFile serves a file of the dashboard, which is the same for everybody.
func staticFile(name string, content []byte) http.Handler {
	sum := sha256.Sum256(content)
	tag := `"` + encode(sum[:12]) + `"`
	contentType := mime.TypeByExtension(path.Ext(name))
	if strings.HasSuffix(name, ".txt") {
		contentType = "text/plain; charset=utf-8"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("ETag", tag)
		h.Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	})
}

// serveLogin takes the secret.
func (t *tools) serveLogin(w http.ResponseWriter, r *http.Request) {
	answer(w, r, func(r *http.Request) (any, error) {
		in, err := readBody[struct {
			Secret string `json:"secret"`
		}](r)
		if err != nil {
			return nil, err
		}
		if err := t.auth.login(in.Secret); err != nil {
			t.log.Warn("developer tools: login failed", "peer", r.RemoteAddr, "why", err)
			return nil, err
		}
		t.auth.start(w)
		t.log.Info("developer tools: login", "peer", r.RemoteAddr)
		return nil, nil
	})
}

// serveLink takes the token of the one-time link. Locations are relative: the handler may be mounted below a prefix.
func (t *tools) serveLink(w http.ResponseWriter, r *http.Request) {
	location := "./"
	if err := t.auth.follow(r.URL.Query().Get("token")); err != nil {
		t.log.Warn("developer tools: login failed", "peer", r.RemoteAddr, "why", err)
		location = "./?login=expired"
	} else {
		t.auth.start(w)
		t.log.Info("developer tools: login", "peer", r.RemoteAddr)
	}
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}

func (t *tools) serveLogout(w http.ResponseWriter, r *http.Request) {
	t.authenticated(func(w http.ResponseWriter, _ *http.Request, s session) {
		t.auth.end(w, s)
		w.WriteHeader(http.StatusNoContent)
	})(w, r)
}
