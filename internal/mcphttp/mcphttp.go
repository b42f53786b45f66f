// Package mcphttp answers messages of MCP's streamable HTTP transport by the handler of the official Go SDK, in its stateless mode with
// JSON responses. To that it adds a strict reading of messages, JSON-RPC errors where the SDK answers a text, the cancellation of
// calls, and a limit to the time that a client may take to read. It does not link the SDK.
package mcphttp

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"
)

// A Handler answers messages. Its methods may be called concurrently.
type Handler struct {
	protocol http.Handler
	running  running
}

// New returns a Handler over that of the SDK.
func New(protocol http.Handler) *Handler {
	return &Handler{protocol: protocol, running: running{calls: map[callKey]*context.CancelFunc{}}}
}

// A Call is what a tool should know of the request that calls it.
type Call struct {
	// Context ends when the client hangs up or cancels the call. The one that the SDK hands to a tool does not.
	Context context.Context

	// Unauthorized is set by a tool that misses a credential: the HTTP status becomes 401.
	Unauthorized bool
}

type contextKey struct{}

// CallFrom returns the Call that a context of the SDK belongs to.
func CallFrom(ctx context.Context) *Call { return ctx.Value(contextKey{}).(*Call) }

const sessionHeader = "Mcp-Session-Id"

// Serve answers a POST request whose body has been read. A notification cancels calls of the same caller, a comparable value.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, caller any, body []byte) {
	msg, f := readMessage(body)
	if f != nil {
		respond(w, http.StatusBadRequest, appendFault(msg.id, f))
		return
	}
	session := r.Header.Get(sessionHeader)
	if msg.method == "notifications/cancelled" {
		h.running.cancel(newCallKey(session, caller, msg.cancels()))
	}
	ctx, done := h.running.add(r.Context(), newCallKey(session, caller, msg.id))
	defer done()
	call := &Call{Context: ctx}
	r = r.Clone(context.WithValue(r.Context(), contextKey{}, call))
	r.Header.Set("Accept", "application/json, text/event-stream") // what the SDK insists on; the answer is JSON in any case
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := answer{header: http.Header{}, status: http.StatusOK}
	h.protocol.ServeHTTP(&answer, r)
	header := w.Header()
	switch {
	case r.Context().Err() != nil && answer.body.Len() == 0: // the SDK gave up
		respond(w, http.StatusServiceUnavailable, appendFault(msg.id, &fault{codeInternal, r.Context().Err().Error()}))
		return
	case answer.status >= http.StatusBadRequest && !json.Valid(answer.body.Bytes()):
		status, f := msg.faultOf(answer.status, answer.body.String())
		respond(w, status, appendFault(msg.id, f))
		return
	case call.Unauthorized:
		answer.status = http.StatusUnauthorized
		header.Set("WWW-Authenticate", "Bearer")
	case msg.method == "initialize" && answer.status == http.StatusOK:
		header.Set(sessionHeader, newSession())
	}
	header.Set("Content-Type", answer.header.Get("Content-Type"))
	respond(w, answer.status, answer.body.Bytes())
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
