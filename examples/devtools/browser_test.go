package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/chromium"
)

// quoted is a string of JavaScript.
func quoted(text string) string {
	out, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string has JSON
	}
	return string(out)
}

// has is the condition that an element that a selector finds contains a text.
func has(selector, text string) string {
	return fmt.Sprintf("[...document.querySelectorAll(%s)].some((e) => e.textContent.includes(%s))", quoted(selector), quoted(text))
}

// click clicks on the element with a text, among those that a selector finds.
func click(w *chromium.Page, selector, text string) {
	w.Wait(has(selector, text))
	w.Eval(fmt.Sprintf("[...document.querySelectorAll(%s)].find((e) => e.textContent.includes(%s)).click()", quoted(selector), quoted(text)))
}

// fill types into the field with a label.
func fill(w *chromium.Page, label, text string) {
	field := fmt.Sprintf(`[...document.querySelectorAll('label, [aria-label]')].map((l) => l.matches('label') ? l.control : l)
		.find((e, i, all) => e?.matches('input, textarea') && ((e.labels?.[0]?.textContent ?? '').trim().startsWith(%[1]s) || e.ariaLabel === %[1]s))`, quoted(label))
	w.Wait("!!" + field)
	w.Eval(field + ".focus(); " + field + ".select()")
	w.Type(text)
}

// show goes to a view, by its address.
func show(w *chromium.Page, view string) {
	w.Eval("location.hash = " + quoted("#/"+view))
}

// logIn opens the dashboard at a view and logs in.
func logIn(b *chromium.Browser, p *program, view string) *chromium.Page {
	w := b.Open(p.tools + "#/" + view)
	w.Wait("document.activeElement?.name === 'secret'")
	w.Type(secret)
	w.Press("Enter")
	w.Wait(has(".connection", "Live"))
	return w
}

// checkFaults fails the test for everything that went wrong in the page. That nobody was logged in, or a connection has ended, is no fault.
func checkFaults(t *testing.T, w *chromium.Page) {
	t.Helper()
	for _, fault := range w.Faults() {
		gone := strings.Contains(fault, "404 (Not Found)") && strings.Contains(fault, "/api/conns/") // it asked before it was told
		if !gone && !strings.Contains(fault, "401 (Unauthorized)") {
			t.Errorf("the page reports: %s", fault)
		}
	}
}

// A view is a part of the dashboard, and what shows that it is there.
type view struct {
	name, address, selector, text string
}

var views = []view{
	{"overview", "overview?window=60", ".chart", "Latency"},
	{"cluster", "overview/cluster", "dt", "Recovered"},
	{"configuration", "overview/configuration", "th", "Limits.MaxBytes"},
	{"build", "overview/build", "dd", "examples/devtools"},
	{"actions", "actions", ".items", "whisper"},
	{"action", "actions//say", "label", "room"},
	{"log", "log", ".log-list .list-row", "say"},
	{"connections", "connections", ".conn-list .list-row", "lobby"},
	{"runtime", "runtime", ".stacks", "mooncore"},
	{"profiles", "runtime/profiles", ".cards", "Execution trace"},
	{"memory", "runtime/memory", ".bars", "heap/objects"},
	{"tools", "tools", "h2", "Make a token"},
	{"roles", "tools/roles", ".empty, .section", "roles"},
	{"base64", "tools/base64", "h2", "Base64 to text"},
	{"time", "tools/time", "dt", "Unix seconds"},
	{"console", "console", ".console-help", "Examples"},
	{"guides", "guides/calls.md", ".guide", "A name is enough"},
	{"pages", "pages", ".widget", "In rooms"},
	{"doctor", "doctor", ".findings", "Fix"},
}

func (v view) show(w *chromium.Page) {
	show(w, v.address)
	w.Wait(has(v.selector, v.text))
	w.Wait("!document.querySelector('.waiting')")
}

func TestDashboardInABrowser(t *testing.T) {
	b := chromium.Start(t)
	p := start(t, build(t), "MOONCORE_DEV_SECRET="+secret)
	ada, bob := p.enter("Ada"), p.enter("Bob")
	ada.send(map[string]any{"action": "say", "room": "room-general", "text": "Hello", "rayid": 1})
	bob.until("message")

	w := b.Open(p.tools + "#/log?code=error")
	step := func(name string, fn func(t *testing.T, w *chromium.Page)) {
		t.Helper()
		if t.Failed() {
			return // what follows builds on it
		}
		t.Run(name, func(t *testing.T) {
			here := w.Within(t)
			fn(t, here)
			checkFaults(t, here)
		})
	}

	step("log in, and come to the view of the link", func(t *testing.T, w *chromium.Page) {
		w.Wait("document.activeElement?.name === 'secret'")
		w.Type("wrong")
		w.Press("Enter")
		w.Wait("!!document.querySelector('.login .failure')")
		w.Eval("document.activeElement.select()")
		w.Type(secret)
		w.Press("Enter")
		w.Wait(has(".connection", "Live"))
		w.Wait("document.querySelector('.log-filters select')?.value === 'error'")
	})
	for _, v := range views {
		step("view "+v.name, func(_ *testing.T, w *chromium.Page) { v.show(w) })
	}
	step("run an action", func(t *testing.T, w *chromium.Page) {
		show(w, "actions//login")
		fill(w, "name", "Grace")
		click(w, ".run-bar button", "WebSocket")
		click(w, ".run-bar button", "Run")
		w.Wait(has(".result header", "ok"))
		w.Wait(has(".history", "ws"))
		fill(w, "name", "?")
		w.Press("Enter")
		w.Wait(has(".result header", "validation_failed"))
		w.Wait(has(".field .fault", "must"))
		click(w, ".result header a", "In the log")
		w.Wait(has(".detail h2", "login"))
		w.Wait(has(".detail .facts", "dashboard"))
	})
	step("a user whose name is being typed is not anonymous", func(_ *testing.T, w *chromium.Page) {
		show(w, "actions//who")
		fill(w, "User", "Alan")
		w.Eval("document.activeElement.select()")
		w.Press("Backspace")
		w.Wait("document.activeElement.value === '' && document.querySelector('.run-bar .primary').disabled")
		w.Type("Ada")
		w.Wait("location.hash.includes('as=Ada') && !document.querySelector('.run-bar .primary').disabled")
	})
	step("watch a call arrive", func(t *testing.T, w *chromium.Page) {
		show(w, "log?action=who")
		w.Wait(has(".log-list", "No call matches"))
		if out, status := p.call("who", ada.token, map[string]any{"room": "room-general"}); status != http.StatusOK {
			t.Fatalf("%d %s", status, out)
		}
		w.Wait(has(".log-list .list-row", "Ada"))
		w.Press("j")
		w.Wait(has(".detail", "middleware") + " || " + has(".detail .steps", "handler"))
		w.Wait(has(".detail .json", "room-general"))
		click(w, ".detail button", "Replay")
		w.Wait(has(".detail .result", "ok"))
		w.Wait("document.querySelectorAll('.log-list .list-row').length === 2")
		w.Press("Escape")
		w.Wait("!document.querySelector('.detail')")
	})
	step("find by text that only the server has", func(t *testing.T, w *chromium.Page) {
		show(w, "log?text=needle")
		w.Wait(has(".log-list", "No call matches"))
		p.call("say", ada.token, map[string]any{"room": "room-general", "text": "a Needle in it"})
		w.Wait(has(".log-list .list-row", "say"))
	})
	step("see the frames of a connection", func(t *testing.T, w *chromium.Page) {
		show(w, "connections?text=Bob")
		click(w, ".conn-list .list-row a", "Bob")
		click(w, ".detail button", "Frames")
		w.Wait(has(".detail .empty", "recorded from now on"))
		ada.send(map[string]any{"action": "say", "room": "room-general", "text": "to be seen", "rayid": 2})
		w.Wait(has("li.frame.out", "to be seen"))
		bob.send("ping")
		w.Wait(has("li.frame.in", "ping"))
	})
	step("send to a connection, publish to its channel", func(t *testing.T, w *chromium.Page) {
		click(w, ".detail button", "Act")
		fill(w, "Event", "note")
		fill(w, "Payload", `{"n":1}`)
		click(w, ".detail button", "Send")
		if got := bob.until("note"); string(got) != `{"n":1}` {
			t.Errorf("the payload is %s", got)
		}
		click(w, ".split-list button", "Publish")
		w.Wait("!!document.querySelector('dialog[open]')")
		fillIn(w, "dialog", "Tenant", "lobby")
		fillIn(w, "dialog", "Channel", "room-general")
		fillIn(w, "dialog", "Event", "news")
		fillIn(w, "dialog", "Payload", `"all"`)
		click(w, "dialog button[type=submit]", "Publish")
		if got := ada.until("news"); string(got) != `"all"` {
			t.Errorf("the payload is %s", got)
		}
		click(w, "dialog button", "Close")
	})
	step("kick a client", func(t *testing.T, w *chromium.Page) {
		show(w, "connections")
		click(w, ".conn-list .list-row a", "Bob")
		click(w, ".detail button", "Kick")
		click(w, "dialog button", "Kick")
		if code := bob.closed(); code < 0 {
			t.Error("the connection was cut off, not closed")
		}
		w.Wait(has(".detail-head .tag", "closed"))
		w.Wait("!" + has(".conn-list .list-row", "Bob"))
	})
	step("make a token and take it apart", func(t *testing.T, w *chromium.Page) {
		show(w, "tools")
		fill(w, "User", "Grace")
		click(w, "button", "Make token")
		click(w, ".output button", "Take apart")
		click(w, "button[type=submit]", "Take apart")
		w.Wait(has("[data-testid=token-report]", "valid"))
		w.Wait(has("[data-testid=token-report] .json", "Grace"))
		fill(w, "Token", "nonsense")
		click(w, "button[type=submit]", "Take apart")
		w.Wait(has("[data-testid=token-report]", "refused"))
	})
	step("ask the console", func(t *testing.T, w *chromium.Page) {
		show(w, "console")
		fill(w, "Expression", "1 + 41")
		w.Press("Enter")
		w.Wait(has(".answer .json", "42"))
		fill(w, "Expression", "1 +")
		w.Press("Enter")
		w.Wait(has(".answer .fault", "unexpected"))
		w.Faults() // the browser notes each answer of 400
	})
	step("run a call of a guide", func(t *testing.T, w *chromium.Page) {
		show(w, "guides/calls.md")
		click(w, ".run-block button", "Run")
		w.Wait("!!document.querySelector('.run-block .result')")
		click(w, ".guide-list a", "Rooms")
		w.Wait(has(".guide blockquote", "presence"))
	})
	step("press a button of the program's page", func(t *testing.T, w *chromium.Page) {
		show(w, "pages")
		click(w, ".page-buttons button", "Announce")
		w.Wait("!!document.activeElement.closest('dialog label, dialog .field')")
		w.Type("Closing soon")
		click(w, "dialog button[type=submit]", "Announce")
		w.Wait(has(".button-result", "Said in 1 rooms"))
		for !strings.Contains(string(ada.until("message")), "Closing soon") {
		}
		w.Wait(has(".widget", "announcements") + " && " + has(".widget dd", "1"))
	})
	step("go around by keyboard", func(_ *testing.T, w *chromium.Page) {
		for key, title := range map[string]string{"l": "Log", "c": "Connections", "o": "Overview", "a": "Actions"} {
			w.Press("g")
			w.Press(key)
			w.Wait("document.title.startsWith(" + quoted(title) + ")")
		}
		show(w, "actions")
		w.Wait("!!document.querySelector('[data-keys=filter]')")
		w.Press("/")
		w.Type("whis")
		w.Wait("document.querySelectorAll('.items li').length === 1")
		w.Press("Escape")
		w.Press("?")
		w.Wait(has("dialog[open]", "Next, previous row"))
		w.Press("Escape")
		w.Wait("!document.querySelector('dialog')")
	})
	step("keep the theme that was chosen", func(t *testing.T, w *chromium.Page) {
		w.PreferColors("light")
		click(w, ".menu button", "Dark")
		w.Go(p.tools + "?again#/doctor")
		w.Wait("document.documentElement.dataset.theme === 'dark'")
		click(w, ".menu button", "Auto")
		w.Wait("document.documentElement.dataset.theme === 'light'")
	})
	step("log out", func(t *testing.T, w *chromium.Page) {
		w.Wait(has(".connection", "Live"))
		click(w, ".top button", "Log out")
		w.Wait("document.activeElement?.name === 'secret'")
		if status := w.Eval("fetch('api/info').then((r) => r.status)"); status != 401.0 {
			t.Errorf("after logging out, the server answers %v", status)
		}
	})
}

// fillIn types into a field of a part of the page.
func fillIn(w *chromium.Page, within, label, text string) {
	field := fmt.Sprintf("[...document.querySelector(%s).querySelectorAll('label')].find((l) => l.textContent.trim().startsWith(%s)).control",
		quoted(within), quoted(label))
	w.Eval(field + ".focus(); " + field + ".select()")
	w.Type(text)
}

func TestOneTimeLink(t *testing.T) {
	b := chromium.Start(t)
	p := start(t, build(t), "MOONCORE_DEV_SECRET=")
	if p.link == "" {
		t.Fatal("the program printed no link")
	}
	first := b.Open(p.link)
	first.Wait(has(".connection", "Live"))
	if at := first.Eval("location.href"); strings.Contains(fmt.Sprint(at), "token") {
		t.Errorf("the token stands in the address: %v", at)
	}
	checkFaults(t, first)
	second := b.Open(p.link)
	second.Wait(has(".login", "was used already"))
	checkFaults(t, second)
}

// TestTheProgramIsRestarted shows that the page comes back by itself.
func TestTheProgramIsRestarted(t *testing.T) {
	b := chromium.Start(t)
	path := build(t)
	p := start(t, path, "MOONCORE_DEV_SECRET="+secret)
	w := logIn(b, p, "log")
	w.Wait(has(".log-list", "No call yet"))
	checkFaults(t, w)
	p.stop()
	w.Wait(has(".connection", "Reconnecting"))
	again := start(t, path, "MOONCORE_DEV_SECRET="+secret,
		"DEV_ADDR="+strings.TrimSuffix(strings.TrimPrefix(p.tools, "http://"), "/"))
	w.Wait(has(".connection", "Live") + " || document.activeElement?.name === 'secret'")
	if w.Eval("document.activeElement?.name === 'secret'") == true {
		w.Type(secret)
		w.Press("Enter")
		w.Wait(has(".connection", "Live"))
	}
	again.call("login", "", map[string]any{"name": "Ada"})
	w.Wait(has(".log-list .list-row", "login"))
	away := func(fault string) bool { return strings.HasPrefix(fault, "network: ") } // it could not be reached for a while
	if faults := slices.DeleteFunc(w.Faults(), away); len(faults) > 0 {
		t.Errorf("the page reports: %q", faults)
	}
}

// TestManyCallsStaySmooth shows that of ten thousand rows only those that are seen are in the page.
func TestManyCallsStaySmooth(t *testing.T) {
	const calls = 10_000
	b := chromium.Start(t)
	p := start(t, build(t), "MOONCORE_DEV_SECRET="+secret)
	p.callOften(calls, "who")
	w := logIn(b, p, "log?action=who")
	w.Wait(has(".log-list .list-row", "who"))
	const down = `(() => { const e = document.querySelector('.list-body'); e.scrollTop = e.scrollHeight;
		return Number(document.querySelector('.log-list').getAttribute('aria-rowcount')) - 1 })()`
	w.Wait(fmt.Sprintf("%s >= %d", down, calls))
	w.Wait(fmt.Sprintf("[...document.querySelectorAll('.list-row')].at(-1).getAttribute('aria-rowindex') === '%d'", calls+1)) // below the names
	for _, place := range []string{"e.scrollHeight", "e.scrollHeight / 2", "0"} {
		const rows = `(async () => { const e = document.querySelector('.list-body'); e.scrollTop = %s;
			await new Promise((resolve) => setTimeout(resolve, 100)); return document.querySelectorAll('.list-row').length })()`
		if n := w.Eval(fmt.Sprintf(rows, place)).(float64); n == 0 || n > 100 {
			t.Errorf("%v rows are in the page, scrolled to %s", n, place)
		}
	}
	checkFaults(t, w)
}
