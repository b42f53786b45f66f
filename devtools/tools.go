package devtools

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore"
)

// tools are the developer tools of one server. Methods that answer a question are shared by the dashboard and the MCP server.
type tools struct {
	srv     *mooncore.Server
	cfg     Config
	server  mooncore.Config // in effect
	log     *slog.Logger
	url     string // of the listener, with a slash at its end; empty when mounted
	started time.Time
	build   buildInfo

	auth   *auth
	guard  guard
	rec    *recorder
	sample *sampler
	loop   *loop
	guides *guides
	pages  *pages
	agents *agentServer
	mux    http.Handler

	profiles sync.Map // kinds that are being taken
	consoles sync.Mutex
	streams  atomic.Int64
}

func newTools(srv *mooncore.Server, cfg Config, auth *auth, url string) (*tools, error) {
	server := srv.Config()
	t := &tools{
		srv: srv, cfg: cfg, server: server, log: server.Logger, url: url, started: time.Now(), build: readBuild(), auth: auth,
		guard: guard{peers: cfg.Peers, hosts: cfg.Hosts},
	}
	logBytes := cfg.LogBytes
	switch {
	case logBytes == 0:
		logBytes = 16 << 20
	case logBytes < 1<<20:
		return nil, errors.New("devtools: LogBytes: it is less than 1 MiB")
	}
	t.rec = newRecorder(server.Routers, logBytes, newRedactor(cfg.Redact))
	t.sample = newSampler(&t.rec.counts, srv.Stats)
	t.loop = newLoop(srv, server.Hosts)
	var err error
	if t.guides, err = openGuides(cfg.Guides); err != nil {
		return nil, err
	}
	if t.pages, err = newPages(cfg.Pages, t.rec.redact, t.log); err != nil {
		return nil, errors.Join(err, t.guides.close())
	}
	if t.agents, err = newAgentServer(t); err != nil {
		t.pages.close()
		return nil, errors.Join(err, t.guides.close())
	}
	t.mux = t.routes()
	auth.onUse = t.announce
	srv.Observe(t.rec)
	return t, nil
}

// announce logs how to log in.
func (t *tools) announce() {
	level := slog.LevelInfo
	if !t.log.Enabled(context.Background(), level) {
		level = slog.LevelWarn // or nobody could
	}
	attrs := []any{"url", t.url}
	if t.url == "" {
		attrs = nil
	}
	if link := t.auth.linkToken(); link != "" {
		attrs = []any{"open once", t.url + "login?token=" + link}
	}
	t.log.Log(context.Background(), level, "developer tools", attrs...)
}

// work does what goes on in the background, until ctx ends.
func (t *tools) work(ctx context.Context) {
	defer t.close()
	if ctx.Err() != nil { // New failed
		return
	}
	t.announce()
	t.announceMCP()
	var background sync.WaitGroup
	defer background.Wait()
	background.Go(func() { t.loop.serve(ctx) })
	t.pages.run(ctx, &background)
	for tick := time.Tick(time.Second); ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick:
			t.sample.sample(now)
			t.rec.unwatch(now)
		}
	}
}

// close frees what newTools opened.
func (t *tools) close() {
	t.agents.close()
	t.pages.close()
	if err := t.guides.close(); err != nil {
		t.log.Error("developer tools: the directory of guides was not closed", "cause", err)
	}
}

// A buildInfo is what the program was built of.
type buildInfo struct {
	Path         string       `json:"path"`
	Version      string       `json:"version,omitempty"`
	Revision     string       `json:"revision,omitempty"`
	Time         string       `json:"time,omitempty"`
	Modified     bool         `json:"modified,omitempty"`
	Dependencies []dependency `json:"dependencies,omitempty"`

	mooncore string // its version
}

type dependency struct {
	Path    string `json:"path"`
	Version string `json:"version"`
}

const module = "github.com/mooncore/mooncore"

func readBuild() buildInfo {
	b := buildInfo{mooncore: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Path, b.Version = info.Path, info.Main.Version
	if info.Main.Path == module {
		b.mooncore = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.time":
			b.Time = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	for _, dep := range info.Deps {
		b.Dependencies = append(b.Dependencies, dependency{dep.Path, dep.Version})
		if dep.Path == module {
			b.mooncore = dep.Version
		}
	}
	return b
}

// program is the program's name, for a title.
func (b *buildInfo) program() string {
	if name := filepath.Base(b.Path); b.Path != "" && b.Path != "command-line-arguments" {
		return name
	}
	return filepath.Base(os.Args[0])
}
