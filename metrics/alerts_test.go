package metrics_test

import (
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/needs"
	"github.com/mooncore/mooncore/mooncoretest"
	"github.com/mooncore/mooncore/pubsub"
)

// Each alert fires when it should, and not when it should not.
func TestAlerts(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), needs.Command(t, "promtool", "prometheus"), "test", "rules", "testdata/alerts_test.yml").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

var metricName = regexp.MustCompile(`\b(?:mooncore|rpc_server)_[a-z_]+\b`)

// A broker tells how it is doing.
type broker struct{ *pubsub.Local }

func (broker) Stats() pubsub.Stats {
	return pubsub.Stats{
		Engine: "test", Up: true, RoundTrip: 250 * time.Millisecond, Subscriptions: 3, Reconnects: 4, Dropped: 5, Losses: 6,
	}
}

func TestBroker(t *testing.T) {
	_, registry := server(t, mooncore.Config{Broker: broker{pubsub.NewLocal()}})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if name, ok := strings.CutPrefix(f.GetName(), "mooncore_broker_"); ok {
			m := f.GetMetric()[0]
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"up": 1, "round_trip_seconds": 0.25, "subscriptions": 3, "reconnects_total": 4, "dropped_total": 5, "losses_total": 6,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// withHistory are routers with a channel that keeps one event.
func withHistory() []mooncore.Router {
	r := routers()
	r[0].Channels = []mooncore.Channel{{Name: "room", Allow: mooncore.Authenticated, History: mooncore.History{Events: 1}}}
	return r
}

func TestHistory(t *testing.T) {
	srv, registry := server(t, mooncore.Config{Routers: withHistory()})
	conn := srv.As(mooncore.Identity{User: "alice"}).Dial("mooncore.v1.history")
	at := conn.JoinSince("room", mooncoretest.Position{}).Position
	conn.JoinSince("room", at)
	for range 2 {
		if err := srv.Tenant("", "").Publish(t.Context(), "event", 1, mooncore.ToChannel("room")); err != nil {
			t.Fatal(err)
		}
	}
	conn.JoinSince("room", at)
	conn.JoinSince("room", mooncoretest.Position{Epoch: "another"})
	got := values(t, registry)
	maps.DeleteFunc(got, func(name string, value float64) bool {
		return !strings.HasPrefix(name, "mooncore_history_") || value == 0
	})
	outcome := func(label string) string { return `mooncore_history_recoveries_total{outcome="` + label + `"}` }
	want := map[string]float64{"mooncore_history_feeds{}": 1, outcome("recovered"): 1, outcome("trimmed"): 1, outcome("epoch"): 1}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Alerts and the guide name metrics that there are, and the guide names all.
func TestNamesOfMetrics(t *testing.T) {
	srv, registry := server(t, mooncore.Config{Broker: broker{pubsub.NewLocal()}, Routers: withHistory()})
	srv.Call(t.Context(), &mooncore.Request{Action: "hello"})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, f := range families {
		there = append(there, f.GetName())
	}
	for _, file := range []string{"alerts.yml", "../docs/observability.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricName.FindAllString(string(text), -1) {
			name = strings.TrimSuffix(strings.TrimSuffix(name, "_count"), "_bucket")
			if !slices.Contains(there, name) {
				t.Errorf("%s names %s, which is no metric", file, name)
			}
		}
		for _, name := range there {
			if strings.HasSuffix(file, ".md") && metricName.MatchString(name) && !strings.Contains(string(text), "| `"+name+"` |") {
				t.Errorf("%s has no row for %s", file, name)
			}
		}
	}
}

// The guide's table of alerts has those of alerts.yml.
func TestNamesOfAlerts(t *testing.T) {
	rules, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	find := func(pattern string, text []byte) (names []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
		return names
	}
	want, got := find(`(?m)- alert: (\w+)$`, rules), find("(?m)^\\| `(Mooncore\\w+)` \\|", guide)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("the guide has %q, the rules %q", got, want)
	}
}
