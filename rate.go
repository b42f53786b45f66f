package mooncore

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A Rate bounds how often an action is called; what is more gets rate_limited, with the time to wait as [Error.RetryAfter]. The
// zero Rate bounds nothing. Each server of a cluster counts for itself.
//
// Every call counts whose caller may call, also one that then fails. The limit is that of a bucket with room for n calls, all
// there at first, and refilled evenly: n at once, then one each per/n.
type Rate struct {
	by  rateBy
	n   int
	per time.Duration
}

type rateBy uint8

const (
	rateUnset rateBy = iota
	rateUser
	rateTenant
	rateAddress
)

// PerUser lets each user call n times in per, at once or spread; an anonymous caller counts as its address.
func PerUser(n int, per time.Duration) Rate { return Rate{rateUser, n, per} }

// PerTenant lets all users of a tenant together call n times in per; an anonymous caller counts as its address.
func PerTenant(n int, per time.Duration) Rate { return Rate{rateTenant, n, per} }

// PerAddress lets each IP address (of IPv6, each /64) call n times in per. Behind a proxy, Config.TrustedProxies says whose
// address counts. Callers without one, such as by [Server.Call] without RemoteAddr, count as one.
func PerAddress(n int, per time.Duration) Rate { return Rate{rateAddress, n, per} }

// String returns such as "30 in 1m0s per user", or "" for the zero Rate.
func (r Rate) String() string {
	if r.by == rateUnset {
		return ""
	}
	by := [...]string{rateUser: "user", rateTenant: "tenant", rateAddress: "address"}[r.by]
	return fmt.Sprintf("%d in %v per %s", r.n, r.per, by)
}

func (r Rate) fault() string {
	switch {
	case r.by == rateUnset:
		return ""
	case r.n < 1:
		return fmt.Sprintf("%d calls: must let at least one through", r.n)
	case r.per <= 0:
		return fmt.Sprintf("in %v: must be a positive time", r.per)
	}
	return ""
}

// A rateKey is whose calls of which action are counted together. It has no pointers but strings, so that hashing it allocates
// nothing.
type rateKey struct {
	action       int
	tenant, user string
	addr         [16]byte
}

// key returns what a call counts as.
func (r Rate) key(action int, req *Request) rateKey {
	id := &req.Identity
	switch {
	case r.by == rateAddress || id.User == "":
		return rateKey{action: action, addr: addressKey(req.RemoteAddr)}
	case r.by == rateTenant:
		return rateKey{action: action, tenant: id.Tenant}
	}
	return rateKey{action: action, tenant: id.Tenant, user: id.User}
}

// addressKey is one value for all addresses that one subscriber has: an IPv4 address, or a /64 of IPv6.
func addressKey(addr netip.Addr) [16]byte {
	switch {
	case !addr.IsValid():
		return [16]byte{}
	case addr.Is6() && !addr.Is4In6():
		prefix, _ := addr.WithZone("").Prefix(64)
		addr = prefix.Addr()
	}
	return addr.As16()
}

// Bounds of what rates remember, whoever calls. Past them, who has not called for longest is forgotten, and may call again.
const (
	rateShards   = 64
	rateShardMax = 2048 // keys in each half of a shard
)

// rates count the calls of all actions that have a Rate. Its methods may be called concurrently.
type rates struct {
	seed    maphash.Seed
	longest time.Duration // of all their times
	shards  [rateShards]rateShard
}

// A rateShard has the keys that were used since it turned, and those that were used before and not since. A key that was not
// used for the longest time of all has its calls back, so that forgetting it changes nothing.
type rateShard struct {
	mu            sync.Mutex
	turned        time.Time
	recent, older map[uint64]*rate.Limiter
}

func newRates(longest time.Duration) *rates {
	return &rates{seed: maphash.MakeSeed(), longest: longest}
}

// wait takes a call of key, and returns 0, or how long it must wait.
func (r *rates) wait(limit Rate, key rateKey, now time.Time) time.Duration {
	hash := maphash.Comparable(r.seed, key) // that two keys have the same is as likely as a broken disk
	shard := &r.shards[hash%rateShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	l := shard.limiter(hash, limit, r.longest, now)
	if l.AllowN(now, 1) {
		return 0
	}
	return max(time.Duration((1-l.TokensAt(now))/float64(l.Limit())*float64(time.Second)), 1)
}

func (s *rateShard) limiter(hash uint64, limit Rate, longest time.Duration, now time.Time) *rate.Limiter {
	if len(s.recent) >= rateShardMax || now.Sub(s.turned) >= longest || s.recent == nil {
		s.older, s.recent, s.turned = s.recent, make(map[uint64]*rate.Limiter), now
	}
	l := s.recent[hash]
	if l == nil {
		if l = s.older[hash]; l == nil {
			l = rate.NewLimiter(rate.Limit(float64(limit.n)/limit.per.Seconds()), limit.n)
		}
		s.recent[hash] = l
	}
	return l
}
