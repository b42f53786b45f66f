package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/internal/race"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// TestDevToolsNeedTheFlag also links the program into the test binary, so that go test runs the others again when it changes.
func TestDevToolsNeedTheFlag(t *testing.T) {
	for value, want := range map[string]bool{"": false, "1": false, "true": true} {
		t.Setenv("DEV_FLAG", value)
		if got := config().DevTools; got != want {
			t.Errorf("DEV_FLAG=%q: Config.DevTools is %v", value, got)
		}
	}
}

const secret = "a secret of the tests, forty characters.."

// A program is this program, built and run as its user would.
type program struct {
	t       *testing.T
	url     string // of the chat
	tools   string // of the dashboard, ending in "/"
	link    string // the one-time link, when there is no secret
	process *os.Process
	ended   chan error
}

// build builds the program and returns its path. It looks for races if the test does.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "devtools")
	args := []string{"build", "-trimpath", "-o", path}
	if race.Enabled {
		args = append(args, "-race")
	}
	if out, err := exec.CommandContext(t.Context(), "go", append(args, ".")...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

var (
	listening = regexp.MustCompile(`msg=listening addr=(\S+)`)
	dashboard = regexp.MustCompile(`msg="developer tools" (?:url|"open once")="?(http://[^/"\s]+/)([^"\s]*)`)
)

// start runs the program until it listens. The environment is on top of one that has the dev tools on.
func start(t *testing.T, path string, env ...string) *program {
	t.Helper()
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "MOONCORE_ENV=development", "DEV_FLAG=true", "MOONCORE_DEV_TOOLS=true", "HOST=127.0.0.1", "PORT=0", "DEV_ADDR=127.0.0.1:0")
	cmd.Env = append(cmd.Env, env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, process: cmd.Process, ended: make(chan error, 1)}
	lines, ready := make(chan string), make(chan struct{})
	defer close(ready)
	go func() {
		var log bytes.Buffer
		for scanner := bufio.NewScanner(io.TeeReader(stderr, &log)); scanner.Scan(); {
			select {
			case lines <- scanner.Text():
			case <-ready:
			}
		}
		close(lines)
		if err := cmd.Wait(); err != nil {
			p.ended <- fmt.Errorf("%w\n%s", err, log.String())
		}
		close(p.ended)
	}()
	t.Cleanup(func() { p.stop() })
	limit := time.After(30 * time.Second)
	for p.url == "" || p.tools == "" {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the program ended: %v", <-p.ended)
			}
			if found := listening.FindStringSubmatch(line); found != nil {
				p.url = "http://" + found[1]
			}
			if found := dashboard.FindStringSubmatch(line); found != nil {
				p.tools = found[1]
				if found[2] != "" {
					p.link = found[1] + found[2]
				}
			}
		case <-limit:
			t.Fatal("the program does not listen after 30 s")
		}
	}
	return p
}

// stop ends the program and waits for it.
func (p *program) stop() {
	p.t.Helper()
	p.process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		if err != nil {
			p.t.Errorf("the program did not stop cleanly: %v", err)
		}
	case <-time.After(40 * time.Second):
		p.process.Kill()
		p.t.Error("the program did not stop in 40 s")
	}
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}

// call calls an action over HTTP.
func (p *program) call(action, token string, params any) (json.RawMessage, int) {
	p.t.Helper()
	body, err := json.Marshal(params)
	if err != nil {
		p.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url+"/run/"+action, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return out, resp.StatusCode
}

// callOften calls an action many times as nobody, on a few connections at once. The answers do not matter.
func (p *program) callOften(times int, action string) {
	p.t.Helper()
	const workers = 4
	transport := &http.Transport{MaxIdleConnsPerHost: workers}
	defer transport.CloseIdleConnections()
	quick := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range times / workers {
				resp, err := quick.Post(p.url+"/run/"+action, "application/json", strings.NewReader("{}"))
				if err != nil {
					p.t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	group.Wait()
}

// A guest is somebody in the chat.
type guest struct {
	t     *testing.T
	token string
	conn  *websocket.Conn
}

// enter lets somebody into the chat, in one room.
func (p *program) enter(name string) *guest {
	p.t.Helper()
	out, status := p.call("login", "", map[string]any{"name": name})
	var token string
	if status != http.StatusOK || json.Unmarshal(out, &token) != nil {
		p.t.Fatalf("%s did not get in: %d %s", name, status, out)
	}
	conn, resp, err := websocket.Dial(p.t.Context(), "ws"+strings.TrimPrefix(p.url, "http")+"/ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.Body != nil {
		resp.Body.Close()
	}
	p.t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(-1)
	g := &guest{p.t, token, conn}
	g.send([]any{"jwt", token})
	g.until("jwt")
	g.send([]any{"join", "room-general"})
	g.until("channel_list")
	return g
}

func (g *guest) send(message any) {
	g.t.Helper()
	if err := wsjson.Write(g.t.Context(), g.conn, message); err != nil {
		g.t.Fatal(err)
	}
}

// until reads until an event comes, and returns its payload.
func (g *guest) until(event string) json.RawMessage {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	for {
		var message []json.RawMessage
		if err := wsjson.Read(ctx, g.conn, &message); err != nil {
			g.t.Fatalf("%s did not come: %v", event, err)
		}
		var name string
		if len(message) > 1 && json.Unmarshal(message[0], &name) == nil && name == event {
			return message[1]
		}
	}
}

// closed reads until the server closes the connection, and returns the code.
func (g *guest) closed() websocket.StatusCode {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	for {
		if _, _, err := g.conn.Read(ctx); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}
