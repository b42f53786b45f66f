package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/needs"
)

func TestCall(t *testing.T) {
	w := newWorld(t)
	w.serve()
	token := w.must("", "token", "make", "--key", "private.pem", "--user", "alice")
	w.write("token", token)
	w.write("bad-token", "nonsense")
	w.write("params.json", ` {"a": [1, 2.50]} `)
	var steps []step
	for _, ws := range []bool{false, true} {
		call := func(args ...string) []string { return append([]string{"call"}, args...) }
		how := "HTTP: "
		if ws {
			call = func(args ...string) []string { return append([]string{"call", "--ws"}, args...) }
			how = "WebSocket: "
		}
		add := func(s step) {
			s.name = how + s.name
			steps = append(steps, s)
		}
		// Over WebSocket the params have the frame's own members too.
		add(step{name: "no params", args: call("echo"), out: `^\{.*\}\n$`})
		add(step{name: "pairs", args: call("echo", "a=x=y", "b:=5", `c:={"d":[null]}`, "é= ü"), out: `"a":"x=y","b":5,"c":\{"d":\[null\]\},"é":" ü"\}\n$`})
		add(step{name: "flags behind", args: call("echo", "a=x", "--json", "b=y"), out: `"a":"x","b":"y"\}\n$`})
		add(step{name: "an object", args: call("echo", `{"a":1e2}`), out: `"a":1e2\}\n$`})
		add(step{name: "a file", args: call("echo", "@params.json"), out: `"a":\[1,2\.50\]\}\n$`})
		add(step{name: "standard input", args: call("echo", "-"), stdin: "{\"a\":\n1}\n", out: `"a":1\}\n$`})
		add(step{name: "digits stay", args: call("big"), out: `^12345678901234567890\.10\n$`})
		add(step{name: "a token file", args: call("--token-file", "token", "whoami"), out: `^"alice"\n$`})
		add(step{name: "a token on standard input", args: call("--token-file", "-", "whoami"), stdin: token, out: `^"alice"\n$`})
		add(step{name: "a token variable", args: call("whoami"), env: []string{"MOONCORE_TOKEN=" + token}, out: `^"alice"\n$`})
		add(step{name: "no token", args: call("whoami"), code: 1, err: `^mooncore: unauthenticated: Access denied\n  There was no token`})
		add(step{name: "a bad token", args: call("--token-file", "bad-token", "whoami"), code: 1, err: `^mooncore: unauthenticated: Invalid token\n$`})
		add(step{name: "a token with a line break", args: call("whoami"), env: []string{"MOONCORE_TOKEN=a\nb"}, code: 2, err: `the token has white space`})
		add(step{name: "an unknown action", args: call("nobody"), code: 1, err: `^mooncore: not_found: Undefined action\n$`})
		add(step{name: "faulty fields", args: call("valid", "count:=4"), code: 1, err: `^mooncore: validation_failed\n  count must be at most 3\n  title is required\n$`})
		add(step{name: "faulty fields as JSON", args: call("--json", "valid", "count:=4"), code: 1, out: `^\{"error":"validation_failed","code":"validation_failed","errors":\{.*\}\n$`})
		add(step{name: "an internal error", args: call("broken"), code: 1, err: `^mooncore: internal: Internal Server Error\n  request_id \w+\n$`})
		add(step{name: "an error with control characters", args: call("taken"), code: 1, err: "^mooncore: already_exists: taken by \uFFFD\\[31mnobody\n$"})
		add(step{name: "no answer", args: call("--timeout", "200ms", "stuck"), code: 3, err: `no answer in 200ms\n$`})
		add(step{name: "no server", args: call("--url", "http://127.0.0.1:1", "echo"), code: 3, err: `connection refused\. Is the server running\? --url or MOONCORE_URL names another`})
		add(step{name: "a URL without a scheme", args: call("--url", strings.TrimPrefix(w.url, "http://"), "big"), out: `^1234`})
		add(step{name: "a URL of a WebSocket", args: call("--url", strings.Replace(w.url, "http", "ws", 1), "big"), out: `^1234`})
		add(step{name: "not below this prefix", args: call("--url", w.url+"/api", "echo"), code: 3, err: `/api/\w+(/echo)? answers 404 Not Found, which is not how a Mooncore server answers: 404 page not found\n$`})
	}
	steps = append(steps,
		step{name: "request id", args: []string{"call", "--request-id", "r 7", "broken"}, code: 1, err: `request_id r 7\n$`},
		step{name: "an action with strange characters", args: []string{"call", "a/../b?c#d"}, code: 1, err: `not_found: Undefined action`},
	)
	w.steps(steps)
}

// What other servers answer is told, and nothing of it controls the terminal.
func TestCallOtherServers(t *testing.T) {
	w := newWorld(t)
	h := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/run/redirect":
			http.Redirect(rw, r, "https://example.com/run/redirect", http.StatusMovedPermanently)
		case "/run/html":
			rw.WriteHeader(http.StatusBadGateway)
			io.WriteString(rw, "<html>\x1b[31m\n\n bad gateway")
		case "/run/text":
			io.WriteString(rw, "hello")
		case "/run/cut":
			rw.Header().Set("Content-Length", "100")
			io.WriteString(rw, `{"a":`)
		case "/run/size":
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(rw, "%v", err == nil && n == r.ContentLength && n > 5)
		case "/run/empty":
		}
	}))
	defer h.Close()
	w.env = append(w.env, "MOONCORE_URL="+h.URL)
	w.write("file", "hello")
	w.steps([]step{
		{name: "redirect", args: []string{"call", "redirect"}, code: 3, err: `answers 301 Moved Permanently, to https://example\.com/run/redirect: give that as --url`},
		{name: "html", args: []string{"call", "html"}, code: 3, err: `answers 502 Bad Gateway, which is not how a Mooncore server answers: <html>.\[31m bad gateway\n$`},
		{name: "text", args: []string{"call", "text"}, code: 3, err: `answers 200 OK, which is not how .*: hello`},
		{name: "empty", args: []string{"call", "empty"}, code: 3, err: `the body is empty`},
		{name: "cut", args: []string{"call", "cut"}, code: 3, err: `unexpected EOF`},
		{name: "the size of an upload is announced", args: []string{"call", "--file", "f=file", "size", "a=b"}, out: `^true\n$`},
		{name: "no upgrade", args: []string{"call", "--ws", "text"}, code: 3, err: `/ws answers 200 OK`},
	})
	if _, errOut, _ := w.run("", "call", "html"); strings.Contains(errOut, "\x1b") {
		t.Errorf("%q", errOut)
	}
}

func TestWarningOfPlainText(t *testing.T) {
	w := newWorld(t)
	w.steps([]step{
		{name: "elsewhere", args: []string{"call", "--url", "http://mooncore.invalid", "--timeout", "2s", "x"}, env: []string{"MOONCORE_TOKEN=t"}, code: 3, err: `^warning: the token goes to mooncore\.invalid in plain text: use https\n`},
		{name: "without a token", args: []string{"call", "--url", "http://mooncore.invalid", "--timeout", "2s", "x"}, code: 3, err: `^mooncore: `},
	})
}

func TestUpload(t *testing.T) {
	w := newWorld(t)
	w.serve()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	w.write("photo.jpg", string(content))
	w.write("empty", "")
	out := w.must("", "call", "--file", "photo=photo.jpg", "--file", "more[]=empty", "upload", "title=Holiday", "n:=5", `user:={"name":"é","tags":["a","b"]}`)
	var got struct {
		Params map[string]any
		Files  []struct {
			Field, Name, Type, Sum string
			Size                   int
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Files) != 2 {
		t.Fatalf("%s, %v", out, err)
	}
	sum := sha256.Sum256(content)
	photo, empty := got.Files[0], got.Files[1]
	if empty.Field != "more[]" {
		photo, empty = empty, photo
	}
	if photo.Field != "photo" || photo.Name != "photo.jpg" || photo.Type != "image/jpeg" || photo.Size != len(content) || photo.Sum != hex.EncodeToString(sum[:]) || empty.Size != 0 || empty.Type != "application/octet-stream" {
		t.Errorf("files %+v", got.Files)
	}
	params, _ := json.Marshal(got.Params)
	if string(params) != `{"n":"5","title":"Holiday","user":{"name":"é","tags":["a","b"]}}` {
		t.Errorf("params %s", params)
	}
	w.write("large", strings.Repeat("x", 9<<20))
	w.steps([]step{
		{name: "too large", args: []string{"call", "--file", "f=large", "upload"}, code: 1, err: `^mooncore: too_large: Payload too large\n$`},
		{name: "null", args: []string{"call", "--file", "f=empty", "upload", "a:=null"}, code: 2, err: `a: a form holds no null`},
		{name: "lists of lists", args: []string{"call", "--file", "f=empty", "upload", "a:=[[1]]"}, code: 2, err: `a: a form holds no list of lists`},
	})
}

// On a terminal an upload shows its progress, and the result stands on a line of its own.
func TestUploadProgress(t *testing.T) {
	script := needs.Command(t, "script", "bsdutils")
	w := newWorld(t)
	w.serve()
	w.write("file", strings.Repeat("x", 1<<20))
	cmd := w.command(t.Context())
	cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=1")
	cmd.Path, cmd.Args = script, []string{"script", "-qec", cmd.Args[0] + " call --file f=file upload", "/dev/null"}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "100 %  1.0 MiB of 1.0 MiB") || !strings.Contains(string(out), "\x1b[K\r\n{\r\n  \"files\": [") {
		t.Errorf("%v: %q", err, out)
	}
}

// A following is a command that follows channels.
type following struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  chan string // of standard output
	mu     sync.Mutex
	errOut bytes.Buffer
}

func (f *following) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errOut.Write(b)
}

func (f *following) said() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errOut.String()
}

func (w *world) follow(t *testing.T, args ...string) *following {
	t.Helper()
	f := &following{t: t, cmd: w.command(t.Context(), append([]string{"call"}, args...)...), lines: make(chan string, 100)}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.cmd.Stderr = f
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(f.lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			f.lines <- scanner.Text()
		}
	}()
	return f
}

func (f *following) next() string {
	f.t.Helper()
	select {
	case line := <-f.lines:
		return line
	case <-time.After(20 * time.Second):
		f.t.Fatalf("no line in 20 s; it said %s", f.said())
		return ""
	}
}

// interrupt is Ctrl-C. It returns the exit code.
func (f *following) interrupt() int {
	f.t.Helper()
	if err := f.cmd.Process.Signal(os.Interrupt); err != nil {
		f.t.Fatal(err)
	}
	for range f.lines { // until the end
	}
	_ = f.cmd.Wait() // its exit code is looked at
	return f.cmd.ProcessState.ExitCode()
}

func TestFollow(t *testing.T) {
	w := newWorld(t)
	w.serve()
	w.env = append(w.env, "MOONCORE_TOKEN="+w.must("", "token", "make", "--key", "private.pem", "--user", "alice", "--app-roles", "admin,channel_news", "--role", "channel_news"))
	f := w.follow(t, "--follow", "main", "--follow", "news", "--json")
	eventually(t, "it follows", func() bool { return strings.Count(f.said(), "✓ following ") == 2 })
	if err := w.srv.Tenant("", "").Publish(t.Context(), "new", map[string]int{"n": 1}, mooncore.ToChannel("news")); err != nil {
		t.Fatal(err)
	}
	var event struct {
		Time    time.Time
		Event   string
		Payload json.RawMessage
	}
	if line := f.next(); json.Unmarshal([]byte(line), &event) != nil || event.Event != "new" || string(event.Payload) != `{"n":1}` || event.Time.IsZero() {
		t.Errorf("got %s", line)
	}
	if code := f.interrupt(); code != 0 {
		t.Errorf("Ctrl-C ends it with %d: %s", code, f.said())
	}
	eventually(t, "its connection is gone", func() bool { return len(w.srv.Conns()) == 0 })

	w.steps([]step{
		{name: "an action and its events", args: []string{"call", "--follow", "main", "--events", "3", "say", "Text=hi"}, out: `^\d\d:\d\d:\d\d said \{"n":0,"text":"hi"\}\n.*"n":2.*\n3\n$`, err: `^✓ following main:default\n$`},
		{name: "a channel that is not allowed", args: []string{"call", "--follow", "secret"}, code: 1, err: `^mooncore: secret cannot be joined: the token lacks the role channel_secret`},
		{name: "without a token", args: []string{"call", "--follow", "main"}, env: []string{"MOONCORE_TOKEN="}, code: 1, err: `cannot be joined: there is no token`},
		{name: "an action that fails", args: []string{"call", "--follow", "main", "taken"}, code: 1, err: `✓ following main:default\nmooncore: already_exists`},
		{name: "no server", args: []string{"call", "--url", "127.0.0.1:1", "--follow", "main"}, code: 3, err: `connection refused`},
	})

	kicked := w.follow(t, "--follow", "main")
	eventually(t, "it follows", func() bool { return strings.Contains(kicked.said(), "✓ following") })
	if err := w.srv.Tenant("", "").Kick(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	for range kicked.lines {
	}
	_ = kicked.cmd.Wait() // its exit code is looked at
	if code := kicked.cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(kicked.said(), "the server closed the connection: 1008 kicked") {
		t.Errorf("kicked: %d, %s", code, kicked.said())
	}
}

// Following goes on when the server comes back.
func TestFollowThroughRestart(t *testing.T) {
	w := newWorld(t)
	w.must("", "keys", "generate", "--alg", "ES256", "--out", "private.pem")
	start := func(addr string) (*mooncore.Server, func(), string) {
		var listener net.Listener
		eventually(t, "the port is free", func() (ok bool) {
			var err error
			listener, err = net.Listen("tcp", addr)
			return err == nil
		})
		srv, err := mooncore.New(mooncore.Config{Listener: listener, Development: true, Routers: []mooncore.Router{{}}, Logger: discard,
			JWT: mooncore.JWTConfig{PrivateKey: mooncore.Secret(w.read("private.pem"))}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- srv.Run(ctx) }()
		return srv, func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}, listener.Addr().String()
	}
	_, stop, addr := start("127.0.0.1:0")
	w.env = append(w.env, "MOONCORE_TOKEN="+w.must("", "token", "make", "--key", "private.pem", "--user", "alice"))
	f := w.follow(t, "--url", addr, "--follow", "main")
	eventually(t, "it follows", func() bool { return strings.Contains(f.said(), "✓ following") })
	stop()
	eventually(t, "it notices", func() bool { return strings.Contains(f.said(), "warning: the server restarts; connecting again in ") })
	srv, stop, _ := start(addr)
	defer stop()
	eventually(t, "it follows again", func() bool { return strings.Count(f.said(), "✓ following") == 2 })
	if err := srv.Tenant("", "").Publish(t.Context(), "back", 1, mooncore.ToChannel("main")); err != nil {
		t.Fatal(err)
	}
	if line := f.next(); !strings.HasSuffix(line, " back 1") {
		t.Errorf("got %s", line)
	}
	if code := f.interrupt(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A server says how long its clients should wait, so that not all come back at once.
func TestFollowWaitsAsTold(t *testing.T) {
	w := newWorld(t)
	h := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(rw, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.CloseNow()
		if _, _, err := ws.Read(r.Context()); err != nil {
			t.Error(err)
		}
		ws.Write(r.Context(), websocket.MessageText, []byte(`["channel_list",["main:default"]]`))
		ws.Close(websocket.StatusServiceRestart, `{"retry_after":2500}`)
	}))
	defer h.Close()
	f := w.follow(t, "--url", h.URL, "--follow", "main")
	eventually(t, "it says how long it waits", func() bool { return strings.Contains(f.said(), "connecting again in 2.5s") })
	if code := f.interrupt(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Ctrl-C while an action runs.
func TestCallInterrupted(t *testing.T) {
	w := newWorld(t)
	w.serve()
	for _, args := range [][]string{{"stuck"}, {"--ws", "stuck"}} {
		f := w.follow(t, args...)
		eventually(t, "the action runs", func() bool { return w.srv.Stats().Calls == 1 })
		if code := f.interrupt(); code != 130 || f.said() != "" {
			t.Errorf("%q: %d, %s", args, code, f.said())
		}
		eventually(t, "the action has ended", func() bool { return w.srv.Stats().Calls == 0 })
	}
}

// A reader that ends early, such as head, ends the command.
func TestFollowIntoClosedPipe(t *testing.T) {
	w := newWorld(t)
	w.serve()
	w.env = append(w.env, "MOONCORE_TOKEN="+w.must("", "token", "make", "--key", "private.pem", "--user", "alice"))
	cmd := w.command(t.Context(), "call", "--follow", "main")
	r, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = pw
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	pw.Close()
	eventually(t, "it ends", func() bool {
		if err := w.srv.Tenant("", "").Publish(t.Context(), "e", 1, mooncore.ToChannel("main")); err != nil {
			t.Fatal(err)
		}
		return len(w.srv.Conns()) == 0 && w.srv.Stats().Delivered > 0
	})
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) {
		t.Errorf("got %v", err)
	}
}
