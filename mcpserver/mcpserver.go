// Package mcpserver offers actions to agents by MCP, the Model Context Protocol, in production.
//
// The actions are those that are marked [mooncore.Action].Tool. Each caller comes with its own token, sees the tools that it may call,
// and calls them through the same checks as any other client.
package mcpserver

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/mooncore/mooncore"
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
	h := &handler{srv: srv, apps: map[string]*mcp.Server{}, running: newRunning()}
	for _, r := range srv.Config().Routers {
		h.apps[r.App] = newServer(ownTools(srv, r.App))
	}
	public := publicTools(srv)
	for _, t := range public {
		h.public = h.public || isPublic(t)
	}
	h.anonymous = newServer(public)
	h.protocol = mcp.NewStreamableHTTPHandler(
		func(r *http.Request) *mcp.Server { return callFrom(r.Context()).server },
		&mcp.StreamableHTTPOptions{
			Stateless:                  true,
			JSONResponse:               true,
			DisableLocalhostProtection: true, // TransportHandler checks hosts
			MaxRequestBodyBytes:        -1,   // and has read the body
		})
	return srv.TransportHandler("mcp", h.serve)
}

type handler struct {
	srv       *mooncore.Server
	protocol  http.Handler
	apps      map[string]*mcp.Server // by the app of who calls
	anonymous *mcp.Server
	public    bool // anonymous has tools that need no credential
	running   *running
}

// A call is what a request needs on both sides of the SDK, which passes it on in the context.
type call struct {
	handler *handler
	server  *mcp.Server
	request *mooncore.Request
	ctx     context.Context // of the HTTP request; the SDK's own does not end with it
	key     callKey
	code    mooncore.Code // of the action's error
}

type contextKey struct{}

func callFrom(ctx context.Context) *call { return ctx.Value(contextKey{}).(*call) }

const sessionHeader = "Mcp-Session-Id"

func (h *handler) serve(w http.ResponseWriter, r *http.Request, req *mooncore.Request, body []byte) error {
	if r.Method != http.MethodPost {
		return mooncore.Errorf(mooncore.CodeMethodNotAllowed, "Method not allowed")
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return mooncore.Errorf(mooncore.CodeUnsupportedMediaType, "Unsupported media type")
	}
	c := &call{handler: h, server: h.anonymous, request: req, ctx: r.Context()}
	if req.Identity.User != "" {
		c.server = h.apps[req.Identity.App]
	} else if !h.public {
		return mooncore.Errorf(mooncore.CodeUnauthenticated, "Access denied")
	}
	msg, fault := readMessage(body)
	if fault != nil {
		respond(w, http.StatusBadRequest, appendFault(msg.id, fault))
		return nil
	}
	session := r.Header.Get(sessionHeader)
	c.key = newCallKey(session, &req.Identity, msg.id)
	if msg.method == "notifications/cancelled" {
		h.running.cancel(newCallKey(session, &req.Identity, parseObject(msg.params).get("requestId")))
	}
	r = r.Clone(context.WithValue(r.Context(), contextKey{}, c))
	r.Header.Set("Accept", "application/json, text/event-stream") // what the SDK insists on; the answer is JSON in any case
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := answer{header: http.Header{}, status: http.StatusOK}
	h.protocol.ServeHTTP(&answer, r)
	if err := r.Context().Err(); err != nil && answer.body.Len() == 0 { // the SDK gave up
		fault := &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: err.Error()}
		respond(w, mooncore.CodeOf(err).HTTPStatus(), appendFault(msg.id, fault))
		return nil
	}
	header := w.Header()
	switch {
	case answer.status >= http.StatusBadRequest && !json.Valid(answer.body.Bytes()):
		status, fault := msg.faultOf(answer.status, answer.body.String())
		respond(w, status, appendFault(msg.id, fault))
		return nil
	case c.code == mooncore.CodeUnauthenticated:
		answer.status = http.StatusUnauthorized
		header.Set("WWW-Authenticate", "Bearer")
	case msg.method == "initialize" && answer.status == http.StatusOK:
		header.Set(sessionHeader, newSession())
	}
	header.Set("Content-Type", answer.header.Get("Content-Type"))
	respond(w, answer.status, answer.body.Bytes())
	return nil
}

// An answer takes what the SDK answers, which is one message.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// writeTime is how long a client may take to read an answer, and a second more for each MiB.
const writeTime = 10 * time.Second

func respond(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	if len(body) == 0 {
		h.Del("Content-Type")
	} else if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(writeTime + time.Duration(len(body)>>20)*time.Second))
	w.WriteHeader(status)
	w.Write(body) // the client may be gone: nobody is left to tell
	_ = rc.Flush()
	_ = rc.SetWriteDeadline(time.Time{})
}
