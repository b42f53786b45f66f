package devtools

import (
	"net/http"

	"github.com/mooncore/mooncore"
)

// findings are what would stand against the running configuration in production.
func (t *tools) findings() []mooncore.Finding {
	findings := t.srv.Check()
	for i, f := range findings {
		if f.Severity == mooncore.SeverityFatal {
			findings[i].Severity = "error"
		}
	}
	return findings
}

func (t *tools) getDoctor(*http.Request) (any, error) {
	return map[string]any{"environment": t.environment(), "findings": t.findings()}, nil
}
