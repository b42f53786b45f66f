package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/mooncore/mooncore/examples/production/internal/redistest"
	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/internal/leaktest"
)

// asProgram makes the test binary be the program, so that tests can run it as a process.
const asProgram = "PRODUCTION_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	leaktest.Main(m)
}

// program is the program with these arguments and no environment but this, in an empty directory. One that doesn't end is killed.
func program(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append([]string{asProgram + "=1"}, env...)
	cmd.Dir = t.TempDir()
	return cmd
}

// newKey is a private key in PEM.
func newKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// A process is the program, serving in production.
type process struct {
	cmd   *exec.Cmd
	env   []string
	base  string // its URL
	log   bytes.Buffer
	ended chan struct{}
	err   error
}

// serveProcess starts the program in production, with these variables besides, and waits until it is ready.
func serveProcess(t *testing.T, env ...string) *process {
	t.Helper()
	addr := freeport.Addr(t)
	_, port, _ := net.SplitHostPort(addr)
	p := &process{base: "http://" + addr, ended: make(chan struct{})}
	p.env = append([]string{"MOONCORE_ENV=production", "JWT_PRIVATE_KEY=" + newKey(t), "PORT=" + port}, env...)
	p.cmd = program(t, p.env)
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() { p.cmd.Process.Kill(); <-p.ended })
	for end := time.Now().Add(30 * time.Second); ; {
		if resp, err := http.Get(p.base + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				http.DefaultClient.CloseIdleConnections()
				return p
			}
		}
		select {
		case <-p.ended:
			t.Fatalf("it did not start: %v\n%s", p.err, &p.log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatal("it is not ready after 30 s")
		}
	}
}

// stop sends SIGTERM and waits for a clean end.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(40 * time.Second):
		t.Fatal("it still runs 40 s after SIGTERM")
	}
	if p.err != nil {
		t.Errorf("it did not stop cleanly: %v\n%s", p.err, &p.log)
	}
}

// token is one that the program's own command makes.
func (p *process) token(t *testing.T, user string) string {
	t.Helper()
	out, err := program(t, p.env, "token", "-user", user, "-tenant", "acme", "-role", roleAdmin).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestWrongEnvironments(t *testing.T) {
	key := newKey(t)
	canary := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(canary, []byte("postgres://u:canary@host:port/db\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		env  []string
		want string
	}{
		{"no key", []string{"MOONCORE_ENV=production"}, "JWT_PRIVATE_KEY not set"},
		{"demo login in production", []string{"MOONCORE_ENV=production", "DEMO_LOGIN=true", "JWT_PRIVATE_KEY=" + key}, "DEMO_LOGIN: it lets everybody in"},
		{"demo login maybe", []string{"DEMO_LOGIN=1"}, `DEMO_LOGIN: "1" is neither "true" nor "false"`},
		{"environment", []string{"MOONCORE_ENV=prod"}, `MOONCORE_ENV: "prod"`},
		{"log level", []string{"LOG_LEVEL=loud"}, `LOG_LEVEL: "loud"`},
		{"database", []string{"DATABASE_URL=postgres://u:canary@host:port/db"}, "DATABASE_URL: it is no PostgreSQL URL"},
		{"database, other kind", []string{"DATABASE_URL=mysql://u:canary@host/db"}, "DATABASE_URL: it is no PostgreSQL URL"},
		{"database by file", []string{"DATABASE_URL_FILE=" + canary}, "DATABASE_URL: it is no PostgreSQL URL"},
		{"no such file", []string{"DATABASE_URL_FILE=nowhere"}, "DATABASE_URL_FILE: open nowhere"},
		{"database that is away", []string{"DATABASE_URL=postgres://u:canary@127.0.0.1:1/db"}, "the database could not be migrated"},
		{"connections", []string{"DATABASE_CONNS=0"}, `DATABASE_CONNS: "0" is no number above 0`},
		{"proxies", []string{"TRUSTED_PROXIES=10.0.0.0/8, proxy.example"}, `TRUSTED_PROXIES: "proxy.example"`},
		{"hosts", []string{"HOSTS=a.example:b"}, `Hosts[0]: "a.example:b"`},
		{"inner", []string{"INNER_ADDR=4001"}, `Inner: "4001"`},
		{"redis", []string{"REDIS_URL=http://u:canary@host"}, "REDIS_URL: "},
		{"redis by a file that is none", []string{"REDIS_URL_FILE=nowhere"}, "REDIS_URL_FILE: open nowhere"},
		{"several", []string{"DATABASE_CONNS=x", "DEMO_LOGIN=x"}, "DATABASE_CONNS: \"x\" is no number above 0\nDEMO_LOGIN:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out, err := program(t, tt.env).CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
				t.Errorf("%v, want exit status 1", err)
			}
			if !strings.Contains(string(out), tt.want) {
				t.Errorf("it says:\n%s\nwant %q in it", out, tt.want)
			}
			if strings.Contains(string(out), "canary") {
				t.Errorf("it tells the password:\n%s", out)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	tests := []struct {
		args []string
		env  []string
		exit int
		want string
	}{
		{[]string{"help"}, nil, 0, "Usage: production"},
		{[]string{"--version"}, nil, 0, "commit "},
		{[]string{"serv"}, nil, 1, `there is no command "serv"; try help`},
		{[]string{"health", "now"}, nil, 1, `health takes no argument "now"`},
		{[]string{"health"}, []string{"PORT=1"}, 1, "connection refused"},
		{[]string{"token", "-h"}, nil, 0, "-tenant tenant"},
		{[]string{"token"}, nil, 1, "token needs -user and -tenant"},
		{[]string{"token", "ada"}, nil, 1, `token takes flags only, not "ada"`},
		{[]string{"token", "-user", "ada", "-tenant", "acme"}, nil, 1, "token needs the server's key"},
		{[]string{"token", "-user", "ada", "-tenant", "acme", "-role", "root"}, []string{"JWT_PRIVATE_KEY=" + newKey(t)}, 1, "root"},
		{[]string{"token", "-user", "ada", "-tenant", "acme", "-for", "25h"}, []string{"JWT_PRIVATE_KEY=" + newKey(t)}, 1, "at most 24h"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			cmd := program(t, tt.env, tt.args...)
			out, err := cmd.CombinedOutput()
			if got := cmd.ProcessState.ExitCode(); got != tt.exit || !strings.Contains(string(out), tt.want) {
				t.Errorf("%v\n%s\nwant exit status %d and %q", err, out, tt.exit, tt.want)
			}
		})
	}
}

func TestServesThePage(t *testing.T) {
	srv := newTestServer(t, "")
	for path, want := range map[string]string{"/": "text/html", "/tasks.js": "text/javascript", "/tasks.css": "text/css", "/icon.svg": "image/svg+xml"} {
		rec := httptest.NewRecorder()
		srv.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		if got := rec.Header().Get("Content-Type"); rec.Code != http.StatusOK || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %d %s, want 200 %s", path, rec.Code, got, want)
		}
		if got := rec.Header().Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'") {
			t.Errorf("%s: Content-Security-Policy %q", path, got)
		}
	}
}

func TestMetricsAreOnTheInnerListenerAlone(t *testing.T) {
	inner := freeport.Addr(t)
	p := serveProcess(t, "INNER_ADDR="+inner)
	get := func(url string) (int, string) {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	get(p.base + "/run/about")
	_, text := get("http://" + inner + "/metrics")
	for _, want := range []string{`go_sql_open_connections{db_name="tasks"} 1`, `rpc_server_call_duration_seconds_count{rpc_method="about",rpc_response_status_code="ok"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
	if status, _ := get(p.base + "/metrics"); status != http.StatusNotFound {
		t.Errorf("on the outer listener /metrics is %d", status)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestEventsReachTheWindowsOfOtherServers(t *testing.T) {
	env := []string{"REDIS_URL=" + redistest.Start(t), "JWT_PRIVATE_KEY=" + newKey(t)}
	here, there := serveProcess(t, env...), serveProcess(t, env...)
	auth := http.Header{"Authorization": {"Bearer " + here.token(t, "ada")}, "Content-Type": {"application/json"}}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	window, _, err := websocket.Dial(ctx, there.base+"/ws", &websocket.DialOptions{HTTPHeader: auth})
	if err != nil {
		t.Fatal(err)
	}
	defer window.CloseNow()
	var frame []json.RawMessage
	if err := errors.Join(wsjson.Write(ctx, window, []string{"join", channel}), wsjson.Read(ctx, window, &frame)); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(ctx, "POST", here.base+"/run/task.create", strings.NewReader(`{"title":"Milk"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = auth
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err := wsjson.Read(ctx, window, &frame); err != nil || string(frame[0]) != `"task-created"` || !strings.Contains(string(frame[1]), `"title":"Milk"`) {
		t.Errorf("the other server's window got %s (%v; the call: %s)", frame, err, resp.Status)
	}
}

// stopUnderLoad sends SIGTERM while clients create tasks by HTTP and by WebSocket, and compares what they were answered with
// what is in the database: nobody may have been told of a task that is not there, and no task be there that nobody was told of.
func stopUnderLoad(t *testing.T, url string) {
	p := serveProcess(t, "DATABASE_URL="+url)
	if err := program(t, p.env, "health").Run(); err != nil {
		t.Errorf("health of a server that serves: %v", err)
	}
	var answered sync.Map
	var refused, unsent atomic.Int64
	var load sync.WaitGroup
	var loaded atomic.Int64 // answers so far
	for i := range 8 {
		name := fmt.Sprintf("http%d", i)
		token := p.token(t, name)
		load.Go(func() { createOverHTTP(p.base, token, name, &answered, &loaded, &refused, &unsent) })
	}
	for i := range 8 {
		name := fmt.Sprintf("ws%d", i)
		token := p.token(t, name)
		load.Go(func() { createOverWebSocket(t, p.base, token, name, &answered, &loaded, &refused) })
	}
	for end := time.Now().Add(20 * time.Second); loaded.Load() < 200; time.Sleep(time.Millisecond) { // real time: load from outside
		if time.Now().After(end) {
			t.Fatalf("only %d answers after 20 s", loaded.Load())
		}
	}
	p.stop(t)
	load.Wait()

	s := newTestStore(t, url)
	rows, err := s.db.QueryContext(t.Context(), `SELECT title FROM tasks`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	stored := 0
	for rows.Next() {
		var title string
		if err := rows.Scan(&title); err != nil {
			t.Fatal(err)
		}
		stored++
		if _, ok := answered.LoadAndDelete(title); !ok {
			t.Errorf("%q is stored, but nobody got an answer", title)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	answered.Range(func(title, _ any) bool {
		t.Errorf("%q was answered, but is not stored", title)
		return true
	})
	t.Logf("%d stored and answered, %d refused, %d not accepted", stored, refused.Load(), unsent.Load())
	if !strings.Contains(p.log.String(), `"msg":"stopped"`) || !strings.Contains(p.log.String(), `"action":"task.create","code":"ok"`) {
		t.Errorf("the log does not tell: %.2000s", &p.log)
	}
}

// pace is what a client waits before its next call: a user may make 20 a second.
const pace = 55 * time.Millisecond

// createOverHTTP creates tasks, each over a connection of its own, until the server does not listen any more.
func createOverHTTP(base, token, name string, answered *sync.Map, loaded, refused, unsent *atomic.Int64) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for i := 0; ; i++ {
		time.Sleep(pace) // real time: load from outside
		title := fmt.Sprintf("%s-%d", name, i)
		r, err := http.NewRequest("POST", base+"/run/task.create", strings.NewReader(`{"title":"`+title+`"}`))
		if err != nil {
			return
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(r)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return
		case err != nil: // the listener closed before it accepted the connection
			unsent.Add(1)
			continue
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		switch {
		case err != nil:
		case resp.StatusCode == http.StatusOK:
			answered.Store(title, true)
			loaded.Add(1)
		case resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
			refused.Add(1)
		}
	}
}

// createOverWebSocket creates tasks over one connection until the server closes it.
func createOverWebSocket(t *testing.T, base, token, name string, answered *sync.Map, loaded, refused *atomic.Int64) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(ctx, base+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil {
		t.Error(err)
		return
	}
	defer c.CloseNow()
	for i := 0; ; i++ {
		time.Sleep(pace) // real time: load from outside
		title := fmt.Sprintf("%s-%d", name, i)
		err := wsjson.Write(ctx, c, map[string]any{"action": "task.create", "title": title, "rayid": title})
		var answer []json.RawMessage
		if err == nil {
			err = wsjson.Read(ctx, c, &answer)
		}
		if err != nil {
			if websocket.CloseStatus(err) < 0 { // of the write; the server's close is still to be read
				_, _, err = c.Read(ctx)
			}
			if websocket.CloseStatus(err) != websocket.StatusServiceRestart {
				t.Errorf("%s: the connection ended with %v, want close 1012", name, err)
			}
			return
		}
		var task Task
		switch {
		case json.Unmarshal(answer[1], &task) == nil && task.Title == title:
			answered.Store(title, true)
			loaded.Add(1)
		case strings.Contains(string(answer[1]), `"unavailable"`):
			refused.Add(1)
		default:
			t.Errorf("%s: answered %s", title, answer[1])
			return
		}
	}
}
