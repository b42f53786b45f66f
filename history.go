package mooncore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/registry"
)

// History says how much of a [Channel] is kept. [Config].Broker keeps it; without one the server does, in memory, and forgets it
// when it ends.
type History struct {
	// Events are how many, the latest, 1 to 10,000. Default 0: none.
	Events int

	// Age is how old they get, 1 s to 7 days. Default 1 h.
	Age time.Duration
}

const (
	maxHistoryEvents  = 10_000
	defaultHistoryAge = time.Hour
	maxHistoryAge     = 7 * 24 * time.Hour
)

// maxReads is how many reads of the log run at a time.
const maxReads = 64

// readTimeout bounds one.
const readTimeout = 2 * time.Second

// check adds the faults of a channel's History.
func (h History) check(cfg *Config, at string, faults *faultList) {
	if h == (History{}) {
		return
	}
	if h.Events < 1 || h.Events > maxHistoryEvents {
		faults.add(at+".Events", "%d is not 1 to %d", h.Events, maxHistoryEvents)
	}
	if h.Age != 0 && (h.Age < time.Second || h.Age > maxHistoryAge) {
		faults.add(at+".Age", "%v is not 1s to 168h, or 0 for 1h", h.Age)
	}
	if _, ok := cfg.Broker.(pubsub.Log); cfg.Broker != nil && !ok {
		faults.add(at, "Config.Broker, a %T, keeps nothing: it must be a pubsub.Log", cfg.Broker)
	}
}

func (h History) keep() pubsub.Keep {
	age := h.Age
	if age == 0 {
		age = defaultHistoryAge
	}
	return pubsub.Keep{Events: h.Events, Age: age}
}

// history is what a server has to do with the channels that keep events: it appends to the log, and has a feed of each channel with a
// member here.
type history struct {
	server *Server
	log    pubsub.Log
	hub    *pubsub.Hub // on log
	budget int         // bytes that a client may be sent at once, beside what waits for it already
	reads  chan struct{}
	ctx    context.Context // ends with the server
	cancel context.CancelFunc

	mu      sync.RWMutex
	closed  bool
	feeds   map[string]*feed // by topic
	workers sync.WaitGroup   // Add with mu held, unless closed
}

// newHistory returns nil if no channel has History. Its hub is still missing.
func newHistory(s *Server) *history {
	for _, a := range s.apps {
		for i := range a.channels {
			if a.channels[i].History.Events > 0 {
				h := &history{server: s, budget: s.cfg.Limits.SendBytes / 2, reads: make(chan struct{}, maxReads), feeds: map[string]*feed{}}
				h.ctx, h.cancel = context.WithCancel(context.Background())
				return h
			}
		}
	}
	return nil
}

// open gives the history a log: the cluster's, or one of its own.
func (h *history) open(b pubsub.Broker, hub *pubsub.Hub) {
	if hub != nil {
		h.log, h.hub = b.(pubsub.Log), hub // New has checked it
		return
	}
	local := pubsub.NewLocal()
	h.log, h.hub = local, pubsub.NewHub(local, pubsub.HubOptions{Deliver: h.receive, Lost: h.lost, Logger: h.server.log})
}

// historyOf returns what is kept of a channel. It depends on the name alone, so that all who publish to a channel agree: the first app
// that declares it with History decides.
func (s *Server) historyOf(ch registry.Channel) (keep pubsub.Keep, ok bool) {
	if s.history == nil || ch.Kind != roomKind || ch == pendingChannel {
		return pubsub.Keep{}, false
	}
	for _, a := range s.apps {
		if declared := a.channel(ch.Name); declared != nil && declared.History.Events > 0 {
			return declared.History.keep(), true
		}
	}
	return pubsub.Keep{}, false
}

// checkAlone refuses a channel with History among several receivers: its events have positions, which the others have not.
func (s *Server) checkAlone(channels []registry.Channel) error {
	for _, ch := range channels {
		if _, ok := s.historyOf(ch); ok {
			return Errorf(CodeInvalidArgument, "channel %q has History: publish to it alone, without other receivers", ch.Name)
		}
	}
	return nil
}

// The topics of the log.
var logPrefix = pubsub.Topic("mooncore", "log")

func logTopic(pool, tenant string, ch registry.Channel) string {
	return logPrefix + pubsub.Topic(pool, tenant, string(rune(ch.Kind)), ch.Name, ch.Scope)
}

// publish appends an event, which comes back by the feeds of all servers, this one's included.
func (h *history) publish(ctx context.Context, p *pool, tenant string, ch registry.Channel, body []byte, keep pubsub.Keep) error {
	if _, err := h.log.Append(ctx, logTopic(p.name, tenant, ch), body, keep); err != nil {
		return brokerError(err)
	}
	h.server.counters.published.Add(1)
	return nil
}

// read reads a page of the log when its turn has come, which was when it began.
func (h *history) read(ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (page pubsub.Page, began time.Time, err error) {
	select {
	case h.reads <- struct{}{}:
	case <-ctx.Done():
		return page, time.Now(), ctx.Err()
	}
	defer func() { <-h.reads }()
	began = time.Now()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	page, err = h.log.Read(ctx, topic, after, maxBytes, keep)
	return page, began, err
}

// hold makes the events of a channel reach its members here, until release. The first hold begins the feed.
func (h *history) hold(ctx context.Context, p *pool, tenant string, ch registry.Channel, keep pubsub.Keep) error {
	topic := logTopic(p.name, tenant, ch)
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return pubsub.ErrClosed
	}
	f := h.feeds[topic]
	if f == nil {
		f = newFeed(h, topic, p, tenant, ch, keep)
		h.feeds[topic] = f
	}
	f.holds++
	h.mu.Unlock()
	err := f.begin(ctx)
	if err != nil {
		h.release(topic)
	}
	return err
}

// release undoes one hold. After the last one, the feed ends.
func (h *history) release(topic string) {
	h.mu.Lock()
	f := h.feeds[topic]
	if f == nil { // not after a hold
		h.mu.Unlock()
		return
	}
	f.holds--
	last := f.holds == 0
	h.mu.Unlock()
	if last {
		f.end()
	}
}

// forget forgets a feed, unless it is held, and reports whether it did.
func (h *history) forget(f *feed) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.holds > 0 || h.feeds[f.topic] != f {
		return false
	}
	delete(h.feeds, f.topic)
	return true
}

func (h *history) feed(topic string) *feed {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.feeds[topic]
}

func (h *history) count() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.feeds)
}

// receive and lost are what the hub calls for topics of the log.
func (h *history) receive(topic string, data []byte) {
	f := h.feed(topic)
	if f == nil {
		return // its last member has left
	}
	e, err := pubsub.ParseEntry(data)
	if err != nil {
		h.server.log.Error("broker message ignored", "cause", err) // the next one does not follow, then
		return
	}
	f.receive(e)
}

func (h *history) lost(topic string) {
	if f := h.feed(topic); f != nil {
		f.suspect()
	}
}

func isLogTopic(topic string) bool { return strings.HasPrefix(topic, logPrefix) }

// spawn runs fn in a goroutine that close waits for. It reports false after close.
func (h *history) spawn(fn func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.workers.Go(func() { guard(h.server.log, "history", fn) })
	return true
}

// close ends what the feeds still do.
func (h *history) close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.workers.Wait()
	if h.hub != nil && h.hub != h.server.hub { // it is nil if New failed before open
		if err := h.hub.Close(); err != nil {
			return fmt.Errorf("mooncore: history: %w", err)
		}
	}
	return nil
}
