package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/wsraw"
)

const (
	records   = "../../testdata/conformance/"
	publicKey = records + "jwt_public.pem"
)

// program is the built program.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "conformance")
	args := []string{"build", "-o", program}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	code := 1
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// A server is the program as a process.
type server struct {
	addr   string
	cmd    *exec.Cmd
	stderr bytes.Buffer
	stop   func() error // sends SIGTERM and waits; it may be called more than once
}

// start runs the program with those variables and no others of its own. When the test ends it must stop with status 0.
func start(t *testing.T, env ...string) *server {
	t.Helper()
	s := &server{cmd: exec.Command(program)}
	s.cmd.Env = append([]string{"PORT=0", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GORACE=atexit_sleep_ms=0"},
		env...)
	s.cmd.Stderr = &s.stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.stop = sync.OnceValue(func() error {
		timer := time.AfterFunc(20*time.Second, func() { s.cmd.Process.Kill() })
		defer timer.Stop()
		return errors.Join(s.cmd.Process.Signal(syscall.SIGTERM), s.cmd.Wait())
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("the program ended with %v\n%s", err, &s.stderr)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on http://")
	if err != nil || !ok {
		t.Fatalf("first line %q, %v", line, err)
	}
	s.addr = addr
	return s
}

// recorded starts a program that verifies the recorded tokens.
func recorded(t *testing.T, env ...string) *server {
	t.Helper()
	return start(t, append(env, "JWT_PUBLIC_KEY_FILE="+publicKey)...)
}

// A response is what HTTP answered.
type response struct {
	status int
	header http.Header
	body   string
}

// exchange sends the bytes of a request on a connection of its own and reads the response.
func (s *server) exchange(t *testing.T, request []byte) response {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.addr, wsraw.Timeout)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(wsraw.Timeout))
	written := make(chan error, 1)
	go func() { _, err := conn.Write(request); written <- err }() // a refusal may come before all of a large body is sent
	method, _, _ := strings.Cut(string(request[:min(10, len(request))]), " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no response: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("body: %v", err)
	}
	conn.Close()
	<-written
	return response{resp.StatusCode, resp.Header, string(body)}
}

// request writes a request. Headers are lines; Host, Content-Length and, for JSON, Content-Type are added where they lack.
// "Content-Type:" alone leaves the type out.
func (s *server) request(target, body string, headers []string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s HTTP/1.1\r\n", target)
	has := func(name string) bool {
		return slices.ContainsFunc(headers, func(h string) bool {
			n, _, _ := strings.Cut(h, ":")
			return strings.EqualFold(n, name)
		})
	}
	if !has("Host") {
		headers = append([]string{"Host: " + s.addr}, headers...)
	}
	if body != "" && !has("Content-Length") && !has("Transfer-Encoding") {
		headers = append(headers, "Content-Length: "+strconv.Itoa(len(body)))
	}
	if body != "" && !has("Content-Type") {
		headers = append(headers, "Content-Type: application/json")
	}
	for _, h := range headers {
		if h != "Content-Type:" {
			b.WriteString(h + "\r\n")
		}
	}
	b.WriteString("\r\n" + body)
	return b.Bytes()
}

// do sends a request: "POST /run", its body, header lines.
func (s *server) do(t *testing.T, target, body string, headers ...string) response {
	t.Helper()
	return s.exchange(t, s.request(target, body, headers))
}

// parse returns JSON as Go values with exact numbers.
func parse(text string) (any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, errors.New("data after the value")
	}
	return v, nil
}

// sameJSON reports whether two texts are the same JSON, with exact numbers; the string "*" in want stands for any value.
func sameJSON(got, want string) bool {
	if got == want {
		return true
	}
	g, err1 := parse(got)
	w, err2 := parse(want)
	return err1 == nil && err2 == nil && matches(g, w)
}

func matches(got, want any) bool {
	switch w := want.(type) {
	case string:
		return w == "*" || got == want
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for key, value := range w {
			if v, ok := g[key]; !ok || !matches(v, value) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		return ok && slices.EqualFunc(g, w, matches)
	}
	return reflect.DeepEqual(got, want)
}

// tokens are those of tokens.json and forged.json, by name.
func tokens(t *testing.T) map[string]string {
	t.Helper()
	type named struct{ Name, Token string }
	var minted struct{ Tokens []named }
	var forged []named
	readJSON(t, "tokens.json", &minted)
	readJSON(t, "forged.json", &forged)
	all := map[string]string{}
	for _, token := range slices.Concat(minted.Tokens, forged) {
		all[token.Name] = token.Token
	}
	return all
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(records + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// fill puts tokens in the place of {{name}}.
func fill(t *testing.T, text string, tokens map[string]string) string {
	t.Helper()
	for {
		before, rest, found := strings.Cut(text, "{{")
		if !found {
			return text
		}
		name, after, _ := strings.Cut(rest, "}}")
		token, ok := tokens[name]
		if !ok {
			t.Fatalf("no token %q", name)
		}
		text = before + token + after
	}
}

// clip shortens a text for a message.
func clip(s string) string {
	if len(s) > 600 {
		return s[:600] + "…"
	}
	return s
}
