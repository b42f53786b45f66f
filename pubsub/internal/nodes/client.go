//go:build unix

package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	room       = "room"
	dialTime   = 3 * time.Second
	redialTime = 50 * time.Millisecond
	tellTime   = 3 * time.Second // for a change to be told
)

// A client is in the room until it is stopped: it comes back whenever its connection ends. It keeps a set of who is there, as
// the documentation of presence says.
type client struct {
	user   string
	home   int
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	addr    string    // of the node that it connects to next
	close   func()    // ends the present connection
	up      bool      // it has joined, and knows who is there
	gap     time.Time // when a connection last ended
	err     error     // of the last one
	members map[string]bool
	left    map[string]int // how often it was told that a user left
	since   time.Time      // counted from then on
}

// steady reports whether the client has been connected since the count began, and shortly before: that it was not may still be told
// then. mu is held.
func (c *client) steady() bool { return c.up && c.since.Sub(c.gap) > tellTime }

func newClient(ctx context.Context, user string, home int, addr string) *client {
	ctx, cancel := context.WithCancel(ctx)
	c := &client{user: user, home: home, cancel: cancel, done: make(chan struct{}), addr: addr, close: func() {}, left: map[string]int{}}
	go func() {
		defer close(c.done)
		for ctx.Err() == nil {
			err := c.session(ctx)
			c.mu.Lock()
			c.err = err
			if c.up {
				c.gap = time.Now()
			}
			c.up = false
			c.mu.Unlock()
			select {
			case <-time.After(redialTime):
			case <-ctx.Done():
			}
		}
	}()
	return c
}

// stop has the client leave, and not come back.
func (c *client) stop() {
	c.cancel()
	<-c.done
}

// move has the client come back by another node.
func (c *client) move(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addr = addr
	c.close()
}

// reset begins to count anew.
func (c *client) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Now()
	clear(c.left)
}

func (c *client) session(ctx context.Context) error {
	c.mu.Lock()
	addr := c.addr
	c.mu.Unlock()
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	//nolint:bodyclose // on success there is no body, on failure the library has read and closed it
	ws, _, err := websocket.Dial(dialing, "ws://"+addr+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + c.user}}})
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	c.mu.Lock()
	c.close = func() { _ = ws.CloseNow() }
	c.mu.Unlock()
	for _, frame := range []string{`["join","` + room + `"]`, `{"action":"members"}`} {
		if err := ws.Write(dialing, websocket.MessageText, []byte(frame)); err != nil {
			return err
		}
	}
	joined := false
	var early []event // what came before the answer may be newer than that
	for {
		_, data, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		var message []json.RawMessage
		if err := json.Unmarshal(data, &message); err != nil || len(message) < 2 {
			return fmt.Errorf("received %s", data)
		}
		switch string(message[0]) {
		case `"response"`:
			var members map[string]member
			if err := json.Unmarshal(message[1], &members); err != nil || !joined {
				return fmt.Errorf("joined: %t; the members are %s", joined, message[1])
			}
			c.begin(members, early)
		case `"channel_list"`:
			joined = strings.Contains(string(message[1]), `"`+room) // the first list is older
		case `"presence"`:
			var e event
			if err := json.Unmarshal(message[1], &e); err != nil {
				return err
			}
			if early = append(early, e); c.isUp() {
				c.apply(e)
			}
		}
	}
}

// An event is one of presence.
type event struct{ Joined, Left []string }

func (c *client) isUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
}

func (c *client) begin(members map[string]member, early []event) {
	c.mu.Lock()
	c.members = map[string]bool{}
	for user := range members {
		c.members[user] = true
	}
	c.mu.Unlock()
	for _, e := range early {
		c.apply(e)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up = true
}

func (c *client) apply(e event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, user := range e.Joined {
		c.members[user] = true
	}
	for _, user := range e.Left {
		delete(c.members, user)
		c.left[user]++
	}
}

// differs says how what the client was told differs from who is there.
func (c *client) differs(want map[string]member) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.up {
		return fmt.Sprintf("%s is not in the room by %s: %v", c.user, c.addr, c.err)
	}
	return compare(fmt.Sprintf("as %s was told by %s", c.user, c.addr), keys(c.members), keys(want))
}

func compare(what string, got, want []string) string {
	if slices.Equal(got, want) {
		return ""
	}
	return fmt.Sprintf("%s: %q, want %q", what, got, want)
}

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// members asks a node who is there.
func members(ctx context.Context, addr string) (found map[string]member, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/run/members", http.NoBody)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer nobody")
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(body, &found)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", body, err)
	}
	return found, nil
}
