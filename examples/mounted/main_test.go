package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/mooncore/mooncore"
)

func newTestSite(t *testing.T) (base string, client *http.Client) {
	t.Helper()
	handler, api, err := newSite(mooncore.Config{
		Development: true, SecretKeyBase: mooncore.Secret(strings.Repeat("s", 64)), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := api.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		server.Close()
	})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return server.URL, &http.Client{Jar: jar}
}

func do(t *testing.T, client *http.Client, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestSessionReachesEveryFaceOfTheAPI(t *testing.T) {
	base, client := newTestSite(t)
	if status, body := do(t, client, "POST", base+"/v1/tasks", `{"title":"Milk"}`); status != http.StatusUnauthorized {
		t.Fatalf("without a session: %d %s", status, body)
	}
	resp, err := client.PostForm(base+"/login", url.Values{"user": {"ada"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	for _, step := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/", "", 200, "The site as it was.\n"},
		{"POST", "/v1/tasks", `{"title":"Milk"}`, 200, `{"id":1,"owner":"ada","title":"Milk"}`},
		{"POST", "/api/run", `{"action":"task.create","title":"Bread"}`, 200, `{"id":2,"owner":"ada","title":"Bread"}`},
		{"GET", "/v1/tasks/2", "", 200, `{"id":2,"owner":"ada","title":"Bread"}`},
		{"GET", "/v1/tasks/9", "", 404, `{"error":"no task 9","code":"not_found"}`},
		{"GET", "/v1/tasks/x", "", 422, `{"error":"validation_failed","code":"validation_failed","errors":{"id":["must be an integer"]}}`},
		{"DELETE", "/v1/tasks/1", "", 200, "null"},
		{"GET", "/v1/tasks", "", 200, `[{"id":2,"owner":"ada","title":"Bread"}]`},
		{"GET", "/api/livez", "", 200, "ok"},
	} {
		status, body := do(t, client, step.method, base+step.path, step.body)
		if status != step.status || body != step.want {
			t.Errorf("%s %s: got %d %s, want %d %s", step.method, step.path, status, body, step.status, step.want)
		}
	}
}

func TestSocketIsTheSessionsUser(t *testing.T) {
	base, client := newTestSite(t)
	resp, err := client.PostForm(base+"/login", url.Values{"user": {"ada"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	header := http.Header{"Origin": {base}} // as a browser sends it
	conn, _, err := websocket.Dial(ctx, base+"/api/ws", &websocket.DialOptions{HTTPClient: client, HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(ctx, websocket.MessageText, []byte("channel_list")); err != nil {
		t.Fatal(err)
	}
	_, answer, err := conn.Read(ctx)
	if want := `["channel_list",["@ada"]]`; err != nil || string(answer) != want {
		t.Errorf("got %s %v, want %s", answer, err, want)
	}
}
