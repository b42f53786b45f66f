//go:build unix

package faults

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/internal/needs"
)

// A SlowLink is a toxiproxy, in a process of its own, on the way to a server.
type SlowLink struct {
	t    testing.TB
	api  string
	addr string
}

// NewSlowLink starts a SlowLink, which is not slow yet, and ends it with the test.
func NewSlowLink(t testing.TB, target string) *SlowLink {
	t.Helper()
	path, api := toxiproxy(t), freeport.Addr(t)
	host, port, _ := net.SplitHostPort(api)
	Start(t, api, func() *exec.Cmd { return exec.Command(path, "-host", host, "-port", port) })
	s := &SlowLink{t: t, api: "http://" + api}
	var link struct {
		Name     string `json:"name"`
		Listen   string `json:"listen"`
		Upstream string `json:"upstream"`
		Enabled  bool   `json:"enabled"`
	}
	link.Name, link.Listen, link.Upstream, link.Enabled = "link", "127.0.0.1:0", target, true
	if err := json.Unmarshal(s.post("/proxies", link), &link); err != nil {
		t.Fatal(err)
	}
	s.addr = link.Listen
	return s
}

// toxiproxy builds toxiproxy, whose version is in tools, unless it was built before.
func toxiproxy(t testing.TB) (path string) {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	var modfile string
	for ; modfile == ""; dir = filepath.Dir(dir) {
		if name := filepath.Join(dir, "tools", "toxiproxy.mod"); fileExists(name) {
			modfile = name
		} else if dir == filepath.Dir(dir) {
			t.Fatal("tools/toxiproxy.mod is nowhere above this package")
		}
	}
	cmd := exec.Command("go", "tool", "-modfile="+modfile, "-n", "github.com/Shopify/toxiproxy/v2/cmd/server")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		needs.Missing(t, "toxiproxy was not built: "+stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// Addr is where the way to the server begins.
func (s *SlowLink) Addr() string { return s.addr }

// Slow makes both directions slow: 200 to 400 ms late, at most 50 KB/s for each connection, in pieces of some hundred bytes.
func (s *SlowLink) Slow() {
	type toxic struct {
		Type       string         `json:"type"`
		Stream     string         `json:"stream"`
		Attributes map[string]int `json:"attributes"`
	}
	for _, stream := range []string{"upstream", "downstream"} {
		s.post("/proxies/link/toxics", toxic{"latency", stream, map[string]int{"latency": 300, "jitter": 100}})
		s.post("/proxies/link/toxics", toxic{"bandwidth", stream, map[string]int{"rate": 50}})
		s.post("/proxies/link/toxics", toxic{"slicer", stream, map[string]int{"average_size": 512, "size_variation": 256}})
	}
}

// Fast undoes Slow.
func (s *SlowLink) Fast() { s.post("/reset", nil) }

func (s *SlowLink) post(path string, body any) (answer []byte) {
	s.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(s.api+path, "application/json", bytes.NewReader(data))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= http.StatusMultipleChoices {
		s.t.Fatalf("toxiproxy: %s: %s: %s, error %v", path, resp.Status, answer, err)
	}
	return answer
}
