package mooncore

import (
	"sync"
	"sync/atomic"
	"time"
)

// revocations hold what was revoked, in memory. They may be used concurrently.
type revocations struct {
	some atomic.Bool // false until the first one: then verify takes no lock

	mu      sync.RWMutex
	tokens  map[string]time.Time // by jti: Revocation.Expires
	users   map[userKey]userRevocation
	pruneAt int // size at which those that have expired are looked for
}

// A userKey names a user. It is compared as a tuple: no name can pose as two others.
type userKey struct{ app, tenant, user string }

type userRevocation struct {
	until   int64 // the last iat that is refused, in Unix seconds
	expires time.Time
}

const minPrune = 256

// add takes effect at once. Two revocations of one user become one that covers both. It reports whether that changes anything.
func (r *revocations) add(rev Revocation, now time.Time) (news bool) {
	if expiredBy(rev.Expires, now) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tokens == nil {
		r.tokens = make(map[string]time.Time)
		r.users = make(map[userKey]userRevocation)
		r.pruneAt = minPrune
	}
	if rev.TokenID != "" {
		expires := rev.Expires
		old, ok := r.tokens[rev.TokenID]
		if ok {
			expires = laterExpiry(expires, old)
		}
		news = !ok || !expires.Equal(old)
		r.tokens[rev.TokenID] = expires
	} else {
		key := userKey{rev.App, rev.Tenant, rev.User}
		u := userRevocation{until: rev.IssuedUntil.Unix(), expires: rev.Expires}
		old, ok := r.users[key]
		if ok {
			u = userRevocation{until: max(u.until, old.until), expires: laterExpiry(u.expires, old.expires)}
		}
		news = !ok || u.until != old.until || !u.expires.Equal(old.expires)
		r.users[key] = u
	}
	r.some.Store(true)
	if len(r.tokens)+len(r.users) >= r.pruneAt {
		r.prune(now)
		r.pruneAt = max(minPrune, 2*(len(r.tokens)+len(r.users)))
	}
	return news
}

// list returns what has not expired.
func (r *revocations) list(now time.Time) []Revocation {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Revocation, 0, len(r.tokens)+len(r.users))
	for id, expires := range r.tokens {
		if !expiredBy(expires, now) {
			list = append(list, Revocation{TokenID: id, Expires: expires})
		}
	}
	for key, u := range r.users {
		if !expiredBy(u.expires, now) {
			list = append(list, Revocation{App: key.app, Tenant: key.tenant, User: key.user, IssuedUntil: time.Unix(u.until, 0), Expires: u.expires})
		}
	}
	return list
}

// prune forgets what has expired. Its cost is spread over the additions since the last time.
func (r *revocations) prune(now time.Time) {
	for id, expires := range r.tokens {
		if expiredBy(expires, now) {
			delete(r.tokens, id)
		}
	}
	for key, u := range r.users {
		if expiredBy(u.expires, now) {
			delete(r.users, key)
		}
	}
}

// covers reports whether a token with that jti, or one issued then to that user, is refused.
func (r *revocations) covers(tokenID string, user userKey, issued int64, now time.Time) bool {
	if !r.some.Load() {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if tokenID != "" {
		if expires, ok := r.tokens[tokenID]; ok && !expiredBy(expires, now) {
			return true
		}
	}
	u, ok := r.users[user]
	return ok && issued <= u.until && !expiredBy(u.expires, now)
}

// issuedAfter returns the first iat from now on, in Unix seconds, that is not refused for that user.
func (r *revocations) issuedAfter(user userKey, now time.Time) int64 {
	iat := now.Unix()
	r.mu.RLock()
	defer r.mu.RUnlock()
	if u, ok := r.users[user]; ok && iat <= u.until && !expiredBy(u.expires, now) {
		return u.until + 1
	}
	return iat
}

// expiredBy reports whether a revocation that expires then counts no more.
func expiredBy(expires, now time.Time) bool { return !expires.IsZero() && !now.Before(expires) }

// laterExpiry returns the later of two expiries. The zero time is never.
func laterExpiry(a, b time.Time) time.Time {
	if a.IsZero() || b.IsZero() {
		return time.Time{}
	}
	if a.After(b) {
		return a
	}
	return b
}

// covers reports whether the revocation refuses what id came with. An Identity without a token counts as issued before it.
func (r *Revocation) covers(id *Identity) bool {
	if r.TokenID != "" {
		return id.TokenID == r.TokenID
	}
	return id.User != "" && id.User == r.User && id.Tenant == r.Tenant && id.App == r.App && id.issued <= r.IssuedUntil.Unix()
}

// size is how long the names are, in bytes.
func (r *Revocation) size() int { return len(r.TokenID) + len(r.App) + len(r.Tenant) + len(r.User) }
