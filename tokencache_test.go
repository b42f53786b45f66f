package mooncore

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func (c *tokenCache) size() (n, bytes int) {
	for i := range c.shards {
		for _, m := range []map[uint64]cacheEntry{c.shards[i].fresh, c.shards[i].old} {
			for _, e := range m {
				n++
				bytes += len(e.token)
			}
		}
	}
	return n, bytes
}

func TestTokenCacheIsBounded(t *testing.T) {
	for _, test := range []struct {
		name     string
		size     int
		maxCount int
	}{
		{"small tokens", 100, 2 * cacheShards * cacheTokens},
		{"large tokens", maxTokenSize, 2 * cacheShards * cacheMaxBytes / maxTokenSize},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newTokenCache()
			said := &verified{}
			text := strings.Repeat("x", test.size)
			for i := range 4 * test.maxCount {
				token := fmt.Sprint(i, text)[:test.size]
				c.put(token, said)
				if c.get(token) != said {
					t.Fatalf("token %d is not there", i)
				}
			}
			n, bytes := c.size()
			if n > test.maxCount || n < test.maxCount/4 || bytes > 2*cacheShards*cacheMaxBytes {
				t.Errorf("%d tokens of %d bytes, want at most %d", n, bytes, test.maxCount)
			}
		})
	}
}

func TestTokenCacheKeepsWhatIsUsed(t *testing.T) {
	c := newTokenCache()
	said := &verified{}
	c.put("used", said)
	for i := range 50_000 {
		c.put(fmt.Sprint(i), &verified{})
		if i%100 == 0 && c.get("used") != said {
			t.Fatalf("gone after %d others", i)
		}
	}
	c.drop("used")
	if c.get("used") != nil {
		t.Error("still there after drop")
	}
	c.drop("unknown")
}

// A token is found only by all of its text, were its hash another one's.
func TestTokenCacheComparesTokens(t *testing.T) {
	c := newTokenCache()
	s, hash := c.shard("mine")
	s.add(hash, cacheEntry{"yours", &verified{}})
	if c.get("mine") != nil {
		t.Fatal("found by hash alone")
	}
	c.drop("mine")
	if len(s.fresh) != 1 {
		t.Error("drop took another token's entry")
	}
	said := &verified{}
	c.put("mine", said)
	if c.get("mine") != said || s.bytes != len("mine") {
		t.Errorf("%d bytes after one token took the other's place", s.bytes)
	}
}

func TestTokenCacheConcurrently(t *testing.T) {
	tok := testTokens(t, JWTConfig{PrivateKey: Secret(privatePEM(testEd25519()))})
	var all []string
	for i := range 20 {
		all = append(all, noError(tok.sign(Identity{User: fmt.Sprint("user", i), App: "myapp"})))
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 400 {
				n := i % len(all)
				if id, err := tok.verify(all[n]); err == nil && id.User != fmt.Sprint("user", n) {
					t.Errorf("token %d names %s", n, id.User)
				} else if err != nil && n != 7 {
					t.Errorf("token %d: %v", n, err)
				}
				if i == 200 {
					tok.revoke(Revocation{App: "myapp", User: "user7", IssuedUntil: time.Now()})
				}
			}
		})
	}
	wg.Wait()
	_, err := tok.verify(all[7])
	wantRefused(t, err, textInvalidToken)
}

func TestVerifyCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tok := testTokens(t, JWTConfig{PrivateKey: Secret(privatePEM(testECDSA())), Lifetime: time.Hour})
		token := noError(tok.sign(Identity{User: "a", App: "myapp", Roles: []string{"user", "editor"}}))
		first := noError(tok.verify(token))
		if n, _ := tok.cache.size(); n != 1 {
			t.Fatalf("%d tokens in the cache", n)
		}
		if allocs := testing.AllocsPerRun(100, func() { tok.verify(token) }); allocs != 0 {
			t.Errorf("a hit allocates %v times", allocs)
		}
		second := noError(tok.verify(token))
		longer := append(first.Roles, "one")
		if _ = append(second.Roles, "two"); longer[2] != "one" {
			t.Error("callers that append to Roles write over one another")
		}
		time.Sleep(time.Hour - time.Nanosecond)
		if id := noError(tok.verify(token)); !slices.Equal(id.Roles, []string{"user", "editor"}) {
			t.Errorf("Roles = %v", id.Roles)
		}
		time.Sleep(time.Nanosecond)
		for range 2 {
			_, err := tok.verify(token)
			wantRefused(t, err, textTokenExpired)
			if n, _ := tok.cache.size(); n != 0 {
				t.Errorf("%d tokens in the cache after they expired", n)
			}
		}
		if tok.verify(token[:len(token)-1]); len(tok.cache.shards[0].fresh) != 0 {
			t.Error("a bad token is in the cache")
		}
	})
}
