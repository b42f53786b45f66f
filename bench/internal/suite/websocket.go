package suite

import (
	"fmt"

	"github.com/mooncore/mooncore/bench/internal/load"
)

const wsCommand = "wsserver"

// webSocket returns the WebSocket scenarios.
func webSocket() []Scenario {
	return []Scenario{
		wsEcho("ws-echo", "Echo on 100 connections, one message at a time", 1),
		wsEcho("ws-echo-pipelined", "Echo on 100 connections, 16 messages at a time", 16),
		wsFanout("ws-fanout-1k", "An event for 1,000 connections", 1000, 1),
		wsFanout("ws-fanout-1k-burst", "20 events at once for 1,000 connections", 1000, 20),
		wsFanout("ws-fanout-10k", "An event for 10,000 connections", 10_000, 1),
		wsFanout("ws-fanout-10k-burst", "10 events at once for 10,000 connections", 10_000, 10),
		wsDeflate(),
		wsIdle(),
		wsMany(),
		wsConnect(),
	}
}

func wsEcho(name, title string, pipeline int) Scenario {
	return Scenario{
		Name: name, Title: title, Command: wsCommand,
		Peers: []string{
			"mooncore", "mooncore-typed", "mooncore-ws", "gws", "gorilla", "melody", "centrifuge", "coder", "floor",
		},
		Kind: "ws-echo",
		Params: func(quick bool) any {
			return load.Params{Conns: 100, Pipeline: pipeline, Warmup: 300, Duration: duration(quick)}
		},
		Metrics: []string{"rate", "cpu_us", "user_us", "sys_us", "allocs", "alloc_bytes", "p50_ms", "p99_ms", "load_cpu"},
		Charts:  []string{"rate", "cpu_us"},
	}
}

func wsFanout(name, title string, conns, publishes int) Scenario {
	return Scenario{
		Name: name, Title: title, Command: wsCommand, Args: []string{"-member", files(conns)},
		Peers: []string{
			"mooncore", "mooncore-ws", "gws", "gorilla", "melody", "centrifuge", "centrifuge-tuned", "coder", "floor",
		},
		Kind: "ws-fanout",
		Params: func(quick bool) any {
			return load.Params{Conns: conns, Publishes: publishes, Size: 200, Warmup: 200, Duration: duration(quick)}
		},
		Metrics: []string{"rate", "cpu_us", "user_us", "sys_us", "allocs", "p50_ms", "p99_ms", "blocked_ms", "load_cpu"},
		Charts:  []string{"rate", "cpu_us", "p99_ms"},
		Slow:    1 + conns/10_000,
	}
}

func wsDeflate() Scenario {
	s := wsFanout("ws-fanout-deflate", "An event of 1,024 bytes, compressed, for 1,000 connections", 1000, 1)
	s.Args = append(s.Args, "-deflate")
	s.Peers = []string{"mooncore", "mooncore-ws", "gws", "gorilla", "centrifuge", "coder"}
	s.Params = func(quick bool) any {
		return load.Params{Conns: 1000, Publishes: 1, Size: 1024, Deflate: true, Warmup: 200, Duration: duration(quick)}
	}
	return s
}

func wsIdle() Scenario {
	return Scenario{
		Name: "ws-idle", Title: "3,000 idle connections, members of a channel", Command: wsCommand,
		Args:  []string{"-member", files(3000)},
		Peers: []string{"mooncore", "mooncore-ws", "gws", "gorilla", "gorilla-tuned", "melody", "centrifuge", "centrifuge-tuned", "coder"},
		Kind:  "ws-idle",
		Params: func(bool) any {
			return load.Params{Conns: 3000, Duration: 1000}
		},
		Metrics: []string{"conn_bytes", "conn_heap", "conn_stack"},
		Charts:  []string{"conn_bytes"},
		Slow:    2,
	}
}

func wsMany() Scenario {
	return Scenario{
		Name: "ws-idle-19k", Title: "19,000 idle connections, members of a channel, after 5 events for all", Command: wsCommand,
		Args:  []string{"-member", files(19_000)},
		Peers: []string{"mooncore", "gws", "centrifuge", "centrifuge-tuned"},
		Kind:  "ws-idle",
		Params: func(bool) any {
			return load.Params{Conns: 19_000, Publishes: 5, Size: 200, Duration: 1000}
		},
		Metrics: []string{"rss_mb", "rss_grown_mb", "conn_bytes", "conn_heap", "conn_stack"},
		Charts:  []string{"rss_mb"},
		Slow:    4,
	}
}

func wsConnect() Scenario {
	return Scenario{
		Name: "ws-connect", Title: "Connect, upgrade (Mooncore: with a token of RS256) and close", Command: wsCommand,
		Args:  []string{"-auth"},
		Peers: []string{"mooncore", "mooncore-ws", "gws", "gorilla", "melody", "centrifuge", "coder", "floor"},
		Kind:  "ws-storm",
		Params: func(quick bool) any {
			return load.Params{Conns: 64, Warmup: 300, Duration: duration(quick)}
		},
		Metrics: []string{"rate", "cpu_us", "user_us", "sys_us", "allocs", "alloc_bytes", "p50_ms", "p99_ms", "load_cpu"},
		Charts:  []string{"rate", "cpu_us"},
	}
}

// duration is how long one measurement takes.
func duration(quick bool) load.Millis {
	if quick {
		return 800
	}
	return 2000
}

// files is the flag that asks for the file descriptors of so many connections.
func files(conns int) string { return fmt.Sprintf("-files=%d", conns+200) }
