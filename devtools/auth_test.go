package devtools

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A client that is no browser sends the secret as a bearer token. Its mistakes lock nobody out of the page.
func TestBearer(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	ask := func(a *auth, header string) error {
		r := httptest.NewRequest("POST", "/mcp", strings.NewReader("{}"))
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		return a.bearer(r)
	}
	synctest.Test(t, func(t *testing.T) {
		a := newAuth(secret, false, "4040")
		for header, want := range map[string]error{
			"Bearer " + secret: nil, "bearer  " + secret: nil, "": errLogin, secret: errLogin, "Basic " + secret: errLogin, "Bearer ": errLogin,
			"Bearer " + secret + "x": errWrong, "Bearer " + secret[1:]: errWrong, "Bearer x": errWrong,
		} {
			if got := ask(a, header); got != want { //nolint:errorlint // these very values
				t.Errorf("%q: %v, want %v", header, got, want)
			}
		}
		for range 2 {
			_ = ask(a, "Bearer x")
		}
		if _, ok := ask(a, "Bearer "+secret).(*tooManyTries); !ok { //nolint:errorlint // it is not wrapped
			t.Error("six wrong ones, and no lock")
		}
		if err := a.login(secret); err != nil {
			t.Errorf("the page is locked too: %v", err)
		}
		time.Sleep(time.Minute)
		if err := ask(a, "Bearer "+secret); err != nil {
			t.Errorf("a minute later: %v", err)
		}
	})
	if err := ask(newAuth("", false, "4040"), "Bearer "+secret); err == nil {
		t.Error("a bearer is good though there is no secret")
	}
}
