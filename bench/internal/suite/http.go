package suite

import "github.com/mooncore/mooncore/bench/internal/load"

// web returns the HTTP scenarios.
func web() []Scenario {
	return []Scenario{
		httpEcho("http-typed", "POST of a JSON object that is decoded, validated and answered, on 64 connections",
			"mooncore", "gin", "echo", "chi", "hand", "fiber", "huma", "connect"),
		httpEcho("http-raw", "POST of a JSON object that the handler takes as bytes, on 64 connections", "mooncore-raw", "fixed"),
		httpEcho("http-rs256", "The same, with a token signed by RS256, and without",
			"mooncore-rs256", "mooncore-raw", "fixed-token", "fixed"),
	}
}

func httpEcho(name, title string, peers ...string) Scenario {
	return Scenario{
		Name: name, Title: title, Command: "httpserver", Peers: peers, Kind: "http-echo",
		Params:  func(quick bool) any { return load.Params{Conns: 64, Warmup: 300, Duration: duration(quick)} },
		Metrics: []string{"rate", "cpu_us", "user_us", "sys_us", "allocs", "alloc_bytes", "p50_ms", "p99_ms", "load_cpu"},
		Charts:  []string{"rate", "cpu_us"},
	}
}
