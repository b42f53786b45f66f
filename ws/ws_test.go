package ws_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/ws"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// settle waits, in a synctest bubble, until reading goes on beside a message that takes long, and everything has come to rest.
func settle() {
	time.Sleep(20 * time.Millisecond)
	synctest.Wait()
}

const handshake = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// ended is what Handler.Closed was told.
type ended struct {
	code   int
	reason string
	err    error
}

// A handler echoes, unless its functions do something else, and tells closed how each connection ended.
type handler struct {
	urgent  func(c *ws.Conn, typ ws.Type, data []byte) bool
	message func(c *ws.Conn, typ ws.Type, data []byte)
	closed  chan ended
}

func newHandler() *handler { return &handler{closed: make(chan ended, 10_000)} }

func (h *handler) Urgent(c *ws.Conn, typ ws.Type, data []byte) bool {
	return h.urgent != nil && h.urgent(c, typ, data)
}

func (h *handler) Message(c *ws.Conn, typ ws.Type, data []byte) {
	if h.message != nil {
		h.message(c, typ, data)
		return
	}
	c.Reply(typ, data)
}

func (h *handler) Closed(_ *ws.Conn, code int, reason string, err error) {
	h.closed <- ended{code, reason, err}
}

// A client is a raw one: it writes and reads frames by hand.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

// listen serves connections over TCP, and returns where, and the connections.
func listen(t testing.TB, opts *ws.Options, h ws.Handler) (addr string, conns <-chan *ws.Conn) {
	server, conns := newServer(t, opts, h)
	server.Start()
	return server.Listener.Addr().String(), conns
}

func newServer(t testing.TB, opts *ws.Options, h ws.Handler) (*httptest.Server, <-chan *ws.Conn) {
	conns := make(chan *ws.Conn, 10_000)
	group := ws.NewGroup(opts)
	var accepting sync.WaitGroup // Server.Close waits for no handler that has hijacked its connection
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accepting.Add(1)
		defer accepting.Done()
		c := group.New(h)
		if err := c.Accept(w, r); err != nil {
			return
		}
		c.Start()
		conns <- c
	}))
	t.Cleanup(func() {
		server.Close()
		accepting.Wait()
		close(conns)
		for c := range conns {
			c.CloseNow()
			<-c.Done()
		}
	})
	return server, conns
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return upgrade(t, conn)
}

// connect returns a connection over TCP or TLS, and its client.
func connect(t testing.TB, secure bool, opts *ws.Options, h ws.Handler) (*client, *ws.Conn) {
	t.Helper()
	if !secure {
		addr, conns := listen(t, opts, h)
		return dial(t, addr), <-conns
	}
	server, conns := newServer(t, opts, h)
	server.StartTLS()
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	return upgrade(t, conn), <-conns
}

func upgrade(t testing.TB, conn net.Conn) *client {
	t.Helper()
	c, _ := upgradeWith(t, conn, handshake)
	return c
}

func upgradeWith(t testing.TB, conn net.Conn, handshake string) (*client, *http.Response) {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	c := &client{t, conn, bufio.NewReader(conn)}
	c.write([]byte(handshake + "\r\n"))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %v, %v", resp, err)
	}
	return c, resp
}

// open returns a connection in memory and its client, ready for use in a synctest bubble. first is what the HTTP server has read
// already of what follows the handshake.
func open(t testing.TB, opts *ws.Options, h ws.Handler, first ...byte) (*client, *ws.Conn) {
	t.Helper()
	c, conn := accept(t, opts, h, first...)
	conn.Start()
	t.Cleanup(func() {
		c.conn.Close()
		<-conn.Done()
	})
	return c, conn
}

// accept is open without Start.
func accept(t testing.TB, opts *ws.Options, h ws.Handler, first ...byte) (*client, *ws.Conn) {
	t.Helper()
	near, far := net.Pipe()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(handshake + "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(io.MultiReader(bytes.NewReader(first), far))
	if _, err := br.Peek(len(first)); err != nil {
		t.Fatal(err)
	}
	w := &hijackable{httptest.NewRecorder(), far, br}
	c := ws.NewGroup(opts).New(h)
	if err := c.Accept(w, r); err != nil {
		t.Fatal(err)
	}
	return &client{t, near, bufio.NewReader(near)}, c
}

type hijackable struct {
	http.ResponseWriter
	conn net.Conn
	r    *bufio.Reader
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(h.r, bufio.NewWriter(h.conn)), nil
}

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) text(s string) { c.t.Helper(); c.write(text(s)) }

// read returns the next frame.
func (c *client) read() frame {
	c.t.Helper()
	f, err := readFrame(c.r)
	if err != nil {
		c.t.Fatal(err)
	}
	return f
}

func (c *client) expect(want ...frame) {
	c.t.Helper()
	for _, w := range want {
		if got := c.read(); got != w {
			c.t.Fatalf("got %v, want %v", got, w)
		}
	}
}

// end expects a close frame with code, then the end of the stream, after having answered it.
func (c *client) end(code int) {
	c.t.Helper()
	f := c.read()
	if f.op != opClose || f.code() != code {
		c.t.Fatalf("got %v, want close %d", f, code)
	}
	c.conn.Write(masked(0x80|opClose, []byte(f.payload)))
	if f, err := readFrame(c.r); !errors.Is(err, io.EOF) {
		c.t.Fatalf("after close: %v, %v", f, err)
	}
}

// A frame is one from the server.
type frame struct {
	op      byte
	payload string
}

func (f frame) code() int {
	if len(f.payload) < 2 {
		return ws.CodeNone
	}
	return int(binary.BigEndian.Uint16([]byte(f.payload)))
}

func (f frame) String() string {
	if f.op == opClose {
		return fmt.Sprintf("close %d %q", f.code(), f.payload[min(2, len(f.payload)):])
	}
	return fmt.Sprintf("opcode %d, %d bytes %.40q", f.op, len(f.payload), f.payload)
}

func readFrame(r io.Reader) (frame, error) {
	var h [8]byte
	if _, err := io.ReadFull(r, h[:2]); err != nil {
		return frame{}, err
	}
	if h[0]&^rsv1&0xF0 != 0x80 || h[1]&0x80 != 0 {
		return frame{}, fmt.Errorf("frame begins with %x", h[:2])
	}
	op, n := h[0]&(rsv1|0xF), uint64(h[1]) // rsv1 stays, to show
	var err error
	switch n {
	case 126:
		_, err = io.ReadFull(r, h[:2])
		n = uint64(binary.BigEndian.Uint16(h[:]))
	case 127:
		_, err = io.ReadFull(r, h[:8])
		n = binary.BigEndian.Uint64(h[:])
	}
	if err != nil {
		return frame{}, err
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return frame{}, err
	}
	return frame{op, string(payload)}, nil
}

var key = []byte{0xA1, 0x00, 0x7F, 0x3C}

// masked returns a client's frame whose first byte is b0.
func masked(b0 byte, payload []byte) []byte {
	b := []byte{b0}
	switch n := len(payload); {
	case n <= 125:
		b = append(b, 0x80|byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, key...)
	for i, x := range payload {
		b = append(b, x^key[i&3])
	}
	return b
}

func text(s string) []byte   { return masked(0x80|opText, []byte(s)) }
func ping(s string) []byte   { return masked(0x80|opPing, []byte(s)) }
func first(s string) []byte  { return masked(opText, []byte(s)) }
func middle(s string) []byte { return masked(opContinuation, []byte(s)) }
func last(s string) []byte   { return masked(0x80|opContinuation, []byte(s)) }

func closing(code int, reason string) []byte {
	return masked(0x80|opClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}

func TestHandshake(t *testing.T) {
	h := newHandler()
	addr, conns := listen(t, &ws.Options{Subprotocols: []string{"mooncore.v1"}}, h)
	tests := []struct {
		name, request string
		status        int
		subprotocol   string
	}{
		{"upgrade", handshake, 101, ""},
		{"sub-protocol", handshake + "Sec-WebSocket-Protocol: bearer.x, mooncore.v1\r\n", 101, "mooncore.v1"},
		{"unknown sub-protocol", handshake + "Sec-WebSocket-Protocol: other\r\n", 101, ""},
		{"compression offered", handshake + "Sec-WebSocket-Extensions: permessage-deflate\r\n", 101, ""},
		{"plain GET", "GET / HTTP/1.1\r\nHost: x\r\n", 426, ""},
		{"version 12", strings.Replace(handshake, ": 13", ": 12", 1), 400, ""},
		{"no key", strings.Replace(handshake, "-Key", "-No", 1), 400, ""},
		{"HTTP/1.0", strings.Replace(handshake, "HTTP/1.1", "HTTP/1.0", 1), 426, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte(test.request + "\r\n")); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != test.status || resp.Header.Get("Sec-WebSocket-Protocol") != test.subprotocol ||
				resp.Header.Get("Sec-WebSocket-Extensions") != "" {
				t.Errorf("got %v %v", resp.Status, resp.Header)
			}
			if test.status == 101 {
				c := <-conns
				defer func() { c.CloseNow(); <-c.Done() }()
				if got := c.Subprotocol(); got != test.subprotocol {
					t.Errorf("Subprotocol() = %q", got)
				}
			}
		})
	}
}

func TestAcceptWithoutHijacker(t *testing.T) {
	w := httptest.NewRecorder()
	r, _ := http.ReadRequest(bufio.NewReader(strings.NewReader(handshake + "\r\n")))
	if err := ws.NewGroup(nil).New(newHandler()).Accept(w, r); err == nil || w.Code != http.StatusNotImplemented {
		t.Fatalf("%v, %d", err, w.Code)
	}
}

func TestEcho(t *testing.T) {
	sizes := []int{0, 1, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 200_000, 1 << 20}
	run := func(t *testing.T, c *client) {
		for _, n := range sizes {
			payload := bytes.Repeat([]byte("abcdefg"), n/7+1)[:n]
			c.write(masked(0x80|opBinary, payload))
			c.expect(frame{opBinary, string(payload)})
		}
		c.write(closing(1000, "bye"))
		c.expect(frame{opClose, "\x03\xe8bye"})
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Error(err)
		}
	}
	t.Run("TCP", func(t *testing.T) {
		c, _ := connect(t, false, nil, newHandler())
		run(t, c)
	})
	t.Run("TLS", func(t *testing.T) {
		c, _ := connect(t, true, nil, newHandler())
		run(t, c)
	})
	t.Run("pipe", func(t *testing.T) {
		c, _ := open(t, nil, newHandler())
		run(t, c)
	})
}

// What the HTTP server has read beyond the handshake comes first.
func TestEarlyFrames(t *testing.T) {
	early := slices.Concat(text("one"), text("two"))
	for n := range len(early) + 1 {
		c, _ := open(t, nil, newHandler(), early[:n]...)
		go c.conn.Write(early[n:])
		c.expect(frame{opText, "one"}, frame{opText, "two"})
	}
}
