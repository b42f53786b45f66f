// Package metrics serves the figures of a Mooncore server to Prometheus: calls by action and code, connections, messages, events,
// bad tokens, whether the server drains, and those of the Go runtime and the process.
//
//	cfg.Inner = "127.0.0.1:4001"
//	cfg.Extensions = append(cfg.Extensions, metrics.Extension(metrics.Config{}))
//
// Nothing that a client chooses becomes a label: a name that no router has, a code of the program's own and a close code that means
// nothing are counted as "_OTHER". So the number of time series has a bound, whatever is sent.
//
// Names follow the semantic conventions of OpenTelemetry where there are some, as Prometheus spells them. The guide
// docs/observability.md lists all of them, with what to alert on.
package metrics

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/mooncore/mooncore"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config says what is served and where. Its zero value is good.
type Config struct {
	// Path is where the inner listener (Config.Inner of the server) serves the metrics. Default "/metrics".
	Path string

	// Registry gets the metrics, so that they stand beside the program's own, and is what Path serves. A server needs one that no other
	// server has. Default a new one.
	Registry *prometheus.Registry

	// Buckets are the upper bounds of the histogram of durations, in seconds, in rising order. Default those that OpenTelemetry
	// advises: 5 ms to 10 s.
	Buckets []float64
}

// buckets are those of the semantic conventions for rpc.server.call.duration.
var buckets = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// maxScrapes is how many may run at the same time; more get 503.
const maxScrapes = 8

// Extension returns the metrics, for mooncore.Config.Extensions. A server that gets it does not start if cfg has a fault.
func Extension(cfg Config) mooncore.Extension {
	return func(srv *mooncore.Server) error {
		cfg := cfg // each server has its own
		if cfg.Path == "" {
			cfg.Path = "/metrics"
		}
		if cfg.Buckets == nil {
			cfg.Buckets = buckets
		}
		if cfg.Registry == nil {
			cfg.Registry = prometheus.NewRegistry()
		}
		if err := cfg.validate(); err != nil {
			return err
		}
		o := newObserver(srv.Config().Routers, cfg.Buckets)
		if err := register(cfg.Registry, append(o.collectors(), newFigures(srv), buildInfo())); err != nil {
			return err
		}
		srv.Observe(o)
		srv.HandleInner("GET "+cfg.Path, promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{
			ErrorLog: slog.NewLogLogger(srv.Config().Logger.Handler(), slog.LevelError), MaxRequestsInFlight: maxScrapes,
			EnableOpenMetrics: true,
		}))
		return nil
	}
}

func (cfg *Config) validate() error {
	if !strings.HasPrefix(cfg.Path, "/") || strings.ContainsAny(cfg.Path, " {}") {
		return fmt.Errorf("metrics: Config.Path: %q is no path such as /metrics", cfg.Path)
	}
	for i, bound := range cfg.Buckets {
		if bound <= 0 || i > 0 && bound <= cfg.Buckets[i-1] {
			return fmt.Errorf("metrics: Config.Buckets[%d]: %v; bounds are above 0 and rise", i, bound)
		}
	}
	if len(cfg.Buckets) == 0 {
		return errors.New("metrics: Config.Buckets: is empty")
	}
	return nil
}

// register adds what is a server's own, and what is the process's if nobody else did.
func register(registry *prometheus.Registry, own []prometheus.Collector) error {
	for _, c := range own {
		if err := registry.Register(c); err != nil {
			if _, twice := errors.AsType[prometheus.AlreadyRegisteredError](err); twice {
				return errors.New("metrics: Config.Registry: has the metrics of another server")
			}
			return fmt.Errorf("metrics: Config.Registry: %w", err)
		}
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			if _, twice := errors.AsType[prometheus.AlreadyRegisteredError](err); !twice {
				return fmt.Errorf("metrics: Config.Registry: %w", err)
			}
		}
	}
	return nil
}
