package mooncore

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Finding is something that stands against running a [Config] in production.
type Finding struct {
	// ID names what was looked for, such as "dev_tools". It stays the same from version to version.
	ID string `json:"id"`

	// Severity says what New does about it.
	Severity Severity `json:"severity"`

	// What is wrong. It begins with the field or the variable.
	What string `json:"what"`

	// Why that matters.
	Why string `json:"why"`

	// Fix is the remedy.
	Fix string `json:"fix"`
}

// A Severity says how much a [Finding] matters.
type Severity string

// The severities, the worst first.
const (
	// SeverityFatal is that of what New refuses: faults always, and in production what must not run there.
	SeverityFatal Severity = "fatal"

	// SeverityWarning is that of what a server should not have in production. New logs it, or Run if it is about listening.
	SeverityWarning Severity = "warning"

	// SeverityInfo is that of what is worth a thought. New logs the ids alone.
	SeverityInfo Severity = "info"
)

// Check returns what stands against running c in production, whatever c.Development says, the worst first. It is never nil.
//
// A fault, such as an address that is none, is a finding like any other; it is found where New finds it, which refuses faults in
// development too. Of the program, Check asks Logger for its level and calls nothing else. It opens nothing, and looks at the limits
// of the process, descriptors, GOMEMLIMIT and the control group, and at MOONCORE_DEV_TOOLS.
func (c Config) Check() []Finding { return c.checkOn(thisMachine()) }

// Check returns what [Config.Check] says of the server's configuration.
func (s *Server) Check() []Finding { return s.given.Check() }

func (c Config) checkOn(m machine) []Finding {
	developing := c.Development
	c.Development = false
	c = c.withDefaults()
	_, _, err := c.compile()
	findings := append(append(faultFindings(err), c.checkServing(m)...), c.checkListening(m)...)
	if developing {
		findings = append(findings, Finding{
			"development", SeverityWarning, "Development: it is on, so this server would start without what production needs.",
			"In development signing keys are made at start, DrainDelay is 0, and what is fatal here only matters later.",
			"Set MOONCORE_ENV=production where the server is deployed.",
		})
	}
	return sorted(findings)
}

func sorted(findings []Finding) []Finding {
	order := []Severity{SeverityFatal, SeverityWarning, SeverityInfo}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
	return findings
}

// refuseFatal returns an error that says what must not run in production, a line for each, with its remedy.
func refuseFatal(findings []Finding) error {
	var errs []error
	for _, f := range findings {
		if f.Severity == SeverityFatal {
			errs = append(errs, fmt.Errorf("%s %s %s", f.What, f.Why, f.Fix))
		}
	}
	return errors.Join(errs...)
}

// logFindings logs what was found and does not stop the start.
func (s *Server) logFindings(findings []Finding) {
	var notes []string
	for _, f := range findings {
		switch f.Severity {
		case SeverityWarning:
			s.log.Warn("configuration check", "id", f.ID, "what", f.What, "why", f.Why, "fix", f.Fix)
		case SeverityInfo:
			notes = append(notes, f.ID)
		case SeverityFatal: // New has refused it
		}
	}
	if len(notes) > 0 {
		s.log.Info("configuration check", "ids", strings.Join(notes, ","), "fix", "MOONCORE_CHECK=text explains them and exits")
	}
}

// checkVariable makes Run print what was found, and return.
const checkVariable = "MOONCORE_CHECK"

// checkEnvironment is what Run does when MOONCORE_CHECK is set: it writes what stands against running base in this environment,
// and fails if something fatal does.
func checkEnvironment(base Config, format string, w io.Writer) error {
	if format != "json" && format != "text" {
		return fmt.Errorf(`mooncore: %s: %q is neither "json" nor "text"`, checkVariable, format)
	}
	c, faults := configFromEnv(base)
	findings := c.Check()
	if slices.ContainsFunc(faults, func(err error) bool { return strings.HasPrefix(err.Error(), "JWT_") }) {
		// The key is missing because its variable is wrong, which is said already.
		findings = slices.DeleteFunc(findings, func(f Finding) bool { return f.ID == idNoKey })
	}
	findings = sorted(append(faultFindings(errors.Join(faults...)), findings...))
	if err := writeFindings(w, format, findings); err != nil {
		return fmt.Errorf("mooncore: %s: %w", checkVariable, err)
	}
	if n := countFindings(findings)[SeverityFatal]; n > 0 {
		return fmt.Errorf("mooncore: %s: %s", checkVariable, plural(n, "fatal finding"))
	}
	return nil
}

func countFindings(findings []Finding) map[Severity]int {
	counts := map[Severity]int{}
	for _, f := range findings {
		counts[f.Severity]++
	}
	return counts
}

// writeFindings writes a JSON array in one line, or a text for people.
func writeFindings(w io.Writer, format string, findings []Finding) error {
	if format == "json" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(findings)
	}
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s: %s\n  %s\n  why: %s\n  fix: %s\n\n", f.Severity, f.ID, f.What, f.Why, f.Fix)
	}
	n := countFindings(findings)
	fmt.Fprintf(&b, "%s, %s, %s\n", plural(n[SeverityFatal], "fatal finding"), plural(n[SeverityWarning], "warning"), plural(n[SeverityInfo], "note"))
	_, err := io.WriteString(w, b.String())
	return err
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// IDs of faults that have one of their own. The others are invalid_environment and invalid_config.
const (
	idNoKey          = "no_key"
	idWeakKey        = "weak_key"
	idAnyOrigin      = "any_origin"
	idWildcardOrigin = "wildcard_origin"
)

// A remediedError is a fault that Check has a reason and a remedy for. Its text is that of any other fault.
type remediedError struct {
	id, text, why, fix string
	what               string // for the finding, if text goes on to the remedy
}

func (e *remediedError) Error() string { return e.text }

var (
	errNoKey = &remediedError{id: idNoKey,
		what: "JWT_PRIVATE_KEY not set: no key signs or verifies tokens, and no Config.Authenticate says who calls.",
		text: "JWT_PRIVATE_KEY not set: give JWT.PrivateKey a PEM key that signs tokens " +
			"(openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048), or JWT.PublicKeys (JWT_PUBLIC_KEY) those that " +
			"verify them; in development (Development, MOONCORE_ENV=development) a key is made at start",
		why: "A key made at start would end every session at each restart, and no two servers would accept each other's tokens.",
		fix: "Put a key into a file, readable for the server alone, and name it in JWT_PRIVATE_KEY_FILE: " +
			"openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048. " +
			"A server that only verifies takes JWT_PUBLIC_KEY; one with sessions of its own sets Config.Authenticate.",
	}
	errAnyOrigin = &remediedError{id: idAnyOrigin,
		text: `"*" would let every site call and connect with its visitors' cookies: list the origins`,
		why:  "Listed origins may send credentials, so any page that a user visits could act as that user.",
		fix:  "List the origins of your own pages, such as https://app.example.com, in CORS_ORIGINS or Config.Origins.",
	}
)

func errWildcardOrigin(origin string) error {
	return &remediedError{id: idWildcardOrigin,
		text: fmt.Sprintf("%q has a wildcard: list the origins", origin),
		why:  "Listed origins may send credentials, so each name that the pattern covers, also one that somebody else got hold of, could act as your users.",
		fix:  "List the origins of your own pages one by one, such as https://app.example.com, in CORS_ORIGINS or Config.Origins.",
	}
}

func errWeakKey(format string, args ...any) error {
	return &remediedError{id: idWeakKey,
		text: fmt.Sprintf(format, args...),
		why:  "A key of that size can be found by who has one token, and then signs tokens for anybody.",
		fix:  "Make a new one: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048, or for HS256 openssl rand -base64 48.",
	}
}

// faultFindings returns a finding for each line of the errors of New and ConfigFromEnv.
func faultFindings(err error) []Finding {
	findings := []Finding{}
	for _, fault := range leaves(err) {
		f := Finding{
			ID: "invalid_config", Severity: SeverityFatal, What: fault.Error(),
			Why: "New refuses a Config with a fault, in development too.",
		}
		field, _, _ := strings.Cut(f.What, ":")
		if isVariable(field) {
			f.ID, f.Why = "invalid_environment", "Run refuses to start rather than guess what a variable was meant to say."
		}
		f.Fix = faultFix(field)
		if e, ok := errors.AsType[*remediedError](fault); ok {
			f.ID, f.Why, f.Fix = e.id, e.why, e.fix
			f.What = cmp.Or(e.what, f.What)
		}
		findings = append(findings, f)
	}
	return findings
}

// leaves takes joined errors apart.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, err := range joined.Unwrap() {
		all = append(all, leaves(err)...)
	}
	return all
}

// isVariable reports whether a fault's first word is a variable of the environment, not a field.
func isVariable(word string) bool { return word != "" && word == strings.ToUpper(word) }

// fixes are the remedies of faults by field or variable.
var fixes = map[string]string{
	"Addr":            `Give host:port, such as ":4000" or "127.0.0.1:4000", or set HOST and PORT.`,
	"CORS_ORIGINS":    "List origins as browsers send them, scheme://host or scheme://host:port, separated by commas: https://app.example.com",
	"DrainDelay":      "Make it shorter than ShutdownTimeout by as long as calls may still need, or leave it at its default.",
	"HOST":            "Set a host name or an IP address without a port, such as 0.0.0.0; the port belongs in PORT.",
	"Hosts":           `List names as clients write them, "api.example.com" or "api.example.com:8443", without scheme or wildcard.`,
	"Inner":           `Give host:port, such as "127.0.0.1:4001".`,
	"LOG_LEVEL":       "Set debug, info, warn or error.",
	"MOONCORE_ENV":    "Set production where the server is deployed, and development elsewhere, in lower case.",
	"Origins":         "List origins as browsers send them, scheme://host or scheme://host:port, in ASCII, without a path: https://app.example.com",
	"PORT":            "Set a number from 0 to 65535, such as 4000.",
	"SECRET_KEY_BASE": "Make one: openssl rand -base64 48",
	"SecretKeyBase":   "Make one: openssl rand -base64 48",
	"ShutdownTimeout": "Leave it at its default, 25s, or give a positive duration.",
	"TrustedProxies":  "List the networks of your proxies, such as 10.0.0.0/8.",
}

// faultFix returns the remedy of a fault whose text starts with field.
func faultFix(field string) string {
	name, _, _ := strings.Cut(field, "[")
	switch fix := fixes[name]; {
	case fix != "":
		return fix
	case strings.HasSuffix(name, "_FILE"):
		return "Name a file that exists, that the server's user may read, and that holds the key and nothing else."
	case strings.HasPrefix(name, "JWT_"), strings.HasPrefix(name, "JWT."):
		return "Give a key as OpenSSL writes it, in PEM, not encrypted: a private one as JWT_PRIVATE_KEY_FILE, public ones or a JWK set as JWT_PUBLIC_KEY_FILE."
	}
	return "Correct it in the program; go doc mooncore.Config says what each field takes."
}
