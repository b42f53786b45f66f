package devtools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore"
)

// A Page is a page of the program's own in the dashboard.
type Page struct {
	// Name is its place in the address: lower-case letters, digits and "-". Required.
	Name string

	// Title is its place in the menu. Default Name.
	Title string

	// Description stands below the title. Default none.
	Description string

	// Widgets are what it shows, in this order.
	Widgets []Widget

	// Buttons run functions of the program.
	Buttons []Button
}

// A Widget shows a value of the program, live.
type Widget struct {
	// Title says what it shows. Required.
	Title string

	// Description stands below it. Default none.
	Description string

	// Unit is that of a Number or Line, such as "ms". Default none.
	Unit string

	// Value is what it shows: [Number], [KeyValue], [Table], [List], [Line] or [Text]. Required.
	Value Value
}

// A Button runs a function of the program. Nothing that a browser sends is run as code.
type Button struct {
	// Label says what it does. Required.
	Label string

	// Description stands beside it. Default none.
	Description string

	// Confirm is asked before it runs. Default none: it runs at once.
	Confirm string

	// Run is a [mooncore.Func]. The dashboard makes a form of its input, and validates it. A string that it returns is shown as a
	// message, anything else as JSON. Required.
	Run mooncore.Handler
}

// A Value is what a [Widget] shows. Its function runs once a second while somebody looks, those of Number and Line always; it has a
// second, by its context, and must be safe to call concurrently.
type Value struct {
	kind  string
	read  func(ctx context.Context) (any, error)
	names []string // columns of a table
}

// Number is one number, with its course over the last two minutes.
func Number(fn func(ctx context.Context) (float64, error)) Value {
	return Value{kind: kindNumber, read: reader(fn)}
}

// KeyValue is pairs of a name and a value.
func KeyValue(fn func(ctx context.Context) ([][2]string, error)) Value {
	return Value{kind: kindKeyValue, read: reader(fn)}
}

// Table is rows below columns, of strings, numbers, booleans and nil. At most 1,000 rows are shown.
func Table(columns []string, fn func(ctx context.Context) ([][]any, error)) Value {
	return Value{kind: kindTable, read: reader(fn), names: slices.Clone(columns)}
}

// List is lines of text, one below the other. At most 1,000 are shown.
func List(fn func(ctx context.Context) ([]string, error)) Value {
	return Value{kind: kindList, read: reader(fn)}
}

// Line is a chart of the last ten minutes: fn returns the present value of each line by its label.
func Line(fn func(ctx context.Context) (map[string]float64, error)) Value {
	return Value{kind: kindLine, read: reader(fn)}
}

// Text is a paragraph.
func Text(fn func(ctx context.Context) (string, error)) Value {
	return Value{kind: kindText, read: reader(fn)}
}

func reader[T any](fn func(ctx context.Context) (T, error)) func(ctx context.Context) (any, error) {
	if fn == nil {
		return nil
	}
	return func(ctx context.Context) (any, error) { return fn(ctx) }
}

const (
	kindNumber   = "number"
	kindKeyValue = "keyvalue"
	kindTable    = "table"
	kindList     = "list"
	kindLine     = "line"
	kindText     = "text"

	maxRows     = 1000
	trendLength = 120 // seconds
	lineLength  = 600 // seconds
	maxLines    = 20
	valueTime   = time.Second
	viewedFor   = 10 * time.Second // after somebody looked
)

// pages are the program's own.
type pages struct {
	list   []*page
	log    *slog.Logger
	server *mooncore.Server // runs the buttons, as actions "<page>.<button>"; nil without any
}

var pageName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// newPages returns the pages, or all their faults.
func newPages(list []Page, redact *redactor, log *slog.Logger) (*pages, error) {
	p := &pages{log: log}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("devtools: "+format, args...)) }
	var buttons []mooncore.Action
	for i, cfg := range list {
		at := fmt.Sprintf("Pages[%d]", i)
		if !pageName.MatchString(cfg.Name) || len(cfg.Name) > 64 {
			fault(`%s.Name: %q is not made of lower-case letters, digits and "-"`, at, cfg.Name)
		}
		if p.page(cfg.Name) != nil {
			fault("%s.Name: %q is there twice", at, cfg.Name)
		}
		for j, w := range cfg.Widgets {
			if w.Title == "" {
				fault("%s.Widgets[%d].Title: is required", at, j)
			}
			if w.Value.read == nil {
				fault("%s.Widgets[%d].Value: is required: Number, KeyValue, Table, List, Line or Text of a function", at, j)
			}
		}
		for j, b := range cfg.Buttons {
			if b.Label == "" {
				fault("%s.Buttons[%d].Label: is required", at, j)
			}
			if b.Run.InputSchema() == nil {
				fault("%s.Buttons[%d].Run: is required: a mooncore.Func", at, j)
			}
			buttons = append(buttons, mooncore.Action{Name: buttonAction(cfg.Name, j), Allow: mooncore.Public, Handler: b.Run})
		}
		p.list = append(p.list, newPage(cfg, redact))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if len(buttons) == 0 {
		return p, nil
	}
	srv, err := mooncore.New(mooncore.Config{
		Development: true, Logger: log, Routers: []mooncore.Router{{Actions: buttons}},
		Authenticate: func(*http.Request) (mooncore.Identity, error) { return mooncore.Identity{}, nil }, // so that it needs no key
	})
	if err != nil {
		return nil, fmt.Errorf("devtools: Pages: a button: %w", err)
	}
	p.server = srv
	return p, nil
}

func buttonAction(page string, i int) string { return page + "." + strconv.Itoa(i+1) }

func (p *pages) page(name string) *page {
	for _, page := range p.list {
		if page.cfg.Name == name {
			return page
		}
	}
	return nil
}

// run reads values until ctx ends.
func (p *pages) run(ctx context.Context, wg *sync.WaitGroup) {
	for _, page := range p.list {
		wg.Go(func() {
			for tick := time.Tick(time.Second); ; {
				select {
				case <-ctx.Done():
					return
				case now := <-tick:
					page.read(ctx, now, now.UnixNano()-page.viewed.Load() < int64(viewedFor))
				}
			}
		})
	}
}

func (p *pages) close() {
	if p.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := p.server.Shutdown(ctx); err != nil {
		p.log.Warn("developer tools: buttons are cut off", "cause", err)
	}
}

// A page is a Page as it is shown.
type page struct {
	cfg    Page
	redact *redactor
	viewed atomic.Int64 // when somebody last looked, Unix nanoseconds

	mu     sync.Mutex
	states []widgetState
}

// A widgetState is the last value of a widget, and what came before it.
type widgetState struct {
	view   widgetView
	trend  []float64
	times  []int64
	series map[string][]*float64 // as long as times
}

// A widgetView is a widget with its value, with the fields that ui/src/api.ts gives its type.
type widgetView struct {
	ID     string
	fields map[string]any
}

// MarshalJSON writes the fields.
func (v widgetView) MarshalJSON() ([]byte, error) { return json.Marshal(v.fields) }

func newPage(cfg Page, redact *redactor) *page {
	if cfg.Title == "" {
		cfg.Title = cfg.Name
	}
	p := &page{cfg: cfg, redact: redact, states: make([]widgetState, len(cfg.Widgets))}
	for i := range cfg.Widgets {
		p.states[i].view = p.view(i, nil, errors.New("not read yet"))
	}
	return p
}

// read reads the values of all widgets, or only of those that have a course.
func (p *page) read(ctx context.Context, now time.Time, all bool) {
	for i := range p.cfg.Widgets {
		v := &p.cfg.Widgets[i].Value
		if !all && v.kind != kindNumber && v.kind != kindLine {
			continue
		}
		value, err := readValue(ctx, v)
		p.mu.Lock()
		p.states[i].add(now, value, err)
		p.states[i].view = p.view(i, value, err)
		p.mu.Unlock()
	}
}

// readValue calls a function of the program.
func readValue(ctx context.Context, v *Value) (value any, err error) {
	ctx, cancel := context.WithTimeout(ctx, valueTime)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			value, err = nil, fmt.Errorf("panic: %v", r)
		}
	}()
	return v.read(ctx)
}

// add keeps the course of a number or of lines.
func (s *widgetState) add(now time.Time, value any, err error) {
	if err != nil {
		return
	}
	switch value := value.(type) {
	case float64:
		if !math.IsNaN(value) && !math.IsInf(value, 0) {
			s.trend = last(append(s.trend, value), trendLength)
		}
	case map[string]float64:
		if s.series == nil {
			s.series = map[string][]*float64{}
		}
		for label := range value {
			if _, ok := s.series[label]; !ok && len(s.series) < maxLines {
				s.series[label] = make([]*float64, len(s.times))
			}
		}
		s.times = last(append(s.times, now.UnixMilli()), lineLength)
		for label, values := range s.series {
			v, ok := value[label]
			s.series[label] = last(append(values, number(v, ok)), lineLength)
		}
	}
}

// last returns the last n items.
func last[T any](list []T, n int) []T {
	if len(list) <= n {
		return list
	}
	return append(list[:0], list[len(list)-n:]...)
}

// number is a number as JSON can hold it.
func number(v float64, ok bool) *float64 {
	if !ok || math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// view makes what is shown of a widget. p.mu is held, but by newPage.
func (p *page) view(i int, value any, err error) widgetView {
	w, s := &p.cfg.Widgets[i], &p.states[i]
	v := widgetView{ID: "w" + strconv.Itoa(i+1)}
	v.fields = map[string]any{"id": v.ID, "title": w.Title, "type": w.Value.kind}
	if w.Description != "" {
		v.fields["description"] = w.Description
	}
	if w.Unit != "" {
		v.fields["unit"] = w.Unit
	}
	if err != nil {
		v.fields["error"] = cut(p.redact.prose(err.Error()), maxName)
	}
	switch w.Value.kind {
	case kindNumber:
		n, ok := value.(float64)
		v.fields["value"], v.fields["trend"] = number(n, ok), slices.Clone(s.trend)
	case kindKeyValue:
		pairs, _ := value.([][2]string)
		rows := make([][2]string, 0, len(pairs))
		for _, pair := range pairs[:min(len(pairs), maxRows)] {
			rows = append(rows, [2]string{cut(pair[0], maxText), p.cell(pair[0], pair[1]).(string)})
		}
		v.fields["rows"] = rows
	case kindTable:
		table, _ := value.([][]any)
		rows := make([][]any, 0, len(table))
		for _, row := range table[:min(len(table), maxRows)] {
			cells := make([]any, len(w.Value.names))
			for j := range cells {
				if j < len(row) {
					cells[j] = p.cell(w.Value.names[j], row[j])
				}
			}
			rows = append(rows, cells)
		}
		v.fields["columns"], v.fields["rows"] = append([]string{}, w.Value.names...), rows
	case kindList:
		lines, _ := value.([]string)
		items := make([]string, 0, len(lines))
		for _, line := range lines[:min(len(lines), maxRows)] {
			items = append(items, p.cell("", line).(string))
		}
		v.fields["items"] = items
	case kindLine:
		v.fields["time"], v.fields["series"] = append([]int64{}, s.times...), s.lines()
	case kindText:
		text, _ := value.(string)
		v.fields["text"] = cut(p.redact.prose(text), maxValue)
	}
	return v
}

func (s *widgetState) lines() []map[string]any {
	lines := []map[string]any{}
	for _, label := range slices.Sorted(maps.Keys(s.series)) {
		lines = append(lines, map[string]any{"label": label, "values": slices.Clone(s.series[label])})
	}
	return lines
}

// cell is a value in a row, without secrets.
func (p *page) cell(name string, value any) any {
	switch v := value.(type) {
	case nil, bool:
		return v
	case float64:
		return number(v, true)
	case int:
		return v
	case int64:
		return v
	case string:
		if name != "" && v != "" && p.redact.secret([]byte(name)) {
			return redacted
		}
		return cut(p.redact.prose(v), maxText)
	}
	return cut(p.redact.prose(fmt.Sprint(value)), maxText)
}

// widgets are the widgets with their last values. They are kept fresh for a while.
func (p *page) widgets() []widgetView {
	p.viewed.Store(time.Now().UnixNano())
	p.mu.Lock()
	defer p.mu.Unlock()
	views := make([]widgetView, len(p.states))
	for i := range p.states {
		views[i] = p.states[i].view
	}
	return views
}

func (t *tools) getPages(*http.Request) (any, error) {
	list := []map[string]string{}
	for _, p := range t.pages.list {
		list = append(list, map[string]string{"name": p.cfg.Name, "title": p.cfg.Title})
	}
	return map[string]any{"pages": list}, nil
}

func (t *tools) getPage(r *http.Request) (any, error) {
	p := t.pages.page(r.PathValue("name"))
	if p == nil {
		return nil, mooncore.Errorf(mooncore.CodeNotFound, "No such page")
	}
	now := time.Now()
	if now.UnixNano()-p.viewed.Load() > int64(2*time.Second) {
		p.read(r.Context(), now, true)
	}
	buttons := []map[string]any{}
	for i, b := range p.cfg.Buttons {
		view := map[string]any{"id": strconv.Itoa(i + 1), "label": b.Label}
		if b.Description != "" {
			view["description"] = b.Description
		}
		if b.Confirm != "" {
			view["confirm"] = b.Confirm
		}
		if schema := b.Run.InputSchema(); string(schema) != `{"type":"object"}` {
			view["schema"] = schema
		}
		buttons = append(buttons, view)
	}
	return map[string]any{
		"name": p.cfg.Name, "title": p.cfg.Title, "description": p.cfg.Description, "widgets": p.widgets(), "buttons": buttons,
	}, nil
}

func (t *tools) postButton(r *http.Request) (any, error) {
	p := t.pages.page(r.PathValue("name"))
	i, err := strconv.Atoi(r.PathValue("button"))
	if p == nil || err != nil || i < 1 || i > len(p.cfg.Buttons) {
		return nil, mooncore.Errorf(mooncore.CodeNotFound, "No such button")
	}
	in, err := readBody[struct {
		Input json.RawMessage `json:"input"`
	}](r)
	if err != nil {
		return nil, err
	}
	if string(in.Input) == "null" {
		in.Input = nil
	}
	t.audit("button", "page", p.cfg.Name, "label", p.cfg.Buttons[i-1].Label)
	out, err := t.pages.server.Call(r.Context(), &mooncore.Request{
		Action: buttonAction(p.cfg.Name, i-1), Params: in.Input, Source: sourceTools,
	})
	if err != nil {
		return nil, err
	}
	if message, ok := out.(string); ok {
		return map[string]any{"message": t.rec.redact.text(message)}, nil
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, mooncore.Errorf(mooncore.CodeFailedPrecondition, "The result has no JSON: %v", err)
	}
	b, _ = t.rec.redact.json(nil, b, nil)
	return map[string]any{"result": json.RawMessage(b)}, nil
}
