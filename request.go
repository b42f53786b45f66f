package mooncore

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/mooncore/mooncore/internal/form"
)

// A Request is one call of an action. It is good until the call ends.
type Request struct {
	// Action is the name that was called.
	Action string

	// Params are a JSON object: the whole body or message, overrides merged in. Read-only until the call ends: the bytes are shared.
	Params json.RawMessage

	// Identity is the caller.
	Identity Identity

	// Files are the uploaded parts of a form, or the payload of a binary frame.
	Files []File

	// ID is the request id. Call makes one when it is empty.
	ID string

	// Source is "http", "ws" or "go", or what a [Server.TransportHandler] is for, such as "mcp". Call sets it to "go", but keeps what only
	// a program can have put there, such as "cron".
	Source string

	// RemoteAddr is the client's address; the zero Addr when the call came by Go. Call leaves it as it is.
	RemoteAddr netip.Addr

	// IdempotencyKey tells retries of a call from other calls; see [Action].Idempotency. Of a call by a client it is set if the action
	// has that. A call in Go that has one gets its result as [json.RawMessage], the first time too. Default none.
	IdempotencyKey string

	server *Server
	conn   *Conn           // the calling connection; nil unless Source is "ws"
	action *actionState    // what route found; nil before
	in     any             // decoded params
	raw    json.RawMessage // what in points to when the params need no decoding

	query, path []form.Pair // laid below and above Params once the action is known
	readOnly    bool        // the method promises to change nothing
	entered     bool        // its transport holds the gate open
	size        int64       // bytes of a body whose Params are shorter, such as a form with files
	rayID       json.RawMessage
	result      json.RawMessage // for Observers
	header      http.Header     // of the HTTP request that called; else nil
	trace       json.RawMessage // the frame's traceparent
	replayed    bool            // another call's outcome was given
	ctx         *callContext    // memory for the call's context, if its transport allocated some
}

type requestKey struct{}

// RequestFrom returns the call that ctx belongs to, or nil outside a call.
func RequestFrom(ctx context.Context) *Request {
	if c := callFrom(ctx); c != nil {
		return c.lend()
	}
	return nil
}

// requests are kept for calls of transports. Nobody outside has had them: see recycle.
var requests = sync.Pool{New: func() any { return new(Request) }}

// newRequest returns an empty Request for a call over WebSocket. A Request is large, and most handlers never ask for theirs; their
// context, which they may keep, is small.
func newRequest() *Request {
	req := requests.Get().(*Request)
	req.ctx = new(callContext)
	return req
}

// recycle makes r another call's, unless somebody outside may have it. What it leaves in the context is for who asks
// later. identity is the caller's, as its connection has it.
func (r *Request) recycle(identity *Identity) {
	c := r.ctx
	if c.lent.Load() {
		return
	}
	c.record = callRecord{action: r.Action, conn: r.conn, addr: r.RemoteAddr, identity: identity, id: r.ID}
	c.req.Store(nil)
	if c.lent.Load() { // somebody may have loaded it meanwhile
		return
	}
	*r = Request{}
	requests.Put(r)
}

// Server returns the server that runs the call.
func (r *Request) Server() *Server { return r.server }

// RayID returns the rayid of the frame that called, as JSON, or nil.
func (r *Request) RayID() json.RawMessage { return r.rayID }

// Result returns the result as JSON in [Observer.CallEnd]: read-only, and good until that returns. It is nil elsewhere, and there if the
// call failed or came by [Server.Call].
func (r *Request) Result() json.RawMessage { return r.result }

// Tenant returns the caller's tenant, with the caller's scope.
//
// Anonymous callers are in a tenant of their own, where nobody joins a channel: what is published there reaches nobody.
func (r *Request) Tenant() Tenant {
	t := Tenant{server: r.server, app: r.Identity.App, name: r.Identity.Tenant, scope: r.Identity.Scope, pool: r.server.pools[0]}
	if r.conn != nil {
		t.pool = r.conn.pool
	}
	if r.Identity.User == "" {
		t.name, t.scope = anonTenant, defaultScope
	}
	return t
}

// Conn returns the calling connection, or nil if the call did not come by WebSocket.
func (r *Request) Conn() *Conn { return r.conn }

// Send sends an event to the calling connection alone, ahead of the response. It fails with failed_precondition if the call
// did not come by WebSocket, and as [Tenant.Publish] does.
func (r *Request) Send(_ context.Context, event string, payload any) error {
	if r.conn == nil {
		return errNotWebSocket
	}
	return r.conn.Send(event, payload)
}

// Join makes the calling connection a member of a channel of its scope, whatever the channel's Allow says: the handler has
// decided. The channel is named as clients join it. It fails with failed_precondition if the call did not come by WebSocket,
// if nobody is logged in on the connection, or if it has joined as many channels as it may.
func (r *Request) Join(ctx context.Context, channel string) error {
	if r.conn == nil {
		return errNotWebSocket
	}
	if !validChannelName(channel) {
		return Errorf(CodeInvalidArgument, "no channel's name: %q", channel)
	}
	if !r.conn.join(ctx, &r.Identity, channel, nil) {
		return errCannotJoin
	}
	return nil
}

// Leave ends the calling connection's membership of a channel of its scope; it is no error if it has none. It fails with
// failed_precondition if the call did not come by WebSocket.
func (r *Request) Leave(_ context.Context, channel string) error {
	if r.conn == nil {
		return errNotWebSocket
	}
	r.conn.leave(&r.Identity, channel)
	return nil
}

var errCannotJoin = &Error{Code: CodeFailedPrecondition, Message: "The connection can't join"}

var errNotWebSocket = &Error{Code: CodeFailedPrecondition, Message: "Call this action over WebSocket"}

// An Identity says who calls. The zero Identity is nobody. Roles and Claims of one that a server hands out are shared: read-only.
type Identity struct {
	// User is the caller's name. Empty for an anonymous caller.
	User string

	// App names the router. May be empty when there is one.
	App string

	// Tenant isolates channels and publishes. Empty is a tenant of its own; "_anon" is that of anonymous callers, and nobody
	// else's.
	Tenant string

	// Scope is the part of the tenant whose channels the caller joins. Default "default".
	Scope string

	// Roles are those of the router's roles that the caller has.
	Roles []string

	// TokenID is the token's jti.
	TokenID string

	// Expires is when the caller's connections are told that it ended. The zero time is never.
	Expires time.Time

	// Claims are all claims of the token, or what Config.Authenticate put here.
	Claims map[string]any

	token  bool  // it came by a token that JWT verified
	issued int64 // the token's iat in Unix seconds, for revocations; 0 without one
}

// A File came with a call. It is good until the call ends.
type File struct {
	// Field is the field of the form. Empty for the payload of a binary frame.
	Field string

	// Name is what the client calls it: never a path to trust.
	Name string

	// Type is the media type the client claims.
	Type string

	// Size is in bytes.
	Size int64

	data   []byte                // a binary frame's payload
	header *multipart.FileHeader // a form's part
}

// Open returns the content from its start. The caller closes it. It may be opened more than once.
func (f File) Open() (io.ReadSeekCloser, error) {
	if f.header != nil {
		return f.header.Open()
	}
	return memoryFile{bytes.NewReader(f.data)}, nil
}

type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error { return nil }
