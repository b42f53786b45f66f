package ws

import (
	"bufio"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// kernelBuffer is how many bytes the kernel may hold for a peer that doesn't read. By default it holds megabytes.
const kernelBuffer = 64 << 10

// Accept answers a WebSocket handshake, which may offer the sub-protocols of the options. If it fails, it has written the response,
// by Options.Refuse if there is one, and the connection is no good. It must be called once.
//
// Accept doesn't look at Origin, which the caller has checked. After it the caller must call Start once; CloseNow before that is
// allowed. r may be forgotten when Accept has returned.
func (c *Conn) Accept(w http.ResponseWriter, r *http.Request) error {
	o := &c.group.opts
	refusing := refuser{ResponseWriter: w, r: r, refuse: o.Refuse}
	var rw http.ResponseWriter
	if canHijack(w) {
		rw = &hijacker{refusing, c}
	} else {
		rw = &refusing // Accept refuses, or answers first that r is no handshake at all
	}
	mode := websocket.CompressionDisabled
	if o.Compression {
		mode = websocket.CompressionNoContextTakeover
	}
	conn, err := websocket.Accept(rw, r, &websocket.AcceptOptions{
		Subprotocols:       o.Subprotocols,
		InsecureSkipVerify: true, // the origin is the caller's
		CompressionMode:    mode,
	})
	if err != nil {
		c.lose(err, false)
		return err
	}
	c.subprotocol = conn.Subprotocol() // all that is needed of it
	_ = conn.CloseNow()                // or its finalizer would keep it, as it refers to itself
	c.opened(o.Compression && strings.HasPrefix(w.Header().Get("Sec-WebSocket-Extensions"), "permessage-deflate"))
	return nil
}

func canHijack(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case http.Hijacker:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

// A refuser lets Options.Refuse write what Accept answers to a request that is no handshake.
type refuser struct {
	http.ResponseWriter
	r      *http.Request
	refuse func(w http.ResponseWriter, r *http.Request, status int, text string) // nil for none
	status int                                                                   // of a refusal
}

func (f *refuser) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols || f.refuse == nil {
		f.ResponseWriter.WriteHeader(status)
		return
	}
	f.status = status
}

func (f *refuser) Write(text []byte) (int, error) {
	if f.status == 0 {
		return f.ResponseWriter.Write(text)
	}
	f.refuse(f.ResponseWriter, f.r, f.status, strings.TrimSuffix(string(text), "\n"))
	return len(text), nil
}

// A hijacker keeps net/http's connection for the Conn. coder/websocket only makes the handshake, and gets none.
type hijacker struct {
	refuser
	c *Conn
}

func (h *hijacker) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if g, ok := h.ResponseWriter.(interface{ WriteHeaderNow() }); ok {
		g.WriteHeaderNow() // gin writes no header otherwise
	}
	conn, brw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	c := h.c
	c.mu.Lock()
	c.in.Conn, c.raw, c.socket = conn, rawConn(conn), socketOf(conn)
	c.mu.Unlock()
	if t, ok := c.raw.(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = t.SetWriteBuffer(kernelBuffer)
	}
	var early []byte
	if n := brw.Reader.Buffered(); n > 0 {
		b, _ := brw.Reader.Peek(n)
		early = slices.Clone(b)
	}
	c.in.init(c, early)
	return noConn{}, bufio.NewReadWriter(bufio.NewReaderSize(nil, 16), nil), nil
}

// noConn is a net.Conn that can only be closed.
type noConn struct{ net.Conn }

func (noConn) Close() error { return nil }

// rawConn returns what is below TLS and other wrappers.
func rawConn(conn net.Conn) net.Conn {
	for {
		w, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = w.NetConn()
	}
}
