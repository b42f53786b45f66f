package devtools

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mooncore/mooncore"
)

// Endpoints of the overview, the catalogue, the runner, the log and the tools. The contract is ui/src/api.ts.

func (t *tools) getSession(r *http.Request) (any, error) {
	s, _ := t.auth.session(r)
	return map[string]any{
		"csrf": s.csrf, "expires": s.expires.UnixMilli(), "program": t.build.program(), "environment": t.environment(),
		"features": map[string]bool{"guides": t.guides != nil, "pages": len(t.pages.list) > 0, "console": true},
	}, nil
}

func (t *tools) environment() string {
	if t.server.Development {
		return "development"
	}
	return "production"
}

// programInfo is what the program is and where it runs.
type programInfo struct {
	Started    int64           `json:"started"`
	Now        int64           `json:"now"`
	PID        int             `json:"pid"`
	URL        string          `json:"url"`
	Mooncore   string          `json:"mooncore"`
	Go         string          `json:"go"`
	OS         string          `json:"os"`
	Arch       string          `json:"arch"`
	GOMAXPROCS int             `json:"gomaxprocs"`
	Build      buildInfo       `json:"build"`
	Pools      []string        `json:"pools"`
	MCP        string          `json:"mcp_url,omitempty"`
	Health     json.RawMessage `json:"health,omitempty"`
}

func (t *tools) getInfo(r *http.Request) (any, error) { return t.info(r.Context()), nil }

func (t *tools) info(ctx context.Context) programInfo {
	return programInfo{
		Started: t.started.UnixMilli(), Now: time.Now().UnixMilli(), PID: os.Getpid(), URL: t.programURL(), Mooncore: t.build.mooncore,
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, GOMAXPROCS: runtime.GOMAXPROCS(0), Build: t.build,
		Pools: t.server.Pools, MCP: t.mcpURL(), Health: t.health(ctx),
	}
}

// programURL is where the program listens, "" if it does not do so itself.
func (t *tools) programURL() string {
	addr := t.srv.Addr()
	if addr == nil {
		return ""
	}
	scheme := "http://"
	if t.server.TLS != nil {
		scheme = "https://"
	}
	text := addr.String()
	for _, all := range []string{"[::]:", "0.0.0.0:"} {
		if port, ok := strings.CutPrefix(text, all); ok {
			text = "127.0.0.1:" + port
		}
	}
	return scheme + text
}

// health is the answer of /readyz.
func (t *tools) health(ctx context.Context) json.RawMessage {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/readyz", http.NoBody)
	if err != nil {
		return nil
	}
	w := &memoryWriter{header: http.Header{}}
	t.srv.ServeHTTP(w, r)
	if !json.Valid(w.body) {
		return nil
	}
	return w.body
}

// A memoryWriter keeps an answer.
type memoryWriter struct {
	header http.Header
	status int
	body   []byte
}

func (w *memoryWriter) Header() http.Header { return w.header }

func (w *memoryWriter) WriteHeader(status int) { w.status = status }

func (w *memoryWriter) Write(b []byte) (int, error) {
	w.body = append(w.body, b...)
	return len(b), nil
}

func (t *tools) getMetrics(r *http.Request) (any, error) {
	window, err := intParam(r.URL.Query(), "window", historyLength, 60, historyLength)
	if err != nil {
		return nil, err
	}
	step, points := t.sample.history(window)
	columns := map[string][]any{}
	for _, name := range []string{
		"time", "calls", "errors", "p50_ms", "p95_ms", "p99_ms", "conns", "frames_in", "frames_out", "events", "heap_bytes", "memory_bytes",
		"goroutines", "gc", "gc_pause_ms",
	} {
		columns[name] = make([]any, 0, len(points))
	}
	for i := range points {
		p := &points[i]
		for name, v := range map[string]any{
			"time": p.Time, "calls": p.Calls, "errors": p.Errors, "p50_ms": p.P50, "p95_ms": p.P95, "p99_ms": p.P99, "conns": p.Conns,
			"frames_in": p.FramesIn, "frames_out": p.FramesOut, "events": p.Events, "heap_bytes": p.Heap, "memory_bytes": p.Memory,
			"goroutines": p.Goroutines, "gc": p.GC, "gc_pause_ms": p.GCPause,
		} {
			columns[name] = append(columns[name], v)
		}
		if p.CPU != nil {
			columns["cpu"] = append(columns["cpu"], p.CPU)
		}
	}
	counts := &t.rec.counts
	return map[string]any{
		"step_s": step, "points": columns,
		"totals": map[string]uint64{"calls": counts.calls.Load(), "errors": counts.errors.Load(), "conns": counts.conns.Load()},
	}, nil
}

func (t *tools) getSettings(*http.Request) (any, error) {
	return map[string][]mooncore.Setting{"settings": t.srv.Settings()}, nil
}

func (t *tools) getDoctor(r *http.Request) (any, error) { return t.doctor(r.Context(), struct{}{}) }

// An appView is an app's catalogue.
type appView struct {
	App      string        `json:"app"`
	Roles    []string      `json:"roles"`
	Channels []channelView `json:"channels,omitempty"`
	Actions  []actionView  `json:"actions"`
}

type channelView struct {
	Name   string     `json:"name"`
	Access accessView `json:"access"`
}

type accessView struct {
	Kind  string   `json:"kind"`
	Roles []string `json:"roles,omitempty"`
}

// accessOf takes Access apart, whose text it is.
func accessOf(a mooncore.Access) accessView {
	kind, roles, ok := strings.Cut(a.String(), ": ")
	if !ok {
		return accessView{Kind: kind}
	}
	return accessView{kind, strings.Split(roles, ", ")}
}

type actionView struct {
	Name        string            `json:"name"`
	Access      accessView        `json:"access"`
	Description string            `json:"description,omitempty"`
	ReadOnly    bool              `json:"read_only"`
	Timeout     float64           `json:"timeout_ms"`
	MaxBytes    int64             `json:"max_bytes"`
	Limits      map[string]string `json:"limits,omitempty"`
	Override    []string          `json:"override,omitempty"`
	Tool        bool              `json:"tool,omitempty"`
	Schema      json.RawMessage   `json:"schema,omitempty"`
	Output      json.RawMessage   `json:"output,omitempty"`
	Stats       *statsView        `json:"stats,omitempty"`
}

type statsView struct {
	Calls  uint64   `json:"calls"`
	Errors uint64   `json:"errors"`
	P50    *float64 `json:"p50_ms"`
	P99    *float64 `json:"p99_ms"`
	Last   int64    `json:"last,omitempty"`
}

func (t *tools) getActions(*http.Request) (any, error) {
	return map[string][]appView{"apps": t.apps()}, nil
}

// apps are the catalogues of all apps.
func (t *tools) apps() []appView {
	apps := []appView{}
	for i := range t.server.Routers {
		router := &t.server.Routers[i]
		app := appView{App: router.App, Roles: append([]string{}, router.Roles...), Actions: []actionView{}}
		for _, ch := range router.Channels {
			app.Channels = append(app.Channels, channelView{ch.Name, accessOf(ch.Allow)})
		}
		for _, action := range t.srv.Actions(router.App) {
			app.Actions = append(app.Actions, t.actionView(router.App, &action))
		}
		apps = append(apps, app)
	}
	return apps
}

func (t *tools) actionView(app string, a *mooncore.Action) actionView {
	v := actionView{
		Name: a.Name, Access: accessOf(a.Allow), Description: a.Description, ReadOnly: a.ReadOnly,
		Timeout: milliseconds(max(cmp.Or(a.Timeout, t.server.Limits.Timeout), 0)), MaxBytes: max(cmp.Or(a.MaxBytes, t.server.Limits.MaxBytes), 0),
		Override: sortedKeys(a.Override), Tool: a.Tool, Limits: limitsOf(a), Schema: a.Handler.InputSchema(), Output: a.Handler.OutputSchema(),
	}
	if string(v.Output) == "{}" {
		v.Output = nil
	}
	stats := t.rec.actions[app][a.Name]
	if stats == nil {
		return v
	}
	s := &statsView{Calls: stats.calls.Load(), Errors: stats.errors.Load(), Last: stats.last.Load()}
	if s.Calls > 0 {
		latency := stats.latency.snapshot()
		s.P50, s.P99 = percentileMS(&latency, 50), percentileMS(&latency, 99)
	}
	v.Stats = s
	return v
}

// limitsOf are the policies of an action that have no field of their own, for people.
func limitsOf(a *mooncore.Action) map[string]string {
	limits := map[string]string{}
	if rate := a.Rate.String(); rate != "" {
		limits["Rate"] = rate
	}
	if a.Concurrency > 0 {
		limits["Concurrency"] = strconv.Itoa(a.Concurrency) + " at a time"
	}
	if a.Idempotency > 0 {
		limits["Idempotency"] = "outcomes are kept for " + a.Idempotency.String()
	}
	return limits
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (t *tools) postRun(r *http.Request) (any, error) {
	in, err := readBody[runRequest](r)
	if err != nil {
		return nil, err
	}
	return t.run(r.Context(), in, viaDashboard)
}

// Who makes a call that no client made.
const (
	viaDashboard = "dashboard"
	viaMCP       = "mcp"
)

// A logPage is calls that match a query, newest first.
type logPage struct {
	Entries   []callSummary `json:"entries"`
	More      bool          `json:"more"`
	Kept      int           `json:"kept"`
	KeptBytes int           `json:"kept_bytes"`
	MaxBytes  int           `json:"max_bytes"`
}

// A logQuery is what entries must match.
type logQuery struct {
	is           map[string]string // fields by name
	codes        []string
	text         string // in lower case
	least        time.Duration
	since, until int64 // Unix milliseconds
	before       uint64
	limit        int
}

func parseLogQuery(query url.Values) (*logQuery, error) {
	q := &logQuery{is: map[string]string{}, text: strings.ToLower(query.Get("text"))}
	for _, name := range []string{"app", "action", "user", "tenant", "source", "via", "conn", "request_id"} {
		if query.Has(name) {
			q.is[name] = query.Get(name)
		}
	}
	if codes := query.Get("code"); codes != "" {
		q.codes = strings.Split(codes, ",")
	}
	var err error
	if q.limit, err = intParam(query, "limit", 200, 1, 1000); err != nil {
		return nil, err
	}
	if text := query.Get("min_ms"); text != "" {
		ms, err := strconv.ParseFloat(text, 64)
		if err != nil || !(ms >= 0 && ms <= 1e9) { // NaN is neither
			return nil, mooncore.FieldError("min_ms", "must be a number of milliseconds")
		}
		q.least = time.Duration(ms * float64(time.Millisecond))
	}
	for _, p := range []struct {
		name string
		to   *int64
	}{{"since", &q.since}, {"until", &q.until}} {
		if text := query.Get(p.name); text != "" {
			if *p.to, err = strconv.ParseInt(text, 10, 64); err != nil {
				return nil, mooncore.FieldError(p.name, "must be a time in Unix milliseconds")
			}
		}
	}
	if text := query.Get("before"); text != "" {
		if q.before, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, mooncore.FieldError("before", "must be an id")
		}
	}
	return q, nil
}

func (q *logQuery) matches(r *record) bool {
	at := r.start.UnixMilli()
	if r.took < q.least || q.since != 0 && at < q.since || q.until != 0 && at > q.until || !q.matchesCode(r.code) {
		return false
	}
	via := cmp.Or(r.via, "client")
	for name, value := range map[string]string{
		"app": r.app, "action": r.action, "user": r.user, "tenant": r.tenant, "source": r.source, "via": via, "conn": r.conn,
		"request_id": r.request,
	} {
		if want, ok := q.is[name]; ok && want != value {
			return false
		}
	}
	if q.text == "" {
		return true
	}
	for _, text := range []string{r.action, r.user, r.message, r.cause, r.request} {
		if strings.Contains(strings.ToLower(text), q.text) {
			return true
		}
	}
	for _, b := range [][]byte{r.params, r.result, r.fields} {
		if strings.Contains(strings.ToLower(string(b)), q.text) {
			return true
		}
	}
	return false
}

func (q *logQuery) matchesCode(code string) bool {
	return q.codes == nil || slices.Contains(q.codes, code) || code != codeOK && slices.Contains(q.codes, "error")
}

// queryLog looks through the log, newest first.
func (t *tools) queryLog(q *logQuery) *logPage {
	state := t.rec.log.state()
	page := &logPage{Entries: []callSummary{}, Kept: state.kept, KeptBytes: state.bytes, MaxBytes: t.rec.log.max}
	t.rec.log.newest(func(id uint64, b []byte) bool {
		if q.before != 0 && id >= q.before {
			return true
		}
		r := decodeRecord(id, b)
		switch {
		case !q.matches(r):
			return q.since == 0 || r.start.Add(r.took).UnixMilli() >= q.since // the log is in the order of ends
		case len(page.Entries) == q.limit:
			page.More = true
			return false
		}
		page.Entries = append(page.Entries, r.summary())
		return true
	})
	return page
}

func (t *tools) getLog(r *http.Request) (any, error) {
	q, err := parseLogQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return t.queryLog(q), nil
}

func (t *tools) deleteLog(*http.Request) (any, error) {
	t.audit("log cleared")
	t.rec.log.clear()
	return nil, nil
}

func (t *tools) logEntry(r *http.Request) (*record, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		return nil, mooncore.Errorf(mooncore.CodeNotFound, "No such entry")
	}
	b := t.rec.log.get(id)
	if b == nil {
		return nil, mooncore.Errorf(mooncore.CodeNotFound, "The entry is no longer in the log")
	}
	return decodeRecord(id, b), nil
}

func (t *tools) getLogEntry(r *http.Request) (any, error) {
	entry, err := t.logEntry(r)
	if err != nil {
		return nil, err
	}
	return entry.detail(), nil
}

func (t *tools) postReplay(r *http.Request) (any, error) {
	entry, err := t.logEntry(r)
	if err != nil {
		return nil, err
	}
	return t.replay(r.Context(), entry, viaDashboard)
}

// replay makes a call of the log once more, if all that it needs was recorded.
func (t *tools) replay(ctx context.Context, entry *record, via string) (*runResult, error) {
	why := ""
	switch {
	case entry.marks&wasRedacted != 0:
		why = "Its params hold a secret, which was not recorded"
	case entry.marks&wasCut != 0:
		why = "Its params were too long to be recorded whole"
	case entry.files:
		why = "It came with files, which are not recorded"
	case len(entry.params) == 0:
		why = "It has no params: it was refused before they were read"
	}
	if why != "" {
		return nil, mooncore.Errorf(mooncore.CodeFailedPrecondition, "The call can't be made again. %s", why)
	}
	req := runRequest{App: entry.app, Action: entry.action, Params: entry.params, Transport: entry.source}
	if entry.user != "" {
		id := entry.identity()
		req.Identity = &id
	} else {
		req.App = t.appOf(entry.action)
	}
	if req.Transport != "http" && req.Transport != "ws" {
		req.Transport = "go"
	}
	if req.Transport == "ws" {
		req.Params = withoutFrame(req.Params)
	}
	return t.run(ctx, req, via)
}

// withoutFrame takes out of a frame's object what the frame itself says.
func withoutFrame(params []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(params, &members) != nil {
		return params
	}
	delete(members, "action")
	delete(members, "rayid")
	b, _ := json.Marshal(members)
	return b
}

// appOf is an app that has an action; the first one if none has.
func (t *tools) appOf(action string) string {
	for _, router := range t.server.Routers {
		if t.rec.actions[router.App][action] != nil {
			return router.App
		}
	}
	return t.server.Routers[0].App
}
