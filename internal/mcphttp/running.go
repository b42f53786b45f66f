package mcphttp

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"
)

// running are the calls that a notification can cancel. The notification comes as a request of its own, so what ties the two
// together is the session that the client names in both. It names nothing else here: the server keeps no sessions.
type running struct {
	mu    sync.Mutex
	calls map[callKey]*context.CancelFunc
}

// A callKey is a call of one client: its ids are its own, and so are its session and its name.
type callKey struct {
	session, id string
	caller      any
}

const maxSession = 128

func newSession() string { return rand.Text() }

// newCallKey returns the zero callKey, which is no call's, for a client that names no session.
func newCallKey(session string, caller any, id json.RawMessage) callKey {
	if session == "" || len(session) > maxSession || len(id) == 0 {
		return callKey{}
	}
	return callKey{session, string(id), caller}
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
