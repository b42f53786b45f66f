package main

import (
	"io"
	"net"
	neturl "net/url"
	"sync"
	"testing"
)

// A cutter stands between a client and a server, and cuts all connections when it is told to.
type cutter struct {
	t        *testing.T
	url      string // of the server, through the cutter
	target   string
	addr     string
	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newCutter(t *testing.T, url string) *cutter {
	t.Helper()
	u, err := neturl.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{t: t, target: u.Host, addr: "127.0.0.1:0"}
	c.on()
	c.addr = c.listener.Addr().String()
	u.Host = c.addr
	c.url = u.String()
	t.Cleanup(c.off)
	return c
}

func (c *cutter) on() {
	c.t.Helper()
	listener, err := net.Listen("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.listener = listener
	c.work.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", c.target)
			if err != nil {
				in.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, in, out)
			c.mu.Unlock()
			c.work.Go(func() { io.Copy(out, in); out.Close() })
			c.work.Go(func() { io.Copy(in, out); in.Close() })
		}
	})
}

// off cuts everything, and returns when nothing is left.
func (c *cutter) off() {
	c.listener.Close()
	c.mu.Lock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
	c.mu.Unlock()
	c.work.Wait()
}
