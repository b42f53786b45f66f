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
	"github.com/mooncore/mooncore/internal/chromium"
	"github.com/mooncore/mooncore/internal/freeport"
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
func logIn(b *chromium.Browser, addr, name, company, role string) *chromium.Page {
	w := b.Open("http://" + addr + "/")
	w.Wait("document.activeElement?.id === 'user'")
	w.Eval(fmt.Sprintf(`document.getElementById('user').value = %q; document.getElementById('tenant').value = %q;
		document.querySelector('[value=%s]').click(); document.querySelector('#demo button').click()`, name, company, role))
	w.Wait(online)
	return w
}

const online = "!document.getElementById('app').hidden && document.getElementById('status').hidden && document.getElementById('tasks').ariaBusy === 'false'"

// add writes a task into the form and presses Enter.
func add(w *chromium.Page, title string) {
	w.Eval("document.getElementById('title').focus()")
	w.Type(title)
	w.Press("Enter")
}

// shows is the condition that the list is these tasks, the newest first.
func shows(titles ...string) string {
	want, _ := json.Marshal(titles) // strings have JSON
	return fmt.Sprintf("JSON.stringify([...document.querySelectorAll('.task .title')].map((e) => e.textContent)) === JSON.stringify(%s)", want)
}

func TestTwoWindows(t *testing.T) {
	b := chromium.Start(t)
	addr := freeport.Addr(t)
	cfg := newConfig(settings{demoLogin: true}, newTestStore(t, ""), slog.New(slog.DiscardHandler))
	cfg.JWT.PrivateKey = mooncore.Secret(newKey(t))
	stop := serveAt(t, addr, cfg)
	ada := logIn(b, addr, "ada", "acme", roleAdmin)
	bob := logIn(b, addr, "bob", "acme", roleMember)
	eve := logIn(b, addr, "eve", "globex", roleAdmin)

	const milk = `<img src=x onerror="document.title='broken'"> Milk`
	add(ada, milk)
	bob.Wait(shows(milk))
	ada.Wait(shows(milk))
	add(bob, "Bread")
	bob.Wait(shows("Bread", milk))
	ada.Wait(shows("Bread", milk))
	if n := eve.Eval("document.querySelectorAll('.task').length"); n != 0.0 {
		t.Error("another company sees tasks")
	}
	if n := bob.Eval("document.querySelectorAll('.task img').length"); n != 0.0 {
		t.Error("a title became HTML")
	}

	// Bob does one; Ada renames the other.
	bob.Eval("document.querySelector('.task:first-child [type=checkbox]').click()")
	ada.Wait("document.querySelector('.task:first-child').classList.contains('done')")
	ada.Wait("document.getElementById('count-open').textContent === '1'")
	ada.Eval("document.querySelector('.task:last-child .rename').click()")
	ada.Type("Oat milk") // in place of the text, which is selected
	ada.Press("Enter")
	bob.Wait(shows("Bread", "Oat milk"))

	// Only an admin deletes.
	if n := bob.Eval("document.querySelectorAll('.task .remove').length"); n != 0.0 {
		t.Error("a member can delete")
	}
	ada.Eval("document.querySelector('.task:first-child .remove').click()")
	bob.Wait(shows("Oat milk"))
	ada.Wait(shows("Oat milk"))

	for _, w := range []*chromium.Page{ada, bob, eve} {
		if faults := w.Faults(); len(faults) > 0 {
			t.Errorf("the page has faults: %q", faults)
		}
	}

	// The server restarts; Bob comes back first, and Ada misses nothing.
	stop()
	ada.Wait("document.getElementById('status-text').textContent.includes('Reconnecting in')")
	bob.Wait("document.getElementById('status-text').textContent.includes('Reconnecting in')")
	stop = serveAt(t, addr, cfg)
	bob.Eval("document.getElementById('retry').click()")
	bob.Wait(online)
	add(bob, "Butter")
	bob.Wait(shows("Butter", "Oat milk"))
	ada.Wait(shows("Butter", "Oat milk"))

	// With another key, the sessions have ended.
	stop()
	cfg.JWT.PrivateKey = mooncore.Secret(newKey(t))
	serveAt(t, addr, cfg)
	ada.Wait("document.getElementById('retry').click(), document.getElementById('login-error').textContent === 'The server does not take this token.'")

}

func TestAPastedTokenComesIn(t *testing.T) {
	b := chromium.Start(t)
	addr := freeport.Addr(t)
	cfg := newConfig(settings{}, newTestStore(t, ""), slog.New(slog.DiscardHandler))
	cfg.JWT.PrivateKey = mooncore.Secret(newKey(t))
	serveAt(t, addr, cfg)
	t.Setenv("JWT_PRIVATE_KEY", string(cfg.JWT.PrivateKey))
	var token strings.Builder
	if err := run([]string{"token", "-user", "ada", "-tenant", "acme"}, &token); err != nil {
		t.Fatal(err)
	}
	w := b.Open("http://" + addr + "/")
	w.Wait("document.activeElement?.id === 'token'")
	w.Eval("document.getElementById('token').value = 'nonsense'; document.querySelector('#pass button').click()")
	w.Wait("document.getElementById('login-error').textContent === 'The server does not take this token.'")
	w.Eval(fmt.Sprintf("document.getElementById('token').value = %q; document.querySelector('#pass button').click()", token.String()))
	w.Wait(online)
	add(w, "Milk")
	w.Wait(shows("Milk"))
}
