package mooncore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/needs"
)

// dribble writes a byte each half second until the server closes or the text ends, and returns what the server said, and when
// it closed.
func dribble(conn net.Conn, text string) (answer string, took time.Duration) {
	start := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range len(text) {
			if _, err := conn.Write([]byte{text[i]}); err != nil {
				return
			}
			time.Sleep(500 * time.Millisecond)
		}
	})
	b, _ := io.ReadAll(conn) // however it ends
	took = time.Since(start)
	conn.Close()
	wg.Wait()
	return string(b), took
}

// Who sends slowly holds a connection for seconds, and nobody up.
func TestSlowloris(t *testing.T) {
	const post = "POST /run/whoami HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	filler := strings.Repeat("X-Filler: 0123456789\r\n", 20)
	for _, test := range []struct {
		name   string
		text   string // all at once, then
		slowly string
		within time.Duration
		status string
	}{
		{"request line", "", "GET /run/whoami?filler=" + strings.Repeat("x", 200), 6 * time.Second, ""},
		{"header", post, filler, 6 * time.Second, ""},
		{"body with its length", post + "Content-Length: 1000\r\n\r\n", `{"a":"` + strings.Repeat("x", 900), 12 * time.Second, "400"},
		{"body in chunks", post + "Transfer-Encoding: chunked\r\n\r\n", strings.Repeat("1\r\n \r\n", 100), 12 * time.Second, "400"},
		{"body of a call that is refused", "POST /run/none HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 1000\r\n\r\n",
			strings.Repeat("x", 900), 12 * time.Second, "415"},
		{"body that nobody reads", "GET /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", strings.Repeat("x", 900), 12 * time.Second, "200"},
		{"what follows a form", post[:strings.Index(post, "application")] + "multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n--b--\r\n",
			strings.Repeat("x", 900), 12 * time.Second, "400"},
		{"nothing at all", "", "", 6 * time.Second, ""},
		{"nothing after a request", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "", 61 * time.Second, "200"},
		{"WebSocket message", "", "", 0, ""}, // below
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, pipe := serveInMemory(t, mooncore.Config{Routers: catalogue(returning("whoami", whoami))})
				if test.within == 0 {
					slowMessage(t, srv, pipe)
					return
				}
				var slow sync.WaitGroup
				for range 20 {
					conn, err := pipe.dial()
					if err != nil {
						t.Fatal(err)
					}
					slow.Go(func() {
						io.WriteString(conn, test.text)
						answer, took := dribble(conn, test.slowly)
						_, status, _ := strings.Cut(answer, " ")
						if !strings.HasPrefix(status, test.status) || took > test.within {
							t.Errorf("closed after %v, answer %.60q", took, answer)
						}
					})
				}
				for range 10 { // others are served meanwhile, at once
					start := time.Now()
					resp, body := srv.call("whoami", "{}")
					if took := time.Since(start); resp.StatusCode != 200 || took > 0 {
						t.Errorf("a healthy request: %d %s after %v", resp.StatusCode, body, took)
					}
					time.Sleep(time.Second)
				}
				slow.Wait()
			})
		})
	}
}

// slowMessage begins a WebSocket message and sends a byte of it each half second.
func slowMessage(t *testing.T, srv *live, pipe *pipeListener) {
	closes := make(chan string, 1)
	conn, err := pipe.dial()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		b, _ := io.ReadAll(conn)
		closes <- string(b)
	}()
	upgrade(conn)
	synctest.Wait()
	start := time.Now()
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		conn.Write([]byte{0x81, 0x80 | 100, 0, 0, 0, 0}) // a text of 100 bytes, masked with zeros
		for {
			if _, err := conn.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(500 * time.Millisecond)
		}
	})
	got := <-closes
	if took := time.Since(start); took > 15*time.Second || !strings.Contains(got, string(binary.BigEndian.AppendUint16(nil, 1008))) {
		t.Errorf("closed after %v with %q", took, got)
	}
	if resp, _ := srv.call("whoami", "{}"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

func TestLargeHeadersAreRefused(t *testing.T) {
	srv := serve(t, mooncore.Config{Routers: catalogue(returning("whoami", whoami))})
	resp, _ := srv.call("whoami", "", "X-Large", strings.Repeat("x", 32<<10))
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(resp.Status)
	}
}

// With few descriptors the server refuses, lives, and recovers.
func TestFewDescriptors(t *testing.T) {
	shell := needs.Command(t, "sh", "dash") // it sets the limit
	const limit, clients = 256, 300
	p := startProcess(t, "serial", shell, "-c", fmt.Sprintf(`ulimit -n %d && exec "$0"`, limit))
	refused := 0
	var open []*websocket.Conn
	for range clients {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		c, resp, err := websocket.Dial(ctx, "ws://"+p.addr+"/ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
		cancel()
		switch {
		case err == nil:
			open = append(open, c)
			defer c.CloseNow()
		case resp == nil:
			t.Fatalf("no answer after %d connections: %v", len(open), err)
		case resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "":
			t.Fatalf("refused with %s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
		default:
			refused++
		}
	}
	if want := limit / 5 * 4; len(open) != want || refused != clients-want {
		t.Errorf("%d connections are open, %d were refused, want %d open", len(open), refused, want)
	}
	resp, err := http.Post("http://"+p.addr+"/run/work", "application/json", strings.NewReader("{}"))
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("a call while it is full: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	for _, c := range open {
		c.CloseNow()
	}
	eventually(t, "the server takes connections again", func() bool {
		c, _, err := websocket.Dial(t.Context(), "ws://"+p.addr+"/ws", nil)
		if err == nil {
			c.CloseNow()
		}
		return err == nil
	})
	http.DefaultClient.CloseIdleConnections()
	p.signal()
	if _, code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// More connections than descriptors, without a word: accepting fails for a while, the process doesn't.
func TestNoDescriptors(t *testing.T) {
	shell := needs.Command(t, "sh", "dash") // it sets the limit
	p := startProcess(t, "serial", shell, "-c", `ulimit -n 64 && exec "$0"`)
	var idle []net.Conn
	for range 100 {
		conn, err := net.DialTimeout("tcp", p.addr, time.Second)
		if err != nil {
			break
		}
		idle = append(idle, conn)
	}
	for _, conn := range idle {
		conn.Close()
	}
	eventually(t, "the server answers again", func() bool {
		resp, err := (&http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + p.addr + "/readyz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == 200
	})
	p.signal()
	if _, code := p.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr.String())
	}
}

// Strangers may wait only so long, and only so many of them.
func TestParkedStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withTokens()
		cfg.Limits = mooncore.Limits{AuthTimeout: 10 * time.Second, AnonConns: 3}
		srv, _ := serveInMemory(t, cfg)
		start := time.Now()
		var parked []*socket
		for range 3 {
			conn := srv.dial()
			conn.ask("ping")
			parked = append(parked, conn)
		}
		if c, resp := dialURL(t, "ws://"+srv.addr+"/ws", srv.client); c != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
			t.Errorf("a fourth stranger: %v", resp.Status)
		}
		alice := mooncore.Identity{User: "alice", Tenant: "t"}
		member := srv.dialAs(alice) // logins succeed
		parked[0].send(`["jwt","` + srv.token(alice) + `"]`)
		if got, _ := parked[0].read(); !strings.HasPrefix(got, `["jwt",{`) {
			t.Errorf("a stranger logs in: %s", got)
		}
		late := srv.dial() // there is a place again
		time.Sleep(5 * time.Second)
		for _, s := range parked[1:] {
			s.expectClose(4401)
			if took := time.Since(start); took != 10*time.Second {
				t.Errorf("closed after %v", took)
			}
		}
		late.expectClose(4401)
		for _, s := range []*socket{member, parked[0]} {
			if got := s.ask(`{"action":"mine"}`); got != `["response","alice@t",null]` {
				t.Error(got)
			}
		}
	})
}

func TestTenantConns(t *testing.T) {
	cfg := withTokens()
	cfg.Limits.TenantConns = 2
	srv := serve(t, cfg)
	id := mooncore.Identity{User: "alice", Tenant: "t"}
	first, second := srv.dialAs(id), srv.dialAs(id)
	first.ask("ping")
	second.ask("ping") // both are registered
	token := srv.token(id)
	if c, resp := dialURL(t, "ws://"+srv.addr+"/ws", srv.client, "Authorization", "Bearer "+token); c != nil {
		t.Error("a third connection")
	} else if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 503 || string(body) != `{"error":"Too many connections","code":"unavailable"}` {
		t.Errorf("a third connection: %v %s, error %v", resp.Status, body, err)
	}
	stranger := srv.dial()
	if got := stranger.ask(`["jwt","` + token + `"]`); got != `["jwt","jwt_failed"]` {
		t.Errorf("a third login: %s", got)
	}
	if got := first.ask(`["jwt","` + token + `"]`); !strings.HasPrefix(got, `["jwt",{`) {
		t.Errorf("a refresh where the tenant is full: %s", got)
	}
	srv.dialAs(mooncore.Identity{User: "alice", Tenant: "t2"}).ask("ping")
	second.send("quit")
	second.expectClose(1000)
	eventually(t, "there is a place again", func() bool { return len(srv.Conns()) == 3 })
	if got := stranger.ask(`["jwt","` + token + `"]`); !strings.HasPrefix(got, `["jwt",{`) {
		t.Errorf("a login where there is a place: %s", got)
	}
}

// A login that the other tenant has no place for changes nothing: the old identity ends when it would have.
func TestTenantConnsKeepExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withTokens()
		cfg.Limits.TenantConns = 1
		srv, _ := serveInMemory(t, cfg)
		other := mooncore.Identity{User: "alice", Tenant: "t2"}
		srv.dialAs(other).ask("ping")
		conn := srv.dialAs(mooncore.Identity{User: "alice", Tenant: "t", Expires: time.Now().Add(time.Minute)})
		if got := conn.ask(`["jwt","` + srv.token(other) + `"]`); got != `["jwt","jwt_failed"]` {
			t.Errorf("where the tenant is full: %s", got)
		}
		conn.expect(`["jwt","jwt_expired"]`)
	})
}

func TestChannelsOfAConnection(t *testing.T) {
	cfg := mooncore.Config{JWT: mooncore.JWTConfig{Secret: testSecret}, Limits: mooncore.Limits{Channels: 3}, Routers: []mooncore.Router{{
		Channels: []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated}},
	}}}
	conn := serve(t, cfg)
	s := conn.dialAs(mooncore.Identity{User: "alice"})
	for _, want := range []string{`["channel_list",["a:default","@alice"]]`, `["channel_list",["b:default","a:default","@alice"]]`, `["channel_list",["b:default","a:default","@alice"]]`} {
		name := map[bool]string{true: "a", false: "b"}[!strings.Contains(want, "b:")]
		if got := s.ask(`["join","` + name + `"]`); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := s.ask(`["join","c"]`); got != `["channel_list",["b:default","a:default","@alice"]]` {
		t.Errorf("a channel too many: %s", got)
	}
}

// Five tokens that fail are an attack.
func TestFailedTokensCloseTheConnection(t *testing.T) {
	conn := serve(t, withTokens()).dial()
	for range 5 {
		conn.send(`["jwt",5]`)
	}
	if _, before := conn.expectClose(1008); len(before) != 5 || before[0] != `["jwt","jwt_failed"]` {
		t.Errorf("before that came %v", before)
	}
}

// Floods close the flooder, and its neighbour is answered meanwhile.
func TestFloods(t *testing.T) {
	frame := func(head byte, payload []byte) []byte { // masked with zeros
		b := []byte{head}
		switch n := len(payload); {
		case n < 126:
			b = append(b, 0x80|byte(n))
		case n < 1<<16:
			b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
		default:
			b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
		}
		return append(append(b, 0, 0, 0, 0), payload...)
	}
	const text, fragment, ping = 0x81, 0x00, 0x89
	publish := `{"action":"echo","x":"` + strings.Repeat("x", 4000) + `"}`
	for _, test := range []struct {
		name   string
		limits mooncore.Limits
		first  []byte
		again  []byte // until the server closes
		reads  bool   // whether the flooder reads
		codes  []int
	}{
		{"frames", mooncore.Limits{FramesPerSecond: 100}, nil, frame(text, []byte("ping")), true, []int{4429}},
		{"empty fragments", mooncore.Limits{}, frame(0x01, nil), frame(fragment, nil), true, []int{1009}},
		{"a message that is too large", mooncore.Limits{MaxBytes: 1000}, nil, frame(text, make([]byte, 2000)), true, []int{1009}},
		{"a message in many frames", mooncore.Limits{MaxBytes: 1000}, frame(0x01, []byte("x")), frame(fragment, []byte("xxxxxxxxxxxxxxxxxx")), true, []int{1009}},
		{"pings, unread", mooncore.Limits{}, nil, frame(ping, make([]byte, 125)), false, []int{4408}},
		{"answers, unread", mooncore.Limits{}, nil, frame(text, []byte(publish)), false, []int{4408}},
		{"not masked", mooncore.Limits{}, nil, []byte{text, 0}, true, []int{1002}},
		{"reserved bits", mooncore.Limits{}, nil, frame(0xf1, nil), true, []int{1002}},
		{"no UTF-8", mooncore.Limits{}, nil, frame(text, []byte("\xff\xfe")), true, []int{1007}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			closes := &closeLog{}
			type in struct {
				X string `json:"x"`
			}
			srv := serve(t, mooncore.Config{Limits: test.limits, Observers: []mooncore.Observer{closes}, Routers: catalogue(
				mooncore.Action{Name: "echo", Allow: mooncore.Public, Handler: mooncore.Func(func(_ context.Context, in in) (string, error) { return in.X, nil })},
				returning("whoami", whoami),
			)})
			conn, err := net.Dial("tcp", srv.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			upgrade(conn)
			eventually(t, "connected", func() bool { return len(srv.Conns()) == 1 })
			var wg sync.WaitGroup
			wg.Go(func() {
				conn.Write(test.first)
				burst := bytes.Repeat(test.again, 100)
				for len(closes.all()) == 0 {
					conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
					if _, err := conn.Write(burst); err != nil {
						return
					}
				}
			})
			if test.reads {
				wg.Go(func() { io.Copy(io.Discard, conn) })
			}
			eventually(t, "the flooder is closed", func() bool {
				if resp, body := srv.call("whoami", "{}"); resp.StatusCode != 200 {
					t.Errorf("a neighbour got %s", body)
				}
				return len(closes.all()) > 0
			})
			conn.Close()
			wg.Wait()
			if got := closes.all(); !slices.Equal(got, test.codes) {
				t.Errorf("closed with %v, want %v", got, test.codes)
			}
		})
	}
}
