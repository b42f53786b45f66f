package mooncore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mooncore/mooncore/internal/strictjson"
)

const (
	tokenAudience = "api"
	maxUnixTime   = 253402300799 // the end of the year 9999
)

// The names of claims with a meaning, in the order of the constants below.
var claimNames = []string{"user", "app", "tenant", "scope", "roles", "aud", "iss", "exp", "iat", "nbf", "jti"}

const (
	claimUser = iota
	claimApp
	claimTenant
	claimScope
	claimRoles
	claimAud
	claimIss
	claimExp
	claimIat
	claimNbf
	claimJti
	numClaims
)

// The members that a header may have, alg and kid first.
var headerNames = []string{"alg", "kid", "typ", "x5t", "x5t#S256"}

// readHeader returns alg, and kid if there is one.
func readHeader(data []byte) (alg string, kid *string, err error) {
	var raw [5][]byte
	kind, err := strictjson.Scan(data, headerNames, raw[:])
	if err != nil {
		return "", nil, fmt.Errorf("header: %w", err)
	}
	if kind != strictjson.Object {
		return "", nil, errors.New("header: not an object")
	}
	members := 0
	for range strictjson.Members(data) {
		members++
	}
	var text [len(raw)]string
	for i, value := range raw {
		if value == nil {
			continue
		}
		members--
		var ok bool
		if text[i], ok = strictjson.Unquote(value); !ok {
			return "", nil, errors.New("header " + headerNames[i] + ": not a string")
		}
	}
	switch {
	case members != 0:
		return "", nil, errors.New("header: has an unknown member")
	case raw[2] != nil && text[2] != "JWT":
		return "", nil, errors.New("header typ: not JWT")
	}
	if raw[1] != nil {
		kid = &text[1]
	}
	return text[0], kid, nil // without alg, "", which no key has
}

// readClaims checks claims and makes the Identity.
func (t *tokens) readClaims(data []byte) (*verified, error) {
	var raw [numClaims][]byte
	kind, err := strictjson.Scan(data, claimNames, raw[:])
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	if kind != strictjson.Object {
		return nil, errors.New("claims: not an object")
	}
	var text [numClaims]string
	for _, i := range [...]int{claimUser, claimApp, claimTenant, claimScope, claimIss, claimJti} {
		if raw[i] == nil {
			continue
		}
		var ok bool
		if text[i], ok = strictjson.Unquote(raw[i]); !ok {
			return nil, errors.New("claim " + claimNames[i] + ": not a string")
		}
	}
	for _, i := range [...]int{claimUser, claimTenant, claimScope} {
		if err := checkName(text[i]); err != nil {
			return nil, fmt.Errorf("claim %s: %w", claimNames[i], err)
		}
	}
	var when [numClaims]int64
	for _, i := range [...]int{claimExp, claimIat, claimNbf} {
		if raw[i] == nil {
			continue
		}
		n, err := strconv.ParseInt(string(raw[i]), 10, 64) // takes no fraction and no exponent
		if err != nil || n < 0 || n > maxUnixTime {
			return nil, errors.New("claim " + claimNames[i] + ": not a time in whole seconds")
		}
		when[i] = n
	}
	switch {
	case text[claimUser] == "":
		return nil, errors.New("claim user: missing or empty")
	case text[claimTenant] == anonTenant:
		return nil, errors.New("claim tenant: reserved")
	case text[claimIss] != t.issuer:
		return nil, fmt.Errorf("claim iss: %q, not %q", clip(text[claimIss]), t.issuer)
	case !hasAudience(raw[claimAud]):
		return nil, errors.New("claim aud: not api")
	case raw[claimExp] == nil:
		return nil, errors.New("claim exp: missing")
	case t.maxLifetime > 0 && raw[claimIat] == nil:
		return nil, errors.New("claim iat: missing")
	case t.maxLifetime > 0 && (when[claimExp]-when[claimIat] > t.maxLifetime || when[claimExp] < when[claimIat]):
		return nil, errors.New("claim exp: past the maximum lifetime")
	}
	app := t.onlyApp
	if raw[claimApp] != nil {
		app = t.apps[text[claimApp]]
	}
	if app == nil {
		return nil, fmt.Errorf("claim app: %q is not registered", clip(text[claimApp]))
	}
	if raw[claimScope] == nil {
		text[claimScope] = defaultScope
	}
	roles, ok := app.readRoles(raw[claimRoles])
	if !ok {
		return nil, errors.New("claim roles: neither a bitmask nor an array of names")
	}
	var claims map[string]any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&claims); err != nil {
		return nil, errors.New("claims: cannot be decoded")
	}
	if raw[claimRoles] != nil {
		claims[claimNames[claimRoles]] = roles
	}
	return &verified{
		id: Identity{
			User:    text[claimUser],
			App:     app.name,
			Tenant:  text[claimTenant],
			Scope:   text[claimScope],
			Roles:   roles,
			TokenID: text[claimJti],
			Expires: time.Unix(when[claimExp], 0),
			Claims:  claims,
			token:   true,
			issued:  when[claimIat],
		},
		nbf: when[claimNbf],
	}, nil
}

// readRoles returns the names in a claim, those that the app has, in its order and never nil.
func (a *tokenApp) readRoles(raw []byte) (names []string, ok bool) {
	var mask roleMask
	switch strictjson.KindOf(raw) {
	case 0: // absent
	case strictjson.String:
		digits, _ := strictjson.Unquote(raw)
		if mask, ok = decodeRoles(digits); !ok {
			return nil, false
		}
	case strictjson.Array:
		for element := range strictjson.Elements(raw) {
			name, ok := strictjson.Unquote(element)
			if !ok {
				return nil, false
			}
			if bit, ok := a.bits[name]; ok {
				mask.set(bit)
			}
		}
	default:
		return nil, false
	}
	names = []string{}
	for bit, name := range a.roles {
		if mask.has(bit) {
			names = append(names, name)
		}
	}
	return slices.Clip(names), true // so that an append copies what callers share
}

// hasAudience reports whether a claim is "api" or an array of strings with "api" in it.
func hasAudience(raw []byte) bool {
	if strictjson.KindOf(raw) != strictjson.Array {
		text, _ := strictjson.Unquote(raw)
		return text == tokenAudience
	}
	found := false
	for element := range strictjson.Elements(raw) {
		text, ok := strictjson.Unquote(element)
		if !ok {
			return false
		}
		found = found || text == tokenAudience
	}
	return found
}

// checkName refuses what could make two names look alike or break a line of a log: control characters and those that turn the
// direction of writing.
func checkName(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("invalid UTF-8")
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return errors.New("has a control or bidirectional character")
		}
	}
	return nil
}
