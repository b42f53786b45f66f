package verify

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/mooncore/mooncore/examples/production/internal/pgtest"
	"github.com/mooncore/mooncore/internal/freeport"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// TestProxies puts the real proxies, with the files in deploy, before two servers, and stops one of them under load.
func TestProxies(t *testing.T) {
	b := buildImage(t)
	url := pgtest.Start(t)
	for _, kind := range proxyKinds {
		t.Run(kind.name, func(t *testing.T) {
			kind.need(t)
			t.Parallel()
			p := &proxied{database: newDatabase(t, url, kind.name)}
			key := newKey(t)
			for i := range p.servers {
				p.servers[i] = startServer(t, b.binary(), p.database, key)
			}
			p.proxy = kind.start(t, p.servers[0].port, p.servers[1].port)
			p.stopOneUnderLoad(t)
		})
	}
}

func newDatabase(t *testing.T, url, name string) string {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return strings.Replace(url, "/postgres?", "/"+name+"?", 1)
}

// proxied are two servers behind a proxy.
type proxied struct {
	*proxy
	database string
	servers  [2]*server

	answered sync.Map // titles
	answers  atomic.Int64
	refused  atomic.Int64
	restarts atomic.Int64 // WebSockets that were told to come back
}

// A server is one of the program.
type server struct {
	cmd  *exec.Cmd
	env  []string
	port string
	log  output
}

func startServer(t *testing.T, binary, database, key string) *server {
	t.Helper()
	s := &server{port: freeport.Port(t)}
	s.env = []string{"MOONCORE_ENV=production", "PORT=" + s.port, "TRUSTED_PROXIES=127.0.0.1", "DATABASE_URL=" + database, "JWT_PRIVATE_KEY=" + key}
	s.cmd = exec.Command(binary)
	s.cmd.Env, s.cmd.Stderr = s.env, &s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cmd.Process.Kill(); s.cmd.Wait() })
	awaitReady(t, "http://127.0.0.1:"+s.port, &s.log)
	return s
}

func (p *proxied) token(t *testing.T, user string) string {
	t.Helper()
	cmd := exec.Command(p.servers[0].cmd.Path, "token", "-user", user, "-tenant", "acme")
	cmd.Env = p.servers[0].env
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// pace is what a client waits before its next call: a user may make 20 a second.
const pace = 55 * time.Millisecond

// stopOneUnderLoad sends calls through the proxy by HTTP and by WebSocket, stops the busier server meanwhile, and compares what
// clients were answered with what is in the database. No call may be lost, refused or run twice.
func (p *proxied) stopOneUnderLoad(t *testing.T) {
	p.checkRedirect(t)
	var load sync.WaitGroup
	stop := make(chan struct{})
	var users []string
	for i := range 20 {
		user, client := fmt.Sprintf("http%d", i), p.client(100+i)
		users = append(users, user)
		token := p.token(t, user)
		load.Go(func() { p.callOverHTTP(t, client, token, user, stop) })
	}
	for i := range 10 {
		user, client := fmt.Sprintf("ws%d", i), p.client(200+i)
		users = append(users, user)
		token := p.token(t, user)
		load.Go(func() { p.callOverWebSocket(t, client, token, user, stop) })
	}
	p.awaitAnswers(t, 300)
	first, second := p.servers[0], p.servers[1]
	if first.calls("") < second.calls("") {
		first, second = second, first
	}
	for _, user := range users {
		if a, b := first.calls(user), second.calls(user); a > 0 && b > 0 {
			t.Errorf("%s is not with one server: %d calls and %d", user, a, b)
		}
	}

	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := first.cmd.Wait(); err != nil {
		t.Errorf("it did not stop cleanly: %v\n%s", err, &first.log)
	}
	before := second.calls("")
	p.awaitAnswers(t, p.answers.Load()+200)
	close(stop)
	load.Wait()

	stored := p.compare(t)
	if second.calls("") < before+100 {
		t.Errorf("the other server got %d calls, then %d", before, second.calls(""))
	}
	if first.calls("") < 100 {
		t.Errorf("the server that stopped had got %d calls only", first.calls(""))
	}
	t.Logf("%d calls stored and answered, %d of them by the server that stopped; %d WebSockets came back", stored, first.calls(""), p.restarts.Load())
	if n := p.refused.Load(); n > 0 {
		t.Errorf("%d calls were refused: the proxy should have sent them to the other server", n)
	}
	if t.Failed() {
		t.Logf("the proxy's log:\n%s", &p.log)
	}
}

// calls counts the lines of the log about a user's calls, or about all.
func (s *server) calls(user string) int {
	n := 0
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, `"action":"task.create"`) && (user == "" || strings.Contains(line, `"user":"`+user+`"`)) {
			n++
		}
	}
	return n
}

func (p *proxied) awaitAnswers(t *testing.T, n int64) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); p.answers.Load() < n; time.Sleep(5 * time.Millisecond) { // real time: load from outside
		if time.Now().After(end) {
			t.Fatalf("%d answers after 30 s, want %d\n%s", p.answers.Load(), n, &p.log)
		}
	}
}

func (p *proxied) callOverHTTP(t *testing.T, client *http.Client, token, name string, stop <-chan struct{}) {
	defer client.CloseIdleConnections()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(pace):
		}
		title := fmt.Sprintf("%s-%d", name, i)
		r, err := http.NewRequest("POST", p.base()+"/run/task.create", strings.NewReader(`{"title":"`+title+`"}`))
		if err != nil {
			t.Error(err)
			return
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(r)
		if err != nil {
			t.Errorf("%s is lost: %v", title, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		switch {
		case err == nil && resp.StatusCode == http.StatusOK:
			p.answered.Store(title, true)
			p.answers.Add(1)
		case resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
			p.refused.Add(1)
		default:
			t.Errorf("%s is lost: %d %s (%v)", title, resp.StatusCode, body, err)
		}
	}
}

// callOverWebSocket creates tasks over a connection, and over another one when that is told to come back.
func (p *proxied) callOverWebSocket(t *testing.T, client *http.Client, token, name string, stop <-chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client.Timeout = 0 // it would end the connection, too
	dial := func() *websocket.Conn {
		c, resp, err := websocket.Dial(ctx, p.base()+"/ws", &websocket.DialOptions{
			HTTPClient: client, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}, "Origin": {p.base()}}, // as a browser
		})
		if err != nil {
			t.Errorf("%s does not connect: %v (%+v)", name, err, resp)
		}
		return c
	}
	c := dial()
	for i := 0; c != nil; i++ {
		select {
		case <-stop:
			c.CloseNow()
			return
		case <-time.After(pace):
		}
		title := fmt.Sprintf("%s-%d", name, i)
		err := wsjson.Write(ctx, c, map[string]any{"action": "task.create", "title": title, "rayid": title})
		var answer []json.RawMessage
		if err == nil {
			err = wsjson.Read(ctx, c, &answer)
		}
		var task struct{ Title string }
		switch {
		case err != nil:
			if websocket.CloseStatus(err) < 0 { // of the write; the server's close is still to be read
				_, _, err = c.Read(ctx)
			}
			if websocket.CloseStatus(err) != websocket.StatusServiceRestart {
				t.Errorf("%s: the connection ended with %v, want close 1012", name, err)
			}
			p.restarts.Add(1)
			c.CloseNow()
			c = dial()
		case json.Unmarshal(answer[1], &task) == nil && task.Title == title:
			p.answered.Store(title, true)
			p.answers.Add(1)
		case strings.Contains(string(answer[1]), `"unavailable"`): // the connection is closed next
		default:
			t.Errorf("%s: answered %s", title, answer[1])
			c.CloseNow()
			return
		}
	}
}

// compare returns how many tasks are stored, which must be those that were answered.
func (p *proxied) compare(t *testing.T) (stored int) {
	t.Helper()
	db, err := sql.Open("pgx", p.database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT title FROM tasks`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var title string
		if err := rows.Scan(&title); err != nil {
			t.Fatal(err)
		}
		stored++
		if _, ok := p.answered.LoadAndDelete(title); !ok {
			t.Errorf("%q is stored, but nobody got an answer, or it is stored twice", title)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	p.answered.Range(func(title, _ any) bool {
		t.Errorf("%q was answered, but is not stored", title)
		return true
	})
	return stored
}
