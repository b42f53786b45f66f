//go:build unix

// Package faults harms what brokers stand on: it kills, stops and freezes server processes, cuts networks, and holds, cuts and slows connections.
package faults

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a server may take to start or to stop.
const patience = 15 * time.Second

// A Process is a server in a process of its own.
type Process struct {
	t    testing.TB
	addr string
	make func() *exec.Cmd

	cmd *exec.Cmd
	out *output
}

// output is what a server wrote.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // not embedded: io.Copy would use its ReadFrom, without the lock
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// Output is what the server has written since it was started.
func (p *Process) Output() string {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	return p.out.text.String()
}

// Start starts a server that listens on addr, and ends it with the test.
func Start(t testing.TB, addr string, command func() *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, addr: addr, make: command}
	p.Restart()
	t.Cleanup(p.Kill)
	return p
}

// Addr is where the server listens.
func (p *Process) Addr() string { return p.addr }

// Restart starts the server, which must not run, and waits until it accepts connections.
func (p *Process) Restart() {
	p.t.Helper()
	p.out = new(output)
	p.cmd = p.make()
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			path := p.cmd.Path
			p.Kill()
			p.t.Fatalf("%s does not listen on %s:\n%s", path, p.addr, p.Output())
		}
	}
}

// Kill ends the server at once, by SIGKILL.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Stop lets the server end in its own way, by SIGTERM.
func (p *Process) Stop() { p.end(syscall.SIGTERM) }

func (p *Process) end(sig syscall.Signal) {
	if p.cmd == nil {
		return
	}
	p.signal(sig)
	timer := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() }) // fails only when it has ended
	defer timer.Stop()
	_ = p.cmd.Wait() // the error is that it was killed
	p.cmd = nil
}

// Freeze makes the server do nothing, while its connections stay open, by SIGSTOP.
func (p *Process) Freeze() { p.signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (p *Process) Thaw() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) {
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Errorf("%v: %v", sig, err)
	}
}

// RoundsEnv is the environment variable that says how often each fault happens in a drill. In other tests it is once.
const RoundsEnv = "MOONCORE_TEST_ROUNDS"

// Rounds is how often each fault is to happen.
func Rounds(t testing.TB) int {
	t.Helper()
	text := os.Getenv(RoundsEnv)
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q is no number of rounds", RoundsEnv, text)
	}
	return n
}
