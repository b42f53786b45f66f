package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/needs"
)

// Whoever reads only --help finds every command, with examples first, and every flag.
func TestHelp(t *testing.T) {
	w := newWorld(t)
	for _, args := range [][]string{{}, {"help"}, {"--help"}, {"-h"}} {
		out := w.must("", args...)
		for _, cmd := range commands() {
			if !strings.Contains(out, "\n  "+cmd.name+" ") {
				t.Errorf("mooncore %q does not list %s", args, cmd.name)
			}
		}
	}
	for _, cmd := range commands() {
		t.Run(cmd.name, func(t *testing.T) {
			words := strings.Fields(cmd.name)
			out := w.must("", append(slices.Clone(words), "--help")...)
			if other := w.must("", append([]string{"help"}, words...)...); other != out {
				t.Errorf("mooncore help %s says something else:\n%s", cmd.name, other)
			}
			examples, usage, flags := strings.Index(out, "\nExamples:\n"), strings.Index(out, "\nUsage:\n"), strings.Index(out, "\nFlags:\n")
			if examples < 0 || usage < examples || flags < usage {
				t.Errorf("examples, usage and flags do not follow one another:\n%s", out)
			}
			if !strings.Contains(out[examples:usage], "mooncore "+cmd.name) || !strings.Contains(out[flags:], "--json") {
				t.Errorf("got\n%s", out)
			}
			for line := range strings.Lines(out) {
				if len([]rune(line)) > 131 {
					t.Errorf("a long line: %s", line)
				}
			}
		})
	}
}

func TestVersion(t *testing.T) {
	newWorld(t).steps([]step{
		{name: "version", args: []string{"version"}, out: `^mooncore \S+ go1`},
		{name: "--version", args: []string{"--version"}, out: `^mooncore \S+ go1`},
	})
}

// Each flag in an example is one that the command has.
func TestExamplesHaveRealFlags(t *testing.T) {
	w := newWorld(t)
	flagsOf := map[string]string{}
	for _, cmd := range commands() {
		flagsOf[cmd.name] = w.must("", append(strings.Fields(cmd.name), "--help")...)
	}
	use := regexp.MustCompile(`mooncore (doctor|call|token make|token verify|keys \w+)([^|>)\n]*)`)
	for name, text := range flagsOf {
		examples, _, _ := strings.Cut(text, "\nUsage:")
		for _, m := range use.FindAllStringSubmatch(examples, -1) {
			mine, _, _ := strings.Cut(m[2], " -- ")
			for _, f := range regexp.MustCompile(`--[a-z-]+`).FindAllString(mine, -1) {
				if !strings.Contains(flagsOf[m[1]], "\n  "+f) {
					t.Errorf("%s: an example uses %s of %s, which it does not have", name, f, m[1])
				}
			}
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	w := newWorld(t)
	w.write("text", "x")
	w.write("list.json", "[1]")
	w.write("bad.env", "not a variable")
	token := strings.Repeat("a", 50) + "." + strings.Repeat("b", 50) + "." + strings.Repeat("c", 50)
	var steps []step
	for _, tt := range []struct{ args, want string }{
		{"tokne", `there is no command "tokne"`},
		{"help tokne", `there is no command "tokne"`},
		{"token", `which one\?\n  mooncore token make .*\n  mooncore token verify`},
		{"token mkae", `mooncore token has no "mkae": it has make, verify`},
		{"keys list", `it has generate, public, jwks, rotate`},
		{"call", `which action\?\nmooncore call --help`},
		{"call x --frobnicate", `there is no flag --frobnicate\nmooncore call --help shows how`},
		{"call x --token SECRET", `there is no flag --token: everybody on this machine can read a command line`},
		{"call x --timeout soon", `--timeout: parse error`},
		{"call x --timeout", `a value is missing: --timeout`},
		{"call x --timeout 0s", `--timeout: must be above 0`},
		{"call x --json=perhaps", `--json: parse error`},
		{"call x y", `"y" is neither NAME=text nor NAME:=JSON`},
		{"call x =y", `"=y" is neither`},
		{"call x y:={", `y: what follows := is no JSON`},
		{"call x y=1 y=2", `y is given twice`},
		{`call x {"a":`, `params: this is no JSON object`},
		{`call x {} y=1`, `"y=1" is too much`},
		{"call x @list.json", `list.json: this is no JSON object`},
		{"call x --events 3", `--events: a number above 0, with --follow`},
		{"call x --ws --file a=text", `--file goes over HTTP`},
		{"call --follow main --file a=text", `--file goes over HTTP`},
		{"call x --file text", `--file: "text" is not FIELD=PATH`},
		{"call x --file a=.", `--file: \. is no file`},
		{"call x --ws --request-id 1", `--request-id goes over HTTP`},
		{"call x - --token-file -", `the token or the params, not both`},
		{"call x --url ftp://localhost", `"ftp" is neither http nor https`},
		{"call x --url http://a:b@localhost", `a name and a password have no place`},
		{"call x --url http://", `is no URL`},
		{"doctor", `which program\?`},
		{"doctor --env bad.env -- x", `--env: line 1 of bad.env is not NAME=value`},
		{"token make", `--user is missing`},
		{"token make --user a", `no key: give --key FILE`},
		{"token make --user a extra", `"extra" is too much`},
		{"token make --user a --role b --key text", `--role needs --app-roles`},
		{"token make --user a --lifetime 1ms", `--lifetime: at least 1s`},
		{"token make --user a --claim b", `--claim: "b" is neither`},
		{"token make --user a --key text", `a public key signs nothing: give the private one`},
		{"token make --user a --key text --secret-file text", `exclude each other`},
		{"token make --user a --secret-file text", `JWT\.Secret: 1 bytes: at least 32`},
		{"token verify text text --key text", `one file at a time`},
		{"token verify " + token, `a token on the command line can be read by everybody`},
		{"token verify --key -", `the token or the key, not both`},
		{"token verify --key text", `there is no token in the input`},
		{"keys generate", `--out is missing`},
		{"keys generate --alg HS256 --out new.pem", `--alg: "HS256" is none of RS256, ES256, EdDSA`},
		{"keys public", `which file\?`},
		{"keys jwks text", `no PEM block`},
		{"keys rotate --key text", `--key, --out and --public are required`},
	} {
		steps = append(steps, step{name: tt.args, args: strings.Split(tt.args, " "), code: 2, err: `^mooncore: .*` + tt.want})
	}
	for _, tt := range []struct{ args, want string }{
		{"call x @missing", `open missing: no such file`},
		{"call x --token-file missing", `--token-file: open missing: no such file`},
		{"call x --file a=missing", `--file: open missing: no such file`},
		{"doctor --env missing -- x", `--env: open missing`},
		{"doctor -- ./missing", `\./missing does not start`},
		{"token make --user a --key missing", `--key: open missing`},
		{"token verify missing --key text", `open missing`},
		{"keys public missing", `open missing`},
		{"keys generate --alg ES256 --out missing/new.pem", `--out: open missing/new.pem`},
	} {
		steps = append(steps, step{name: tt.args, args: strings.Split(tt.args, " "), code: 3, err: `^mooncore: .*` + tt.want})
	}
	w.steps(steps)
	for _, s := range steps {
		if _, errOut, _ := w.run("", s.args...); strings.Contains(errOut, "SECRET") || strings.Contains(errOut, token) {
			t.Errorf("%q: the error tells the secret: %s", s.args, errOut)
		}
	}
}

// On a terminal there are colours, unless NO_COLOR is set; in a pipe there are none.
func TestColours(t *testing.T) {
	script := needs.Command(t, "script", "bsdutils")
	w := newWorld(t)
	for _, tt := range []struct {
		name    string
		env     []string
		colours bool
	}{
		{"terminal", []string{"TERM=xterm"}, true},
		{"NO_COLOR", []string{"TERM=xterm", "NO_COLOR=1"}, false},
		{"dumb", []string{"TERM=dumb"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := w.command(t.Context())
			cmd.Env = append(cmd.Env, tt.env...)
			cmd.Path, cmd.Args = script, []string{"script", "-qec", cmd.Args[0] + " nonsense", "/dev/null"}
			out, _ := cmd.CombinedOutput()
			if !strings.Contains(string(out), "there is no command") || strings.Contains(string(out), "\x1b[31m") != tt.colours {
				t.Errorf("got %q", out)
			}
		})
	}
	if _, errOut, _ := w.run("", "nonsense"); strings.Contains(errOut, "\x1b") {
		t.Errorf("in a pipe: %q", errOut)
	}
}
