package mooncore

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestRevoke(t *testing.T) {
	for _, test := range []struct {
		name   string
		revoke func(tok *tokens, id Identity)
		wait   time.Duration // between the revocation and the look
		want   bool
	}{
		{"nothing", func(*tokens, Identity) {}, 0, false},
		{"the token", func(tok *tokens, id Identity) { tok.revoke(Revocation{TokenID: id.TokenID}) }, 0, true},
		{"another token", func(tok *tokens, id Identity) { tok.revoke(Revocation{TokenID: id.TokenID + "x"}) }, 0, false},
		{"the user", userRevoked(0), 0, true},
		{"the user, half a second later", userRevoked(500 * time.Millisecond), 0, true},
		{"the user, before", userRevoked(-time.Second), 0, false},
		{"another tenant's user", func(tok *tokens, id Identity) {
			tok.revoke(Revocation{App: "myapp", Tenant: "t2", User: "a", IssuedUntil: time.Now()})
		}, 0, false},
		{"another app's user", func(tok *tokens, id Identity) {
			tok.revoke(Revocation{App: "otherapp", Tenant: "t1", User: "a", IssuedUntil: time.Now()})
		}, 0, false},
		{"names that only look alike when put together", func(tok *tokens, id Identity) {
			tok.revoke(Revocation{App: "myapp", Tenant: "t", User: "1a", IssuedUntil: time.Now()})
		}, 0, false},
		{"the token, before that expires", func(tok *tokens, id Identity) {
			tok.revoke(Revocation{TokenID: id.TokenID, Expires: time.Now().Add(time.Minute)})
		}, time.Minute - 1, true},
		{"the token, after that expired", func(tok *tokens, id Identity) {
			tok.revoke(Revocation{TokenID: id.TokenID, Expires: time.Now().Add(time.Minute)})
		}, time.Minute, false},
		{"the user twice, the earlier time last", func(tok *tokens, id Identity) {
			userRevoked(0)(tok, id)
			now := time.Now()
			tok.revoke(Revocation{App: "myapp", Tenant: "t1", User: "a", IssuedUntil: now.Add(-time.Hour), Expires: now.Add(time.Minute)})
		}, time.Hour, true},
		{"expired from the start", func(tok *tokens, id Identity) {
			tok.revoke(Revocation{TokenID: id.TokenID, Expires: time.Now()})
		}, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tok := testTokens(t, JWTConfig{PrivateKey: Secret(privatePEM(testECDSA()))})
				token := noError(tok.sign(Identity{User: "a", App: "myapp", Tenant: "t1"}))
				id := noError(tok.verify(token)) // so it is in the cache
				test.revoke(tok, *id)
				time.Sleep(test.wait)
				if got := tok.revoked(id); got != test.want {
					t.Errorf("revoked = %v, want %v", got, test.want)
				}
				for range 2 {
					_, err := tok.verify(token)
					if test.want {
						wantRefused(t, err, textInvalidToken)
					} else if err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// userRevoked revokes what was issued to user a up to a time after now.
func userRevoked(d time.Duration) func(*tokens, Identity) {
	return func(tok *tokens, _ Identity) {
		tok.revoke(Revocation{App: "myapp", Tenant: "t1", User: "a", IssuedUntil: time.Now().Add(d)})
	}
}

func TestFreshTokenAfterRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tok := testTokens(t, JWTConfig{PrivateKey: Secret(privatePEM(testECDSA())), MaxLifetime: time.Hour}, appRoles{app: "solo"})
		old := noError(tok.sign(Identity{User: "a"}))
		time.Sleep(300 * time.Millisecond)
		tok.revoke(Revocation{User: "a", IssuedUntil: time.Now()}) // the only app, in the same second
		_, err := tok.verify(old)
		wantRefused(t, err, textInvalidToken)

		id, err := tok.verify(noError(tok.sign(Identity{User: "a"})))
		if err != nil {
			t.Fatalf("a token made after the revocation: %v", err)
		}
		if tok.revoked(id) || id.issued != time.Now().Unix()+1 || fmt.Sprint(id.Claims["nbf"]) != fmt.Sprint(time.Now().Unix()) {
			t.Errorf("iat %d, nbf %v at %d", id.issued, id.Claims["nbf"], time.Now().Unix())
		}
		if id := noError(tok.verify(noError(tok.sign(Identity{User: "b"})))); id.issued != time.Now().Unix() {
			t.Errorf("iat %d of another user", id.issued)
		}

		tok.revoke(Revocation{User: "a", IssuedUntil: time.Now().Add(time.Hour)})
		if _, err := tok.sign(Identity{User: "a"}); err == nil {
			t.Error("signed a token that is never good")
		}
	})
}

func TestRevokedFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := JWTConfig{PrivateKey: Secret(privatePEM(testECDSA()))}
		before := testTokens(t, cfg)
		one := noError(before.verify(noError(before.sign(Identity{User: "a", App: "myapp"}))))
		cfg.Revoked = []Revocation{{TokenID: one.TokenID}, {App: "myapp", User: "b", IssuedUntil: time.Now()}}
		tok := testTokens(t, cfg)
		for _, test := range []struct {
			id   Identity
			want bool
		}{
			{*one, true},
			{Identity{App: "myapp", User: "b", issued: time.Now().Unix()}, true},
			{Identity{App: "myapp", User: "b", issued: time.Now().Unix() + 1}, false},
			{Identity{App: "myapp", User: "b"}, true}, // came with no token
			{Identity{App: "myapp", User: "c"}, false},
		} {
			if got := tok.revoked(&test.id); got != test.want {
				t.Errorf("revoked(%+v) = %v", test.id, got)
			}
		}
	})
}

func TestRevocationsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r revocations
		for i := range 10_000 {
			now := time.Now()
			r.add(Revocation{TokenID: fmt.Sprint(i), Expires: now.Add(time.Minute)}, now)
			r.add(Revocation{User: fmt.Sprint(i), IssuedUntil: now, Expires: now.Add(time.Minute)}, now)
			time.Sleep(time.Second)
		}
		if n := len(r.tokens) + len(r.users); n > 2*minPrune {
			t.Errorf("%d are kept", n)
		}
		if !r.covers("9999", userKey{}, 0, time.Now()) {
			t.Error("the last one is not")
		}
	})
}

// What is listed is what counts, and adding it again is no news.
func TestRevocationsList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var from, to revocations
		now := time.Now()
		for _, r := range []Revocation{
			{TokenID: "gone", Expires: now.Add(time.Second)},
			{TokenID: "token", Expires: now.Add(time.Hour)},
			{TokenID: "for ever"},
			{App: "a", Tenant: "t", User: "u", IssuedUntil: now, Expires: now.Add(time.Hour)},
		} {
			if !from.add(r, now) || from.add(r, now) {
				t.Errorf("%+v: news the second time, or not the first", r)
			}
		}
		time.Sleep(time.Minute)
		now = time.Now()
		list := from.list(now)
		for _, r := range list {
			if !to.add(r, now) || from.add(r, now) {
				t.Errorf("%+v: no news to another, or to its own", r)
			}
		}
		issued := now.Add(-time.Minute).Unix()
		if len(list) != 3 || !to.covers("token", userKey{}, 0, now) || !to.covers("for ever", userKey{}, 0, now.Add(1000*time.Hour)) ||
			!to.covers("", userKey{"a", "t", "u"}, issued, now) || to.covers("", userKey{"a", "t", "u"}, issued+1, now) {
			t.Errorf("listed %+v", list)
		}
		if later := (Revocation{TokenID: "token", Expires: now.Add(2 * time.Hour)}); !to.add(later, now) {
			t.Error("a later expiry is no news")
		}
	})
}
