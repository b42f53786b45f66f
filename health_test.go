package mooncore

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

type checkFunc = func(ctx context.Context) error

// healthTest serves a health whose log it keeps.
type healthTest struct {
	*health
	log *bytes.Buffer
}

func newHealthTest(checks map[string]checkFunc) healthTest {
	var log bytes.Buffer
	return healthTest{newHealth(checks, slog.New(slog.NewTextHandler(&log, nil))), &log}
}

func (h healthTest) get(handler http.HandlerFunc) (status int, body string) {
	w := httptest.NewRecorder()
	handler(w, httptest.NewRequest("GET", "/", nil))
	return w.Code, w.Body.String()
}

func (h healthTest) want(t *testing.T, status int, body string) {
	t.Helper()
	if gotStatus, got := h.get(h.serveReady); gotStatus != status || got != body {
		t.Errorf("ready: %d %s, want %d %s", gotStatus, got, status, body)
	}
}

func sleeps(d time.Duration, err error) checkFunc {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestReady(t *testing.T) {
	tests := []struct {
		name   string
		checks map[string]checkFunc
		status int
		body   string
		took   time.Duration
		logged []string
	}{
		{"no checks", nil, 200, `{"status":"ok","checks":{}}`, 0, nil},
		{"good ones run at the same time", map[string]checkFunc{
			"db": sleeps(1240*time.Microsecond, nil), "cache": sleeps(time.Second, nil),
		}, 200, `{"status":"ok","checks":{"cache":{"status":"ok","duration_ms":1000.0},"db":{"status":"ok","duration_ms":1.2}}}`,
			time.Second, nil},
		{"one fails", map[string]checkFunc{
			"db": sleeps(0, errors.New("dial db.internal: refused")), "cache": sleeps(0, nil),
		}, 503, `{"status":"fail","checks":{"cache":{"status":"ok","duration_ms":0.0},"db":{"status":"fail","duration_ms":0.0}}}`,
			0, []string{"check=db", "dial db.internal: refused"}},
		{"timeout", map[string]checkFunc{"db": sleeps(time.Hour, nil)},
			503, `{"status":"fail","checks":{"db":{"status":"fail","duration_ms":2000.0}}}`,
			2 * time.Second, []string{"check=db", "deadline exceeded"}},
		{"panic", map[string]checkFunc{"db": func(context.Context) error { panic("nil map") }},
			503, `{"status":"fail","checks":{"db":{"status":"fail","duration_ms":0.0}}}`,
			0, []string{"check=db", "panic: nil map", "health_test.go"}},
		{"Goexit", map[string]checkFunc{"db": func(context.Context) error { runtime.Goexit(); return nil }},
			503, `{"status":"fail","checks":{"db":{"status":"fail","duration_ms":0.0}}}`,
			0, []string{"check=db", "ended its goroutine"}},
		{"a name that needs quotes", map[string]checkFunc{"a\"\n": sleeps(0, nil)},
			200, `{"status":"ok","checks":{"a\"\n":{"status":"ok","duration_ms":0.0}}}`, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHealthTest(tt.checks)
				start := time.Now()
				h.want(t, tt.status, tt.body)
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				if tt.logged == nil && h.log.Len() > 0 {
					t.Errorf("logged %s", h.log)
				}
				for _, text := range tt.logged {
					if !strings.Contains(h.log.String(), text) {
						t.Errorf("the log lacks %q: %s", text, h.log)
					}
				}
			})
		})
	}
}

func TestReadyIsCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		var fails atomic.Bool
		h := newHealthTest(map[string]checkFunc{"db": func(context.Context) error {
			runs.Add(1)
			if fails.Load() {
				return errors.New("down")
			}
			return nil
		}})
		const good = `{"status":"ok","checks":{"db":{"status":"ok","duration_ms":0.0}}}`
		h.want(t, 200, good)
		fails.Store(true)
		time.Sleep(time.Second - 1)
		h.want(t, 200, good)
		if n := runs.Load(); n != 1 {
			t.Errorf("%d runs within a second", n)
		}
		time.Sleep(1)
		h.want(t, 503, `{"status":"fail","checks":{"db":{"status":"fail","duration_ms":0.0}}}`)
		if n := runs.Load(); n != 2 {
			t.Errorf("%d runs after a second", n)
		}
	})
}

func TestReadyIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		h := newHealthTest(map[string]checkFunc{"db": func(ctx context.Context) error {
			runs.Add(1)
			return sleeps(time.Second, nil)(ctx)
		}})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				h.want(t, 200, `{"status":"ok","checks":{"db":{"status":"ok","duration_ms":1000.0}}}`)
			})
		}
		// The client that started the run may go; the others still get their answer.
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			w := httptest.NewRecorder()
			h.serveReady(w, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
			if w.Code != 503 { // not the 200 that net/http would make of no answer
				t.Errorf("a request that ended got %d", w.Code)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
		if n := runs.Load(); n != 1 {
			t.Errorf("%d runs", n)
		}
	})
}

func TestStuckCheckRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		release := make(chan struct{})
		h := newHealthTest(map[string]checkFunc{
			"stuck": func(context.Context) error { runs.Add(1); <-release; return nil },
			"ok":    sleeps(0, nil),
		})
		h.want(t, 503, `{"status":"fail","checks":{"ok":{"status":"ok","duration_ms":0.0},"stuck":{"status":"fail","duration_ms":2000.0}}}`)
		for range 5 {
			time.Sleep(time.Minute)
			h.want(t, 503, `{"status":"fail","checks":{"ok":{"status":"ok","duration_ms":0.0},"stuck":{"status":"fail","duration_ms":0.0}}}`)
		}
		if n := runs.Load(); n != 1 {
			t.Errorf("%d runs of a check that doesn't return", n)
		}
		close(release)
		time.Sleep(time.Minute)
		h.want(t, 200, `{"status":"ok","checks":{"ok":{"status":"ok","duration_ms":0.0},"stuck":{"status":"ok","duration_ms":0.0}}}`)
	})
}

func TestDrainingIsNotReady(t *testing.T) {
	const body = `{"status":"fail","checks":{}}`
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		h := newHealthTest(map[string]checkFunc{"db": func(ctx context.Context) error {
			runs.Add(1)
			return sleeps(time.Second, nil)(ctx)
		}})
		var wg sync.WaitGroup
		wg.Go(func() { h.want(t, 503, body) }) // asks before, and is answered after
		synctest.Wait()
		h.setDraining()
		h.want(t, 503, body)
		wg.Wait()
		h.want(t, 503, body)
		if n := runs.Load(); n != 1 {
			t.Errorf("%d runs", n)
		}
		if status, body := h.get(h.serveLive); status != 200 || body != "ok" {
			t.Errorf("live: %d %s", status, body)
		}
	})
}

func TestHealthShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := newHealthTest(map[string]checkFunc{
			"stuck": func(context.Context) error { <-release; return nil },
			"heeds": sleeps(time.Hour, nil),
		})
		go h.get(h.serveReady)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown with a stuck check: %v", err)
		}
		close(release)
		if err := h.shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		h.want(t, 503, `{"status":"fail","checks":{}}`)
	})
}

func TestHealthHTTP(t *testing.T) {
	h := newHealthTest(map[string]checkFunc{"db": func(context.Context) error { return errors.New("hunter2") }})
	tests := []struct {
		name, method string
		handler      http.HandlerFunc
		status       int
		contentType  string
		body         bool
	}{
		{"live", "GET", h.serveLive, 200, "text/plain; charset=utf-8", true},
		{"live HEAD", "HEAD", h.serveLive, 200, "text/plain; charset=utf-8", false},
		{"live POST", "POST", h.serveLive, 405, jsonType, true},
		{"ready", "GET", h.serveReady, 503, jsonType, true},
		{"ready HEAD", "HEAD", h.serveReady, 503, jsonType, false},
		{"ready POST", "POST", h.serveReady, 405, jsonType, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			tt.handler(w, httptest.NewRequest(tt.method, "/", nil))
			if w.Code != tt.status || w.Body.Len() > 0 != tt.body {
				t.Errorf("%d %q", w.Code, w.Body)
			}
			if strings.Contains(w.Body.String(), "hunter2") {
				t.Errorf("the check's error is in the body: %s", w.Body)
			}
			header := w.Header()
			if header.Get("Content-Type") != tt.contentType || header.Get("Cache-Control") != "no-store" ||
				header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Content-Length") == "" {
				t.Errorf("header %v", header)
			}
			if (header.Get("Allow") == "GET, HEAD") != (tt.status == 405) {
				t.Errorf("Allow %q", header.Get("Allow"))
			}
		})
	}
}
