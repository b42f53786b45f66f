package historymodel_test

import (
	"testing"

	"github.com/mooncore/mooncore/internal/historymodel"
	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/pubsubtest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// TestCluster runs the suite: what stands in for a cluster is one.
func TestCluster(t *testing.T) {
	c := historymodel.NewCluster(1, 1)
	defer c.Close()
	pubsubtest.RunCluster(t, func(*testing.T) pubsub.Broker { return c.NewLog() })
}

func TestClusterLog(t *testing.T) {
	c := historymodel.NewCluster(1, 1)
	t.Cleanup(c.Close)
	pubsubtest.RunLogCluster(t, func(*testing.T) pubsub.Log { return c.NewLog() })
}
