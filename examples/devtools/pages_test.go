package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/chromium"
	"github.com/mooncore/mooncore/internal/needs"
)

var update = flag.Bool("update", false, "take the screenshots in docs/images anew")

// axe returns the accessibility checker, which npm ci puts there.
func axe(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../devtools/ui/node_modules/axe-core/axe.min.js")
	if errors.Is(err, fs.ErrNotExist) {
		needs.Missing(t, "there is no axe-core: run npm ci in devtools/ui")
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// runAxe returns what is hard to use for somebody: one line for each rule that is broken.
const runAxe = `axe.run(document).then(({ violations, passes }) => passes.length < 10 ? 'it was hardly checked' : violations.map((v) =>
	v.impact + ' ' + v.id + ': ' + v.help + ' ' + v.nodes.slice(0, 3).map((n) => n.target.join(' ')).join(', ')).join('\n'))`

func TestEveryViewIsAccessible(t *testing.T) {
	checker := axe(t)
	b := chromium.Start(t)
	p := start(t, build(t), "MOONCORE_DEV_SECRET="+secret)
	ada := p.enter("Ada")
	ada.send(map[string]any{"action": "say", "room": "room-general", "text": "Hello", "rayid": 1})
	p.enter("Bob")
	stranger := b.Open(p.tools)
	stranger.Wait("document.activeElement?.name === 'secret'")
	stranger.Eval(checker + "; null")
	for _, colors := range []string{"light", "dark"} {
		stranger.PreferColors(colors)
		if got := stranger.Eval(runAxe); got != "" {
			t.Errorf("the login, %s: %v", colors, got)
		}
	}

	w := logIn(b, p, "overview")
	w.Eval(checker + "; null")
	w.Faults() // those of the checker are not the page's

	more := []view{
		{"an entry of the log", "log?id=1", ".detail", "Steps"},
		{"a result", "actions//rooms", ".run-bar", "Run"},
		{"no such view", "nowhere", ".empty", "no such view"},
	}
	for _, size := range []struct{ width, height int }{{400, 800}, {1280, 480}} {
		for _, colors := range []string{"light", "dark"} {
			w.Resize(size.width, size.height)
			w.PreferColors(colors)
			for _, v := range append(views, more...) {
				t.Run(fmt.Sprintf("%d %s %s", size.width, colors, v.name), func(t *testing.T) {
					w := w.Within(t)
					v.show(w)
					if v.name == "a result" {
						click(w, ".run-bar button", "Run")
						w.Wait("!!document.querySelector('.result')")
					}
					if got := w.Eval(runAxe); got != "" {
						t.Errorf("%v", got)
					}
					if v.name == "connections" { // with a dialog
						click(w, "button", "Publish")
						w.Wait("!!document.querySelector('dialog[open]')")
						if got := w.Eval(runAxe); got != "" {
							t.Errorf("the dialog: %v", got)
						}
						click(w, "dialog button", "Close")
					}
					const tooWide = "[...document.querySelectorAll('html, main, .split-detail, .guide')].some((e) => e.scrollWidth > e.clientWidth)"
					if w.Eval(tooWide) == true {
						t.Errorf("it is wider than %d pixels", size.width)
					}
				})
			}
		}
	}
}

// TestScreenshots takes the pictures of docs/devtools.md with -update. Without it, it has nothing to say.
func TestScreenshots(t *testing.T) {
	if !*update {
		t.Skip("it takes pictures only with -update")
	}
	b := chromium.Start(t)
	p := start(t, build(t), "MOONCORE_DEV_SECRET="+secret)
	names := []string{"Ann", "Bob", "Eve", "Kim", "Lee", "Max"}
	guests := make([]*guest, len(names))
	for i, name := range names {
		guests[i] = p.enter(name)
	}
	lines := []string{"Good morning", "Who has seen the build?", "It is green again", "Lunch at noon?", "Yes", "See you there"}
	said := 0
	talk := func(until time.Duration) {
		t.Helper()
		for end := time.Now().Add(until); time.Now().Before(end); said++ {
			g := guests[said%len(guests)]
			g.send(map[string]any{"action": "say", "room": "room-general", "text": lines[said%len(lines)], "rayid": said})
			g.until("response")
			switch {
			case said%11 == 0:
				p.call("who", g.token, map[string]any{"room": "room-general"})
			case said%17 == 0:
				p.call("say", g.token, map[string]any{"room": "kitchen"})
			case said%23 == 0:
				p.call("rooms", "", nil)
			}
			time.Sleep(time.Duration(20+said%40) * time.Millisecond) // real time: the charts show a minute of life
		}
	}
	talk(65 * time.Second)

	w := logIn(b, p, "overview")
	take := func(name string) {
		t.Helper()
		talk(2 * time.Second)
		path := filepath.Join("..", "..", "docs", "images", "devtools-"+name+".png")
		if err := os.WriteFile(path, w.Screenshot(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.Resize(1280, 800)
	w.PreferColors("light")
	for _, v := range views {
		switch v.name {
		case "actions", "cluster", "roles", "base64", "time", "profiles", "build": // much like others
			continue
		}
		v.show(w)
		switch v.name {
		case "action":
			show(w, "actions//who?as=Ann&tenant=lobby&input=json&params="+`{"room":"room-general"}`)
			w.Wait(has(".detail h2", "who"))
			click(w, ".run-bar button", "Run")
			w.Wait("!!document.querySelector('.result')")
			w.Eval("document.querySelector('.run-bar').scrollIntoView()")
		case "connections":
			click(w, ".conn-list .list-row a", "Kim")
			click(w, ".detail button", "Frames")
			w.Wait(has(".detail .empty", "recorded from now on"))
			talk(time.Second)
			w.Wait("!!document.querySelector('li.frame')")
		case "runtime":
			w.Eval("document.querySelector('.stacks summary').click()")
		case "tools":
			click(w, "button", "Make token")
			click(w, ".output button", "Take apart")
			click(w, "button[type=submit]", "Take apart")
			w.Wait("!!document.querySelector('[data-testid=token-report]')")
		case "console":
			w.Eval("document.querySelector('.examples button').click()")
			w.Wait("!!document.querySelector('.answer')")
		case "guides":
			click(w, ".run-block button", "Run")
			w.Wait("!!document.querySelector('.run-block .result')")
		}
		take(v.name)
	}
	show(w, "log?code=error")
	w.Wait("!!document.querySelector('.list-row')")
	click(w, ".list-row .c-action", "say")
	w.Wait(has(".detail", "Steps"))
	take("log-error")
	w.PreferColors("dark")
	views[0].show(w)
	take("dark")
	w.Resize(400, 800)
	show(w, "log")
	take("small")
	checkFaults(t, w)
}
