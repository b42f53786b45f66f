//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/mooncore/mooncore/internal/freeport"
)

const (
	commandTimeout = time.Minute
	stopTimeout    = 5 * time.Second
)

// documentedPorts are the ports in documents: the server's, and that of its inner listener.
var documentedPorts = [2]string{"4000", "4001"}

// A session runs the commands of a document.
type session struct {
	root, scratch string
	ports         [2]string // in place of documentedPorts
	server        *exec.Cmd
}

// runCommands runs the console blocks of a document, and returns what failed or printed something else.
func runCommands(root, temp string, d *document) (faults []string) {
	var ports [len(documentedPorts)]string
	for i := range ports {
		addr, err := freeport.Find()
		if err != nil {
			return []string{err.Error()}
		}
		_, ports[i], _ = net.SplitHostPort(addr)
	}
	s := &session{root: root, scratch: filepath.Join(temp, packageName(d.name)+".scratch"), ports: ports}
	defer s.stop()
	if err := os.Mkdir(s.scratch, 0o755); err != nil {
		return []string{err.Error()}
	}
	// On a terminal, curl shows no progress.
	if err := os.WriteFile(filepath.Join(s.scratch, ".curlrc"), []byte("silent\nshow-error\n"), 0o644); err != nil {
		return []string{err.Error()}
	}
	for _, b := range d.blocks {
		if b.program != "" && b.directive == "serve" {
			if err := s.serveProgram(&b); err != nil {
				faults = append(faults, fmt.Sprintf("%s: %v", b.at(), err))
			}
		}
		if b.language != "console" || b.directive == "skip" {
			continue
		}
		for _, c := range commands(b.code) {
			if err := s.run(&b, c); err != nil {
				faults = append(faults, fmt.Sprintf("%s: $ %s\n%v", b.at(), c.line, err))
			}
		}
	}
	return faults
}

// buildCommand puts the command "mooncore" where the commands of documents find it.
func buildCommand(root, temp string) error {
	bin := filepath.Join(temp, "bin")
	cmd := exec.Command("go", "build", "-o", filepath.Join(bin, "mooncore"), "./cmd/mooncore")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./cmd/mooncore: %w\n%s", err, out)
	}
	return os.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
}

// A command is one "$ " line, and those that it must print.
type command struct{ line, want string }

func commands(code string) (list []command) {
	continued := false
	for line := range strings.Lines(code) {
		text, start := strings.CutPrefix(line, "$ ")
		switch {
		case continued:
			list[len(list)-1].line += line
		case start:
			list = append(list, command{line: text})
		case len(list) > 0:
			list[len(list)-1].want += line
		}
		if start || continued {
			last := strings.TrimSuffix(list[len(list)-1].line, "\n")
			continued = strings.HasSuffix(last, `\`) || strings.Count(last, "'")%2 == 1
		}
	}
	return list
}

func (s *session) run(b *block, c command) error {
	if b.directive == "serve" {
		return s.serve(c.line, s.root, nil)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", s.withPorts(c.line))
	cmd.Env = append(os.Environ(), "CURL_HOME="+s.scratch) // see runCommands
	cmd.Dir = s.root
	if b.directive == "scratch" {
		cmd.Dir = s.scratch
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if got, want := string(out), s.withPorts(c.want); !matches(got, want) {
		return fmt.Errorf("printed:\n%s\ninstead of:\n%s", got, want)
	}
	return nil
}

func (s *session) withPorts(text string) string {
	return strings.NewReplacer(documentedPorts[0], s.ports[0], documentedPorts[1], s.ports[1]).Replace(text)
}

// serveProgram serves a program of the document, which may have the port in its text.
func (s *session) serveProgram(b *block) error {
	if err := os.WriteFile(filepath.Join(b.program, "code.go"), []byte(s.withPorts(b.code)), 0o644); err != nil {
		return err
	}
	return s.serve("exec go run .", b.program, ownModule)
}

// serve starts a server in a process group of its own, and waits until it listens.
func (s *session) serve(line, dir string, env []string) error {
	s.stop()
	var out bytes.Buffer
	s.server = exec.Command("bash", "-c", s.withPorts(line))
	s.server.Dir = dir
	s.server.Env = append(append(os.Environ(), "PORT="+s.ports[0]), env...)
	s.server.Stdout, s.server.Stderr = &out, &out
	s.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.server.WaitDelay = time.Second
	if err := s.server.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(commandTimeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", net.JoinHostPort("localhost", s.ports[0])); err == nil {
			return c.Close()
		}
	}
	s.stop()
	return fmt.Errorf("nothing listens on port %s\n%s", s.ports[0], out.String())
}

// stop ends the server and what it started.
func (s *session) stop() {
	if s.server == nil {
		return
	}
	group := -s.server.Process.Pid
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.server.Wait() // it is ended by a signal
	}()
	_ = syscall.Kill(group, syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(stopTimeout):
	}
	_ = syscall.Kill(group, syscall.SIGKILL) // what is left, if anything
	<-ended
	s.server = nil
}

// matches reports whether a command printed what it must.
func matches(got, want string) bool {
	pattern := regexp.QuoteMeta(normal(want))
	pattern = regexp.MustCompile(`(?m)^…$`).ReplaceAllString(pattern, "(?s:.*)")
	pattern = strings.ReplaceAll(pattern, "…", ".*")
	return regexp.MustCompile("^" + pattern + "$").MatchString(normal(got))
}

// normal leaves out carriage returns and what is white at the end.
func normal(text string) string { return strings.TrimSpace(strings.ReplaceAll(text, "\r", "")) }
