// Package child starts and ends servers that are processes of their own.
package child

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// A Server is a process that prints a wire.Server.
type Server struct {
	wire.Server
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr *bytes.Buffer
}

// Start starts a server and waits until it has printed what it is.
func Start(ctx context.Context, program string, args ...string) (*Server, error) {
	s := &Server{cmd: exec.CommandContext(ctx, program, args...), stderr: new(bytes.Buffer)}
	name := strings.Join(append([]string{filepath.Base(program)}, args...), " ")
	s.cmd.Stderr = s.stderr
	s.cmd.WaitDelay = time.Second // for its own children, which may outlive it
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.stdin = stdin
	timer := time.AfterFunc(10*time.Second, func() { _ = s.cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if !timer.Stop() && err != nil {
		err = errors.New("it wasn't ready after 10 s")
	}
	if err == nil {
		err = json.Unmarshal(line, &s.Server)
	}
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("%s: %w\n%s", name, err, s.stderr)
	}
	return s, nil
}

// Stop ends the server.
func (s *Server) Stop() {
	s.stdin.Close()
	timer := time.AfterFunc(2*time.Second, func() { _ = s.cmd.Process.Kill() })
	defer timer.Stop()
	_ = s.cmd.Wait()
}

// Said is what the server has written to standard error. The server must have ended.
func (s *Server) Said() string { return strings.TrimSpace(s.stderr.String()) }
