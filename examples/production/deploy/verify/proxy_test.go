package verify

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
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
	"github.com/mooncore/mooncore/examples/production/internal/pgtest"
	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/internal/needs"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

const host = "tasks.example.com"

// TestProxies puts the real proxies, with the files in deploy, before two servers, and stops one of them under load.
func TestProxies(t *testing.T) {
	b := buildImage(t)
	url := pgtest.Start(t)
	for _, proxy := range []struct {
		name  string
		start func(t *testing.T, p *proxied) *exec.Cmd
	}{{"nginx", startNginx}, {"caddy", startCaddy}} {
		t.Run(proxy.name, func(t *testing.T) {
			path := needs.Command(t, proxy.name, proxy.name)
			t.Parallel()
			p := &proxied{path: path, dir: t.TempDir(), port: freeport.Port(t), plain: freeport.Port(t), database: newDatabase(t, url, proxy.name)}
			p.certify(t)
			key := newKey(t)
			for i := range p.servers {
				p.servers[i] = startServer(t, b.binary(), p.database, key)
			}
			cmd := proxy.start(t, p)
			cmd.Stderr = &p.log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() }()
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
	path, dir   string // of the proxy
	port, plain string // its ports, with TLS and without
	log         output
	database    string
	servers     [2]*server
	roots       *x509.CertPool

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

// output is what a process wrote. It may be used concurrently.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
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

func startNginx(t *testing.T, p *proxied) *exec.Cmd {
	t.Helper()
	conf := replace(t, readFile(t, "nginx.conf"),
		"listen 80;", "listen 127.0.0.1:"+p.plain+";", "listen 443 ssl;", "listen 127.0.0.1:"+p.port+" ssl;",
		"/etc/ssl/tasks/fullchain.pem", p.dir+"/cert.pem", "/etc/ssl/tasks/privkey.pem", p.dir+"/key.pem",
		"127.0.0.1:4001", "127.0.0.1:"+p.servers[0].port, "127.0.0.1:4002", "127.0.0.1:"+p.servers[1].port)
	p.write(t, "tasks.conf", conf)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	p.write(t, "nginx.conf", fmt.Sprintf(`
daemon off; worker_processes 2; pid nginx.pid; error_log stderr info; %s
events { worker_connections 512; }
http {
	access_log access.log;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	include tasks.conf;
}`, user))
	return exec.Command(p.path, "-p", p.dir, "-e", "stderr", "-c", filepath.Join(p.dir, "nginx.conf"))
}

func startCaddy(t *testing.T, p *proxied) *exec.Cmd {
	t.Helper()
	conf := replace(t, readFile(t, "Caddyfile"),
		host+" {", host+" {\n\ttls "+p.dir+"/cert.pem "+p.dir+"/key.pem", // Caddy would ask an authority for one
		"127.0.0.1:4001", "127.0.0.1:"+p.servers[0].port, "127.0.0.1:4002", "127.0.0.1:"+p.servers[1].port)
	global := fmt.Sprintf("{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\thttp_port %s\n\thttps_port %s\n}\n", p.plain, p.port)
	p.write(t, "Caddyfile", global+conf)
	cmd := exec.Command(p.path, "run", "--config", filepath.Join(p.dir, "Caddyfile"), "--adapter", "caddyfile")
	cmd.Env = []string{"HOME=" + p.dir, "XDG_DATA_HOME=" + p.dir, "XDG_CONFIG_HOME=" + p.dir}
	return cmd
}

func (p *proxied) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// certify makes a certificate for the proxy, which clients then trust.
func (p *proxied) certify(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	p.write(t, "cert.pem", string(text))
	p.write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	p.roots = x509.NewCertPool()
	p.roots.AppendCertsFromPEM(text)
}

// newKey is a private key of the service, in PEM.
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

// client is one at an address of its own.
func (p *proxied) client(last int) *http.Client {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(last))}}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", "127.0.0.1:"+p.port)
		},
		TLSClientConfig: &tls.Config{RootCAs: p.roots},
	}}
}

func (p *proxied) base() string { return "https://" + host + ":" + p.port }

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
	p.await(t)
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
		t.Errorf("%d calls were refused: the proxy should have sent them to the other server\n%s", n, &p.log)
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

func (p *proxied) await(t *testing.T) {
	t.Helper()
	client := p.client(2)
	defer client.CloseIdleConnections()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // real time: a process starts
		resp, err := client.Get(p.base() + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the proxy does not answer: %v\n%s", err, &p.log)
		}
	}
}

// checkRedirect sees that who comes without TLS is sent to where TLS is.
func (p *proxied) checkRedirect(t *testing.T) {
	t.Helper()
	r, err := http.NewRequest("GET", "http://127.0.0.1:"+p.plain+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if location := resp.Header.Get("Location"); resp.StatusCode/100 != 3 || !strings.HasPrefix(location, "https://"+host) {
		t.Errorf("without TLS: %s, Location %q", resp.Status, location)
	}
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
