package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// A member is a client that has joined a room and posts to it. When its server stops, it comes back as docs/websockets.md says, and
// sends again what had no answer: what a server closes with 1012 before it answers has not run.
type member struct {
	r      *rolling
	name   string
	room   string
	header http.Header
	client *http.Client
	posts  int
	ended  bool
	at     *position // of the last event

	mu         sync.Mutex
	conn       *websocket.Conn // that has joined
	unanswered []string        // posts
}

// A position is one in what a room keeps.
type position struct {
	Offset    uint64 `json:"offset"`
	Epoch     string `json:"epoch"`
	Recovered *bool  `json:"recovered,omitempty"` // in the answer to a join
}

// run keeps the member connected until ctx ends.
func (m *member) run(ctx context.Context, first chan struct{}) {
	first <- struct{}{} // not all at the same time
	release := sync.OnceFunc(func() { <-first })
	defer release()
	var back comeback
	for ok := true; ok; {
		if back, ok = m.session(ctx, back, release); !ok {
			return
		}
		select {
		case <-time.After(back.wait):
		case <-ctx.Done():
			return
		}
		back.dialed = time.Now()
	}
}

// session is one connection, after another one if back says so. It returns how to come back, if so.
func (m *member) session(ctx context.Context, back comeback, joined func()) (next comeback, ok bool) {
	options := &websocket.DialOptions{HTTPClient: m.client, HTTPHeader: m.header, Subprotocols: []string{"mooncore.v1.history"}}
	c, resp, err := websocket.Dial(ctx, m.r.base()+"/ws", options)
	if err != nil {
		if ctx.Err() == nil {
			m.r.fail("%s does not connect: %v (%+v)", m.name, err, resp)
		}
		return next, false
	}
	defer c.CloseNow()
	s := &session{member: m, conn: c}
	s.joining(ctx)()
	for {
		_, data, err := c.Read(ctx)
		if err != nil {
			return m.closed(ctx, s, err)
		}
		if fault := s.receive(ctx, data); fault != "" {
			m.r.fail("%s: %s", m.name, fault)
			return next, false
		}
		if s.joined && joined != nil {
			joined()
			joined = nil
			m.r.came(back)
		}
	}
}

// closed says what to do when a connection has ended.
func (m *member) closed(ctx context.Context, s *session, err error) (next comeback, ok bool) {
	next = comeback{from: s.node, closed: time.Now()}
	m.mu.Lock()
	m.conn = nil
	m.mu.Unlock()
	if ctx.Err() != nil {
		return next, false
	}
	var end websocket.CloseError
	var reason struct {
		RetryAfter time.Duration `json:"retry_after"`
	}
	if !errors.As(err, &end) || end.Code != websocket.StatusServiceRestart || json.Unmarshal([]byte(end.Reason), &reason) != nil {
		m.r.fail("%s: the connection with server %d ended with %v, want close 1012 with retry_after", m.name, s.node, err)
		return next, false
	}
	next.wait = reason.RetryAfter * time.Millisecond
	m.r.left(next, s)
	return next, true
}

// end counts the member among those that need wait for nothing more.
func (m *member) end() {
	if !m.ended {
		m.ended = true
		m.r.ended.Add(1)
	}
}

// post sends two posts, unless some are unanswered.
func (m *member) post(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.unanswered) > 0 {
		return
	}
	for range 2 {
		m.posts++
		m.unanswered = append(m.unanswered, fmt.Sprintf("%s-%d", m.name, m.posts))
	}
	m.r.open.Add(2)
	m.sendUnanswered(ctx)
}

// sendUnanswered sends what has no answer, if the member is connected. mu is held.
func (m *member) sendUnanswered(ctx context.Context) {
	if m.conn == nil {
		return
	}
	for _, id := range m.unanswered {
		frame := fmt.Sprintf(`{"action":"post","id":%q,"room":%q,"rayid":%q,"idempotency_key":%q}`, id, m.room, id, id)
		if m.conn.Write(ctx, websocket.MessageText, []byte(frame)) != nil {
			return // the reader finds out why
		}
	}
}

// A session is a connection of a member.
type session struct {
	*member
	conn    *websocket.Conn
	node    int // the server's number
	joined  bool
	refused bool
}

func (s *session) send(ctx context.Context, format string, args ...any) {
	_ = s.conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, format, args...)) // the reader finds out
}

// joining returns what asks to join the room, from where it stands now.
func (s *session) joining(ctx context.Context) func() {
	if s.at == nil {
		return func() { s.send(ctx, `["join",%q]`, s.room) }
	}
	at := *s.at
	return func() { s.send(ctx, `["join",%q,{"since":{"offset":%d,"epoch":%q}}]`, s.room, at.Offset, at.Epoch) }
}

// receive handles a message, and returns what is wrong with it.
func (s *session) receive(ctx context.Context, data []byte) (fault string) {
	var frame []json.RawMessage
	if json.Unmarshal(data, &frame) != nil || len(frame) < 2 {
		return fmt.Sprintf("got %s", data)
	}
	frame = append(frame, nil) // there may be no third element
	switch string(frame[0]) {
	case `"node"`:
		_ = json.Unmarshal(frame[1], &s.node)
	case `"channel_list"`:
		if !strings.Contains(string(frame[1]), `"`+s.room+`:`) {
			// By a server that stops, which closes the connection next, or one that does not reach what is kept.
			s.refused = true
			time.AfterFunc(time.Second, s.joining(ctx))
			return ""
		}
		s.joined, s.refused = true, false
		if s.r.ending.Load() {
			s.end() // its event may have come before
		}
		s.mu.Lock()
		s.member.conn = s.conn
		s.sendUnanswered(ctx)
		s.mu.Unlock()
	case `"joined"`:
		return s.stands(frame[2])
	case `"posted"`:
		var event posted
		_ = json.Unmarshal(frame[1], &event)
		return s.saw(event, frame[2])
	case `"response"`:
		return s.answered(frame)
	case `"lost"`:
		if string(frame[1]) != `"@`+s.name+`"` {
			return fmt.Sprintf("got %s", data)
		}
		s.r.stray(s.node)
	default:
		return fmt.Sprintf("got %s", data)
	}
	return ""
}

// stands handles the answer to a join.
func (s *session) stands(third []byte) (fault string) {
	var to position
	if err := json.Unmarshal(third, &to); err != nil || to.Recovered == nil {
		return fmt.Sprintf("joined with %s", third)
	}
	switch {
	case s.refused:
	case s.at == nil:
		s.at = &to
	case !*to.Recovered:
		return fmt.Sprintf("what it missed after %d is lost: %s", s.at.Offset, third)
	}
	return ""
}

// saw handles an event of the room: each comes once, across all connections.
func (s *session) saw(event posted, third []byte) (fault string) {
	s.r.events.Add(1)
	var at position
	if err := json.Unmarshal(third, &at); err != nil || s.at == nil || at.Epoch != s.at.Epoch || at.Offset != s.at.Offset+1 {
		return fmt.Sprintf("event %s came after %+v", third, s.at)
	}
	s.at = &at
	if strings.HasPrefix(event.ID, endPrefix) {
		s.end()
	}
	return ""
}

// answered handles the answer to a post.
func (s *session) answered(frame []json.RawMessage) (fault string) {
	var id string
	var result struct{ ID, Code string }
	_, _ = json.Unmarshal(frame[2], &id), json.Unmarshal(frame[1], &result)
	if result.Code == "unavailable" {
		s.r.refused.Add(1)
		return "" // it has not run, and the connection is closed next
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.unanswered, id)
	if i < 0 || result.ID != id {
		return fmt.Sprintf("answered %s %s", frame[1], frame[2])
	}
	s.unanswered = slices.Delete(s.unanswered, i, i+1)
	s.r.open.Add(-1)
	s.r.answered(id)
	return ""
}

// postNowAndThen posts until stop is closed.
func (m *member) postNowAndThen(ctx context.Context, pause time.Duration, stop <-chan struct{}) {
	for {
		select {
		case <-time.After(rand.N(2 * pause)):
			m.post(ctx)
		case <-stop:
			return
		}
	}
}
