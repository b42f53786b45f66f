package mooncore

import (
	"hash/maphash"
	"strings"
	"sync"
)

// Limits of a tokenCache. In all it holds at most 8192 tokens with at most 8 MiB of text, and what they say.
const (
	cacheShards   = 16
	cacheTokens   = 256       // of a generation of a shard
	cacheMaxBytes = 256 << 10 // of token text, of a generation of a shard
)

// A tokenCache remembers what tokens say whose signature and claims were found good, so that a client that sends its token with
// each call costs one verification. What depends on the time or on revocations is no part of it: verify looks at that each time.
//
// A token is found by a hash with a random seed, and then compared as a whole, so that nobody can aim at another one's entry.
// Each shard has two generations: a full new one becomes the old one, whose entries come back when they are used.
type tokenCache struct {
	seed   maphash.Seed
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu         sync.Mutex
	fresh, old map[uint64]cacheEntry
	bytes      int // of token text in fresh
	_          [32]byte
}

type cacheEntry struct {
	token string
	said  *verified
}

func newTokenCache() *tokenCache {
	return &tokenCache{seed: maphash.MakeSeed()}
}

func (c *tokenCache) shard(token string) (*cacheShard, uint64) {
	hash := maphash.String(c.seed, token)
	return &c.shards[hash%cacheShards], hash
}

// get returns what the token says, or nil. It allocates nothing.
func (c *tokenCache) get(token string) *verified {
	s, hash := c.shard(token)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.fresh[hash]; ok && e.token == token {
		return e.said
	}
	if e, ok := s.old[hash]; ok && e.token == token {
		delete(s.old, hash)
		s.add(hash, e)
		return e.said
	}
	return nil
}

// put copies token, which may be part of a large header.
func (c *tokenCache) put(token string, said *verified) {
	s, hash := c.shard(token)
	e := cacheEntry{strings.Clone(token), said}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(hash, e)
}

// drop forgets a token.
func (c *tokenCache) drop(token string) {
	s, hash := c.shard(token)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.fresh[hash]; ok && e.token == token {
		s.bytes -= len(e.token)
		delete(s.fresh, hash)
	}
	if e, ok := s.old[hash]; ok && e.token == token {
		delete(s.old, hash)
	}
}

func (s *cacheShard) add(hash uint64, e cacheEntry) {
	if len(s.fresh) >= cacheTokens || s.bytes+len(e.token) > cacheMaxBytes {
		// The maps swap, so that those of a busy cache are reused.
		s.fresh, s.old = s.old, s.fresh
		clear(s.fresh)
		s.bytes = 0
	}
	if s.fresh == nil {
		s.fresh = make(map[uint64]cacheEntry)
	}
	s.bytes += len(e.token) - len(s.fresh[hash].token)
	s.fresh[hash] = e
}
