// Package mcpserver offers actions to agents by MCP, the Model Context Protocol, in production.
//
// The actions are those that are marked [mooncore.Action].Tool. Each caller comes with its own token, sees the tools that it may call,
// and calls them through the same checks as any other client.
package mcpserver

import (
	"context"
	"mime"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/mcphttp"
)

// Handler serves the actions of srv that are marked Tool, by the streamable HTTP transport of MCP, for a path of the program's choice, such
// as /mcp. It speaks the versions of the protocol that the official Go SDK speaks. It keeps no sessions, so any server
// behind a load balancer can take any request.
//
// Hosts, origins, credentials, limits and shutdown are those of srv: see [mooncore.Server.TransportHandler]. A caller without a
// credential sees the tools that everybody may call; when there are none, it gets 401, as does who calls a tool that
// needs a credential. An outcome of an action is a result of its tool, errors too: the text is the JSON that /run answers. Calls have
// the source "mcp".
//
// A call is canceled when its client hangs up, and by a notification "notifications/cancelled" that reaches the same server.
func Handler(srv *mooncore.Server) http.Handler {
	h := &handler{srv: srv, apps: map[string]*mcp.Server{}}
	for _, r := range srv.Config().Routers {
		h.apps[r.App] = newServer(ownTools(srv, r.App))
	}
	public := publicTools(srv)
	for _, t := range public {
		h.public = h.public || isPublic(t)
	}
	h.anonymous = newServer(public)
	h.messages = mcphttp.New(mcp.NewStreamableHTTPHandler(
		func(r *http.Request) *mcp.Server { return callFrom(r.Context()).server },
		&mcp.StreamableHTTPOptions{
			Stateless:                  true,
			JSONResponse:               true,
			DisableLocalhostProtection: true, // TransportHandler checks hosts
			MaxRequestBodyBytes:        -1,   // and has read the body
		}))
	return srv.TransportHandler("mcp", h.serve)
}

type handler struct {
	srv       *mooncore.Server
	messages  *mcphttp.Handler
	apps      map[string]*mcp.Server // by the app of who calls
	anonymous *mcp.Server
	public    bool // anonymous has tools that need no credential
}

// A call is what a request needs on both sides of the SDK, which passes it on in the context.
type call struct {
	srv     *mooncore.Server
	server  *mcp.Server
	request *mooncore.Request
}

type contextKey struct{}

func callFrom(ctx context.Context) *call { return ctx.Value(contextKey{}).(*call) }

func (h *handler) serve(w http.ResponseWriter, r *http.Request, req *mooncore.Request, body []byte) error {
	if r.Method != http.MethodPost {
		return mooncore.Errorf(mooncore.CodeMethodNotAllowed, "Method not allowed")
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return mooncore.Errorf(mooncore.CodeUnsupportedMediaType, "Unsupported media type")
	}
	id := &req.Identity
	c := &call{srv: h.srv, server: h.anonymous, request: req}
	if id.User != "" {
		c.server = h.apps[id.App]
	} else if !h.public {
		return mooncore.Errorf(mooncore.CodeUnauthenticated, "Access denied")
	}
	r = r.WithContext(context.WithValue(r.Context(), contextKey{}, c))
	h.messages.Serve(w, r, [3]string{id.App, id.Tenant, id.User}, body)
	return nil
}
