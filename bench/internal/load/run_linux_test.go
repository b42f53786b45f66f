package load_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooncore/mooncore/bench/internal/load"
	"github.com/mooncore/mooncore/bench/internal/wire"
)

// A testServer is a WebSocket server that can be made to misbehave.
type testServer struct {
	wire.Server
	answer func(request []byte) [][]byte // to each message; default: the message
	events func(event []byte) [][]byte   // what a member gets for a publish; default: the event

	mu      sync.Mutex
	members []net.Conn
	rooms   map[string]net.Conn // by what follows "join"
}

// newTestServer starts a server, once misbehave, if it isn't nil, has changed it.
func newTestServer(t *testing.T, misbehave func(*testServer)) *testServer {
	same := func(b []byte) [][]byte { return [][]byte{b} }
	s := &testServer{answer: same, events: same, rooms: map[string]net.Conn{}}
	if misbehave != nil {
		misbehave(s)
	}
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(wire.Memory{})
	}))
	t.Cleanup(control.Close)
	s.Server = wire.Server{
		PID: os.Getpid(), Control: control.Listener.Addr().String(), Addr: listen(t, s.serve), Commands: listen(t, s.publish),
		WebSocket: &wire.WebSocket{
			Path: "/", Request: `{"id":` + wire.ID + `}`, Response: `{"id":` + wire.ID + `}`,
			Join: []wire.Step{{Send: "join", Expect: "join"}},
		},
	}
	return s
}

// listen calls serve for each connection to the address that it returns.
func listen(t *testing.T, serve func(net.Conn)) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return ln.Addr().String()
}

func (s *testServer) serve(conn net.Conn) {
	r := bufio.NewReader(conn)
	if _, err := http.ReadRequest(r); err != nil {
		return
	}
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
	s.mu.Lock()
	s.members = append(s.members, conn)
	s.mu.Unlock()
	for {
		head := make([]byte, 6) // two bytes and the mask
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		payload := make([]byte, head[1]&0x7f)
		if _, err := io.ReadFull(r, payload); err != nil {
			return
		}
		for i := range payload {
			payload[i] ^= head[2+i&3]
		}
		if room, ok := strings.CutPrefix(string(payload), "join"); ok {
			s.mu.Lock()
			s.rooms[strings.TrimSpace(room)] = conn
			s.mu.Unlock()
			send(conn, payload)
			continue
		}
		for _, answer := range s.answer(payload) {
			send(conn, answer)
		}
	}
}

func send(conn net.Conn, payload []byte) {
	head := []byte{0x81, byte(len(payload))}
	if len(payload) > 125 {
		head = []byte{0x81, 126, byte(len(payload) >> 8), byte(len(payload))}
	}
	conn.Write(append(head, payload...))
}

func (s *testServer) publish(conn net.Conn) {
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var n, size, seq int
		fmt.Sscan(lines.Text(), &n, &size, &seq)
		s.mu.Lock()
		for i := range n {
			for _, event := range s.events(wire.Event(seq+i, time.Now().UnixNano(), size)) {
				for _, member := range s.members {
					send(member, event)
				}
			}
		}
		s.mu.Unlock()
		fmt.Fprintln(conn, 1000)
	}
}

func (s *testServer) run(t *testing.T, kind string, p load.Params) (map[string]float64, error) {
	t.Helper()
	params, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	result, err := load.Run(ctx, wire.Job{Kind: kind, Server: s.Server, Params: params})
	return result.Metrics, err
}

// expectError runs s and wants an error with a text.
func (s *testServer) expectError(t *testing.T, kind string, p load.Params, text string) {
	t.Helper()
	if m, err := s.run(t, kind, p); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("metrics %v, error %v; want one with %q", m, err, text)
	}
}

func TestEcho(t *testing.T) {
	p := load.Params{Conns: 10, Pipeline: 4, Warmup: 10, Duration: 60}
	m, err := newTestServer(t, nil).run(t, "ws-echo", p)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rate", "p50_ms", "p99_ms"} {
		if m[name] <= 0 {
			t.Errorf("%s is %v", name, m[name])
		}
	}

	for name, answer := range map[string]func([]byte) [][]byte{
		"another text": func([]byte) [][]byte { return [][]byte{[]byte(`{"id":1234567}`)} },
		"longer":       func(b []byte) [][]byte { return [][]byte{append(b, ' ')} },
		"twice":        func(b []byte) [][]byte { return [][]byte{b, b} },
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, func(s *testServer) { s.answer = answer })
			s.expectError(t, "ws-echo", p, "wrong answer")
		})
	}
}

func TestFanout(t *testing.T) {
	p := load.Params{Conns: 20, Publishes: 5, Size: 200, Duration: 30}
	m, err := newTestServer(t, nil).run(t, "ws-fanout", p)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rate", "p50_ms", "p99_ms", "blocked_ms"} {
		if m[name] <= 0 {
			t.Errorf("%s is %v", name, m[name])
		}
	}

	skipped := false
	for name, c := range map[string]struct {
		events func([]byte) [][]byte
		want   string
	}{
		"twice":   {func(e []byte) [][]byte { return [][]byte{e, e} }, "was due"},
		"damaged": {func(e []byte) [][]byte { return [][]byte{e[:100]} }, "no event"},
		"missing": {func(e []byte) [][]byte {
			if !skipped {
				skipped = true
				return nil
			}
			return [][]byte{e}
		}, "was due"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, func(s *testServer) { s.events = c.events })
			s.expectError(t, "ws-fanout", p, c.want)
		})
	}
}

func TestFanoutWithoutCompression(t *testing.T) {
	s := newTestServer(t, nil)
	s.expectError(t, "ws-fanout", load.Params{Conns: 1, Publishes: 1, Size: 1024, Deflate: true}, "permessage-deflate")
}

func TestIdle(t *testing.T) {
	m, err := newTestServer(t, nil).run(t, "ws-idle", load.Params{Conns: 20, Publishes: 2, Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	if m["rss_mb"] <= 0 {
		t.Errorf("metrics %v", m)
	}
}

func TestStorm(t *testing.T) {
	m, err := newTestServer(t, nil).run(t, "ws-storm", load.Params{Conns: 8, Duration: 60})
	if err != nil {
		t.Fatal(err)
	}
	if m["rate"] <= 0 || m["p50_ms"] <= 0 {
		t.Errorf("metrics %v", m)
	}
}

func TestRefused(t *testing.T) {
	s := newTestServer(t, nil)
	s.Addr = listen(t, func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\n\r\n")
		io.Copy(io.Discard, conn) // to the client's end: a reset would hide the answer
	})
	s.expectError(t, "ws-echo", load.Params{Conns: 3}, "503")
}

func TestUnknownKind(t *testing.T) {
	newTestServer(t, nil).expectError(t, "ws-none", load.Params{}, "ws-none")
}

// newHTTPServer returns a server that answers requests by h, and a function that measures it.
func newHTTPServer(t *testing.T, h http.HandlerFunc) func(load.Params) (map[string]float64, error) {
	s := newTestServer(t, nil)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	s.Addr, s.WebSocket = server.Listener.Addr().String(), nil
	s.HTTP = &wire.HTTP{Path: "/", Request: `{"id":` + wire.ID + `}`, Response: `{"id":` + wire.ID + `}`}
	return func(p load.Params) (map[string]float64, error) { return s.run(t, "http-echo", p) }
}

func TestHTTP(t *testing.T) {
	p := load.Params{Conns: 6, Warmup: 10, Duration: 60}
	for name, answer := range map[string]http.HandlerFunc{
		"with a length": func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) },
		"chunked": func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			for _, b := range body {
				w.Write([]byte{b})
				if b == ':' {
					w.(http.Flusher).Flush()
				}
			}
		},
		"in pieces": func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			w.Write(body[:3])
			w.(http.Flusher).Flush()
			w.Write(body[3:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := newHTTPServer(t, answer)(p)
			if err != nil {
				t.Fatal(err)
			}
			if m["rate"] <= 0 || m["p50_ms"] <= 0 {
				t.Errorf("metrics %v", m)
			}
		})
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"another body": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"id":1}`) }, "wrong answer"},
		"an error":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }, "418"},
		"the end": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			io.Copy(w, r.Body)
		}, "close"},
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := newHTTPServer(t, c.answer)(p); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("metrics %v, error %v; want one with %q", m, err, c.want)
			}
		})
	}
}
