// Package chromium drives a headless Chromium by the Chrome DevTools Protocol, for tests of pages.
package chromium

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/mooncore/mooncore/internal/needs"
)

// A Browser is a headless Chromium. It and its pages are used by one goroutine, and end with the test.
type Browser struct {
	t      testing.TB
	socket *websocket.Conn
	calls  int
	faults map[string][]string // by session
}

type values = map[string]any

// Start starts a browser. Where there is none it skips the test, or fails it when MOONCORE_TEST_REQUIRE is "all".
func Start(t testing.TB) *Browser {
	t.Helper()
	path := needs.Command(t, "chromium", "chromium")
	dir := t.TempDir()
	var output bytes.Buffer // Wait waits for all processes that write to it
	cmd := exec.Command(path, "--headless=new", "--remote-debugging-port=0", "--user-data-dir="+dir, "--no-sandbox",
		"--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--window-size=1200,800")
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	b := &Browser{t: t, faults: map[string][]string{}}
	t.Cleanup(func() {
		if b.socket != nil {
			_ = wsjson.Write(context.Background(), b.socket, values{"id": 0, "method": "Browser.close"})
			defer b.socket.CloseNow()
		}
		defer time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() }).Stop()
		<-ended
	})
	var err error
	for start := time.Now(); b.socket == nil; { // the browser writes its port and path to a file once it listens
		active, _ := os.ReadFile(filepath.Join(dir, "DevToolsActivePort"))
		if port, path, ok := strings.Cut(strings.TrimSpace(string(active)), "\n"); ok {
			b.socket, _, err = websocket.Dial(t.Context(), "ws://127.0.0.1:"+port+path, nil)
		}
		select {
		case <-ended:
			t.Fatalf("the browser did not start: %s", output.String())
		case <-time.After(20 * time.Millisecond):
			if time.Since(start) > 30*time.Second {
				t.Fatalf("the browser does not answer after 30 s: %v", err)
			}
		}
	}
	b.socket.SetReadLimit(-1)
	return b
}

// do sends a command and decodes what it returns into *result, unless that is nil.
func (b *Browser) do(session, method string, params, result any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 60*time.Second)
	defer cancel()
	b.calls++
	command := values{"id": b.calls, "method": method, "params": params}
	if session != "" {
		command["sessionId"] = session
	}
	err := wsjson.Write(ctx, b.socket, command)
	var answer struct {
		ID        int
		Result    json.RawMessage
		Error     *struct{ Message string }
		Method    string
		SessionID string
		Params    json.RawMessage
	}
	for err == nil && answer.ID != b.calls {
		answer.Method = ""
		if err = wsjson.Read(ctx, b.socket, &answer); err == nil && answer.Method != "" {
			if fault := faultOf(answer.Method, answer.Params); fault != "" {
				b.faults[answer.SessionID] = append(b.faults[answer.SessionID], fault)
			}
		}
	}
	switch {
	case err != nil:
		b.t.Fatalf("%s: %v", method, err)
	case answer.Error != nil:
		b.t.Fatalf("%s: %s", method, answer.Error.Message)
	case result != nil && json.Unmarshal(answer.Result, result) != nil:
		b.t.Fatalf("%s: %s", method, answer.Result)
	}
}

// faultOf returns what an event says that went wrong in a page, if anything.
func faultOf(method string, params json.RawMessage) string {
	var event struct {
		Type             string
		Args             []struct{ Value, Description any }
		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		}
		Entry struct{ Source, Level, Text, URL string }
	}
	if json.Unmarshal(params, &event) != nil {
		return ""
	}
	switch method {
	case "Runtime.exceptionThrown":
		return "exception: " + event.ExceptionDetails.Text + " " + event.ExceptionDetails.Exception.Description
	case "Runtime.consoleAPICalled":
		if event.Type == "error" || event.Type == "warning" || event.Type == "assert" {
			return fmt.Sprintf("console.%s: %v", event.Type, event.Args)
		}
	case "Log.entryAdded": // reports about the Content-Security-Policy are entries too
		if event.Entry.Level == "error" || event.Entry.Level == "warning" {
			return fmt.Sprintf("%s: %s (%s)", event.Entry.Source, event.Entry.Text, event.Entry.URL)
		}
	}
	return ""
}

// A Page is one page, with a profile of its own.
type Page struct {
	t       testing.TB
	b       *Browser
	session string
}

// Open opens a page and waits until it is loaded.
func (b *Browser) Open(url string) *Page {
	b.t.Helper()
	var ids struct{ BrowserContextID, TargetID, SessionID string }
	b.do("", "Target.createBrowserContext", values{}, &ids)
	b.do("", "Target.createTarget", values{"url": "about:blank", "browserContextId": ids.BrowserContextID}, &ids)
	b.do("", "Target.attachToTarget", values{"targetId": ids.TargetID, "flatten": true}, &ids)
	p := &Page{b.t, b, ids.SessionID}
	for _, domain := range []string{"Runtime", "Log"} {
		p.do(domain+".enable", values{}, nil)
	}
	const report = `addEventListener('securitypolicyviolation', (e) => console.error('Content-Security-Policy', e.violatedDirective, e.blockedURI))`
	p.do("Page.addScriptToEvaluateOnNewDocument", values{"source": report}, nil) // the log leaves some out
	p.do("Emulation.setFocusEmulationEnabled", values{"enabled": true}, nil)
	p.Go(url)
	return p
}

// Within returns the page for a subtest: what goes wrong from now on is that test's.
func (p *Page) Within(t testing.TB) *Page { return &Page{t, p.b, p.session} }

func (p *Page) do(method string, params, result any) {
	p.t.Helper()
	p.b.t = p.t
	p.b.do(p.session, method, params, result)
}

// Go navigates and waits until the page is loaded.
func (p *Page) Go(url string) {
	p.t.Helper()
	var got struct{ ErrorText string }
	p.do("Page.navigate", values{"url": url}, &got)
	if got.ErrorText != "" {
		p.t.Fatalf("%s: %s", url, got.ErrorText)
	}
	const loading = "document.readyState !== 'complete' || location.protocol === 'about:'"
	for end := time.Now().Add(20 * time.Second); p.Eval(loading) == true; {
		if time.Now().After(end) {
			p.t.Fatalf("%s did not load in 20 s", url)
		}
	}
}

// Eval runs JavaScript in the page and returns its value. It waits for a promise.
func (p *Page) Eval(js string) any {
	p.t.Helper()
	var got struct {
		Result struct{ Value, Description any }
	}
	p.do("Runtime.evaluate", values{"expression": js, "awaitPromise": true, "returnByValue": true}, &got)
	if got.Result.Description != nil && got.Result.Value == nil {
		p.t.Fatalf("%s: %v", js, got.Result.Description) // an error
	}
	return got.Result.Value
}

// Wait waits in the page until a condition holds, for at most 20 s.
func (p *Page) Wait(condition string) {
	p.t.Helper()
	const js = `new Promise((resolve) => { const end = Date.now() + 20_000; const look = () =>
		(%s) ? resolve(true) : Date.now() > end ? resolve(false) : setTimeout(look, 25); look() })`
	if p.Eval(fmt.Sprintf(js, condition)) != true {
		p.t.Fatalf("not so after 20 s: %s\nthe page shows: %s", condition, p.Eval("document.body.innerText"))
	}
}

// Type types text into the element that has the focus.
func (p *Page) Type(text string) {
	p.t.Helper()
	p.do("Input.insertText", values{"text": text}, nil)
}

// Press presses a key: a letter, another character, "Enter", "Escape" or "Backspace".
func (p *Page) Press(key string) {
	p.t.Helper()
	down := values{"type": "keyDown", "key": key}
	switch key {
	case "Enter":
		down["text"], down["windowsVirtualKeyCode"] = "\r", 13
	case "Escape":
		down["windowsVirtualKeyCode"] = 27
	case "Backspace":
		down["windowsVirtualKeyCode"] = 8
	default:
		down["text"] = key
	}
	p.do("Input.dispatchKeyEvent", down, nil)
	p.do("Input.dispatchKeyEvent", values{"type": "keyUp", "key": key}, nil)
}

// Resize sets the size of what is seen, in CSS pixels.
func (p *Page) Resize(width, height int) {
	p.t.Helper()
	p.do("Emulation.setDeviceMetricsOverride", values{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
}

// PreferColors sets the color scheme that the user prefers: "light" or "dark".
func (p *Page) PreferColors(scheme string) {
	p.t.Helper()
	feature := values{"name": "prefers-color-scheme", "value": scheme}
	p.do("Emulation.setEmulatedMedia", values{"features": []values{feature}}, nil)
}

// Screenshot returns what is seen, as a PNG.
func (p *Page) Screenshot() []byte {
	p.t.Helper()
	var got struct{ Data string }
	p.do("Page.captureScreenshot", values{"format": "png"}, &got)
	png, err := base64.StdEncoding.DecodeString(got.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	return png
}

// Faults returns what went wrong in the page since it was called last: exceptions, errors and warnings on the console,
// requests that failed, and violations of the Content-Security-Policy.
func (p *Page) Faults() []string {
	p.t.Helper()
	p.Eval("new Promise((resolve) => setTimeout(resolve, 0))") // what was reported before it has been read after it
	faults := p.b.faults[p.session]
	delete(p.b.faults, p.session)
	return faults
}
