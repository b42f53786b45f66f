package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	servers      = 3
	restartPause = time.Second
	stopTime     = 10 * time.Second
)

// A cluster is the servers' processes and the proxy before them.
type cluster struct {
	ctx      context.Context
	balancer *balancer
	listener net.Listener
	pids     [servers]atomic.Int64
	wg       sync.WaitGroup
	err      error // of the proxy; good once wg is done
}

// start starts the servers and the proxy, which end with the context.
func start(ctx context.Context) (*cluster, error) {
	nodes, err := newNodes()
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort(cmp.Or(os.Getenv("HOST"), "127.0.0.1"), cmp.Or(os.Getenv("PORT"), "4000"))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &cluster{ctx: ctx, balancer: newBalancer(nodes), listener: l}
	for i, n := range nodes {
		c.wg.Go(func() { c.supervise(i, n) })
	}
	c.wg.Go(func() { c.balancer.watch(ctx) })
	server := &http.Server{Handler: c.balancer, ReadHeaderTimeout: 5 * time.Second}
	c.wg.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			c.err = err
		}
	})
	c.wg.Go(func() {
		<-ctx.Done()
		_ = server.Close() // what it says is of no use any more
	})
	return c, nil
}

func (c *cluster) addr() string { return c.listener.Addr().String() }

// wait returns when all has ended.
func (c *cluster) wait() error {
	c.wg.Wait()
	return c.err
}

// newNodes finds addresses on loopback that nobody uses, and a secret.
func newNodes() ([]node, error) {
	secret := rand.Text() + rand.Text()
	var addrs []string
	for range 2 * servers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() //nolint:gocritic // deferInLoop: all at once, so that each is another
		addrs = append(addrs, l.Addr().String())
	}
	nats := addrs[servers:]
	var nodes []node
	for i := range servers {
		nodes = append(nodes, node{Name: fmt.Sprint("server ", i+1), HTTP: addrs[i], NATS: nats[i], Peers: nats, Secret: secret})
	}
	return nodes, nil
}

// supervise runs a server, and starts it again when it ends before the context does.
func (c *cluster) supervise(i int, n node) {
	for {
		err := c.serve(i, n)
		if c.ctx.Err() != nil {
			return
		}
		log.Printf("server %d ended: %v", i+1, err)
		select {
		case <-time.After(restartPause):
		case <-c.ctx.Done():
			return
		}
	}
}

// serve runs a server's process once.
func (c *cluster) serve(i int, n node) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(c.ctx, program)
	cmd.Env = append(environment(), nodeEnv+"="+string(text))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.pids[i].Store(int64(cmd.Process.Pid))
	log.Printf("server %d is process %d", i+1, cmd.Process.Pid)
	copyLog(i, stderr)
	return cmd.Wait()
}

// environment is this process's without what says where the proxy listens.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "HOST=") || strings.HasPrefix(v, "PORT=")
	})
}

// copyLog passes a server's log on.
func copyLog(i int, from io.Reader) {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		log.Printf("server %d: %s", i+1, lines.Text())
	}
}
