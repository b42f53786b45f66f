package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mooncore/mooncore/bench/internal/meter"
	"github.com/mooncore/mooncore/bench/internal/wire"
)

// A fanoutWorker receives bursts of events on all of its connections.
type fanoutWorker struct {
	*worker
	before, after, template []byte

	start chan struct{}
	done  chan error

	// Of the burst that runs.
	first   int     // sequence number of its first event
	at      []int64 // when each event was published, in Unix nanoseconds
	last    []int64 // when each was delivered last
	waiting int     // connections that lack events
}

func (f *fanoutWorker) event(c *conn, fr frame, text []byte) error {
	if f.deflate && !fr.deflated {
		return errors.New("an event came uncompressed")
	}
	payload, ok := bytes.CutPrefix(text, f.before)
	if !ok {
		return fmt.Errorf("not an event: %.200q", text)
	}
	if payload, ok = bytes.CutSuffix(payload, f.after); !ok {
		return fmt.Errorf("not an event: %.200q", text)
	}
	seq, at, err := wire.ReadEvent(payload, f.template)
	if err != nil {
		return err
	}
	if seq != c.id {
		return fmt.Errorf("event %d came where %d was due", seq, c.id)
	}
	c.id++
	i := seq - f.first
	if i >= len(f.at) {
		return fmt.Errorf("event %d was not published", seq)
	}
	f.at[i], f.last[i] = at, time.Now().UnixNano()
	if i == len(f.at)-1 {
		f.waiting--
	}
	return nil
}

// prepare makes f ready for a burst of n events.
func (f *fanoutWorker) prepare(first, n int) {
	f.first, f.at, f.last = first, slices.Grow(f.at[:0], n)[:n], slices.Grow(f.last[:0], n)[:n]
	f.waiting = len(f.conns)
}

// run receives a burst for each value of start.
func (f *fanoutWorker) run() error {
	for range f.start {
		f.done <- f.burst()
	}
	return nil
}

func (f *fanoutWorker) burst() error {
	for deadline := time.Now().Add(20 * time.Second); f.waiting > 0; {
		if err := f.poll(100); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d connections lack events: %w", f.waiting, len(f.conns), errTimeout)
		}
	}
	return nil
}

// A fanout publishes to members of a channel and awaits what they receive.
type fanout struct {
	workers  []*fanoutWorker
	size     int
	next     int // sequence number
	commands net.Conn
	replies  *bufio.Reader

	// Since the last reset.
	events, deliveries, bursts int
	busy, blocked              time.Duration
	latency                    Histogram // from the start of a burst to an event's last delivery
}

// newFanout makes members of the connections of pool, which aren't connected yet.
func newFanout(srv wire.Server, pool *pool, size int) (*fanout, error) {
	if srv.Commands == "" {
		return nil, errors.New("the server can't publish")
	}
	commands, err := net.Dial("tcp", srv.Commands)
	if err != nil {
		return nil, err
	}
	f := &fanout{size: size, next: firstID, commands: commands, replies: bufio.NewReader(commands)}
	for _, w := range pool.workers {
		fw := &fanoutWorker{
			worker: w, before: []byte(srv.WebSocket.Before), after: []byte(srv.WebSocket.After),
			template: wire.Event(firstID, time.Now().UnixNano(), size), start: make(chan struct{}), done: make(chan error, 1),
		}
		w.onText = fw.event
		w.onReady = func(c *conn) error { c.id = firstID; return nil }
		f.workers = append(f.workers, fw)
		go func() { _ = pinned(fw.run) }()
	}
	return f, nil
}

func (f *fanout) close() {
	for _, w := range f.workers {
		close(w.start)
	}
	f.commands.Close()
}

// burst publishes n events at once and waits until every connection has them.
func (f *fanout) burst(n int) error {
	for _, w := range f.workers {
		w.prepare(f.next, n)
		w.start <- struct{}{}
	}
	if _, err := fmt.Fprintf(f.commands, "%d %d %d\n", n, f.size, f.next); err != nil {
		return err
	}
	f.next += n
	for _, w := range f.workers {
		if err := <-w.done; err != nil {
			return err
		}
	}
	reply, err := f.replies.ReadString('\n')
	if err != nil {
		return fmt.Errorf("answer to a publish command: %w", err)
	}
	blocked, err := strconv.ParseInt(strings.TrimSpace(reply), 10, 64)
	if err != nil {
		return fmt.Errorf("answer to a publish command: %w", err)
	}
	f.blocked += time.Duration(blocked)
	var end time.Duration
	for i := range n {
		var last int64
		for _, w := range f.workers {
			f.deliveries += len(w.conns)
			last = max(last, w.last[i])
		}
		took := time.Duration(last - f.workers[0].at[0])
		f.latency.Add(took)
		end = max(end, took)
	}
	f.busy += end
	f.events += n
	f.bursts++
	return nil
}

// reset forgets what was counted.
func (f *fanout) reset() {
	f.events, f.deliveries, f.bursts, f.busy, f.blocked, f.latency = 0, 0, 0, 0, 0, Histogram{}
}

// quiet returns an error if more events come than were published.
func (f *fanout) quiet() error {
	for _, w := range f.workers {
		w.prepare(f.next, 0)
		if err := w.poll(20); err != nil {
			return err
		}
	}
	return nil
}

// minBursts is how many bursts are measured at least.
const minBursts = 3

// Fanout measures bursts of events that all connections receive, one after another.
func Fanout(ctx context.Context, srv wire.Server, p Params) (wire.Result, error) {
	pool, err := newPool(srv, p, slices.Concat(srv.WebSocket.Login, srv.WebSocket.Join))
	if err != nil {
		return wire.Result{}, err
	}
	defer pool.close()
	f, err := newFanout(srv, pool, p.Size)
	if err != nil {
		return wire.Result{}, err
	}
	defer f.close()
	if err := pool.connect(); err != nil {
		return wire.Result{}, err
	}
	// Bursts go on for a time, but there are some in any case.
	bursts := func(d time.Duration, least int) error {
		for began, i := time.Now(), 0; i < least || time.Since(began) < d; i++ {
			if err := f.burst(p.Publishes); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	}
	if err := bursts(p.Warmup.Duration(), 1); err != nil {
		return wire.Result{}, err
	}
	f.reset()
	window, err := meter.Begin(ctx, srv)
	if err != nil {
		return wire.Result{}, err
	}
	if err := bursts(p.Duration.Duration(), minBursts); err != nil {
		return wire.Result{}, err
	}
	metrics, err := window.End(ctx, f.deliveries)
	if err != nil {
		return wire.Result{}, err
	}
	if err := f.quiet(); err != nil {
		return wire.Result{}, err
	}
	metrics["rate"] = float64(f.deliveries) / f.busy.Seconds()
	metrics["p50_ms"], metrics["p99_ms"] = ms(f.latency.Quantile(0.5)), ms(f.latency.Quantile(0.99))
	metrics["blocked_ms"] = ms(f.blocked) / float64(f.events)
	return wire.Result{Metrics: metrics}, nil
}
