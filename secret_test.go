package mooncore_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/mooncore/mooncore"
)

const canary = "hunter2-canary"

// withSecrets has a Secret in each place where a program may put one.
type withSecrets struct {
	Secret  mooncore.Secret
	Pointer *mooncore.Secret
	List    []mooncore.Secret
	Any     any
	Inner   struct{ Secret mooncore.Secret }
}

func newWithSecrets() withSecrets {
	s := mooncore.Secret(canary)
	v := withSecrets{Secret: s, Pointer: &s, List: []mooncore.Secret{s}, Any: s}
	v.Inner.Secret = s
	return v
}

func TestSecretIsNeverPrinted(t *testing.T) {
	config := mooncore.Config{
		SecretKeyBase: canary, JWT: mooncore.JWTConfig{PrivateKey: canary, Secret: canary},
	}
	s := mooncore.Secret(canary)
	values := map[string]any{
		"Secret": s, "pointer": &s, "struct": newWithSecrets(), "list": []mooncore.Secret{s},
		"value of a map": map[string]mooncore.Secret{"a": s}, "Config": config,
	}
	for name, v := range values {
		t.Run(name, func(t *testing.T) {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%20s"} {
				if text := fmt.Sprintf(verb, v); leaks(text) {
					t.Errorf("%s prints %s", verb, text)
				}
			}
			var out bytes.Buffer
			for _, log := range []*slog.Logger{slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))} {
				log.Info("text", "value", v, slog.Group("group", "value", v))
				if leaks(out.String()) {
					t.Errorf("logged %s", &out)
				}
			}
			if b, _ := json.Marshal(v); leaks(string(b)) {
				t.Errorf("JSON %s", b)
			}
			if b, _ := xml.Marshal(v); leaks(string(b)) {
				t.Errorf("XML %s", b)
			}
		})
	}
	if err := fmt.Errorf("wrapped: %w", errors.New(s.String())); leaks(err.Error()) {
		t.Error(err)
	}
}

func leaks(text string) bool {
	return strings.Contains(text, canary) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", canary))
}

func TestSecretText(t *testing.T) {
	if got := fmt.Sprint(mooncore.Secret(canary)); got != "[redacted]" {
		t.Errorf("got %q", got)
	}
	if got := fmt.Sprint(mooncore.Secret("")); got != "" {
		t.Errorf("an empty one prints %q", got)
	}
	if got := string(mooncore.Secret(canary)); got != canary {
		t.Errorf("converted to %q", got)
	}
	b, err := json.Marshal(struct{ A, B mooncore.Secret }{A: canary})
	if err != nil || string(b) != `{"A":"[redacted]","B":""}` {
		t.Errorf("JSON %s, %v", b, err)
	}
	var in struct{ Password mooncore.Secret }
	if err := json.Unmarshal([]byte(`{"Password":"`+canary+`"}`), &in); err != nil || in.Password != canary {
		t.Errorf("read %q, %v", string(in.Password), err)
	}
}
