package devtools

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore"
)

const codeOK = "ok"

// A recorder is the Observer of the developer tools: it writes the log, counts, and copies the frames of connections that
// somebody watches. Secrets are taken out before anything is kept.
type recorder struct {
	mooncore.NopObserver
	log    *ring
	redact *redactor
	counts counters

	actions   map[string]map[string]*actionStats // by app and name
	fallbacks map[string]*secretFields           // of Fallback's params, by app
	anonymous map[string]*anonymousAction        // by name
	anyone    *secretFields                      // of all Fallbacks' params

	marksWaiting atomic.Int64
	mu           sync.Mutex
	runs         map[string]*run // by the request id or rayid that the developer tools chose

	watching atomic.Int64
	watched  sync.Map // frameLog by id of the connection
	changes  connChanges
}

// actionStats are what is counted of one action.
type actionStats struct {
	secrets       *secretFields // of its params
	calls, errors atomic.Uint64
	last          atomic.Int64 // Unix milliseconds
	latency       histogram
}

// An anonymousAction is what callers without a token may mean by a name. Who is refused has no app, so the params' secrets are those
// of every app's action.
type anonymousAction struct {
	stats   *actionStats // of the first one that they reach, or else of the first
	public  bool         // they reach it
	secrets *secretFields
}

// A run is a call that the developer tools make.
type run struct {
	key string
	via string
	id  atomic.Uint64 // in the log, once it has ended
}

func newRecorder(routers []mooncore.Router, logBytes int, redact *redactor) *recorder {
	r := &recorder{
		log: newRing(logBytes), redact: redact, actions: map[string]map[string]*actionStats{}, fallbacks: map[string]*secretFields{},
		anonymous: map[string]*anonymousAction{}, runs: map[string]*run{},
	}
	for _, router := range routers {
		actions := map[string]*actionStats{}
		r.actions[router.App] = actions
		for _, action := range router.Actions {
			stats := &actionStats{secrets: secretsOf(action.Handler.InputSchema())}
			actions[action.Name] = stats
			a := r.anonymous[action.Name]
			if a == nil {
				a = &anonymousAction{stats: stats}
				r.anonymous[action.Name] = a
			}
			a.secrets = mergeSecrets(a.secrets, stats.secrets)
			if public := action.Allow.Allows(mooncore.Identity{}); public && !a.public {
				a.stats, a.public = stats, true
			}
		}
		r.fallbacks[router.App] = secretsOf(router.Fallback.Handler.InputSchema())
		r.anyone = mergeSecrets(r.anyone, r.fallbacks[router.App])
	}
	return r
}

// named returns the stats of the action that a call names, and the secret fields of its params. The stats are nil if there is none,
// such as one that a Fallback answers.
func (r *recorder) named(app, action string, anonymous bool) (*actionStats, *secretFields) {
	if anonymous {
		if a := r.anonymous[action]; a != nil {
			return a.stats, a.secrets
		}
		return nil, r.anyone
	}
	if stats := r.actions[app][action]; stats != nil {
		return stats, stats.secrets
	}
	return nil, r.fallbacks[app]
}

// A call is the context of one call, and what is known of it before it ends.
type call struct {
	context.Context
	start time.Time
	spent time.Duration // in the steps that follow one another
	n     int
	steps [4]step
	more  []step
}

type callKey struct{}

func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// CallStart makes room for what happens.
func (r *recorder) CallStart(ctx context.Context, _ *mooncore.Request) context.Context {
	return &call{Context: ctx, start: time.Now()}
}

// CallStep notes a step.
func (r *recorder) CallStep(ctx context.Context, _ *mooncore.Request, name string, took time.Duration, err error) {
	c, ok := ctx.(*call)
	if !ok {
		if c, ok = ctx.Value(callKey{}).(*call); !ok {
			return
		}
	}
	s := step{name: name, at: c.spent, took: took}
	switch name {
	case "access", "rate", "params": // one after another from the start, so that no clock must be read
		c.spent += took
	default:
		s.at = max(time.Since(c.start)-took, 0)
	}
	if err != nil {
		s.code = string(mooncore.CodeOf(err))
	}
	if c.n < len(c.steps) {
		c.steps[c.n] = s
		c.n++
		return
	}
	c.more = append(c.more, s)
}

var encoders = sync.Pool{New: func() any { return newEncoder() }}

// CallEnd writes the call to the log.
func (r *recorder) CallEnd(ctx context.Context, req *mooncore.Request, out any, err error, took time.Duration) {
	c, ok := ctx.(*call)
	if !ok {
		if c, ok = ctx.Value(callKey{}).(*call); !ok {
			return
		}
	}
	id := &req.Identity
	stats, secrets := r.named(id.App, req.Action, id.User == "")
	r.count(stats, c.start, took, err)
	e := encoders.Get().(*encoder)
	e.b = e.b[:0]
	made := r.runOf(req)
	source, via := req.Source, ""
	if made != nil {
		via = made.via
		if source == sourceTools {
			source = "go" // via tells the rest
		}
	}
	r.encode(e, c, req, outcome{out, err, took}, origin{source, via}, secrets)
	logged := r.log.add(e.b)
	if made != nil {
		made.id.Store(logged)
	}
	if cap(e.b) <= chunkSize && e.value.Cap() <= chunkSize {
		encoders.Put(e)
	}
}

func (r *recorder) count(stats *actionStats, start time.Time, took time.Duration, err error) {
	r.counts.calls.Add(1)
	r.counts.latency.add(took)
	if err != nil {
		r.counts.errors.Add(1)
	}
	if stats == nil {
		return
	}
	stats.calls.Add(1)
	stats.latency.add(took)
	stats.last.Store(start.UnixMilli())
	if err != nil {
		stats.errors.Add(1)
	}
}

// An outcome is how a call ended; an origin, who made it and how.
type (
	outcome struct {
		out  any
		err  error
		took time.Duration
	}
	origin struct{ source, via string }
)

// encode writes what decodeRecord reads.
func (r *recorder) encode(e *encoder, c *call, req *mooncore.Request, end outcome, from origin, secrets *secretFields) {
	id := &req.Identity
	code, flags := codeOK, int64(0)
	if end.err != nil {
		code = string(mooncore.CodeOf(end.err))
	}
	if len(req.Files) > 0 {
		flags |= 1
	}
	e.int(c.start.UnixNano())
	e.int(int64(end.took))
	e.int(flags)
	e.text(id.App)
	e.text(clip(req.Action))
	e.text(clip(from.source))
	e.text(from.via)
	e.text(code)
	e.text(clip(req.ID))
	if conn := req.Conn(); conn != nil {
		e.text(conn.ID())
	} else {
		e.text("")
	}
	if req.RemoteAddr.IsValid() {
		e.text(req.RemoteAddr.String())
	} else {
		e.text("")
	}
	e.text(req.TraceParent())
	e.text(clip(id.User))
	e.text(clip(id.Tenant))
	e.text(clip(id.Scope))
	e.text(clip(id.TokenID))
	if id.Expires.IsZero() {
		e.int(0)
	} else {
		e.int(id.Expires.Unix())
	}
	e.int(int64(len(id.Roles)))
	for _, role := range id.Roles {
		e.text(role)
	}
	r.failure(e, end.err)
	e.int(int64(c.n + len(c.more)))
	for _, s := range c.steps[:c.n] {
		e.step(s)
	}
	for _, s := range c.more {
		e.step(s)
	}
	params := e.json(r.redact, req.Params, secrets)
	result := e.json(r.redact, e.resultOf(req, end.out, end.err), nil)
	e.int(int64(params)<<1 | int64(result&wasCut)/int64(wasCut))
}

func (e *encoder) step(s step) {
	e.text(s.name)
	e.int(int64(s.at))
	e.int(int64(s.took))
	e.text(s.code)
}

// failure writes an error's text, its log id, its cause, the stack of a panic, and the faults of fields.
func (r *recorder) failure(e *encoder, err error) {
	failed, ok := errors.AsType[*mooncore.Error](err)
	if !ok || failed == nil {
		for range 5 {
			e.text("")
		}
		return
	}
	cause, stack := failed.Cause()
	e.text(cut(r.redact.prose(failed.Message), maxCause))
	e.text(clip(failed.LogID))
	e.text(cut(r.redact.prose(cause), maxCause))
	e.text(cut(stack, maxValue))
	if len(failed.Fields) == 0 {
		e.text("")
		return
	}
	fields := make(map[string][]string, len(failed.Fields))
	for name, texts := range failed.Fields {
		for _, text := range texts {
			fields[name] = append(fields[name], cut(r.redact.prose(text), maxText))
		}
	}
	b, _ := json.Marshal(fields)
	e.text(string(b))
}

// resultOf returns a result as JSON, nil if there is none. A call by Go has a value only. It is good until the next one.
func (e *encoder) resultOf(req *mooncore.Request, out any, err error) (b []byte) {
	if result := req.Result(); result != nil || err != nil {
		return result
	}
	defer func() {
		if v := recover(); v != nil { // a MarshalJSON of the program
			b = nil
		}
	}()
	e.value.Reset()
	if e.values.Encode(out) != nil {
		return nil
	}
	return e.value.Bytes()
}

// clip shortens a name that a client chose, who may have put a token there.
func clip(s string) string {
	if len(s) <= maxName && !strings.Contains(s, "eyJ") {
		return s
	}
	s, _ = scrub(s)
	return cut(s, maxName)
}

// begin announces a call that the developer tools are about to make under that request id or rayid.
func (r *recorder) begin(key, via string) *run {
	made := &run{key: key, via: via}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs[key] = made
	r.marksWaiting.Add(1)
	return made
}

func (r *recorder) end(made *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.runs, made.key)
	r.marksWaiting.Add(-1)
}

// runOf returns the run that a call is, or nil if somebody else calls.
func (r *recorder) runOf(req *mooncore.Request) *run {
	if r.marksWaiting.Load() == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if made := r.runs[req.ID]; made != nil {
		return made
	}
	return r.runs[string(req.RayID())]
}

// ConnOpen tells those who watch the list of connections.
func (r *recorder) ConnOpen(c *mooncore.Conn) {
	r.counts.conns.Add(1)
	r.changes.opened(c)
}

// ConnClose does too.
func (r *recorder) ConnClose(c *mooncore.Conn, code int, reason string) {
	r.changes.closed(c.ID(), code, reason)
	if r.watching.Load() > 0 {
		if log, ok := r.watched.Load(c.ID()); ok {
			log.(*frameLog).gone.Store(true)
		}
	}
}

// Frame counts frames, and copies those of a connection that is watched.
func (r *recorder) Frame(c *mooncore.Conn, sent, binary bool, data []byte) {
	if sent {
		r.counts.framesOut.Add(1)
	} else {
		r.counts.framesIn.Add(1)
	}
	if r.watching.Load() == 0 {
		return
	}
	if log, ok := r.watched.Load(c.ID()); ok {
		log.(*frameLog).add(r.frame(c, sent, binary, data))
	}
}
