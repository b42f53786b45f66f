package devtools

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/mcphttp"
	"github.com/mooncore/mooncore/internal/strictjson"
)

// An agentServer is the MCP server: what the dashboard shows and does, for coding agents. Its tools are actions of a Server of its own,
// which validates their input and describes them; that one serves nobody else.
type agentServer struct {
	t        *tools
	tools    *mooncore.Server
	messages *mcphttp.Handler
	stopping context.Context // ends requests when the program stops
	stop     context.CancelFunc
}

const instructions = `Developer tools of a running Mooncore program: an API of named actions, called over HTTP and WebSocket.
Begin with list_actions and describe_action. run_action calls an action as whoever you say, and changes what the action changes.
read_logs shows every call with its params, error, cause and steps; secrets are taken out. list_clients, read_frames and publish are
about WebSocket connections. health, doctor and profile are about the program. Times are Unix milliseconds.`

func newAgentServer(t *tools) (*agentServer, error) {
	a := &agentServer{t: t}
	a.stopping, a.stop = context.WithCancel(context.Background())
	var err error
	a.tools, err = mooncore.New(mooncore.Config{
		Development: true,
		Logger:      slog.New(errorsOnly{t.log.With("developer_tools", "mcp").Handler()}),
		// Who calls is decided before. It needs no tokens.
		Authenticate: func(*http.Request) (mooncore.Identity, error) { return mooncore.Identity{}, nil },
		Routers:      []mooncore.Router{{Actions: t.agentTools()}},
	})
	if err != nil {
		return nil, err
	}
	name := t.build.program() + " developer tools"
	server := mcp.NewServer(&mcp.Implementation{Name: name, Version: t.build.mooncore}, &mcp.ServerOptions{
		Instructions: instructions,
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}, Resources: &mcp.ResourceCapabilities{}},
		SetCacheable: func(_ context.Context, _ mcp.Request, c *mcp.Cacheable) { c.CacheScope = "private" },
	})
	for _, action := range a.tools.Actions("") {
		server.AddTool(describeTool(&action), a.callTool)
	}
	t.addResources(server)
	a.messages = mcphttp.New(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{
		Stateless: true, JSONResponse: true,
		DisableLocalhostProtection: true, // the guard has checked the host
		MaxRequestBodyBytes:        -1,   // and the body has been read
	}))
	return a, nil
}

// close ends the tools' own Server, and the calls of it that run.
func (a *agentServer) close() {
	a.stop()
	if err := a.tools.Shutdown(context.Background()); err != nil {
		a.t.log.Error("developer tools: the MCP server did not end", "cause", err)
	}
}

// mcpURL is where the MCP server is, "" if that is up to the program.
func (t *tools) mcpURL() string {
	if t.url == "" {
		return ""
	}
	return t.url + "mcp"
}

// announceMCP logs how an agent connects. A token of this process stands in for a secret that is not set.
func (t *tools) announceMCP() {
	level := slog.LevelInfo
	if t.auth.token != "" && !t.log.Enabled(context.Background(), level) {
		level = slog.LevelWarn // or nobody could
	}
	t.log.Log(context.Background(), level, "developer tools for agents, by MCP", "url", cmp.Or(t.mcpURL(), "mcp, beside the dashboard"),
		"bearer", cmp.Or(t.auth.token, secretVariable))
}

// errorsOnly keeps what the tools' own Server says of each call out of the program's log, but for faults of ours.
type errorsOnly struct{ slog.Handler }

func (h errorsOnly) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError && h.Handler.Enabled(ctx, level)
}

func (h errorsOnly) WithAttrs(attrs []slog.Attr) slog.Handler {
	return errorsOnly{h.Handler.WithAttrs(attrs)}
}

func (h errorsOnly) WithGroup(name string) slog.Handler { return errorsOnly{h.Handler.WithGroup(name)} }

// destructive are the tools that take something away or may do anything. Others that are not read-only add something.
var destructive = map[string]bool{"run_action": true, "clear_logs": true}

func describeTool(action *mooncore.Action) *mcp.Tool {
	closed := false
	return &mcp.Tool{
		Name: action.Name, Description: action.Description,
		InputSchema: action.Handler.InputSchema(), OutputSchema: action.Handler.OutputSchema(),
		Annotations: &mcp.ToolAnnotations{
			ReadOnlyHint: action.ReadOnly, IdempotentHint: action.ReadOnly || action.Name == "clear_logs",
			DestructiveHint: new(destructive[action.Name]), OpenWorldHint: &closed,
		},
	}
}

func (a *agentServer) callTool(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	args := req.Params.Arguments
	switch strictjson.KindOf(args) {
	case strictjson.Null:
		args = nil
	case strictjson.Object, 0:
	default:
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "The arguments are not an object"}
	}
	call := &mooncore.Request{Action: req.Params.Name, Params: args, Source: viaMCP}
	body, err := a.tools.CallJSON(mcphttp.CallFrom(ctx).Context, call)
	result := &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(body)}}, IsError: err != nil}
	if err == nil {
		result.StructuredContent = body
	}
	return result, nil
}

// serveMCP answers agents. Nothing but the secret lets them in, and no browser sends it: one that has an origin is refused.
func (t *tools) serveMCP(w http.ResponseWriter, r *http.Request) {
	if err := t.checkAgent(r); err != nil {
		t.log.Warn("developer tools: refused an agent", "why", err, "peer", r.RemoteAddr)
		if errors.Is(err, errLogin) || errors.Is(err, errWrong) {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		writeError(w, err)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, mooncore.Errorf(mooncore.CodeMethodNotAllowed, "Method not allowed"))
		return
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		writeError(w, mooncore.Errorf(mooncore.CodeUnsupportedMediaType, "The body must be application/json"))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		code := mooncore.CodeInvalidArgument
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			code = mooncore.CodeTooLarge
		}
		writeError(w, &mooncore.Error{Code: code, Message: "The body was not read: " + err.Error()})
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // else the request would end before a profile
	extendWrite(w, max(maxProfileTime, runTime)+answerTime)
	t.agents.messages.Serve(w, r, "", body)
}

func (t *tools) checkAgent(r *http.Request) error {
	if len(r.Header["Origin"]) > 0 || r.Header.Get("Sec-Fetch-Site") != "" {
		return errOrigin
	}
	return t.auth.bearer(r)
}

// addResources offers what the tools read, for clients that put it before their model unasked.
func (t *tools) addResources(server *mcp.Server) {
	for _, resource := range []struct {
		name, description string
		read              func() (any, error)
	}{
		{"actions", "The catalogue of actions of all apps: access, schemas, limits, and how often they were called.", func() (any, error) {
			return map[string]any{"apps": t.apps()}, nil
		}},
		{"apps", "The apps with their roles and channels.", func() (any, error) {
			apps := t.apps()
			for i := range apps {
				apps[i].Actions = nil
			}
			return map[string]any{"apps": apps}, nil
		}},
		{"clients", "The open WebSocket connections, and how many there are in each tenant and channel.", func() (any, error) {
			return t.listConns(nil)
		}},
		{"config", "The configuration in effect, and where each value came from. Secrets are left out.", func() (any, error) {
			return map[string]any{"settings": t.srv.Settings()}, nil
		}},
		{"log", "The latest calls, newest first.", func() (any, error) {
			return t.queryLog(&logQuery{limit: 200}), nil
		}},
	} {
		const mediaType = "application/json"
		uri := "mooncore://" + resource.name
		server.AddResource(&mcp.Resource{URI: uri, Name: resource.name, Description: resource.description, MIMEType: mediaType},
			func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
				value, err := resource.read()
				if err != nil {
					return nil, err
				}
				b, err := json.Marshal(value)
				if err != nil {
					return nil, err
				}
				return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: uri, MIMEType: mediaType, Text: string(b)}}}, nil
			})
	}
}
