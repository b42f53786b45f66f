package devtools

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"
)

// A record is one call of the log.
type record struct {
	id      uint64
	start   time.Time
	took    time.Duration
	marks   marks // of params
	cut     bool  // of the result
	files   bool  // the call had some
	app     string
	action  string
	source  string
	via     string
	code    string
	request string // id
	conn    string
	addr    string
	trace   string
	user    string
	tenant  string
	scope   string
	token   string // its jti
	expires int64  // Unix seconds, 0 for never
	roles   []string
	message string
	logID   string
	cause   string
	stack   string
	fields  []byte // JSON; of the error
	params  []byte // JSON
	result  []byte // JSON, empty if there was none
	steps   []step
}

// A step is one step of a call.
type step struct {
	name     string
	at, took time.Duration // at is from the start of the call
	code     string
}

// Texts that come from outside are shortened to these many bytes.
const (
	maxName  = 128
	maxCause = 8 << 10
)

// An encoder writes a record as bytes; a decoder reads them. recorder.encode and decodeRecord say in which order.
type encoder struct {
	b      []byte
	value  bytes.Buffer // the result of a call by Go
	values *json.Encoder
}

func newEncoder() *encoder {
	e := new(encoder)
	e.values = json.NewEncoder(&e.value)
	e.values.SetEscapeHTML(false) // as clients get it
	return e
}

func (e *encoder) int(n int64) { e.b = binary.AppendVarint(e.b, n) }

func (e *encoder) text(s string) {
	e.b = binary.AppendUvarint(e.b, uint64(len(s)))
	e.b = append(e.b, s...)
}

// json writes a value without its secrets. Its length, of fixed size, stands before it, since it is known only then.
func (e *encoder) json(r *redactor, src []byte, fields *secretFields) marks {
	at := len(e.b)
	e.b = append(e.b, 0, 0, 0, 0)
	if len(src) == 0 {
		return 0
	}
	var m marks
	e.b, m = r.json(e.b, src, fields)
	binary.LittleEndian.PutUint32(e.b[at:], uint32(len(e.b)-at-4))
	return m
}

type decoder struct{ b []byte }

func (d *decoder) int() int64 {
	n, size := binary.Varint(d.b)
	d.b = d.b[max(size, 0):]
	return n
}

func (d *decoder) bytes() []byte {
	n, size := binary.Uvarint(d.b)
	d.b = d.b[max(size, 0):]
	return d.take(int(n))
}

func (d *decoder) text() string { return string(d.bytes()) }

func (d *decoder) json() []byte {
	n := binary.LittleEndian.Uint32(d.b)
	d.b = d.b[4:]
	return d.take(int(n))
}

func (d *decoder) take(n int) []byte {
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

// decodeRecord reads what recorder.encode wrote.
func decodeRecord(id uint64, b []byte) *record {
	d := decoder{b}
	r := &record{id: id, start: time.Unix(0, d.int()), took: time.Duration(d.int())}
	flags := d.int()
	r.files = flags&1 != 0
	r.app, r.action, r.source, r.via, r.code = d.text(), d.text(), d.text(), d.text(), d.text()
	r.request, r.conn, r.addr, r.trace = d.text(), d.text(), d.text(), d.text()
	r.user, r.tenant, r.scope, r.token, r.expires = d.text(), d.text(), d.text(), d.text(), d.int()
	for range d.int() {
		r.roles = append(r.roles, d.text())
	}
	r.message, r.logID, r.cause, r.stack, r.fields = d.text(), d.text(), d.text(), d.text(), d.bytes()
	for range d.int() {
		r.steps = append(r.steps, step{d.text(), time.Duration(d.int()), time.Duration(d.int()), d.text()})
	}
	r.params, r.result = d.json(), d.json()
	tail := d.int()
	r.marks, r.cut = marks(tail>>1), tail&1 != 0
	return r
}

// A callSummary is a record in a list. The names are those of the dashboard's api.ts.
type callSummary struct {
	ID       uint64  `json:"id"`
	Time     int64   `json:"time"`
	App      string  `json:"app"`
	Action   string  `json:"action"`
	Source   string  `json:"source"`
	Via      string  `json:"via,omitempty"`
	User     string  `json:"user"`
	Tenant   string  `json:"tenant"`
	Code     string  `json:"code"`
	Duration float64 `json:"duration_ms"`
	Request  string  `json:"request_id"`
	Conn     string  `json:"conn,omitempty"`
	Error    string  `json:"error,omitempty"`
}

func (r *record) summary() callSummary {
	return callSummary{
		r.id, r.start.UnixMilli(), r.app, r.action, r.source, r.via, r.user, r.tenant, r.code, milliseconds(r.took), r.request, r.conn,
		cut(r.message, 200),
	}
}

// A callDetail is all of a record.
type callDetail struct {
	callSummary
	Params    json.RawMessage `json:"params"`
	ParamsCut bool            `json:"params_cut,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	ResultCut bool            `json:"result_cut,omitempty"`
	Identity  *callIdentity   `json:"identity"`
	Addr      string          `json:"remote_addr,omitempty"`
	Trace     string          `json:"traceparent,omitempty"`
	Steps     []callStep      `json:"steps"`
	Failure   *callFailure    `json:"failure,omitempty"`
}

type callIdentity struct {
	identity
	TokenID string `json:"token_id,omitempty"`
	Expires int64  `json:"expires,omitempty"`
}

type callStep struct {
	Name     string  `json:"name"`
	Start    float64 `json:"start_ms"`
	Duration float64 `json:"duration_ms"`
	Error    string  `json:"error,omitempty"`
}

type callFailure struct {
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Errors  json.RawMessage `json:"errors,omitempty"`
	LogID   string          `json:"log_id,omitempty"`
	Cause   string          `json:"cause,omitempty"`
	Stack   string          `json:"stack,omitempty"`
}

func (r *record) detail() callDetail {
	d := callDetail{
		callSummary: r.summary(), Params: r.params, ParamsCut: r.marks&wasCut != 0, Result: r.result, ResultCut: r.cut,
		Addr: r.addr, Trace: r.trace, Steps: []callStep{},
	}
	if len(d.Params) == 0 {
		d.Params = json.RawMessage("null")
	}
	if r.user != "" {
		d.Identity = &callIdentity{r.identity(), r.token, r.expires * 1000}
	}
	for _, s := range r.steps {
		d.Steps = append(d.Steps, callStep{s.name, milliseconds(s.at), milliseconds(s.took), s.code})
	}
	if r.code != codeOK {
		d.Failure = &callFailure{r.code, r.message, r.fields, r.logID, r.cause, r.stack}
	}
	return d
}

func (r *record) identity() identity {
	return identity{User: r.user, App: r.app, Tenant: r.tenant, Scope: r.scope, Roles: r.roles}
}
