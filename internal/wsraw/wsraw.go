// Package wsraw is a WebSocket client for tests that sends what it is told, broken frames included, and shows what comes back as it
// came (RFC 6455). It has no opinion on the protocol but for the frames it reads.
package wsraw

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Opcodes of frames, RFC 6455 section 5.2.
const (
	Continuation byte = 0
	Text         byte = 1
	Binary       byte = 2
	Close        byte = 8
	Ping         byte = 9
	Pong         byte = 10
)

// Key is the Sec-WebSocket-Key that Handshake sends, and Accept what a server must answer to it: the example of RFC 6455
// section 1.3.
const (
	Key    = "dGhlIHNhbXBsZSBub25jZQ=="
	Accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// Timeout is how long Dial and Next wait.
const Timeout = 10 * time.Second

// A Frame is sent as it is. The zero Frame is an empty continuation frame that ends its message.
type Frame struct {
	Op       byte
	More     bool // FIN is not set
	RSV      byte // the reserved bits: 4 is RSV1, 2 is RSV2, 1 is RSV3
	Unmasked bool
	Payload  []byte
}

// Append appends the bytes of a client's frame, with the shortest length.
func (f Frame) Append(b []byte) []byte {
	first := f.Op | f.RSV<<4
	if !f.More {
		first |= 0x80
	}
	mask := byte(0x80)
	if f.Unmasked {
		mask = 0
	}
	switch n := len(f.Payload); {
	case n < 126:
		b = append(b, first, mask|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, first, mask|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, first, mask|127), uint64(n))
	}
	if f.Unmasked {
		return append(b, f.Payload...)
	}
	key := [4]byte{0x12, 0x34, 0x56, 0x78}
	b = append(b, key[:]...)
	for i, c := range f.Payload {
		b = append(b, c^key[i%4])
	}
	return b
}

// TextFrame is a whole text message.
func TextFrame(s string) Frame { return Frame{Op: Text, Payload: []byte(s)} }

// CloseFrame is a close frame with a code and a reason.
func CloseFrame(code int, reason string) Frame {
	return Frame{Op: Close, Payload: append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)}
}

// Handshake returns the bytes of an upgrade request. Headers are lines, "Name: value".
func Handshake(host, path string, headers ...string) []byte {
	lines := append([]string{
		"GET " + path + " HTTP/1.1", "Host: " + host, "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + Key,
	}, headers...)
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")
}

// A Conn is the client's side of a connection. One goroutine may send while another one reads.
type Conn struct {
	// Upgrade is the response to the handshake.
	Upgrade *http.Response

	conn net.Conn
	br   *bufio.Reader
}

// Dial connects to host, which is host:port, and upgrades. The error is a [*RefusedError] if the server answers anything but a
// good 101. The caller closes the Conn.
func Dial(host, path string, headers ...string) (*Conn, error) {
	conn, err := net.DialTimeout("tcp", host, Timeout)
	if err != nil {
		return nil, err
	}
	c, err := Client(conn, Handshake(host, path, headers...))
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// Client upgrades on a connection that is open, with the request's bytes. If it fails, the caller closes conn.
func Client(conn net.Conn, request []byte) (*Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(Timeout)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodGet})
	if err != nil {
		return nil, err
	}
	h := resp.Header
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return nil, errors.Join(&RefusedError{resp, body}, err)
	}
	if h.Get("Sec-WebSocket-Accept") != Accept || !strings.EqualFold(h.Get("Upgrade"), "websocket") ||
		!strings.EqualFold(h.Get("Connection"), "upgrade") {
		return nil, fmt.Errorf("wsraw: the server's handshake is wrong: %v", h)
	}
	return &Conn{resp, conn, br}, nil
}

// A RefusedError is the answer to a handshake that is not 101.
type RefusedError struct {
	Response *http.Response // its Body has been read
	Body     []byte
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("wsraw: upgrade refused: %s: %s", e.Response.Status, e.Body)
}

// Close ends the connection without a close frame.
func (c *Conn) Close() error { return c.conn.Close() }

// Send sends frames in one write.
func (c *Conn) Send(frames ...Frame) error {
	var b []byte
	for _, f := range frames {
		b = f.Append(b)
	}
	return c.Write(b)
}

// SendText sends a text message in one frame.
func (c *Conn) SendText(s string) error { return c.Send(TextFrame(s)) }

// Write sends bytes that need not be frames.
func (c *Conn) Write(b []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(Timeout)); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	return err
}

// A Message is a frame from the server, or the end of the connection, when its Err is set.
type Message struct {
	Op      byte
	Payload []byte
	Err     error
}

var errFrame = errors.New("wsraw: the server sent a frame that is masked, fragmented, reserved or too long")

// Next reads the next frame. No server of this module fragments a message, so a frame is one.
func (c *Conn) Next() Message {
	_ = c.conn.SetReadDeadline(time.Now().Add(Timeout)) // a pipe that the peer closed has none, and may still hold frames
	var head [2]byte
	if _, err := io.ReadFull(c.br, head[:]); err != nil {
		return Message{Err: err}
	}
	n, long := uint64(head[1]&0x7f), 0
	switch n {
	case 126:
		long = 2
	case 127:
		long = 8
	}
	var length [8]byte
	if _, err := io.ReadFull(c.br, length[8-long:]); err != nil {
		return Message{Err: err}
	}
	if long > 0 {
		n = binary.BigEndian.Uint64(length[:])
	}
	if head[0]&0xf0 != 0x80 || head[1]&0x80 != 0 || n > 1<<27 {
		return Message{Err: errFrame}
	}
	m := Message{Op: head[0] & 0xf, Payload: make([]byte, n)}
	if _, err := io.ReadFull(c.br, m.Payload); err != nil {
		return Message{Err: err}
	}
	return m
}

// Code is the code of a close frame; 1005 if it has none (RFC 6455 section 7.4.1), 0 for other messages.
func (m Message) Code() int {
	switch {
	case m.Op != Close || m.Err != nil:
		return 0
	case len(m.Payload) < 2:
		return 1005
	}
	return int(binary.BigEndian.Uint16(m.Payload))
}

// Reason is the reason of a close frame.
func (m Message) Reason() string {
	if m.Code() == 0 || len(m.Payload) < 2 {
		return ""
	}
	return string(m.Payload[2:])
}

// String returns a text message as it is. Others stand in angle brackets: <close 1002>, without the reason, <ping abc>, <pong abc>,
// <binary 0102>, <eof>, and <timeout> or another error.
func (m Message) String() string {
	var netErr net.Error
	switch {
	case m.Err == nil && m.Op == Text:
		return string(bytes.ToValidUTF8(m.Payload, []byte("\uFFFD")))
	case m.Err == nil && m.Op == Close:
		return fmt.Sprintf("<close %d>", m.Code())
	case m.Err == nil && m.Op == Ping:
		return fmt.Sprintf("<ping %s>", m.Payload)
	case m.Err == nil && m.Op == Pong:
		return fmt.Sprintf("<pong %s>", m.Payload)
	case m.Err == nil:
		return fmt.Sprintf("<binary %x>", m.Payload)
	case errors.As(m.Err, &netErr) && netErr.Timeout():
		return "<timeout>"
	case errors.Is(m.Err, errFrame):
		return "<" + m.Err.Error() + ">"
	}
	return "<eof>" // or a reset, which says the same when the server closed before it had read all
}
