package report

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// Results are the figures of a run.
type Results struct {
	Go        string     `json:"go"`
	Platform  string     `json:"platform"`
	CPUs      int        `json:"cpus"`
	Load      float64    `json:"load"` // the machine's load average before the run: what else it had to do
	Quick     bool       `json:"quick"`
	Scenarios []Scenario `json:"scenarios"`
}

// A Scenario holds the figures of one scenario.
type Scenario struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Metrics []string `json:"metrics"` // the columns of its table
	Charts  []string `json:"charts"`
	Peers   []Peer   `json:"peers"`
}

// A Peer holds the figures of one server, for each metric one value per round.
type Peer struct {
	Name   string               `json:"name"`
	Values map[string][]float64 `json:"values"`
	Error  string               `json:"error,omitempty"` // why it has no more values
}

// Scenario returns the scenario of that name, or nil.
func (r *Results) Scenario(name string) *Scenario {
	if i := slices.IndexFunc(r.Scenarios, func(s Scenario) bool { return s.Name == name }); i >= 0 {
		return &r.Scenarios[i]
	}
	return nil
}

// Peer returns the peer of that name, or nil.
func (s *Scenario) Peer(name string) *Peer {
	if i := slices.IndexFunc(s.Peers, func(p Peer) bool { return p.Name == name }); i >= 0 {
		return &s.Peers[i]
	}
	return nil
}

// Errors lists what went wrong.
func (r *Results) Errors() []string {
	var errs []string
	for _, s := range r.Scenarios {
		for _, p := range s.Peers {
			if p.Error != "" {
				errs = append(errs, fmt.Sprintf("%s, %s: %s", s.Name, p.Name, p.Error))
			}
		}
	}
	return errs
}

// WriteFile writes r as JSON.
func (r *Results) WriteFile(name string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o644)
}

// ReadFile reads what WriteFile has written.
func ReadFile(name string) (*Results, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := new(Results)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}
