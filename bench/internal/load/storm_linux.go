package load

import (
	"context"
	"time"

	"github.com/mooncore/mooncore/bench/internal/meter"
	"github.com/mooncore/mooncore/bench/internal/wire"
)

// A stormWorker connects, upgrades and closes, again and again.
type stormWorker struct {
	*worker
	idle    []int // connections that are to be made again
	latency Histogram
	n       int
}

func (s *stormWorker) run(ctx context.Context, d time.Duration) error {
	for deadline := time.Now().Add(d); time.Now().Before(deadline); {
		for _, i := range s.idle {
			if err := s.dial(i); err != nil {
				return err
			}
			s.conns[i].sent = time.Now().UnixNano()
		}
		s.idle = s.idle[:0]
		if err := s.poll(100); err != nil {
			return err
		}
		for i := range s.conns {
			c := &s.conns[i]
			if c.state != ready {
				continue
			}
			s.closeConn(c)
			s.latency.Add(time.Duration(s.now - c.sent))
			s.idle = append(s.idle, i)
			s.n++
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// Storm measures how many connections a second can be made, upgraded and closed, some at the same time.
func Storm(ctx context.Context, srv wire.Server, p Params) (wire.Result, error) {
	pool, err := newPool(srv, p, nil)
	if err != nil {
		return wire.Result{}, err
	}
	defer pool.close()
	var storms []*stormWorker
	for i, w := range pool.workers {
		s := &stormWorker{worker: w}
		w.conns = make([]conn, pool.sizes[i])
		for j := range w.conns {
			w.conns[j].state = closed
			s.idle = append(s.idle, j)
		}
		storms = append(storms, s)
	}
	run := func(d time.Duration) error {
		return pool.each(func(i int, _ *worker) error { return storms[i].run(ctx, d) })
	}
	if err := run(p.Warmup.Duration()); err != nil {
		return wire.Result{}, err
	}
	for _, s := range storms {
		s.n, s.latency = 0, Histogram{}
	}
	window, err := meter.Begin(ctx, srv)
	if err != nil {
		return wire.Result{}, err
	}
	if err := run(p.Duration.Duration()); err != nil {
		return wire.Result{}, err
	}
	n := 0
	var latency Histogram
	for _, s := range storms {
		n += s.n
		latency.Merge(&s.latency)
	}
	metrics, err := window.End(ctx, n)
	if err != nil {
		return wire.Result{}, err
	}
	metrics["p50_ms"], metrics["p99_ms"] = ms(latency.Quantile(0.5)), ms(latency.Quantile(0.99))
	return wire.Result{Metrics: metrics}, nil
}
