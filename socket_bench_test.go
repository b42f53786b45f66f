package mooncore_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"testing"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/wsraw"
)

// pipeline returns a function that makes 16 calls at a time over WebSocket and TCP.
func pipeline(tb testing.TB, action string) func() {
	tb.Helper()
	server := httptest.NewServer(newBenchServer(tb, slog.DiscardHandler))
	tb.Cleanup(server.Close)
	host := server.Listener.Addr().String()
	conn, err := net.Dial("tcp", host)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	client, err := wsraw.Client(conn, wsraw.Handshake(host, "/ws"))
	if err != nil {
		tb.Fatal(err)
	}
	call := fmt.Sprintf(`{"action":%q,"rayid":1,"title":"Write the letter","done":true,"count":3,"tags":["home"]}`, action)
	request := bytes.Repeat(wsraw.TextFrame(call).Append(nil), 16)
	if err := client.SendText(call); err != nil {
		tb.Fatal(err)
	}
	first := client.Next()
	if first.Err != nil || !bytes.Contains(first.Payload, []byte(`"title":"Write the letter"`)) {
		tb.Fatal(first)
	}
	replies := make([]byte, 16*(2+len(first.Payload)))
	return func() {
		if _, err := conn.Write(request); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.ReadFull(conn, replies); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkSocket(b *testing.B) {
	for _, action := range []string{"raw", "typed"} {
		b.Run(action, func(b *testing.B) {
			call := pipeline(b, action)
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}

// BenchmarkConnect is a connection over TCP, upgraded with a token that was seen before, and closed.
func BenchmarkConnect(b *testing.B) {
	srv := newBenchServer(b, slog.DiscardHandler)
	server := httptest.NewServer(srv)
	b.Cleanup(server.Close)
	token, err := srv.Token(mooncore.Identity{User: "alice"})
	if err != nil {
		b.Fatal(err)
	}
	host := server.Listener.Addr().String()
	request := wsraw.Handshake(host, "/ws", "Authorization: Bearer "+token)
	response := make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		if n, err := conn.Read(response); err != nil || !bytes.HasPrefix(response[:n], []byte("HTTP/1.1 101 ")) {
			b.Fatalf("%s, %v", response[:n], err)
		}
		conn.Close()
	}
}
