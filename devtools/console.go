package devtools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"regexp"
	"regexp/syntax"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/strictjson"
)

// Budgets of an expression.
const (
	consoleTime     = time.Second
	consoleLength   = 4 << 10
	consoleNodes    = 500
	consoleElements = 200_000   // of lists and maps that it makes, and of one value with all that is in it
	consoleString   = 64 << 10  // of a string that it makes
	consolePattern  = 256       // characters of a regular expression
	consoleMatch    = 2 << 20   // characters times instructions of one
	consoleAlloc    = 256 << 20 // bytes that the whole program allocates meanwhile
	consoleOutput   = 256 << 10 // of JSON
	consoleCalls    = 1000
)

var (
	errConsoleTime   = &mooncore.Error{Code: mooncore.CodeDeadlineExceeded, Message: fmt.Sprintf("The expression took longer than %v", consoleTime)}
	errConsoleMemory = &mooncore.Error{Code: mooncore.CodeTooLarge, Message: "The expression took more memory than it may"}
)

// consoleBuiltins are the functions of the language that an expression may call. Those that make much out of little are not among
// them: repeat, replace, join, uniq.
var consoleBuiltins = []string{
	"all", "none", "any", "one", "filter", "map", "find", "findIndex", "findLast", "findLastIndex", "count", "sum", "groupBy", "sortBy",
	"reduce", "len", "type", "abs", "ceil", "floor", "round", "int", "float", "trim", "trimPrefix", "trimSuffix", "upper", "lower",
	"indexOf", "lastIndexOf", "hasPrefix", "hasSuffix", "max", "min", "mean", "median", "now", "duration", "date", "first", "last", "get",
	"take", "keys", "values", "toPairs", "fromPairs", "reverse", "concat", "flatten", "sort",
}

// A consoleRun evaluates one expression, over copies of what the dashboard shows: it can change nothing, and no method of the
// program can be reached.
type consoleRun struct {
	t      *tools
	until  time.Time
	allocs []metrics.Sample
	start  uint64 // allocated before
	checks int

	pattern  string // the last one, and what it is
	compiled *regexp.Regexp
	size     int // in instructions

	cache map[string]any // what functions returned
}

// check ends an expression whose time or memory is used up.
func (c *consoleRun) check() error {
	if time.Now().After(c.until) {
		return errConsoleTime
	}
	c.checks++
	if c.checks%32 == 0 {
		if metrics.Read(c.allocs); c.allocs[0].Value.Uint64()-c.start > consoleAlloc {
			return errConsoleMemory
		}
	}
	return nil
}

// tick begins each turn of a loop.
func (c *consoleRun) tick(...any) (any, error) { return true, c.check() }

// weigh passes on each value that was made. One list can be in another many times, and that one again: such a value is small until
// something walks through it, as == and flatten do.
func (c *consoleRun) weigh(args ...any) (any, error) {
	left := consoleElements
	if !weighed(args[0], &left) {
		return nil, errConsoleMemory
	}
	return args[0], c.check()
}

// weighed reports whether a value has at most left elements, with all that is in it; 1024 bytes of a string count as one.
func weighed(v any, left *int) bool {
	*left--
	switch v := v.(type) {
	case nil, bool, int, float64:
		return *left >= 0
	case string:
		*left -= len(v) / 1024
		return *left >= 0
	case []any:
		for _, item := range v {
			if !weighed(item, left) {
				return false
			}
		}
		return *left >= 0
	case map[string]any:
		for _, item := range v {
			if !weighed(item, left) {
				return false
			}
		}
		return *left >= 0
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range r.Len() {
			if !weighed(r.Index(i).Interface(), left) {
				return false
			}
		}
	case reflect.Map:
		for key, item := range r.Seq2() {
			if !weighed(key.Interface(), left) || !weighed(item.Interface(), left) {
				return false
			}
		}
	}
	return *left >= 0
}

// match is the operator matches, whose time grows with both the text and the pattern.
func (c *consoleRun) match(args ...any) (any, error) {
	text, ok := args[0].(string)
	pattern, isText := args[1].(string)
	switch {
	case args[0] == nil:
		return false, nil
	case !ok || !isText:
		return nil, fmt.Errorf("no %T matches %T", args[0], args[1])
	case len(pattern) > consolePattern:
		return nil, fmt.Errorf("the pattern has more than %d characters", consolePattern)
	}
	if pattern != c.pattern || c.compiled == nil {
		parsed, err := syntax.Parse(pattern, syntax.Perl)
		if err != nil {
			return nil, err
		}
		program, err := syntax.Compile(parsed.Simplify())
		if err != nil {
			return nil, err
		}
		if c.compiled, err = regexp.Compile(pattern); err != nil {
			return nil, err
		}
		c.pattern, c.size = pattern, len(program.Inst)
	}
	if len(text)*c.size > consoleMatch {
		return nil, errConsoleTime
	}
	return c.compiled.MatchString(text), c.check()
}

// add is the operator +, which could make strings without end.
func (c *consoleRun) add(args ...any) (any, error) {
	a, aText := args[0].(string)
	b, bText := args[1].(string)
	switch {
	case aText && bText:
		if len(a)+len(b) > consoleString {
			return nil, errConsoleMemory
		}
		return a + b, nil
	case aText || bText:
		return nil, fmt.Errorf("no %T + %T", args[0], args[1])
	}
	x, y := reflect.ValueOf(args[0]), reflect.ValueOf(args[1])
	switch {
	case !x.IsValid() || !y.IsValid():
		return nil, errors.New("nil + something")
	case x.CanInt() && y.CanInt():
		return int(x.Int() + y.Int()), nil
	case isNumber(x) && isNumber(y):
		return toFloat(x) + toFloat(y), nil
	}
	if at, ok := args[0].(time.Time); ok {
		if d, ok := args[1].(time.Duration); ok {
			return at.Add(d), nil
		}
	}
	return nil, fmt.Errorf("no %T + %T", args[0], args[1])
}

func isNumber(v reflect.Value) bool { return v.CanInt() || v.CanUint() || v.CanFloat() }

func toFloat(v reflect.Value) float64 {
	switch {
	case v.CanInt():
		return float64(v.Int())
	case v.CanUint():
		return float64(v.Uint())
	}
	return v.Float()
}

const (
	tickFunction  = "__tick"
	weighFunction = "__weigh"
	addFunction   = "__add"
	matchFunction = "__match"
)

// A consolePatch puts tick into each loop, weigh around what makes a value, and functions in place of the operators + and matches.
type consolePatch struct{}

// Visit changes a node whose children it has seen.
func (consolePatch) Visit(n *ast.Node) {
	switch node := (*n).(type) {
	case *ast.PredicateNode:
		node.Node = &ast.ConditionalNode{Cond: callOf(tickFunction), Exp1: node.Node, Exp2: &ast.NilNode{}}
	case *ast.BuiltinNode, *ast.ArrayNode, *ast.MapNode:
		ast.Patch(n, callOf(weighFunction, *n))
	case *ast.BinaryNode:
		switch node.Operator {
		case "+":
			ast.Patch(n, callOf(addFunction, node.Left, node.Right))
		case "matches":
			ast.Patch(n, callOf(matchFunction, node.Left, node.Right))
		}
	}
}

func callOf(function string, args ...ast.Node) *ast.CallNode {
	return &ast.CallNode{Callee: &ast.IdentifierNode{Value: function}, Arguments: args}
}

// A consoleFunction is what an expression can ask.
type consoleFunction struct {
	Name        string `json:"-"`
	Signature   string `json:"signature"`
	Description string `json:"description"`
	value       func(t *tools) any
}

func consoleFunctions() []consoleFunction {
	return []consoleFunction{
		{"calls", "calls() list", "The last 1000 calls of the log, newest first: id, time, app, action, source, user, tenant, code, duration_ms, error…", func(t *tools) any {
			return t.queryLog(&logQuery{limit: consoleCalls}).Entries
		}},
		{"conns", "conns() list", "The open WebSockets: id, pool, user, app, tenant, scope, channels, since, addr, queued_bytes, rtt_ms, expires", func(t *tools) any {
			conns := []connView{}
			for _, c := range t.srv.Conns()[:min(len(t.srv.Conns()), maxCompared)] {
				conns = append(conns, viewOf(c))
			}
			return conns
		}},
		{"metrics", "metrics() map", "The last second: calls, errors, p50_ms, p95_ms, p99_ms, conns, heap_bytes, goroutines…", func(t *tools) any { return t.sample.latest() }},
		{"history", "history() list", "The last hour of metrics, oldest first", func(t *tools) any {
			_, points := t.sample.history(historyLength)
			return points
		}},
		{"actions", "actions() list", "All actions: app, name, access, read_only, timeout_ms, stats…", func(t *tools) any {
			list := []any{}
			for _, app := range t.apps() {
				for _, action := range app.Actions {
					action.Schema, action.Output = nil, nil
					list = append(list, struct {
						App string `json:"app"`
						actionView
					}{app.App, action})
				}
			}
			return list
		}},
		{"settings", "settings() list", "The configuration in effect: name, value, source, env", func(t *tools) any { return t.srv.Settings() }},
		{"info", "info() map", "The program: started, pid, url, go, build…", func(t *tools) any {
			i := t.info(context.Background())
			i.Build.Dependencies = nil
			return i
		}},
	}
}

var consoleExamples = []map[string]string{
	{"expr": `count(calls(), .code != "ok")`, "description": "How many of the last calls failed"},
	{"expr": `filter(calls(), .duration_ms > 100)`, "description": "The slow ones"},
	{"expr": `map(toPairs(groupBy(calls(), .action)), [#[0], len(#[1])])`, "description": "Calls by action"},
	{"expr": `sortBy(conns(), .queued_bytes, "desc") | take(5)`, "description": "The connections that are furthest behind"},
	{"expr": `filter(settings(), .source != "default")`, "description": "What the program or the environment has set"},
	{"expr": `max(map(history(), .heap_bytes))`, "description": "The largest heap of the last hour"},
}

func (t *tools) getConsole(*http.Request) (any, error) {
	return map[string]any{
		"variables": []any{}, "functions": consoleFunctions(), "examples": consoleExamples, "timeout_ms": consoleTime.Milliseconds(),
	}, nil
}

func (t *tools) postConsole(r *http.Request) (any, error) {
	in, err := readBody[struct {
		Expr string `json:"expr"`
	}](r)
	if err != nil {
		return nil, err
	}
	return t.evaluate(in.Expr)
}

// A consoleResult is the value of an expression.
type consoleResult struct {
	Value    json.RawMessage `json:"value"`
	Type     string          `json:"type"`
	Duration float64         `json:"duration_ms"`
	Cut      bool            `json:"cut,omitempty"`
}

// evaluate runs one expression at a time.
func (t *tools) evaluate(code string) (*consoleResult, error) {
	if len(code) > consoleLength {
		return nil, mooncore.Errorf(mooncore.CodeTooLarge, "The expression has more than %d characters", consoleLength)
	}
	t.consoles.Lock()
	defer t.consoles.Unlock()
	start := time.Now()
	c := &consoleRun{
		t: t, until: start.Add(consoleTime), allocs: []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}, cache: map[string]any{},
	}
	metrics.Read(c.allocs)
	c.start = c.allocs[0].Value.Uint64()
	value, err := c.run(code)
	if err != nil {
		for _, budget := range []*mooncore.Error{errConsoleTime, errConsoleMemory} {
			if errors.Is(err, budget) {
				return nil, budget
			}
		}
		if strings.Contains(err.Error(), "memory budget exceeded") {
			return nil, errConsoleMemory
		}
		return nil, mooncore.Errorf(mooncore.CodeInvalidArgument, "%s", cut(err.Error(), maxText))
	}
	w := &valueWriter{most: consoleOutput}
	w.value(reflect.ValueOf(value), 0)
	return &consoleResult{Value: w.b, Type: typeName(value), Duration: milliseconds(time.Since(start)), Cut: w.cut}, nil
}

func (c *consoleRun) run(code string) (value any, err error) {
	defer func() {
		if v := recover(); v != nil { // a fault of the language's implementation
			err = fmt.Errorf("%v", v)
		}
	}()
	options := []expr.Option{
		expr.Env(map[string]any{}), expr.MaxNodes(consoleNodes), expr.Optimize(false), expr.DisableAllBuiltins(), expr.Patch(consolePatch{}),
		expr.Function(tickFunction, c.tick, new(func() bool)), expr.Function(addFunction, c.add, new(func(any, any) any)),
		expr.Function(weighFunction, c.weigh, new(func(any) any)), expr.Function(matchFunction, c.match, new(func(any, any) bool)),
	}
	for _, name := range consoleBuiltins {
		options = append(options, expr.EnableBuiltin(name))
	}
	for _, f := range consoleFunctions() {
		options = append(options, expr.Function(f.Name, func(args ...any) (any, error) {
			if len(args) > 0 {
				return nil, fmt.Errorf("%s takes no argument", f.Name)
			}
			return c.ask(f)
		}, new(func() any)))
	}
	program, err := expr.Compile(code, options...)
	if err != nil {
		return nil, err
	}
	machine := vm.VM{MemoryBudget: consoleElements}
	return machine.Run(program, map[string]any{})
}

// ask returns a copy of what a function returns, made of lists, maps, strings, numbers and booleans alone.
func (c *consoleRun) ask(f consoleFunction) (any, error) {
	if v, ok := c.cache[f.Name]; ok {
		return v, nil
	}
	b, err := json.Marshal(f.value(c.t))
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	c.cache[f.Name] = v
	return v, nil
}

func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case string:
		return "string"
	case bool:
		return "boolean"
	case time.Time:
		return "time"
	case time.Duration:
		return "duration"
	default:
		switch r := reflect.ValueOf(v); {
		case isNumber(r):
			return "number"
		case r.Kind() == reflect.Map:
			return "map of " + strconv.Itoa(r.Len())
		case r.Kind() == reflect.Slice || r.Kind() == reflect.Array:
			return "list of " + strconv.Itoa(r.Len())
		}
		return fmt.Sprintf("%T", v)
	}
}

// A valueWriter writes the JSON of a value, as much as fits: a short expression can hold one long string many times.
type valueWriter struct {
	b    []byte
	most int
	cut  bool
}

func (w *valueWriter) full() bool {
	if len(w.b) >= w.most {
		w.cut = true
	}
	return w.cut
}

func (w *valueWriter) value(v reflect.Value, depth int) {
	for v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() || depth > maxDepth {
		w.b = append(w.b, "null"...)
		return
	}
	switch x := v.Interface().(type) {
	case time.Time:
		w.b = strictjson.AppendQuote(w.b, x.Format(time.RFC3339Nano))
		return
	case time.Duration:
		w.b = strictjson.AppendQuote(w.b, x.String())
		return
	}
	switch {
	case v.Kind() == reflect.String:
		text, _ := scrub(v.String())
		w.cut = w.cut || len(text) > maxValue
		w.b = strictjson.AppendQuote(w.b, cut(text, maxValue))
	case v.Kind() == reflect.Bool:
		w.b = strconv.AppendBool(w.b, v.Bool())
	case v.CanInt():
		w.b = strconv.AppendInt(w.b, v.Int(), 10)
	case v.CanUint():
		w.b = strconv.AppendUint(w.b, v.Uint(), 10)
	case v.CanFloat():
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			w.b = strictjson.AppendQuote(w.b, strconv.FormatFloat(f, 'g', -1, 64))
		} else {
			b, _ := json.Marshal(f)
			w.b = append(w.b, b...)
		}
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
		w.b = append(w.b, '[')
		for i := range v.Len() {
			if w.full() {
				break
			}
			if i > 0 {
				w.b = append(w.b, ',')
			}
			w.value(v.Index(i), depth+1)
		}
		w.b = append(w.b, ']')
	case v.Kind() == reflect.Map:
		w.object(v, depth)
	default:
		w.b = strictjson.AppendQuote(w.b, v.Type().String())
	}
}

func (w *valueWriter) object(v reflect.Value, depth int) {
	names := map[string]reflect.Value{}
	for key, value := range v.Seq2() {
		names[fmt.Sprint(key.Interface())] = value
	}
	keys := sortedKeys(names)
	w.b = append(w.b, '{')
	for i, key := range keys {
		if w.full() {
			break
		}
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = append(strictjson.AppendQuote(w.b, cut(key, maxText)), ':')
		w.value(names[key], depth+1)
	}
	w.b = append(w.b, '}')
}
