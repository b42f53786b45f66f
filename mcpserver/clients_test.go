package mcpserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/mcptest"
)

// conformanceTools are those that the scenarios of the official suite ask for.
func conformanceTools() []mooncore.Action {
	return []mooncore.Action{
		action("test_simple_text", mooncore.Public, returns("This is a simple text response for testing.")),
		action("test_error_handling", mooncore.Public, mooncore.Func(func(context.Context, struct{}) (any, error) {
			return nil, errors.New("this tool fails")
		})),
	}
}

func TestConformanceSuite(t *testing.T) {
	cfg := oneApp(conformanceTools()...)
	cfg.Hosts = []string{"localhost", "127.0.0.1"}
	s := serve(t, cfg)
	for _, scenario := range []string{
		"server-initialize", "ping", "tools-list", "tools-call-simple-text", "tools-call-error", "server-sse-multiple-streams",
		"dns-rebinding-protection",
	} {
		t.Run(scenario, func(t *testing.T) {
			if out, err := mcptest.Conformance(t, s.url, scenario); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	t.Run("the suite finds a server that answers any host", func(t *testing.T) {
		open := serve(t, oneApp(conformanceTools()...))
		if out, err := mcptest.Conformance(t, open.url, "dns-rebinding-protection"); err == nil {
			t.Errorf("it passed:\n%s", out)
		}
	})
}

func TestTypeScriptClient(t *testing.T) {
	slow, running, ended := waits("slow")
	s := serve(t, oneApp(
		action("create", mooncore.Roles("user"), mooncore.Func(echo[task])),
		action("list", mooncore.Public, returns([]int{1, 2})),
		action("trees", mooncore.Public, returns([]folder{{Name: "a", Folders: []*folder{{Name: "b"}}}})),
		action("tree", mooncore.Public, returns(folder{Name: "a", Folders: []*folder{nil}})),
		action("time", mooncore.Public, returns(time.Unix(0, 0).UTC())),
		action("nothing", mooncore.Public, returns[any](nil)),
		action("admin", mooncore.Roles("admin"), returns(1)),
		slow,
		action("running", mooncore.Public, mooncore.Func(func(ctx context.Context, _ struct{}) (any, error) {
			select {
			case <-running:
			case <-ctx.Done():
			}
			return nil, ctx.Err()
		})),
	))
	call := func(name string, arguments any) mcptest.Request {
		return mcptest.Request{Method: "callTool", Argument: map[string]any{"name": name, "arguments": arguments}}
	}
	got := mcptest.TypeScript(t, s.url, s.token(t, mooncore.Identity{User: "alice", Roles: []string{"user"}}),
		mcptest.Request{Method: "listTools"}, // from here on it checks results by their schemas
		call("create", map[string]any{"title": "Milk", "owner": "alice", "tags": []string{"a"}}),
		call("create", map[string]any{"title": "M"}),
		call("list", nil), call("trees", nil), call("tree", nil), call("time", nil), call("nothing", nil),
		call("admin", nil), call("unknown", nil),
		mcptest.Request{Method: "abort", Argument: map[string]any{
			"call": map[string]any{"name": "slow"}, "until": map[string]any{"name": "running"},
		}},
		mcptest.Request{Method: "ping"},
	)
	want := []string{
		`{"server":{"name":"mcpserver"`, `{"tools":[{`,
		`"structuredContent":{"title":"Milk","owner":"alice","tags":["a"]}`,
		`\"errors\":{\"owner\":[\"is required\"],\"title\":[\"must be at least 2 characters\"]}}"}],"isError":true`,
		`"structuredContent":{"result":[1,2]}`,
		`"structuredContent":{"result":[{"name":"a","folders":[{"name":"b","folders":null}]}]}`,
		`"structuredContent":{"name":"a","folders":[null]}`,
		`"structuredContent":{"result":"1970-01-01T00:00:00Z"}`,
		`"text":"null"`,
		`\"code\":\"permission_denied\"`, `{"error":{"code":-32602,"message":"MCP error -32602: unknown tool \"unknown\""}}`,
		`{"error":{`, `{}`,
	}
	if len(got) != len(want) {
		t.Fatalf("got %d results, want %d: %s", len(got), len(want), got)
	}
	for i := range want {
		if !strings.Contains(string(got[i]), want[i]) {
			t.Errorf("result %d: got %s\nwant in it %s", i, got[i], want[i])
		}
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the aborted call ended with %v", err)
	}
	t.Run("stranger", func(t *testing.T) {
		got := mcptest.TypeScript(t, s.url, "", call("create", nil), call("list", nil))
		if !strings.Contains(string(got[1]), `"code":401`) || !strings.Contains(string(got[2]), `"result":[1,2]`) {
			t.Errorf("got %s", got)
		}
	})
}

func TestInspector(t *testing.T) {
	readOnly := action("list", mooncore.Roles("user"), returns([]string{"Milk"}))
	readOnly.ReadOnly = true
	s := serve(t, oneApp(
		action("create", mooncore.Roles("user"), mooncore.Func(echo[task])),
		action("tree", mooncore.Roles("user"), mooncore.Func(echo[folder])),
		readOnly,
	))
	token := s.token(t, mooncore.Identity{User: "alice", Roles: []string{"user"}})
	out, err := mcptest.Inspector(t, s.url, token, "--method", "tools/list", "--strict")
	var list struct{ Tools []struct{ Name string } }
	if err != nil || json.Unmarshal(out, &list) != nil || len(list.Tools) != 3 {
		t.Errorf("tools/list: %v\n%s", err, out)
	}
	out, err = mcptest.Inspector(t, s.url, token, "--method", "tools/call", "--tool-name", "create", "--tool-arg", "title=Milk", "owner=alice")
	if err != nil || !strings.Contains(string(out), `"owner": "alice"`) {
		t.Errorf("tools/call: %v\n%s", err, out)
	}
	if out, err = mcptest.Inspector(t, s.url, "", "--method", "tools/list"); err == nil {
		t.Errorf("without a token: %s", out)
	}
	t.Run("the configuration in the guide", func(t *testing.T) {
		guide, err := os.ReadFile("../docs/agents.md")
		if err != nil {
			t.Fatal(err)
		}
		_, config, _ := strings.Cut(string(guide), "```json\n")
		config, _, _ = strings.Cut(config, "```")
		for documented, real := range map[string]string{"http://localhost:4000/mcp": s.url, "TOKEN": token} {
			if strings.Count(config, documented) != 1 {
				t.Fatalf("%s is not there once in\n%s", documented, config)
			}
			config = strings.Replace(config, documented, real, 1)
		}
		out, err := mcptest.Configured(t, config, "tasks", "--method", "tools/list")
		if err != nil || !strings.Contains(string(out), `"name": "create"`) {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
