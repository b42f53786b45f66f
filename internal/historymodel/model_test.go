package historymodel_test

import (
	"testing"
	"testing/synctest"

	"github.com/mooncore/mooncore/internal/historymodel"
	"github.com/mooncore/mooncore/internal/race"
	"github.com/mooncore/mooncore/pubsub"
)

// usualCuts take some seconds.
func usualCuts() int {
	if race.Enabled {
		return 500
	}
	return 3000
}

// TestModel runs the model in fake time.
func TestModel(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(seed uint64) historymodel.Options
	}{
		{"Alone", func(uint64) historymodel.Options { return historymodel.Options{} }},
		{"Local", func(uint64) historymodel.Options {
			return historymodel.Options{Servers: 1, NewLog: func() pubsub.Log { return pubsub.NewLocal() }, Forgets: true}
		}},
		{"Cluster", func(seed uint64) historymodel.Options {
			return historymodel.Options{Servers: 3, Cluster: historymodel.NewCluster(seed, 20)}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seed := historymodel.Seed(t)
				o := tt.make(seed)
				o.Seed, o.Cuts = seed, historymodel.Cuts(t, usualCuts())
				historymodel.Run(t, o)
				if o.Cluster != nil {
					o.Cluster.Close()
				}
			})
		})
	}
}
