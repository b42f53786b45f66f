package mooncore

import (
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"time"
)

// A Request is one call of an action. It is good until the call ends.
type Request struct {
	// Action is the name that was called.
	Action string

	// Params are a JSON object: the whole body or message, overrides merged in.
	Params json.RawMessage

	// Identity is the caller.
	Identity Identity

	// Files are the uploaded parts of a form, or the payload of a binary frame.
	Files []File

	// ID is the request id. Call makes one when it is empty.
	ID string

	// Source is "http", "ws", "go" or "mcp". Call sets it.
	Source string

	// RemoteAddr is the client's address; the zero Addr when the call came by Go. Call leaves it as it is.
	RemoteAddr netip.Addr

	server *Server
}

// RequestFrom returns the call that ctx belongs to, or nil outside a call.
func RequestFrom(ctx context.Context) *Request { panic("stub") }

// Server returns the server that runs the call.
func (r *Request) Server() *Server { return r.server }

// Tenant returns the caller's tenant, with the caller's scope.
func (r *Request) Tenant() Tenant { panic("stub") }

// Send sends an event to the calling connection alone, ahead of the response. It fails with failed_precondition if the call
// did not come by WebSocket.
func (r *Request) Send(ctx context.Context, event string, payload any) error { panic("stub") }

// An Identity says who calls. The zero Identity is nobody.
type Identity struct {
	// User is the caller's name. Empty for an anonymous caller.
	User string

	// App names the router. May be empty when there is one.
	App string

	// Tenant isolates channels and publishes. Empty is a tenant of its own; "_anon" that of anonymous callers.
	Tenant string

	// Scope is the part of the tenant whose channels the caller joins. Default "default".
	Scope string

	// Roles are those of the router's roles that the caller has.
	Roles []string

	// TokenID is the token's jti.
	TokenID string

	// Expires is when connections of the caller close. The zero time is never.
	Expires time.Time

	// Claims are all claims of the token, or what Config.Authenticate put here.
	Claims map[string]any

	// issued is the token's iat in Unix seconds, for revocations. 0 when there was no token.
	issued int64
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
}

// Open returns the content.
func (f File) Open() (io.ReadSeekCloser, error) { panic("stub") }
