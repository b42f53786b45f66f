package mooncore_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/mooncore/mooncore"
)

func TestTransportHandler(t *testing.T) {
	copied := make(chan *mooncore.Request, 1)
	srv, err := mooncore.New(mooncore.Config{
		Development: true, Logger: slog.New(slog.DiscardHandler), Hosts: []string{"example.com"}, Origins: []string{"https://app.example.com"},
		Routers: []mooncore.Router{{Actions: []mooncore.Action{
			{Name: "echo", Allow: mooncore.Public, MaxBytes: 10, Handler: mooncore.Func(func(ctx context.Context, in struct {
				S string `json:"s"`
			}) (string, error) {
				inner := *mooncore.RequestFrom(ctx)
				select {
				case copied <- &inner:
				default:
				}
				return in.S, nil
			})},
			{Name: "exit", Allow: mooncore.Public, Handler: mooncore.Func(func(context.Context, struct{}) (any, error) { runtime.Goexit(); return nil, nil })},
			{Name: "user", Allow: mooncore.Authenticated, Handler: mooncore.Func(func(context.Context, struct{}) (any, error) { return nil, nil })},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := srv.TransportHandler("test", func(w http.ResponseWriter, r *http.Request, req *mooncore.Request, body []byte) error {
		if r.Method != http.MethodPost {
			return mooncore.Errorf(mooncore.CodeMethodNotAllowed, "no")
		}
		if req.Source != "test" || req.ID != "id" || req.RemoteAddr.String() != "192.0.2.1" {
			t.Errorf("source %q, id %q, address %v", req.Source, req.ID, req.RemoteAddr)
		}
		req.Action = r.URL.Query().Get("action")
		req.Params = body
		out, err := srv.CallJSON(r.Context(), req)
		w.Header().Set("Code", string(mooncore.CodeOf(err)))
		w.Write(out)
		return nil
	})
	do := func(method, action, body string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "http://example.com/?action="+action, strings.NewReader(body))
		r.Header.Set("X-Request-Id", "id")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		if host := r.Header.Get("Host"); host != "" {
			r.Host = host
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for _, test := range []struct {
		name, method, action, body string
		headers                    []string
		status                     int
		code                       mooncore.Code
		want                       string
	}{
		{name: "result", method: "POST", action: "echo", body: `{"s":"a"}`, status: 200, want: `"a"`},
		{name: "error", method: "POST", action: "user", status: 200, code: "unauthenticated", want: `{"error":"Access denied","code":"unauthenticated"}`},
		{name: "too large for the action", method: "POST", action: "echo", body: `{"s":"aaaaaaa"}`, status: 200, code: "too_large", want: `{"error":"Payload too large","code":"too_large"}`},
		{name: "handler ends its goroutine", method: "POST", action: "exit", status: 200, code: "internal", want: `{"error":"Internal Server Error","code":"internal","request_id":"id"}`},
		{name: "no JSON", method: "POST", action: "echo", body: `{`, status: 200, code: "invalid_argument", want: `{"error":"malformed JSON at byte 1: unexpected end","code":"invalid_argument"}`},
		{name: "serve refuses", method: "PUT", action: "echo", status: 405, want: `{"error":"no","code":"method_not_allowed"}`},
		{name: "bad token", method: "POST", headers: []string{"Authorization", "Bearer x"}, status: 401, want: `{"error":"Invalid token","code":"unauthenticated"}`},
		{name: "foreign host", method: "POST", headers: []string{"Host", "evil.example"}, status: 403, want: `{"error":"Host not allowed","code":"permission_denied"}`},
		{name: "foreign origin", method: "POST", headers: []string{"Origin", "https://evil.example"}, status: 403, want: `{"error":"Origin not allowed","code":"permission_denied"}`},
		{name: "too large for any", method: "POST", body: strings.Repeat(" ", 2<<20), status: 413, want: `{"error":"Payload too large","code":"too_large"}`},
		{name: "preflight", method: "OPTIONS", headers: []string{"Origin", "https://app.example.com", "Access-Control-Request-Method", "POST"}, status: 204},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := do(test.method, test.action, test.body, test.headers...)
			if w.Code != test.status || w.Body.String() != test.want || w.Header().Get("Code") != string(test.code) {
				t.Errorf("got %d %s %q, want %d %s %q", w.Code, w.Body, w.Header().Get("Code"), test.status, test.want, test.code)
			}
		})
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w := do("POST", "echo", `{}`); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("after Shutdown: %d %s", w.Code, w.Body)
	}
	// What a handler kept of its Request opens no door.
	if _, err := srv.Call(context.Background(), <-copied); mooncore.CodeOf(err) != mooncore.CodeUnavailable {
		t.Errorf("a call after Shutdown: %v", err)
	}
}
