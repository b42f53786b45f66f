package mooncore_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
)

// processEnv makes the test binary a server: a process of its own, to send signals to and to take descriptors from.
const processEnv = "MOONCORE_TEST_PROCESS"

// tally counts the calls that a server read and answered. Clients are told apart by the param "client".
type tally struct {
	mooncore.NopObserver
	mu       sync.Mutex
	Read     map[string]int // calls in WebSocket frames
	Answered map[string]int // responses queued for them
	Started  int            // HTTP requests that became calls
	Ended    int
	names    map[*mooncore.Conn]string
}

func (o *tally) Frame(c *mooncore.Conn, sent, _ bool, data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if sent {
		if strings.HasPrefix(string(data), `["response"`) {
			o.Answered[o.names[c]]++
		}
		return
	}
	var call struct{ Client string }
	if json.Unmarshal(data, &call) == nil && call.Client != "" {
		o.names[c] = call.Client
		o.Read[call.Client]++
	}
}

func (o *tally) CallStart(ctx context.Context, req *mooncore.Request) context.Context {
	if req.Source == "http" {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.Started++
	}
	return ctx
}

func (o *tally) CallEnd(_ context.Context, req *mooncore.Request, _ any, _ error, _ time.Duration) {
	if req.Source == "http" {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.Ended++
	}
}

// serveProcess is the main of a server's process. It prints its address as a line, and at the end its tally.
func serveProcess() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	fmt.Println(listener.Addr())
	counts := &tally{Read: map[string]int{}, Answered: map[string]int{}, names: map[*mooncore.Conn]string{}}
	type work struct {
		Micros int64 `json:"micros"`
	}
	cfg := mooncore.Config{
		Listener: listener, Observers: []mooncore.Observer{counts}, DrainDelay: 100 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
		Routers: catalogue(
			mooncore.Action{Name: "work", Allow: mooncore.Public, Handler: mooncore.Func(func(ctx context.Context, in work) (int64, error) {
				select {
				case <-time.After(time.Duration(in.Micros) * time.Microsecond):
					return in.Micros, nil
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			})},
			returning("stuck", func(context.Context) (any, error) { select {} }),
		),
	}
	if os.Getenv(processEnv) == "overlapping" {
		cfg.Limits.Calls = 4
	}
	if err := mooncore.Run(cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	counts.mu.Lock()
	defer counts.mu.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(counts); err != nil {
		return 3
	}
	return 0
}

func TestRunChecksInsteadOfServing(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, key string
		code      int
		ids       []string // that must be there
	}{
		{"fatal", "", 1, []string{"no_key", "no_readiness_check"}},
		{"not fatal", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0, []string{"default_issuer", "no_readiness_check"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), processEnv+"=check", "MOONCORE_CHECK=json", "MOONCORE_ENV=production", "JWT_PRIVATE_KEY="+test.key, "GORACE=atexit_sleep_ms=0")
			out, err := cmd.Output() // it would never end if it served
			if code := cmd.ProcessState.ExitCode(); code != test.code {
				t.Errorf("exit code %d, %v", code, err)
			}
			_, line, _ := strings.Cut(string(out), "\n") // after the address
			var findings []mooncore.Finding
			if err := json.NewDecoder(strings.NewReader(line)).Decode(&findings); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, id := range test.ids {
				if !slices.ContainsFunc(findings, func(f mooncore.Finding) bool { return f.ID == id }) {
					t.Errorf("no %s in %+v", id, findings)
				}
			}
		})
	}
}

// A process is a server in a process of its own.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	addr   string
	stdout *bufio.Reader
	stderr strings.Builder
}

// startProcess starts this test binary as a server. The wrapper, if there is one, is a command that runs the rest of its line.
func startProcess(t testing.TB, kind string, wrapper ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	line := append(wrapper, self)
	p := &process{t: t, cmd: exec.Command(line[0], line[1:]...)}
	p.cmd.Env = append(os.Environ(), processEnv+"="+kind, "MOONCORE_ENV=development", "GORACE=atexit_sleep_ms=0")
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.cmd.Process.Kill()
			p.cmd.Wait()
		}
	})
	p.stdout = bufio.NewReader(out)
	addr, err := p.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("the process did not start: %v %s", err, p.stderr.String())
	}
	p.addr = strings.TrimSpace(addr)
	eventually(t, "the process answers", func() bool {
		resp, err := http.Get("http://" + p.addr + "/livez")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return p
}

func (p *process) signal() { p.cmd.Process.Signal(syscall.SIGTERM) }

// wait waits for the end and returns what the process printed, and its exit code.
func (p *process) wait() (out string, code int) {
	b, _ := io.ReadAll(p.stdout)
	p.cmd.Wait() // the code says it
	return string(b), p.cmd.ProcessState.ExitCode()
}

// callUntilRefused posts calls one after another until the server is gone, and tells of the first answer. It returns how many
// were answered, and refused.
func callUntilRefused(t *testing.T, addr string, ready func()) (answered, refused int) {
	ready = sync.OnceFunc(ready)
	defer ready()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for {
		body := fmt.Sprintf(`{"micros":%d}`, rand.IntN(3000))
		resp, err := (&http.Client{Transport: transport}).Post("http://"+addr+"/run/work", "application/json", strings.NewReader(body))
		if err != nil {
			return answered, refused
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		ready()
		switch resp.StatusCode {
		case http.StatusOK:
			answered++
		case http.StatusServiceUnavailable:
			if resp.Header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			refused++
		default:
			t.Errorf("status %d", resp.StatusCode)
		}
	}
}

// callUntilClosed sends calls, without waiting for responses, until the server closes. It returns the ids of the responses in the
// order in which they came, and the close frame. It tells of the first response.
func callUntilClosed(t *testing.T, addr, client string, ready func()) (ids []int, closed websocket.CloseError) {
	ready = sync.OnceFunc(ready)
	defer ready()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+addr+"/ws", nil)
	if err != nil {
		t.Error(err)
		return nil, closed
	}
	defer c.CloseNow()
	tickets := make(chan struct{}, 8)
	var sender sync.WaitGroup
	sender.Go(func() {
		for id := 1; ; id++ {
			select {
			case tickets <- struct{}{}:
			case <-ctx.Done():
				return
			}
			frame := fmt.Sprintf(`{"action":"work","micros":%d,"client":%q,"rayid":%d}`, rand.IntN(3000), client, id)
			if c.Write(ctx, websocket.MessageText, []byte(frame)) != nil {
				return
			}
		}
	})
	defer sender.Wait()
	defer cancel()
	cut := 0
	for {
		_, b, err := c.Read(ctx)
		if err != nil {
			if cut > 0 {
				t.Errorf("%s: %d calls were cut off", client, cut)
			}
			if !asClose(err, &closed) {
				t.Errorf("%s: %v", client, err)
			}
			return ids, closed
		}
		var response []json.RawMessage
		var id int
		if json.Unmarshal(b, &response) != nil || len(response) != 3 || json.Unmarshal(response[2], &id) != nil {
			t.Errorf("%s: no response: %s", client, b)
			continue
		}
		var result int
		if json.Unmarshal(response[1], &result) != nil && !strings.Contains(string(response[1]), `"code":"unavailable"`) {
			cut++
		}
		ids = append(ids, id)
		ready()
		<-tickets
	}
}

func asClose(err error, e *websocket.CloseError) (ok bool) {
	*e, ok = errors.AsType[websocket.CloseError](err)
	return ok
}

// Every call that the server read is answered, exactly once. A call that its client sent and that got no answer
// was still on its way when the close frame was queued: the server has not read it.
func TestSIGTERMUnderLoadLosesNoAnswer(t *testing.T) {
	for run := range 5 {
		kind := []string{"serial", "overlapping"}[run%2]
		t.Run(fmt.Sprint(run, " ", kind), func(t *testing.T) {
			p := startProcess(t, kind)
			const clients = 8
			var wg sync.WaitGroup
			var mu sync.Mutex
			var ready sync.WaitGroup
			ready.Add(2 * clients)
			received := map[string]int{}
			httpAnswers, refusals := 0, 0
			for i := range clients {
				wg.Go(func() {
					answered, refused := callUntilRefused(t, p.addr, ready.Done)
					mu.Lock()
					defer mu.Unlock()
					httpAnswers += answered + refused
					refusals += refused
				})
				wg.Go(func() {
					name := fmt.Sprint("client", i)
					ids, closed := callUntilClosed(t, p.addr, name, ready.Done)
					mu.Lock()
					defer mu.Unlock()
					received[name] = len(ids)
					seen := map[int]bool{}
					for j, id := range ids {
						if seen[id] {
							t.Errorf("%s: two answers for %d", name, id)
						}
						seen[id] = true
						if kind == "serial" && id != j+1 {
							t.Errorf("%s: answer %d is for call %d", name, j+1, id)
						}
					}
					var reason struct {
						RetryAfter int `json:"retry_after"`
					}
					if closed.Code != 1012 || json.Unmarshal([]byte(closed.Reason), &reason) != nil || reason.RetryAfter <= 0 {
						t.Errorf("%s: closed with %d %q", name, closed.Code, closed.Reason)
					}
				})
			}
			ready.Wait()
			time.Sleep(50 * time.Millisecond) // load, before and during the drain
			p.signal()
			eventually(t, "/readyz fails while the server still serves", func() bool {
				resp, err := http.Get("http://" + p.addr + "/readyz")
				if err != nil {
					t.Fatal("the server stopped serving before /readyz failed")
				}
				resp.Body.Close()
				return resp.StatusCode == http.StatusServiceUnavailable
			})
			http.DefaultClient.CloseIdleConnections()
			wg.Wait()
			out, code := p.wait()
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, p.stderr.String())
			}
			counts := tally{}
			if err := json.Unmarshal([]byte(out), &counts); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			total := 0
			for name, read := range counts.Read {
				total += read
				if read != received[name] || read != counts.Answered[name] {
					t.Errorf("%s: the server read %d calls and queued %d responses; %d came", name, read, counts.Answered[name], received[name])
				}
			}
			if counts.Started != httpAnswers || counts.Ended != httpAnswers {
				t.Errorf("HTTP: %d calls began, %d ended, %d were answered", counts.Started, counts.Ended, httpAnswers)
			}
			if total == 0 || counts.Started == 0 {
				t.Errorf("no load: %d, %d", total, counts.Started)
			}
			t.Logf("%d calls by WebSocket, %d by HTTP, %d refused", total, counts.Started, refusals)
		})
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	p := startProcess(t, "serial")
	s, _ := dialURL(t, "ws://"+p.addr+"/ws", nil)
	s.send(`{"action":"stuck"}`)
	s.ask("ping") // the call has been read
	p.signal()
	ended := make(chan int)
	go func() { _, code := p.wait(); ended <- code }()
	select {
	case code := <-ended:
		t.Fatalf("the first signal ended the process, code %d, though a call runs", code)
	case <-time.After(200 * time.Millisecond):
	}
	p.signal()
	select {
	case code := <-ended:
		if code == 0 {
			t.Error("exit code 0 for a stop that was no clean one")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the second signal did not end the process")
	}
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for _, test := range []struct {
		name string
		cfg  mooncore.Config
	}{
		{"Addr", mooncore.Config{Addr: addr}},
		{"Inner", mooncore.Config{Addr: "127.0.0.1:0", Inner: addr}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ended := make(chan struct{})
			test.cfg.Routers, test.cfg.Development, test.cfg.Logger = catalogue(), true, slog.New(slog.DiscardHandler)
			test.cfg.Extensions = []mooncore.Extension{func(srv *mooncore.Server) error {
				srv.Go(func(ctx context.Context) { <-ctx.Done(); close(ended) })
				return nil
			}}
			srv, err := mooncore.New(test.cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = srv.Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), addr) || !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("got %v, want an error that names %s", err, addr)
			}
			<-ended // what an extension started ends all the same
		})
	}
}

// parts starts one of everything that Shutdown has to end.
type parts struct {
	goEnded, checkEnded chan struct{}
	running             chan string   // gets the source of each call of "wait"
	release             chan struct{} // ends them
}

func newParts() (*parts, mooncore.Config) {
	p := &parts{make(chan struct{}), make(chan struct{}), make(chan string, 16), make(chan struct{})}
	return p, mooncore.Config{
		Routers: catalogue(
			returning("wait", func(ctx context.Context) (string, error) {
				p.running <- mooncore.RequestFrom(ctx).Source
				select {
				case <-p.release:
					return "done", nil
				case <-ctx.Done():
					return "", ctx.Err()
				}
			}),
			returning("quick", func(context.Context) (string, error) { return "quick", nil }),
		),
		Checks: map[string]func(context.Context) error{"slow": func(ctx context.Context) error {
			defer close(p.checkEnded)
			<-ctx.Done()
			return ctx.Err()
		}},
		Extensions: []mooncore.Extension{func(srv *mooncore.Server) error {
			srv.Go(func(ctx context.Context) { defer close(p.goEnded); <-ctx.Done() })
			return nil
		}},
		DrainDelay: 1900 * time.Millisecond,
	}
}

// What was accepted is finished and answered, what comes later is refused, and then everything ends.
func TestShutdownLetsRunningActionsFinish(t *testing.T) {
	for _, test := range []struct {
		name  string
		calls int
		run   func(srv *mooncoretest.Server, conn *mooncoretest.Conn, got *string) error
	}{
		{"http", 1, func(srv *mooncoretest.Server, _ *mooncoretest.Conn, got *string) error {
			return srv.As(mooncore.Identity{}).Call("wait", nil, got)
		}},
		{"go", 1, func(srv *mooncoretest.Server, _ *mooncoretest.Conn, got *string) error {
			out, err := srv.Server.Call(context.Background(), &mooncore.Request{Action: "wait"})
			*got, _ = out.(string)
			return err
		}},
		{"ws", 1, func(_ *mooncoretest.Server, conn *mooncoretest.Conn, got *string) error {
			return conn.Call("wait", nil, got)
		}},
		{"ws, where calls overlap", 3, func(_ *mooncoretest.Server, conn *mooncoretest.Conn, got *string) error {
			return conn.Call("wait", nil, got)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, cfg := newParts()
				cfg.Limits.Calls = test.calls
				srv := mooncoretest.New(t, cfg)
				client := srv.As(mooncore.Identity{})
				conn := client.Dial()
				answered := make(chan struct{})
				go func() {
					defer close(answered)
					var got string
					if err := test.run(srv, conn, &got); err != nil || got != "done" {
						t.Errorf("the running call got %q, %v", got, err)
					}
				}()
				<-p.running
				stopped := make(chan error, 1)
				go func() { stopped <- srv.Shutdown(context.Background()) }()
				synctest.Wait()
				var quick string
				if err := client.Call("quick", nil, &quick); err != nil {
					t.Errorf("a call within DrainDelay: %v", err)
				}
				time.Sleep(4 * time.Second) // past DrainDelay
				if err := client.Call("quick", nil, nil); mooncore.CodeOf(err) != mooncore.CodeUnavailable {
					t.Errorf("a call after DrainDelay: %v", err)
				}
				if _, err := srv.Server.Call(t.Context(), &mooncore.Request{Action: "quick"}); mooncore.CodeOf(err) != mooncore.CodeUnavailable {
					t.Errorf("a Go call after DrainDelay: %v", err)
				}
				select {
				case err := <-stopped:
					t.Errorf("Shutdown returned %v while a call runs", err)
					stopped <- nil
				default:
				}
				close(p.release)
				<-answered
				if code := conn.Closed(); code != 1012 {
					t.Errorf("closed with %d", code)
				}
				if err := <-stopped; err != nil {
					t.Errorf("Shutdown: %v", err)
				}
				<-p.goEnded
			})
		})
	}
}

// A call that is read while the connection waits for a slow one, to close, is refused: it is not dropped.
func TestWebSocketCallDuringTheDrainIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, cfg := newParts()
		cfg.DrainDelay = 0
		srv, _ := serveInMemory(t, cfg)
		s := srv.dial()
		s.send(`{"action":"wait","rayid":1}`)
		<-p.running
		stopped := make(chan error, 1)
		go func() { stopped <- srv.stop() }()
		synctest.Wait() // for the call, and nothing else
		s.send(`{"action":"quick","rayid":{"a":[2]}}`)
		s.send("ping") // read after the call, and answered at once: so the call was read, too
		s.expect("pong")
		close(p.release)
		s.expect(`["response","done",1]`)
		s.expect(`["response",{"error":"Shutting down","code":"unavailable"},{"a":[2]}]`)
		s.expectClose(1012)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

// An action that never ends costs the time of the context, and nobody else their end.
// A proxy that doesn't ask /readyz learns of the end by a refusal, and is to send nothing more when the listener closes.
func TestShutdownRefusesForAWhile(t *testing.T) {
	for _, tt := range []struct {
		delay, timeout, want time.Duration
	}{
		{5 * time.Second, time.Minute, 6 * time.Second},
		{200 * time.Millisecond, time.Minute, 400 * time.Millisecond},
		{-1, time.Minute, 0},
		{5 * time.Second, 5500 * time.Millisecond, 5500 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, cfg := newParts()
			cfg.DrainDelay = tt.delay
			srv := mooncoretest.New(t, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
			defer cancel()
			start := time.Now()
			if err := srv.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if got := time.Since(start); got != tt.want {
				t.Errorf("DrainDelay %v: Shutdown returned after %v, want %v", tt.delay, got, tt.want)
			}
		})
	}
}

func TestShutdownReturnsWhenItsContextEnds(t *testing.T) {
	for _, by := range []string{"http", "ws"} {
		t.Run(by, func(t *testing.T) {
			p, cfg := newParts()
			stuck := make(chan struct{})
			running := make(chan struct{})
			cfg.Routers[0].Actions = append(cfg.Routers[0].Actions, returning("stuck", func(context.Context) (any, error) {
				close(running)
				<-stuck
				return nil, nil
			}))
			cfg.DrainDelay = -1
			cfg.Development, cfg.Logger = true, slog.New(slog.DiscardHandler)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			srv, err := mooncore.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: srv}
			go server.Serve(listener)
			addr := listener.Addr().String()
			var requests sync.WaitGroup
			defer requests.Wait()
			post := func(path string) {
				requests.Go(func() {
					if resp, err := http.Post("http://"+addr+path, "application/json", strings.NewReader("{}")); err == nil {
						resp.Body.Close()
					}
				})
			}

			s, _ := dialURL(t, "ws://"+addr+"/ws", nil)
			if by == "ws" {
				s.send(`{"action":"stuck"}`)
			} else {
				post("/run/stuck")
			}
			<-running
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Shutdown returned %v", err)
			}
			<-p.goEnded
			if _, _, err := s.ws.Read(t.Context()); err == nil {
				t.Error("the connection is still open")
			}
			close(stuck)
			server.Close()
			http.DefaultClient.CloseIdleConnections()
			eventually(t, "the last connection is forgotten", func() bool { return len(srv.Conns()) == 0 })
			if err := srv.Shutdown(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a second Shutdown: %v", err) // the first one's
			}
		})
	}
}

// Peers that never answer the close frame are not waited for one after another.
func TestMutePeersDoNotDelayShutdown(t *testing.T) {
	srv := serve(t, mooncore.Config{Routers: catalogue()})
	const peers = 200
	for range peers {
		conn, err := net.Dial("tcp", srv.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	}
	eventually(t, "all are connected", func() bool { return len(srv.Conns()) == peers })
	start := time.Now()
	if err := srv.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 20*time.Second { // one by one it would be 200 times the grace
		t.Errorf("Shutdown took %v", took)
	}
}

func TestHealthChecksEndWithTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, cfg := newParts()
		srv := mooncoretest.New(t, cfg)
		go srv.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/readyz", nil))
		synctest.Wait()
		start := time.Now()
		go srv.Shutdown(context.Background())
		<-p.checkEnded // 2 s after its start, were it not cancelled
		if took := time.Since(start); took >= 2*time.Second {
			t.Errorf("the check ended after %v", took)
		}
	})
}

// A server that stops while a client upgrades forgets no connection.
func TestUpgradesRacingWithShutdown(t *testing.T) {
	srv := serve(t, mooncore.Config{Routers: catalogue()})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			c, resp, err := websocket.Dial(ctx, "ws://"+srv.addr+"/ws", nil)
			if err != nil {
				if resp != nil && resp.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("status %d", resp.StatusCode)
				}
				return
			}
			defer c.CloseNow()
			_, _, err = c.Read(ctx)
			if websocket.CloseStatus(err) != websocket.StatusServiceRestart {
				t.Errorf("connection ended with %v", err)
			}
		})
	}
	if err := srv.stop(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}
