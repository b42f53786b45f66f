package verify

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/opencontainers/go-digest"

	"github.com/mooncore/mooncore/internal/needs"
)

// An imageBuild is an image that was made without Docker: the steps of the Dockerfile, run by hand.
type imageBuild struct {
	root       string   // the directory with its files
	env        []string // of its processes
	workdir    string
	user       uint32
	entrypoint []string
	health     []string
}

// binary is the program in the image, as a file of this machine.
func (b *imageBuild) binary() string { return filepath.Join(b.root, b.entrypoint[0]) }

// buildDockerfile runs the steps of the Dockerfile below dir. This machine stands for the image that the build starts from: it has
// Go and the certificates of Debian. RUN runs here, with the paths of the build put below dir; cache mounts are the caches that this
// machine has.
func buildDockerfile(dir string) (*imageBuild, error) {
	stages, err := parseDockerfile()
	if err != nil {
		return nil, err
	}
	sources := filepath.Join(dir, "context")
	if err := copyContext(sources); err != nil {
		return nil, err
	}
	made := map[string]string{} // the directories of stages by name
	var b *imageBuild
	for i, stage := range stages {
		b = &imageBuild{root: filepath.Join(dir, "stage"+strconv.Itoa(i)), workdir: "/"}
		made[stage.Name] = b.root
		if err := os.Mkdir(b.root, 0o755); err != nil {
			return nil, err
		}
		for _, command := range stage.Commands {
			if err := b.do(command, sources, made); err != nil {
				return nil, fmt.Errorf("%v: %w", command, err)
			}
		}
	}
	return b, nil
}

func parseDockerfile() ([]instructions.Stage, error) {
	text, err := os.ReadFile(filepath.Join(deploy, "Dockerfile"))
	if err != nil {
		return nil, err
	}
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	return stages, err
}

// copyContext makes a clean copy of the repository as Docker would get it: what git knows or would take, less what
// Dockerfile.dockerignore names, and .git.
func copyContext(dir string) error {
	ignore, err := os.Open(filepath.Join(deploy, "Dockerfile.dockerignore"))
	if err != nil {
		return err
	}
	defer ignore.Close()
	patterns, err := ignorefile.ReadAll(ignore)
	if err != nil {
		return err
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		return err
	}
	if out, err := exec.Command("git", "clone", "--quiet", "--no-checkout", "--shared", root, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("git clone: %w\n%s", err, out)
	}
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		skip, err := ignored.MatchesOrParentMatches(name)
		if err != nil {
			return err
		}
		if skip {
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			return err
		}
		target := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (b *imageBuild) do(command instructions.Command, sources string, made map[string]string) error {
	switch c := command.(type) {
	case *instructions.WorkdirCommand:
		b.workdir = c.Path
		return os.MkdirAll(b.path(c.Path), 0o755)
	case *instructions.EnvCommand:
		for _, v := range c.Env {
			b.env = append(b.env, v.Key+"="+v.Value)
		}
	case *instructions.CopyCommand:
		from := sources
		if c.From != "" {
			var ok bool
			if from, ok = made[c.From]; !ok {
				return fmt.Errorf("there is no stage %q", c.From)
			}
		}
		for _, source := range c.SourcePaths {
			if err := b.copy(filepath.Join(from, source), c.DestPath, c.Chown); err != nil {
				return err
			}
		}
	case *instructions.RunCommand:
		script := strings.Join(c.CmdLine, " ")
		script = strings.ReplaceAll(script, "/out/", b.root+"/out/")
		run := exec.Command("sh", "-ec", script)
		run.Dir = b.path(b.workdir)
		run.Env = append(os.Environ(), b.env...)
		if out, err := run.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
	case *instructions.UserCommand:
		uid, _, _ := strings.Cut(c.User, ":")
		n, err := strconv.ParseUint(uid, 10, 32)
		b.user = uint32(n)
		return err
	case *instructions.EntrypointCommand:
		b.entrypoint = c.CmdLine
	case *instructions.HealthCheckCommand:
		b.health = c.Health.Test
	case *instructions.ExposeCommand:
	default:
		return fmt.Errorf("this test does not know %s", command.Name())
	}
	return nil
}

// path is where a path of the image is on this machine.
func (b *imageBuild) path(name string) string {
	if !filepath.IsAbs(name) {
		name = filepath.Join(b.workdir, name)
	}
	return filepath.Join(b.root, name)
}

// copy copies as COPY does. What a stage has not made is taken from this machine, which stands for the image it starts from.
func (b *imageBuild) copy(from, to, chown string) error {
	if _, err := os.Stat(from); os.IsNotExist(err) {
		if _, below, ok := strings.Cut(from, "stage0"); ok {
			from = below
		}
	}
	target := b.path(to)
	if strings.HasSuffix(to, "/") {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		from += "/."
	}
	if out, err := exec.Command("cp", "-R", from, target).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w\n%s", err, out)
	}
	if chown != "" && os.Geteuid() == 0 {
		if out, err := exec.Command("chown", "-R", chown, target).CombinedOutput(); err != nil {
			return fmt.Errorf("chown: %w\n%s", err, out)
		}
	}
	return nil
}

// command is a process in the image: its root directory is the image's, and it has its user and its environment alone.
func (b *imageBuild) command(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = b.workdir, slices.Concat(b.env, env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: b.root, Credential: &syscall.Credential{Uid: b.user, Gid: b.user}}
	return cmd
}

func TestTheImageRunsInAnEmptyRoot(t *testing.T) {
	b := buildImage(t)
	if os.Geteuid() != 0 {
		needs.Missing(t, "only root can change the root directory of a process")
	}
	var names []string
	err := filepath.WalkDir(b.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, b.root))
		}
		return err
	})
	if want := []string{"/etc/ssl/certs/ca-certificates.crt", "/production"}; err != nil || !slices.Equal(names, want) {
		t.Fatalf("the image holds %q, want %q (%v)", names, want, err)
	}

	out, err := b.command(nil, b.entrypoint[0], "--version").CombinedOutput()
	commit, gitErr := exec.Command("git", "-C", root, "rev-parse", "HEAD").Output()
	if err != nil || gitErr != nil || !strings.Contains(string(out), "commit "+strings.TrimSpace(string(commit))) {
		t.Errorf("its version is %s (%v), want the commit %s (%v)", out, err, commit, gitErr)
	}
	if program, err := os.ReadFile(b.binary()); err != nil || bytes.Contains(program, []byte(b.root)) {
		t.Errorf("the binary tells where it was built (%v)", err)
	}

	// It serves, with nothing but a key; its own health check is what Docker would ask.
	port := freeport.Port(t)
	env := []string{"PORT=" + port, "JWT_PRIVATE_KEY=" + newKey(t)}
	if out, err := b.command(env, b.health[1:]...).CombinedOutput(); err == nil || b.health[0] != "CMD" {
		t.Errorf("%q passes without a server: %s", b.health, out)
	}
	var log bytes.Buffer
	server := b.command(env, b.entrypoint...)
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Process.Kill()
	awaitReady(t, "http://127.0.0.1:"+port, &log)
	if out, err := b.command(env, b.health[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%q fails: %v\n%s", b.health, err, out)
	}
	if _, err := os.Stat(filepath.Join(b.root, "data/tasks.db")); err != nil {
		t.Error(err)
	}
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("it did not stop cleanly: %v\n%s", err, &log)
	}
	var stopping struct {
		Msg     string
		Timeout time.Duration
	}
	for line := range bytes.Lines(log.Bytes()) {
		if err := json.Unmarshal(line, &stopping); err == nil && stopping.Msg == "stopping" {
			break
		}
	}
	if stopping.Timeout != drain {
		t.Errorf("it stops within %v; the files in deploy allow for %v", stopping.Timeout, drain)
	}
}

func TestTheBinaryIsStatic(t *testing.T) {
	file, err := elf.Open(buildImage(t).binary())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary has %v: it wants a loader", p.Type)
		}
	}
}

// awaitReady waits until a server is ready.
func awaitReady(t *testing.T, base string, log fmt.Stringer) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) { // real time: a process starts
		if resp, err := http.Get(base + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				http.DefaultClient.CloseIdleConnections()
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not ready after 30 s:\n%s", base, log)
		}
	}
}

// TestDockerfileLint does what docker build --check does, without the registry.
func TestDockerfileLint(t *testing.T) {
	lint := func(text string) (problems []string) {
		source := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", []byte(text))
		source.Definition = new(llb.Definition)
		results, err := dockerfile2llb.DockerfileLint(t.Context(), []byte(text), dockerfile2llb.ConvertOpt{
			SourceMap: source, MetaResolver: noRegistry{},
		})
		if err != nil {
			t.Fatal(err)
		}
		if results.Error != nil {
			problems = append(problems, results.Error.Message)
		}
		for _, w := range results.Warnings {
			problems = append(problems, w.RuleName+": "+w.Detail)
		}
		return problems
	}
	text := readFile(t, "Dockerfile")
	if problems := lint(text); len(problems) > 0 {
		t.Errorf("%q", problems)
	}
	for bad, rule := range map[string]string{
		replace(t, text, "AS build", "as Build", "--from=build", "--from=Build"):          "StageNameCasing",
		replace(t, text, `ENTRYPOINT ["/production"]`, "ENTRYPOINT /production"):          "JSONArgsRecommended",
		replace(t, text, "ENV MOONCORE_ENV=production", "ENV SECRET_KEY_BASE=abc A=b"):    "SecretsUsedInArgOrEnv",
		replace(t, text, "USER 65532:65532\n", "USER 65532:65532\nENTRYPOINT [\"/x\"]\n"): "MultipleInstructionsDisallowed",
	} {
		if problems := lint(bad); !strings.Contains(strings.Join(problems, "\n"), rule) {
			t.Errorf("%q, want %s among them, for:\n%s", problems, rule, bad)
		}
	}
}

// noRegistry answers for any image that it has no configuration.
type noRegistry struct{}

func (noRegistry) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, "", []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"},"config":{}}`), nil
}
