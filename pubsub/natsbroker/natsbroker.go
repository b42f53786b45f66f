// Package natsbroker joins servers over NATS. Package embedded beneath it brings the NATS server along.
//
// NATS must be 2.2 or newer, one server or a cluster. The subjects are all below "mooncore.": clusters that share a NATS must have
// accounts of their own. An account with permissions must be allowed to publish and subscribe "mooncore.>".
//
// # History
//
// Append and Read need JetStream, on NATS 2.11 or newer; all else goes without. An account with permissions must be allowed to publish
// "$JS.API.>" too. Answers come to inboxes below "mooncore.", unless an option of the client says otherwise.
//
// Each different pair of Events and Age has a stream, "mooncore-log-" and the two numbers, which the first Append or Read makes, in
// files, with three replicas if NATS is a cluster; [Options] say otherwise. One that exists with the same subjects, limits and republishing
// is used as it is, whatever its storage and replicas. It keeps messages for 3 minutes more than Age: Read does not return them then, but goes
// on at their offsets. What is older than Age is told by the clocks of the brokers and of NATS, which should agree to within seconds. What the
// stream keeps, outlives brokers:
//
//   - With three replicas, appending goes on while one of them is away. When the stream's leader dies, Append fails for up to 10 s,
//     with [pubsub.ErrAway] or with an error that says that the message may have been appended.
//   - With one, Append and Read fail while its server is away. Files are there afterwards; from memory nothing is, and a new
//     epoch begins.
//   - NATS writes files to the disk every two minutes, unless its sync_interval is "always". A server that loses power loses what was
//     appended last, and so does a stream when more than half of its replicas do. If a broker is there that knows what the stream has lost, it
//     removes the rest, so that a new epoch begins; but where none does, the epoch goes on, with other messages at the same offsets. Set
//     sync_interval where that matters.
//
// Programs that keep a topic differently, such as two versions of one during a deploy, have different streams: each has epochs of its own, and
// who reads one misses what others append to the other. Subscribers get both. A stream that nobody uses any more empties itself by its age; it
// may be deleted.
package natsbroker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/bus"
	"github.com/mooncore/mooncore/pubsub/internal/gate"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	_ pubsub.Log      = (*Broker)(nil)
	_ pubsub.Reporter = (*Broker)(nil)
)

const (
	answerTime   = 5 * time.Second // how long servers and peers may take to answer
	writeTime    = 3 * time.Second // how long a write may block
	beatInterval = time.Second
	silence      = 8 * time.Second // without a probe's return, the connection is given up
	inboxSize    = 1 << 16         // messages that may wait to be delivered
)

// A Broker is a [pubsub.Broker] over a connection of its own. Its methods may be called concurrently.
//
// Publish returns when a server has taken the message; if it fails with anything but [pubsub.ErrAway], [pubsub.ErrClosed] or
// a message too large, the message may have been sent or not. Subscribe returns when the subscription is known to the servers of all brokers
// that are heard and answer within 3 s, and tells of a loss when one answers later; while the servers are away it waits for them as long as its
// context does.
type Broker struct {
	id     string
	opts   Options
	nc     *nats.Conn
	js     jetstream.JetStream
	topics *bus.Topics
	link   *bus.Link
	peers  peers

	rounds rounds
	synced *bus.Batch // what was written has been handled by the server, and is known to the other servers
	logs   logs

	inbox       chan *nats.Msg
	reconnected chan struct{}
	done        chan struct{} // closed by Close
	ended       chan struct{} // closed when the connection calls nothing any more
	wg          sync.WaitGroup

	dropped   atomic.Uint64
	clustered atomic.Bool // the server is one of several
	denied    atomic.Bool // the account may not publish what history needs

	counting sync.Mutex // a message is numbered, sent and counted together, as others see it
	number   uint64     // of the last one

	mu   sync.Mutex
	subs map[string]*subscription
}

// A subscription is the connection's for a topic. Broker.mu guards it.
type subscription struct {
	*nats.Subscription
	dropped int
	since   time.Time        // when it was in force
	round   uint64           // of questions, by then; 0 before
	flows   map[string]*flow // by broker
	entry   pubsub.Position  // the last one
}

// Options are a Broker's options.
type Options struct {
	// URL is where the NATS servers are: one or more URLs, separated by commas. Required.
	URL string

	// Client brings credentials, TLS and handlers. The Broker has the last word on how to reconnect.
	Client []nats.Option

	// Replicas is how many servers keep a stream: 1, 3 or 5. Default 3 if the server is in a cluster, else 1.
	Replicas int

	// Memory keeps streams in the servers' memory. Default in files.
	Memory bool

	// MaxBytes bounds a stream: what is oldest in it is not kept, whichever channel's. Default 0: only the account's limit, at which
	// Append fails.
	MaxBytes int64
}

func (o *Options) validate() error {
	switch {
	case o.Replicas != 0 && o.Replicas != 1 && o.Replicas != 3 && o.Replicas != 5:
		return errors.New("Replicas: it must be 1, 3 or 5")
	case o.MaxBytes < 0:
		return errors.New("MaxBytes: it must not be negative")
	}
	return checkURL(o.URL)
}

// Connect connects to one of the servers of url, which are separated by commas. It fails if none answers, or if the account
// may not use the subjects. After that, the Broker reconnects for ever with a random delay of up to 2 s, and replays nothing,
// whatever opts say. Opts bring credentials, TLS and handlers; those for disconnects, reconnects, errors and the end are called
// as well as the Broker's own.
func Connect(url string, opts ...nats.Option) (*Broker, error) {
	return New(Options{URL: url, Client: opts})
}

// New is Connect with all options.
func New(o Options) (*Broker, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("natsbroker: %w", err)
	}
	b := &Broker{
		id: rand.Text(), opts: o, link: bus.NewLink(),
		inbox: make(chan *nats.Msg, inboxSize), reconnected: make(chan struct{}, 1), done: make(chan struct{}), ended: make(chan struct{}),
		subs: make(map[string]*subscription),
		logs: logs{streams: make(map[pubsub.Keep]*stream), topics: make(map[string]*logTopic)},
	}
	b.topics = bus.NewTopics(b.open, b.shut)
	b.synced = bus.NewBatch(b.sync)
	b.peers.init(b.id)
	var err error
	if b.nc, err = nats.Connect(o.URL, append(slices.Clip(o.Client), b.options)...); err != nil {
		return nil, fmt.Errorf("natsbroker: %w", err)
	}
	if b.js, err = jetstream.New(b.nc); err != nil { // it asks nothing
		b.nc.Close()
		return nil, fmt.Errorf("natsbroker: %w", err)
	}
	b.wg.Go(b.dispatch)
	if err := b.start(); err != nil {
		_ = b.Close() // returns nil
		return nil, fmt.Errorf("natsbroker: %w", err)
	}
	b.wg.Go(b.watch)
	return b, nil
}

// checkURL finds what the client would refuse with an error that holds the whole URL, password and all.
func checkURL(urls string) error {
	for i, u := range strings.Split(urls, ",") {
		if u = strings.TrimSpace(u); !strings.Contains(u, "://") {
			u = "nats://" + u
		}
		if parsed, err := url.Parse(u); err != nil || parsed.Host == "" {
			return fmt.Errorf("url: number %d is no URL of a server", i+1)
		}
	}
	return nil
}

// options has the last word on the connection's options.
func (b *Broker) options(o *nats.Options) error {
	if o.Name == "" {
		o.Name = "mooncore"
	}
	o.AllowReconnect, o.MaxReconnect, o.IgnoreAuthErrorAbort, o.RetryOnFailedConnect = true, -1, true, false
	o.ReconnectBufSize = -1 // what is published while away fails
	o.CustomReconnectDelayCB = bus.Backoff
	o.NoEcho = false
	o.FlusherTimeout = writeTime
	o.PingInterval, o.MaxPingsOut = silence, 1 // the probe finds a dead connection first
	if o.InboxPrefix == "" {
		o.InboxPrefix = inboxSubject
	}

	disconnected, reconnected, failed, closed := o.DisconnectedErrCB, o.ReconnectedCB, o.AsyncErrorCB, o.ClosedCB
	o.DisconnectedErrCB = func(nc *nats.Conn, err error) {
		b.link.Down()
		if disconnected != nil {
			disconnected(nc, err)
		}
	}
	o.ReconnectedCB = func(nc *nats.Conn) {
		b.denied.Store(false)
		select {
		case b.reconnected <- struct{}{}:
		default:
		}
		if reconnected != nil {
			reconnected(nc)
		}
	}
	o.AsyncErrorCB = func(nc *nats.Conn, sub *nats.Subscription, err error) {
		if sub != nil {
			b.failed(sub)
		} else if errors.Is(err, nats.ErrPermissionViolation) {
			b.denied.Store(true) // of what history needs; Connect has tried the rest
		}
		if failed != nil {
			failed(nc, sub, err)
		}
	}
	o.ClosedCB = func(nc *nats.Conn) {
		if closed != nil {
			closed(nc)
		}
		close(b.ended)
	}
	return nil
}

// failed handles a subscription that dropped messages, or may not be any more.
func (b *Broker) failed(sub *nats.Subscription) {
	b.mu.Lock()
	if s := b.subs[sub.Subject]; s != nil && s.Subscription == sub {
		b.countDropped(s)
	}
	b.mu.Unlock()
	b.topics.Lost(sub.Subject)
}

// countDropped counts what the subscription dropped since the last time, and reports whether it did. Broker.mu is held.
func (b *Broker) countDropped(s *subscription) bool {
	n, err := s.Dropped()
	if err != nil || n <= s.dropped { // an error says that it was closed
		return false
	}
	b.dropped.Add(uint64(n - s.dropped))
	s.dropped = n
	return true
}

// tellDropped tells of messages that were dropped: the client calls failed for the first of several in a row only.
func (b *Broker) tellDropped() {
	var names []string
	b.mu.Lock()
	for name, s := range b.subs {
		if b.countDropped(s) {
			names = append(names, name)
		}
	}
	b.mu.Unlock()
	for _, name := range names {
		b.topics.Lost(name)
	}
}

// start brings the broker into its cluster.
func (b *Broker) start() error {
	probed := make(chan struct{}, 1)
	probe := subject("\x00probe\x00" + b.id) // like a topic's, so that permissions are tried too
	sub, err := b.nc.Subscribe(probe, func(*nats.Msg) {
		select {
		case probed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	if err := b.join(); err != nil {
		return err
	}
	if err := b.nc.Publish(probe, nil); err != nil {
		return err
	}
	select {
	case <-probed:
	case <-time.After(answerTime):
		return errors.New(`a message to itself did not come back: may the account publish and subscribe "mooncore.>"?`)
	}
	if err := sub.Unsubscribe(); err != nil {
		return err
	}
	cuts := b.link.Cuts()
	if err := b.settle(); err != nil {
		return err
	}
	b.peers.joined()
	b.link.Up(cuts)
	return nil
}

// watch reconnects, and looks after the connection, until Close.
func (b *Broker) watch() {
	tick := time.NewTicker(beatInterval)
	defer tick.Stop()
	for {
		select {
		case <-b.done:
			return
		case <-b.reconnected:
			if !b.link.IsUp() { // else check was faster
				b.restore()
			}
		case <-tick.C:
			b.check()
		}
	}
}

// restore brings the link up again, once the subscriptions are in force, and tells them of the gap.
func (b *Broker) restore() {
	cuts := b.link.Cuts()
	b.peers.restart()
	if err := b.settle(); err != nil {
		return // the connection is gone again, or check tries again
	}
	b.peers.joined()
	b.anew()
	b.topics.LostAll()
	if b.link.Up(cuts) {
		b.confess()
	}
}

func (b *Broker) check() {
	switch {
	case b.link.Silent() > silence:
		b.giveUp()
	case !b.link.IsUp() && b.nc.IsConnected():
		b.restore()
	default:
		_ = b.beat(beat{})        // its loss is what the probe is for
		_ = b.put(b.peers.late()) // asked again at the next tick
		b.sendTails()
		b.tellDropped()
		if b.peers.gapIsOver() {
			b.anew()
			b.topics.LostAll()
		}
	}
}

// errCut is for a message that may have been sent or not.
var errCut = errors.New("the connection was lost while publishing")

// flush returns when the server has handled what was written. One that doesn't answer is given up.
func (b *Broker) flush() error {
	err := b.nc.FlushTimeout(answerTime)
	if errors.Is(err, nats.ErrTimeout) {
		b.giveUp()
	}
	return err
}

func (b *Broker) giveUp() {
	b.link.Down()
	_ = b.nc.ForceReconnect() // fails only after Close
}

// Publish implements [pubsub.Broker]. Messages larger than the server's max_payload, 1 MiB unless configured, fail.
func (b *Broker) Publish(ctx context.Context, topic string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch {
	case b.topics.Closed():
		return pubsub.ErrClosed
	case !b.link.IsUp():
		return pubsub.ErrAway
	}
	return b.publish(ctx, subject(topic), data)
}

// Subscribe implements [pubsub.Broker].
func (b *Broker) Subscribe(ctx context.Context, topic string, deliver func(data []byte), lost func()) (func(), error) {
	unsubscribe, err := b.topics.Subscribe(ctx, subject(topic), deliver, lost)
	if err != nil && !errors.Is(err, ctx.Err()) && b.topics.Closed() {
		err = pubsub.ErrClosed
	}
	return unsubscribe, err
}

func (b *Broker) open(ctx context.Context, name string) error {
	if err := b.link.Wait(ctx, b.done); err != nil {
		return err
	}
	sub, err := b.nc.ChanSubscribe(name, b.inbox)
	if err != nil {
		return fmt.Errorf("natsbroker: %w", err)
	}
	s := &subscription{Subscription: sub, since: time.Now(), flows: make(map[string]*flow)}
	b.mu.Lock()
	b.subs[name] = s
	b.mu.Unlock()
	// If the connection is lost, the subscription is made again, and told of the loss, like any other.
	for attempts := 1; b.synced.Do(ctx) != nil; attempts++ {
		if err := b.link.WaitAgain(ctx, b.done, attempts); err != nil {
			b.shut(name)
			return err
		}
	}
	round := b.peers.lastRound()
	b.mu.Lock()
	s.since, s.round = time.Now(), round
	b.mu.Unlock()
	return nil
}

func (b *Broker) shut(name string) {
	b.mu.Lock()
	sub := b.subs[name]
	b.countDropped(sub)
	delete(b.subs, name)
	b.mu.Unlock()
	_ = sub.Unsubscribe() // fails only when the connection is closed
}

// dispatch delivers messages, one at a time.
func (b *Broker) dispatch() {
	for {
		select {
		case <-b.done:
			return
		case m := <-b.inbox:
			b.handle(m)
		}
	}
}

func (b *Broker) handle(m *nats.Msg) {
	if m.Reply == "" {
		b.handleEntry(m)
		return
	}
	from, numbers, isTail := strings.Cut(m.Reply, tailSuffix)
	from, lost := strings.CutSuffix(from, lostSuffix)
	var number uint64
	if !isTail && !lost {
		from, number = cutNumber(from)
	}
	if b.peers.stale(from) {
		return
	}
	b.mu.Lock()
	s := b.subs[m.Subject]
	ours := s != nil && s.Subscription == m.Sub // else it came before the subscription ended
	late := false
	if ours && (isTail || b.clustered.Load()) {
		f := s.flow(from)
		if !isTail && !lost {
			late = f.cameLate(number)
		}
		if late || isTail && f.ended(numbers, s.since) {
			b.peers.missing()
		}
	}
	b.mu.Unlock()
	switch {
	case !ours || late:
	case lost:
		b.topics.Lost(m.Subject)
	case !isTail:
		b.topics.Deliver(m.Subject, m.Data)
	}
}

// handleEntry handles what a stream republished. A new leader may do so again, and late.
func (b *Broker) handleEntry(m *nats.Msg) {
	r, entry, ok := decode(m.Data)
	if !ok {
		return // from something that is no broker
	}
	var err error
	if r.seq, err = strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64); err != nil {
		return
	}
	stem := strings.TrimSuffix(m.Header.Get(jetstream.SubjectHeader), r.Epoch)
	b.logs.came(stem, r)
	if entry == nil {
		return
	}
	b.mu.Lock()
	s := b.subs[m.Subject]
	ours := s != nil && s.Subscription == m.Sub && (s.entry.Epoch != r.Epoch || s.entry.Offset < r.Offset)
	if ours {
		s.entry = r.Position
	}
	b.mu.Unlock()
	if ours {
		b.topics.Deliver(m.Subject, entry)
	}
}

// flow returns what came from a broker by its present connection.
func (s *subscription) flow(from string) *flow {
	id := from[:strings.LastIndexByte(from, '.')]
	f := s.flows[id]
	if f == nil || f.from != from {
		f = &flow{from: from}
		s.flows[id] = f
	}
	return f
}

// anew forgets what came until now: it is known that some is missing.
func (b *Broker) anew() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.subs {
		s.since = time.Now()
		for _, f := range s.flows {
			*f = flow{from: f.from, last: f.last}
		}
	}
}

// tellSince tells the subscriptions made since a round that they may have missed messages. It does nothing if the round is 0.
func (b *Broker) tellSince(round uint64) {
	if round == 0 {
		return
	}
	var names []string
	b.mu.Lock()
	for name, s := range b.subs {
		if s.round >= round {
			names = append(names, name)
		}
	}
	b.mu.Unlock()
	for _, name := range names {
		b.topics.Lost(name)
	}
}

// forget forgets what came from brokers that ended.
func (b *Broker) forget(ids ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.subs {
		for _, id := range ids {
			delete(s.flows, fromSubject+id)
		}
	}
}

// Stats implements [pubsub.Reporter].
func (b *Broker) Stats() pubsub.Stats {
	state := b.link.State()
	return pubsub.Stats{
		Engine: "nats", Up: state.Up, Since: state.Since, RoundTrip: state.RoundTrip, Reconnects: state.Reconnects,
		Subscriptions: b.topics.Len(), Peers: b.peers.live(), Dropped: b.dropped.Load(), Losses: b.topics.Losses(),
	}
}

// Close implements [pubsub.Broker]. It closes the connection.
func (b *Broker) Close() error {
	if !b.topics.Close() {
		return nil
	}
	if b.link.IsUp() && b.beat(beat{Bye: true}) == nil {
		_ = b.nc.FlushTimeout(answerTime / 10) // others find out without it
	}
	b.link.Down()
	b.rounds.close()
	b.synced.Close()
	close(b.done)
	b.nc.Close()
	if !gate.InCall() {
		b.wg.Wait()
		b.rounds.wg.Wait()
		b.topics.Wait()
		b.synced.Wait()
		b.logs.close()
		<-b.ended
	}
	return nil
}
