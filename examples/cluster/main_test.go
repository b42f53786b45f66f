package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/mooncore/mooncore/internal/leaktest"
)

func TestMain(m *testing.M) {
	if os.Getenv(nodeEnv) == "" {
		leaktest.Main(m)
	}
	main()
}

const patience = 30 * time.Second

// A window is a person's page.
type window struct {
	t    *testing.T
	name string
	conn *websocket.Conn
}

// open comes to the chat by the proxy, and into its room.
func open(t *testing.T, c *cluster, name string) *window {
	t.Helper()
	w := &window{t: t, name: name}
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		conn, _, err := websocket.Dial(ctx, "ws://"+c.addr()+"/ws", &websocket.DialOptions{Subprotocols: []string{"mooncore.v1"}})
		cancel()
		if err == nil {
			w.conn = conn
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // real time: of other processes
	}
	t.Cleanup(func() { w.conn.CloseNow() })
	w.send(fmt.Sprintf(`{"action":"login","name":%q}`, name))
	var answer []string
	if err := json.Unmarshal([]byte(strings.Replace(w.expect(`["response","`), ",null]", "]", 1)), &answer); err != nil {
		t.Fatal(err)
	}
	w.send(fmt.Sprintf(`["jwt",%q]`, answer[1]))
	w.expect(`["jwt",{`)
	w.send(`["join","room-general"]`)
	w.expect(`["channel_list",["room-general:default"`)
	return w
}

func (w *window) send(text string) {
	w.t.Helper()
	if err := w.conn.Write(w.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		w.t.Fatalf("%s: %v", w.name, err)
	}
}

// expect waits for a message that begins like this.
func (w *window) expect(prefix string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for {
		_, data, err := w.conn.Read(ctx)
		if err != nil {
			w.t.Fatalf("%s waits for %s: %v", w.name, prefix, err)
		}
		if strings.HasPrefix(string(data), prefix) {
			return string(data)
		}
	}
}

// gone waits until the connection has ended.
func (w *window) gone() {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for {
		if _, _, err := w.conn.Read(ctx); err != nil {
			if ctx.Err() != nil {
				w.t.Fatalf("%s is still connected", w.name)
			}
			return
		}
	}
}

// hear waits for what somebody said. It returns false if the server closes the connection with 1012, since servers that have just
// met, or lost each other, may have missed something.
func (w *window) hear(from, text string) bool {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for {
		_, data, err := w.conn.Read(ctx)
		if websocket.CloseStatus(err) == websocket.StatusServiceRestart {
			return false
		}
		if err != nil {
			w.t.Fatalf("%s waits for %s of %s: %v", w.name, text, from, err)
		}
		if message := string(data); strings.HasPrefix(message, `["message",`) &&
			strings.Contains(message, fmt.Sprintf(`"from":%q`, from)) && strings.Contains(message, fmt.Sprintf(`"text":%q`, text)) {
			return true
		}
	}
}

// talk has one say something, and all hear it: at once, or when those have come back who may have missed it.
func talk(t *testing.T, c *cluster, people []*window, speaker int, text string) {
	t.Helper()
	for again := 0; ; again++ {
		said := fmt.Sprintf("%s (%d)", text, again)
		people[speaker].send(fmt.Sprintf(`{"action":"say","room":"room-general","text":%q,"rayid":1}`, said))
		from, all := people[speaker].name, true
		for i, w := range people {
			if !w.hear(from, said) {
				all = false
				w.conn.CloseNow()
				people[i] = open(t, c, w.name+"'")
			}
		}
		if all {
			return
		}
		if again == 5 {
			t.Fatalf("nobody says %q but somebody must come back", text)
		}
	}
}

// TestCluster has people talk across servers, one of which is killed.
func TestCluster(t *testing.T) {
	t.Setenv("PORT", "0")
	t.Setenv("REDIS_URL", "")
	ctx, cancel := context.WithCancel(t.Context())
	c, err := start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		if err := c.wait(); err != nil {
			t.Error(err)
		}
	}()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // real time: of other processes
		if c.ready() == servers {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d servers are ready", c.ready())
		}
	}
	var people []*window
	for _, name := range []string{"Ann", "Bob", "Cat"} { // each on the next server
		people = append(people, open(t, c, name))
	}
	for speaker := range people {
		talk(t, c, people, speaker, "hello")
	}

	if err := syscall.Kill(int(c.pids[0].Load()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Who was on that server comes back on another; the rest stay.
	lost := people[servers-1] // the balancer begins with the second server
	lost.gone()
	lost.conn.CloseNow()
	people[servers-1] = open(t, c, "Cat again")
	talk(t, c, people, 0, "still here?")
}

// ready is how many servers are.
func (c *cluster) ready() (n int) {
	for _, b := range c.balancer.backends {
		if b.ready.Load() {
			n++
		}
	}
	return n
}
