package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	defaultURL = "http://localhost:4000"

	// maxAnswer bounds what is taken from a server.
	maxAnswer = 64 << 20
)

// A call is what the command line asks for.
type call struct {
	base      *url.URL
	token     string
	action    string
	params    []byte // an object
	files     []upload
	follow    list
	events    int
	timeout   time.Duration
	overWS    bool
	asJSON    bool
	requestID string
}

func callCommand() *command {
	return &command{
		name: "call", args: "[ACTION [NAME=text | NAME:=JSON ...]]",
		short: "Run an action, upload files, follow channels",
		examples: `
mooncore call hello name=Ada
mooncore call task.create title=Milk done:=false 'tags:=["home"]'
echo '{"title":"Milk"}' | mooncore call task.create -          params from standard input
mooncore call task.create @params.json                         params from a file
mooncore call --ws task.list | jq .                            the same over WebSocket
mooncore call --file photo=holiday.jpg album.add album=2026    upload, with progress on a terminal
mooncore call --follow main                                    print the channel's events, until Ctrl-C
MOONCORE_TOKEN=$(mooncore token make --key private.pem --user alice) mooncore call whoami`,
		long: `
It calls POST /run/ACTION, or the same over a WebSocket, and writes the result as JSON. An error of the
action goes to standard error, or with --json to standard output, and the exit code is 1.

The token comes from --token-file or from the variable MOONCORE_TOKEN. The server comes from --url or from
MOONCORE_URL.`,
		flags: func(fs *flag.FlagSet) runner {
			var r call
			var files list
			base := fs.String("url", "", "the `URL` of the server, with the prefix that it is mounted at; MOONCORE_URL or "+defaultURL+" if not given")
			tokenFile := fs.String("token-file", "", "a `file` with the token; - is standard input. MOONCORE_TOKEN if not given")
			fs.BoolVar(&r.overWS, "ws", false, "call over a WebSocket")
			fs.Var(&r.follow, "follow", "join a `channel` and print events, until Ctrl-C; may be given several times. An action runs after the joins")
			fs.IntVar(&r.events, "events", 0, "with --follow: end after this `number` of events")
			fs.Var(&files, "file", "upload a file: `FIELD=PATH`; may be given several times")
			fs.DurationVar(&r.timeout, "timeout", time.Minute, "the `duration` to wait for a connection and for the answer, such as 10s; 1m if not given. An upload may take longer, as long as it moves")
			fs.StringVar(&r.requestID, "request-id", "", "the `id` that the server logs; it makes one if not given. Not over WebSocket")
			fs.BoolVar(&r.asJSON, "json", false, "write JSON in one line, for scripts: results, errors, events")
			return func(ctx context.Context, c *cli, args []string) error {
				if err := r.read(c, args, *base, *tokenFile, files); err != nil {
					return err
				}
				if r.overWS || len(r.follow) > 0 {
					return c.callSocket(ctx, &r)
				}
				return c.callHTTP(ctx, &r)
			}
		},
	}
}

// read fills the call from the command line.
func (r *call) read(c *cli, args []string, base, tokenFile string, files list) (err error) {
	switch {
	case len(args) == 0 && len(r.follow) == 0:
		return usagef("which action?")
	case r.timeout <= 0:
		return usagef("--timeout: must be above 0")
	case r.events < 0 || r.events > 0 && len(r.follow) == 0:
		return usagef("--events: a number above 0, with --follow")
	case len(files) > 0 && (r.overWS || len(r.follow) > 0):
		return usagef("--file goes over HTTP: without --ws and --follow")
	case len(files) > 0 && len(args) == 0:
		return usagef("--file: which action gets the file?")
	case r.requestID != "" && (r.overWS || len(r.follow) > 0):
		return usagef("--request-id goes over HTTP: a frame has none")
	}
	if base == "" {
		if base = c.getenv("MOONCORE_URL"); base == "" {
			base = defaultURL
		}
	}
	if r.base, err = parseURL(base); err != nil {
		return err
	}
	paramsIn := len(args) > 1 && args[1] == "-"
	switch {
	case tokenFile == "-" && paramsIn:
		return usagef("standard input can be the token or the params, not both")
	case tokenFile != "":
		r.token, err = c.readFile("--token-file", tokenFile)
	default:
		r.token = c.getenv("MOONCORE_TOKEN")
	}
	if err != nil {
		return err
	}
	if r.token = bareToken(r.token); strings.ContainsFunc(r.token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return usagef("the token has white space or other characters in it that no token has")
	}
	if tokenFile != "" && r.token == "" {
		return usagef("--token-file: %s is empty", tokenFile)
	}
	if r.token != "" && r.base.Scheme == "http" && !isLoopback(r.base.Hostname()) {
		c.err.warn("the token goes to %s in plain text: use https", r.base.Host)
	}
	if len(args) > 0 {
		r.action = args[0]
		if r.params, err = c.readParams(args[1:]); err != nil {
			return err
		}
	}
	r.files, err = openFiles(files)
	return err
}

func parseURL(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "":
		return nil, usagef("--url: %q is no URL such as %s", plain(text), defaultURL)
	case u.User != nil:
		return nil, usagef("--url: a name and a password have no place in it")
	}
	switch u.Scheme {
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	case "http", "https":
	default:
		return nil, usagef("--url: %q is neither http nor https", plain(u.Scheme))
	}
	u.RawQuery, u.Fragment = "", ""
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// readParams returns an object: of pairs, of one JSON argument, of a file or of standard input.
func (c *cli) readParams(args []string) ([]byte, error) {
	if len(args) == 0 {
		return []byte("{}"), nil
	}
	text, what := args[0], "params"
	var err error
	switch {
	case text == "-":
		text, err = c.readFile("standard input", "-")
		what = "standard input"
	case strings.HasPrefix(text, "@"):
		what = text[1:]
		text, err = c.readFile("", what)
	case !strings.HasPrefix(strings.TrimSpace(text), "{"):
		pairs, err := parsePairs(args)
		if err != nil {
			return nil, usagef("%v", err)
		}
		return objectOf(pairs)
	}
	if err != nil {
		return nil, err
	}
	if len(args) > 1 {
		return nil, usagef("%q is too much: there are params already", plain(args[1]))
	}
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") || !json.Valid([]byte(text)) {
		return nil, usagef("%s: this is no JSON object", plain(what))
	}
	return []byte(text), nil
}

// objectOf writes pairs in their order.
func objectOf(pairs []pair) ([]byte, error) {
	b := []byte{'{'}
	for i, p := range pairs {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(p.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(p.value)
		if err != nil {
			return nil, usagef("%s: %v", plain(p.name), err)
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}

// endpoint is a path of the server, below the prefix that it is mounted at.
func (r *call) endpoint(path ...string) string { return r.base.JoinPath(path...).String() }

var errSlow = errors.New("no answer in time")

// callHTTP posts the call and prints what comes back.
func (c *cli) callHTTP(ctx context.Context, r *call) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(r.timeout, func() { cancel(errSlow) })
	defer timer.Stop()
	body, contentType, size := io.Reader(bytes.NewReader(r.params)), "application/json", int64(len(r.params))
	uploaded := func() {}
	if len(r.files) > 0 {
		var err error
		if body, contentType, size, err = formOf(r); err != nil {
			return err
		}
		defer closeFiles(r.files)
		p := newProgress(c.err, body, size, func() { timer.Reset(r.timeout) })
		body, uploaded = p, p.end
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.endpoint("run", r.action), body)
	if err != nil {
		return usagef("%q: %v", plain(r.action), err)
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", contentType)
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	if r.requestID != "" {
		req.Header.Set("X-Request-Id", r.requestID)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	uploaded()
	if err != nil {
		return r.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return r.unreachable(ctx, err)
	case len(answer) > maxAnswer:
		return fmt.Errorf("the answer is larger than %d MiB", maxAnswer>>20)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fmt.Errorf("%s answers %s, to %s: give that as --url", r.base, resp.Status, plain(resp.Header.Get("Location")))
	}
	if resp.StatusCode == http.StatusOK && json.Valid(answer) {
		return c.out.printRaw(answer, r.asJSON)
	}
	fault, ok := parseFault(answer)
	if !ok {
		return fmt.Errorf("%s answers %s, which is not how a Mooncore server answers: %s", r.endpoint("run", r.action), resp.Status, excerpt(answer))
	}
	return c.printFault(r, fault, answer)
}

// unreachable says why there is no answer.
func (r *call) unreachable(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errSlow):
		return fmt.Errorf("%s: no answer in %v", r.base, r.timeout)
	case cause != nil:
		return cause
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("%s: %w. Is the server running? --url or MOONCORE_URL names another", r.base, err)
	}
	return fmt.Errorf("%s: %w", r.base, err)
}

// A fault is an error as a server sends it.
type fault struct {
	Error     string              `json:"error"`
	Code      string              `json:"code"`
	Fields    map[string][]string `json:"errors"`
	LogID     string              `json:"log_id"`
	RequestID string              `json:"request_id"`
}

func parseFault(answer []byte) (*fault, bool) {
	var f fault
	if json.Unmarshal(answer, &f) != nil || f.Code == "" || f.Error == "" {
		return nil, false
	}
	return &f, true
}

// printFault tells why an action failed.
func (c *cli) printFault(r *call, f *fault, raw []byte) error {
	if r.asJSON {
		if err := c.out.printRaw(raw, r.asJSON); err != nil {
			return err
		}
		return errRefused
	}
	var b strings.Builder
	b.WriteString(plain(f.Code))
	if f.Error != f.Code {
		b.WriteString(": " + plain(f.Error))
	}
	fields := make([]string, 0, len(f.Fields))
	for field := range f.Fields {
		fields = append(fields, field)
	}
	slices.Sort(fields)
	for _, field := range fields {
		fmt.Fprintf(&b, "\n  %s %s", plain(field), plain(strings.Join(f.Fields[field], ", ")))
	}
	for _, id := range []struct{ name, value string }{{"log_id", f.LogID}, {"request_id", f.RequestID}} {
		if id.value != "" {
			fmt.Fprintf(&b, "\n  %s %s", id.name, plain(id.value))
		}
	}
	if f.Code == "unauthenticated" && r.token == "" {
		b.WriteString("\n  There was no token: give one by --token-file or MOONCORE_TOKEN")
	}
	return refusedf("%s", b.String())
}

// excerpt is the start of an answer from something else.
func excerpt(answer []byte) string {
	const most = 200
	text := strings.Join(strings.Fields(plain(strings.ToValidUTF8(string(answer[:min(len(answer), most)]), ""))), " ")
	if text == "" {
		return "the body is empty"
	}
	return text
}

// openFile is a file that is uploaded.
func openFile(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("--file: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = usagef("--file: %s is no file", path)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}
