package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/bench/internal/report"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{5, 1, 3}, 3},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := report.Median(c.values); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
	if got := report.Median(nil); !math.IsNaN(got) {
		t.Errorf("Median of nothing = %v", got)
	}
}

func TestPairedRatio(t *testing.T) {
	// The machine was half as fast in the second round: a ratio of medians would suffer, that of pairs doesn't.
	if got := report.PairedRatio([]float64{200, 100, 200}, []float64{100, 50, 100}); got != 2 {
		t.Errorf("got %v, want 2", got)
	}
	if got := report.PairedRatio([]float64{1, 2, 3}, []float64{0, 2}); got != 1 {
		t.Errorf("with a zero and a missing round: got %v, want 1", got)
	}
	if got := report.PairedRatio(nil, []float64{1}); !math.IsNaN(got) {
		t.Errorf("without ours: got %v", got)
	}
}

func TestSpread(t *testing.T) {
	if got := report.Spread([]float64{10, 10, 10}); got != 0 {
		t.Errorf("of equal values: %v", got)
	}
	if got := report.Spread([]float64{8, 12, 10, 9, 11}); got != 0.15 {
		t.Errorf("got %v, want 0.15", got)
	}
}

func TestFormat(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.001: "0", 0.75: "0.75", 9.876: "9.88", 45.67: "45.7", 123.4: "123", 1234: "1,234", 1234567: "1,234,567",
		-1234: "-1,234", math.NaN(): "–",
	} {
		if got := report.Format(v); got != want {
			t.Errorf("Format(%v) = %q, want %q", v, got, want)
		}
	}
}

func results() *report.Results {
	return &report.Results{Scenarios: []report.Scenario{{
		Name: "ws-echo", Title: "Echo <fast> & small", Metrics: []string{"rate", "cpu_us", "allocs"}, Charts: []string{"rate", "cpu_us"},
		Peers: []report.Peer{
			{Name: "mooncore", Values: map[string][]float64{"rate": {90, 100, 110}, "cpu_us": {9, 10, 11}, "allocs": {0, 0, 0}}},
			{Name: "gws", Values: map[string][]float64{"rate": {100, 100, 100}, "cpu_us": {10, 10, 10}, "allocs": {2, 2, 2}}},
			{Name: "melody", Error: "the server has closed the connection"},
		},
	}}}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	results().Scenarios[0].Table(&b)
	const want = `ws-echo: Echo <fast> & small

| server   |    rate /s |      cpu µs | allocs |
| -------- | ---------: | ----------: | -----: |
| mooncore |        100 |        10.0 |      0 |
| gws      | 100 (1.00) | 10.0 (1.00) |   2.00 |
| melody   |          – |           – |      – |

`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func writeTargets(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "targets.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTargets(t *testing.T) {
	targets, err := report.ReadTargets(writeTargets(t, `[
		{"what": "met", "scenario": "ws-echo", "metric": "cpu_us", "peer": "gws", "max": 1.1, "stretch": 0.5},
		{"what": "beyond", "scenario": "ws-echo", "metric": "cpu_us", "peer": "gws", "max": 1.1, "stretch": 1},
		{"what": "missed", "scenario": "ws-echo", "metric": "rate", "peer": "gws", "min": 2},
		{"what": "absolute", "scenario": "ws-echo", "metric": "allocs", "max": 1},
		{"what": "failed", "scenario": "ws-echo", "metric": "rate", "peer": "melody", "min": 1},
		{"what": "not run", "scenario": "ws-idle", "metric": "conn_bytes", "max": 1}
	]`))
	if err != nil {
		t.Fatal(err)
	}
	verdicts := report.Judge(results(), targets)
	if len(verdicts) != 5 {
		t.Fatalf("%d verdicts, want 5", len(verdicts))
	}
	for i, want := range []string{
		"MET      met: ws-echo cpu_us of mooncore is 1.00× gws (wanted ≤ 1.10×, stretch 0.50×)",
		"STRETCH  beyond: ws-echo cpu_us of mooncore is 1.00× gws (wanted ≤ 1.10×, stretch 1.00×)",
		"MISSED   missed: ws-echo rate of mooncore is 1.00× gws (wanted ≥ 2.00×): off by 50 %",
		"MET      absolute: ws-echo allocs of mooncore is 0 (wanted ≤ 1.00)",
		"MISSED   failed: ws-echo rate of mooncore is –× melody (wanted ≥ 1.00×): not measured",
	} {
		if got := verdicts[i].String(); got != want {
			t.Errorf("verdict %d:\n got %s\nwant %s", i, got, want)
		}
	}
}

func TestTargetFaults(t *testing.T) {
	for name, text := range map[string]string{
		"no limit":       `[{"scenario": "ws-echo", "metric": "rate"}]`,
		"two limits":     `[{"scenario": "ws-echo", "metric": "rate", "max": 1, "min": 1}]`,
		"no metric":      `[{"scenario": "ws-echo", "metric": "speed", "max": 1}]`,
		"no scenario":    `[{"scenario": "ws-none", "metric": "rate", "max": 1}]`,
		"no such server": `[{"scenario": "ws-echo", "metric": "rate", "peer": "nobody", "max": 1}]`,
		"no JSON":        `[`,
	} {
		if _, err := report.ReadTargets(writeTargets(t, text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The module's own targets name scenarios, metrics and servers that exist.
func TestOwnTargets(t *testing.T) {
	if _, err := report.ReadTargets(filepath.Join("..", "..", "targets.json")); err != nil {
		t.Error(err)
	}
}

func TestCharts(t *testing.T) {
	dir := t.TempDir()
	lines, err := results().WriteCharts(dir)
	if err != nil {
		t.Fatal(err)
	}
	const want = "![Echo <fast> & small: rate in /s, mooncore 100, gws 100](ws-echo-rate.svg)"
	if len(lines) != 2 || lines[0] != want {
		t.Errorf("lines %q", lines)
	}
	for _, name := range []string{"ws-echo-rate.svg", "ws-echo-cpu_us.svg"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		elements := map[string]int{}
		for d := xml.NewDecoder(bytes.NewReader(data)); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, data)
			}
			if e, ok := token.(xml.StartElement); ok {
				elements[e.Name.Local]++
			}
		}
		if elements["title"] != 1 || elements["desc"] != 1 || elements["rect"] != 3 {
			t.Errorf("%s: elements %v, want a title, a desc, a card and two bars", name, elements)
		}
	}
}

func TestResultsFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out.json")
	if err := results().WriteFile(name); err != nil {
		t.Fatal(err)
	}
	read, err := report.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := read.Scenario("ws-echo").Peer("gws").Values["allocs"]; len(got) != 3 {
		t.Errorf("allocs of gws: %v", got)
	}
	if errs := read.Errors(); len(errs) != 1 || !strings.Contains(errs[0], "melody") {
		t.Errorf("errors %q", errs)
	}
}

func TestUpdateDocs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "performance.md")
	const doc = "# Title\n\n<!-- bench: machine-ws -->\nold\n<!-- bench: end -->\n" +
		"<!-- bench: machine-http -->\nold\n<!-- bench: end -->\ntext\n<!-- bench: ws-one -->\nold\n<!-- bench: end -->\n" +
		"<!-- bench: other -->\nold\n<!-- bench: end -->\nthe end\n"
	if err := os.WriteFile(file, []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
	r := &report.Results{Go: "go1.26", Platform: "linux/amd64", CPUs: 2, Load: 0.54, Scenarios: []report.Scenario{{
		Name: "ws-one", Title: "One", Metrics: []string{"rate"}, Charts: []string{"rate"},
		Peers: []report.Peer{
			{Name: "mooncore", Values: map[string][]float64{"rate": {200, 400}}},
			{Name: "gin", Values: map[string][]float64{"rate": {100, 200}}},
		},
	}}}
	least := 3.0
	target := report.Target{What: "speed", Scenario: "ws-one", Metric: "rate", Ours: "mooncore", Peer: "gin", Min: &least}
	for range 2 { // a second time it finds its own work
		if err := r.UpdateDocs(file, report.Judge(r, []report.Target{target})); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Title\n", "Measured with go1.26 on linux/amd64 with 2 cores", "medians of up to 2 rounds", "before was 0.5",
		"| gin      | 150 (2.00) |", "- **Missed.** mooncore, rate: 2.00× gin; the target is ≥ 3.00×.", "](performance/ws-one-rate.svg)",
		"<!-- bench: other -->\nold\n<!-- bench: end -->\nthe end\n", "<!-- bench: machine-http -->\nold\n",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if n := strings.Count(string(got), "old"); n != 2 {
		t.Errorf("%d old blocks are left, want 2", n)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "performance", "ws-one-rate.svg")); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("<!-- bench: ws-one -->\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.UpdateDocs(file, nil); err == nil || !strings.Contains(err.Error(), "no end") {
		t.Errorf("a block without an end: %v", err)
	}
}
