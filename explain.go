package mooncore

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A TokenReport says what a token holds, and whether a server takes it.
type TokenReport struct {
	// Good reports whether all checks passed: then the server takes the token.
	Good bool `json:"good"`

	// Header and Claims are what the token holds, whoever signed it; empty where it cannot be read.
	Header json.RawMessage `json:"header,omitempty"`
	Claims json.RawMessage `json:"claims,omitempty"`

	// Roles are the names of the roles in the claims, those that the app has.
	Roles []string `json:"roles,omitempty"`

	// Checks are what was asked of the token, in the order in which the server asks. After one that failed, those that can be asked
	// still are.
	Checks []TokenCheck `json:"checks"`
}

// A TokenCheck is one of the things that must hold for a token.
type TokenCheck struct {
	// Name is "form", "header", "signature", "claims" or "now", which is about the time and revocations.
	Name string `json:"name"`

	// OK reports whether it holds.
	OK bool `json:"ok"`

	// Detail says what was found, or why it does not hold. It is for the program's own people: a client is never told.
	Detail string `json:"detail"`
}

// ExplainToken says what a token holds and what is wrong with it, for tools. It looks at Config.JWT and at revocations, and does not
// ask Config.Authenticate.
func (s *Server) ExplainToken(token string) TokenReport { return s.tokens.explain(token) }

// explain asks what verify asks, one by one.
func (t *tokens) explain(token string) TokenReport {
	r := TokenReport{Good: true, Checks: []TokenCheck{}}
	check := func(name string, err error, detail string) bool {
		if err != nil {
			r.Good, detail = false, err.Error()
		}
		r.Checks = append(r.Checks, TokenCheck{name, err == nil, detail})
		return err == nil
	}
	header, payload, signature, err := splitToken(token)
	if len(token) > maxTokenSize {
		err = fmt.Errorf("%d bytes: at most %d", len(token), maxTokenSize)
	}
	if !check("form", err, fmt.Sprintf("three parts in base64url, %d bytes", len(token))) {
		return r
	}
	raw, alg, kid, err := decodeHeader(header)
	r.Header = validJSON(raw)
	if check("header", err, keyText(alg, kid)) {
		err := t.checkSignature(header, signature, token[:len(header)+1+len(payload)])
		if err != nil {
			err = fmt.Errorf("%w. The token has %s; the server has %s", err, keyText(alg, kid), t.keyTexts())
		}
		check("signature", err, "made by a key of the server")
	}
	raw, err = decodeClaims(payload)
	r.Claims = validJSON(raw)
	var v *verified
	if err == nil {
		v, err = t.readClaims(raw)
	}
	if !check("claims", err, "all that are required, of the right types") {
		return r
	}
	r.Roles = v.id.Roles
	if err = t.current(v); err != nil {
		e := asError(err)
		switch {
		case e.Err == nil:
			err = fmt.Errorf("claim exp: it was good until %s", timeText(v.id.Expires))
		case time.Unix(v.nbf, 0).After(time.Now()):
			err = fmt.Errorf("%w: it will be at %s", e.Err, timeText(time.Unix(v.nbf, 0)))
		default:
			err = e.Err
		}
	}
	check("now", err, "good until "+timeText(v.id.Expires))
	return r
}

// timeText is a time and how far away it is.
func timeText(at time.Time) string {
	text, d := at.UTC().Format(time.RFC3339), time.Until(at).Round(time.Second)
	if d < 0 {
		return fmt.Sprintf("%s, %v ago", text, -d)
	}
	return fmt.Sprintf("%s, in %v", text, d)
}

func keyText(alg string, kid *string) string {
	if kid == nil {
		return fmt.Sprintf("alg %s without kid", clip(alg))
	}
	return fmt.Sprintf("alg %s, kid %q", clip(alg), clip(*kid))
}

// keyTexts describes the keys that verify.
func (t *tokens) keyTexts() string {
	if len(t.keys) == 0 {
		return "no key"
	}
	texts := make([]string, len(t.keys))
	for i, key := range t.keys {
		texts[i] = key.method.Alg()
		if key.kid != "" {
			texts[i] = keyText(key.method.Alg(), &key.kid)
		}
	}
	return strings.Join(texts, "; ")
}

func validJSON(data []byte) json.RawMessage {
	if !json.Valid(data) {
		return nil
	}
	return data
}
