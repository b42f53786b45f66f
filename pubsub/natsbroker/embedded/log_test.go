package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/faults"
	"github.com/mooncore/mooncore/pubsub/natsbroker"
	"github.com/mooncore/mooncore/pubsub/natsbroker/embedded"
	"github.com/mooncore/mooncore/pubsub/pubsubtest"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var keep = pubsub.Keep{Events: 100, Age: time.Hour}

// keepStream is the stream for it.
const keepStream = "mooncore-log-100-3600"

// TestServerLog runs the suite with one NATS server for all, which keeps files.
func TestServerLog(t *testing.T) {
	t.Parallel()
	nats := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
	pubsubtest.RunLogCluster(t, func(t *testing.T) pubsub.Log { return connect(t, nats.Addr()) })
}

// TestClusterLog runs the suite with a cluster of NATS servers that have three replicas in memory.
func TestClusterLog(t *testing.T) {
	t.Parallel()
	c := newNATSCluster(t, true)
	pubsubtest.RunLogCluster(t, func(t *testing.T) pubsub.Log { return c.log(t) })
}

// TestEmbeddedLog runs the suite with three servers that keep history in memory, and brokers with servers that use it. It is the
// same code once more, but for how it is started: a drill.
func TestEmbeddedLog(t *testing.T) {
	if faults.Rounds(t) == 1 {
		t.Skip("set MOONCORE_TEST_ROUNDS to run it")
	}
	c := newHistoryCluster(t, false)
	pubsubtest.RunLog(t, func(t *testing.T) pubsub.Log { return c.guest(t) })
}

func newLog(t testing.TB, o natsbroker.Options) *natsbroker.Broker {
	t.Helper()
	b, err := natsbroker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// admin returns a client of JetStream that does what an administrator may do.
func admin(t *testing.T, addr string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func mustAppend(t *testing.T, l pubsub.Log, topic, data string, keep pubsub.Keep) pubsub.Position {
	t.Helper()
	at, err := l.Append(t.Context(), topic, []byte(data), keep)
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	return at
}

func mustRead(t *testing.T, l pubsub.Log, topic string, after uint64, keep pubsub.Keep) pubsub.Page {
	t.Helper()
	page, err := l.Read(t.Context(), topic, after, 1<<20, keep)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return page
}

// text returns the data of a page.
func text(page pubsub.Page) string {
	var all []string
	for _, e := range page.Entries {
		all = append(all, string(e.Data))
	}
	return strings.Join(all, " ")
}

// TestServerLogFaults harms the one NATS server, and the way there.
func TestServerLogFaults(t *testing.T) {
	for _, tt := range []struct {
		name         string
		memory, away bool
		begin        func(s stand) (end func())
	}{
		{"Kill", false, true, func(s stand) func() { s.nats.Kill(); return s.nats.Restart }},
		{"KillMemory", true, true, func(s stand) func() { s.nats.Kill(); return s.nats.Restart }},
		{"Freeze", false, true, func(s stand) func() { s.nats.Freeze(); return s.nats.Thaw }},
		{"Cut", false, false, func(s stand) func() { s.proxy.Cut(); return nothing }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
			s := stand{server, faults.NewProxy(t, server.Addr())}
			open := func(t *testing.T) pubsub.Log {
				b, err := natsbroker.New(natsbroker.Options{URL: s.proxy.Addr(), Memory: tt.memory})
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			pubsubtest.RunLogFault(t, open, faults.Rounds(t), pubsubtest.Fault{
				Away: tt.away, Begin: func(*testing.T) func() { return tt.begin(s) },
			})
		})
	}
}

// TestLogLosses takes messages away. No epoch goes on behind a loss, also not by an appender that remembers it, and whose number is
// another message's now.
func TestLogLosses(t *testing.T) {
	stream := func(t *testing.T, js jetstream.JetStream) jetstream.Stream {
		s, err := js.Stream(t.Context(), keepStream)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, tt := range []struct {
		name   string
		memory bool
		lose   func(t *testing.T, server *faults.Process, js jetstream.JetStream) error
	}{
		{"a memory stream after a restart", true, func(_ *testing.T, server *faults.Process, _ jetstream.JetStream) error {
			server.Kill()
			server.Restart()
			return nil
		}},
		{"the stream deleted", false, func(t *testing.T, _ *faults.Process, js jetstream.JetStream) error {
			return js.DeleteStream(t.Context(), keepStream)
		}},
		{"the stream made anew", false, func(t *testing.T, _ *faults.Process, js jetstream.JetStream) error {
			conf := stream(t, js).CachedInfo().Config
			if err := js.DeleteStream(t.Context(), keepStream); err != nil {
				return err
			}
			_, err := js.CreateStream(t.Context(), conf)
			return err
		}},
		{"purge", false, func(t *testing.T, _ *faults.Process, js jetstream.JetStream) error {
			return stream(t, js).Purge(t.Context())
		}},
		{"purge of one topic", false, func(t *testing.T, _ *faults.Process, js jetstream.JetStream) error {
			last, err := stream(t, js).GetLastMsgForSubject(t.Context(), "mooncore.log.>")
			if err != nil {
				return err
			}
			return stream(t, js).Purge(t.Context(), jetstream.WithPurgeSubject(last.Subject))
		}},
		{"the last message", false, func(t *testing.T, _ *faults.Process, js jetstream.JetStream) error {
			return stream(t, js).DeleteMsg(t.Context(), stream(t, js).CachedInfo().State.LastSeq)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
			o := natsbroker.Options{URL: server.Addr(), Memory: tt.memory}
			first, second, fresh := newLog(t, o), newLog(t, o), newLog(t, o)
			var last pubsub.Position
			for i := range 3 {
				last = mustAppend(t, first, "x", fmt.Sprint("old", i), keep)
			}
			if got := mustRead(t, second, "x", 0, keep); got.Top != last { // now it knows the last message too
				t.Fatalf("the top is %+v, want %+v", got.Top, last)
			}
			if err := tt.lose(t, server, admin(t, server.Addr())); err != nil {
				t.Fatal(err)
			}
			// Others have appended as many when the first one, which remembers its last number, does.
			var all []string
			appendSoon := func(l pubsub.Log, data string) (at pubsub.Position) {
				all = append(all, data)
				for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // real time: a server's
					at, err := l.Append(t.Context(), "x", []byte(data), keep)
					if err == nil {
						return at
					}
					if !errors.Is(err, pubsub.ErrAway) || time.Now().After(deadline) {
						t.Fatalf("Append: %v", err)
					}
				}
			}
			began := appendSoon(second, "new0")
			if began.Epoch == last.Epoch || began.Offset != 1 {
				t.Fatalf("behind a loss %+v goes on as %+v", last, began)
			}
			for i, l := range []pubsub.Log{fresh, fresh, first, second, first} {
				at := appendSoon(l, fmt.Sprint("new", i+1))
				if want := (pubsub.Position{Epoch: began.Epoch, Offset: uint64(i + 2)}); at != want {
					t.Fatalf("append %d is at %+v, want %+v", i, at, want)
				}
			}
			for i, l := range []pubsub.Log{first, second, fresh} {
				if got := text(mustRead(t, l, "x", 0, keep)); got != strings.Join(all, " ") {
					t.Errorf("broker %d reads %q, want %q", i, got, all)
				}
			}
		})
	}
}

// TestLogRepublished has messages republished once more, as a new leader may, and others that no broker and no stream sent.
func TestLogRepublished(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
	b := newLog(t, natsbroker.Options{URL: server.Addr()})
	nc := admin(t, server.Addr()).Conn()
	raw, err := nc.SubscribeSync("mooncore.topic.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	came := make(chan string, 100)
	if _, err := b.Subscribe(t.Context(), "x", func(data []byte) {
		e, err := pubsub.ParseEntry(data)
		if err != nil {
			t.Error(err)
		}
		came <- string(e.Data)
	}, func() { t.Error("a loss") }); err != nil {
		t.Fatal(err)
	}
	mustRead(t, b, "x", 0, keep) // a marker, which is republished too
	var last *nats.Msg
	for _, data := range []string{"a", "b", "c"} {
		mustAppend(t, b, "x", data, keep)
	}
	for last == nil || !strings.HasSuffix(string(last.Data), "c") {
		m, err := raw.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		again := &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}
		if m.Header.Get(jetstream.SequenceHeader) == "" {
			continue // a probe of the broker's own
		}
		last = again
		garbage := &nats.Msg{Subject: m.Subject, Header: nats.Header{"X": {"y"}}, Data: m.Data}
		for _, m := range []*nats.Msg{again, garbage, {Subject: m.Subject}, {Subject: m.Subject, Data: []byte{200}}, {Subject: m.Subject, Header: m.Header}} {
			if err := nc.PublishMsg(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if at := mustAppend(t, b, "x", "d", keep); at.Offset != 4 {
		t.Errorf("the fourth message is at %+v", at)
	}
	for _, want := range []string{"a", "b", "c", "d"} {
		if got := <-came; got != want {
			t.Fatalf("%q came, want %q", got, want)
		}
	}
}

// TestLogHole deletes a message in the middle: what stands before it is not read as if nothing were missing.
func TestLogHole(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
	b := newLog(t, natsbroker.Options{URL: server.Addr()})
	for i := range 40 {
		mustAppend(t, b, "x", fmt.Sprint(i+1), keep)
	}
	s, err := admin(t, server.Addr()).Stream(t.Context(), keepStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	page := mustRead(t, b, "x", 3, keep)
	if len(page.Entries) != 30 || page.Entries[0].Offset != 11 || page.Top.Offset != 40 {
		t.Errorf("%d entries from %d to %+v, want 30 from 11 to 40", len(page.Entries), page.Entries[0].Offset, page.Top)
	}
}

// TestLogRefuses has servers on which nothing can be kept.
func TestLogRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		conf serverConfig
		o    natsbroker.Options
		make *jetstream.StreamConfig // beforehand
		keep pubsub.Keep
		want string
	}{
		{"no JetStream", serverConfig{}, natsbroker.Options{}, nil, keep,
			`natsbroker: history needs JetStream, which is not enabled, or the servers that have it are away: put "jetstream {}" into`},
		{"no replicas", serverConfig{Dir: "js"}, natsbroker.Options{Replicas: 3}, nil, keep,
			"natsbroker: stream " + keepStream + ": replicas > 1 not supported in non-clustered mode (error 10074)"},
		{"no space", serverConfig{Dir: "js"}, natsbroker.Options{MaxBytes: 1 << 40}, nil, keep,
			"natsbroker: stream " + keepStream + ": insufficient storage resources available (error 10047)"},
		{"no permission", serverConfig{Dir: "js", Allow: []string{"mooncore.>"}}, natsbroker.Options{}, nil, keep,
			`natsbroker: history needs JetStream: the account must be allowed to publish "$JS.API.>"`},
		{"another stream", serverConfig{Dir: "js"}, natsbroker.Options{},
			&jetstream.StreamConfig{Name: keepStream, Subjects: []string{"mooncore.log.100-3600.*.*"}}, keep,
			"natsbroker: stream " + keepStream + " exists with another republish"},
		{"nothing to keep", serverConfig{Dir: "js"}, natsbroker.Options{}, nil, pubsub.Keep{Age: time.Hour},
			"natsbroker: Events and Age of a Keep must be above 0"},
		{"no time to keep", serverConfig{Dir: "js"}, natsbroker.Options{}, nil, pubsub.Keep{Events: 1},
			"natsbroker: Events and Age of a Keep must be above 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.conf.Dir != "" {
				tt.conf.Dir = t.TempDir()
			}
			tt.conf.Addr = freeport.Addr(t)
			tt.o.URL = natsServer(t, tt.conf).Addr()
			if tt.make != nil {
				if _, err := admin(t, tt.o.URL).CreateStream(t.Context(), *tt.make); err != nil {
					t.Fatal(err)
				}
			}
			b := newLog(t, tt.o)
			if _, err := b.Append(t.Context(), "x", nil, tt.keep); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("Append: error %v, want %q", err, tt.want)
			}
			if _, err := b.Read(t.Context(), "x", 0, 1, tt.keep); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("Read: error %v, want %q", err, tt.want)
			}
			if err := b.Publish(t.Context(), "x", nil); err != nil {
				t.Errorf("Publish: %v", err)
			}
		})
	}
}

// TestLogPermissions has an account that may do what the package's documentation names, and no more.
func TestLogPermissions(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir(), Allow: []string{"mooncore.>", "$JS.API.>"}})
	b := newLog(t, natsbroker.Options{URL: server.Addr()})
	mustAppend(t, b, "x", "a", keep)
	mustAppend(t, b, "x", "b", keep)
	if got := text(mustRead(t, b, "x", 0, keep)); got != "a b" {
		t.Errorf("Read: %q", got)
	}
}

// TestLogMaxBytes fills a stream: what is oldest goes, of whichever topic, and appending goes on.
func TestLogMaxBytes(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
	b := newLog(t, natsbroker.Options{URL: server.Addr(), Memory: true, MaxBytes: 64 << 10})
	data := strings.Repeat("x", 1000)
	quiet := mustAppend(t, b, "quiet", data, keep)
	for range 90 {
		mustAppend(t, b, "busy", data, keep)
	}
	if page := mustRead(t, b, "busy", 0, keep); len(page.Entries) < 30 || len(page.Entries) > 64 || page.Top.Offset != 90 {
		t.Errorf("%d entries up to %+v", len(page.Entries), page.Top)
	}
	if page := mustRead(t, b, "quiet", 0, keep); page.Top.Epoch == quiet.Epoch || len(page.Entries) > 0 {
		t.Errorf("the epoch of a topic of which nothing is left goes on: %+v", page)
	}
}

// TestLogFull has an account whose memory is full: Append fails, and says why; nothing of what it refused is kept.
func TestLogFull(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir(), Memory: 64 << 10})
	b := newLog(t, natsbroker.Options{URL: server.Addr(), Memory: true})
	data := strings.Repeat("x", 1000)
	var last pubsub.Position
	var err error
	for range 90 {
		var at pubsub.Position
		if at, err = b.Append(t.Context(), "x", []byte(data), keep); err != nil {
			break
		}
		last = at
	}
	if err == nil || !strings.Contains(err.Error(), "natsbroker: ") || !strings.Contains(err.Error(), "resource") {
		t.Errorf("error %v", err)
	}
	if page := mustRead(t, b, "x", last.Offset-1, keep); page.Top != last || len(page.Entries) != 1 {
		t.Errorf("the top is %+v, want %+v", page.Top, last)
	}
}

// TestLogKeepChanges has two versions of a program, which keep different amounts of a topic: each has an epoch and offsets of its own,
// and subscribers get the messages of both.
func TestLogKeepChanges(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
	o := natsbroker.Options{URL: server.Addr()}
	before, after := newLog(t, o), newLog(t, o)
	more := pubsub.Keep{Events: 200, Age: keep.Age}
	came := make(chan pubsub.Entry, 10)
	if _, err := before.Subscribe(t.Context(), "x", func(data []byte) {
		e, err := pubsub.ParseEntry(data)
		if err != nil {
			t.Error(err)
		}
		came <- e
	}, func() {}); err != nil {
		t.Fatal(err)
	}
	var want []pubsub.Position
	for i := range 2 {
		want = append(want, mustAppend(t, before, "x", fmt.Sprint("before", i), keep), mustAppend(t, after, "x", fmt.Sprint("after", i), more))
	}
	for i, at := range want {
		if e := <-came; e.Position != at {
			t.Errorf("message %d is at %+v, want %+v", i, e.Position, at)
		}
	}
	if a, b := text(mustRead(t, before, "x", 0, keep)), text(mustRead(t, after, "x", 0, more)); a != "before0 before1" || b != "after0 after1" {
		t.Errorf("what is kept is %q and %q", a, b)
	}
}

// TestLogBegins has many brokers be the first at the same time: one stream comes of it, and one epoch.
func TestLogBegins(t *testing.T) {
	t.Parallel()
	c := newNATSCluster(t, true)
	var logs []pubsub.Log
	for range 6 {
		logs = append(logs, c.log(t))
	}
	for round := range 5 {
		positions := make([]pubsub.Position, len(logs))
		var wg sync.WaitGroup
		for i, l := range logs {
			wg.Go(func() { positions[i] = mustAppend(t, l, fmt.Sprint(round), fmt.Sprint(i), keep) })
		}
		wg.Wait()
		seen := map[uint64]bool{}
		for _, at := range positions {
			seen[at.Offset] = true
			if at.Epoch != positions[0].Epoch || at.Offset == 0 || at.Offset > uint64(len(logs)) {
				t.Errorf("the first messages are at %+v", positions)
			}
		}
		if len(seen) != len(logs) {
			t.Errorf("the first messages are at %+v", positions)
		}
	}
	for _, l := range logs {
		l.Close()
	}
}

// A historyCluster is three servers that keep history, in memory if they have no directories.
type historyCluster struct {
	t     testing.TB
	peers []string
	dirs  []string
	nodes []*embedded.Broker
}

func newHistoryCluster(t testing.TB, files bool) *historyCluster {
	c := &historyCluster{t: t, dirs: make([]string, 3), nodes: make([]*embedded.Broker, 3)}
	for i := range c.nodes {
		c.peers = append(c.peers, freeport.Addr(t))
		if files {
			c.dirs[i] = t.TempDir()
		}
	}
	var wg sync.WaitGroup
	for i := range c.nodes {
		wg.Go(func() { c.start(i) })
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.stop(i)
		}
	})
	return c
}

func (c *historyCluster) start(i int) {
	b, err := embedded.Start(embedded.Options{
		Addr: c.peers[i], Peers: c.peers, History: &embedded.History{Dir: c.dirs[i]}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		c.t.Error(err)
		return
	}
	c.nodes[i] = b
}

// guest starts a server that uses the history of the others.
func (c *historyCluster) guest(t testing.TB) *embedded.Broker {
	t.Helper()
	return start(t, embedded.Options{
		Addr: "127.0.0.1:0", Peers: c.peers, History: &embedded.History{Elsewhere: true}, Logger: slog.New(slog.DiscardHandler),
	})
}

func (c *historyCluster) stop(i int) {
	if b := c.nodes[i]; b != nil {
		if err := b.Close(); err != nil {
			c.t.Error(err)
		}
		c.nodes[i] = nil
	}
}

// A writer appends numbers to a topic by a log, one after another, until it is stopped.
type writer struct {
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex
	appended map[pubsub.Position]string // what Append said was appended
	failed   map[string]bool            // of what it did not say that it was not
	last     time.Time                  // when an Append succeeded
	refused  atomic.Int64
}

func write(ctx context.Context, l pubsub.Log, topic, prefix string) *writer {
	w := &writer{stop: make(chan struct{}), appended: map[pubsub.Position]string{}, failed: map[string]bool{}}
	w.done.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-w.stop:
				return
			case <-time.After(time.Millisecond):
			}
			data := fmt.Sprint(prefix, i)
			at, err := l.Append(ctx, topic, []byte(data), pubsub.Keep{Events: 10_000, Age: time.Hour})
			w.mu.Lock()
			switch {
			case err == nil:
				w.appended[at], w.last = data, time.Now()
			case errors.Is(err, pubsub.ErrAway) || errors.Is(err, pubsub.ErrClosed):
				w.refused.Add(1)
			default:
				w.failed[data] = true
			}
			w.mu.Unlock()
		}
	})
	return w
}

// goesOn waits until an Append succeeds that began after the call.
func (w *writer) goesOn(t *testing.T) {
	t.Helper()
	called := time.Now()
	for deadline := called.Add(40 * time.Second); ; time.Sleep(10 * time.Millisecond) { // real time: the servers'
		w.mu.Lock()
		last := w.last
		w.mu.Unlock()
		if last.After(called) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is appended any more")
		}
	}
}

func (w *writer) end() {
	close(w.stop)
	w.done.Wait()
}

// check compares what is kept with what writers know.
func check(t *testing.T, l pubsub.Log, topic string, writers ...*writer) {
	t.Helper()
	kept := map[pubsub.Position]string{}
	keep := pubsub.Keep{Events: 10_000, Age: time.Hour}
	page := mustRead(t, l, topic, 0, keep)
	for page.Top.Offset > uint64(len(kept)) && len(page.Entries) > 0 {
		for _, e := range page.Entries {
			kept[e.Position] = string(e.Data)
		}
		page = mustRead(t, l, topic, uint64(len(kept)), keep)
	}
	if page.Top.Offset != uint64(len(kept)) || len(kept) == 0 {
		t.Fatalf("%d messages are kept, the top is %+v", len(kept), page.Top)
	}
	known := 0
	uncertain := map[string]bool{}
	for _, w := range writers {
		for at, data := range w.appended {
			if kept[at] != data {
				t.Errorf("%q was appended at %+v, where %q is kept; the top is %+v", data, at, kept[at], page.Top)
			}
			known++
			delete(kept, at)
		}
		for data := range w.failed {
			uncertain[data] = true
		}
	}
	for at, data := range kept {
		if !uncertain[data] {
			t.Errorf("%q is kept at %+v, though Append did not say so", data, at)
		}
	}
	t.Logf("%d were appended, %d are kept of %d that failed", known, len(kept), len(uncertain))
}

// TestHistoryRestarts restarts the servers that keep history in memory one after the other, while the others, and a guest, append: nothing
// is lost, the epoch goes on, and who subscribes gets each message once and in order.
func TestHistoryRestarts(t *testing.T) {
	t.Parallel()
	c := newHistoryCluster(t, false)
	const topic = "x"
	var writers []*writer
	var mu sync.Mutex
	follow := func(i int, l pubsub.Log) {
		var last pubsub.Position
		if _, err := l.Subscribe(t.Context(), topic, func(data []byte) {
			e, err := pubsub.ParseEntry(data)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || e.Offset <= last.Offset || last.Epoch != "" && e.Epoch != last.Epoch {
				t.Errorf("node %d got %+v behind %+v, error %v", i, e.Position, last, err)
			}
			last = e.Position
		}, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	guest := c.guest(t)
	defer guest.Close()
	follow(len(c.nodes), guest)
	other := write(t.Context(), guest, topic, "guest-")
	writers = append(writers, other)
	current := make([]*writer, len(c.nodes))
	for i := range c.nodes {
		follow(i, c.nodes[i])
		current[i] = write(t.Context(), c.nodes[i], topic, fmt.Sprint("first", i, "-"))
		writers = append(writers, current[i])
	}
	for i := range c.nodes {
		current[i].end()
		c.stop(i)
		other.goesOn(t)
		current[(i+1)%len(current)].goesOn(t)
		c.start(i)
		if t.Failed() {
			return
		}
		follow(i, c.nodes[i])
		current[i] = write(t.Context(), c.nodes[i], topic, fmt.Sprint("second", i, "-"))
		writers = append(writers, current[i])
		current[i].goesOn(t)
	}
	other.end()
	for _, w := range current {
		w.end()
	}
	for _, l := range append(c.nodes, guest) {
		check(t, l, topic, writers...)
	}
}

// TestHistoryInFiles ends all servers that keep history in files, and starts them again: everything is there, and the epoch goes on.
func TestHistoryInFiles(t *testing.T) {
	t.Parallel()
	c := newHistoryCluster(t, true)
	const topic = "x"
	w := write(t.Context(), c.nodes[0], topic, "first-")
	for range 5 {
		w.goesOn(t)
	}
	w.end()
	for i := range c.nodes {
		c.stop(i)
	}
	var wg sync.WaitGroup
	for i := range c.nodes {
		wg.Go(func() { c.start(i) })
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	second := write(t.Context(), c.nodes[1], topic, "second-")
	second.goesOn(t)
	second.end()
	for _, l := range c.nodes {
		check(t, l, topic, w, second)
	}
}

// TestClusterLogKill kills the server that leads the stream, with what it has in memory: what was appended is there, and after an election
// appending goes on.
func TestClusterLogKill(t *testing.T) {
	t.Parallel()
	c := newNATSCluster(t, true)
	var writers []*writer
	var logs []*natsbroker.Broker
	for i := range c.servers {
		logs = append(logs, c.log(t))
		writers = append(writers, write(t.Context(), logs[i], "x", fmt.Sprint(i, "-")))
	}
	writers[0].goesOn(t)
	js := admin(t, strings.Join([]string{c.servers[0].Addr(), c.servers[1].Addr(), c.servers[2].Addr()}, ","))
	for range faults.Rounds(t) {
		s, err := js.Stream(t.Context(), "mooncore-log-10000-3600")
		if err != nil {
			t.Fatal(err)
		}
		leader := s.CachedInfo().Cluster.Leader
		for _, server := range c.servers {
			if server.Addr() != leader {
				continue
			}
			server.Kill()
			for _, w := range writers {
				w.goesOn(t)
			}
			server.Restart()
			for _, w := range writers {
				w.goesOn(t)
			}
			c.current(t, js)
		}
	}
	for _, w := range writers {
		w.end()
	}
	for _, l := range logs {
		check(t, l, "x", writers...)
		l.Close()
	}
}

// current waits until all replicas have all there is.
func (c *natsCluster) current(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(10 * time.Millisecond) { // real time: the servers'
		s, err := js.Stream(t.Context(), "mooncore-log-10000-3600")
		behind := err != nil
		if err == nil {
			for _, replica := range s.CachedInfo().Cluster.Replicas {
				behind = behind || !replica.Current || replica.Offline
			}
		}
		if !behind {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a replica stays behind: %v", err)
		}
	}
}
