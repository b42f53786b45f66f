package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/mcptest"
)

// startForAgents starts the program, and returns where its MCP server is.
func startForAgents(t *testing.T) (mcpURL string) {
	t.Helper()
	return start(t, build(t), "MOONCORE_DEV_SECRET="+secret).tools + "mcp"
}

func TestTypeScriptClient(t *testing.T) {
	at := startForAgents(t)
	call := func(name string, arguments any) mcptest.Request {
		return mcptest.Request{Method: "callTool", Argument: map[string]any{"name": name, "arguments": arguments}}
	}
	type values = map[string]any
	got := mcptest.TypeScript(t, at, secret,
		mcptest.Request{Method: "listTools"}, // from here on it checks results by their schemas
		call("list_actions", nil),
		call("describe_action", values{"action": "rooms"}),
		call("run_action", values{"action": "rooms", "identity": values{"user": "ada", "tenant": "lobby"}}),
		call("run_action", values{"action": "nope"}),
		call("run_action", values{"action": "rooms", "transport": "pigeon"}),
		call("read_logs", values{"details": true}),
		call("list_clients", nil),
		call("read_frames", values{"conn": "nope"}),
		call("publish", values{"event": "message", "channel": "main", "tenant": "lobby"}),
		call("health", nil), call("doctor", nil),
		call("profile", values{"name": "goroutine"}), call("profile", values{"name": "heap"}), call("profile", values{"name": "cpu", "seconds": 1}),
		call("clear_logs", nil),
		mcptest.Request{Method: "listResources"},
		mcptest.Request{Method: "readResource", Argument: values{"uri": "mooncore://actions"}},
		mcptest.Request{Method: "readResource", Argument: values{"uri": "mooncore://nope"}},
		mcptest.Request{Method: "ping"},
	)
	want := []string{
		`developer tools"`, `{"tools":[{`, `"structuredContent":{"actions":[{`, `"schema":{"type":"object"`, `"ok":true`,
		`"code":"not_found"`, `must be one of: http, ws, go`, `"steps":[{"name":"access"`, `"total":0`, `"isError":true`, `"receivers":0`,
		`"health":{"status":"ok"`, `"findings":[{`, `"goroutines":[{`, `"unit":"inuse_space/bytes"`, `"unit":"cpu/nanoseconds"`,
		`"cleared":`, `"uri":"mooncore://log"`, `"uri":"mooncore://actions"`, `"error":{"code":-32`, `{}`,
	}
	if len(got) != len(want) {
		t.Fatalf("got %d results, want %d: %s", len(got), len(want), got)
	}
	for i := range want {
		if !strings.Contains(string(got[i]), want[i]) {
			t.Errorf("result %d: got %s\nwant in it %s", i, got[i], want[i])
		}
	}
	if got := mcptest.TypeScript(t, at, "wrong"); !strings.Contains(string(got[0]), "Wrong secret") {
		t.Errorf("with a wrong secret: %s", got)
	}
}

func TestInspector(t *testing.T) {
	at := startForAgents(t)
	out, err := mcptest.Inspector(t, at, secret, "--method", "tools/list", "--strict")
	var list struct{ Tools []struct{ Name string } }
	if err != nil || json.Unmarshal(out, &list) != nil || len(list.Tools) != 11 {
		t.Errorf("tools/list: %v\n%s", err, out)
	}
	out, err = mcptest.Inspector(t, at, secret, "--method", "tools/call", "--tool-name", "describe_action", "--tool-arg", "action=rooms")
	if err != nil || !strings.Contains(string(out), `"read_only"`) {
		t.Errorf("tools/call: %v\n%s", err, out)
	}
	out, err = mcptest.Inspector(t, at, secret, "--method", "resources/read", "--uri", "mooncore://config")
	if err != nil || !strings.Contains(string(out), "settings") {
		t.Errorf("resources/read: %v\n%s", err, out)
	}
	if out, err = mcptest.Inspector(t, at, "", "--method", "tools/list"); err == nil {
		t.Errorf("without the secret: %s", out)
	}
	t.Run("the configuration in the guide", func(t *testing.T) {
		guide, err := os.ReadFile("../../docs/devtools.md")
		if err != nil {
			t.Fatal(err)
		}
		_, config, _ := strings.Cut(string(guide), "```json\n{\n  \"mcpServers\"")
		config, _, _ = strings.Cut(config, "```")
		config = "{\n  \"mcpServers\"" + config
		for documented, real := range map[string]string{"http://127.0.0.1:4040/mcp": at, "${MOONCORE_DEV_SECRET}": secret} {
			if strings.Count(config, documented) != 1 {
				t.Fatalf("%s is not there once in\n%s", documented, config)
			}
			config = strings.Replace(config, documented, real, 1)
		}
		out, err := mcptest.Configured(t, config, "my-program", "--method", "tools/list")
		if err != nil || !strings.Contains(string(out), `"name": "run_action"`) {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// The suite has no secret to send, so a proxy adds it.
func TestConformanceSuite(t *testing.T) {
	at, err := url.Parse(startForAgents(t))
	if err != nil {
		t.Fatal(err)
	}
	reverse := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: at.Scheme, Host: at.Host})
			r.Out.Host = r.In.Host
			r.Out.Header.Set("Authorization", "Bearer "+secret)
		},
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Else net/http closes the request's body with the first byte of the answer. A proxy that has not read its end by then
		// takes that for a failed request, and cuts the answer.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		reverse.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	for _, scenario := range []string{"server-initialize", "ping", "tools-list", "resources-list", "server-sse-multiple-streams"} {
		t.Run(scenario, func(t *testing.T) {
			if out, err := mcptest.Conformance(t, proxy.URL+"/mcp", scenario); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	// Its second check wants an Origin of loopback to be let in. Here no browser is; the first is the one that protects.
	t.Run("dns-rebinding-protection", func(t *testing.T) {
		out, _ := mcptest.Conformance(t, proxy.URL+"/mcp", "dns-rebinding-protection")
		if !regexp.MustCompile(`localhost-host-rebinding-rejected\S*\s*\S*SUCCESS`).Match(stripColors(out)) {
			t.Errorf("%s", out)
		}
	})
}

func stripColors(b []byte) []byte { return regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAll(b, nil) }
