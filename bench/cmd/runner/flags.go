package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
)

const usage = `Runner measures Mooncore beside other servers on this machine, over loopback.

	go run ./bench/cmd/runner -quick                   every target of one server, in under five minutes
	go run ./bench/cmd/runner -quick -check            the same, and fails when a target is missed
	go run ./bench/cmd/runner -quick -only '^cluster'  every target between two servers
	go run ./bench/cmd/runner -only '^ws-echo'         these scenarios, with every server
	go run ./bench/cmd/runner -list                    what there is

It builds the servers (bench/peers, a module of its own) and the load generator, and starts for each measurement a fresh
server. Servers take turns: each round runs every server once. A table shows medians of the rounds, and in parentheses the
first server's value divided by this one's: the median of the rounds' ratios, which is steadier than a ratio of medians. CPU and
allocations are those of the server for one operation. Differences in rate of less than 15 % mean nothing on a machine that does
other things too; CPU and allocations are firmer.

Flags:
`

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("runner", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprint(stderr, usage)
		fs.PrintDefaults()
	}
	fs.BoolVar(&o.quick, "quick", false, "shorter measurements, only servers that targets.json names, and without -only none between two servers")
	fs.BoolVar(&o.check, "check", false, "fail when a target of targets.json is missed")
	fs.BoolVar(&o.list, "list", false, "list the scenarios")
	fs.StringVar(&o.only, "only", "", "run scenarios whose name matches this regular `expression`")
	fs.IntVar(&o.rounds, "rounds", 0, "rounds (default 4 with -quick, else 6; slow scenarios run fewer)")
	fs.StringVar(&o.json, "json", "", "write all figures to this `file`")
	fs.StringVar(&o.svg, "svg", "", "write charts to this `directory`")
	fs.StringVar(&o.docs, "docs", "", "write tables, verdicts and charts into this Markdown `file` (docs/performance.md)")
	fs.StringVar(&o.pprof, "pprof", "", "run every server once more and write its CPU or heap profile to this `directory`")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; -help explains", fs.Arg(0))
	}
	if o.rounds < 0 {
		return o, errors.New("-rounds must be at least 1")
	}
	if o.rounds == 0 {
		o.rounds = 6
		if o.quick {
			o.rounds = 4
		}
	}
	return o, nil
}
