package devtools

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mooncore/mooncore"
)

// maxLifetime bounds tokens that the dashboard makes.
const maxLifetime = 366 * 24 * time.Hour

func (t *tools) postToken(r *http.Request) (any, error) {
	in, err := readBody[struct {
		Identity identity `json:"identity"`
		Lifetime int64    `json:"lifetime_s"`
	}](r)
	if err != nil {
		return nil, err
	}
	lifetime := time.Duration(in.Lifetime) * time.Second
	router := t.router(in.Identity.App)
	switch {
	case in.Identity.User == "":
		return nil, mooncore.FieldError("identity.user", "is required")
	case router == nil:
		return nil, mooncore.FieldError("identity.app", "there is none of that name")
	case in.Lifetime < 1 || in.Lifetime > int64(maxLifetime/time.Second):
		return nil, mooncore.FieldError("lifetime_s", "must be from 1 second to a year")
	}
	for _, role := range in.Identity.Roles {
		if !slices.Contains(router.Roles, role) {
			return nil, mooncore.FieldError("identity.roles", fmt.Sprintf("the app has no role %q", role))
		}
	}
	id := in.Identity.mooncore()
	id.Expires = time.Now().Add(lifetime)
	token, err := t.srv.Token(id)
	if err != nil {
		return nil, &mooncore.Error{Code: mooncore.CodeFailedPrecondition, Message: fmt.Sprintf("No token: %v", err), Err: err}
	}
	t.audit("token made", "user", clip(id.User), "tenant", clip(id.Tenant), "app", clip(id.App), "lifetime", lifetime)
	_, claims := tokenParts(token)
	return map[string]any{"token": token, "claims": claims}, nil
}

// A tokenReport says what a token holds and whether it is good.
type tokenReport struct {
	Valid   bool            `json:"valid"`
	Reasons []string        `json:"reasons"`
	Header  json.RawMessage `json:"header,omitempty"`
	Claims  json.RawMessage `json:"claims,omitempty"`
	Roles   []string        `json:"roles,omitempty"`
	Expires int64           `json:"expires,omitempty"`
	Issued  int64           `json:"issued,omitempty"`
}

func (t *tools) postInspect(r *http.Request) (any, error) {
	in, err := readBody[struct {
		Token string `json:"token"`
	}](r)
	if err != nil {
		return nil, err
	}
	return t.inspect(r, strings.TrimSpace(in.Token)), nil
}

// inspect asks the program what it thinks of a token.
func (t *tools) inspect(r *http.Request, token string) *tokenReport {
	report := &tokenReport{Reasons: []string{}}
	for _, prefix := range []string{"Bearer ", "bearer "} {
		token = strings.TrimPrefix(token, prefix)
	}
	report.Header, report.Claims = tokenParts(token)
	var times struct {
		Exp, Iat json.Number
	}
	_ = json.Unmarshal(report.Claims, &times) // claims of another type have no time to show
	if n, err := times.Exp.Int64(); err == nil {
		report.Expires = n * 1000
	}
	if n, err := times.Iat.Int64(); err == nil {
		report.Issued = n * 1000
	}
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		report.Reasons = append(report.Reasons, "This is no token: it is empty, or has white space in it.")
		return report
	}
	asked := &http.Request{
		Method: http.MethodGet, URL: r.URL, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "localhost", RemoteAddr: r.RemoteAddr,
		Header: http.Header{"Authorization": {"Bearer " + token}},
	}
	id, err := t.srv.Authenticate(asked.WithContext(r.Context()))
	switch {
	case err != nil:
		report.Reasons = append(report.Reasons, refusal(err))
		if report.Header == nil || report.Claims == nil {
			report.Reasons = append(report.Reasons, "It does not read as header.claims.signature, each Base64 without padding.")
		}
	case id.User == "":
		report.Reasons = append(report.Reasons, "The program takes it for no credential: a call with it is anonymous.")
	default:
		report.Valid, report.Roles = true, id.Roles
		if t.server.Authenticate != nil {
			report.Reasons = append(report.Reasons, "Config.Authenticate was asked first; it may have known the token itself.")
		}
		if left := time.Until(id.Expires); !id.Expires.IsZero() && left < time.Hour {
			report.Reasons = append(report.Reasons, fmt.Sprintf("It expires in %v.", left.Round(time.Second)))
		}
	}
	return report
}

// refusal says why a token is refused, which its sender is not told.
func refusal(err error) string {
	e, ok := errors.AsType[*mooncore.Error](err)
	if !ok {
		return fmt.Sprintf("%v.", err)
	}
	if cause, _ := e.Cause(); cause != "" {
		return fmt.Sprintf("%s: %s.", e.Message, cause)
	}
	return e.Message + "."
}

// tokenParts decodes what can be decoded of a token, without a look at its signature.
func tokenParts(token string) (header, claims json.RawMessage) {
	parts := strings.Split(token, ".")
	decode := func(i int) json.RawMessage {
		if i >= len(parts) {
			return nil
		}
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[i], "="))
		var object map[string]json.RawMessage
		if err != nil || json.Unmarshal(b, &object) != nil {
			return nil
		}
		return b
	}
	return decode(0), decode(1)
}
