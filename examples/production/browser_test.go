package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/mooncore/mooncore"
)

// serveAt runs the service at an address until stop is called.
func serveAt(t *testing.T, addr string, cfg mooncore.Config) (stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener, cfg.DrainDelay = listener, -1
	srv, err := mooncore.New(cfg)
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
	return stop
}

// logIn opens a window and comes in by the demonstration's form.
func logIn(b *browser, addr, name, company, role string) *window {
	b.t.Helper()
	w := b.open("http://" + addr + "/")
	w.wait("document.activeElement?.id === 'user'")
	w.eval(fmt.Sprintf(`document.getElementById('user').value = %q; document.getElementById('tenant').value = %q;
		document.querySelector('[value=%s]').click(); document.querySelector('#demo button').click()`, name, company, role))
	w.wait(online)
	return w
}

const online = "!document.getElementById('app').hidden && document.getElementById('status').hidden && document.getElementById('tasks').ariaBusy === 'false'"

// add writes a task into the form and presses Enter.
func (w *window) add(title string) {
	w.t.Helper()
	w.eval("document.getElementById('title').focus()")
	w.enter(title)
}

// enter types into the element that has the focus, and presses Enter.
func (w *window) enter(text string) {
	w.t.Helper()
	w.do(w.session, "Input.insertText", values{"text": text}, nil)
	key := values{"type": "keyDown", "key": "Enter", "text": "\r", "windowsVirtualKeyCode": 13}
	w.do(w.session, "Input.dispatchKeyEvent", key, nil)
}

// shows is the condition that the list is these tasks, the newest first.
func shows(titles ...string) string {
	want, _ := json.Marshal(titles) // strings have JSON
	return fmt.Sprintf("JSON.stringify([...document.querySelectorAll('.task .title')].map((e) => e.textContent)) === JSON.stringify(%s)", want)
}

func TestTwoWindows(t *testing.T) {
	b := startBrowser(t)
	addr := freeAddr(t)
	cfg := newConfig(settings{demoLogin: true}, newTestStore(t, ""), slog.New(slog.DiscardHandler))
	cfg.JWT.PrivateKey = mooncore.Secret(newKey(t))
	stop := serveAt(t, addr, cfg)
	ada := logIn(b, addr, "ada", "acme", roleAdmin)
	bob := logIn(b, addr, "bob", "acme", roleMember)
	eve := logIn(b, addr, "eve", "globex", roleAdmin)

	const milk = `<img src=x onerror="document.title='broken'"> Milk`
	ada.add(milk)
	bob.wait(shows(milk))
	ada.wait(shows(milk))
	bob.add("Bread")
	ada.wait(shows("Bread", milk))
	if n := eve.eval("document.querySelectorAll('.task').length"); n != 0.0 {
		t.Error("another company sees tasks")
	}
	if n := bob.eval("document.querySelectorAll('.task img').length"); n != 0.0 {
		t.Error("a title became HTML")
	}

	// Bob does one; Ada renames the other.
	bob.eval("document.querySelector('.task:first-child [type=checkbox]').click()")
	ada.wait("document.querySelector('.task:first-child').classList.contains('done')")
	ada.wait("document.getElementById('count-open').textContent === '1'")
	ada.eval("document.querySelector('.task:last-child .rename').click()")
	ada.enter("Oat milk") // in place of the text, which is selected
	bob.wait(shows("Bread", "Oat milk"))

	// Only an admin deletes.
	if n := bob.eval("document.querySelectorAll('.task .remove').length"); n != 0.0 {
		t.Error("a member can delete")
	}
	ada.eval("document.querySelector('.task:first-child .remove').click()")
	bob.wait(shows("Oat milk"))
	ada.wait(shows("Oat milk"))

	// The server restarts; Bob comes back first, and Ada misses nothing.
	stop()
	ada.wait("document.getElementById('status-text').textContent.includes('Reconnecting in')")
	bob.wait("document.getElementById('status-text').textContent.includes('Reconnecting in')")
	stop = serveAt(t, addr, cfg)
	bob.eval("document.getElementById('retry').click()")
	bob.wait(online)
	bob.add("Butter")
	bob.wait(shows("Butter", "Oat milk"))
	ada.wait(shows("Butter", "Oat milk"))

	// With another key, the sessions have ended.
	stop()
	cfg.JWT.PrivateKey = mooncore.Secret(newKey(t))
	serveAt(t, addr, cfg)
	ada.wait("document.getElementById('retry').click(), document.getElementById('login-error').textContent === 'The server does not take this token.'")

}

func TestAPastedTokenComesIn(t *testing.T) {
	b := startBrowser(t)
	addr := freeAddr(t)
	cfg := newConfig(settings{}, newTestStore(t, ""), slog.New(slog.DiscardHandler))
	cfg.JWT.PrivateKey = mooncore.Secret(newKey(t))
	serveAt(t, addr, cfg)
	t.Setenv("JWT_PRIVATE_KEY", string(cfg.JWT.PrivateKey))
	var token strings.Builder
	if err := run([]string{"token", "-user", "ada", "-tenant", "acme"}, &token); err != nil {
		t.Fatal(err)
	}
	w := b.open("http://" + addr + "/")
	w.wait("document.activeElement?.id === 'token'")
	w.eval("document.getElementById('token').value = 'nonsense'; document.querySelector('#pass button').click()")
	w.wait("document.getElementById('login-error').textContent === 'The server does not take this token.'")
	w.eval(fmt.Sprintf("document.getElementById('token').value = %q; document.querySelector('#pass button').click()", token.String()))
	w.wait(online)
	w.add("Milk")
	w.wait(shows("Milk"))
}
