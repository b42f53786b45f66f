// Command httpserver is a server for the HTTP scenarios. The runner starts it.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/mooncore/mooncore/bench/internal/wire"
	"github.com/mooncore/mooncore/bench/peers/internal/control"
	"github.com/mooncore/mooncore/bench/peers/internal/httppeers"
)

func main() {
	name := flag.String("peer", "", "one of "+strings.Join(httppeers.Names(), ", "))
	flag.Parse()
	if err := run(*name); err != nil {
		fmt.Fprintln(os.Stderr, "httpserver:", err)
		os.Exit(1)
	}
}

func run(name string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	http, ok, err := httppeers.Start(name, ln)
	if !ok {
		return fmt.Errorf("-peer %q: it must be one of %s", name, strings.Join(httppeers.Names(), ", "))
	}
	if err != nil {
		return err
	}
	return control.Run(wire.Server{Peer: name, Addr: ln.Addr().String(), HTTP: &http}, nil)
}
