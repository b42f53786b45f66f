package mcpserver_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mcpserver"
)

// Whatever comes is answered by JSON or by nothing, and never as a fault of the server.
func FuzzMessages(f *testing.F) {
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + meta + `}}`,
		`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{` + meta + `}}`,
		`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},` + meta + `}}`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"x"},"argument":{"name":"a","value":"b"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}`,
		`{"jsonrpc":"2.0","id":"a","result":{}}`, `{"jsonrpc":"2.0","id":"a","error":{"code":1,"message":"x"}}`,
		toolCall("echo", `{"a":[1,{"b":null}]}`), toolCall("echo", `"x"`), toolCall("user", `{}`), toolCall(`\u0000`, `{}`),
		`[]`, `null`, `{`, "",
	} {
		for _, version := range []string{"", "2025-03-26", "2025-11-25", "2026-07-28"} {
			f.Add(body, version)
		}
	}
	srv, err := mooncore.New(mooncore.Config{
		Development: true, Logger: slog.New(slog.DiscardHandler),
		Routers: oneApp(
			action("echo", mooncore.Public, mooncore.Func(echo[map[string]any])), action("user", mooncore.Authenticated, returns(1)),
		).Routers,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			f.Error(err)
		}
	})
	h := mcpserver.Handler(srv)
	f.Fuzz(func(t *testing.T, body, version string) {
		r := httptest.NewRequest(http.MethodPost, "/mcp", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Mcp-Session-Id", "s")
		if version != "" {
			r.Header.Set("Mcp-Protocol-Version", version)
		}
		var msg struct {
			Method string
			Params struct{ Name string }
		}
		_ = json.Unmarshal([]byte(body), &msg) // what it can't take is for the handler to judge
		r.Header.Set("Mcp-Method", msg.Method)
		r.Header.Set("Mcp-Name", msg.Params.Name)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch w.Code {
		case 200, 202, 400, 401, 404:
		default:
			t.Errorf("status %d for %q: %s", w.Code, body, w.Body)
		}
		if typ := w.Header().Get("Content-Type"); typ == "text/event-stream" {
			return // the answer to subscriptions/listen
		}
		if b := w.Body.Bytes(); len(b) > 0 && !json.Valid(b) {
			t.Errorf("not JSON for %q: %s", body, b)
		}
	})
}
