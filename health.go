package mooncore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	checkTimeout = 2 * time.Second
	healthMaxAge = time.Second
)

// A health answers /livez and /readyz (PROTOCOL.md section 4). Requests that come while the checks run share their result,
// and so do those of the second after. Its methods may be called concurrently.
type health struct {
	checks   []*check
	log      *slog.Logger
	draining atomic.Bool
	ctx      context.Context // of the checks
	cancel   context.CancelFunc
	wg       sync.WaitGroup // of run, and of the checks' goroutines

	mu  sync.Mutex
	run *healthRun // the last one; nil at first
}

// A check is one of Config.Checks.
type check struct {
	name string
	fn   func(ctx context.Context) error
	busy atomic.Bool // fn has not returned yet
}

// A healthRun is one run of all checks. Its other fields are good once done is closed.
type healthRun struct {
	done   chan struct{}
	at     time.Time // when it ended
	ok     bool
	report []byte
}

// checkResult is how a check stands in the report.
type checkResult struct {
	Status   string      `json:"status"`
	Duration json.Number `json:"duration_ms"`
}

func newHealth(checks map[string]func(ctx context.Context) error, log *slog.Logger) *health {
	h := &health{log: log}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		h.checks = append(h.checks, &check{name: name, fn: checks[name]})
	}
	return h
}

// setDraining makes /readyz fail from now on.
func (h *health) setDraining() { h.draining.Store(true) }

// shutdown cancels the checks and returns when their goroutines have ended, or the error of ctx. No check runs after it.
func (h *health) shutdown(ctx context.Context) error {
	h.setDraining()
	h.mu.Lock()
	h.cancel()
	h.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.wg.Wait()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serveLive answers /livez.
func (h *health) serveLive(w http.ResponseWriter, r *http.Request) {
	writeHealth(w, r, http.StatusOK, "text/plain; charset=utf-8", []byte("ok"))
}

const jsonType = "application/json; charset=utf-8"

// notReady is the report when no check ran.
var notReady = []byte(`{"status":"fail","checks":{}}`)

// serveReady answers /readyz and /health. While the server drains it runs no checks.
func (h *health) serveReady(w http.ResponseWriter, r *http.Request) {
	status, report := http.StatusServiceUnavailable, notReady
	if isRead(r) && !h.draining.Load() {
		run := h.current()
		select {
		case <-run.done:
		case <-r.Context().Done():
			writeHealth(w, r, status, jsonType, notReady)
			return
		}
		if !h.draining.Load() {
			report = run.report
			if run.ok {
				status = http.StatusOK
			}
		}
	}
	writeHealth(w, r, status, jsonType, report)
}

func isRead(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// writeHealth writes an answer, or 405 if r is neither GET nor HEAD.
func writeHealth(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	header := w.Header()
	if !isRead(r) {
		header.Set("Allow", "GET, HEAD")
		status, contentType = http.StatusMethodNotAllowed, jsonType
		body = []byte(`{"error":"Method not allowed","code":"method_not_allowed"}`)
	}
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body)
	}
}

// current returns the run whose result counts now, and starts one if none does.
func (h *health) current() *healthRun {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run != nil {
		select {
		case <-h.run.done:
			if time.Since(h.run.at) < healthMaxAge {
				return h.run
			}
		default:
			return h.run
		}
	}
	h.run = &healthRun{done: make(chan struct{}), report: notReady}
	if h.ctx.Err() != nil { // shut down
		close(h.run.done)
		return h.run
	}
	run := h.run
	h.wg.Go(func() { h.runChecks(run) })
	return run
}

// runChecks runs all checks at the same time and ends run.
func (h *health) runChecks(run *healthRun) {
	ctx, cancel := context.WithTimeout(h.ctx, checkTimeout)
	defer cancel()
	results := make([]checkResult, len(h.checks))
	var wg sync.WaitGroup
	for i, c := range h.checks {
		wg.Go(func() {
			start := time.Now()
			err := h.runCheck(ctx, c)
			took := time.Since(start)
			results[i] = checkResult{Status: "ok", Duration: milliseconds(took)}
			if err != nil {
				results[i].Status = "fail"
				h.log.Error("health check failed", "check", c.name, "duration", took, "err", err)
			}
		})
	}
	wg.Wait()

	report := struct {
		Status string                 `json:"status"`
		Checks map[string]checkResult `json:"checks"`
	}{"ok", make(map[string]checkResult, len(results))}
	for i, c := range h.checks {
		report.Checks[c.name] = results[i]
		if results[i].Status != "ok" {
			report.Status = "fail"
		}
	}
	run.ok = report.Status == "ok"
	run.report, _ = json.Marshal(report) // has no value that cannot be marshaled
	run.at = time.Now()
	close(run.done)
}

var errCheckBusy = errors.New("an earlier run has not returned yet")

// runCheck returns what c returns, or the error of ctx when that ends earlier. A check that doesn't return then keeps its
// goroutine, and fails without another one until it returns.
func (h *health) runCheck(ctx context.Context, c *check) error {
	if !c.busy.CompareAndSwap(false, true) {
		return errCheckBusy
	}
	result := make(chan error, 1)
	h.wg.Go(func() {
		err := errors.New("the check ended its goroutine")
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
			c.busy.Store(false)
			result <- err
		}()
		err = c.fn(ctx)
	})
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// milliseconds returns d as a number with one decimal.
func milliseconds(d time.Duration) json.Number {
	return json.Number(strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64))
}
