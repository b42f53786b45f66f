package devtools

import (
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
	return map[string]any{"token": token, "claims": t.srv.ExplainToken(token).Claims}, nil
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
	explained := t.srv.ExplainToken(token)
	report.Header, report.Claims = explained.Header, explained.Claims
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
		for _, check := range explained.Checks {
			if !check.OK {
				report.Reasons = append(report.Reasons, "In its "+check.Name+": "+check.Detail+".")
			}
		}
		if len(report.Reasons) == 0 { // Config.Authenticate refuses it
			report.Reasons = append(report.Reasons, refusal(err))
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
