package chat

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"testing"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/chromium"
	"github.com/mooncore/mooncore/internal/freeport"
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

// logIn opens a window and comes in under a name.
func logIn(t *testing.T, b *chromium.Browser, addr, name string) *chromium.Page {
	t.Helper()
	w := b.Open("http://" + addr + "/")
	w.Wait("document.activeElement?.id === 'name'")
	enter(w, name)
	waitOnline(w)
	w.Wait(sees("people", name))
	return w
}

func waitOnline(w *chromium.Page) {
	w.Wait("document.getElementById('me-state').textContent === 'Online'")
}

// enter types into the element that has the focus, and presses Enter.
func enter(w *chromium.Page, text string) {
	w.Type(text)
	w.Press("Enter")
}

// sees is the condition that an element of the page contains some text.
func sees(id, text string) string {
	quoted, _ := json.Marshal(text) // a string has JSON
	return fmt.Sprintf("document.getElementById(%q)?.textContent.includes(%s)", id, quoted)
}

func TestTwoPeopleInTheirBrowsers(t *testing.T) {
	b := chromium.Start(t)
	addr := freeport.Addr(t)
	srv, stop := serve(t, addr)
	ann := logIn(t, b, addr, "Ann")
	bob := logIn(t, b, addr, "Bob")

	ann.Wait(sees("people", "Bob"))
	ann.Wait(sees("log", "Bob joined"))
	bob.Wait(sees("people", "Ann"))
	ann.Wait("document.getElementById('people-count').textContent === '2'")

	const shout = `<img src=x onerror="document.title='broken'"> Hello Bob`
	ann.Eval("document.getElementById('text').focus()")
	enter(ann, shout)
	bob.Wait(sees("log", shout))
	ann.Wait(sees("log", shout))
	if n := bob.Eval("document.querySelectorAll('#log img').length"); n != 0.0 {
		t.Error("a message became HTML")
	}

	// Bob writes to Ann alone: she gets a badge, and reads it.
	bob.Eval(`document.querySelector('.person[data-key="Ann"]').click()`)
	bob.Wait(sees("talk-title", "Ann"))
	enter(bob, "just for you")
	bob.Wait(sees("log", "just for you"))
	ann.Wait(`document.querySelector('[data-key="@Bob"] .badge')?.textContent === '1'`)
	ann.Eval(`document.querySelector('[data-key="@Bob"]').click()`)
	ann.Wait(sees("log", "just for you"))
	ann.Wait(`!document.querySelector('[data-key="@Bob"] .badge')`)

	ann.Eval(`document.querySelector('[data-key="room-general"]').click()`)
	bob.Eval(`document.querySelector('[data-key="room-general"]').click()`)

	// Bob's connection breaks, and for a while he gets no other. He misses nothing.
	bob.Eval(`globalThis.RealSocket = WebSocket; globalThis.WebSocket = class extends RealSocket {
		constructor() { super(location.origin.replace('http', 'ws') + '/nowhere') }
	}; null`)
	if err := srv.Tenant("", lobby).Kick(t.Context(), "Bob"); err != nil {
		t.Fatal(err)
	}
	ann.Wait(sees("log", "Bob left"))
	enter(ann, "are you there?")
	ann.Wait(sees("log", "are you there?"))
	bob.Wait(sees("status", "Reconnecting in"))
	bob.Eval("globalThis.WebSocket = RealSocket; null")
	bob.Wait(sees("log", "are you there?"))

	// Cat comes late, and reads what was said.
	cat := logIn(t, b, addr, "Cat")
	cat.Wait(sees("log", "are you there?"))
	cat.Wait("document.getElementById('scroller').ariaBusy === 'false'")

	// The server restarts with another key: both come back by themselves, as themselves.
	stop()
	ann.Wait(sees("status", "Reconnecting in"))
	serve(t, addr)
	waitOnline(ann)
	waitOnline(bob)
	ann.Wait(sees("people", "Bob"))
	enter(ann, "back again")
	for _, w := range []*chromium.Page{ann, bob, cat} {
		waitOnline(w)
		w.Wait(sees("log", "back again"))
		w.Wait(sees("log", "Messages may be missing here")) // what the server kept in its memory is gone
	}

	// Nothing is shown twice.
	for _, w := range []*chromium.Page{ann, bob, cat} {
		const texts = "[...document.querySelectorAll('.bubble')].map((bubble) => bubble.textContent).join('; ')"
		if got, want := w.Eval(texts), shout+"; are you there?; back again"; got != want {
			t.Errorf("the page shows %q, want %q", got, want)
		}
	}
}

func TestANameThatIsTakenIsRefusedOnThePage(t *testing.T) {
	b := chromium.Start(t)
	addr := freeport.Addr(t)
	serve(t, addr)
	logIn(t, b, addr, "Ann")
	w := b.Open("http://" + addr + "/")
	enter(w, "ann")
	w.Wait(sees("login-error", "is here already"))
	w.Eval("document.getElementById('name').select()")
	enter(w, "<ann>")
	w.Wait(sees("login-error", "must start with a letter or digit"))
}
