package verify

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/examples/production/internal/redistest"
	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/internal/race"
)

const (
	// clientsEnv is the environment variable that says how many clients a drill has.
	clientsEnv     = "MOONCORE_TEST_CLIENTS"
	defaultClients = 500
	fewClients     = 100 // with the race detector, which makes TLS ten times as slow

	roomSize    = 25
	httpCallers = 10
	endPrefix   = "end-"

	spread   = 5 * time.Second  // of retry_after
	lateJoin = 10 * time.Second // what a drill allows from a close to the answered join, for 99 % of the clients
)

// TestRollingRestart restarts three servers behind the real proxies, one after another, while clients call by HTTP and by WebSocket:
// no call is lost or done twice, none by HTTP is refused, no event of a room is missing, and all who were connected come back, not all
// at once. With Redis all are on one server at first, as the others come later.
func TestRollingRestart(t *testing.T) {
	clients, drill := defaultClients, os.Getenv(clientsEnv) != ""
	switch {
	case drill:
		n, err := strconv.Atoi(os.Getenv(clientsEnv))
		if err != nil || n < 1 {
			t.Fatalf("%s: %q is no number of clients", clientsEnv, os.Getenv(clientsEnv))
		}
		clients = n
	case race.Enabled:
		clients = fewClients
	}
	for i, broker := range []string{"NATS", "Redis"} {
		kind := proxyKinds[i]
		if drill {
			kind = proxyKinds[0] // Caddy is one process, and needs two descriptors for each client
		}
		t.Run(broker+" and "+kind.name, func(t *testing.T) {
			kind.need(t)
			if !drill {
				t.Parallel()
			}
			r := newRolling(t, clients, drill)
			if broker == "Redis" {
				r.redis = redistest.Start(t)
			}
			r.run(kind)
		})
	}
}

// rolling are three servers behind a proxy, and their clients.
type rolling struct {
	*proxy
	t       *testing.T
	clients int
	drill   bool
	records string
	redis   string
	secret  string
	env     []string
	signer  *mooncore.Server // of tokens
	nodes   [3]*nodeProcess

	started atomic.Int32 // servers
	joined  atomic.Int32 // members that are connected
	open    atomic.Int32 // posts of members without an answer
	ending  atomic.Bool  // the last events are under way
	ended   atomic.Int32 // members that saw theirs, or joined after it
	events  atomic.Int64
	refused atomic.Int64 // posts that were refused, on connections
	failed  atomic.Bool

	mu        sync.Mutex
	done      map[string]bool // posts that were answered
	stopping  map[int]bool    // numbers of servers
	comebacks map[int][]comeback
	strays    map[int]int // connections that a server closed that was not to stop, or told of a loss that no room has
}

// A comeback is how a member came back.
type comeback struct {
	from                   int           // the number of the server that closed
	wait                   time.Duration // retry_after
	closed, dialed, joined time.Time
}

// A nodeProcess is a server.
type nodeProcess struct {
	number     int
	port, nats string
	cmd        *exec.Cmd
	log        *output
}

func newRolling(t *testing.T, clients int, drill bool) *rolling {
	t.Helper()
	key := newKey(t)
	cfg := new(posts).config()
	cfg.Development, cfg.Logger, cfg.JWT.PrivateKey = true, slog.New(slog.DiscardHandler), mooncore.Secret(key)
	srv, err := mooncore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Shutdown(context.Background()) }) // it served nobody
	r := &rolling{
		t: t, clients: clients, drill: drill, records: filepath.Join(t.TempDir(), "records"), secret: rand.Text(), signer: srv,
		env:  []string{"MOONCORE_ENV=production", "HOST=127.0.0.1", "JWT_PRIVATE_KEY=" + key},
		done: map[string]bool{}, stopping: map[int]bool{}, comebacks: map[int][]comeback{}, strays: map[int]int{},
	}
	for i := range r.nodes {
		r.nodes[i] = &nodeProcess{port: freeport.Port(t), nats: freeport.Addr(t)}
	}
	t.Cleanup(func() {
		for _, n := range r.nodes {
			if n.cmd != nil {
				_ = n.cmd.Process.Kill()
				_ = n.cmd.Wait() // the error is that it was killed, or that it had ended
			}
		}
	})
	return r
}

// fail reports something that must not be. After the first time it only counts: the rest has the same reason.
func (r *rolling) fail(format string, args ...any) {
	if r.failed.Swap(true) {
		r.t.Fail()
		return
	}
	r.t.Errorf(format, args...)
}

// start starts servers, and waits until they are ready.
func (r *rolling) start(nodes ...*nodeProcess) {
	r.t.Helper()
	for _, n := range nodes {
		r.launch(n)
	}
	for _, n := range nodes {
		awaitReady(r.t, "http://127.0.0.1:"+n.port, n.log)
	}
}

func (r *rolling) launch(n *nodeProcess) {
	r.t.Helper()
	n.number, n.log = int(r.started.Add(1)), new(output)
	conf := node{Number: n.number, Records: r.records, Redis: r.redis, Secret: r.secret, NATS: n.nats}
	for _, other := range r.nodes {
		conf.Peers = append(conf.Peers, other.nats)
	}
	text, err := json.Marshal(conf)
	if err != nil {
		r.t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	n.cmd = exec.Command(program)
	n.cmd.Env = append([]string{nodeEnv + "=" + string(text), "PORT=" + n.port}, r.env...)
	n.cmd.Stderr = n.log
	if err := n.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
}

// restart stops a server as a deployment does, and starts it again.
func (r *rolling) restart(n *nodeProcess) {
	r.mu.Lock()
	r.stopping[n.number] = true
	r.mu.Unlock()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	if err := n.cmd.Wait(); err != nil {
		r.t.Errorf("server %d did not stop cleanly: %v\n%s", n.number, err, n.log)
	}
	r.start(n)
}

func (r *rolling) run(kind proxyKind) {
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	together := 1
	if r.redis == "" {
		together = len(r.nodes) // two must be there for history to be kept
	}
	r.start(r.nodes[:together]...)
	r.proxy = kind.start(r.t, r.nodes[0].port, r.nodes[1].port, r.nodes[2].port)
	defer func() {
		if r.t.Failed() {
			log := r.log.String()
			r.t.Logf("the end of the proxy's log:\n%s", log[max(0, len(log)-10_000):])
		}
	}()
	var connected sync.WaitGroup
	defer connected.Wait()
	defer cancel()
	members := r.connect(ctx, &connected)
	r.await("all are connected", func() bool { return int(r.joined.Load()) == r.clients })
	r.start(r.nodes[together:]...)

	stopped := make(chan struct{})
	stop := sync.OnceFunc(func() { close(stopped) })
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	for i := range httpCallers {
		c := r.caller(i)
		load.Go(func() { c.postUntil(stopped) })
	}
	pause := time.Duration(r.clients) * 20 * time.Millisecond // so that members make 100 posts a second
	for _, m := range members {
		load.Go(func() { m.postNowAndThen(ctx, pause, stopped) })
	}
	r.await("calls are answered", func() bool { return r.answers() > 300 })
	for _, n := range r.nodes {
		before := r.answers()
		r.restart(n)
		r.await("calls are answered after a restart", func() bool { return r.answers() > before+100 })
	}
	r.await("all are back", func() bool { return int(r.joined.Load()) == r.clients })
	stop()
	load.Wait()
	r.await("all posts are answered", func() bool { return r.open.Load() == 0 })
	r.ending.Store(true)
	last := r.caller(httpCallers)
	for room := range r.rooms() {
		last.post(fmt.Sprintf("%s%d", endPrefix, room), room)
	}
	last.client.CloseIdleConnections()
	r.await("all got the last event", func() bool { return int(r.ended.Load()) == r.clients })
	cancel()
	connected.Wait()

	r.compare()
	r.report()
}

func (r *rolling) rooms() int { return (r.clients + roomSize - 1) / roomSize }

func roomName(room int) string { return fmt.Sprintf("room-%d", room) }

// connect starts the members.
func (r *rolling) connect(ctx context.Context, running *sync.WaitGroup) (members []*member) {
	addresses := max(r.clients/50, 20) // the proxies send all who come from one address to one server
	clients := make([]*http.Client, addresses)
	for i := range clients {
		clients[i] = r.client(1 + i)
		clients[i].Timeout = 0 // it would end connections, too
	}
	first := make(chan struct{}, 64)
	for i := range r.clients {
		m := &member{
			r: r, name: fmt.Sprintf("ws%d", i), room: roomName(i / roomSize), client: clients[i%addresses],
			header: http.Header{"Authorization": {r.bearer(fmt.Sprintf("ws%d", i))}, "Origin": {r.base()}}, // as a browser
		}
		members = append(members, m)
		running.Go(func() { m.run(ctx, first) })
	}
	return members
}

func (r *rolling) await(what string, ok func() bool) {
	r.t.Helper()
	patience := time.Minute + time.Duration(r.clients)*10*time.Millisecond
	for end := time.Now().Add(patience); !ok() || r.failed.Load(); time.Sleep(5 * time.Millisecond) { // real time: of other processes
		if r.failed.Load() {
			r.t.FailNow()
		}
		if time.Now().After(end) {
			r.t.Fatalf("not so after %v: %s. %d of %d are connected, %d saw the last event; %d posts wait for an answer",
				patience, what, r.joined.Load(), r.clients, r.ended.Load(), r.open.Load())
		}
	}
}

func (r *rolling) answers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.done)
}

func (r *rolling) answered(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done[id] {
		r.fail("%s was answered twice", id)
	}
	r.done[id] = true
}

// came is called when a member has joined; back says how it came back, if it did.
func (r *rolling) came(back comeback) {
	r.joined.Add(1)
	if back.from == 0 {
		return
	}
	back.joined = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.comebacks[back.from] = append(r.comebacks[back.from], back)
}

// left is called when a server has closed a member's connection.
func (r *rolling) left(back comeback, s *session) {
	if s.joined {
		r.joined.Add(-1)
	}
	if back.wait <= 0 || back.wait > spread {
		r.fail("server %d closed a connection with retry_after %v", back.from, back.wait)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopping[back.from], back.from == 0: // 0: closed before it said which one it is
	case s.refused:
		r.fail("server %d did not let %s join, though it was not to stop", back.from, s.name)
	default:
		r.strays[back.from]++
	}
}

// stray is called when a server tells a member of a loss.
func (r *rolling) stray(number int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.strays[number]++
}

// bearer is what a user sends to be known.
func (r *rolling) bearer(user string) string {
	token, err := r.signer.Token(mooncore.Identity{User: user, Tenant: "acme"})
	if err != nil {
		r.t.Fatal(err)
	}
	return "Bearer " + token
}

// A caller is a client that calls over HTTP.
type caller struct {
	r      *rolling
	name   string
	bearer string
	client *http.Client
}

func (r *rolling) caller(i int) *caller {
	name := fmt.Sprintf("http%d", i)
	return &caller{r, name, r.bearer(name), r.client(1000 + i)}
}

// postUntil posts until stop is closed.
func (c *caller) postUntil(stop <-chan struct{}) {
	defer c.client.CloseIdleConnections()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Millisecond):
		}
		c.post(fmt.Sprintf("%s-%d", c.name, n), n%c.r.rooms())
	}
}

// post calls the action. Behind a proxy it is never refused.
func (c *caller) post(id string, room int) {
	body := fmt.Sprintf(`{"id":%q,"room":%q}`, id, roomName(room))
	req, err := http.NewRequest("POST", c.r.base()+"/run/post", strings.NewReader(body))
	if err != nil {
		c.r.fail("%v", err)
		return
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {c.bearer}}
	resp, err := c.client.Do(req)
	if err != nil {
		c.r.fail("%s is lost: %v", id, err)
		return
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.r.fail("%s is lost: %s %s (%v)", id, resp.Status, answer, err)
		return
	}
	c.r.answered(id)
}

// compare compares what was done with what was answered.
func (r *rolling) compare() {
	content, err := os.ReadFile(r.records)
	if err != nil {
		r.t.Fatal(err)
	}
	missing := maps.Clone(r.done)
	for id := range strings.Lines(string(content)) {
		if id = strings.TrimSpace(id); !missing[id] {
			r.t.Errorf("%s was done, but nobody got an answer, or it was done twice", id)
		}
		delete(missing, id)
	}
	for id := range missing {
		r.t.Errorf("%s was answered, but not done", id)
	}
}

// report says how clients came back, and judges it: in a drill also the times.
func (r *rolling) report() {
	r.t.Logf("%d posts done and answered, %d sent again; %d events", len(r.done), r.refused.Load(), r.events.Load())
	for number, n := range r.strays {
		text := fmt.Sprintf("server %d closed %d connections, or told them of a loss, though it was not to stop", number, n)
		if r.drill || r.redis != "" {
			r.t.Error(text)
		} else {
			r.t.Log(text) // NATS servers that got no CPU for a while announce losses
		}
	}
	for _, number := range slices.Sorted(maps.Keys(r.comebacks)) {
		all := r.comebacks[number]
		slices.SortFunc(all, func(a, b comeback) int { return a.closed.Compare(b.closed) })
		var waits, arrivals, fromClose, fromDial []time.Duration
		for _, c := range all {
			waits = append(waits, c.wait)
			arrivals = append(arrivals, c.dialed.Sub(all[0].closed))
			fromClose = append(fromClose, c.joined.Sub(c.closed))
			fromDial = append(fromDial, c.joined.Sub(c.dialed))
		}
		late := quantile(fromClose, 0.99)
		r.t.Logf("server %d: %d clients came back; retry_after by second %v, arrivals %v; joined after the close: p50 %v, p99 %v; after they dialed: p50 %v, p99 %v",
			number, len(all), bySecond(waits), bySecond(arrivals), quantile(fromClose, 0.5), late, quantile(fromDial, 0.5), quantile(fromDial, 0.99))
		share := float64(len(all)) / spread.Seconds()
		most := share + 5*math.Sqrt(share) // five times the standard deviation
		if slices.Max(bySecond(waits)) > int(most) {
			r.t.Errorf("server %d: retry_after is not spread: in a second there may be %.0f", number, most)
		}
		if !r.drill {
			continue
		}
		if slices.Max(bySecond(arrivals)) > int(most) {
			r.t.Errorf("server %d: the clients are not spread: in a second there may be %.0f", number, most)
		}
		if late > lateJoin {
			r.t.Errorf("server %d: 1 %% of the clients took more than %v from the close to the answer to their join", number, lateJoin)
		}
	}
}

// bySecond counts durations by their whole seconds.
func bySecond(all []time.Duration) []int {
	counts := make([]int, 1)
	for _, d := range all {
		second := int((d - 1) / time.Second) // 1 to 1000 ms are the first
		for len(counts) <= second {
			counts = append(counts, 0)
		}
		counts[second]++
	}
	return counts
}

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[int(q*float64(len(all)-1))].Round(time.Millisecond)
}
