package mcpserver

import (
	"context"
	"encoding/json"
	"maps"
	"path"
	"runtime/debug"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/mcphttp"
	"github.com/mooncore/mooncore/internal/strictjson"
)

// ownTools are the tools of those who belong to an app.
func ownTools(srv *mooncore.Server, app string) []mooncore.Action {
	return slices.DeleteFunc(srv.Actions(app), func(a mooncore.Action) bool { return !a.Tool })
}

// publicTools are the tools of those who have no credential, by the rule that routes their calls: the first app that has an
// action as public runs it. They include actions that are nowhere public, so that calling one is answered as a missing
// credential.
func publicTools(srv *mooncore.Server) []mooncore.Action {
	byName := map[string]mooncore.Action{}
	for _, r := range srv.Config().Routers {
		for _, a := range srv.Actions(r.App) {
			known, ok := byName[a.Name]
			if !ok || !isPublic(known) && (isPublic(a) || !known.Tool) {
				byName[a.Name] = a
			}
		}
	}
	tools := slices.Collect(maps.Values(byName))
	return slices.DeleteFunc(tools, func(a mooncore.Action) bool { return !a.Tool })
}

func isPublic(a mooncore.Action) bool { return a.Allow.Allows(mooncore.Identity{}) }

// newServer returns what speaks the protocol for tools. Which of them a caller sees is decided for each request.
func newServer(tools []mooncore.Action) *mcp.Server {
	s := mcp.NewServer(implementation(), &mcp.ServerOptions{
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}},
		SetCacheable: func(_ context.Context, _ mcp.Request, c *mcp.Cacheable) { c.CacheScope = "private" },
	})
	allow := make(map[string]mooncore.Access, len(tools))
	for _, action := range tools {
		allow[action.Name] = action.Allow
		t := newTool(action)
		s.AddTool(t.describe(), t.call)
	}
	s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			result, err := next(ctx, method, req)
			if list, ok := result.(*mcp.ListToolsResult); ok && err == nil {
				id := callFrom(ctx).request.Identity
				list.Tools = slices.DeleteFunc(list.Tools, func(t *mcp.Tool) bool { return !allow[t.Name].Allows(id) })
			}
			return result, err
		}
	})
	return s
}

// implementation names the program that serves.
func implementation() *mcp.Implementation {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path == "" {
		return &mcp.Implementation{Name: "mooncore", Version: "(devel)"}
	}
	return &mcp.Implementation{Name: path.Base(info.Main.Path), Version: info.Main.Version}
}

// A tool is an action as agents see it.
type tool struct {
	action        mooncore.Action
	input, output json.RawMessage // output is nil when nothing is known of it
	wrapped       bool            // the result is the member "result" of the structured content, which must be an object
}

func newTool(action mooncore.Action) *tool {
	t := &tool{action: action, input: inputSchema(action)}
	t.output, t.wrapped = outputSchema(action)
	return t
}

func (t *tool) describe() *mcp.Tool {
	destructive := !t.action.ReadOnly
	described := &mcp.Tool{
		Name: t.action.Name, Description: t.action.Description, InputSchema: t.input,
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: t.action.ReadOnly, DestructiveHint: &destructive, IdempotentHint: t.action.ReadOnly},
	}
	if t.output != nil {
		described.OutputSchema = t.output
	}
	return described
}

// call runs the action for a request that the SDK found to be a call of this tool.
func (t *tool) call(ctx context.Context, params *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	c := callFrom(ctx)
	args := params.Params.Arguments
	switch strictjson.KindOf(args) {
	case strictjson.Null:
		args = nil
	case strictjson.Object, 0:
	default:
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "The arguments are not an object"}
	}
	c.request.Action, c.request.Params = t.action.Name, args
	message := mcphttp.CallFrom(ctx)
	body, err := c.srv.CallJSON(message.Context, c.request)
	result := &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(body)}}}
	switch {
	case err != nil:
		result.IsError = true
		message.Unauthorized = mooncore.CodeOf(err) == mooncore.CodeUnauthenticated
	case t.wrapped:
		result.StructuredContent = append(append(json.RawMessage(`{"result":`), body...), '}')
	case strictjson.KindOf(body) == strictjson.Object:
		result.StructuredContent = body
	}
	return result, nil
}
