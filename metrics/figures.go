package metrics

import (
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/mooncore/mooncore"
	"github.com/prometheus/client_golang/prometheus"
)

// figures are read from the server when somebody asks for them.
type figures struct {
	srv  *mooncore.Server
	list []figure
}

// A figure is one number of a reading.
type figure struct {
	desc  *prometheus.Desc
	typ   prometheus.ValueType
	value func(*reading) float64
}

// A reading is what one scrape sees.
type reading struct {
	mooncore.Stats
	anonymous, authenticated, queued int
}

func newFigures(srv *mooncore.Server) *figures {
	f := &figures{srv: srv}
	add := func(typ prometheus.ValueType, name, help string, labels prometheus.Labels, value func(*reading) float64) {
		f.list = append(f.list, figure{prometheus.NewDesc(name, help, nil, labels), typ, value})
	}
	gauge := func(name, help string, value func(*reading) float64) {
		add(prometheus.GaugeValue, name, help, nil, value)
	}
	counter := func(name, help string, value func(*reading) uint64) {
		add(prometheus.CounterValue, name, help, nil, func(r *reading) float64 { return float64(value(r)) })
	}
	const (
		connections = "mooncore_connections"
		failures    = "mooncore_auth_failures_total"
	)

	gauge("mooncore_calls_active", "Calls that run.", func(r *reading) float64 { return float64(r.Calls) })
	add(prometheus.GaugeValue, connections, "WebSocket connections that are open.", prometheus.Labels{"state": "anonymous"},
		func(r *reading) float64 { return float64(r.anonymous) })
	add(prometheus.GaugeValue, connections, "WebSocket connections that are open.", prometheus.Labels{"state": "authenticated"},
		func(r *reading) float64 { return float64(r.authenticated) })
	counter("mooncore_connections_refused_total", "WebSocket connections that were refused: a limit had no place for them, or the broker was away.",
		func(r *reading) uint64 { return r.Refused })
	gauge("mooncore_queue_bytes", "Bytes that wait to be sent, of all WebSocket connections.",
		func(r *reading) float64 { return float64(r.queued) })
	counter("mooncore_events_published_total", "Events that this server was told to publish.",
		func(r *reading) uint64 { return r.Published })
	counter("mooncore_events_delivered_total", "Events handed to a connection, once for each.",
		func(r *reading) uint64 { return r.Delivered })
	help := "Credentials that were no good: invalid, or expired."
	add(prometheus.CounterValue, failures, help, prometheus.Labels{"reason": "invalid"},
		func(r *reading) float64 { return float64(r.InvalidTokens) })
	add(prometheus.CounterValue, failures, help, prometheus.Labels{"reason": "expired"},
		func(r *reading) float64 { return float64(r.ExpiredTokens) })
	if srv.Stats().Broker.Engine != "" {
		f.addBroker(gauge, counter)
	}
	if keepsHistory(srv) {
		f.addHistory(add, gauge, counter)
	}
	gauge("mooncore_draining", "1 while the server shuts down, else 0.", func(r *reading) float64 {
		if r.Draining {
			return 1
		}
		return 0
	})
	return f
}

// addBroker adds the figures of a broker that can tell how it is doing.
func (f *figures) addBroker(
	gauge func(name, help string, value func(*reading) float64),
	counter func(name, help string, value func(*reading) uint64),
) {
	gauge("mooncore_broker_up", "1 while the broker reaches its servers, else 0.", func(r *reading) float64 {
		if r.Broker.Up {
			return 1
		}
		return 0
	})
	gauge("mooncore_broker_round_trip_seconds", "How long the last probe took to come back.",
		func(r *reading) float64 { return r.Broker.RoundTrip.Seconds() })
	gauge("mooncore_broker_subscriptions", "Topics that are subscribed.", func(r *reading) float64 { return float64(r.Broker.Subscriptions) })
	counter("mooncore_broker_reconnects_total", "Times that the broker was away and came back.", func(r *reading) uint64 { return r.Broker.Reconnects })
	counter("mooncore_broker_dropped_total", "Messages that came and were dropped, since they came too fast.",
		func(r *reading) uint64 { return r.Broker.Dropped })
	counter("mooncore_broker_losses_total", "Times that a subscription was told that messages may be missing.",
		func(r *reading) uint64 { return r.Broker.Losses })
}

// keepsHistory reports whether a channel has History.
func keepsHistory(srv *mooncore.Server) bool {
	for _, r := range srv.Config().Routers {
		if slices.ContainsFunc(r.Channels, func(ch mooncore.Channel) bool { return ch.History.Events > 0 }) {
			return true
		}
	}
	return false
}

// addHistory adds the figures of channels with History.
func (f *figures) addHistory(
	add func(typ prometheus.ValueType, name, help string, labels prometheus.Labels, value func(*reading) float64),
	gauge func(name, help string, value func(*reading) float64),
	counter func(name, help string, value func(*reading) uint64),
) {
	gauge("mooncore_history_feeds", "Channels with history that have a member here.", func(r *reading) float64 { return float64(r.History.Feeds) })
	for _, outcome := range []struct {
		label string
		value func(mooncore.HistoryStats) uint64
	}{
		{"recovered", func(h mooncore.HistoryStats) uint64 { return h.Recovered }},
		{"epoch", func(h mooncore.HistoryStats) uint64 { return h.Epoch }},
		{"ahead", func(h mooncore.HistoryStats) uint64 { return h.Ahead }},
		{"trimmed", func(h mooncore.HistoryStats) uint64 { return h.Trimmed }},
		{"too_large", func(h mooncore.HistoryStats) uint64 { return h.TooLarge }},
		{"unavailable", func(h mooncore.HistoryStats) uint64 { return h.Unavailable }},
		{"no_history", func(h mooncore.HistoryStats) uint64 { return h.NoHistory }},
		{"refused", func(h mooncore.HistoryStats) uint64 { return h.Refused }},
	} {
		add(prometheus.CounterValue, "mooncore_history_recoveries_total", "Joins that named a position, by what the client was told.",
			prometheus.Labels{"outcome": outcome.label}, func(r *reading) float64 { return float64(outcome.value(r.History)) })
	}
	counter("mooncore_history_lost_total", "Times that the members of a channel with history were told that events may be missing.",
		func(r *reading) uint64 { return r.History.Lost })
}

// Describe implements prometheus.Collector.
func (f *figures) Describe(descs chan<- *prometheus.Desc) {
	for _, figure := range f.list {
		descs <- figure.desc
	}
}

// Collect implements prometheus.Collector.
func (f *figures) Collect(metrics chan<- prometheus.Metric) {
	r := reading{Stats: f.srv.Stats()}
	for _, c := range f.srv.Conns() {
		if c.Identity().User == "" {
			r.anonymous++
		} else {
			r.authenticated++
		}
		r.queued += c.Queued()
	}
	for _, figure := range f.list {
		metrics <- prometheus.MustNewConstMetric(figure.desc, figure.typ, figure.value(&r))
	}
}

// buildInfo says what runs: the version and the commit of the program, as the go command wrote them into it.
func buildInfo() prometheus.Collector {
	version, revision := "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "mooncore_build_info",
		Help:        "1, with the version and the commit of the program, and the version of Go.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "go_version": runtime.Version()},
	}, func() float64 { return 1 })
}
