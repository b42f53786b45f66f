// Command wsserver is a server for the WebSocket scenarios. The runner starts it.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/mooncore/mooncore/bench/internal/meter"
	"github.com/mooncore/mooncore/bench/internal/wire"
	"github.com/mooncore/mooncore/bench/peers/internal/control"
	"github.com/mooncore/mooncore/bench/peers/internal/wspeers"
)

func main() {
	name := flag.String("peer", "", "one of "+strings.Join(wspeers.Names(), ", "))
	files := flag.Int("files", 1024, "how many file descriptors are needed")
	var o wspeers.Options
	flag.BoolVar(&o.Auth, "auth", false, "connections come with a token, if the server knows such")
	flag.BoolVar(&o.Member, "member", false, "connections are members of one channel")
	flag.BoolVar(&o.Deflate, "deflate", false, "offer permessage-deflate")
	flag.Parse()
	if err := run(*name, *files, o); err != nil {
		fmt.Fprintln(os.Stderr, "wsserver:", err)
		os.Exit(1)
	}
}

func run(name string, files int, o wspeers.Options) error {
	if err := meter.RaiseFiles(files); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	peer, ok, err := wspeers.Start(name, ln, o)
	if !ok {
		return fmt.Errorf("-peer %q: it must be one of %s", name, strings.Join(wspeers.Names(), ", "))
	}
	if err != nil {
		return err
	}
	return control.Run(wire.Server{Peer: name, Addr: ln.Addr().String(), WebSocket: &peer.WebSocket}, peer.Publish)
}
