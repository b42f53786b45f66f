package devtools

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// redacted stands for a secret.
const redacted = "[redacted]"

// Limits of what is recorded of one value.
const (
	maxText  = 2 << 10  // of a string
	maxValue = 16 << 10 // of params, of a result, of a frame
	maxDepth = 64
)

// secretParts make a field a secret if its name contains one, without regard to case, "_" and "-".
var secretParts = []string{
	"password", "passwd", "passphrase", "passcode", "secret", "token", "authorization", "cookie", "credential", "jwt", "bearer",
	"apikey", "accesskey", "privatekey", "signingkey", "encryptionkey", "masterkey", "sessionid", "cardnumber", "creditcard",
}

// secretNames do if they are its name.
var secretNames = []string{"pass", "pwd", "auth", "pin", "otp", "totp", "cvv", "cvc", "ssn", "iban", "sid", "csrf", "xsrf"}

// A redactor takes secrets out of what is recorded. Its methods may be called concurrently.
type redactor struct {
	parts, names []string

	mu    sync.Mutex                      // held to change known
	known atomic.Pointer[map[string]bool] // names that were seen; never written to
}

// newRedactor returns a redactor that knows further names, in whole.
func newRedactor(more []string) *redactor {
	r := &redactor{parts: secretParts, names: append([]string(nil), secretNames...)}
	for _, name := range more {
		r.names = append(r.names, plainName([]byte(name)))
	}
	r.known.Store(&map[string]bool{})
	return r
}

// plainName is a name without case and separators.
func plainName(name []byte) string { return string(appendPlain(nil, name)) }

func appendPlain(dst, name []byte) []byte {
	for _, c := range name {
		switch {
		case c >= 'A' && c <= 'Z':
			dst = append(dst, c+'a'-'A')
		case c != '_' && c != '-' && c != '.' && c != ' ':
			dst = append(dst, c)
		}
	}
	return dst
}

// maxKnown bounds how many names are remembered: clients can send any.
const maxKnown = 4096

// secret reports whether a field of that name holds a secret.
func (r *redactor) secret(name []byte) bool {
	if secret, ok := (*r.known.Load())[string(name)]; ok {
		return secret
	}
	secret := r.judge(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := *r.known.Load(); len(known) < maxKnown && len(name) <= 64 {
		next := make(map[string]bool, len(known)+1)
		maps.Copy(next, known)
		next[string(name)] = secret
		r.known.Store(&next)
	}
	return secret
}

func (r *redactor) judge(name []byte) bool {
	var buf [maxAssigned]byte
	plain := appendPlain(buf[:0], name)
	return slices.ContainsFunc(r.names, func(s string) bool { return string(plain) == s }) ||
		slices.ContainsFunc(r.parts, func(s string) bool { return bytes.Contains(plain, []byte(s)) })
}

// What redaction did to a value.
type marks byte

const (
	wasRedacted marks = 1 << iota
	wasCut
)

// json appends a JSON value without its secrets, within maxValue, and says what it left out. fields are those that the value's schema
// calls secret; nil for none. Of what is no JSON it appends only the size.
func (r *redactor) json(dst, src []byte, fields *secretFields) ([]byte, marks) {
	w := walker{r: r, src: src, dst: dst, end: len(dst) + maxValue}
	w.space()
	if ok := w.value(fields, 0); ok {
		if w.space(); w.at == len(src) {
			return w.dst, w.marks
		}
	}
	return appendSize(dst, "no JSON, ", len(src)), wasCut
}

func appendSize(dst []byte, what string, n int) []byte {
	dst = append(dst, `"[`...)
	dst = append(dst, what...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, ` bytes]"`...)
}

// A walker copies one JSON value. It takes any bytes, and returns false for what it does not understand.
type walker struct {
	r     *redactor
	src   []byte
	at    int
	dst   []byte
	end   int // dst may grow to that, before what is open is closed
	marks marks
}

func (w *walker) space() {
	for w.at < len(w.src) {
		switch w.src[w.at] {
		case ' ', '\t', '\n', '\r':
			w.at++
		default:
			return
		}
	}
}

func (w *walker) peek() byte {
	if w.at < len(w.src) {
		return w.src[w.at]
	}
	return 0
}

func (w *walker) value(fields *secretFields, depth int) bool {
	switch w.peek() {
	case '{':
		return w.object(fields, depth)
	case '[':
		return w.array(fields, depth)
	case '"':
		raw, has, ok := w.str()
		if ok {
			w.text(raw, has)
		}
		return ok
	}
	start := w.at
	if !w.literal() {
		return false
	}
	if n := w.at - start; n > maxText {
		w.marks |= wasCut
		w.dst = appendSize(w.dst, "a number, ", n)
		return true
	}
	w.dst = append(w.dst, w.src[start:w.at]...)
	return true
}

func (w *walker) object(fields *secretFields, depth int) bool {
	if depth >= maxDepth {
		return false
	}
	w.at++
	w.dst = append(w.dst, '{')
	first := true
	for w.space(); w.peek() != '}'; w.space() {
		if !first {
			if w.peek() != ',' {
				return false
			}
			w.at++
			w.space()
		}
		raw, has, ok := w.str()
		if !ok {
			return false
		}
		if w.space(); w.peek() != ':' {
			return false
		}
		w.at++
		w.space()
		if len(w.dst)+len(raw) > w.end {
			w.marks |= wasCut
			if !w.skip(depth + 1) {
				return false
			}
			first = false
			continue
		}
		if w.dst[len(w.dst)-1] != '{' {
			w.dst = append(w.dst, ',')
		}
		first = false
		name := w.name(raw, has)
		field := fields.field(name)
		secret := field.isSecret() || w.r.secret(name)
		if suspicious(raw, has) {
			if scrubbed, found := scrub(string(name)); found {
				w.marks |= wasRedacted
				raw = strictjson.AppendQuote(nil, scrubbed)
			}
		}
		w.dst = append(append(w.dst, raw...), ':')
		if secret {
			if !w.secret(depth + 1) {
				return false
			}
			continue
		}
		if !w.value(field, depth+1) {
			return false
		}
	}
	w.at++
	w.dst = append(w.dst, '}')
	return true
}

// name is the name of a field as a program sees it.
func (w *walker) name(raw []byte, has traits) []byte {
	if has&hasEscape == 0 {
		return raw[1 : len(raw)-1]
	}
	name, _ := strictjson.Unquote(raw)
	return []byte(name)
}

// secret writes what stands for a value; nothing tells how long it was. Null and "" stay.
func (w *walker) secret(depth int) bool {
	start := w.at
	if !w.skip(depth) {
		return false
	}
	switch raw := w.src[start:w.at]; string(raw) {
	case "null", `""`:
		w.dst = append(w.dst, raw...)
	default:
		w.dst = append(w.dst, `"`+redacted+`"`...)
		w.marks |= wasRedacted
	}
	return true
}

func (w *walker) array(fields *secretFields, depth int) bool {
	if depth >= maxDepth {
		return false
	}
	item := fields.item()
	w.at++
	w.dst = append(w.dst, '[')
	first := true
	for w.space(); w.peek() != ']'; w.space() {
		if !first {
			if w.peek() != ',' {
				return false
			}
			w.at++
			w.space()
		}
		first = false
		if len(w.dst) > w.end {
			w.marks |= wasCut
			if !w.skip(depth + 1) {
				return false
			}
			continue
		}
		if w.dst[len(w.dst)-1] != '[' {
			w.dst = append(w.dst, ',')
		}
		ok := false
		if item.isSecret() {
			ok = w.secret(depth + 1)
		} else {
			ok = w.value(item, depth+1)
		}
		if !ok {
			return false
		}
	}
	w.at++
	w.dst = append(w.dst, ']')
	return true
}

// skip passes over a value.
func (w *walker) skip(depth int) bool {
	switch c := w.peek(); c {
	case '"':
		_, _, ok := w.str()
		return ok
	case '{', '[':
		if depth >= maxDepth {
			return false
		}
		w.at++
		for first := true; ; first = false {
			w.space()
			if w.peek() == c+2 { // '}' and ']' stand two behind
				w.at++
				return true
			}
			if !first {
				if w.peek() != ',' {
					return false
				}
				w.at++
				w.space()
			}
			if c == '{' {
				if _, _, ok := w.str(); !ok {
					return false
				}
				if w.space(); w.peek() != ':' {
					return false
				}
				w.at++
				w.space()
			}
			if !w.skip(depth + 1) {
				return false
			}
		}
	}
	return w.literal()
}

// literal passes over a number, true, false or null.
func (w *walker) literal() bool {
	start := w.at
	plain := true
	for ; w.at < len(w.src); w.at++ {
		c := w.src[w.at]
		if c >= '0' && c <= '9' {
			continue
		}
		if (c < 'a' || c > 'z') && c != '-' && c != '+' && c != '.' && c != 'E' {
			break
		}
		plain = false
	}
	b := w.src[start:w.at]
	if plain {
		return len(b) == 1 || len(b) > 1 && b[0] != '0'
	}
	return json.Valid(b)
}

// str passes over a string and returns it with its quotes, and what its bytes tell.
func (w *walker) str() (raw []byte, has traits, ok bool) {
	if w.peek() != '"' {
		return nil, 0, false
	}
	start := w.at
	for w.at++; w.at < len(w.src); w.at++ {
		t := traitsOf[w.src[w.at]]
		has |= t
		switch {
		case t&(hasEscape|hasEnd) == 0:
		case t == hasEscape:
			w.at++
		case w.src[w.at] != '"':
			return nil, 0, false
		default:
			w.at++
			raw = w.src[start:w.at]
			return raw, has, (has&hasWide == 0 || utf8.Valid(raw)) && (has&hasEscape == 0 || json.Valid(raw))
		}
	}
	return nil, 0, false
}

// text writes a string: shortened if it is long, and without its secrets.
func (w *walker) text(raw []byte, has traits) {
	long, secrets := len(raw) > maxText, suspicious(raw, has)
	if !secrets && has&hasAssignment != 0 {
		_, at := w.r.nextAssignment(raw, 0)
		secrets = at >= 0
	}
	if !long && !secrets {
		w.dst = append(w.dst, raw...)
		return
	}
	s, _ := strictjson.Unquote(raw)
	clean := s
	if secrets {
		clean = w.r.text(s)
	}
	if clean != s {
		w.marks |= wasRedacted
	}
	switch {
	case long:
		w.marks |= wasCut
		w.dst = strictjson.AppendQuote(w.dst, cut(clean, maxText))
	case clean != s:
		w.dst = strictjson.AppendQuote(w.dst, clean)
	default:
		w.dst = append(w.dst, raw...)
	}
}

// text takes secrets out of a text, which may be JSON itself.
func (r *redactor) text(s string) string {
	if kind := strictjson.KindOf([]byte(s)); kind == strictjson.Object || kind == strictjson.Array {
		switch b, m := r.json(nil, []byte(s), nil); {
		case m == 0:
			return s
		case m&wasRedacted != 0:
			return string(b)
		}
	}
	return r.prose(s)
}

// Traits of a JSON string are the kinds of bytes in it: each thing that redaction looks for cannot do without one, and most strings
// have none of them.
type traits byte

const (
	hasEnd        traits = 1 << iota // a quote, or what no string may hold
	hasEscape                        // what follows may be any byte
	hasWide                          // beyond ASCII
	hasAssignment                    // ':' or '='
	hasSpace                         // ' ' or '+', as behind "Bearer"
	hasAt                            // '@', as behind a URL's password
	hasDash                          // as around a private key
	hasJ                             // as in "eyJ"
)

var traitsOf = func() (t [256]traits) {
	for c := range t {
		switch {
		case c < ' ':
			t[c] = hasEnd
		case c >= utf8.RuneSelf:
			t[c] = hasWide
		}
	}
	t['"'], t['\\'] = hasEnd, hasEscape
	t[':'], t['='] = hasAssignment, hasAssignment
	t[' '], t['+'] = hasSpace, hasSpace
	t['@'], t['-'], t['J'] = hasAt, hasDash, hasJ
	return t
}()

// suspicious is a quick check for what scrub may find in a JSON string. An escape may hide anything.
func suspicious(raw []byte, has traits) bool {
	return has&hasEscape != 0 ||
		has&hasJ != 0 && bytes.Contains(raw, []byte("eyJ")) ||
		has&hasDash != 0 && bytes.Contains(raw, []byte("-----")) ||
		has&hasAt != 0 && bytes.Contains(raw, []byte("://")) ||
		has&hasSpace != 0 && namesBearer(raw)
}

// namesBearer reports whether "bearer" stands before a space or plus, in any case.
func namesBearer(raw []byte) bool {
	const word = "bearer"
	for i := len(word); i < len(raw); i++ {
		if (raw[i] == ' ' || raw[i] == '+') && raw[i-1]|0x20 == 'r' && strings.EqualFold(string(raw[i-len(word):i]), word) {
			return true
		}
	}
	return false
}

// cut shortens a text to at most n bytes and tells how many are missing.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	at := n
	for at > 0 && !utf8.RuneStart(s[at]) {
		at--
	}
	return s[:at] + "…[" + strconv.Itoa(len(s)-at) + " bytes more]"
}

// What looks like a secret wherever it stands: tokens, signed or encrypted, PEM blocks, what a URL has before its host.
var secretShapes = regexp.MustCompile(`eyJ[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*){2,}` +
	`|(://)[^\s/:@"']*:[^\s/@"']+(@)` +
	`|(?i:\bbearer[ +]+)[^\s"',;]+` +
	`|-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`)

// scrub takes out of a text what looks like a token, wherever it stands.
func scrub(s string) (string, bool) {
	if !secretShapes.MatchString(s) {
		return s, false
	}
	return secretShapes.ReplaceAllString(s, "${1}"+redacted+"${2}"), true
}

// maxAssigned is the length of the longest name in prose.
const maxAssigned = 64

// nextAssignment is the next name of a secret from a place on, and where the ':' or '=' behind it is; -1 if there is none. The name may
// have quotes, with or without backslashes.
func (r *redactor) nextAssignment(s []byte, from int) (name []byte, at int) {
	for i := from; i < len(s); i++ {
		if s[i] != ':' && s[i] != '=' {
			continue
		}
		end := i
		for end > from && isSpace(s[end-1]) {
			end--
		}
		if end > from && (s[end-1] == '"' || s[end-1] == '\'') {
			end--
		}
		for end > from && s[end-1] == '\\' {
			end--
		}
		start := end
		for start > from && end-start < maxAssigned && inName(s[start-1]) {
			start--
		}
		if end-start >= 3 && r.judge(s[start:end]) {
			return s[start:end], i
		}
	}
	return nil, -1
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func inName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// prose takes secrets out of an error's text: what looks like one, and what stands behind a secret's name.
func (r *redactor) prose(s string) string {
	s, _ = scrub(s)
	text := []byte(s)
	var b strings.Builder
	done := 0
	for name, at := r.nextAssignment(text, 0); at >= 0; name, at = r.nextAssignment(text, at+1) {
		rest, quote := strings.TrimLeft(strings.TrimLeft(s[at+1:], " \t\r\n"), `\`), ""
		if rest != "" && (rest[0] == '"' || rest[0] == '\'') {
			rest, quote = rest[1:], rest[:1]
		}
		start := len(s) - len(rest)
		if start < done || rest == "" || strings.HasPrefix(rest, redacted) {
			continue
		}
		end := start + valueLength(rest, string(name), quote)
		if end == start {
			continue
		}
		b.WriteString(s[done:start])
		b.WriteString(redacted)
		done = end
	}
	if done == 0 {
		return s
	}
	return b.String() + s[done:]
}

// valueLength is the length of a value at the start of a text: to its quote, to the end of the line for a header's, to the bracket
// that ends a list, else to what separates it from the next.
func valueLength(s, name, quote string) int {
	if quote == "" && s != "" && (s[0] == '[' || s[0] == '{') {
		if i := strings.IndexByte(s, s[0]+2); i >= 0 {
			return i + 1
		}
		return len(s)
	}
	separators := " \t\r\n\"'&,;(){}"
	if quote != "" {
		separators = quote
	} else if lower := strings.ToLower(name); strings.Contains(lower, "authorization") || strings.Contains(lower, "cookie") {
		separators = "\r\n"
	}
	if i := strings.IndexAny(s, separators); i >= 0 {
		return i
	}
	return len(s)
}
