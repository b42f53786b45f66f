package main_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/wsraw"
)

// TestReplay sends every recorded exchange to the program and compares its answers with those of the Elixir server. The answers
// differ by the rules and in the records that docs/compatibility.md lists, and nowhere else.
func TestReplay(t *testing.T) {
	doc := readCompatibility(t)
	tokens := tokens(t)
	for mode, env := range map[string]string{"default": "", "legacy": "MOONCORE_LEGACY=true"} {
		t.Run(mode, func(t *testing.T) {
			r := &replay{compatibility: doc, t: t, mode: mode, tokens: tokens, server: recorded(t, env)}
			t.Run("http", r.http)
			t.Run("ws", r.ws)
		})
	}
	for id, used := range doc.rules {
		if !used {
			t.Errorf("docs/compatibility.md: the rule %s explains no record", id)
		}
	}
	for _, d := range doc.differences {
		for _, mode := range d.unseen {
			t.Errorf("docs/compatibility.md: %s does not differ in the mode %s", d.id, mode)
		}
	}
}

// A compatibility is what docs/compatibility.md says.
type compatibility struct {
	rules       map[string]bool // by id: whether a record needed it
	differences []*difference
}

// A difference is a record that is answered in another way.
type difference struct {
	id     string   // "http/<id>" or "ws/<id>/<number of the line of its transcript>"
	here   []string // what is answered here
	modes  string
	unseen []string // modes in which it has not been seen yet
}

var codeSpan = regexp.MustCompile("`([^`]*)`")

// readCompatibility parses the two tables: rules (id, Elixir, here, why, mode) and differences (the same columns, the id with a
// slash). In a difference's third column the code spans are the answers.
func readCompatibility(t *testing.T) *compatibility {
	t.Helper()
	const path = "../../docs/compatibility.md"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := &compatibility{rules: map[string]bool{}}
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 5 {
			t.Fatalf("%s: %d columns in %s", path, len(cells), line)
		}
		id, mode := strings.Trim(cells[0], " `"), strings.TrimSpace(cells[4])
		modes := map[string][]string{"both": {"default", "legacy"}, "default": {"default"}, "legacy": {"legacy"}}[mode]
		if modes == nil || strings.TrimSpace(cells[3]) == "" {
			t.Fatalf("%s: no mode or no reason in %s", path, line)
		}
		if !strings.Contains(id, "/") {
			c.rules[id] = false
			continue
		}
		d := &difference{id: id, modes: mode, unseen: modes}
		for _, m := range codeSpan.FindAllStringSubmatch(cells[2], -1) {
			d.here = append(d.here, m[1])
		}
		c.differences = append(c.differences, d)
	}
	return c
}

type replay struct {
	*compatibility
	t      *testing.T
	mode   string
	tokens map[string]string
	server *server
}

// rule notes that a rule explains a difference.
func (r *replay) rule(t *testing.T, id string) {
	if _, ok := r.rules[id]; !ok {
		t.Errorf("docs/compatibility.md lacks the rule %s", id)
	}
	r.rules[id] = true
}

// differs checks an answer that no rule explains.
func (r *replay) differs(t *testing.T, id, recorded string, got []string) {
	t.Helper()
	for _, d := range r.differences {
		if d.id != id || d.modes != "both" && d.modes != r.mode {
			continue
		}
		d.unseen = slices.DeleteFunc(slices.Clone(d.unseen), func(mode string) bool { return mode == r.mode })
		same := slices.EqualFunc(got, d.here, func(got, here string) bool {
			gotStatus, gotBody, _ := strings.Cut(got, " ")
			status, body, _ := strings.Cut(here, " ")
			return sameJSON(got, here) || gotStatus == status && sameJSON(gotBody, body)
		})
		if !same {
			t.Errorf("docs/compatibility.md, %s (%s):\nit says %s\nbut is %s", id, r.mode, d.here, clip(fmt.Sprint(got)))
		}
		return
	}
	t.Errorf("a difference that docs/compatibility.md lacks:\n| `%s` | `%s` | `%s` | … | %s |", id, recorded,
		strings.Join(got, "` `"), r.mode)
}

type httpRecord struct {
	ID      string
	Request struct {
		Method, Path, Body string
		Headers            [][2]string
	}
	Response struct {
		Status  int
		Headers map[string]string
		Body    string
	}
}

func (r *replay) http(t *testing.T) {
	var records struct{ Probes []httpRecord }
	readJSON(t, "http.json", &records)
	if len(records.Probes) == 0 {
		t.Fatal("no records")
	}
	for _, record := range records.Probes {
		t.Run(record.ID, func(t *testing.T) {
			req := record.Request
			headers := []string{"Content-Type:"}
			for _, h := range req.Headers {
				if h[0] == "Content-Type" {
					headers = slices.DeleteFunc(headers, func(h string) bool { return h == "Content-Type:" })
				}
				headers = append(headers, h[0]+": "+fill(t, h[1], r.tokens))
			}
			got := r.server.do(t, req.Method+" "+req.Path, fill(t, req.Body, r.tokens), headers...)
			want := record.Response
			sameBody := r.same(t, got.body, want.Body)
			sameStatus := got.status == want.Status
			if sameBody && !sameStatus && r.mode == "default" && got.status == statusOf(got.body) {
				r.rule(t, "status")
				sameStatus = true
			}
			if !sameBody || !sameStatus {
				r.differs(t, "http/"+record.ID, fmt.Sprint(want.Status, " ", want.Body),
					[]string{fmt.Sprint(got.status, " ", got.body)})
			}
			if contentType := got.header.Get("Content-Type"); contentType != want.Headers["content-type"] {
				if contentType != "application/json; charset=utf-8" {
					t.Errorf("Content-Type %q", contentType)
				}
				r.rule(t, "content-type")
			}
		})
	}
}

// statuses are those of the codes, PROTOCOL.md section 2.
var statuses = map[string]int{
	"invalid_argument": 400, "validation_failed": 422, "method_not_allowed": 405, "unauthenticated": 401,
	"permission_denied": 403,
	"not_found":         404, "already_exists": 409, "failed_precondition": 412, "too_large": 413, "unsupported_media_type": 415,
	"rate_limited": 429, "canceled": 499, "internal": 500, "unavailable": 503, "deadline_exceeded": 504,
}

// statusOf is the status that an error's code has, 0 for what is no error.
func statusOf(body string) int {
	var e struct{ Error, Code string }
	if json.Unmarshal([]byte(body), &e) != nil {
		return 0
	}
	return statuses[e.Code]
}

// same compares bodies or frames under the rules.
func (r *replay) same(t *testing.T, got, want string) bool {
	if got == want {
		return true
	}
	g, err1 := parse(got)
	w, err2 := parse(want)
	if err1 != nil || err2 != nil {
		return false
	}
	var rules []string
	if array, ok := w.([]any); ok && len(array) == 2 && array[0] == "server_time" {
		w = []any{"server_time", "*"} // the time is another one
	}
	gotError, wantError := errorIn(g), errorIn(w)
	if gotError != nil && wantError != nil && wantError["code"] == nil {
		if code, _ := gotError["code"].(string); statuses[code] != 0 {
			delete(gotError, "code")
			rules = append(rules, "error-code")
		}
	}
	faults, _ := wantError["errors"].(map[string]any)
	for _, texts := range faults {
		for i, text := range texts.([]any) {
			if before, _, found := strings.Cut(text.(string), " to use :"); found {
				texts.([]any)[i] = before
				rules = append(rules, "wrong-type-text")
			}
		}
	}
	if !matches(g, w) {
		return false
	}
	for _, id := range rules {
		r.rule(t, id)
	}
	return true
}

// errorIn is the error object that a body is, or that a ["response", …] holds.
func errorIn(v any) map[string]any {
	if array, ok := v.([]any); ok && len(array) == 3 && array[0] == "response" {
		v = array[1]
	}
	object, _ := v.(map[string]any)
	if _, ok := object["error"].(string); !ok {
		return nil
	}
	return object
}

type wsRecord struct {
	ID         string
	Transcript []wsLine
}

type wsLine struct {
	Conn    string
	Connect *struct {
		Path    string
		Headers [][2]string
	}
	Status       int
	HTTPRequest  string               `json:"http_request"`
	HTTPResponse struct{ Status int } `json:"http_response"`
	Send         *struct {
		Text      *string
		BinaryHex string `json:"binary_hex"`
		Length    int
		Frames    string
	}
	Check  string
	Recv   []wsMessage
	Others map[string][]wsMessage
}

type wsMessage struct {
	Text  *string
	Close int
	TCP   string
}

func (m wsMessage) String() string {
	switch {
	case m.Text != nil:
		return *m.Text
	case m.TCP != "":
		return "<" + m.TCP + ">"
	}
	return fmt.Sprintf("<close %d>", m.Close)
}

func (r *replay) ws(t *testing.T) {
	var records struct{ Sessions []wsRecord }
	readJSON(t, "ws.json", &records)
	if len(records.Sessions) == 0 {
		t.Fatal("no records")
	}
	for _, record := range records.Sessions {
		t.Run(record.ID, func(t *testing.T) {
			conns := map[string]*client{}
			for i, line := range record.Transcript {
				r.line(t, fmt.Sprintf("ws/%s/%d", record.ID, i+1), &line, conns)
			}
		})
	}
}

func (r *replay) line(t *testing.T, id string, line *wsLine, conns map[string]*client) {
	t.Helper()
	switch {
	case line.HTTPRequest != "":
		request := strings.Replace(line.HTTPRequest, "127.0.0.1:4100", r.server.addr, 1)
		got := r.server.exchange(t, []byte(request))
		if got.status != line.HTTPResponse.Status {
			r.differs(t, id, strconv.Itoa(line.HTTPResponse.Status), []string{strconv.Itoa(got.status)})
		}
		return
	case line.Connect != nil:
		var headers []string
		for _, h := range line.Connect.Headers {
			headers = append(headers, h[0]+": "+fill(t, h[1], r.tokens))
		}
		c, answer := r.server.dial(t, headers...)
		conns[line.Conn] = c
		if answer.status != line.Status {
			r.differs(t, id, strconv.Itoa(line.Status), []string{fmt.Sprint(answer.status, " ", answer.body)})
			return
		}
	case conns[line.Conn] == nil:
		return // its upgrade was refused, which is listed: nothing can follow
	case line.Send != nil:
		r.send(t, conns[line.Conn], line)
	case line.Check == "ping afterwards":
		conns[line.Conn].SendText("ping") // fails when the server has closed
	default:
		t.Fatalf("%s: unknown line", id)
	}
	c := conns[line.Conn]
	ended := c.ended
	got := c.received()
	if ended {
		got = []string{"<eof>"}
	}
	r.frames(t, id, got, line.Recv)
	for name, want := range line.Others {
		if conns[name] != nil {
			r.frames(t, id+"/"+name, conns[name].received(), want)
		}
	}
}

func (r *replay) frames(t *testing.T, id string, got []string, messages []wsMessage) {
	t.Helper()
	var want []string
	for _, m := range messages {
		want = append(want, m.String())
	}
	equal := slices.EqualFunc(got, want, func(got, want string) bool {
		if before, after, found := strings.Cut(want, " …cut, "); found { // the record holds its beginning and its length
			return strings.HasPrefix(got, before) && after == fmt.Sprintf("%d characters…", len(got))
		}
		return r.same(t, got, want)
	})
	if !equal {
		r.differs(t, id, strings.Join(want, "` `"), got)
	}
}

// send sends what a record says, or what it describes.
func (r *replay) send(t *testing.T, c *client, line *wsLine) {
	t.Helper()
	switch s := line.Send; {
	case s.Text != nil:
		c.sendText(fill(t, *s.Text, r.tokens))
	case s.BinaryHex != "":
		head, cut := strings.CutSuffix(s.BinaryHex, "…")
		payload, err := hex.DecodeString(head)
		if err != nil {
			t.Fatal(err)
		}
		if cut { // {"action":"bin","pad":"xxx…"} and three bytes
			payload = append(payload, strings.Repeat("x", s.Length-len(payload)-5)+`"}abc`...)
		}
		if len(payload) != s.Length {
			t.Fatalf("%d bytes, want %d", len(payload), s.Length)
		}
		c.Send(wsraw.Frame{Op: wsraw.Binary, Payload: payload})
	default:
		frames := described[s.Frames]
		if code, ok := strings.CutPrefix(s.Frames, "close "); ok {
			n, _ := strconv.Atoi(code)
			frames = []wsraw.Frame{wsraw.CloseFrame(n, "")}
		}
		if frames == nil {
			t.Fatalf("unknown frames %q", s.Frames)
		}
		c.Send(frames...)
	}
}

// described are the frames that records describe in words.
var described = map[string][]wsraw.Frame{
	"text with RSV2":                    {{Op: wsraw.Text, RSV: 2, Payload: []byte("ping")}},
	"binary split after its first byte": split(wsraw.Binary, string(binaryCall(`{"action":"bin","rayid":"fb"}`, "12345")), 1),
	"split inside a UTF-8 character": split(wsraw.Text, `{"action":"echo","s":"é"}`,
		strings.Index(`{"action":"echo","s":"é"}`, "é")+1),
}

// split is a message in two frames.
func split(op byte, payload string, at int) []wsraw.Frame {
	return []wsraw.Frame{
		{Op: op, More: true, Payload: []byte(payload[:at])},
		{Op: wsraw.Continuation, Payload: []byte(payload[at:])},
	}
}

// binaryCall is the payload of a binary frame that calls an action, PROTOCOL.md section 3.
func binaryCall(metadata, payload string) []byte {
	return append([]byte{byte(len(metadata)), byte(len(metadata) >> 8)}, metadata+payload...)
}
