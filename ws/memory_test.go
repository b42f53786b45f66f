package ws_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/race"
	"github.com/mooncore/mooncore/ws"
)

// A large message takes little more memory than its size.
func TestMessageMemory(t *testing.T) {
	const size = 1 << 20
	most := 0
	h := newHandler()
	h.message = func(c *ws.Conn, _ ws.Type, data []byte) {
		most = max(most, cap(data))
		c.Reply(ws.Text, nil)
	}
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			most = 0
			c, _ := connect(t, secure, nil, h)
			for range 8 {
				c.write(text(strings.Repeat("x", size)))
				c.expect(frame{opText, ""})
			}
			if most > size*13/10 {
				t.Errorf("a message of %d bytes lay in %d", size, most)
			}
		})
	}
}

// An idle connection that has had a message holds no buffer and nothing of the handshake.
func TestIdleMemory(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector has its own memory")
	}
	const (
		conns = 200
		most  = 2600 // bytes of heap for each; a TCP connection of package net takes half of it, at both ends
	)
	addr, _ := listen(t, nil, newHandler())
	request, response := []byte(handshake+"\r\n"), make([]byte, 1024)
	message, echo := text("hello"), make([]byte, 7)
	add := func() {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		for n := 0; !bytes.HasSuffix(response[:n], []byte("\r\n\r\n")); {
			if n == 0 {
				conn.Write(request)
			}
			m, err := conn.Read(response[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
		conn.Write(message)
		if _, err := io.ReadFull(conn, echo); err != nil {
			t.Fatal(err)
		}
	}
	add()
	before := liveHeap()
	for range conns {
		add()
	}
	each := 0
	for range 100 { // net/http's goroutines are yet to end
		if each = (liveHeap() - before) / conns; each <= most {
			return
		}
	}
	t.Errorf("%d bytes of heap for a connection, want at most %d", each, most)
}

// liveHeap returns the bytes of heap that are in use, but for what pools hold.
func liveHeap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
