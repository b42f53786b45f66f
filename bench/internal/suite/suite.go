// Package suite says what is measured: the scenarios, who takes part in each, and what the metrics are.
package suite

import (
	"encoding/json"
	"fmt"
	"slices"
)

// A Scenario is one piece of work that several servers do.
type Scenario struct {
	// Name is how -only and targets.json know it, such as "ws-echo".
	Name string

	// Title says what is measured, for tables and charts.
	Title string

	// Command is the server's, a directory under bench/peers/cmd.
	Command string

	// Peers are the values of the server's -peer flag. The first is the one that others are compared with where no target says
	// otherwise.
	Peers []string

	// Args are more flags of the server.
	Args []string

	// Kind and Params make the load generator's job. Params is called with whether the run is a quick one.
	Kind   string
	Params func(quick bool) any

	// Metrics are the columns of its table, by name.
	Metrics []string

	// Charts are the metrics that get a chart.
	Charts []string

	// Needs are commands that must be installed, and the Debian package of each. Without them, the scenario is skipped.
	Needs map[string]string

	// Slow divides the number of rounds, for scenarios that take long or whose figures are steady. Default 1.
	Slow int
}

// A Metric is a figure that a run yields.
type Metric struct {
	Name   string
	Unit   string // as it stands in a table's head
	Title  string
	Higher bool // more is better
	Plain  bool // its ratios say little: tables don't show them
}

// Metrics lists every metric.
var Metrics = []Metric{
	{"rate", "/s", "rate", true, false},
	{"cpu_us", "µs", "CPU per operation", false, false},
	{"user_us", "µs", "user CPU per operation", false, false},
	{"sys_us", "µs", "kernel CPU per operation", false, false},
	{"allocs", "", "allocations per operation", false, true},
	{"alloc_bytes", "B", "bytes allocated per operation", false, true},
	{"engine_us", "µs", "CPU of the message broker per operation", false, true},
	{"p50_us", "µs", "median latency, one at a time", false, false},
	{"p99_us", "µs", "latency, one at a time, 99th percentile", false, false},
	{"p50_ms", "ms", "median latency", false, false},
	{"p99_ms", "ms", "latency, 99th percentile", false, false},
	{"blocked_ms", "ms", "time that a publisher was blocked", false, true},
	{"conn_bytes", "B", "resident memory per connection", false, false},
	{"conn_heap", "B", "heap per connection", false, true},
	{"conn_stack", "B", "stacks per connection", false, true},
	{"rss_mb", "MB", "resident memory of the process, garbage collected", false, false},
	{"rss_grown_mb", "MB", "resident memory of the process before that", false, false},
	{"load_cpu", "cores", "CPU of the load generator", false, true},
}

// MetricByName returns a metric.
func MetricByName(name string) (Metric, bool) {
	i := slices.IndexFunc(Metrics, func(m Metric) bool { return m.Name == name })
	if i < 0 {
		return Metric{}, false
	}
	return Metrics[i], true
}

// All returns every scenario, in the order in which they run.
func All() []Scenario { return slices.Concat(web(), webSocket(), cluster()) }

// Job returns what the load generator is told, but for the server.
func (s Scenario) Job(quick bool) (json.RawMessage, error) {
	params, err := json.Marshal(s.Params(quick))
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	return params, nil
}

// Has reports whether a peer takes part.
func (s Scenario) Has(peer string) bool { return slices.Contains(s.Peers, peer) }
