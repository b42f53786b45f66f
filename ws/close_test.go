package ws_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore/ws"
)

// What is queued goes out before the close frame, and nothing after it.
func TestCloseSendsQueueFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler()
		h.message = func(c *ws.Conn, typ ws.Type, data []byte) {
			for i := range 100 {
				c.Send(ws.Text, fmt.Append(nil, i))
			}
			c.Close(1000, "bye")
			c.Close(1011, "too late")
			if c.Send(ws.Text, nil) || c.SendPrepared(ws.Prepare(ws.Text, nil)) {
				t.Error("sent after Close")
			}
			if c.Context().Err() == nil {
				t.Error("the context goes on")
			}
		}
		c, conn := open(t, nil, h)
		c.text("quit")
		go c.conn.Write(text("not handled"))
		for i := range 100 {
			c.expect(frame{opText, fmt.Sprint(i)})
		}
		c.expect(frame{opClose, "\x03\xe8bye"})
		c.write(closing(1000, ""))
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Error(err)
		}
		<-conn.Done()
		if e := <-h.closed; e != (ended{1000, "bye", nil}) {
			t.Errorf("Closed: %v", e)
		}
	})
}

// The Handler of the pending messages isn't called after Close.
func TestCloseDropsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler()
		calls := 0
		h.message = func(c *ws.Conn, typ ws.Type, data []byte) {
			calls++
			<-c.Context().Done()
		}
		c, conn := open(t, nil, h)
		c.text("a")
		c.text("b")
		synctest.Wait()
		conn.Close(ws.CodeUnauthorized, "")
		c.end(ws.CodeUnauthorized)
		<-conn.Done()
		if calls != 1 {
			t.Errorf("%d messages handled", calls)
		}
	})
}

func TestCloseAfterPending(t *testing.T) {
	t.Run("nothing pending", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, conn := open(t, nil, newHandler())
			conn.CloseAfterPending(ws.CodeRestart, "")
			c.end(ws.CodeRestart)
		})
	})
	t.Run("pending", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHandler()
			h.message = func(c *ws.Conn, typ ws.Type, data []byte) {
				time.Sleep(time.Second)
				c.Send(typ, data)
			}
			h.urgent = func(c *ws.Conn, typ ws.Type, data []byte) bool {
				return string(data) == "late" && c.Send(typ, []byte("refused"))
			}
			c, conn := open(t, &ws.Options{Pending: 2}, h)
			for _, s := range []string{"a", "b", "c"} { // one handled, two waiting, no more is read
				c.text(s)
			}
			settle()
			conn.CloseAfterPending(ws.CodeRestart, "{}")
			conn.CloseAfterPending(ws.CodeGoingAway, "second")
			c.expect(frame{opText, "a"})
			c.text("late")
			c.text("d") // "late" counts as well
			c.text("dropped")
			c.expect(frame{opText, "refused"}, frame{opText, "b"}, frame{opText, "c"}, frame{opText, "d"}, frame{opClose, "\x03\xf4{}"})
		})
	})
	t.Run("Close takes precedence", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHandler()
			h.message = func(c *ws.Conn, typ ws.Type, data []byte) { <-c.Context().Done() }
			c, conn := open(t, nil, h)
			c.text("stuck")
			synctest.Wait()
			conn.CloseAfterPending(ws.CodeRestart, "")
			conn.Close(ws.CodePolicy, "kicked")
			c.end(ws.CodePolicy)
		})
	})
}

// The peer's close doesn't wait for a slow message, which learns of it. Those read before it are still handled.
func TestPeerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler()
		var handled []string
		h.message = func(c *ws.Conn, typ ws.Type, data []byte) {
			<-c.Context().Done()
			handled = append(handled, string(data))
			if c.Send(typ, data) {
				t.Error("sent after the close frame")
			}
		}
		c, conn := open(t, nil, h)
		start := time.Now()
		c.text("a")
		c.text("b")
		c.write(closing(4321, "bye"))
		c.expect(frame{opClose, "\x10\xe1bye"})
		if d := time.Since(start); d > 200*time.Millisecond {
			t.Errorf("echoed after %v", d)
		}
		<-conn.Done()
		if e := <-h.closed; e != (ended{4321, "bye", nil}) || len(handled) != 2 {
			t.Errorf("Closed: %v, handled %v", e, handled)
		}
	})
}

func TestPeerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler()
		h.message = func(c *ws.Conn, typ ws.Type, data []byte) { <-c.Context().Done() }
		c, conn := open(t, nil, h)
		c.text("a")
		c.conn.Close()
		<-conn.Done()
		if e := <-h.closed; e.code != ws.CodeLost || !errors.Is(e.err, io.EOF) {
			t.Errorf("Closed: %v", e)
		}
	})
}

func TestCloseNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler()
		c, conn := open(t, nil, h)
		conn.Send(ws.Text, []byte("not read"))
		conn.CloseNow()
		<-conn.Done()
		if e := <-h.closed; e.code != ws.CodeLost || !errors.Is(e.err, net.ErrClosed) {
			t.Errorf("Closed: %v", e)
		}
		if _, err := c.r.ReadByte(); err == nil {
			t.Error("something was sent")
		}
	})
}

// After a fault the peer sees the end of our stream at once; we wait for its end, so that what it still sends doesn't
// make the kernel take the close frame back.
func TestFaultEndsStream(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			h := newHandler()
			c, conn := connect(t, secure, &ws.Options{CloseGrace: time.Hour}, h)
			c.write([]byte{0xFF})
			if f := c.read(); f.code() != ws.CodeProtocol {
				t.Fatalf("got %v", f)
			}
			if _, err := c.r.ReadByte(); err != io.EOF {
				t.Fatal(err)
			}
			select {
			case <-conn.Done():
				t.Error("the socket was closed before the peer's end")
			default:
			}
			c.conn.Close()
			<-conn.Done()
			if e := <-h.closed; e.code != ws.CodeProtocol || e.err == nil {
				t.Errorf("Closed: %v", e)
			}
		})
	}
}

// Peers that never answer a close frame are all gone after the grace, at the same time.
func TestMutePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var conns []*ws.Conn
		for range 100 {
			c, conn := open(t, nil, newHandler())
			go io.Copy(io.Discard, c.conn)
			conns = append(conns, conn)
		}
		for _, conn := range conns {
			conn.Close(ws.CodeRestart, "")
		}
		for _, conn := range conns {
			<-conn.Done()
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("gone after %v", d)
		}
	})
}

// Nor does it help a peer to go on sending, or to read nothing.
func TestUncooperativePeers(t *testing.T) {
	for _, code := range []int{ws.CodeRestart, ws.CodeProtocol} {
		t.Run(fmt.Sprint("sends on, ", code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, conn := open(t, nil, newHandler())
				go io.Copy(io.Discard, c.conn)
				var writer sync.WaitGroup
				writer.Go(func() {
					for {
						if _, err := c.conn.Write(text("x")); err != nil {
							return
						}
						time.Sleep(time.Millisecond)
					}
				})
				start := time.Now()
				if code == ws.CodeProtocol {
					c.conn.Write([]byte{0xFF})
				} else {
					conn.Close(code, "")
				}
				<-conn.Done()
				writer.Wait()
				if d := time.Since(start); d > 1200*time.Millisecond {
					t.Errorf("gone after %v", d)
				}
			})
		})
	}
	t.Run("reads slowly", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, conn := open(t, nil, newHandler())
			start := time.Now()
			conn.Send(ws.Text, make([]byte, 200<<10))
			conn.Close(ws.CodeRestart, "")
			var reader sync.WaitGroup
			reader.Go(func() {
				for {
					if _, err := io.CopyN(io.Discard, c.conn, 16<<10); err != nil {
						return
					}
					time.Sleep(4 * time.Second)
				}
			})
			<-conn.Done()
			if d := time.Since(start); d != 5*time.Second {
				t.Errorf("gone after %v", d)
			}
			reader.Wait()
		})
	})
	t.Run("reads nothing when slow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHandler()
			_, conn := open(t, &ws.Options{SendBytes: 1000}, h)
			start := time.Now()
			for conn.Send(ws.Text, []byte("x")) {
			}
			<-conn.Done()
			if d := time.Since(start); d != time.Second {
				t.Errorf("gone after %v", d)
			}
			if e := <-h.closed; e.code != ws.CodeSlow {
				t.Errorf("Closed: %v", e)
			}
		})
	})
	t.Run("reads nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHandler()
			_, conn := open(t, nil, h)
			start := time.Now()
			conn.Send(ws.Text, []byte("x"))
			conn.Close(ws.CodeRestart, "")
			<-conn.Done()
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("gone after %v", d)
			}
			if e := <-h.closed; e.code != ws.CodeRestart {
				t.Errorf("Closed: %v", e)
			}
		})
	})
}

func TestCloseCodeAndReason(t *testing.T) {
	tests := []struct {
		name         string
		code         int
		reason, want string
	}{
		{"plain", 4001, "bye", "\x0f\xa1bye"},
		{"code that may not be sent", 1005, "", "\x03\xf3"},
		{"reason cut at a character", 1000, strings.Repeat("x", 122) + "é", "\x03\xe8" + strings.Repeat("x", 122)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, conn := open(t, nil, newHandler())
			conn.Close(test.code, test.reason)
			c.expect(frame{opClose, test.want})
			c.conn.Close()
		})
	}
}

func TestPanic(t *testing.T) {
	tests := []struct {
		name string
		h    func(h *handler)
	}{
		{"Message", func(h *handler) { h.message = func(*ws.Conn, ws.Type, []byte) { panic("boom") } }},
		{"Urgent", func(h *handler) { h.urgent = func(*ws.Conn, ws.Type, []byte) bool { panic("boom") } }},
		{"Message, Goexit", func(h *handler) { h.message = func(*ws.Conn, ws.Type, []byte) { runtime.Goexit() } }},
		{"Urgent, Goexit", func(h *handler) { h.urgent = func(*ws.Conn, ws.Type, []byte) bool { runtime.Goexit(); return true } }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHandler()
				test.h(h)
				var value any
				var stack string
				c, conn := open(t, &ws.Options{Panic: func(_ *ws.Conn, v any, s []byte) { value, stack = v, string(s) }}, h)
				c.text("x")
				c.end(ws.CodeInternal)
				<-conn.Done()
				want := "boom"
				if strings.HasSuffix(test.name, "Goexit") {
					want = "runtime.Goexit called"
				}
				if value != want || !strings.Contains(stack, "close_test.go") {
					t.Errorf("Panic was given %v and %s", value, stack)
				}
				if e := <-h.closed; e.code != ws.CodeInternal {
					t.Errorf("Closed: %v", e)
				}
			})
		})
	}
}

// Concurrent senders' messages arrive whole, and each sender's in order, replies and prepared ones alike.
func TestOrder(t *testing.T) {
	h := newHandler()
	addr, conns := listen(t, &ws.Options{SendBytes: -1}, h)
	c := dial(t, addr)
	conn := <-conns
	const senders, messages = 4, 500
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range messages {
				data := fmt.Appendf(nil, "%d %d %s", s, i, strings.Repeat("x", i*(s+1)))
				if s%2 == 0 {
					conn.Send(ws.Text, data)
				} else {
					conn.SendPrepared(ws.Prepare(ws.Text, data))
				}
			}
		})
	}
	var next [senders]int
	for range senders * messages {
		var s, i int
		f := c.read()
		if _, err := fmt.Sscan(f.payload, &s, &i); err != nil || i != next[s] {
			t.Fatalf("got %v, want number %d", f, next[s])
		}
		next[s]++
	}
	wg.Wait()
}

// While half a frame has been written, a prepared one, a pong and a close frame wait for the other half.
func TestHalfAFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := open(t, nil, newHandler())
		big := strings.Repeat("x", 100_000)
		conn.Send(ws.Text, []byte(big))
		half := make([]byte, 50_000)
		if _, err := io.ReadFull(c.conn, half); err != nil {
			t.Fatal(err)
		}
		if n := conn.Queued(); n < 50_000 || n > 100_010 {
			t.Errorf("Queued() = %d", n)
		}
		conn.SendPrepared(ws.Prepare(ws.Binary, []byte("event")))
		c.write(ping("p"))
		synctest.Wait()
		conn.Close(1000, "")
		c.r.Reset(io.MultiReader(strings.NewReader(string(half)), c.conn))
		c.expect(frame{opText, big}, frame{opBinary, "event"}, frame{opPong, "p"})
		c.end(1000)
	})
}

func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		opts := &ws.Options{Trace: func(_ *ws.Conn, sent bool, typ ws.Type, data []byte) {
			seen = append(seen, fmt.Sprintf("%t %d %s", sent, typ, data))
		}}
		c, conn := open(t, opts, newHandler())
		c.text("a")
		c.expect(frame{opText, "a"})
		conn.SendPrepared(ws.Prepare(ws.Binary, []byte("b")))
		c.expect(frame{opBinary, "b"})
		c.write(ping(""))
		c.expect(frame{opPong, ""})
		if got, want := strings.Join(seen, ", "), "false 1 a, true 1 a, true 2 b"; got != want {
			t.Errorf("seen %v, want %v", got, want)
		}
	})
}

func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type k struct{}
		parent, cancel := context.WithCancel(context.WithValue(t.Context(), k{}, "v"))
		c, conn := open(t, &ws.Options{Context: parent}, newHandler())
		if conn.Context().Value(k{}) != "v" || conn.Context().Err() != nil {
			t.Error("not the parent's child")
		}
		cancel()
		<-conn.Context().Done()
		c.text("the connection goes on")
		c.expect(frame{opText, "the connection goes on"})
	})
}

func TestContextEnds(t *testing.T) {
	for _, when := range []string{"before Close", "after Close", "never"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, conn := open(t, nil, newHandler())
				ctx := conn.Context()
				if when == "before Close" {
					derived, cancel := context.WithCancel(ctx)
					defer cancel()
					defer func() { <-derived.Done() }()
				}
				conn.Close(ws.CodeNormal, "")
				if when != "never" {
					<-ctx.Done()
				}
				if err := ctx.Err(); !errors.Is(err, context.Canceled) {
					t.Errorf("after Close the context's error is %v", err)
				}
			})
		})
	}
}

// Close and CloseNow between Accept and Start, as by a server that shuts down.
func TestCloseBeforeStart(t *testing.T) {
	for name, f := range map[string]func(*ws.Conn){
		"Close":    func(c *ws.Conn) { c.Close(ws.CodeRestart, "") },
		"CloseNow": (*ws.Conn).CloseNow,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHandler()
				c, conn := accept(t, nil, h)
				f(conn)
				synctest.Wait()
				conn.Start()
				go io.Copy(io.Discard, c.conn)
				<-conn.Done()
				<-h.closed
			})
		})
	}
}
