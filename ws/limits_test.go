package ws_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore/ws"
)

func TestMaxMessage(t *testing.T) {
	const most = 1000
	many := func(n int, payload string) []byte {
		return append(first(payload), bytes.Repeat(middle(payload), n)...)
	}
	tests := []struct {
		name string
		in   []byte
		code int // 0: echoed
	}{
		{"as big as may be", text(strings.Repeat("x", most)), 0},
		{"one byte more", text(strings.Repeat("x", most+1)), 1009},
		{"header only", text(strings.Repeat("x", 70_000))[:14], 1009},
		{"fragments as big as may be", append(many(8, strings.Repeat("x", 100)), last(strings.Repeat("x", 100))...), 0},
		{"one fragment more", append(many(9, strings.Repeat("x", 100)), last(strings.Repeat("x", 100))...), 1009},
		{"15 empty fragments", append(many(14, ""), last("")...), 0},
		{"flood of empty fragments", many(1000, ""), 1009},
		{"flood of fragments of one byte", many(16, "x"), 1009},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := open(t, &ws.Options{MaxMessage: most}, newHandler())
				go c.conn.Write(test.in)
				if test.code != 0 {
					c.end(test.code)
				} else if f := c.read(); f.op != opText {
					t.Errorf("got %v", f)
				}
			})
		})
	}
	t.Run("no limit", func(t *testing.T) {
		c, _ := open(t, &ws.Options{MaxMessage: -1, SendBytes: -1}, newHandler())
		want := strings.Repeat("x", 2<<20)
		go c.conn.Write(text(want))
		c.expect(frame{opText, want})
	})
}

// A peer that doesn't read is closed, and nobody else waits.
func TestSlowReader(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) { testSlowReader(t, secure) })
	}
}

func testSlowReader(t *testing.T, secure bool) {
	h := newHandler()
	opts := &ws.Options{WriteTimeout: time.Minute, CloseGrace: 50 * time.Millisecond}
	slow, slowConn := connect(t, secure, opts, h)
	fast, _ := connect(t, secure, opts, newHandler())

	event := ws.Prepare(ws.Text, bytes.Repeat([]byte("x"), 4<<10))
	sent := 0
	for slowConn.SendPrepared(event) {
		sent++
		if sent > 10_000 {
			t.Fatal("never full")
		}
		if sent%100 == 0 {
			fast.text("still here")
			fast.expect(frame{opText, "still here"})
		}
	}
	e := <-h.closed
	<-slowConn.Done()
	if e.code != ws.CodeSlow || e.err == nil {
		t.Errorf("Closed: %v", e)
	}
	if n := slowConn.Queued(); n > 8<<10 {
		t.Errorf("%d bytes still queued", n)
	}
	fast.text("still here")
	fast.expect(frame{opText, "still here"})
	slow.conn.Close()
}

// The peer that begins to read again in time learns why it was closed.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler()
		c, conn := open(t, &ws.Options{SendBytes: 1000}, h)
		big := strings.Repeat("b", 5000) // larger than the limit, but nothing waits
		conn.Send(ws.Text, []byte(big))
		synctest.Wait() // it is being written
		accepted := 0
		for conn.Send(ws.Text, []byte("small")) {
			accepted++
		}
		if accepted != 1000/(7+32) {
			t.Errorf("%d small messages accepted", accepted)
		}
		if conn.Send(ws.Text, []byte("late")) || conn.SendPrepared(ws.Prepare(ws.Text, nil)) {
			t.Error("sent after the overflow")
		}
		if conn.Context().Err() == nil {
			t.Error("the context goes on")
		}
		c.expect(frame{opText, big}) // it was being written; the small ones are dropped
		c.end(ws.CodeSlow)
		if e := <-h.closed; e.code != ws.CodeSlow || e.err == nil {
			t.Errorf("Closed: %v", e)
		}
	})
}

// What has been written doesn't count any more.
func TestQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := open(t, &ws.Options{SendBytes: 1000}, newHandler())
		for range 10 {
			for range 20 {
				if !conn.Send(ws.Text, []byte("hello")) {
					t.Fatal("not sent")
				}
			}
			if n := conn.Queued(); n != 20*7 {
				t.Errorf("Queued() = %d with 20 messages queued", n)
			}
			for range 20 {
				c.expect(frame{opText, "hello"})
			}
			synctest.Wait()
			if n := conn.Queued(); n != 0 {
				t.Errorf("Queued() = %d with nothing queued", n)
			}
		}
	})
}

func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler()
		_, conn := open(t, &ws.Options{WriteTimeout: 5 * time.Second}, h)
		start := time.Now()
		conn.Send(ws.Text, []byte("nobody reads this"))
		<-conn.Done()
		if e := <-h.closed; e.code != ws.CodeSlow || e.err == nil {
			t.Errorf("Closed: %v", e)
		}
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// Pings whose answers nobody reads end in 4408 too.
func TestPingFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler()
		c, conn := open(t, nil, h)
		start := time.Now()
		flood := bytes.Repeat(ping(strings.Repeat("x", 125)), 100)
		written := 0
		for {
			n, err := c.conn.Write(flood)
			written += n
			if err != nil {
				break
			}
			if conn.Context().Err() != nil {
				time.Sleep(time.Millisecond) // or the bubble's clock stands still
			} else if written > 1<<20 {
				t.Fatal("1 MiB of pings, and still open")
			}
		}
		<-conn.Done()
		if e := <-h.closed; e.code != ws.CodeSlow || e.err == nil {
			t.Errorf("Closed: %v", e)
		}
		if d := time.Since(start); d > time.Second+time.Millisecond { // the grace, and a step of the loop above
			t.Errorf("gone after %v", d)
		}
	})
}

func TestFramesPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler()
		c, _ := open(t, &ws.Options{FramesPerSecond: 10}, h)
		for range 3 {
			for range 10 {
				c.text("x")
				c.expect(frame{opText, "x"})
			}
			time.Sleep(time.Second)
		}
		go c.conn.Write(bytes.Repeat(masked(0x80|opPong, nil), 11))
		c.end(ws.CodeRate)
		if e := <-h.closed; e.code != ws.CodeRate || e.err == nil {
			t.Errorf("Closed: %v", e)
		}
	})
}

func TestIdle(t *testing.T) {
	at := func(t *testing.T, start time.Time, want time.Duration) {
		t.Helper()
		if d := time.Since(start); d != want {
			t.Errorf("after %v, want %v", d, want)
		}
	}
	t.Run("no answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHandler()
			c, conn := open(t, nil, h)
			start := time.Now()
			c.expect(frame{opPing, ""})
			at(t, start, 45*time.Second)
			if f := c.read(); f.code() != ws.CodeIdle {
				t.Fatalf("got %v", f)
			}
			at(t, start, 60*time.Second)
			<-conn.Done()
			at(t, start, 61*time.Second)
			if e := <-h.closed; e.code != ws.CodeIdle || e.err == nil {
				t.Errorf("Closed: %v", e)
			}
		})
	})
	t.Run("pong keeps alive", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _ := open(t, nil, newHandler())
			start := time.Now()
			for range 100 {
				c.expect(frame{opPing, ""})
				time.Sleep(10 * time.Second)
				c.write(masked(0x80|opPong, nil))
			}
			at(t, start, 100*55*time.Second)
		})
	})
	t.Run("round-trip time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, conn := open(t, nil, newHandler())
			pong := func(after, want time.Duration) {
				t.Helper()
				time.Sleep(after)
				c.write(masked(0x80|opPong, nil))
				synctest.Wait()
				if got := conn.RTT(); got != want {
					t.Errorf("RTT %v, want %v", got, want)
				}
			}
			pong(time.Second, 0) // nobody asked
			c.expect(frame{opPing, ""})
			pong(1500*time.Microsecond, 1500*time.Microsecond)
			pong(time.Second, 1500*time.Microsecond)
			c.expect(frame{opPing, ""})
			pong(0, time.Microsecond) // known, and not 0
		})
	})
	t.Run("messages keep alive", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _ := open(t, nil, newHandler())
			for range 100 {
				time.Sleep(44 * time.Second)
				c.text("x")
				c.expect(frame{opText, "x"})
			}
		})
	})
	t.Run("ping follows a shorter timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _ := open(t, &ws.Options{IdleTimeout: 8 * time.Second}, newHandler())
			start := time.Now()
			c.expect(frame{opPing, ""})
			at(t, start, 6*time.Second)
			c.end(ws.CodeIdle)
		})
	})
	t.Run("off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _ := open(t, &ws.Options{PingAfter: -1, IdleTimeout: -1}, newHandler())
			time.Sleep(24 * time.Hour)
			c.text("x")
			c.expect(frame{opText, "x"})
		})
	})
	t.Run("not while reading is paused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHandler()
			h.message = func(c *ws.Conn, typ ws.Type, data []byte) {
				time.Sleep(5 * time.Minute)
				c.Send(typ, data)
			}
			c, _ := open(t, &ws.Options{Pending: 1}, h)
			start := time.Now()
			for range 3 { // one being handled, one waiting, the third is read when the first is handled
				go c.text("x")
				settle()
			}
			c.expect(frame{opText, "x"})
			at(t, start, 5*time.Minute)
			c.expect(frame{opText, "x"})
			at(t, start, 10*time.Minute)
			c.expect(frame{opPing, ""})
			at(t, start, 10*time.Minute+45*time.Second)
		})
	})
}

func TestMessageTimeout(t *testing.T) {
	tests := []struct {
		name  string
		parts [][]byte // written a second apart
		after time.Duration
	}{
		{"half a header", [][]byte{text("x")[:1]}, 10 * time.Second},
		{"half a payload", [][]byte{text("xx")[:7]}, 10 * time.Second},
		{"half a ping", [][]byte{ping("xx")[:7]}, 10 * time.Second},
		{"first fragment, then pings", [][]byte{first("x"), ping(""), ping(""), ping(""), middle("")}, 10 * time.Second},
		{"a message, then half a one", [][]byte{text("x"), text("x")[:1]}, 11 * time.Second},
		{"both in one", [][]byte{text("x")[:1], append(text("x")[1:], text("x")[:1]...)}, 11 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHandler()
				c, conn := open(t, nil, h)
				start := time.Now()
				go io.Copy(io.Discard, c.conn)
				for i, part := range test.parts {
					if i > 0 {
						time.Sleep(time.Second)
					}
					c.write(part)
				}
				<-conn.Context().Done()
				if d := time.Since(start); d != test.after {
					t.Errorf("after %v, want %v", d, test.after)
				}
				<-conn.Done()
				if e := <-h.closed; e.code != ws.CodePolicy || e.err == nil {
					t.Errorf("Closed: %v", e)
				}
			})
		})
	}
	t.Run("not while reading is paused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHandler()
			h.message = func(c *ws.Conn, typ ws.Type, data []byte) {
				time.Sleep(20 * time.Second)
				c.Send(typ, data)
			}
			c, _ := open(t, &ws.Options{Pending: 1}, h)
			c.text("a")
			settle()
			c.write(append(text("b"), text("c")[:3]...))
			c.expect(frame{opText, "a"})
			time.Sleep(9 * time.Second)
			c.write(text("c")[3:])
			c.expect(frame{opText, "b"}, frame{opText, "c"})
		})
	})
	t.Run("slow but in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _ := open(t, nil, newHandler())
			for _, x := range text("abc") {
				time.Sleep(time.Second)
				c.write([]byte{x})
			}
			c.expect(frame{opText, "abc"})
		})
	})
}

// Large messages that wait are bounded by their bytes.
func TestPendingBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler()
		release := make(chan struct{})
		handled := 0
		h.message = func(*ws.Conn, ws.Type, []byte) {
			<-release
			handled++
		}
		c, _ := open(t, nil, h)
		written := 0
		for range 4 { // one is handled, two wait, the fourth is not read
			go func() {
				c.write(text(strings.Repeat("x", 200<<10)))
				written++
			}()
			settle()
		}
		if written != 3 {
			t.Errorf("%d messages were read, want 3", written)
		}
		close(release)
		synctest.Wait()
		if written != 4 || handled != 4 {
			t.Errorf("%d messages were read and %d handled, want 4", written, handled)
		}
	})
}

// While messages wait for a stuck one, urgent ones and pings are answered; when too many wait, reading pauses.
func TestPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler()
		release := make(chan struct{})
		h.message = func(c *ws.Conn, typ ws.Type, data []byte) {
			<-release
			c.Send(typ, data)
		}
		h.urgent = func(c *ws.Conn, typ ws.Type, data []byte) bool {
			if string(data) != "ping" {
				return false
			}
			c.Send(ws.Text, []byte("pong"))
			return true
		}
		c, _ := open(t, nil, h)
		written := 0
		write := func(b []byte) {
			go func() {
				c.write(b)
				written++
			}()
			settle()
		}
		for i := range 64 {
			write(text(fmt.Sprint(i)))
		}
		write(ping("p"))
		c.expect(frame{opPong, "p"})
		write(text("ping"))
		c.expect(frame{opText, "pong"})
		write(text("64")) // one is handled, 64 wait
		write(text("65"))
		if written != 67 {
			t.Fatalf("%d written, want 67", written)
		}
		close(release)
		for i := range 66 {
			c.expect(frame{opText, fmt.Sprint(i)})
		}
	})
}
