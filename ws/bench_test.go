package ws_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/mooncore/mooncore/ws"
)

// One message at a time, there and back over TCP.
func BenchmarkEcho(b *testing.B) {
	addr, _ := listen(b, nil, newHandler())
	c := dial(b, addr)
	request := text(string(bytes.Repeat([]byte("x"), 100)))
	reply := make([]byte, 102)
	b.ReportAllocs()
	for b.Loop() {
		c.write(request)
		if _, err := io.ReadFull(c.r, reply); err != nil {
			b.Fatal(err)
		}
	}
}

// 16 messages at a time.
func BenchmarkEchoPipelined(b *testing.B) {
	addr, _ := listen(b, nil, newHandler())
	c := dial(b, addr)
	request := bytes.Repeat(text(string(bytes.Repeat([]byte("x"), 100))), 16)
	reply := make([]byte, 16*102)
	b.ReportAllocs()
	for b.Loop() {
		c.write(request)
		if _, err := io.ReadFull(c.r, reply); err != nil {
			b.Fatal(err)
		}
	}
}

// One event to 1,000 connections, until all have it.
func BenchmarkPrepared(b *testing.B) {
	const receivers = 1000
	addr, accepted := listen(b, nil, newHandler())
	conns := make([]*ws.Conn, receivers)
	clients := make([]*client, receivers)
	for i := range receivers {
		clients[i] = dial(b, addr)
		conns[i] = <-accepted
	}
	payload := bytes.Repeat([]byte("x"), 200)
	frame := make([]byte, len(payload)+4)
	b.ReportAllocs()
	for b.Loop() {
		event := ws.Prepare(ws.Text, payload)
		for _, c := range conns {
			c.SendPrepared(event)
		}
		for _, c := range clients {
			if _, err := io.ReadFull(c.r, frame); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, c := range conns {
		c.CloseNow()
	}
}
