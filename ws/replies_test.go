package ws_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore/internal/race"
	"github.com/mooncore/mooncore/ws"
)

// A countingConn counts writes.
type countingConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// openCounting is open with a count of the writes to the socket.
func openCounting(t testing.TB, h ws.Handler) (*client, *ws.Conn, *atomic.Int64) {
	t.Helper()
	near, far := net.Pipe()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(handshake + "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	counting := &countingConn{Conn: far}
	conn := ws.NewGroup(nil).New(h)
	if err := conn.Accept(&hijackable{httptest.NewRecorder(), counting, bufio.NewReader(far)}, r); err != nil {
		t.Fatal(err)
	}
	conn.Start()
	t.Cleanup(func() {
		near.Close()
		<-conn.Done()
	})
	return &client{t, near, bufio.NewReader(near)}, conn, &counting.writes
}

// The answers to messages and pings that came together leave together.
func TestRepliesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, writes := openCounting(t, newHandler())
		go c.write(append(bytes.Repeat(text("hello"), 50), ping("p")...))
		for range 50 {
			c.expect(frame{opText, "hello"})
		}
		c.expect(frame{opPong, "p"})
		if n := writes.Load(); n != 1 {
			t.Errorf("%d writes, want 1", n)
		}
	})
}

// Events that wait for a full socket leave together once it has room.
func TestEventsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn, writes := openCounting(t, newHandler())
		conn.Send(ws.Text, []byte("first"))
		synctest.Wait() // it fills the socket
		for range 50 {
			conn.SendPrepared(ws.Prepare(ws.Text, []byte("event")))
		}
		c.expect(frame{opText, "first"})
		for range 50 {
			c.expect(frame{opText, "event"})
		}
		if n := writes.Load(); n != 2 {
			t.Errorf("%d writes, want 2", n)
		}
	})
}

// A reply doesn't wait for what comes after it, if that takes long, and neither do events and urgent messages.
func TestReplyBeforeSlowMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler()
		h.urgent = func(c *ws.Conn, typ ws.Type, data []byte) bool {
			return string(data) == "urgent" && c.Reply(typ, []byte("at once"))
		}
		h.message = func(c *ws.Conn, typ ws.Type, data []byte) {
			if string(data) == "slow" {
				time.Sleep(time.Hour)
			}
			c.Reply(typ, data)
		}
		c, conn := open(t, &ws.Options{PingAfter: -1, IdleTimeout: -1}, h)
		start := time.Now()
		c.write(append(text("quick"), text("slow")...))
		c.expect(frame{opText, "quick"})
		c.text("urgent")
		c.expect(frame{opText, "at once"})
		conn.Send(ws.Text, []byte("event"))
		c.expect(frame{opText, "event"})
		conn.Reply(ws.Text, []byte("from elsewhere"))
		c.expect(frame{opText, "from elsewhere"})
		if d := time.Since(start); d > 50*time.Millisecond {
			t.Errorf("took %v", d)
		}
		c.expect(frame{opText, "slow"})
		if d := time.Since(start); d != time.Hour {
			t.Errorf("the slow one took %v", d)
		}
	})
}

// What waits behind half a frame leaves whole and in order: the kernel has room for a part of what is sent, the peer reads late.
func TestFullSocket(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			h := newHandler()
			c, conn := connect(t, secure, &ws.Options{SendBytes: -1}, h)
			big := strings.Repeat("x", 32<<20) // no kernel takes as much at once
			conn.Send(ws.Text, []byte(big))
			event := ws.Prepare(ws.Text, []byte("event"))
			for range 1000 {
				conn.SendPrepared(event)
			}
			c.write(ping("p"))
			c.write(text("message"))
			half := make([]byte, 1<<20)
			if _, err := io.ReadFull(c.r, half); err != nil {
				t.Fatal(err)
			}
			conn.SendPrepared(event)
			c.r.Reset(io.MultiReader(bytes.NewReader(half), io.LimitReader(c.r, int64(c.r.Buffered())), c.conn))
			var order []string
			for range 1004 {
				f := c.read()
				order = append(order, f.payload[:min(len(f.payload), 10)])
			}
			if got := strings.Join(order[:1001], " "); got != "xxxxxxxxxx"+strings.Repeat(" event", 1000) {
				t.Errorf("got %.100s", got)
			}
			if rest := strings.Join(order[1001:], " "); strings.Count(rest, "event") != 1 || !strings.Contains(rest, "p message") {
				t.Errorf("then got %s", rest)
			}
			conn.SendPrepared(event)
			conn.Close(1000, "")
			if conn.SendPrepared(event) || conn.Reply(ws.Text, nil) {
				t.Error("sent behind the close frame")
			}
			c.expect(frame{opText, "event"})
			c.end(1000)
		})
	}
}

// Echoing and publishing allocate nothing.
func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector makes pools lose buffers")
	}
	addr, conns := listen(t, nil, newHandler())
	c := dial(t, addr)
	conn := <-conns
	request, reply := bytes.Repeat(text(strings.Repeat("x", 100)), 16), make([]byte, 16*102)
	got := testing.AllocsPerRun(1000, func() {
		c.write(request)
		if _, err := io.ReadFull(c.r, reply); err != nil {
			t.Fatal(err)
		}
	})
	if got > 0 {
		t.Errorf("16 echoes: %v allocations", got)
	}
	event, burst := ws.Prepare(ws.Text, make([]byte, 100)), make([]byte, 20*102)
	got = testing.AllocsPerRun(1000, func() {
		for range 20 {
			conn.SendPrepared(event)
		}
		if _, err := io.ReadFull(c.r, burst); err != nil {
			t.Fatal(err)
		}
	})
	if got > 0 {
		t.Errorf("20 events: %v allocations", got)
	}
}
