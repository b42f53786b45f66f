package mooncore

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// JWTConfig says which tokens are good and how they are signed (PROTOCOL.md section 1). Its algorithms follow from its keys and
// never from a token: RS256 for RSA of 2048 bits or more, ES256 for P-256, EdDSA for Ed25519; HS256 only when Secret alone is set.
//
// To change the key, give the new one as PrivateKey and keep the old one's public half in PublicKeys until its last token has
// expired. While there are several keys, tokens name theirs by kid.
type JWTConfig struct {
	// Issuer is the claim iss that tokens get and must have. Default "mooncore".
	Issuer string

	// PrivateKey signs, and its public half verifies: one PEM block of PKCS #8, PKCS #1 or SEC 1, not encrypted. Newlines may be
	// spelled \n. Default none; New makes one in development if there is neither another key nor Authenticate.
	PrivateKey Secret

	// PublicKeys verify too: PEM blocks of public keys or certificates one after another, or a JWK set of RFC 7517, whose keys
	// of other uses and algorithms are passed over. A block's kid is its RFC 7638 thumbprint. Dates of certificates don't count.
	// A server that has no PrivateKey only verifies. Default none.
	PublicKeys string

	// Secret is the symmetric key of HS256, at least 32 bytes. It must stand alone: with another key it is a fault. Default none.
	Secret Secret

	// Lifetime is how long a token of [Server.Token] is good, in whole seconds. Default 18h, or MaxLifetime if that is less.
	Lifetime time.Duration

	// MaxLifetime refuses tokens that were issued for longer, exp less iat, and those without iat. A revocation is forgotten
	// when no token can be that old any more; without MaxLifetime, never. Default 0: any.
	MaxLifetime time.Duration

	// Leeway is how far clocks may differ for exp and nbf. Default 0.
	Leeway time.Duration

	// Revoked are revocations to start with: those that OnRevoke kept. Default none.
	Revoked []Revocation

	// OnRevoke is called with each revocation made on this server, before it takes effect, so that a program can keep it. If it
	// fails, so does the revocation's call, and nothing is revoked. Default nil: revocations end with the process.
	OnRevoke func(ctx context.Context, r Revocation) error
}

// A Revocation refuses tokens that would else be good: one by its TokenID, or all of a user issued up to a time.
type Revocation struct {
	// TokenID is the jti of one token. If it is set, App, Tenant, User and IssuedUntil don't count.
	TokenID string

	// App, Tenant and User name whose tokens are refused. App may be empty when there is one router.
	App, Tenant, User string

	// IssuedUntil is the last iat that is refused, in whole seconds.
	IssuedUntil time.Time

	// Expires is when no refused token can be good any more, and the revocation can be forgotten. The zero time is never.
	Expires time.Time
}

// Limits of tokens, and texts that clients get.
const (
	maxTokenSize = 8 << 10

	textInvalidToken = "Invalid token"
	textTokenExpired = "Token expired"
)

// tokenEncoding refuses bits past the end. It passes over line breaks, which splitToken has refused by then.
var tokenEncoding = base64.RawURLEncoding.Strict()

// errTokenSize is made once, since nothing is allocated for a token that is too large.
var errTokenSize error = &Error{Code: CodeUnauthenticated, Message: textInvalidToken, Err: errors.New("over 8 KiB")}

// appRoles are the roles of one app.
type appRoles struct {
	app   string
	roles []string
}

// tokens sign and verify tokens. Its methods may be called concurrently.
type tokens struct {
	issuer      string
	lifetime    int64 // seconds
	maxLifetime int64 // seconds, 0 for any
	leeway      time.Duration

	apps    map[string]*tokenApp
	onlyApp *tokenApp // nil if there are several

	signer    *signKey // nil if the server only verifies
	keys      []verifyKey
	ephemeral bool

	cache       *tokenCache
	revocations revocations
}

// A tokenApp is what tokens of one app can say.
type tokenApp struct {
	name  string
	roles []string
	bits  map[string]int // of the roles
}

// verified is what a token says whose signature is good, whatever the time is.
type verified struct {
	id  Identity
	nbf int64 // Unix seconds
}

// newTokens returns the tokens of cfg, or all its faults at once. apps stand in the order of Config.Routers. Without any key it
// fails unless authenticate says that somebody else tells who calls, or development permits to make a key.
func newTokens(cfg JWTConfig, apps []appRoles, development, authenticate bool) (*tokens, error) {
	t := &tokens{
		issuer:      cfg.Issuer,
		lifetime:    int64(cfg.Lifetime / time.Second),
		maxLifetime: int64(cfg.MaxLifetime / time.Second),
		leeway:      cfg.Leeway,
		apps:        make(map[string]*tokenApp, len(apps)),
		cache:       newTokenCache(),
	}
	var faults []error
	fault := func(field, format string, args ...any) {
		faults = append(faults, fmt.Errorf("JWT."+field+": "+format, args...))
	}
	if t.issuer == "" {
		t.issuer = "mooncore"
	}
	if !utf8.ValidString(t.issuer) {
		fault("Issuer", "invalid UTF-8")
	}
	if cfg.MaxLifetime != 0 && t.maxLifetime <= 0 {
		fault("MaxLifetime", "%v: at least 1s", cfg.MaxLifetime)
	}
	switch {
	case cfg.Lifetime == 0:
		t.lifetime = int64(18 * time.Hour / time.Second)
		if t.maxLifetime > 0 {
			t.lifetime = min(t.lifetime, t.maxLifetime)
		}
	case t.lifetime <= 0:
		fault("Lifetime", "%v: at least 1s", cfg.Lifetime)
	case t.maxLifetime > 0 && t.lifetime > t.maxLifetime:
		fault("Lifetime", "%v is longer than MaxLifetime %v", cfg.Lifetime, cfg.MaxLifetime)
	}
	if cfg.Leeway < 0 {
		fault("Leeway", "%v: must not be negative", cfg.Leeway)
	}
	for i, a := range apps {
		if len(a.roles) > maxRoles {
			faults = append(faults, fmt.Errorf("Routers[%d].Roles: %d roles: at most %d fit in a token", i, len(a.roles), maxRoles))
			continue
		}
		app := &tokenApp{name: a.app, roles: slices.Clone(a.roles), bits: make(map[string]int, len(a.roles))}
		for bit, role := range a.roles {
			app.bits[role] = bit
		}
		t.apps[a.app] = app
		if len(apps) == 1 {
			t.onlyApp = app
		}
	}
	t.setKeys(cfg, fault)
	if cfg.PrivateKey == "" && cfg.PublicKeys == "" && cfg.Secret == "" && !authenticate {
		if development {
			if key, err := developmentKey(); err != nil {
				fault("PrivateKey", "%w", err)
			} else {
				t.signer, t.keys, t.ephemeral = key, []verifyKey{key.public}, true
			}
		} else {
			faults = append(faults, errNoKey)
		}
	}
	now := time.Now()
	for i, r := range cfg.Revoked {
		field := "Revoked[" + strconv.Itoa(i) + "]"
		switch {
		case r.TokenID == "" && r.User == "":
			fault(field, "has neither TokenID nor User")
		case r.TokenID == "" && r.IssuedUntil.IsZero():
			fault(field, "has no IssuedUntil")
		default:
			t.revocations.add(t.fullRevocation(r), now)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return t, nil
}

// setKeys reads the keys of cfg.
func (t *tokens) setKeys(cfg JWTConfig, fault func(field, format string, args ...any)) {
	if cfg.Secret != "" {
		if cfg.PrivateKey != "" || cfg.PublicKeys != "" {
			fault("Secret", "must not stand beside PrivateKey or PublicKeys")
		}
		key, err := newSecretKey(cfg.Secret)
		if err != nil {
			fault("Secret", "%w", err)
			return
		}
		t.signer, t.keys = key, []verifyKey{key.public}
		return
	}
	if cfg.PrivateKey != "" {
		key, err := parsePrivateKey(string(cfg.PrivateKey))
		if err != nil {
			fault("PrivateKey", "%w", err)
		} else {
			t.signer, t.keys = key, []verifyKey{key.public}
		}
	}
	if cfg.PublicKeys == "" {
		return
	}
	keys, err := parsePublicKeys(cfg.PublicKeys)
	if err != nil {
		fault("PublicKeys", "%w", err)
		return
	}
	for _, key := range keys {
		if i := slices.IndexFunc(t.keys, key.equal); i >= 0 {
			t.keys[i].kid = key.kid // a JWK's own kid stands above the thumbprint
			continue
		}
		t.keys = append(t.keys, key)
	}
	for i, key := range t.keys {
		if slices.ContainsFunc(t.keys[:i], func(k verifyKey) bool { return k.kid == key.kid }) {
			fault("PublicKeys", "two keys have the kid %q", key.kid)
		}
	}
	if t.signer != nil {
		t.signer.public.kid = t.keys[0].kid
	}
}

// fullRevocation names the only app in r if r names none.
func (t *tokens) fullRevocation(r Revocation) Revocation {
	if r.App == "" && t.onlyApp != nil {
		r.App = t.onlyApp.name
	}
	return r
}

// enabled reports whether any token can be good.
func (t *tokens) enabled() bool { return len(t.keys) > 0 }

// String describes the keys for the log, such as "RS256, verify only".
func (t *tokens) String() string {
	if !t.enabled() {
		return "off"
	}
	var algs []string
	for _, key := range t.keys {
		if alg := key.method.Alg(); !slices.Contains(algs, alg) {
			algs = append(algs, alg)
		}
	}
	s := strings.Join(algs, " ")
	if len(t.keys) > 1 {
		s += fmt.Sprintf(", %d keys", len(t.keys))
	}
	if t.ephemeral {
		s += ", made at start"
	}
	if t.signer == nil {
		s += ", verify only"
	}
	return s
}

// verify returns whom the token names. Its error is an [*Error] with CodeUnauthenticated, whose cause never holds the token.
//
// Callers share the Identity: they must not change it, nor its Roles and Claims.
func (t *tokens) verify(token string) (*Identity, error) {
	if len(token) > maxTokenSize {
		return nil, errTokenSize
	}
	v := t.cache.get(token)
	cached := v != nil
	if !cached {
		var err error
		if v, err = t.read(token); err != nil {
			return nil, &Error{Code: CodeUnauthenticated, Message: textInvalidToken, Err: err}
		}
	}
	if err := t.current(v); err != nil {
		if cached {
			t.cache.drop(token)
		}
		return nil, err
	}
	if !cached {
		t.cache.put(token, v)
	}
	return &v.id, nil
}

// current checks what changes with time. It runs for cached tokens too.
func (t *tokens) current(v *verified) error {
	now := time.Now() // once: it costs as much as finding the token
	switch {
	case !now.Before(v.id.Expires.Add(t.leeway)):
		return &Error{Code: CodeUnauthenticated, Message: textTokenExpired}
	case now.Before(time.Unix(v.nbf, 0).Add(-t.leeway)):
		return &Error{Code: CodeUnauthenticated, Message: textInvalidToken, Err: errors.New("claim nbf: not good yet")}
	case t.revokedAt(&v.id, now):
		return &Error{Code: CodeUnauthenticated, Message: textInvalidToken, Err: errors.New("revoked")}
	}
	return nil
}

// revoke takes effect at once, for cached tokens too. Connections that are open must ask revoked. It reports whether r is news.
func (t *tokens) revoke(r Revocation) bool { return t.revocations.add(t.fullRevocation(r), time.Now()) }

// refuses reports whether id may not come in any more: its token is revoked, or, of what Config.Authenticate said, its TokenID.
// Such an Identity has no iat: the revocation of a user ends the connections of that moment, and the program refuses new ones.
func (t *tokens) refuses(id *Identity) bool {
	if !id.token {
		return id.TokenID != "" && t.revoked(&Identity{TokenID: id.TokenID})
	}
	return t.revoked(id)
}

// revoked reports whether the token that id came with is refused by now. An Identity that came with no token counts as issued
// before all revocations of its user.
func (t *tokens) revoked(id *Identity) bool { return t.revokedAt(id, time.Now()) }

func (t *tokens) revokedAt(id *Identity, now time.Time) bool {
	return t.revocations.covers(id.TokenID, userKey{id.App, id.Tenant, id.User}, id.issued, now)
}

// read checks all of a token that does not change with time. Claims are not looked at before the signature is good.
func (t *tokens) read(token string) (*verified, error) {
	header, payload, signature, err := splitToken(token)
	if err != nil {
		return nil, err
	}
	if err := t.checkSignature(header, signature, token[:len(header)+1+len(payload)]); err != nil {
		return nil, err
	}
	claims, err := decodeClaims(payload)
	if err != nil {
		return nil, err
	}
	return t.readClaims(claims)
}

// splitToken returns the three parts, which have no byte that is not of base64url.
func splitToken(token string) (header, payload, signature string, err error) {
	var dots [2]int
	n := 0
	for i := range len(token) {
		switch c := token[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.' && n < len(dots):
			dots[n] = i
			n++
		default:
			return "", "", "", errors.New("not three parts in base64url")
		}
	}
	if n < len(dots) {
		return "", "", "", errors.New("not three parts in base64url")
	}
	return token[:dots[0]], token[dots[0]+1 : dots[1]], token[dots[1]+1:], nil
}

func decodeHeader(header string) (raw []byte, alg string, kid *string, err error) {
	raw, err = tokenEncoding.DecodeString(header)
	if err != nil {
		return nil, "", nil, errors.New("header: not canonical base64url")
	}
	alg, kid, err = readHeader(raw)
	return raw, alg, kid, err
}

func decodeClaims(payload string) ([]byte, error) {
	raw, err := tokenEncoding.DecodeString(payload)
	if err != nil {
		return nil, errors.New("claims: not canonical base64url")
	}
	return raw, nil
}

// checkSignature checks the header, and the signature by the keys that it leaves. What the header says can only rule keys out.
func (t *tokens) checkSignature(header, signature, signed string) error {
	_, alg, kid, err := decodeHeader(header)
	if err != nil {
		return err
	}
	sig, err := tokenEncoding.DecodeString(signature)
	if err != nil {
		return errors.New("signature: not canonical base64url")
	}
	err = errors.New("header alg or kid: no such key")
	for _, key := range t.keys {
		if key.method.Alg() != alg || len(t.keys) > 1 && kid != nil && key.kid != *kid {
			continue
		}
		if key.method.Verify(signed, sig, key.key) == nil {
			return nil
		}
		err = errors.New("signature: wrong")
	}
	return err
}

// sign returns a token for id: its User, App, Tenant, Scope, Roles, and Expires or JWTConfig.Lifetime from now, under a new jti.
// Claims without a meaning of their own are carried along. Its errors name the field of id.
func (t *tokens) sign(id Identity) (string, error) {
	if t.signer == nil {
		return "", errors.New("JWT.PrivateKey: there is none, so tokens can only be verified")
	}
	if id.User == "" {
		return "", errors.New("Identity.User: empty")
	}
	if id.Tenant == anonTenant {
		return "", fmt.Errorf("Identity.Tenant: %s is reserved", anonTenant)
	}
	if id.Scope == "" {
		id.Scope = defaultScope
	}
	for _, name := range []struct{ field, text string }{{"User", id.User}, {"Tenant", id.Tenant}, {"Scope", id.Scope}} {
		if err := checkName(name.text); err != nil {
			return "", fmt.Errorf("Identity.%s: %w", name.field, err)
		}
	}
	app := t.apps[id.App]
	if id.App == "" && t.onlyApp != nil {
		app = t.onlyApp
	}
	if app == nil {
		return "", fmt.Errorf("Identity.App: %q is not registered", id.App)
	}
	var mask roleMask
	for _, role := range id.Roles {
		bit, ok := app.bits[role]
		if !ok {
			return "", fmt.Errorf("Identity.Roles: the app %q has no role %q", app.name, role)
		}
		mask.set(bit)
	}
	now := time.Now()
	exp := now.Unix() + t.lifetime
	if !id.Expires.IsZero() {
		exp = id.Expires.Unix()
	}
	// A user whose tokens were revoked in this second would else get one that is refused at once.
	iat := t.revocations.issuedAfter(userKey{app.name, id.Tenant, id.User}, now)
	switch {
	case exp <= now.Unix():
		return "", errors.New("Identity.Expires: in the past")
	case exp > maxUnixTime:
		return "", errors.New("Identity.Expires: past the year 9999")
	case exp <= iat:
		return "", errors.New("Identity.User: revoked for longer than the token would be good")
	case t.maxLifetime > 0 && exp-iat > t.maxLifetime:
		return "", errors.New("Identity.Expires: past JWT.MaxLifetime")
	}

	claims := make(map[string]any, len(id.Claims)+numClaims)
	for name, value := range id.Claims {
		if !slices.Contains(claimNames, name) {
			claims[name] = value
		}
	}
	set := func(claim int, value any) { claims[claimNames[claim]] = value }
	set(claimUser, id.User)
	if app.name != "" {
		set(claimApp, app.name)
	}
	set(claimTenant, id.Tenant)
	set(claimScope, id.Scope)
	set(claimRoles, mask.encode())
	set(claimAud, tokenAudience)
	set(claimIss, t.issuer)
	set(claimExp, exp)
	set(claimIat, iat)
	set(claimNbf, now.Unix())
	set(claimJti, newTokenID())
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("Identity.Claims: %w", err)
	}
	// No token goes out that would not be good here: Claims may hold a key such as "Exp".
	if _, err := t.readClaims(payload); err != nil {
		return "", fmt.Errorf("Identity: %w", err)
	}
	header := `{"alg":"` + t.signer.method.Alg() + `","typ":"JWT"}`
	if len(t.keys) > 1 {
		kid := strictjson.AppendQuote(nil, t.signer.public.kid)
		header = `{"alg":"` + t.signer.method.Alg() + `","kid":` + string(kid) + `,"typ":"JWT"}`
	}
	token := b64([]byte(header)) + "." + b64(payload)
	sig, err := t.signer.method.Sign(token, t.signer.private)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	token += "." + b64(sig)
	if len(token) > maxTokenSize {
		return "", fmt.Errorf("Identity.Claims: the token has %d bytes: at most %d", len(token), maxTokenSize)
	}
	return token, nil
}

// newTokenID returns 128 random bits.
func newTokenID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails
	return b64(id[:])
}
