package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/needs"
)

// program has the client of docs/websockets.md follow room-go by a proxy, and prints what it is told as lines of JSON.
const program = `
const fs = require('fs')
const [, url, token] = process.argv
eval(fs.readFileSync('follow.js', 'utf8') + '; globalThis.follow = follow')
const say = (line) => console.log(JSON.stringify(line))
follow(url, () => token, ['room-go'], {
  handle: (name, payload) => name === 'message' && say(payload.text),
  load: (channel) => say('load ' + channel),
})
`

// TestFollow kills the TCP connections of the client in the documentation: it gets every message, once.
func TestFollow(t *testing.T) {
	node := needs.Command(t, "node", "nodejs")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := mooncore.New(mooncore.Config{
		Routers: []mooncore.Router{router()}, Listener: listener, Development: true, Logger: slog.New(slog.DiscardHandler),
		JWT: mooncore.JWTConfig{Secret: mooncore.Secret(rand.Text() + rand.Text())},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := srv.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	p := newProxy(t, listener.Addr().String())
	token, err := srv.Token(mooncore.Identity{User: "ann", Tenant: "lobby"})
	if err != nil {
		t.Fatal(err)
	}
	client := exec.CommandContext(ctx, node, "--experimental-websocket", "-e", program, "ws://"+p.addr()+"/ws", token)
	client.Stderr = t.Output()
	out, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = client.Process.Kill()
		_ = client.Wait() // it was killed
	}()

	lines := json.NewDecoder(out)
	expect := func(want string) {
		t.Helper()
		var got string
		if err := lines.Decode(&got); err != nil || got != want {
			t.Fatalf("got %q, error %v, want %q", got, err, want)
		}
	}
	say := func(text string) {
		t.Helper()
		if err := srv.Tenant("", "lobby").Publish(ctx, "message", Message{"room-go", text}, mooncore.ToChannel("room-go")); err != nil {
			t.Fatal(err)
		}
	}
	expect("load room-go")
	for _, texts := range [][]string{{"a", "b", "c"}, {"d"}, {"e", "f"}} {
		say(texts[0])
		expect(texts[0])
		p.kill()
		for _, text := range texts[1:] {
			say(text)
			expect(text)
		}
	}
}

// scripted has the client follow room-go on a connection that the test plays, and prints what it sends and what it hands on.
const scripted = `
const fs = require('fs')
let socket, later
globalThis.WebSocket = class { constructor() { socket = this } send(text) { console.log(text) } close() {} }
globalThis.setTimeout = (run) => { later = run }
eval(fs.readFileSync('follow.js', 'utf8') + '; globalThis.follow = follow')
follow('', () => '', ['room-go'], {
  handle: (name, payload) => console.log(name + ' ' + payload),
  load: (channel) => console.log('load ' + channel),
})
const receive = (...message) => socket.onmessage({ data: JSON.stringify(message) })
const at = (offset) => ({ offset, epoch: 'e', channel: 'room-go' })
socket.onopen()
receive('joined', 'room-go', { recovered: false, offset: 0, epoch: '', reason: 'refused' })
later()
receive('joined', 'room-go', { recovered: false, offset: 4, epoch: 'e', reason: 'no_since' })
receive('lost', 'room-go')
receive('lost', 'room-go')
for (const answer of ['first', 'second']) {
  receive('joined', 'room-go', { recovered: true, offset: 5, epoch: 'e' })
  receive(answer, 'answer', at(5))
}
receive('live', 'event', at(6))
`

// TestFollowJoinsAgain answers joins as servers do that have lost their broker: one after another is refused, or to be made again.
func TestFollowJoinsAgain(t *testing.T) {
	node := needs.Command(t, "node", "nodejs")
	client := exec.CommandContext(t.Context(), node, "-e", scripted)
	client.Stderr = t.Output()
	got, err := client.Output()
	if err != nil {
		t.Fatal(err)
	}
	const want = `["join","room-go",{"since":null}]
["join","room-go",{"since":null}]
load room-go
["join","room-go",{"since":{"offset":4,"epoch":"e"}}]
["join","room-go",{"since":{"offset":4,"epoch":"e"}}]
second answer
live event
`
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// A proxy passes connections on, until they are killed.
type proxy struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.DialTimeout("tcp", to, 5*time.Second)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, server)
			p.mu.Unlock()
			wg.Go(func() { _, _ = io.Copy(client, server); client.Close() }) // until one of them is killed
			wg.Go(func() { _, _ = io.Copy(server, client); server.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.kill()
		wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.Addr().String() }

func (p *proxy) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}
