package load

import (
	"net/netip"
	"runtime"
	"time"

	"github.com/mooncore/mooncore/bench/internal/meter"
	"github.com/mooncore/mooncore/bench/internal/wire"
)

// A pool is the workers of a run, each with its share of the connections.
type pool struct {
	workers []*worker
	sizes   []int
	timeout time.Duration
}

func newPool(srv wire.Server, p Params, steps []wire.Step) (*pool, error) {
	target, err := netip.ParseAddrPort(srv.Addr)
	if err != nil {
		return nil, err
	}
	if err := meter.RaiseFiles(p.Conns + 64); err != nil {
		return nil, err
	}
	n := min(max(runtime.NumCPU()/2, 1), 8, p.Conns)
	pl := &pool{timeout: 30 * time.Second}
	for i := range n {
		w, err := newWorker(target, srv, steps, p.Deflate)
		if err != nil {
			return nil, err
		}
		w.source = i * perSource
		pl.workers = append(pl.workers, w)
		pl.sizes = append(pl.sizes, (p.Conns+i)/n)
	}
	return pl, nil
}

// connect makes all connections ready.
func (p *pool) connect() error {
	return p.each(func(i int, w *worker) error { return w.connect(p.sizes[i], p.timeout) })
}

// each runs fn for all workers at the same time, each in a thread of its own.
func (p *pool) each(fn func(i int, w *worker) error) error {
	errs := make(chan error, len(p.workers))
	for i, w := range p.workers {
		go func() { errs <- pinned(func() error { return fn(i, w) }) }()
	}
	var first error
	for range p.workers {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (p *pool) close() {
	for _, w := range p.workers {
		w.close()
	}
}

// pinned runs fn in a thread that nothing else uses.
func pinned(fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return fn()
}
