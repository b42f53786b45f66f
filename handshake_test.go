package mooncore_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mooncore/mooncore"
)

// What is no handshake is answered as any other request that is no good.
func TestRefusedHandshakesAreAnsweredWithJSON(t *testing.T) {
	log, lines := logger()
	srv := serve(t, mooncore.Config{Logger: log, Routers: catalogue()})
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
	with := func(name, value string) []string {
		header := append([]string(nil), upgrade...)
		for i := 0; i < len(header); i += 2 {
			if header[i] == name {
				header[i+1] = value
			}
		}
		return header
	}
	for _, test := range []struct {
		name, method  string
		header        []string
		status        int
		code          mooncore.Code
		text          string
		field, expect string // of the response's header
	}{
		{"a plain request", http.MethodGet, nil, http.StatusUpgradeRequired, mooncore.CodeInvalidArgument, "does not contain Upgrade", "Upgrade", "websocket"},
		{"another upgrade", http.MethodGet, with("Upgrade", "h2c"), http.StatusUpgradeRequired, mooncore.CodeInvalidArgument, "does not contain websocket", "Upgrade", "websocket"},
		{"a post", http.MethodPost, upgrade, http.StatusMethodNotAllowed, mooncore.CodeMethodNotAllowed, "is not GET", "Allow", "GET"},
		{"an old version", http.MethodGet, with("Sec-WebSocket-Version", "8"), http.StatusBadRequest, mooncore.CodeInvalidArgument, "only 13 is supported", "Sec-Websocket-Version", "13"},
		{"a long key", http.MethodGet, with("Sec-WebSocket-Key", strings.Repeat("A", 4000)), http.StatusBadRequest, mooncore.CodeInvalidArgument, "invalid Sec-WebSocket-Key", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, body := srv.request(test.method, "/ws", "", append(test.header, "X-Request-Id", "r1")...)
			var answer struct {
				Error string
				Code  mooncore.Code
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if resp.StatusCode != test.status || answer.Code != test.code || !strings.Contains(answer.Error, test.text) || len(body) > 300 {
				t.Errorf("got %s %s", resp.Status, body)
			}
			h := resp.Header
			if h.Get(test.field) != test.expect || h.Get("Content-Type") != "application/json; charset=utf-8" || h.Get("X-Request-Id") != "r1" ||
				h.Get("Cache-Control") != "no-store" {
				t.Errorf("got %v", h)
			}
		})
	}
	t.Run("a writer that gives no connection", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, "http://"+srv.addr+"/ws", nil)
		for i := 0; i < len(upgrade); i += 2 {
			r.Header.Set(upgrade[i], upgrade[i+1])
		}
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		if w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), `"code":"internal"`) || strings.Contains(w.Body.String(), "Implemented") {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		records := lines.records(t, "upgrade failed")
		for i, record := range records {
			cause := record["cause"].(string)
			if last := i == len(records)-1; last != (record["level"] == "ERROR") || last != strings.Contains(cause, "Unwrap") || len(cause) > 200 {
				t.Errorf("logged %v", record)
			}
		}
		if len(records) != 6 {
			t.Errorf("%d lines for 6 failures", len(records))
		}
	})
}
