package suite

import (
	"fmt"

	"github.com/mooncore/mooncore/bench/internal/load"
)

// A group of peers is measured together, by the -group flag of their command.
type group struct {
	name, what string
	peers      []string
	needs      map[string]string
	clients    bool // one for each channel
}

var redis = map[string]string{"redis-server": "redis-server"}

// cluster returns the scenarios between two servers: brokers alone on three engines, and whole servers with clients.
func cluster() []Scenario {
	var scenarios []Scenario
	for _, g := range []group{
		{name: "redis", what: "A broker on Redis", peers: []string{"mooncore", "centrifuge", "rueidis"}, needs: redis},
		{name: "nats", what: "A broker on a NATS server", peers: []string{"mooncore", "nats.go", "nats.go-flush"}},
		{name: "embedded", what: "A broker with NATS in the programs", peers: []string{"mooncore", "nats.go", "nats.go-flush"}},
		{
			name: "servers", what: "A server and clients of the other",
			peers: []string{"mooncore-redis", "centrifuge-redis", "mooncore-nats", "mooncore-embedded"}, needs: redis, clients: true,
		},
	} {
		scenarios = append(scenarios,
			g.scenario("1", "1 channel", 1), g.scenario("100", "100 channels", 100), g.scenario("10k", "10,000 channels", 10_000))
	}
	return scenarios
}

func (g group) scenario(name, title string, channels int) Scenario {
	s := Scenario{
		Name: "cluster-" + g.name + "-" + name, Title: g.what + ", " + title, Command: "cluster",
		Peers: g.peers, Args: []string{"-group", g.name, fmt.Sprintf("-channels=%d", channels)}, Needs: g.needs,
		Kind: "cluster",
		Params: func(quick bool) any {
			// Runs differ more than what is measured within one: many short ones say more.
			d := duration(quick) * 3 / 20
			return load.Params{Channels: channels, Warmup: d / 4, Duration: d}
		},
		Metrics: []string{"p50_us", "p99_us", "rate", "cpu_us", "user_us", "sys_us", "engine_us", "allocs", "alloc_bytes", "load_cpu"},
	}
	switch {
	case channels == 100:
		s.Charts = []string{"p50_us", "rate"}
	case channels == 10_000 && g.clients: // who take long to connect
		s.Slow = 2
	}
	return s
}
