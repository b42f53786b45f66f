package main_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/wsraw"
)

// A client is a WebSocket connection whose messages can be read up to a point.
type client struct {
	*wsraw.Conn
	t        *testing.T
	barriers int
	ended    bool
}

// dial connects to /ws. If the server refuses, it returns nil and what the server said.
func (s *server) dial(t *testing.T, headers ...string) (*client, response) {
	t.Helper()
	conn, err := wsraw.Dial(s.addr, "/ws", headers...)
	if refused, ok := errors.AsType[*wsraw.RefusedError](err); ok {
		return nil, response{refused.Response.StatusCode, refused.Response.Header, string(refused.Body)}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{Conn: conn, t: t}, response{101, conn.Upgrade.Header, ""}
}

// connect is dial for a connection that must come about, with a token or none.
func (s *server) connect(t *testing.T, token string) *client {
	t.Helper()
	var headers []string
	if token != "" {
		headers = []string{"Authorization: Bearer " + token}
	}
	c, refused := s.dial(t, headers...)
	if c == nil {
		t.Fatalf("upgrade refused: %d %s", refused.status, refused.body)
	}
	return c
}

// received returns all that comes before the answer to a call that it sends. Calls are answered in order, so it is all that the
// frames sent before have brought. After a close it is all up to the end.
func (c *client) received() []string {
	c.t.Helper()
	if c.ended {
		return nil
	}
	c.barriers++
	id := fmt.Sprintf(`"barrier-%d"]`, c.barriers)
	c.SendText(fmt.Sprintf(`{"action":"list.value","rayid":"barrier-%d"}`, c.barriers)) // fails when the server has closed
	var all []string
	for {
		m := c.Next()
		text := m.String()
		if m.Err == nil && strings.HasPrefix(text, `["response",`) && strings.HasSuffix(text, id) {
			return all
		}
		all = append(all, text)
		if m.Code() != 0 {
			c.Send(wsraw.Frame{Op: wsraw.Close, Payload: m.Payload}) // or the server waits for it
		}
		if m.Err != nil {
			c.ended = true
			return all
		}
	}
}

// sendText sends text messages, one write each.
func (c *client) sendText(texts ...string) {
	c.t.Helper()
	for _, text := range texts {
		if err := c.SendText(text); err != nil {
			c.t.Fatal(err)
		}
	}
}

// expect compares what has come with what was wanted: JSON by its meaning, other texts by their bytes.
func (c *client) expect(want ...string) {
	c.t.Helper()
	compareFrames(c.t, c.received(), want)
}

func compareFrames(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(want):
			t.Errorf("received also %s", clip(got[i]))
		case i >= len(got):
			t.Errorf("not received: %s", clip(want[i]))
		case !sameJSON(got[i], want[i]):
			t.Errorf("received %s\n    want %s", clip(got[i]), clip(want[i]))
		}
	}
}
