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
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore/bench/internal/meter"
	"github.com/mooncore/mooncore/bench/internal/traffic"
	"github.com/mooncore/mooncore/bench/internal/wire"
)

const (
	// eventsAtOnce is how many events are published before all must have come: 100 by each publisher, or 10 where there are few
	// clients, since a server doesn't keep more for one that reads slowly.
	eventsAtOnce = 100 * traffic.Publishers
	eventsForFew = 10 * traffic.Publishers

	// deliveryTime is how long they may take.
	deliveryTime = 10 * time.Second
)

// A receiver sees what is delivered: the other server's side of a broker, or its clients.
type receiver interface {
	// Await waits until so many events have come, in all, and returns how long after its publishing the last one came.
	Await(ctx context.Context, total int) (time.Duration, error)
}

// A cluster has one server publish what another one delivers.
type cluster struct {
	receiver
	plan     traffic.Plan
	commands *lines
	events   int // that were published
}

// publish publishes n events by so many publishers at once and waits until they have come. It returns the latency of the last one.
func (c *cluster) publish(ctx context.Context, n, publishers int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, deliveryTime)
	defer cancel()
	if c.events+n > traffic.MaxEvents {
		return 0, fmt.Errorf("more than %d events", traffic.MaxEvents)
	}
	first := c.events
	c.events += n
	published := make(chan error, 1)
	go func() {
		_, err := c.commands.ask(ctx, fmt.Sprintf("%d %d %d", first, n, publishers))
		published <- err
	}()
	latency, err := c.Await(ctx, c.events)
	if errPublish := <-published; errPublish != nil {
		err = fmt.Errorf("publish: %w", errPublish)
	}
	return latency, err
}

// Cluster measures events that one server publishes and another one delivers: first one at a time, then by many publishers.
func Cluster(ctx context.Context, srv wire.Server, p Params) (wire.Result, error) {
	c := &cluster{plan: traffic.Plan{Channels: p.Channels}}
	atOnce := eventsAtOnce
	if srv.WebSocket != nil && p.Channels < traffic.Publishers {
		atOnce = eventsForFew
	}
	var err error
	if c.commands, err = dialLines(srv.Commands); err != nil {
		return wire.Result{}, err
	}
	defer c.commands.close()
	if srv.WebSocket != nil {
		clients, err := newClients(srv, p, c.plan)
		if err != nil {
			return wire.Result{}, err
		}
		defer clients.close()
		c.receiver = clients
	} else {
		lines, err := dialLines(srv.Deliveries)
		if err != nil {
			return wire.Result{}, err
		}
		defer lines.close()
		c.receiver = remote{lines}
	}

	if _, err := c.publish(ctx, atOnce, traffic.Publishers); err != nil {
		return wire.Result{}, err
	}
	var latency Histogram
	for began := time.Now(); time.Since(began) < p.Warmup.Duration()+p.Duration.Duration(); {
		l, err := c.publish(ctx, 1, 1)
		if err != nil {
			return wire.Result{}, err
		}
		if time.Since(began) > p.Warmup.Duration() {
			latency.Add(l)
		}
	}

	window, err := meter.Begin(ctx, srv)
	if err != nil {
		return wire.Result{}, err
	}
	before, busy := c.events, time.Duration(0)
	for busy < p.Duration.Duration() {
		began := time.Now()
		if _, err := c.publish(ctx, atOnce, traffic.Publishers); err != nil {
			return wire.Result{}, err
		}
		busy += time.Since(began)
	}
	metrics, err := window.End(ctx, c.events-before)
	if err != nil {
		return wire.Result{}, err
	}
	metrics["rate"] = float64(c.events-before) / busy.Seconds()
	metrics["p50_us"], metrics["p99_us"] = us(latency.Quantile(0.5)), us(latency.Quantile(0.99))
	return wire.Result{Metrics: metrics}, nil
}

// lines asks questions and gets answers, a line each.
type lines struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialLines(addr string) (*lines, error) {
	if addr == "" {
		return nil, errors.New("the server is none of a cluster")
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &lines{conn, bufio.NewReader(conn)}, nil
}

func (l *lines) close() { l.conn.Close() }

// ask returns the number that is the answer. Any other answer is an error.
func (l *lines) ask(ctx context.Context, question string) (int, error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := l.conn.SetDeadline(deadline.Add(time.Second)); err != nil { // the server may know more
			return 0, err
		}
	}
	if _, err := l.conn.Write([]byte(question + "\n")); err != nil {
		return 0, err
	}
	line, err := l.in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	line = strings.TrimSpace(line)
	n, err := strconv.Atoi(line)
	if err != nil {
		return 0, errors.New(line)
	}
	return n, nil
}

// A remote receiver is the other server's side of a broker.
type remote struct{ lines *lines }

func (r remote) Await(ctx context.Context, total int) (time.Duration, error) {
	ns, err := r.lines.ask(ctx, strconv.Itoa(total))
	return time.Duration(ns), err
}

// clients are the members of the channels, one each, on the other server.
type clients struct {
	*traffic.Receiver
	pool    *pool
	before  [][]byte // by channel
	after   []byte
	stopped atomic.Bool
	wg      sync.WaitGroup
}

func newClients(srv wire.Server, p Params, plan traffic.Plan) (*clients, error) {
	p.Conns = plan.Channels
	pool, err := newPool(srv, p, slices.Concat(srv.WebSocket.Login, srv.WebSocket.Join))
	if err != nil {
		return nil, err
	}
	c := &clients{Receiver: traffic.NewReceiver(plan), pool: pool, after: []byte(srv.WebSocket.After)}
	for i := range plan.Channels {
		c.before = append(c.before, []byte((&conn{channel: i}).fill(srv.WebSocket.Before)))
	}
	first := 0
	for i, w := range pool.workers {
		w.channel = first
		first += pool.sizes[i]
		w.onText = c.event
	}
	if err := pool.connect(); err != nil {
		pool.close()
		return nil, err
	}
	for _, w := range pool.workers {
		c.wg.Go(func() {
			if err := pinned(func() error { return c.run(w) }); err != nil {
				c.Fail(err)
			}
		})
	}
	return c, nil
}

func (c *clients) run(w *worker) error {
	for !c.stopped.Load() {
		if err := w.poll(20); err != nil {
			return err
		}
	}
	return nil
}

func (c *clients) event(conn *conn, _ frame, text []byte) error {
	payload, ok := bytes.CutPrefix(text, c.before[conn.channel])
	if ok {
		payload, ok = bytes.CutSuffix(payload, c.after)
	}
	if !ok {
		return fmt.Errorf("not an event: %.200q", text)
	}
	c.Receive(conn.channel, payload)
	return nil
}

func (c *clients) close() {
	c.stopped.Store(true)
	c.wg.Wait()
	c.pool.close()
}
