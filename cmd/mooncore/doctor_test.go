package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mooncore/mooncore"
)

func TestDoctor(t *testing.T) {
	w := newWorld(t)
	w.must("", "keys", "generate", "--alg", "ES256", "--out", "private.pem")
	doctor := func(args ...string) []string {
		return append(append([]string{"doctor"}, args...), "--", os.Args[0], "--json")
	}
	as := func(kind string, more ...string) []string { return append(more, asProgram+"="+kind) }
	w.write("server.env", "# of the server\n\nJWT_PRIVATE_KEY_FILE=\""+w.dir+"/private.pem\"\nJWT_ISSUER=example\nMOONCORE_ENV=production\n")
	w.steps([]step{
		{name: "fatal", args: doctor(), env: as("plain"), code: 1, out: `^✗ fatal no_key\n    JWT_PRIVATE_KEY not set.*\n    Why: .*\n    Fix: .*fatal finding, .*\n$`},
		{name: "what it prints before is passed over", args: doctor(), env: as("chatty"), code: 1, out: `^✗ fatal no_key\n`},
		{name: "and after", args: doctor(), env: as("chatty at the end"), code: 1, out: `^✗ fatal no_key\n`},
		{name: "a program that fails and has found nothing", args: doctor(), env: as("empty"), code: 3, err: `ended without findings`},
		{name: "with its variables", args: doctor("--env", "server.env"), env: as("plain"), out: `0 fatal findings, `},
		{name: "strict", args: doctor("--env", "server.env", "--strict"), env: as("plain", "LOG_LEVEL=debug"), code: 1, out: `! warning debug_logging\n`},
		{name: "a wrong variable", args: doctor("--env", "server.env"), env: as("plain", "PORT=x"), code: 1, out: `✗ fatal invalid_environment\n    PORT: `},
		{name: "a program without Run", args: doctor(), env: as("silent"), code: 3, err: `ended without findings\. It must call mooncore\.Run`},
		{name: "a program that crashes", args: doctor(), env: as("crash"), code: 3, err: `ended without findings.*\nIt said:\npanic: .*no database`},
		{name: "a program that stays", args: doctor("--timeout", "300ms"), env: as("hangs"), code: 3, err: `still runs after 300ms, and was ended`},
	})
	w.env = append(w.env, asProgram+"=plain")
	out, _, code := w.run("", doctor("--json")...)
	var findings []mooncore.Finding
	if err := json.Unmarshal([]byte(out), &findings); err != nil || code != 1 || len(findings) == 0 || findings[0].ID != "no_key" || strings.Count(out, "\n") != 1 {
		t.Errorf("%d, %v: %s", code, err, out)
	}
	w.env = append(w.env, asProgram+"=crash")
	if _, errOut, _ := w.run("", doctor()...); strings.Contains(errOut, "\x1b") {
		t.Errorf("what a program says controls the terminal: %q", errOut)
	}
}

// Ctrl-C ends doctor and what it runs, also a program that another one started, as "go run" does.
func TestDoctorInterrupted(t *testing.T) {
	w := newWorld(t)
	ready := filepath.Join(w.dir, "ready")
	w.env = append(w.env, asProgram+"=hangs", asReady+"="+ready)
	cmd := w.command(t.Context(), "doctor", "--", "sh", "-c", `"$0" & wait`, os.Args[0])
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	eventually(t, "the program runs", func() bool {
		text, err := os.ReadFile(ready)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(string(text))
		return err == nil
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its exit code is looked at
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d", code)
	}
	eventually(t, "the program ends", func() bool {
		p, err := os.FindProcess(pid)
		return err != nil || p.Signal(syscall.Signal(0)) != nil
	})
}
