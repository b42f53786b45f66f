package runner

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// Dir returns the directory of the bench module. It must be called in it or in a workspace that uses it.
func Dir() (string, error) {
	const module = "github.com/mooncore/mooncore/bench"
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		return "", fmt.Errorf("the go command finds no module %s: start the runner in the repository", module)
	}
	return dir, nil
}

// build compiles the package in dir/pkg to a program in out.
func build(ctx context.Context, dir, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s in %s: %w\n%s", pkg, dir, err, text)
	}
	return nil
}

// A server is a process under load.
type server struct {
	wire.Server
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr *bytes.Buffer
}

// startServer starts a server and waits until it listens.
func startServer(ctx context.Context, program string, args ...string) (*server, error) {
	s := &server{cmd: exec.CommandContext(ctx, program, args...), stderr: new(bytes.Buffer)}
	name := strings.Join(append([]string{filepath.Base(program)}, args...), " ")
	s.cmd.Stderr = s.stderr
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
		s.stop()
		return nil, fmt.Errorf("%s: %w\n%s", name, err, s.stderr)
	}
	return s, nil
}

// stop ends the server.
func (s *server) stop() {
	s.stdin.Close()
	timer := time.AfterFunc(2*time.Second, func() { _ = s.cmd.Process.Kill() })
	defer timer.Stop()
	_ = s.cmd.Wait()
}

// runLoad runs the load generator for one job.
func runLoad(ctx context.Context, program string, job wire.Job) (wire.Result, error) {
	input, err := json.Marshal(job)
	if err != nil {
		return wire.Result{}, err
	}
	cmd := exec.CommandContext(ctx, program)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			return wire.Result{}, errors.New(text)
		}
		return wire.Result{}, err
	}
	var result wire.Result
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		return wire.Result{}, fmt.Errorf("the load generator printed %.200q: %w", stdout.String(), err)
	}
	return result, nil
}
