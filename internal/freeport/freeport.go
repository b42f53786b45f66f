// Package freeport finds ports for servers that tests start and that can't tell which port they got.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports are taken at random from below those that systems give to connections and to listeners without a port, which are
// 32768 and up on Linux: between the search and the server's start none of the many connections of other tests can take it.
const (
	first = 10_000
	end   = 30_000
	tries = 100
)

// Find returns an address of 127.0.0.1 that nobody listens on.
func Find() (addr string, err error) {
	for range tries {
		var l net.Listener
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(end-first)))
		if l, err = net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr, nil
		}
	}
	return "", fmt.Errorf("freeport: no port in %d tries: %w", tries, err)
}

// Addr is Find for a test, which fails if there is none.
func Addr(t testing.TB) string {
	t.Helper()
	addr, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// Port returns the port of an Addr.
func Port(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(Addr(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}
