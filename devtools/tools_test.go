package devtools_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/devtools"
)

const testSecret = "a secret for tests that has more than 32 characters"

// A dev is a program in memory with its developer tools, and a browser that may be logged in to them.
type dev struct {
	*mooncore.Server
	t      testing.TB
	h      http.Handler // of the developer tools
	log    *logText
	cookie *http.Cookie
	csrf   string
}

// A logText is what a program logged.
type logText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start makes a program with open gates.
func start(t testing.TB, cfg mooncore.Config, dt devtools.Config) *dev {
	t.Helper()
	t.Setenv("MOONCORE_DEV_TOOLS", "true")
	t.Setenv("MOONCORE_DEV_SECRET", testSecret)
	return startHere(t, cfg, dt)
}

// startHere makes a program, with the gates as the environment has them.
func startHere(t testing.TB, cfg mooncore.Config, dt devtools.Config) *dev {
	t.Helper()
	d := &dev{t: t, log: &logText{}}
	cfg.Development, cfg.DevTools = true, true
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(d.log, nil))
	}
	if cfg.Authenticate == nil && cfg.JWT.PublicKeys == "" {
		cfg.JWT.Secret = testSecret
	}
	if cfg.Routers == nil {
		cfg.Routers = shop().Routers
	}
	cfg.Extensions = append(cfg.Extensions, devtools.Mount(dt, func(h http.Handler) { d.h = h }))
	srv, err := mooncore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.Server = srv
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return d
}

// request is one of a browser on this machine.
func (d *dev) request(method, path, body string) *http.Request {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, reader)
	r.Host, r.RemoteAddr = "localhost:4040", "127.0.0.1:55555"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if d.cookie != nil {
		r.AddCookie(d.cookie)
	}
	if d.csrf != "" && method != http.MethodGet {
		r.Header.Set("X-CSRF-Token", d.csrf)
	}
	return r
}

func (d *dev) send(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	return w
}

// login logs the browser in.
func (d *dev) login() *dev {
	d.t.Helper()
	w := d.send(d.request("POST", "/login", `{"secret":"`+testSecret+`"}`))
	if w.Code != http.StatusNoContent {
		d.t.Fatalf("login: %d %s", w.Code, w.Body)
	}
	d.cookie = w.Result().Cookies()[0]
	var session struct{ CSRF string }
	d.get("/api/session", &session)
	d.csrf = session.CSRF
	return d
}

// ask sends a request and decodes its answer, which must be the status that is wanted.
func (d *dev) ask(method, path, body string, status int, into any) {
	d.t.Helper()
	w := d.send(d.request(method, path, body))
	if w.Code != status {
		d.t.Fatalf("%s %s: %d %s, want %d", method, path, w.Code, w.Body, status)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		d.t.Fatalf("%s %s: %v: %s", method, path, err, w.Body)
	}
}

func (d *dev) get(path string, into any) { d.t.Helper(); d.ask("GET", path, "", 200, into) }

func (d *dev) post(path, body string, into any) { d.t.Helper(); d.ask("POST", path, body, 200, into) }

// A runAnswer is how the developer tools say that a call went.
type runAnswer struct {
	OK        bool
	Code      string
	Status    int
	Result    any
	Error     struct{ Error, Code string }
	LogID     uint64 `json:"log_id"`
	RequestID string `json:"request_id"`
	Events    []any
}

// A logEntry is a call in the log.
type logEntry struct {
	ID                                                        uint64
	App, Action, Source, Via, User, Tenant, Code, Conn, Error string
	RequestID                                                 string  `json:"request_id"`
	Duration                                                  float64 `json:"duration_ms"`
	Params, Result                                            any
	ParamsCut                                                 bool `json:"params_cut"`
	ResultCut                                                 bool `json:"result_cut"`
	Identity                                                  *struct {
		User, Tenant, Scope string
		Roles               []string
	}
	Traceparent string
	RemoteAddr  string `json:"remote_addr"`
	Steps       []struct{ Name, Error string }
	Failure     *struct{ Code, Message, Cause, Stack string }
}

func (d *dev) logged(query string) []logEntry {
	d.t.Helper()
	var page struct{ Entries []logEntry }
	d.get("/api/log"+query, &page)
	return page.Entries
}

// An event is one of the stream.
type event struct {
	name string
	data string
}

// stream opens the stream on a real connection and returns its events.
func (d *dev) stream(topics string) <-chan event {
	d.t.Helper()
	server := httptest.NewServer(d.h)
	d.t.Cleanup(server.Close)
	r, err := http.NewRequestWithContext(d.t.Context(), "GET", server.URL+"/api/stream?topics="+topics, http.NoBody)
	if err != nil {
		d.t.Fatal(err)
	}
	r.AddCookie(d.cookie)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		b, _ := io.ReadAll(resp.Body)
		d.t.Fatalf("stream: %d %s", resp.StatusCode, b)
	}
	events := make(chan event, 1000)
	go func() {
		defer close(events)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		name := ""
		for lines.Scan() {
			if after, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = after
			} else if after, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				events <- event{name, after}
			}
		}
	}()
	return events
}

// wait returns the next event of that name whose data holds a text.
func wait(t testing.TB, events <-chan event, name, text string) event {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("the stream ended before %s with %q", name, text)
			}
			if e.name == name && strings.Contains(e.data, text) {
				return e
			}
		case <-timeout:
			t.Fatalf("no %s with %q in 10 s", name, text)
		}
	}
}
