package embedded_test

import (
	"testing"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/internal/historymodel"
	"github.com/mooncore/mooncore/pubsub"
)

// TestModel cuts clients of three servers, which end and come back meanwhile.
func TestModel(t *testing.T) {
	nats := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
	historymodel.Run(t, historymodel.Options{
		Cuts: historymodel.Cuts(t, 300), Seed: historymodel.Seed(t), Servers: 3,
		NewLog: func() pubsub.Log { return connect(t, nats.Addr()) },
	})
}
