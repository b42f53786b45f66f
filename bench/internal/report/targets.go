package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/mooncore/mooncore/bench/internal/suite"
)

// A Target is what a metric must reach. It compares ours with a peer's, or, without a peer, with an absolute value.
type Target struct {
	// What says what it is about.
	What string `json:"what"`

	Scenario string `json:"scenario"`
	Metric   string `json:"metric"`
	Ours     string `json:"ours"`           // default "mooncore"
	Peer     string `json:"peer,omitempty"` // default none: the metric itself is compared

	// Max is the most, Min the least that ours/peer may be. One of them is set; Stretch is a harder value of it, that is only
	// reported.
	Max     *float64 `json:"max,omitempty"`
	Min     *float64 `json:"min,omitempty"`
	Stretch *float64 `json:"stretch,omitempty"`
}

// ReadTargets reads a list of targets.
func ReadTargets(name string) ([]Target, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var targets []Target
	if err := json.Unmarshal(data, &targets); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for i := range targets {
		t := &targets[i]
		if t.Ours == "" {
			t.Ours = "mooncore"
		}
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("%s: target %d: %w", name, i+1, err)
		}
	}
	return targets, nil
}

func (t Target) check() error {
	if (t.Max == nil) == (t.Min == nil) {
		return errors.New("it must have either max or min")
	}
	if _, ok := suite.MetricByName(t.Metric); !ok {
		return fmt.Errorf("no metric %q", t.Metric)
	}
	for _, s := range suite.All() {
		if s.Name != t.Scenario {
			continue
		}
		for _, peer := range []string{t.Ours, t.Peer} {
			if peer != "" && !s.Has(peer) {
				return fmt.Errorf("scenario %s has no server %q", s.Name, peer)
			}
		}
		return nil
	}
	return fmt.Errorf("no scenario %q", t.Scenario)
}

// A Verdict is what came of a target.
type Verdict struct {
	Target
	Value  float64 // the ratio, or the metric
	Limit  float64
	Met    bool
	Beyond bool // the stretch is met too
}

// Judge compares r with the targets whose scenarios it has.
func Judge(r *Results, targets []Target) []Verdict {
	var verdicts []Verdict
	for _, t := range targets {
		s := r.Scenario(t.Scenario)
		if s == nil {
			continue
		}
		v := Verdict{Target: t, Value: t.value(s)}
		if t.Max != nil {
			v.Limit = *t.Max
			v.Met = v.Value <= *t.Max
			v.Beyond = t.Stretch != nil && v.Value <= *t.Stretch
		} else {
			v.Limit = *t.Min
			v.Met = v.Value >= *t.Min
			v.Beyond = t.Stretch != nil && v.Value >= *t.Stretch
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

func (t Target) value(s *Scenario) float64 {
	ours := s.Peer(t.Ours)
	if ours == nil {
		return math.NaN()
	}
	if t.Peer == "" {
		return Median(ours.Values[t.Metric])
	}
	theirs := s.Peer(t.Peer)
	if theirs == nil {
		return math.NaN()
	}
	return PairedRatio(ours.Values[t.Metric], theirs.Values[t.Metric])
}

// String says what was wanted, what came, and by how much it is missed.
func (v Verdict) String() string {
	value, wanted := v.figures()
	text := fmt.Sprintf("%s: %s %s of %s is %s (wanted %s)", v.What, v.Scenario, v.Metric, v.Ours, value, wanted)
	switch {
	case math.IsNaN(v.Value):
		return "MISSED   " + text + ": not measured"
	case !v.Met:
		return fmt.Sprintf("MISSED   %s: off by %.0f %%", text, v.offBy())
	case v.Beyond:
		return "STRETCH  " + text
	}
	return "MET      " + text
}

// sentence is String for the docs of its scenario.
func (v Verdict) sentence() string {
	value, wanted := v.figures()
	m, _ := suite.MetricByName(v.Metric)
	text := fmt.Sprintf("%s, %s: %s; the target is %s", v.Ours, m.Title, value, wanted)
	if !v.Met {
		return "**Missed.** " + text + "."
	}
	return "Met. " + text + "."
}

func (v Verdict) offBy() float64 { return 100 * math.Abs(v.Value/v.Limit-1) }

// figures returns the value and what was wanted, in words.
func (v Verdict) figures() (value, wanted string) {
	value, sign := Format(v.Value), "≤"
	if v.Min != nil {
		sign = "≥"
	}
	unit := ""
	if v.Peer != "" {
		value += "× " + v.Peer
		unit = "×"
	}
	wanted = fmt.Sprintf("%s %s%s", sign, Format(v.Limit), unit)
	if v.Stretch != nil {
		wanted += fmt.Sprintf(", stretch %s%s", Format(*v.Stretch), unit)
	}
	return value, wanted
}
