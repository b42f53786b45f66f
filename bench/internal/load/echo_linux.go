package load

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore/bench/internal/meter"
	"github.com/mooncore/mooncore/bench/internal/wire"
)

// An echoWorker sends batches of requests on each of its connections and waits for the answers of each.
type echoWorker struct {
	*worker
	batch    int
	frames   []byte
	ids      [][]maskedID
	want     template
	phase    *atomic.Int32
	answered atomic.Int64 // messages
	latency  Histogram    // of batches, while measuring
	waiting  int          // connections that wait for answers
}

// Phases of an echo run.
const (
	warming = iota
	measuring
	stopping
)

func (e *echoWorker) send(c *conn) error {
	id := c.id
	for _, places := range e.ids {
		for _, p := range places {
			p.put(e.frames, id)
		}
		id = nextID(id)
	}
	c.count, c.sent = 0, time.Now().UnixNano()
	return e.write(c, e.frames)
}

func (e *echoWorker) answer(c *conn, _ frame, text []byte) error {
	if err := e.want.check(text, c.id); err != nil {
		return err
	}
	c.id = nextID(c.id)
	c.count++
	if c.count < e.batch {
		return nil
	}
	e.answered.Add(int64(e.batch))
	switch e.phase.Load() {
	case measuring:
		e.latency.Add(time.Duration(time.Now().UnixNano() - c.sent))
	case stopping:
		e.waiting--
		return nil
	}
	return e.send(c)
}

func (e *echoWorker) run() error {
	for i := range e.conns {
		e.conns[i].id = firstID
		if err := e.send(&e.conns[i]); err != nil {
			return err
		}
	}
	e.waiting = len(e.conns)
	var deadline time.Time
	for e.waiting > 0 {
		if err := e.poll(100); err != nil {
			return err
		}
		if e.phase.Load() == stopping {
			if deadline.IsZero() {
				deadline = time.Now().Add(10 * time.Second)
			} else if time.Now().After(deadline) {
				return fmt.Errorf("%d connections still wait for answers: %w", e.waiting, errTimeout)
			}
		}
	}
	return nil
}

// Echo measures round trips.
func Echo(ctx context.Context, srv wire.Server, p Params) (wire.Result, error) {
	var steps []wire.Step
	var frames []byte
	var ids [][]maskedID
	var response string
	if srv.HTTP != nil {
		frames, ids = postRequest(srv.Addr, srv.HTTP)
		response = srv.HTTP.Response
	} else {
		steps, response = srv.WebSocket.Login, srv.WebSocket.Response
		frames, ids = newTemplate(srv.WebSocket.Request).frames(p.Pipeline)
	}
	pool, err := newPool(srv, p, steps)
	if err != nil {
		return wire.Result{}, err
	}
	defer pool.close()
	var phase atomic.Int32
	echoes := make([]*echoWorker, len(pool.workers))
	for i, w := range pool.workers {
		e := &echoWorker{worker: w, batch: p.Pipeline, phase: &phase, want: newTemplate(response)}
		e.frames, e.ids = slices.Clone(frames), ids
		w.onText = e.answer
		echoes[i] = e
	}
	if err := pool.connect(); err != nil {
		return wire.Result{}, err
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(echoes))
	for _, e := range echoes {
		wg.Go(func() { errs <- pinned(e.run) })
	}
	answered := func() (n int64) {
		for _, e := range echoes {
			n += e.answered.Load()
		}
		return n
	}
	// wait lets the load run, and ends early if it failed.
	wait := func(d time.Duration) error {
		select {
		case err := <-errs:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
	stop := func() { phase.Store(stopping); wg.Wait() }
	if err := wait(p.Warmup.Duration()); err != nil {
		return wire.Result{}, err
	}
	begin, err := meter.Begin(ctx, srv)
	if err != nil {
		stop()
		return wire.Result{}, err
	}
	before := answered()
	phase.Store(measuring)
	if err := wait(p.Duration.Duration()); err != nil {
		return wire.Result{}, err
	}
	n := answered() - before
	metrics, err := begin.End(ctx, int(n))
	stop()
	if err != nil {
		return wire.Result{}, err
	}
	close(errs)
	for err := range errs {
		if err != nil {
			return wire.Result{}, err
		}
	}
	var latency Histogram
	for _, e := range echoes {
		latency.Merge(&e.latency)
	}
	metrics["p50_ms"], metrics["p99_ms"] = ms(latency.Quantile(0.5)), ms(latency.Quantile(0.99))
	return wire.Result{Metrics: metrics}, nil
}
