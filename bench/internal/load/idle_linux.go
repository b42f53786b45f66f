package load

import (
	"context"
	"slices"
	"time"

	"github.com/mooncore/mooncore/bench/internal/meter"
	"github.com/mooncore/mooncore/bench/internal/wire"
)

// Idle measures the memory of connections that are members of a channel and do nothing. With Publishes, so many single events
// are sent to all of them first.
func Idle(ctx context.Context, srv wire.Server, p Params) (wire.Result, error) {
	pool, err := newPool(srv, p, slices.Concat(srv.WebSocket.Login, srv.WebSocket.Join))
	if err != nil {
		return wire.Result{}, err
	}
	defer pool.close()
	f, err := newFanout(srv, pool, max(p.Size, wire.MinEvent))
	if err != nil {
		return wire.Result{}, err
	}
	defer f.close()
	// settled is the memory after garbage was collected and returned to the system.
	settled := func() (wire.Memory, int64, error) {
		mem, err := meter.Memory(ctx, srv, true)
		if err != nil {
			return mem, 0, err
		}
		rss, err := meter.RSS(srv.PID)
		return mem, rss, err
	}
	before, rssBefore, err := settled()
	if err != nil {
		return wire.Result{}, err
	}
	began := time.Now()
	if err := pool.connect(); err != nil {
		return wire.Result{}, err
	}
	metrics := map[string]float64{"rate": float64(p.Conns) / time.Since(began).Seconds()}
	for range p.Publishes {
		if err := f.burst(1); err != nil {
			return wire.Result{}, err
		}
	}
	time.Sleep(p.Duration.Duration()) // goroutines that end with what they did
	rss, err := meter.RSS(srv.PID)
	if err != nil {
		return wire.Result{}, err
	}
	metrics["rss_grown_mb"] = float64(rss) / 1e6
	after, rssAfter, err := settled()
	if err != nil {
		return wire.Result{}, err
	}
	if err := meter.HeapProfile(ctx, srv); err != nil {
		return wire.Result{}, err
	}
	metrics["rss_mb"] = float64(rssAfter) / 1e6
	perConn := func(n int64) float64 { return float64(n) / float64(p.Conns) }
	metrics["conn_bytes"] = perConn(rssAfter - rssBefore)
	metrics["conn_heap"] = perConn(int64(after.HeapInuse) - int64(before.HeapInuse))
	metrics["conn_stack"] = perConn(int64(after.StackInuse) - int64(before.StackInuse))
	if err := f.burst(1); err != nil { // all of them are still there
		return wire.Result{}, err
	}
	return wire.Result{Metrics: metrics}, f.quiet()
}
