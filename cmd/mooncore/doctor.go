package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/mooncore/mooncore"
)

func doctorCommand() *command {
	return &command{
		name: "doctor", args: "-- PROGRAM [ARGUMENT ...]", passes: true,
		short: "Find what stands against running a program in production",
		examples: `
mooncore doctor -- ./server
mooncore doctor --env server.env -- ./server        with the variables that it will have
mooncore doctor --json -- go run . | jq '.[].id'`,
		long: `
It starts the program with MOONCORE_CHECK=json, which makes mooncore.Run write its findings and end:
it listens nowhere. What the program does before it calls Run, it does. Give it the environment that
it will have in production.

It exits with 1 if a finding is fatal: New would refuse to start.`,
		flags: func(fs *flag.FlagSet) runner {
			asJSON := jsonFlag(fs)
			strict := fs.Bool("strict", false, "exit with 1 for warnings too")
			env := fs.String("env", "", "a `file` with lines NAME=value: variables for the program. They win over those that are set")
			timeout := fs.Duration("timeout", 2*time.Minute, "the `duration` that the program may take, such as 30s; 2m if not given")
			return func(ctx context.Context, c *cli, args []string) error {
				if len(args) == 0 {
					return usagef("which program? Put it behind --, such as: mooncore doctor -- ./server")
				}
				variables, err := readEnv(*env)
				if err != nil {
					return err
				}
				findings, err := c.examine(ctx, args, variables, *timeout)
				if err != nil {
					return err
				}
				if *asJSON {
					err = c.out.printJSON(findings)
				} else {
					err = c.printFindings(findings)
				}
				if err != nil {
					return err
				}
				bad := func(f mooncore.Finding) bool {
					return f.Severity == mooncore.SeverityFatal || *strict && f.Severity == mooncore.SeverityWarning
				}
				if slices.ContainsFunc(findings, bad) {
					return errRefused
				}
				return nil
			}
		},
	}
}

// readEnv reads a file of variables, as systemd and Docker do: NAME=value, with # before a comment.
func readEnv(file string) ([]string, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--env: %w", err)
	}
	var variables []string
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, usagef("--env: line %d of %s is not NAME=value", n, file)
		}
		if q := value; len(q) >= 2 && (q[0] == '"' || q[0] == '\'') && q[len(q)-1] == q[0] {
			value = q[1 : len(q)-1]
		}
		variables = append(variables, name+"="+value)
	}
	return variables, nil
}

// examine runs a program and returns what it finds wrong with its configuration.
func (c *cli) examine(ctx context.Context, args, variables []string, timeout time.Duration) ([]mooncore.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(append(os.Environ(), variables...), "MOONCORE_CHECK=json")
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.WaitDelay = time.Second
	killGroup(cmd)
	err := cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("%s still runs after %v, and was ended. Does it call mooncore.Run? A program that calls New itself "+
			"can print Config.Check", args[0], timeout)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if findings, ok := findingsIn(out.Bytes(), err == nil); ok {
		return findings, nil
	}
	said := strings.TrimSpace(plain(errOut.String() + out.String()))
	if len(said) > 2000 {
		said = "…" + strings.ToValidUTF8(said[len(said)-2000:], "")
	}
	if said != "" {
		said = "\nIt said:\n" + said
	}
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		return nil, fmt.Errorf("%s does not start: %w", args[0], err)
	}
	return nil, fmt.Errorf("%s ended without findings. It must call mooncore.Run, of this version or a later one%s", args[0], said)
}

// findingsIn finds the line of findings in what a program wrote. An empty list counts if there is no other and the program ended well:
// it may have written one of its own.
func findingsIn(out []byte, endedWell bool) ([]mooncore.Finding, bool) {
	none := false
	lines := bytes.Split(out, []byte("\n"))
	for _, line := range slices.Backward(lines) {
		findings := []mooncore.Finding{}
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		switch {
		case !bytes.HasPrefix(line, []byte("[")) || dec.Decode(&findings) != nil || slices.ContainsFunc(findings, isNoFinding):
		case len(findings) > 0:
			return findings, true
		default:
			none = endedWell
		}
	}
	return []mooncore.Finding{}, none
}

func isNoFinding(f mooncore.Finding) bool {
	switch f.Severity {
	case mooncore.SeverityFatal, mooncore.SeverityWarning, mooncore.SeverityInfo:
		return f.ID == ""
	}
	return true
}

func (c *cli) printFindings(findings []mooncore.Finding) error {
	var b strings.Builder
	counts := map[mooncore.Severity]int{}
	for _, f := range findings {
		counts[f.Severity]++
		mark, colour := "i", cyan
		switch f.Severity {
		case mooncore.SeverityFatal:
			mark, colour = "✗", red
		case mooncore.SeverityWarning:
			mark, colour = "!", yellow
		}
		fmt.Fprintf(&b, "%s %s\n", c.out.paint(colour, mark+" "+string(f.Severity)), c.out.paint(bold, plain(f.ID)))
		b.WriteString(indented("    ", plain(f.What)) + "\n")
		b.WriteString(c.out.paint(dim, indented("    ", "Why: "+plain(f.Why))) + "\n")
		b.WriteString(indented("    ", "Fix: "+plain(f.Fix)) + "\n\n")
	}
	if len(findings) == 0 {
		b.WriteString(c.out.paint(green, "✓ nothing stands against it") + "\n")
	} else {
		fmt.Fprintf(&b, "%s, %s, %s\n", count(counts[mooncore.SeverityFatal], "fatal finding"),
			count(counts[mooncore.SeverityWarning], "warning"), count(counts[mooncore.SeverityInfo], "note"))
	}
	_, err := c.out.Write([]byte(b.String()))
	return err
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
