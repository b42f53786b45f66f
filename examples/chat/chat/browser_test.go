package chat

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"testing"

	"github.com/mooncore/mooncore"
)

// serve runs the program at an address until stop is called.
func serve(t *testing.T, addr string) (srv *mooncore.Server, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config()
	cfg.Listener, cfg.Development, cfg.Logger = listener, true, slog.New(slog.DiscardHandler)
	srv, err = mooncore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server did not stop cleanly: %v", err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	return srv, stop
}

// freeAddr is an address of this machine that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// logIn opens a window and comes in under a name.
func logIn(b *browser, addr, name string) *window {
	b.t.Helper()
	w := b.open("http://" + addr + "/")
	w.wait("document.activeElement?.id === 'name'")
	w.enter(name)
	w.waitOnline()
	w.wait(sees("people", name))
	return w
}

func (w *window) waitOnline() {
	w.t.Helper()
	w.wait("document.getElementById('me-state').textContent === 'Online'")
}

// enter types into the element that has the focus, and presses Enter.
func (w *window) enter(text string) {
	w.t.Helper()
	w.do(w.session, "Input.insertText", values{"text": text}, nil)
	key := values{"type": "keyDown", "key": "Enter", "text": "\r", "windowsVirtualKeyCode": 13}
	w.do(w.session, "Input.dispatchKeyEvent", key, nil)
}

// sees is the condition that an element of the page contains some text.
func sees(id, text string) string {
	quoted, _ := json.Marshal(text) // a string has JSON
	return fmt.Sprintf("document.getElementById(%q)?.textContent.includes(%s)", id, quoted)
}

func TestTwoPeopleInTheirBrowsers(t *testing.T) {
	b := startBrowser(t)
	addr := freeAddr(t)
	srv, stop := serve(t, addr)
	ann := logIn(b, addr, "Ann")
	bob := logIn(b, addr, "Bob")

	ann.wait(sees("people", "Bob"))
	ann.wait(sees("log", "Bob joined"))
	bob.wait(sees("people", "Ann"))
	ann.wait("document.getElementById('people-count').textContent === '2'")

	const shout = `<img src=x onerror="document.title='broken'"> Hello Bob`
	ann.eval("document.getElementById('text').focus()")
	ann.enter(shout)
	bob.wait(sees("log", shout))
	ann.wait(sees("log", shout))
	if n := bob.eval("document.querySelectorAll('#log img').length"); n != 0.0 {
		t.Error("a message became HTML")
	}

	// Bob writes to Ann alone: she gets a badge, and reads it.
	bob.eval(`document.querySelector('.person[data-key="Ann"]').click()`)
	bob.wait(sees("talk-title", "Ann"))
	bob.enter("just for you")
	bob.wait(sees("log", "just for you"))
	ann.wait(`document.querySelector('[data-key="@Bob"] .badge')?.textContent === '1'`)
	ann.eval(`document.querySelector('[data-key="@Bob"]').click()`)
	ann.wait(sees("log", "just for you"))
	ann.wait(`!document.querySelector('[data-key="@Bob"] .badge')`)

	ann.eval(`document.querySelector('[data-key="room-general"]').click()`)
	bob.eval(`document.querySelector('[data-key="room-general"]').click()`)

	// Bob's connection breaks, and for a while he gets no other. He misses nothing.
	bob.eval(`globalThis.RealSocket = WebSocket; globalThis.WebSocket = class extends RealSocket {
		constructor() { super(location.origin.replace('http', 'ws') + '/nowhere') }
	}; null`)
	if err := srv.Tenant("", lobby).Kick(t.Context(), "Bob"); err != nil {
		t.Fatal(err)
	}
	ann.wait(sees("log", "Bob left"))
	ann.enter("are you there?")
	ann.wait(sees("log", "are you there?"))
	bob.wait(sees("status", "Reconnecting in"))
	bob.eval("globalThis.WebSocket = RealSocket; null")
	bob.wait(sees("log", "are you there?"))

	// The server restarts with another key: both come back by themselves, as themselves.
	stop()
	ann.wait(sees("status", "Reconnecting in"))
	serve(t, addr)
	ann.waitOnline()
	bob.waitOnline()
	ann.wait(sees("people", "Bob"))
	ann.enter("back again")
	bob.wait(sees("log", "back again"))
	ann.wait(sees("log", "back again"))

	// Nothing is shown twice.
	for _, w := range []*window{ann, bob} {
		const texts = "[...document.querySelectorAll('.bubble')].map((bubble) => bubble.textContent).join('; ')"
		if got, want := w.eval(texts), shout+"; are you there?; back again"; got != want {
			t.Errorf("the page shows %q, want %q", got, want)
		}
	}
}

func TestANameThatIsTakenIsRefusedOnThePage(t *testing.T) {
	b := startBrowser(t)
	addr := freeAddr(t)
	serve(t, addr)
	logIn(b, addr, "Ann")
	w := b.open("http://" + addr + "/")
	w.enter("ann")
	w.wait(sees("login-error", "is here already"))
	w.eval("document.getElementById('name').select()")
	w.enter("<ann>")
	w.wait(sees("login-error", "must start with a letter or digit"))
}
