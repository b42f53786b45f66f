package devtools

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/mooncore/mooncore"
)

// runTime is how long a call of the developer tools may take.
const runTime = 60 * time.Second

// maxEvents are told of those that come beside a WebSocket's answer.
const maxEvents = 100

// An identity is who a call is made as.
type identity struct {
	User   string   `json:"user"`
	App    string   `json:"app,omitempty"`
	Tenant string   `json:"tenant,omitempty"`
	Scope  string   `json:"scope,omitempty"`
	Roles  []string `json:"roles,omitempty"`
}

func (id *identity) mooncore() mooncore.Identity {
	if id == nil {
		return mooncore.Identity{}
	}
	return mooncore.Identity{User: id.User, App: id.App, Tenant: id.Tenant, Scope: id.Scope, Roles: id.Roles}
}

// A runRequest says what to call, how, and as whom. A nil Identity is anonymous.
type runRequest struct {
	App       string          `json:"app"`
	Action    string          `json:"action"`
	Params    json.RawMessage `json:"params"`
	Transport string          `json:"transport"`
	Identity  *identity       `json:"identity"`
}

// A runResult is how a call went.
type runResult struct {
	OK       bool              `json:"ok"`
	Code     string            `json:"code"`
	Status   int               `json:"status,omitempty"`
	Duration float64           `json:"duration_ms"`
	Result   json.RawMessage   `json:"result,omitempty"`
	Error    json.RawMessage   `json:"error,omitempty"`
	LogID    uint64            `json:"log_id,omitempty"`
	Request  string            `json:"request_id,omitempty"`
	Events   []json.RawMessage `json:"events,omitempty"`
	Headers  map[string]string `json:"headers,omitempty"`
}

// run makes a call as a client would. via says for whom: "dashboard" or "mcp".
func (t *tools) run(ctx context.Context, req runRequest, via string) (*runResult, error) {
	if err := t.checkRun(&req); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	key := "dev-" + rand.Text()
	call := t.runGo
	switch req.Transport {
	case "http":
		call = t.runHTTP
	case "ws":
		call = t.runSocket
	}
	user := ""
	if req.Identity != nil {
		user = req.Identity.User
	}
	t.log.Info("developer tools: call", "action", clip(req.Action), "user", clip(user), "transport", req.Transport, "via", via, "id", key)
	mark := key
	if req.Transport == "ws" {
		mark = `"` + key + `"`
	}
	made := t.rec.begin(mark, via)
	defer t.rec.end(made)
	start := time.Now()
	result, err := call(ctx, &req, key)
	if err != nil {
		return nil, err
	}
	if result.Duration == 0 {
		result.Duration = milliseconds(time.Since(start))
	}
	result.LogID = made.id.Load()
	return result, nil
}

// checkRun reports what is wrong with a request itself, and fills defaults in.
func (t *tools) checkRun(req *runRequest) error {
	router := t.router(req.App)
	switch {
	case router == nil:
		return mooncore.Errorf(mooncore.CodeNotFound, "no app %q", req.App)
	case req.Action == "":
		return mooncore.FieldError("action", "is required")
	case req.Transport != "http" && req.Transport != "ws" && req.Transport != "go":
		return mooncore.FieldError("transport", "must be one of: http, ws, go")
	}
	if params := bytes.TrimSpace(req.Params); len(params) == 0 || string(params) == "null" {
		req.Params = json.RawMessage("{}")
	} else if params[0] != '{' {
		return mooncore.FieldError("params", "must be an object")
	}
	if req.Identity == nil {
		return nil
	}
	if req.Identity.User == "" {
		return mooncore.FieldError("identity.user", "is required")
	}
	id := *req.Identity
	if id.App == "" {
		id.App = router.App
	}
	req.Identity = &id
	return nil
}

// router returns that of an app; the only one for an empty name.
func (t *tools) router(app string) *mooncore.Router {
	if app == "" && len(t.server.Routers) == 1 {
		return &t.server.Routers[0]
	}
	for i := range t.server.Routers {
		if t.server.Routers[i].App == app {
			return &t.server.Routers[i]
		}
	}
	return nil
}

// runGo calls in process. The source of the call is "devtools".
func (t *tools) runGo(ctx context.Context, req *runRequest, key string) (*runResult, error) {
	call := &mooncore.Request{
		Action: req.Action, Params: req.Params, Identity: req.Identity.mooncore(), ID: key, Source: sourceTools,
	}
	start := time.Now()
	out, err := t.srv.Call(ctx, call)
	result := &runResult{Duration: milliseconds(time.Since(start)), Request: key}
	if err != nil {
		result.Error, _ = errorBody(err)
		result.Code = string(mooncore.CodeOf(err))
		return result, nil
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, mooncore.Errorf(mooncore.CodeFailedPrecondition, "The result has no JSON: %v", err)
	}
	result.OK, result.Code, result.Result = true, codeOK, b
	return result, nil
}

// token returns a token for the call's identity, "" for none.
func (t *tools) token(id *identity) (string, error) {
	if id == nil {
		return "", nil
	}
	as := id.mooncore()
	as.Expires = time.Now().Add(2 * runTime)
	token, err := t.srv.Token(as)
	if err != nil {
		return "", &mooncore.Error{
			Code: mooncore.CodeFailedPrecondition, Err: err,
			Message: fmt.Sprintf(`No token for this identity: %v. Transport "go" needs none`, err),
		}
	}
	return token, nil
}

// runHTTP calls by HTTP, in memory.
func (t *tools) runHTTP(ctx context.Context, req *runRequest, key string) (*runResult, error) {
	token, err := t.token(req.Identity)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+t.loop.host+"/run/"+req.Action, bytes.NewReader(req.Params))
	if err != nil {
		return nil, mooncore.FieldError("action", "has no place in a URL")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Request-Id", key)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	start := time.Now()
	resp, err := t.loop.client.Do(r)
	if err != nil {
		return nil, &mooncore.Error{Code: mooncore.CodeUnavailable, Message: "The call was not answered", Err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, &mooncore.Error{Code: mooncore.CodeUnavailable, Message: "The answer ended early", Err: err}
	}
	result := &runResult{
		Duration: milliseconds(time.Since(start)), Status: resp.StatusCode, Request: key, Headers: map[string]string{},
	}
	for name := range resp.Header {
		result.Headers[name] = strings.Join(resp.Header.Values(name), ", ")
	}
	result.setOutcome(body, t.server.LegacyStatus && isErrorBody(body) || resp.StatusCode != http.StatusOK)
	return result, nil
}

// isErrorBody guesses whether an answer is an error, where the status does not tell.
func isErrorBody(body []byte) bool {
	var e struct {
		Error *string `json:"error"`
		Code  *string `json:"code"`
	}
	return json.Unmarshal(body, &e) == nil && e.Error != nil && e.Code != nil
}

// setOutcome takes an answer's JSON.
func (r *runResult) setOutcome(body []byte, failed bool) {
	if !failed {
		r.OK, r.Code, r.Result = true, codeOK, body
		return
	}
	var e struct {
		Code string `json:"code"`
	}
	if json.Unmarshal(body, &e) != nil {
		e.Code = "unknown"
	}
	r.Code, r.Error = e.Code, body
}

// runSocket calls on a WebSocket of its own, in memory, and collects the events that come before the answer.
func (t *tools) runSocket(ctx context.Context, req *runRequest, key string) (*runResult, error) {
	token, err := t.token(req.Identity)
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	conn, resp, err := websocket.Dial( //nolint:bodyclose // it is closed with the connection, or holds nothing that must be
		ctx, "ws://"+t.loop.host+"/ws", &websocket.DialOptions{HTTPClient: t.loop.client, HTTPHeader: header},
	)
	if err != nil {
		if resp == nil {
			return nil, &mooncore.Error{Code: mooncore.CodeUnavailable, Message: "The WebSocket was not opened", Err: err}
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		result := &runResult{Status: resp.StatusCode}
		result.setOutcome(body, true)
		return result, nil
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1)
	frame, err := callFrame(req, key)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := conn.Write(ctx, websocket.MessageText, frame); err != nil {
		return nil, &mooncore.Error{Code: mooncore.CodeUnavailable, Message: "The call was not sent", Err: err}
	}
	result := &runResult{}
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return nil, &mooncore.Error{Code: mooncore.CodeUnavailable, Message: fmt.Sprintf("The connection ended before the answer: %v", err), Err: err}
		}
		var parts []json.RawMessage
		if json.Unmarshal(data, &parts) != nil || len(parts) != 3 || string(parts[0]) != `"response"` || string(parts[2]) != `"`+key+`"` {
			if len(result.Events) < maxEvents && json.Valid(data) {
				result.Events = append(result.Events, data)
			}
			continue
		}
		result.Duration = milliseconds(time.Since(start))
		result.setOutcome(parts[1], isErrorBody(parts[1]))
		_ = conn.Close(websocket.StatusNormalClosure, "")
		return result, nil
	}
}

// callFrame is the frame of a call: the params, with action and rayid.
func callFrame(req *runRequest, key string) ([]byte, error) {
	action, _ := json.Marshal(req.Action)
	frame := append([]byte(`{"action":`), action...)
	frame = append(append(append(frame, `,"rayid":"`...), key...), '"')
	var params map[string]json.RawMessage
	if err := json.Unmarshal(req.Params, &params); err != nil {
		return nil, mooncore.FieldError("params", "must be an object")
	}
	for name := range params {
		if name == "action" || name == "rayid" {
			return nil, mooncore.FieldError("params."+name, "is what the frame itself says")
		}
	}
	inner := bytes.TrimSpace(bytes.TrimSpace(req.Params)[1:])
	if len(params) > 0 {
		frame = append(frame, ',')
	}
	return append(frame, inner...), nil
}

// A loop serves the program's Server in memory, for calls that the developer tools make by HTTP and WebSocket. It opens no port.
type loop struct {
	server *http.Server
	client *http.Client
	host   string
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newLoop(srv *mooncore.Server, hosts []string) *loop {
	l := &loop{host: "localhost", conns: make(chan net.Conn), closed: make(chan struct{})}
	if len(hosts) > 0 {
		l.host = hosts[0]
	}
	l.server = &http.Server{Handler: srv, ReadHeaderTimeout: headerTime}
	l.client = &http.Client{
		Transport:     &http.Transport{DialContext: l.dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return l
}

// serve serves until ctx ends.
func (l *loop) serve(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { _ = l.server.Close() })()
	_ = l.server.Serve(l) // http.ErrServerClosed
}

func (l *loop) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- loopConn{server}:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept returns the next connection that dial makes.
func (l *loop) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *loop) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is that of loopback.
func (l *loop) Addr() net.Addr { return loopAddr{} }

// A loopConn has an address as a network's would.
type loopConn struct{ net.Conn }

func (loopConn) RemoteAddr() net.Addr { return loopAddr{} }
func (loopConn) LocalAddr() net.Addr  { return loopAddr{} }

type loopAddr struct{}

func (loopAddr) Network() string { return "memory" }
func (loopAddr) String() string  { return "127.0.0.1:0" }

// sourceTools is the source of calls that the developer tools make in process.
const sourceTools = "devtools"

// errorBody is an error as a client of the wire protocol reads it, and its HTTP status.
func errorBody(err error) (body []byte, status int) {
	code := mooncore.CodeOf(err)
	b := struct {
		Error  string              `json:"error"`
		Code   string              `json:"code"`
		Errors map[string][]string `json:"errors,omitempty"`
		LogID  string              `json:"log_id,omitempty"`
	}{Code: string(code), Error: "Internal Server Error"}
	if e, ok := errors.AsType[*mooncore.Error](err); ok && code != mooncore.CodeInternal {
		b.Error, b.Errors, b.LogID = e.Message, e.Fields, e.LogID
	}
	body, _ = json.Marshal(b)
	return body, code.HTTPStatus()
}
