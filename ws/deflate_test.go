package ws_test

import (
	"bytes"
	"compress/flate"
	"crypto/rand"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/ws"
)

const (
	offer  = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
	rsv1   = 0x40
	agreed = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
)

// dialDeflate returns a client that has agreed on permessage-deflate, and its connection.
func dialDeflate(t testing.TB, opts *ws.Options, h ws.Handler) (*client, *ws.Conn) {
	t.Helper()
	opts.Compression = true
	addr, conns := listen(t, opts, h)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, resp := upgradeWith(t, conn, handshake+offer)
	if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != agreed {
		t.Fatalf("agreed on %q", got)
	}
	return c, <-conns
}

func deflate(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

// inflate returns the payload of a compressed message.
func inflate(t testing.TB, f frame) string {
	t.Helper()
	if f.op&rsv1 == 0 {
		t.Fatalf("%v is not compressed", f)
	}
	r := flate.NewReader(io.MultiReader(strings.NewReader(f.payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCompression(t *testing.T) {
	long := strings.Repeat("tell me more. ", 100)
	c, conn := dialDeflate(t, &ws.Options{}, newHandler())

	c.write(masked(0x80|rsv1|opText, deflate(t, []byte(long))))
	if got := inflate(t, c.read()); got != long {
		t.Errorf("echo of a compressed message: %.50q", got)
	}
	c.text(long)
	if got := inflate(t, c.read()); got != long {
		t.Errorf("echo of a plain message: %.50q", got)
	}
	half := deflate(t, []byte(long))
	c.write(masked(rsv1|opText, half[:9]))
	c.write(ping("p"))
	c.write(masked(0x80|opContinuation, half[9:]))
	c.expect(frame{opPong, "p"})
	if got := inflate(t, c.read()); got != long {
		t.Errorf("echo of a compressed message in two frames: %.50q", got)
	}
	c.write(masked(0x80|rsv1|opText, deflate(t, nil)))
	c.expect(frame{opText, ""})
	c.text("short")
	c.expect(frame{opText, "short"})

	p := ws.Prepare(ws.Binary, []byte(long))
	conn.SendPrepared(p)
	conn.Send(ws.Binary, []byte(long))
	for range 2 {
		if got := inflate(t, c.read()); got != long {
			t.Errorf("event: %.50q", got)
		}
	}
	noise := make([]byte, 1000)
	rand.Read(noise)
	conn.SendPrepared(ws.Prepare(ws.Binary, noise))
	c.expect(frame{opBinary, string(noise)}) // as it doesn't get smaller
	c.write(closing(1000, ""))
	c.expect(frame{opClose, "\x03\xe8"})
}

// What a client may offer is answered by what we do: no context takeover, in either direction, and any window of the client's.
func TestCompressionOffers(t *testing.T) {
	for _, test := range []struct{ offer, want string }{
		{"permessage-deflate; client_max_window_bits", agreed}, // browsers
		{"permessage-deflate; client_max_window_bits=9; server_no_context_takeover", agreed},
		{"permessage-deflate; server_max_window_bits=15", agreed},
		{"permessage-deflate; server_max_window_bits=10", ""},
		{"permessage-deflate; server_max_window_bits=10, permessage-deflate", agreed},
		{"permessage-deflate; unknown", ""},
		{"x-webkit-deflate-frame", ""},
		{"permessage-deflate-not", ""},
	} {
		t.Run(test.offer, func(t *testing.T) {
			addr, _ := listen(t, &ws.Options{Compression: true}, newHandler())
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			c, resp := upgradeWith(t, conn, handshake+"Sec-WebSocket-Extensions: "+test.offer+"\r\n")
			if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != test.want {
				t.Errorf("agreed on %q, want %q", got, test.want)
			}
			c.write(masked(0x80|rsv1|opText, deflate(t, []byte("hello"))))
			if test.want == "" {
				c.end(ws.CodeProtocol)
				return
			}
			c.expect(frame{opText, "hello"})
		})
	}
}

// A client that offers nothing gets nothing compressed, also from a message prepared for others.
func TestCompressionNotAgreed(t *testing.T) {
	long := strings.Repeat("x", 1000)
	addr, conns := listen(t, &ws.Options{Compression: true}, newHandler())
	c := dial(t, addr)
	conn := <-conns
	conn.SendPrepared(ws.Prepare(ws.Text, []byte(long)))
	c.expect(frame{opText, long})
	c.write(masked(0x80|rsv1|opText, deflate(t, []byte(long))))
	c.end(ws.CodeProtocol)
}

func TestCompressedFaults(t *testing.T) {
	final := func(data string) []byte { // a stream that says that it has ended
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, flate.DefaultCompression)
		io.WriteString(w, data)
		w.Close()
		return b.Bytes()
	}
	tests := []struct {
		name string
		in   []byte
		code int
	}{
		{"bomb", masked(0x80|rsv1|opBinary, deflate(t, make([]byte, 64<<20))), ws.CodeTooBig},
		{"bomb in pieces", append(masked(rsv1|opBinary, deflate(t, make([]byte, 32<<20))), masked(0x80|opContinuation, nil)...), ws.CodeTooBig},
		{"one byte too much", masked(0x80|rsv1|opBinary, deflate(t, make([]byte, 1<<20+1))), ws.CodeTooBig},
		{"no deflate data", masked(0x80|rsv1|opBinary, []byte("\xff\xff\xff\xff")), ws.CodeBadText},
		{"not UTF-8", masked(0x80|rsv1|opText, deflate(t, []byte("\xff"))), ws.CodeBadText},
		{"compressed control frame", masked(0x80|rsv1|opPing, nil), ws.CodeProtocol},
		{"compressed continuation", append(first("x"), masked(0x80|rsv1|opContinuation, nil)...), ws.CodeProtocol},
		{"second reserved bit", masked(0x80|0x20|opText, nil), ws.CodeProtocol},
		{"bytes behind the end", masked(0x80|rsv1|opText, append(final("x"), bytes.Repeat(masked(0x80|opPing, []byte("smuggled")), 1000)...)), ws.CodeBadText},
		{"frame behind the end", append(masked(rsv1|opText, final("x")), masked(0x80|opContinuation, []byte("y"))...), ws.CodeBadText},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHandler()
			c, conn := dialDeflate(t, &ws.Options{}, h)
			go c.conn.Write(test.in)
			c.end(test.code)
			c.conn.Close()
			<-conn.Done()
			if e := <-h.closed; e.code != test.code || e.err == nil {
				t.Errorf("Closed: %v", e)
			}
		})
	}
	t.Run("the end may be said", func(t *testing.T) {
		c, _ := dialDeflate(t, &ws.Options{}, newHandler())
		c.write(masked(0x80|rsv1|opText, []byte("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"))) // RFC 7692, section 7.2.3.4
		c.expect(frame{opText, "Hello"})
		c.write(masked(0x80|rsv1|opText, final("x")))
		c.expect(frame{opText, "x"})
		c.text("y")
		c.expect(frame{opText, "y"})
	})
}
