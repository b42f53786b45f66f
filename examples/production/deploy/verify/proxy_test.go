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
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/internal/needs"
)

const host = "tasks.example.com"

// A proxyKind is a proxy that deploy has a file for.
type proxyKind struct {
	name      string
	file      string
	upstreams []string // how the file names its second server
	command   func(t *testing.T, p *proxy, conf string) *exec.Cmd
}

var proxyKinds = []proxyKind{
	{"nginx", "nginx.conf", []string{"    server 127.0.0.1:4002 max_fails=1 fail_timeout=5s;\n", "    server 127.0.0.1:4002 max_fails=0;\n"}, nginx},
	{"caddy", "Caddyfile", []string{" 127.0.0.1:4002"}, caddy},
}

// need skips the test where the proxy is not installed.
func (k proxyKind) need(t *testing.T) (path string) {
	t.Helper()
	return needs.Command(t, k.name, k.name)
}

// A proxy is a real one, with the file in deploy. It ends with the test.
type proxy struct {
	path, dir   string
	port, plain string // with TLS and without
	log         output
	roots       *x509.CertPool
}

// start starts a proxy before the servers with these ports, of which there are at least two, and waits until it answers.
func (k proxyKind) start(t *testing.T, ports ...string) *proxy {
	t.Helper()
	p := &proxy{path: k.need(t), dir: t.TempDir(), port: freeport.Port(t), plain: freeport.Port(t)}
	p.certify(t)
	conf := replace(t, readFile(t, k.file), "127.0.0.1:4001", "127.0.0.1:"+ports[0])
	for _, second := range k.upstreams {
		all := ""
		for _, port := range ports[1:] {
			all += strings.ReplaceAll(second, "4002", port)
		}
		conf = replace(t, conf, second, all)
	}
	cmd := k.command(t, p, conf)
	cmd.Stderr = &p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	p.await(t)
	return p
}

func nginx(t *testing.T, p *proxy, conf string) *exec.Cmd {
	t.Helper()
	p.write(t, "tasks.conf", replace(t, conf,
		"listen 80;", "listen 127.0.0.1:"+p.plain+";", "listen 443 ssl;", "listen 127.0.0.1:"+p.port+" ssl;",
		"/etc/ssl/tasks/fullchain.pem", p.dir+"/cert.pem", "/etc/ssl/tasks/privkey.pem", p.dir+"/key.pem"))
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	p.write(t, "nginx.conf", fmt.Sprintf(`
daemon off; worker_processes 2; worker_rlimit_nofile 20000; pid nginx.pid; error_log stderr info; %s
events { worker_connections 20000; }
http {
	access_log access.log;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	include tasks.conf;
}`, user))
	return exec.Command(p.path, "-p", p.dir, "-e", "stderr", "-c", filepath.Join(p.dir, "nginx.conf"))
}

func caddy(t *testing.T, p *proxy, conf string) *exec.Cmd {
	t.Helper()
	conf = replace(t, conf, host+" {", host+" {\n\ttls "+p.dir+"/cert.pem "+p.dir+"/key.pem") // Caddy would ask an authority for one
	global := fmt.Sprintf("{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\thttp_port %s\n\thttps_port %s\n}\n", p.plain, p.port)
	p.write(t, "Caddyfile", global+conf)
	cmd := exec.Command(p.path, "run", "--config", filepath.Join(p.dir, "Caddyfile"), "--adapter", "caddyfile")
	cmd.Env = []string{"HOME=" + p.dir, "XDG_DATA_HOME=" + p.dir, "XDG_CONFIG_HOME=" + p.dir}
	return cmd
}

func (p *proxy) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// certify makes a certificate for the proxy, which clients then trust.
func (p *proxy) certify(t *testing.T) {
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

func (p *proxy) base() string { return "https://" + host + ":" + p.port }

// client is one at an address of its own, by a number from 1 on.
func (p *proxy) client(n int) *http.Client {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(n/250), byte(1+n%250))}}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", "127.0.0.1:"+p.port)
		},
		TLSClientConfig: &tls.Config{RootCAs: p.roots},
	}}
}

// await waits until somebody answers through the proxy.
func (p *proxy) await(t *testing.T) {
	t.Helper()
	client := p.client(1)
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
func (p *proxy) checkRedirect(t *testing.T) {
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

// TestProxiesWhenAllRefuse has servers whose database is away: they refuse some calls with 503, and answer others. A proxy that took them
// for dead would refuse all.
func TestProxiesWhenAllRefuse(t *testing.T) {
	var ports []string
	for range 3 {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/run/save" {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		defer srv.Close()
		_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
		ports = append(ports, port)
	}
	for _, kind := range proxyKinds {
		t.Run(kind.name, func(t *testing.T) {
			p := kind.start(t, ports...)
			client := p.client(1)
			defer client.CloseIdleConnections()
			for range 20 {
				for _, call := range []struct {
					path string
					want int
				}{{"/run/save", http.StatusServiceUnavailable}, {"/run/load", http.StatusOK}} {
					resp, err := client.Post(p.base()+call.path, "application/json", strings.NewReader("{}"))
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					if resp.StatusCode != call.want {
						t.Errorf("%s: %s, want %d", call.path, resp.Status, call.want)
					}
				}
			}
		})
	}
}
