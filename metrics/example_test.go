package metrics_test

import (
	"log"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// The metrics of the server and one of the program's own, on http://127.0.0.1:4001/metrics.
func Example() {
	registry := prometheus.NewRegistry()
	done := prometheus.NewCounter(prometheus.CounterOpts{Name: "tasks_done_total", Help: "Tasks that were done."})
	registry.MustRegister(done)

	err := mooncore.Run(mooncore.Config{
		Routers:    routers(),
		Inner:      "127.0.0.1:4001",
		Extensions: []mooncore.Extension{metrics.Extension(metrics.Config{Registry: registry})},
	})
	if err != nil {
		log.Fatal(err)
	}
}
