package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/wsraw"
)

// TestKeepAlive sends several requests on one connection, one after the other or all at once.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	s := recorded(t)
	get := func(n int) string { return fmt.Sprintf("GET /run/echo?n=%d HTTP/1.1\r\nHost: x\r\n\r\n", n) }
	post := func(target, body string, headers ...string) string {
		return string(s.request("POST "+target, body, headers))
	}
	echo := func(n int) string { return fmt.Sprintf(`200 {"echo":{"n":"%d"}}`, n) }
	for _, tt := range []struct {
		name     string
		requests []string
		want     []string // status and body; "" for a connection that has ended
	}{
		{"kept", []string{get(1), get(2), get(3)}, []string{echo(1), echo(2), echo(3)}},
		{"after errors", []string{post("/run/nope", `{}`), post("/run", `{`),
			post("/run/echo", "x", "Content-Type: text/plain"), post("/run/task.list", ""), post("/run/boom", ""), get(6)},
			[]string{"404 " + undefined, "400 " + malformed, "415 " + badType, "401 " + stranger, "500 " + internal, echo(6)}},
		{"after HEAD", []string{"HEAD /run/echo HTTP/1.1\r\nHost: x\r\n\r\n", get(2)}, []string{"200 ", echo(2)}},
		{"after a body of a GET", []string{"GET /run/echo?n=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde", get(2)},
			[]string{echo(1), echo(2)}},
		{"Connection: close", []string{post("/run/echo", `{"n":"1"}`, "Connection: close"), get(2)}, []string{echo(1), ""}},
		{"HTTP/1.0", []string{"GET /run/echo?n=1 HTTP/1.0\r\n\r\n", get(2)}, []string{echo(1), ""}},
		{"100-continue", []string{post("/run/echo", `{"n":"1"}`, "Expect: 100-continue")}, []string{echo(1)}},
		{"two lengths", []string{"POST /run/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} "},
			[]string{"400 *"}},
		{"length and chunked",
			[]string{"POST /run/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
			[]string{`200 {"echo":{}}`}},
		{"no Host", []string{"GET /run/echo HTTP/1.1\r\n\r\n"}, []string{"400 *"}},
		{"two Hosts", []string{"GET /run/echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"}, []string{"400 *"}},
		{"absolute form", []string{"GET http://x/run/echo?n=1 HTTP/1.1\r\nHost: x\r\n\r\n"}, []string{echo(1)}},
		{"header too large", []string{"GET /run/echo HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 40_000) + "\r\n\r\n"},
			[]string{"431 *"}},
	} {
		for _, at := range []string{"one by one", "at once"} {
			t.Run(tt.name+" "+at, func(t *testing.T) {
				conn, err := net.DialTimeout("tcp", s.addr, wsraw.Timeout)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(wsraw.Timeout))
				br := bufio.NewReader(conn)
				if at == "at once" {
					io.WriteString(conn, strings.Join(tt.requests, ""))
				}
				for i, want := range tt.want {
					if at == "one by one" {
						io.WriteString(conn, tt.requests[i]) // fails when the server has closed
					}
					method, _, _ := strings.Cut(tt.requests[i], " ")
					resp, err := http.ReadResponse(br, &http.Request{Method: method})
					if want == "" {
						if err == nil {
							t.Errorf("request %d: got %s on a connection that should have ended", i, resp.Status)
						}
						return
					}
					if err != nil {
						t.Fatalf("request %d: %v", i, err)
					}
					if resp.StatusCode == http.StatusContinue {
						if resp, err = http.ReadResponse(br, &http.Request{Method: method}); err != nil {
							t.Fatal(err)
						}
					}
					body, err := io.ReadAll(resp.Body)
					if err != nil {
						t.Fatal(err)
					}
					status, wantBody, _ := strings.Cut(want, " ")
					if fmt.Sprint(resp.StatusCode) != status || wantBody != "*" && !sameJSON(string(body), wantBody) {
						t.Errorf("request %d: got %d %s, want %s", i, resp.StatusCode, body, want)
					}
				}
			})
		}
	}
}

// TestCaller: nobody believes what a client says of its address.
func TestCaller(t *testing.T) {
	t.Parallel()
	want := `{"auth":null,"db":"dbhandle","ip":"127.0.0.1","params":{"action":"dump"},"source":"http"}`
	var calls []call
	for _, header := range []string{"X-Forwarded-For: 8.8.8.8", "X-Forwarded-For: 127.0.0.1, 8.8.8.8", "X-Real-IP: 8.8.8.8",
		"Forwarded: for=8.8.8.8", "X-Forwarded-Host: evil.example", "X-HTTP-Method-Override: DELETE"} {
		calls = append(calls, call{name: header, target: "POST /run", body: `{"action":"dump"}`, headers: []string{header},
			status: 200, want: want})
	}
	runCalls(t, recorded(t), calls)
}
