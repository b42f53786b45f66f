// Command runner measures Mooncore beside other servers. Start it at the root of the repository:
//
//	go run ./bench/cmd/runner -quick
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mooncore/mooncore/bench/internal/report"
	"github.com/mooncore/mooncore/bench/internal/runner"
	"github.com/mooncore/mooncore/bench/internal/suite"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "runner:", err)
		os.Exit(1)
	}
}

type options struct {
	quick, check, list bool
	only               string
	rounds             int
	json, svg, docs    string
	pprof              string
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	scenarios, err := choose(suite.All(), o.only)
	if err != nil {
		return err
	}
	if o.list {
		for _, s := range scenarios {
			fmt.Fprintf(stdout, "%-24s %s\n", s.Name, s.Title)
		}
		return nil
	}
	dir, err := runner.Dir()
	if err != nil {
		return err
	}
	targets, err := report.ReadTargets(filepath.Join(dir, "targets.json"))
	if err != nil {
		return err
	}
	if o.quick {
		scenarios = onlyTargets(scenarios, targets)
	}
	if o.quick && o.only == "" {
		scenarios = slices.DeleteFunc(scenarios, func(s suite.Scenario) bool { return strings.HasPrefix(s.Name, "cluster-") })
	}
	results, err := runner.Run(ctx, runner.Options{
		Dir: dir, Scenarios: scenarios, Rounds: o.rounds, Quick: o.quick, Profiles: o.pprof, Progress: stderr, Report: stdout,
	})
	if err != nil {
		return err
	}
	return finish(results, targets, o, stdout)
}

// choose returns the scenarios whose names match the regular expression only.
func choose(all []suite.Scenario, only string) ([]suite.Scenario, error) {
	re, err := regexp.Compile(only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	var chosen []suite.Scenario
	for _, s := range all {
		if re.MatchString(s.Name) {
			chosen = append(chosen, s)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-only %q: no scenario has such a name; -list shows them", only)
	}
	return chosen, nil
}

// onlyTargets returns the scenarios that targets name, with those servers alone.
func onlyTargets(scenarios []suite.Scenario, targets []report.Target) []suite.Scenario {
	var kept []suite.Scenario
	for _, s := range scenarios {
		named := map[string]bool{}
		for _, t := range targets {
			if t.Scenario == s.Name {
				named[t.Ours], named[t.Peer] = true, true
			}
		}
		var peers []string
		for _, p := range s.Peers {
			if named[p] {
				peers = append(peers, p)
			}
		}
		if s.Peers = peers; len(peers) > 0 {
			kept = append(kept, s)
		}
	}
	return kept
}

// finish writes what was asked for besides the tables.
func finish(results *report.Results, targets []report.Target, o options, stdout io.Writer) error {
	if o.json != "" {
		if err := results.WriteFile(o.json); err != nil {
			return err
		}
	}
	if o.svg != "" {
		lines, err := results.WriteCharts(o.svg)
		if err != nil {
			return err
		}
		for _, line := range lines {
			fmt.Fprintln(stdout, line)
		}
		fmt.Fprintln(stdout)
	}
	verdicts := report.Judge(results, targets)
	if o.docs != "" {
		if err := results.UpdateDocs(o.docs, verdicts); err != nil {
			return err
		}
	}
	missed := 0
	for _, v := range verdicts {
		fmt.Fprintln(stdout, v)
		if !v.Met {
			missed++
		}
	}
	if errs := results.Errors(); len(errs) > 0 {
		return fmt.Errorf("%d servers failed; the first: %s", len(errs), errs[0])
	}
	if o.check && missed > 0 {
		return fmt.Errorf("%d targets are missed", missed)
	}
	return nil
}
