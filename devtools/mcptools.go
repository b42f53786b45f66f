package devtools

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/pprof/profile"
	"github.com/mooncore/mooncore"
)

// agentTools are the tools of the MCP server.
func (t *tools) agentTools() []mooncore.Action {
	tool := func(name, description string, readOnly bool, h mooncore.Handler) mooncore.Action {
		return mooncore.Action{
			Name: name, Description: description, ReadOnly: readOnly, Tool: true, Allow: mooncore.Public, Handler: h,
			Timeout: -1, // each bounds its own time
		}
	}
	return []mooncore.Action{
		tool("list_actions", "Lists the program's actions: name, app, who may call, description.", true, mooncore.Func(t.listActions)),
		tool("describe_action", "Describes an action: JSON Schemas of input and output, limits, how often it was called.", true,
			mooncore.Func(t.describeAction)),
		tool("run_action", "Calls an action as the identity that you choose, or as a stranger. It really runs, and changes what it changes. "+
			"The log marks the call as yours.", false, mooncore.Func(t.runAction)),
		tool("read_logs", "Reads the log of calls, newest first. All conditions that are given must hold.", true, mooncore.Func(t.readLogs)),
		tool("clear_logs", "Forgets the log of calls.", false, mooncore.Func(t.clearLogs)),
		tool("list_clients", "Lists open WebSocket connections, and how many there are in each tenant and channel.", true,
			mooncore.Func(t.listClients)),
		tool("read_frames", "Reads the last frames of a WebSocket connection, both ways. They are recorded from the first time that somebody "+
			"asks for them, so ask again.", true, mooncore.Func(t.readFrames)),
		tool("publish", "Publishes an event to the members of a channel, or to a user.", false, mooncore.Func(t.publishEvent)),
		tool("health", "Says whether the program is ready, what its checks say, and what it does right now.", true, mooncore.Func(t.healthReport)),
		tool("doctor", "Says what of the configuration would fail in production, why, and how to fix it.", true, mooncore.Func(t.doctor)),
		tool("profile", "Takes a profile and returns the functions that it blames most; for goroutines, their stacks.", true,
			mooncore.Func(t.takeProfile)),
	}
}

type actionsIn struct {
	App string `json:"app" jsonschema:"list those of this app only"`
}

type actionsOut struct {
	Actions []actionLine `json:"actions"`
}

// An actionLine is an action in a list that a model reads: without schemas.
type actionLine struct {
	App         string `json:"app,omitempty"`
	Name        string `json:"name"`
	Access      string `json:"access"`
	Description string `json:"description,omitempty"`
	ReadOnly    bool   `json:"read_only"`
}

func (t *tools) listActions(_ context.Context, in actionsIn) (actionsOut, error) {
	out := actionsOut{Actions: []actionLine{}}
	if in.App != "" && t.router(in.App) == nil {
		return out, mooncore.FieldError("app", "there is none of that name")
	}
	for _, r := range t.server.Routers {
		if in.App != "" && r.App != in.App {
			continue
		}
		for _, a := range t.srv.Actions(r.App) {
			out.Actions = append(out.Actions, actionLine{r.App, a.Name, a.Allow.String(), a.Description, a.ReadOnly})
		}
	}
	return out, nil
}

type actionIn struct {
	Action string `json:"action" validate:"required" jsonschema:"its name"`
	App    string `json:"app" jsonschema:"needed when several apps have an action of that name"`
}

type actionOut struct {
	Actions []actionInApp `json:"actions" jsonschema:"one for each app that has it"`
}

type actionInApp struct {
	App string `json:"app"`
	actionView
}

func (t *tools) describeAction(_ context.Context, in actionIn) (actionOut, error) {
	out := actionOut{Actions: []actionInApp{}}
	for _, r := range t.server.Routers {
		if in.App != "" && r.App != in.App {
			continue
		}
		for _, a := range t.srv.Actions(r.App) {
			if a.Name == in.Action {
				out.Actions = append(out.Actions, actionInApp{r.App, t.actionView(r.App, &a)})
			}
		}
	}
	if len(out.Actions) == 0 {
		return out, mooncore.Errorf(mooncore.CodeNotFound, "No such action. list_actions has their names")
	}
	return out, nil
}

type runIn struct {
	Action    string          `json:"action" validate:"required" jsonschema:"its name"`
	Params    json.RawMessage `json:"params" jsonschema:"an object; describe_action has its schema"`
	App       string          `json:"app" jsonschema:"needed when there are several"`
	Transport string          `json:"transport" validate:"in=http ws go" jsonschema:"how to call; default http. ws collects the events that come before the answer, go is a call in process and needs no signing key"`
	Identity  *identityIn     `json:"identity" jsonschema:"who calls; a stranger without it"`
}

type identityIn struct {
	User   string   `json:"user" validate:"required,min_length=1"`
	Tenant string   `json:"tenant"`
	Scope  string   `json:"scope"`
	Roles  []string `json:"roles" jsonschema:"names of the app's roles"`
}

func (t *tools) runAction(ctx context.Context, in runIn) (runResult, error) {
	req := runRequest{App: in.App, Action: in.Action, Params: in.Params, Transport: cmp.Or(in.Transport, "http")}
	if in.Identity != nil {
		req.Identity = &identity{User: in.Identity.User, Tenant: in.Identity.Tenant, Scope: in.Identity.Scope, Roles: in.Identity.Roles}
	}
	result, err := t.run(ctx, req, viaMCP)
	if err != nil {
		return runResult{}, err
	}
	return *result, nil
}

type logsIn struct {
	Action    string   `json:"action"`
	App       *string  `json:"app"`
	User      *string  `json:"user" jsonschema:"empty for strangers"`
	Tenant    *string  `json:"tenant"`
	Source    string   `json:"source" jsonschema:"how the call came: http, ws, go, mcp"`
	Via       string   `json:"via" validate:"in=client dashboard mcp" jsonschema:"who made it; mcp are the calls of run_action"`
	Conn      string   `json:"conn" jsonschema:"the id of a connection"`
	RequestID string   `json:"request_id"`
	Codes     []string `json:"codes" jsonschema:"any of these, such as ok, not_found; error is any but ok"`
	Text      string   `json:"text" jsonschema:"in names, params, results and errors"`
	MinMS     *float64 `json:"min_ms" validate:"min=0" jsonschema:"took at least so many milliseconds"`
	Since     *int64   `json:"since" jsonschema:"started then or later"`
	Until     *int64   `json:"until" jsonschema:"started then or earlier"`
	Before    *uint64  `json:"before" jsonschema:"an id: only older entries, for the next page"`
	Limit     int      `json:"limit" validate:"between=1 200" jsonschema:"default 20"`
	Details   bool     `json:"details" jsonschema:"with params, result, identity, steps, and the cause of errors; then limit is at most 20"`
}

// maxDetails bounds what a model has to read.
const maxDetails = 20

type logsOut struct {
	Entries []logEntry `json:"entries"`
	More    bool       `json:"more" jsonschema:"there are older ones: give the last id as before"`
	Kept    int        `json:"kept" jsonschema:"how many entries the log has"`
}

type logEntry struct {
	callSummary
	Detail *logDetail `json:"detail,omitempty"`
}

// A logDetail is what a callDetail has beyond its summary.
type logDetail struct {
	Params    json.RawMessage `json:"params"`
	ParamsCut bool            `json:"params_cut,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	ResultCut bool            `json:"result_cut,omitempty"`
	Identity  *callIdentity   `json:"identity"`
	Addr      string          `json:"remote_addr,omitempty"`
	Trace     string          `json:"traceparent,omitempty"`
	Steps     []callStep      `json:"steps"`
	Failure   *callFailure    `json:"failure,omitempty"`
}

func (t *tools) readLogs(_ context.Context, in logsIn) (logsOut, error) {
	query := url.Values{}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	set("action", in.Action)
	set("source", in.Source)
	set("via", in.Via)
	set("conn", in.Conn)
	set("request_id", in.RequestID)
	set("text", in.Text)
	set("code", strings.Join(in.Codes, ","))
	for name, value := range map[string]*string{"app": in.App, "user": in.User, "tenant": in.Tenant} {
		if value != nil {
			query.Set(name, *value)
		}
	}
	if in.MinMS != nil {
		query.Set("min_ms", strconv.FormatFloat(*in.MinMS, 'f', -1, 64))
	}
	for name, value := range map[string]*int64{"since": in.Since, "until": in.Until} {
		if value != nil {
			query.Set(name, strconv.FormatInt(*value, 10))
		}
	}
	if in.Before != nil {
		query.Set("before", strconv.FormatUint(*in.Before, 10))
	}
	limit := cmp.Or(in.Limit, 20)
	if in.Details {
		limit = min(limit, maxDetails)
	}
	query.Set("limit", strconv.Itoa(limit))
	q, err := parseLogQuery(query)
	if err != nil {
		return logsOut{}, err
	}
	page := t.queryLog(q)
	out := logsOut{Entries: []logEntry{}, More: page.More, Kept: page.Kept}
	for _, summary := range page.Entries {
		entry := logEntry{callSummary: summary}
		if b := t.rec.log.get(summary.ID); in.Details && b != nil {
			d := decodeRecord(summary.ID, b).detail()
			entry.Detail = &logDetail{d.Params, d.ParamsCut, d.Result, d.ResultCut, d.Identity, d.Addr, d.Trace, d.Steps, d.Failure}
		}
		out.Entries = append(out.Entries, entry)
	}
	return out, nil
}

type clearedOut struct {
	Cleared int `json:"cleared" jsonschema:"how many entries there were"`
}

func (t *tools) clearLogs(context.Context, struct{}) (clearedOut, error) {
	kept := t.rec.log.state().kept
	t.audit("log cleared", "via", viaMCP)
	t.rec.log.clear()
	return clearedOut{kept}, nil
}

type clientsIn struct {
	Pool    string  `json:"pool"`
	Tenant  *string `json:"tenant"`
	Channel string  `json:"channel" jsonschema:"with its scope: main:default"`
	User    *string `json:"user" jsonschema:"empty for those who have not logged in"`
	Text    string  `json:"text" jsonschema:"in user, id or address"`
	Limit   int     `json:"limit" validate:"between=1 500" jsonschema:"default 50"`
}

func (t *tools) listClients(_ context.Context, in clientsIn) (connPage, error) {
	query := url.Values{"limit": {strconv.Itoa(cmp.Or(in.Limit, 50))}, "text": {in.Text}}
	if in.Pool != "" {
		query.Set("pool", in.Pool)
	}
	if in.Channel != "" {
		query.Set("channel", in.Channel)
	}
	if in.Tenant != nil {
		query.Set("tenant", *in.Tenant)
	}
	if in.User != nil {
		query.Set("user", *in.User)
	}
	page, err := t.listConns(query)
	if err != nil {
		return connPage{}, err
	}
	return *page, nil
}

type framesIn struct {
	Conn  string `json:"conn" validate:"required" jsonschema:"the connection's id, from list_clients"`
	After uint64 `json:"after" jsonschema:"a frame's seq: only those behind it"`
}

type framesOut struct {
	Frames []frame `json:"frames"`
}

func (t *tools) readFrames(_ context.Context, in framesIn) (framesOut, error) {
	frames, err := t.framesOf(in.Conn)
	if err != nil {
		return framesOut{}, err
	}
	return framesOut{slices.DeleteFunc(frames, func(f frame) bool { return f.Seq <= in.After })}, nil
}

type publishIn struct {
	Event   string          `json:"event" validate:"required"`
	Payload json.RawMessage `json:"payload" jsonschema:"any JSON; default null"`
	Channel string          `json:"channel" jsonschema:"without its scope: main"`
	User    string          `json:"user" jsonschema:"instead of a channel"`
	App     string          `json:"app" jsonschema:"needed when there are several"`
	Tenant  string          `json:"tenant"`
	Scope   string          `json:"scope" jsonschema:"default \"default\""`
	Pool    string          `json:"pool" jsonschema:"default the first"`
}

type publishOut struct {
	Receivers int `json:"receivers" jsonschema:"connections of this server that get it"`
}

func (t *tools) publishEvent(ctx context.Context, in publishIn) (publishOut, error) {
	n, err := t.publish(ctx, publication{
		App: in.App, Tenant: in.Tenant, Pool: in.Pool, Event: in.Event, Payload: in.Payload, Channel: in.Channel, User: in.User, Scope: in.Scope,
	})
	return publishOut{n}, err
}

type healthOut struct {
	Program programInfo `json:"program" jsonschema:"its health is the answer of /readyz"`
	Now     metricPoint `json:"now" jsonschema:"rates are of the last second"`
}

func (t *tools) healthReport(ctx context.Context, _ struct{}) (healthOut, error) {
	info := t.info(ctx)
	info.Build.Dependencies = nil
	return healthOut{info, t.sample.latest()}, nil
}

type doctorOut struct {
	Environment string             `json:"environment"`
	Findings    []mooncore.Finding `json:"findings"`
}

// doctor returns what would stand against the running configuration in production.
func (t *tools) doctor(context.Context, struct{}) (doctorOut, error) {
	return doctorOut{t.environment(), append([]mooncore.Finding{}, t.srv.Check()...)}, nil
}

type profileIn struct {
	Name    string `json:"name" validate:"required,in=cpu heap allocs goroutine block mutex"`
	Seconds int    `json:"seconds" validate:"between=1 60" jsonschema:"of a cpu profile; default 5"`
}

type profileOut struct {
	Unit       string            `json:"unit,omitempty" jsonschema:"of total, flat and cum"`
	Total      int64             `json:"total"`
	Top        []profileFunction `json:"top,omitempty" jsonschema:"by flat"`
	Goroutines []goroutineGroup  `json:"goroutines,omitempty" jsonschema:"the biggest groups of equal stacks"`
}

type profileFunction struct {
	Func string `json:"func"`
	File string `json:"file"`
	Flat int64  `json:"flat" jsonschema:"in the function itself"`
	Cum  int64  `json:"cum" jsonschema:"with what it calls"`
}

// maxTop bounds what a model has to read.
const maxTop = 40

func (t *tools) takeProfile(ctx context.Context, in profileIn) (profileOut, error) {
	if in.Name == "goroutine" {
		report := goroutines()
		return profileOut{Total: int64(report.Total), Goroutines: report.Groups[:min(maxTop, len(report.Groups))]}, nil
	}
	seconds := 0
	if in.Name == "cpu" {
		seconds = cmp.Or(in.Seconds, 5)
	}
	b, err := t.profile(in.Name, seconds, ctx.Done())
	if err != nil {
		return profileOut{}, err
	}
	p, err := profile.Parse(bytes.NewReader(b))
	if err != nil {
		return profileOut{}, err
	}
	return topOf(p), nil
}

// topOf adds a profile's samples up by function.
func topOf(p *profile.Profile) profileOut {
	at := len(p.SampleType) - 1
	for i, typ := range p.SampleType {
		if typ.Type == p.DefaultSampleType {
			at = i
		}
	}
	out := profileOut{Unit: p.SampleType[at].Type + "/" + p.SampleType[at].Unit}
	type place struct{ name, file string }
	functions := map[place]*profileFunction{}
	for _, sample := range p.Sample {
		value := sample.Value[at]
		out.Total += value
		seen := map[place]bool{}
		for i, location := range sample.Location {
			for j, line := range location.Line {
				if line.Function == nil {
					continue
				}
				pl := place{line.Function.Name, line.Function.Filename}
				f := functions[pl]
				if f == nil {
					f = &profileFunction{Func: pl.name, File: pl.file}
					functions[pl] = f
				}
				if i == 0 && j == 0 {
					f.Flat += value
				}
				if !seen[pl] {
					seen[pl] = true
					f.Cum += value
				}
			}
		}
	}
	for _, f := range functions {
		out.Top = append(out.Top, *f)
	}
	slices.SortFunc(out.Top, func(a, b profileFunction) int {
		return cmp.Or(cmp.Compare(b.Flat, a.Flat), cmp.Compare(b.Cum, a.Cum), cmp.Compare(a.Func, b.Func))
	})
	out.Top = out.Top[:min(maxTop, len(out.Top))]
	return out
}
