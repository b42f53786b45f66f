package wsraw_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/internal/wsraw"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		name  string
		frame wsraw.Frame
		want  []byte
	}{
		{"text", wsraw.TextFrame("\x12\x34"), []byte{0x81, 0x82, 0x12, 0x34, 0x56, 0x78, 0, 0}},
		{"close", wsraw.CloseFrame(1000, ""), []byte{0x88, 0x82, 0x12, 0x34, 0x56, 0x78, 0x11, 0xdc}},
		{"unmasked", wsraw.Frame{Op: wsraw.Ping, Unmasked: true, Payload: []byte("a")}, []byte{0x89, 1, 'a'}},
		{"RSV1 and no FIN", wsraw.Frame{Op: wsraw.Text, RSV: 4, More: true, Unmasked: true}, []byte{0x41, 0}},
		{"126 bytes", wsraw.Frame{Op: wsraw.Binary, Unmasked: true, Payload: make([]byte, 126)},
			append([]byte{0x82, 126, 0, 126}, make([]byte, 126)...)},
		{"65,536 bytes", wsraw.Frame{Op: wsraw.Binary, Unmasked: true, Payload: make([]byte, 1<<16)},
			append([]byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}, make([]byte, 1<<16)...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.frame.Append(nil); !bytes.Equal(got, tt.want) {
				t.Errorf("got % x, want % x", got[:min(20, len(got))], tt.want[:min(20, len(tt.want))])
			}
		})
	}
}

const accepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
	wsraw.Accept + "\r\n\r\n"

// serve answers a handshake with those bytes, then closes.
func serve(t *testing.T, answer string) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer server.Close()
		_, _ = server.Read(make([]byte, 4096))
		_, _ = io.WriteString(server, answer)
	}()
	t.Cleanup(func() { client.Close(); <-done })
	return client
}

func TestNext(t *testing.T) {
	stream := "\x81\x02hi" + "\x82\x01\x0a" + "\x89\x00" + "\x8a\x01x" + "\x82\x7e\x00\x01\x00" + "\x88\x05\x03\xe8bye"
	c, err := wsraw.Client(serve(t, accepted+stream), wsraw.Handshake("x", "/"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"hi", "<binary 0a>", "<ping >", "<pong x>", "<binary 00>"} {
		if got := c.Next().String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if m := c.Next(); m.String() != "<close 1000>" || m.Reason() != "bye" {
		t.Errorf("got %v with reason %q", m, m.Reason())
	}
	if got := c.Next().String(); got != "<eof>" {
		t.Errorf("got %q at the end", got)
	}
}

func TestNextRefusesFaults(t *testing.T) {
	for name, frame := range map[string]string{
		"masked": "\x81\x81\x01\x02\x03\x04a", "fragment": "\x01\x00", "reserved bit": "\xc1\x00", "huge": "\x82\x7f\x7fxxxxxxx",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := wsraw.Client(serve(t, accepted+frame), wsraw.Handshake("x", "/"))
			if err != nil {
				t.Fatal(err)
			}
			if m := c.Next(); m.Err == nil || m.String() == "<eof>" {
				t.Errorf("got %v, want an error about the frame", m)
			}
		})
	}
}

func TestClientRefused(t *testing.T) {
	_, err := wsraw.Client(serve(t, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"), wsraw.Handshake("x", "/"))
	refused, ok := errors.AsType[*wsraw.RefusedError](err)
	if !ok || refused.Response.StatusCode != http.StatusForbidden || string(refused.Body) != "no" {
		t.Errorf("got %v, want 403 and its body", err)
	}
	if _, err := wsraw.Client(serve(t, "HTTP/1.1 101 x\r\n\r\n"), wsraw.Handshake("x", "/")); err == nil {
		t.Error("a handshake without Sec-WebSocket-Accept passed")
	}
}
