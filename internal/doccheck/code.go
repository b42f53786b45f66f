//go:build unix

package main

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// prelude declares what statements in documents may use.
const prelude = `(
	t *testing.T,
	ctx context.Context,
	cfg mooncore.Config,
	srv *mooncore.Server,
	req *mooncore.Request,
	tenant mooncore.Tenant,
	conn *mooncore.Conn,
	mux *http.ServeMux,
	w http.ResponseWriter,
	r *http.Request,
)`

// imports are the packages that code may use without importing them.
var imports = map[string]string{
	"cmp": "cmp", "context": "context", "errors": "errors", "fmt": "fmt", "io": "io", "json": "encoding/json", "log": "log",
	"http": "net/http", "netip": "net/netip", "os": "os", "slices": "slices", "slog": "log/slog", "sql": "database/sql",
	"strings": "strings", "synctest": "testing/synctest", "testing": "testing", "time": "time", "tls": "crypto/tls",
	"embedded":     "github.com/mooncore/mooncore/pubsub/natsbroker/embedded",
	"mooncore":     "github.com/mooncore/mooncore",
	"mooncoretest": "github.com/mooncore/mooncore/mooncoretest",
	"devtools":     "github.com/mooncore/mooncore/devtools",
	"mcpserver":    "github.com/mooncore/mooncore/mcpserver",
	"metrics":      "github.com/mooncore/mooncore/metrics",
	"natsbroker":   "github.com/mooncore/mooncore/pubsub/natsbroker",
	"otelmooncore": "github.com/mooncore/mooncore/otelmooncore",
	"redisbroker":  "github.com/mooncore/mooncore/pubsub/redisbroker",

	"nats":          "github.com/nats-io/nats.go",
	"otlptracehttp": "go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp",
	"prometheus":    "github.com/prometheus/client_golang/prometheus",
	"sdktrace":      "go.opentelemetry.io/otel/sdk/trace",
}

// modules are the directories of the modules, beside the root's, that code may import.
var modules = []string{
	"devtools", "mcpserver", "metrics", "otelmooncore", "pubsub/natsbroker", "pubsub/natsbroker/embedded", "pubsub/redisbroker",
}

// checkCode compiles the Go code of documents in a module of its own, and runs its tests.
func checkCode(root, dir string, docs []*document) (faults []string) {
	fail := func(err error) []string { return append(faults, err.Error()) }
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fail(err)
	}
	if err := writeModule(root, dir); err != nil {
		return fail(err)
	}
	for _, d := range docs {
		var fragments bytes.Buffer
		programs := 0
		for i := range d.blocks {
			b := &d.blocks[i]
			if b.language != "go" || b.directive == "skip" {
				continue
			}
			if !strings.HasPrefix(b.code, "package ") && !strings.HasPrefix(b.code, "// ") {
				writeFragment(&fragments, b)
				continue
			}
			programs++
			b.program = filepath.Join(dir, fmt.Sprintf("%s_%d", packageName(d.name), programs))
			if err := writeProgram(b); err != nil {
				return fail(err)
			}
		}
		if err := writeFragments(filepath.Join(dir, packageName(d.name)), fragments.String()); err != nil {
			return fail(err)
		}
	}
	// Fragments don't use all that they import and declare. Only errors of types show with -e, and no others follow from them.
	unused := regexp.MustCompile(`declared and not used|imported and not used|is not used$|^#|too many errors`)
	for _, line := range goCommand(dir, "build", "-o", os.DevNull, "-gcflags=-e", "./...") {
		if !unused.MatchString(line) {
			faults = append(faults, line)
		}
	}
	programs, err := filepath.Glob(filepath.Join(dir, "*_[0-9]*"))
	if err != nil || len(programs) == 0 {
		return faults
	}
	for i := range programs {
		programs[i] = "./" + filepath.Base(programs[i])
	}
	return append(faults, goCommand(dir, append([]string{"test"}, programs...)...)...)
}

// ownModule is the environment of the go command for the module that writeModule makes.
var ownModule = []string{"GOWORK=off", "GOFLAGS=-mod=mod"}

func packageName(doc string) string {
	name := strings.TrimSuffix(filepath.ToSlash(doc), ".md")
	return strings.ToLower(regexp.MustCompile(`\W`).ReplaceAllString(name, ""))
}

// writeModule makes a module that has what the root has, the root, and the modules.
func writeModule(root, dir string) error {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(regexp.MustCompile(`(?m)^module .*$`).ReplaceAllString(string(mod), "module example.com/docs"))
	var sums []byte
	for _, m := range append([]string{""}, modules...) {
		path := strings.TrimSuffix("github.com/mooncore/mooncore/"+m, "/")
		fmt.Fprintf(&b, "\nrequire %s v0.0.0\nreplace %s => %s\n", path, path, filepath.Join(root, m))
		sum, err := os.ReadFile(filepath.Join(root, m, "go.sum"))
		if err != nil {
			return err
		}
		sums = append(sums, sum...)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644)
}

func writeProgram(b *block) error {
	if err := os.Mkdir(b.program, 0o755); err != nil {
		return err
	}
	name := "code.go"
	if strings.Contains(b.code, `"testing"`) {
		name = "code_test.go"
	}
	return os.WriteFile(filepath.Join(b.program, name), []byte(lineDirective(b)+b.code), 0o644)
}

func lineDirective(b *block) string { return fmt.Sprintf("//line %s:%d\n", b.doc, b.line) }

// writeFragment writes code that is a part of a program: declarations as they are, statements in a function.
func writeFragment(buf *bytes.Buffer, b *block) {
	code := lineDirective(b) + b.code
	if _, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+b.code, parser.SkipObjectResolution); err == nil {
		buf.WriteString(code + "\n")
		return
	}
	// A fragment may return any number of values: the function's result is not checked when it ends in a panic.
	result := ""
	if m := regexp.MustCompile(`(?m)^\s*return (.+)$`).FindStringSubmatch(b.code); m != nil {
		result = "error"
		if strings.Contains(m[1], ", ") && !strings.Contains(m[1], "(") {
			result = "(any, error)"
		}
		code += "panic(0)\n"
	}
	fmt.Fprintf(buf, "func _%s %s {\n%s}\n", strings.ReplaceAll(prelude, "\n", " "), result, code)
}

func writeFragments(dir, code string) error {
	if code == "" {
		return nil
	}
	var text strings.Builder
	text.WriteString("package fragments\n\nimport (\n")
	needed := map[string]bool{"context": true, "mooncore": true, "http": true, "testing": true}
	for name := range imports {
		if regexp.MustCompile(`\b` + name + `\.[A-Z]`).MatchString(code) {
			needed[name] = true
		}
	}
	paths := []string{}
	for name := range needed {
		paths = append(paths, fmt.Sprintf("%s %q", name, imports[name]))
	}
	slices.Sort(paths)
	for _, path := range paths {
		fmt.Fprintf(&text, "\t%s\n", path)
	}
	text.WriteString(")\n\n" + code)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "fragments.go"), []byte(text.String()), 0o644)
}

// goCommand runs the go command and returns the lines of a failure.
func goCommand(dir string, args ...string) []string {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), ownModule...)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	return append(strings.Split(strings.TrimSpace(string(out)), "\n"), "# go "+strings.Join(args, " "))
}
