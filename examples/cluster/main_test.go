package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/chromium"
	"github.com/mooncore/mooncore/internal/leaktest"
)

func TestMain(m *testing.M) {
	if os.Getenv(nodeEnv) == "" {
		leaktest.Main(m)
	}
	main()
}

const patience = 30 * time.Second

// TestCluster has somebody talk while a server is killed: whoever was on it comes back on another one with every message once.
func TestCluster(t *testing.T) {
	var lines lockedBuffer
	log.SetOutput(&lines)
	t.Cleanup(func() {
		log.SetOutput(os.Stderr)
		if t.Failed() {
			t.Log(lines.String())
		}
	}) // after the servers have ended
	b := chromium.Start(t)
	c := startCluster(t)
	s := &speaker{t: t, addr: c.addr()}
	s.logIn()
	stays := open(b, c, "Ann")
	comes := open(b, c, "Bob")
	s.say(3)
	of := regexp.MustCompile(`server (\d): .* source=ws user=Bob`).FindStringSubmatch(lines.String())
	if of == nil {
		t.Fatal("no server has a call of Bob's connection")
	}
	victim, _ := strconv.Atoi(of[1])

	comes.Eval(`globalThis.RealSocket = WebSocket; globalThis.WebSocket = class extends RealSocket {
		constructor() { super(location.origin.replace('http', 'ws') + '/nowhere') }
	}; null`)
	if err := syscall.Kill(int(c.pids[victim-1].Load()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	comes.Wait("document.getElementById('me-state').textContent === 'Reconnecting'")
	s.say(10)
	comes.Eval("globalThis.WebSocket = RealSocket; document.getElementById('retry').click()")
	s.say(1)
	for name, page := range map[string]*chromium.Page{"who stays": stays, "who comes back": comes, "who comes now": open(b, c, "Cat")} {
		last, _ := json.Marshal(s.said[len(s.said)-1]) // a string has JSON
		page.Wait(fmt.Sprintf("document.getElementById('log').textContent.includes(%s)", last))
		var got []string
		for text := range strings.SplitSeq(page.Eval("[...document.querySelectorAll('.bubble')].map((bubble) => bubble.textContent).join('\\n')").(string), "\n") {
			if !slices.Contains(s.unsure, text) || slices.Contains(got, text) {
				got = append(got, text)
			}
		}
		if !slices.Equal(got, s.said) {
			t.Errorf("%s sees %q, want %q", name, got, s.said)
		}
		if page.Eval("document.getElementById('log').textContent.includes('may be missing')") != false {
			t.Errorf("%s is told that messages may be missing", name)
		}
	}
}

// A lockedBuffer is written by the goroutines of all servers.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startCluster starts the program's cluster, and waits until all of it is ready.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	t.Setenv("PORT", "0")
	t.Setenv("REDIS_URL", "")
	t.Setenv("TMPDIR", t.TempDir()) // a server that is killed leaves files there
	ctx, cancel := context.WithCancel(t.Context())
	c, err := start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := c.wait(); err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(patience); c.ready() < servers; time.Sleep(20 * time.Millisecond) { // real time: of other processes
		if time.Now().After(deadline) {
			t.Fatalf("%d servers are ready", c.ready())
		}
	}
	return c
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

// open opens the page by the proxy, and comes in.
func open(b *chromium.Browser, c *cluster, name string) *chromium.Page {
	page := b.Open("http://" + c.addr() + "/")
	page.Wait("document.activeElement?.id === 'name'")
	page.Type(name)
	page.Press("Enter")
	page.Wait("document.getElementById('me-state').textContent === 'Online'")
	page.Wait("document.getElementById('people').textContent.includes(" + fmt.Sprintf("%q", name) + ")")
	return page
}

// A speaker talks by HTTP, by any server that is ready.
type speaker struct {
	t           *testing.T
	addr, token string
	said        []string // and accepted
	unsure      []string // what was answered with an error, and may have come nevertheless
}

func (s *speaker) logIn() {
	s.t.Helper()
	if err := s.call("login", map[string]string{"name": "Speaker"}, &s.token); err != nil {
		s.t.Fatal(err)
	}
}

// say says n things more. While the servers choose one of them anew to keep the room, none is accepted.
func (s *speaker) say(n int) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for end := len(s.said) + n; len(s.said) < end; {
		text := fmt.Sprintf("(%d after %d)", len(s.said)+1, len(s.unsure))
		err := s.call("say", map[string]string{"room": "room-general", "text": text}, nil)
		if err == nil {
			s.said = append(s.said, text)
			continue
		}
		s.unsure = append(s.unsure, text)
		if time.Now().After(deadline) {
			s.t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // real time: of other processes
	}
}

func (s *speaker) call(action string, params, result any) error {
	body, err := json.Marshal(params)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.addr+"/run/"+action, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", action, resp.Status)
	}
	if result == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(result)
}
