// Package runner builds the servers and the load generator, and runs scenarios in interleaved rounds.
package runner

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mooncore/mooncore/bench/internal/child"
	"github.com/mooncore/mooncore/bench/internal/meter"
	"github.com/mooncore/mooncore/bench/internal/report"
	"github.com/mooncore/mooncore/bench/internal/suite"
	"github.com/mooncore/mooncore/bench/internal/wire"
)

// Options say what to run.
type Options struct {
	Dir       string // of the bench module
	Scenarios []suite.Scenario
	Rounds    int
	Quick     bool
	Profiles  string    // directory for profiles, empty for none
	Progress  io.Writer // where to tell what is going on
	Report    io.Writer // where each scenario's table goes when it is done
}

// Run runs the scenarios. A server that fails is left out of further rounds, and its error is part of the results.
func Run(ctx context.Context, o Options) (*report.Results, error) {
	bin, err := os.MkdirTemp("", "mooncore-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(bin)
	load, err := meter.Load()
	if err != nil {
		return nil, err
	}
	r := &run{Options: o, bin: bin}
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	results := &report.Results{
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Load: load, Quick: o.Quick,
	}
	for _, s := range o.Scenarios {
		if what := missing(s); what != "" {
			if os.Getenv("MOONCORE_TEST_REQUIRE") == "all" {
				return nil, fmt.Errorf("MOONCORE_TEST_REQUIRE=all, but %s", what)
			}
			fmt.Fprintf(o.Progress, "%s: skipped: %s\n", s.Name, what)
			continue
		}
		scenario, err := r.scenario(ctx, s)
		if err != nil {
			return nil, err
		}
		scenario.Table(o.Report)
		results.Scenarios = append(results.Scenarios, scenario)
	}
	return results, nil
}

// missing says what s needs and the system lacks, and how to get it.
func missing(s suite.Scenario) string {
	for _, name := range slices.Sorted(maps.Keys(s.Needs)) {
		if _, err := exec.LookPath(name); err != nil {
			return name + " is not installed (Debian package " + s.Needs[name] + ")"
		}
	}
	return ""
}

type run struct {
	Options
	bin string
}

func (r *run) build(ctx context.Context) error {
	fmt.Fprintln(r.Progress, "building the load generator and the servers")
	if err := build(ctx, r.Dir, "./cmd/load", filepath.Join(r.bin, "load")); err != nil {
		return err
	}
	var commands []string
	for _, s := range r.Scenarios {
		if !slices.Contains(commands, s.Command) {
			commands = append(commands, s.Command)
		}
	}
	for _, c := range commands {
		if err := build(ctx, filepath.Join(r.Dir, "peers"), "./cmd/"+c, filepath.Join(r.bin, c)); err != nil {
			return err
		}
	}
	return nil
}

// scenario runs all rounds of s: each round every server once, in an order that rotates.
func (r *run) scenario(ctx context.Context, s suite.Scenario) (report.Scenario, error) {
	result := report.Scenario{Name: s.Name, Title: s.Title, Metrics: s.Metrics, Charts: s.Charts}
	for _, name := range s.Peers {
		result.Peers = append(result.Peers, report.Peer{Name: name, Values: map[string][]float64{}})
	}
	rounds := max(r.Rounds/max(s.Slow, 1), 1)
	for round := range rounds {
		for i := range result.Peers {
			p := &result.Peers[(i+round)%len(result.Peers)]
			if p.Error != "" {
				continue
			}
			began := time.Now()
			metrics, err := r.measure(ctx, s, p.Name, "")
			if ctx.Err() != nil {
				return result, ctx.Err()
			}
			if err != nil {
				p.Error = err.Error()
				fmt.Fprintf(r.Progress, "%s, %s: %v\n", s.Name, p.Name, err)
				continue
			}
			for name, v := range metrics {
				p.Values[name] = append(p.Values[name], v)
			}
			fmt.Fprintf(r.Progress, "%s %d/%d %-16s %4.1f s  %s\n", s.Name, round+1, rounds, p.Name,
				time.Since(began).Seconds(), summary(s, metrics))
		}
	}
	return result, r.profile(ctx, s, result)
}

// profile runs every server of s once more, with profiles.
func (r *run) profile(ctx context.Context, s suite.Scenario, result report.Scenario) error {
	if r.Profiles == "" {
		return nil
	}
	fmt.Fprintf(r.Progress, "%s: profiles\n", s.Name)
	if err := os.MkdirAll(r.Profiles, 0o755); err != nil {
		return err
	}
	for _, p := range result.Peers {
		if p.Error != "" {
			continue
		}
		file := filepath.Join(r.Profiles, s.Name+"-"+p.Name)
		if _, err := r.measure(ctx, s, p.Name, file); err != nil {
			return fmt.Errorf("profile of %s, %s: %w", s.Name, p.Name, err)
		}
	}
	return nil
}

// measure runs one server under load once.
func (r *run) measure(ctx context.Context, s suite.Scenario, peer, profile string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	params, err := s.Job(r.Quick && profile == "")
	if err != nil {
		return nil, err
	}
	srv, err := child.Start(ctx, filepath.Join(r.bin, s.Command), append([]string{"-peer", peer}, s.Args...)...)
	if err != nil {
		return nil, err
	}
	defer srv.Stop()
	srv.Profile = profile
	result, err := runLoad(ctx, filepath.Join(r.bin, "load"), wire.Job{Kind: s.Kind, Server: srv.Server, Params: params})
	if err != nil {
		srv.Stop()
		if text := srv.Said(); text != "" {
			return nil, fmt.Errorf("%w\nthe server said: %.2000s", err, text)
		}
		return nil, err
	}
	return result.Metrics, nil
}

// summary is the first metrics of s, for progress lines.
func summary(s suite.Scenario, metrics map[string]float64) string {
	var parts []string
	for _, name := range s.Metrics[:min(3, len(s.Metrics))] {
		parts = append(parts, name+" "+report.Format(metrics[name]))
	}
	return strings.Join(parts, "  ")
}
