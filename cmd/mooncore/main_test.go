package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/leaktest"
)

// Variables that make the test's binary something else: the command, or a program that doctor examines.
const (
	asCommand = "MOONCORE_CLI_TEST"
	asProgram = "MOONCORE_CLI_PROGRAM"
	asReady   = "MOONCORE_CLI_READY" // the file that a program writes its process id into
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(asProgram); kind != "" && os.Getenv(asCommand) == "" {
		os.Exit(program(kind))
	}
	if os.Getenv(asCommand) != "" {
		os.Unsetenv(asCommand) // what it starts is no command
		main()
	}
	leaktest.Main(m)
}

// program is one that doctor examines.
func program(kind string) int {
	cfg := mooncore.Config{Routers: []mooncore.Router{{}}}
	switch kind {
	case "chatty":
		fmt.Println("[starting] connecting to the database")
		fmt.Println(`[{"id":"no finding"}]`)
	case "chatty at the end":
		_ = mooncore.Run(cfg)
		fmt.Println("[]")
		fmt.Println(`[{"id":"no finding","severity":"none"}]`)
		return 0
	case "empty":
		fmt.Println("[]")
		return 7
	case "silent":
		return 0
	case "crash":
		fmt.Fprintln(os.Stderr, "panic: \x1b[31mno database\x1b[0m")
		return 7
	case "hangs":
		if ready := os.Getenv(asReady); ready != "" {
			if err := os.WriteFile(ready, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
				return 1
			}
		}
		time.Sleep(time.Hour) // real time: doctor ends it
	case "clean":
		cfg.Checks = map[string]func(context.Context) error{"database": func(context.Context) error { return nil }}
		cfg.Hosts = []string{"example.com"}
	}
	if err := mooncore.Run(cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// A world is a directory, with a server beside it, in which the command runs.
type world struct {
	t   testing.TB
	dir string
	env []string
	srv *mooncore.Server
	url string
}

var discard = slog.New(slog.DiscardHandler)

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.env = append(withoutSettings(os.Environ()), asCommand+"=1", "GORACE=atexit_sleep_ms=0")
	return w
}

// withoutSettings leaves out what would change what is tested.
func withoutSettings(env []string) (kept []string) {
	for _, v := range env {
		if !regexp.MustCompile(`^(JWT_|MOONCORE_|NO_COLOR=|PORT=|HOST=|LOG_LEVEL=|CORS_)`).MatchString(v) {
			kept = append(kept, v)
		}
	}
	return kept
}

func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	return cmd
}

// run runs the command.
func (w *world) run(stdin string, args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	cmd := w.command(ctx, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			w.t.Fatal(err)
		}
		code = exit.ExitCode()
	}
	return out.String(), errOut.String(), code
}

// must runs the command, which must succeed.
func (w *world) must(stdin string, args ...string) string {
	w.t.Helper()
	out, errOut, code := w.run(stdin, args...)
	if code != 0 {
		w.t.Fatalf("mooncore %q: %d\n%s", args, code, errOut)
	}
	return out
}

func (w *world) write(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) read(name string) string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// eventually waits for something that another process does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) { // real time: a process is waited for
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in 20 s", what)
		}
	}
}

// A step is one use of the command: what must come out, as regular expressions ("" is nothing), and its exit code.
type step struct {
	name     string
	args     []string
	stdin    string
	env      []string
	code     int
	out, err string
}

func (w *world) steps(steps []step) {
	for _, s := range steps {
		w.t.(*testing.T).Run(s.name, func(t *testing.T) {
			here := *w
			here.t, here.env = t, append(slices.Clip(w.env), s.env...)
			out, errOut, code := here.run(s.stdin, s.args...)
			if code != s.code {
				t.Errorf("exit code %d, want %d", code, s.code)
			}
			for _, got := range []struct{ what, text, want string }{{"standard output", out, s.out}, {"standard error", errOut, s.err}} {
				if got.want == "" && got.text != "" || !regexp.MustCompile("(?s)"+got.want).MatchString(got.text) {
					t.Errorf("%s:\n%s\nwant %s", got.what, got.text, got.want)
				}
			}
		})
	}
}

// serve starts a server that takes tokens of private.pem, and names it in MOONCORE_URL.
func (w *world) serve() {
	w.t.Helper()
	w.must("", "keys", "generate", "--alg", "ES256", "--out", "private.pem")
	srv, err := mooncore.New(mooncore.Config{
		Logger: discard, Development: true,
		JWT:     mooncore.JWTConfig{PrivateKey: mooncore.Secret(w.read("private.pem"))},
		Routers: []mooncore.Router{{Roles: []string{"admin", "channel_news"}, Actions: actions()}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	h := httptest.NewServer(srv)
	w.t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			w.t.Error(err)
		}
		h.Close()
	})
	w.srv, w.url = srv, h.URL
	w.env = append(w.env, "MOONCORE_URL="+h.URL)
}

func actions() []mooncore.Action {
	return []mooncore.Action{
		{Name: "echo", Allow: mooncore.Public, Handler: mooncore.Func(func(_ context.Context, in json.RawMessage) (json.RawMessage, error) { return in, nil })},
		{Name: "whoami", Allow: mooncore.Authenticated, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (string, error) {
			return mooncore.RequestFrom(ctx).Identity.User, nil
		})},
		{Name: "valid", Allow: mooncore.Public, Handler: mooncore.Func(func(_ context.Context, in struct {
			Title string `json:"title" validate:"required"`
			Count int    `json:"count" validate:"max=3"`
		}) (int, error) {
			return in.Count, nil
		})},
		{Name: "broken", Allow: mooncore.Public, Handler: mooncore.Func(func(context.Context, struct{}) (any, error) { return nil, io.ErrUnexpectedEOF })},
		{Name: "taken", Allow: mooncore.Public, Handler: mooncore.Func(func(context.Context, struct{}) (any, error) {
			return nil, mooncore.Errorf(mooncore.CodeAlreadyExists, "taken by \x1b[31mnobody")
		})},
		{Name: "big", Allow: mooncore.Public, Handler: mooncore.Func(func(context.Context, struct{}) (json.RawMessage, error) {
			return json.RawMessage(`12345678901234567890.10`), nil
		})},
		{Name: "stuck", Allow: mooncore.Public, Handler: mooncore.Func(func(ctx context.Context, _ struct{}) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})},
		{Name: "say", Allow: mooncore.Authenticated, Handler: mooncore.Func(func(ctx context.Context, in struct{ Text string }) (int, error) {
			tenant := mooncore.RequestFrom(ctx).Tenant()
			for i := range 3 {
				if err := tenant.Publish(ctx, "said", map[string]any{"text": in.Text, "n": i}, mooncore.ToChannel("main")); err != nil {
					return 0, err
				}
			}
			return 3, nil
		})},
		{Name: "upload", Allow: mooncore.Public, MaxBytes: 8 << 20, Handler: mooncore.Func(func(ctx context.Context, in json.RawMessage) (any, error) {
			files := []map[string]any{}
			for _, f := range mooncore.RequestFrom(ctx).Files {
				r, err := f.Open()
				if err != nil {
					return nil, err
				}
				sum := sha256.New()
				n, err := io.Copy(sum, r)
				if err := errors.Join(err, r.Close()); err != nil {
					return nil, err
				}
				files = append(files, map[string]any{"field": f.Field, "name": f.Name, "type": f.Type, "size": n, "sum": hex.EncodeToString(sum.Sum(nil))})
			}
			return map[string]any{"params": in, "files": files}, nil
		})},
	}
}
