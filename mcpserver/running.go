package mcpserver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"

	"github.com/mooncore/mooncore"
)

// running are the calls that a notification can cancel. The notification comes as a request of its own, so what ties the two
// together is the session that the client names in both. It names nothing else here: the server keeps no sessions.
type running struct {
	mu    sync.Mutex
	calls map[callKey]*context.CancelFunc
}

// A callKey is a call of one client: its ids are its own, and so are its session and its identity.
type callKey struct{ session, app, tenant, user, id string }

const maxSession = 128

func newSession() string { return rand.Text() }

func newRunning() *running { return &running{calls: map[callKey]*context.CancelFunc{}} }

// newCallKey returns the zero callKey, which is no call's, for a client that names no session.
func newCallKey(session string, id *mooncore.Identity, requestID json.RawMessage) callKey {
	if session == "" || len(session) > maxSession || len(requestID) == 0 {
		return callKey{}
	}
	return callKey{session, id.App, id.Tenant, id.User, string(requestID)}
}

// add returns a context that ends when the call is canceled. The caller must call done when the call has ended.
func (r *running) add(ctx context.Context, key callKey) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancel(ctx)
	if key == (callKey{}) {
		return ctx, cancel
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[key] = &cancel
	return ctx, func() {
		cancel()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.calls[key] == &cancel { // else another call of the same id came
			delete(r.calls, key)
		}
	}
}

func (r *running) cancel(key callKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cancel := r.calls[key]; cancel != nil {
		(*cancel)()
	}
}
