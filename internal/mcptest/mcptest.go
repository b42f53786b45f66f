// Package mcptest runs MCP clients of other makers against a server: the TypeScript SDK, the inspector, and the conformance suite.
// package.json has their versions; "npm ci" in this directory installs them, with the Node.js that they need.
package mcptest

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/needs"
)

// A Request is sent by [TypeScript].
type Request struct {
	Method   string // of the SDK's Client, or "abort": a callTool that is aborted, see typescript.mjs
	Argument any
}

// TypeScript connects the TypeScript SDK's client with that bearer token, or none, sends the requests one after another, and returns
// what came back, the server's description first.
func TypeScript(t testing.TB, url, token string, requests ...Request) []json.RawMessage {
	t.Helper()
	list := make([][2]any, len(requests))
	for i, r := range requests {
		list[i] = [2]any{r.Method, r.Argument}
	}
	arg, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "node", filepath.Join(directory(), "typescript.mjs"), url, token, string(arg))
	var results []json.RawMessage
	if err != nil || json.Unmarshal(out, &results) != nil {
		t.Fatalf("the TypeScript client: %v\n%s", err, out)
	}
	return results
}

// Inspector runs the inspector's command line with that bearer token, or none, and returns what it prints.
func Inspector(t testing.TB, url, token string, args ...string) ([]byte, error) {
	t.Helper()
	args = append([]string{"--cli", url, "--transport", "http"}, args...)
	if token != "" {
		args = append(args, "--header", "Authorization: Bearer "+token)
	}
	return run(t, "inspector", args...)
}

// Configured is [Inspector] for a server of a client's configuration.
func Configured(t testing.TB, config, server string, args ...string) ([]byte, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mcp.json")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, "inspector", append([]string{"--cli", "--config", path, "--server", server}, args...)...)
}

// Conformance runs a scenario of the official suite. It returns what that prints, and an error unless all of its checks pass.
func Conformance(t testing.TB, url, scenario string) ([]byte, error) {
	t.Helper()
	return run(t, "conformance", "server", "--url", url, "--scenario", scenario)
}

// run runs one of the installed programs. It skips the test where they are not, unless MOONCORE_TEST_REQUIRE is "all".
func run(t testing.TB, name string, args ...string) ([]byte, error) {
	t.Helper()
	bin := filepath.Join(directory(), "node_modules", ".bin")
	path := filepath.Join(bin, name)
	if _, err := os.Stat(path); err != nil {
		needs.Missing(t, "there are no MCP clients: run npm ci in internal/mcptest")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	home := t.TempDir() // the inspector keeps files there
	cmd.Dir, cmd.WaitDelay = home, time.Second
	cmd.Env = append(os.Environ(), "HOME="+home, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		out = append(out, stderr.Bytes()...)
	}
	return out, err
}

// directory is that of this file.
func directory() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}
