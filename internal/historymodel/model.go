// Package historymodel tests that clients of channels with history get what they missed when they come back. Many clients are cut at random
// moments and come back to the same server or to another one, while others publish, and faults happen. What each client sees must be
// what was published, in order, without a gap or a repeat, or the server must have said that it is not; and what it says must be true.
package historymodel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/pubsub"
)

// CutsEnv is the environment variable that says how many cuts a drill has.
const CutsEnv = "MOONCORE_TEST_CUTS"

// Cuts is how many cuts there are to be.
func Cuts(t testing.TB, usual int) int {
	t.Helper()
	text := os.Getenv(CutsEnv)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q is no number of cuts", CutsEnv, text)
	}
	return n
}

// SeedEnv is the environment variable with the seed of a run.
const SeedEnv = "MOONCORE_TEST_SEED"

// Seed is the seed of a run: a new one, unless it is to be repeated, as far as what happens at the same time allows.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(os.Getpid())<<32 ^ rand.Uint64()>>1
	if text := os.Getenv(SeedEnv); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %q is no seed", SeedEnv, text)
		}
		seed = n
	}
	return seed
}

// Options say what a run is.
type Options struct {
	Cuts int
	Seed uint64

	Servers int // 0: one, without a broker
	NewLog  func() pubsub.Log
	Forgets bool // what the log keeps is gone when its server ends

	Cluster *Cluster // in place of NewLog: with faults
}

const (
	clientCount = 150
	writerCount = 10
	sendBytes   = 64 << 10
	bossRole    = "boss" // that no client has
)

// A world is a run.
type world struct {
	Options
	t     testing.TB
	clock clock
	nodes []*node

	mu       sync.Mutex
	byName   map[string]*channel
	troubles []trouble
	happened map[string]int // faults, by name
	failed   error

	publishing chan struct{} // has one of each that publishes; who fills it has nobody publish
	channels   []*channel    // never changes
	left       atomic.Int64
	over       chan struct{} // closed when the run is to end
	stop       func()
}

// kinds are the declarations of channels.
var kinds = []struct {
	name   string
	count  int
	events int
	age    time.Duration
	weight int // of what is published
	pad    int // bytes, at most
}{
	{"hot", 4, 200, time.Hour, 50, 40},
	{"few", 2, 6, time.Hour, 15, 40},
	{"brief", 2, 500, 3 * time.Second, 10, 40},
	{"big", 1, 100, time.Hour, 5, 3000},
	{"rare", 5, 20, time.Hour, 2, 40},
	{"closed", 1, 20, time.Hour, 2, 40},
	{"plain", 1, 0, 0, 5, 40},
}

// Run is a run of the model. It works in a bubble of testing/synctest too, where nobody waits for real time.
func Run(t testing.TB, o Options) {
	w := &world{Options: o, t: t, byName: map[string]*channel{}, happened: map[string]int{}, over: make(chan struct{})}
	w.publishing = make(chan struct{}, writerCount)
	w.stop = sync.OnceFunc(func() { close(w.over) })
	w.left.Store(int64(o.Cuts))
	t.Logf("seed %d", o.Seed)
	if o.Cluster != nil {
		w.Servers, w.NewLog = max(o.Servers, 1), func() pubsub.Log { return o.Cluster.NewLog() }
		o.Cluster.onCommit = w.committed
	}
	for _, kind := range kinds {
		for i := range kind.count {
			ch := newChannel(fmt.Sprint(kind.name, i), pubsub.Keep{Events: kind.events, Age: kind.age}, sendBytes/2, &w.clock)
			ch.refused = kind.name == "closed"
			w.channels = append(w.channels, ch)
			w.byName[ch.name] = ch
		}
	}
	for i := range max(w.Servers, 1) {
		n := &node{w: w, number: i}
		n.start()
		w.nodes = append(w.nodes, n)
	}
	began := time.Now()
	var clients, others sync.WaitGroup
	all := make([]*client, clientCount)
	for i := range all {
		c := &client{
			w: w, user: fmt.Sprint("user", i), plain: i%5 == 0, random: w.random(1000 + i), places: map[*channel]pubsub.Position{},
			favorites: w.channels[i%len(w.channels):], counts: counts{reasons: map[string]int{}},
		}
		all[i] = c
		clients.Go(c.live)
	}
	for i := range writerCount {
		others.Go(func() { w.write(w.random(10 + i)) })
	}
	for i, n := range w.nodes {
		others.Go(func() { w.harm(n, w.random(500+i)) })
	}
	clients.Wait()
	w.stop()
	others.Wait()
	if w.failed == nil {
		w.fail(w.settle(all))
	}
	for _, n := range w.nodes {
		n.end()
	}
	for _, ch := range w.channels {
		if err := ch.audit(); err != nil && w.failed == nil {
			w.fail(err)
		}
	}
	w.report(all, time.Since(began))
	if w.failed != nil {
		t.Error(w.failed)
	}
}

// patience is how long what was published may take to come. In a cluster, what did not come live is missed when something else does; when
// nothing is published any more, that takes longer.
func (w *world) patience() time.Duration {
	switch {
	case w.alone():
		return 3 * time.Second
	case w.Cluster == nil:
		return 20 * time.Second // real time
	case w.ended():
		return quiet + settle
	}
	return 10 * time.Second
}

// alone reports whether a server keeps everything itself, in memory.
func (w *world) alone() bool { return w.NewLog == nil || w.Forgets }

func (w *world) random(stream int) *rand.Rand { return rand.New(rand.NewPCG(w.Seed, uint64(stream))) }

func (w *world) fail(err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
	w.stop()
}

func (w *world) ended() bool {
	select {
	case <-w.over:
		return true
	default:
		return false
	}
}

// after returns a channel that is closed after d. In a bubble of testing/synctest, channels of timers that are over at once crash the race
// detector of Go 1.26.
func after(d time.Duration) (over <-chan struct{}, stop func() bool) {
	ch := make(chan struct{})
	return ch, time.AfterFunc(d, func() { close(ch) }).Stop
}

// sleep reports false when the run is to end.
func (w *world) sleep(d time.Duration) bool {
	over, stop := after(d)
	defer stop()
	select {
	case <-w.over:
		return false
	case <-over:
		return true
	}
}

// live is a client's life.
func (c *client) live() {
	for w := c.w; w.left.Add(-1) >= 0; {
		if w.ended() {
			return
		}
		cut, err := c.session()
		if !cut {
			w.left.Add(1)
		}
		w.fail(err)
		w.sleep(time.Duration(c.random.IntN(1<<c.random.IntN(9))) * step)
	}
}

// settle has each client come once more, and get all that it missed, when nothing is published any more.
func (w *world) settle(all []*client) error {
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, c := range all {
		wg.Go(func() {
			s, err := c.open(false)
			if err != nil || s == nil {
				errs[i] = errors.Join(errors.New("no connection at the end"), err)
				return
			}
			for range 3 {
				err = errors.Join(err, s.join(w.channels[c.random.IntN(len(w.channels))]))
			}
			err = errors.Join(err, s.catchUp())
			s.close()
			errs[i] = errors.Join(err, c.plainly(s))
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, errCut) {
			return err
		}
	}
	return nil
}

// report logs what the run did, and fails it when that was nothing.
func (w *world) report(all []*client, took time.Duration) {
	sum := counts{reasons: map[string]int{}}
	for _, c := range all {
		n := &c.counts
		sum.cuts, sum.refusals, sum.slow, sum.joins = sum.cuts+n.cuts, sum.refusals+n.refusals, sum.slow+n.slow, sum.joins+n.joins
		sum.recovered, sum.demanded, sum.missed = sum.recovered+n.recovered, sum.demanded+n.demanded, sum.missed+n.missed
		sum.events, sum.lost, sum.reached = sum.events+n.events, sum.lost+n.lost, sum.reached+n.reached
		for reason, n := range n.reasons {
			sum.reasons[reason] += n
		}
	}
	published, epochs := 0, 0
	for _, ch := range w.channels {
		published, epochs = published+len(ch.sent), epochs+len(ch.epochs)
	}
	w.t.Logf("%d cuts in %v: %d joins, %d recovered (%d had to be) with %d events; declared: %s; %d events, %d lost, %d slow, %d refused, %d caught up; "+
		"%d published in %d epochs; faults: %s", sum.cuts, took.Round(time.Second), sum.joins, sum.recovered, sum.demanded, sum.missed,
		list(sum.reasons), sum.events, sum.lost, sum.slow, sum.refusals, sum.reached, published, epochs, list(w.happened))
	if w.failed == nil && (sum.demanded < sum.cuts/30 || sum.missed < sum.cuts/10 || sum.slow > sum.cuts/100+10) {
		w.fail(errors.New("too little was recovered for the run to mean anything"))
	}
	for _, f := range w.ofRun() {
		if w.happened[f.name] < f.sure {
			w.fail(fmt.Errorf("the run had %d of %d faults %q", w.happened[f.name], f.sure, f.name))
		}
	}
}

// list is what was counted by name.
func list(counts map[string]int) string {
	var b []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		b = append(b, fmt.Sprint(name, " ", counts[name]))
	}
	return strings.Join(b, ", ")
}

// write publishes, a message or many at once.
func (w *world) write(random *rand.Rand) {
	for w.sleep(time.Duration(random.IntN(8)) * step) {
		burst := 1
		if random.IntN(20) == 0 {
			burst = random.IntN(40)
		}
		ch, pad := w.pick(random)
		for range burst {
			w.publish(random, ch, random.IntN(pad))
		}
	}
}

// pick picks a channel by its kind's weight.
func (w *world) pick(random *rand.Rand) (ch *channel, pad int) {
	total := 0
	for _, kind := range kinds {
		total += kind.weight
	}
	n := random.IntN(total)
	first := 0
	for _, kind := range kinds {
		if n -= kind.weight; n < 0 {
			return w.channels[first+random.IntN(kind.count)], kind.pad
		}
		first += kind.count
	}
	panic("unreachable")
}

var padding = strings.Repeat("x", 4000)

func (w *world) publish(random *rand.Rand, ch *channel, pad int) {
	w.publishing <- struct{}{}
	defer func() { <-w.publishing }()
	n := w.nodes[random.IntN(len(w.nodes))]
	srv := n.running()
	if srv == nil {
		return
	}
	watched := w.NewLog != nil || ch.keep.Events == 0
	if !watched { // one after the other, so that it is known where they stand
		ch.writing.Lock()
		defer ch.writing.Unlock()
	}
	began := time.Now()
	number := ch.begin(pad)
	err := srv.Tenant("", "t").Publish(context.Background(), "e", event{Channel: ch.name, Number: number, Pad: padding[:pad]}, mooncore.ToChannel(ch.name))
	if err == nil && !watched {
		err = ch.placeNext(number)
	} else if x := w.excuses(n, ch, began); err != nil && (x.down || x.refused) {
		ch.end(number, true, w.Cluster == nil) // a broker may have it although the server ended before it said so
		return
	}
	ch.end(number, err != nil, false)
	w.fail(err)
}

// committed notes that a log has a message.
func (w *world) committed(data []byte, at pubsub.Position) {
	e, ok := parseEvent(data)
	if !ok {
		w.fail(fmt.Errorf("the log got %s", data))
		return
	}
	ch := w.byName[e.Channel]
	if err := ch.place(e.Number, at); err != nil {
		w.fail(fmt.Errorf("channel %s: the log: %w", ch.name, err))
	}
}

// A watched is a Log that tells what it accepted.
type watched struct {
	pubsub.Log
	w *world
}

func (l watched) Append(ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
	at, err := l.Log.Append(ctx, topic, data, keep)
	if err == nil {
		l.w.committed(data, at)
	}
	return at, err
}

// A node is a server, which may end and come back.
type node struct {
	w      *world
	number int

	mu       sync.Mutex
	server   *mooncore.Server // nil while it is down
	listener *listener
	log      *Log // of a Cluster
	cancel   context.CancelFunc
	ended    chan error
}

// A listener accepts the connections that dial makes, in memory.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (n *node) config() mooncore.Config {
	router := mooncore.Router{Roles: []string{bossRole}}
	for _, kind := range kinds {
		ch := mooncore.Channel{Name: kind.name + "*", Allow: mooncore.Authenticated, History: mooncore.History{Events: kind.events, Age: kind.age}}
		if kind.name == "closed" {
			ch.Allow = mooncore.Roles(bossRole)
		}
		router.Channels = append(router.Channels, ch)
	}
	return mooncore.Config{
		Routers: []mooncore.Router{router}, Development: true, Logger: slog.New(slog.DiscardHandler), Listener: n.listener,
		JWT:    mooncore.JWTConfig{Secret: "0123456789abcdef0123456789abcdef"},
		Limits: mooncore.Limits{SendBytes: sendBytes},
		Authenticate: func(r *http.Request) (mooncore.Identity, error) {
			user := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			return mooncore.Identity{User: user, Tenant: "t"}, nil
		},
	}
}

// start starts the server.
func (n *node) start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listener = &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	cfg := n.config()
	if n.w.NewLog != nil {
		log := n.w.NewLog()
		n.log, _ = log.(*Log)
		if n.log == nil {
			log = watched{log, n.w}
		}
		cfg.Broker = log
	}
	srv, err := mooncore.New(cfg)
	if err != nil {
		n.w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.server, n.cancel, n.ended = srv, cancel, make(chan error, 1)
	go func() { n.ended <- srv.Run(ctx) }()
}

// end ends the server, as at a deploy: its clients are told to come back.
func (n *node) end() {
	n.mu.Lock()
	n.server = nil
	n.mu.Unlock()
	n.cancel()
	if err := <-n.ended; err != nil {
		n.w.fail(fmt.Errorf("server %d: Run: %w", n.number, err))
	}
}

// lose tells the server that messages of a topic may be missing, or of any.
func (n *node) lose(topic string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log.Lose(topic)
}

func (n *node) running() *mooncore.Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.server
}

// dial returns nil while the server is down.
func (n *node) dial() net.Conn {
	n.mu.Lock()
	l, up := n.listener, n.server != nil
	n.mu.Unlock()
	if !up {
		return nil
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client
	case <-l.closed:
		return nil
	}
}
