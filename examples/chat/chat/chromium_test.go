package chat

import (
	"bytes"
	"context"
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
)

// A browser is a headless Chromium, driven by the Chrome DevTools Protocol. It is used by one goroutine.
type browser struct {
	t      testing.TB
	socket *websocket.Conn
	calls  int
}

type values = map[string]any

// startBrowser skips the test where there is no Chromium, unless MOONCORE_TEST_REQUIRE is "all".
func startBrowser(t testing.TB) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("MOONCORE_TEST_REQUIRE") == "all" {
			t.Fatalf("MOONCORE_TEST_REQUIRE=all, but there is no browser: %v", err)
		}
		t.Skipf("no browser to test the page in: %v", err)
	}
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
	go func() { cmd.Wait(); close(ended) }()
	b := &browser{t: t}
	t.Cleanup(func() {
		if b.socket != nil {
			wsjson.Write(context.Background(), b.socket, values{"id": 0, "method": "Browser.close"})
			defer b.socket.CloseNow()
		}
		defer time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() }).Stop()
		<-ended
	})
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
func (b *browser) do(session, method string, params, result any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 40*time.Second)
	defer cancel()
	b.calls++
	command := values{"id": b.calls, "method": method, "params": params}
	if session != "" {
		command["sessionId"] = session
	}
	err := wsjson.Write(ctx, b.socket, command)
	var answer struct {
		ID     int
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	for err == nil && answer.ID != b.calls { // the others are events
		err = wsjson.Read(ctx, b.socket, &answer)
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

// A window is one page, with a profile of its own.
type window struct {
	*browser
	session string
}

func (b *browser) open(url string) *window {
	b.t.Helper()
	var ids struct{ BrowserContextID, TargetID, SessionID string }
	b.do("", "Target.createBrowserContext", values{}, &ids)
	b.do("", "Target.createTarget", values{"url": url, "browserContextId": ids.BrowserContextID}, &ids)
	b.do("", "Target.attachToTarget", values{"targetId": ids.TargetID, "flatten": true}, &ids)
	w := &window{b, ids.SessionID}
	w.do(w.session, "Emulation.setFocusEmulationEnabled", values{"enabled": true}, nil)
	const loading = "document.readyState !== 'complete' || location.protocol === 'about:'"
	for end := time.Now().Add(20 * time.Second); w.eval(loading) == true; {
		if time.Now().After(end) {
			b.t.Fatalf("%s did not load in 20 s", url)
		}
	}
	return w
}

// eval runs JavaScript in the page and returns its value. It waits for a promise.
func (w *window) eval(js string) any {
	w.t.Helper()
	var got struct {
		Result struct{ Value, Description any }
	}
	w.do(w.session, "Runtime.evaluate", values{"expression": js, "awaitPromise": true, "returnByValue": true}, &got)
	if got.Result.Description != nil && got.Result.Value == nil {
		w.t.Fatalf("%s: %v", js, got.Result.Description) // an error
	}
	return got.Result.Value
}

// wait waits in the page until a condition holds, for at most 20 s.
func (w *window) wait(condition string) {
	w.t.Helper()
	const js = `new Promise((resolve) => { const end = Date.now() + 20_000; const look = () =>
		(%s) ? resolve(true) : Date.now() > end ? resolve(false) : setTimeout(look, 25); look() })`
	if w.eval(fmt.Sprintf(js, condition)) != true {
		w.t.Fatalf("not so after 20 s: %s\nthe page shows: %s", condition, w.eval("document.body.innerText"))
	}
}
