// Package redisbroker joins servers over Redis.
//
// Redis must be 6 or newer, or a server that speaks the same protocol: a single one, or a primary that sentinels name. In a
// Redis Cluster, the nodes pass messages on at their own pace, so a subscription is not in force everywhere when Subscribe
// returns: use a single server for this.
//
// A primary that became a replica is noticed within a second or two. What was published to it meanwhile, or while there were two
// primaries, reaches only who was connected to it, and nobody is told.
//
// What is kept of a topic ([pubsub.Log]) is a list in Redis. A new epoch begins when that is gone, such as flushed or evicted, and
// whenever the server may have less of it than was appended: after its restart, with whatever persistence, and on a replica that
// becomes the primary. Redis also gives itself a new replication ID when its first replica comes, and an hour after the last one went; an
// epoch ends by that too.
package redisbroker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/bus"
	"github.com/mooncore/mooncore/pubsub/internal/gate"
	"github.com/redis/rueidis"
)

var (
	_ pubsub.Log      = (*Broker)(nil)
	_ pubsub.Reporter = (*Broker)(nil)
)

const (
	probeInterval = time.Second
	silence       = 8 * time.Second // without a probe's return, the connections are given up
	answerTime    = 5 * time.Second // how long a server may take to answer, unless the options say otherwise
	closeTime     = time.Second     // how long Close waits for answers
	chunk         = 500             // topics that are subscribed by one command after a reconnect
)

// A Broker is a [pubsub.Log] over connections of its own. Its methods may be called concurrently.
//
// Publish returns when the server has handed the message to its subscribers; if it fails with anything but [pubsub.ErrAway] or
// [pubsub.ErrClosed], the message may have been sent or not, as with Append. Subscribe waits for a server that is away as long as its context
// does.
type Broker struct {
	client rueidis.Client
	topics *bus.Topics
	link   *bus.Link
	dialed dialed
	rounds rounds

	prefix  string // of a topic's channel
	kept    string // of the key of what is kept of a topic
	probe   string // the channel for this broker's probes
	began   time.Time
	reached chan struct{} // closed when it is up for the first time

	done chan struct{} // closed by Close
	wg   sync.WaitGroup

	calls sync.RWMutex // held for reading by calls under way, for writing at the end

	mu       sync.Mutex
	session  rueidis.DedicatedClient // the connection with the subscriptions; nil while there is none
	channels map[string]struct{}     // what is subscribed, or about to be
}

// Connect is [New] for a URL: redis://user:password@host:6379/0, rediss:// for TLS, or unix:// and a path.
// [rueidis.ParseURL] tells the rest.
func Connect(url string) (*Broker, error) {
	option, err := rueidis.ParseURL(url)
	if err != nil {
		return nil, errors.New("redisbroker: no URL of a Redis server: redis://host:6379 or rediss://host:6379 is expected") // err has the URL, password and all
	}
	return New(option)
}

// New connects to the server that option names, and fails if it doesn't answer. After that, the Broker reconnects for ever, with
// a random delay of up to 2 s, and replays nothing, whatever option says. Option brings addresses, credentials and TLS.
//
// Redis sends a message to the subscribers of all its databases. So that the ones of a cluster don't reach another one's that
// uses another database, the number in SelectDB is part of the channels' names, "mooncore:<number>:". An account must be allowed
// these, and the commands PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PING, HELLO and ROLE. For Append and Read it also needs the keys
// "mooncore:<number>:log:*", and the commands EVAL, EVALSHA, INFO, TIME, LINDEX, LLEN, LRANGE, RPUSH, LPOP, LTRIM, UNLINK, PTTL and
// PEXPIRE.
func New(option rueidis.ClientOption) (*Broker, error) {
	prefix := "mooncore:" + strconv.Itoa(option.SelectDB) + ":"
	b := &Broker{
		link: bus.NewLink(), prefix: prefix + "topic:", kept: prefix + "log:", probe: prefix + "probe:" + rand.Text(), began: time.Now(),
		reached: make(chan struct{}), done: make(chan struct{}), channels: make(map[string]struct{}),
	}
	b.topics = bus.NewTopics(b.open, b.shut)
	b.dialed.through(&option)
	option.DisableCache = true
	option.DisableRetry = true // a message that was sent twice would come twice
	option.ForceSingleClient = option.Sentinel.MasterSet == ""
	option.DisableAutoPipelining, option.AlwaysRESP2, option.SendToReplicas = false, false, nil
	option.PipelineMultiplex, option.BlockingPipeline = -1, -1 // one connection for commands, however many: the one that probes go by
	if option.ClientName == "" {
		option.ClientName = "mooncore"
	}
	if option.ConnWriteTimeout == 0 {
		option.ConnWriteTimeout = answerTime
	}
	client, err := rueidis.NewClient(option)
	if err != nil {
		return nil, fmt.Errorf("redisbroker: %w", err)
	}
	b.client = client
	failed := make(chan error, 1)
	b.wg.Go(func() { b.run(failed) })
	select {
	case <-b.reached:
		return b, nil
	case err := <-failed:
		_ = b.Close() // returns nil
		return nil, fmt.Errorf("redisbroker: %w", err)
	}
}

// run has one session after another, until Close.
func (b *Broker) run(failed chan<- error) {
	defer b.client.Close()
	defer b.dialed.cut()
	for attempt := 1; ; attempt++ {
		up, err := b.serve()
		if up {
			attempt = 1
		}
		select {
		case failed <- err: // taken if it was never up
		default:
		}
		select {
		case <-b.done:
			return
		case <-time.After(bus.Backoff(attempt)):
		}
	}
}

var (
	errSilent  = errors.New("a probe did not come back")
	errReplica = errors.New("the server is a replica: what is published there reaches no other one")
)

// serve subscribes on a new connection and looks after it until it ends. It reports whether messages passed.
func (b *Broker) serve() (up bool, err error) {
	session, release := b.client.Dedicate()
	defer release()
	defer session.Close()
	// First, that nobody begins a call on a new connection; then this, since a server that doesn't answer would hold back Close, and what
	// waits for it.
	defer b.dialed.cut()
	defer b.link.Down()
	probed := make(chan struct{}, 1)
	ended := session.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(m rueidis.PubSubMessage) {
		if m.Channel == b.probe {
			b.returned(m.Message)
			select {
			case probed <- struct{}{}:
			default:
			}
			return
		}
		b.topics.Deliver(m.Channel, []byte(m.Message))
	}})
	cuts := b.link.Cuts()
	if err := b.subscribeAll(session); err != nil {
		return false, err
	}
	defer b.setSession(nil)
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	// A probe may take longer than its context allows: it waits for a connection that somebody else opens.
	sent := make(chan error, 1)
	probe := func() { b.wg.Go(func() { sent <- b.sendProbe() }) }
	sending, came := true, false
	probe()
	for {
		if came && !sending && !up {
			up = true
			b.arrive(cuts)
		}
		select {
		case <-b.done:
			b.drain()
			return up, pubsub.ErrClosed
		case err := <-ended:
			return up, err
		case err := <-sent:
			// The loss of a probe is what it is for, once messages have passed.
			if err != nil && !up || errors.Is(err, errReplica) {
				return up, err
			}
			sending = false
		case <-probed:
			came = true
		case <-ticker.C:
			if !up || b.link.Silent() > silence {
				return up, errSilent
			}
			if !sending {
				sending = true
				probe()
			}
		}
	}
}

// arrive says that messages pass, and that some may be missing if they did before.
func (b *Broker) arrive(cuts uint64) {
	b.topics.LostAll()
	b.link.Up(cuts)
	select {
	case <-b.reached:
	default:
		close(b.reached)
	}
}

// subscribeAll makes the connection the one for subscriptions, and subscribes what there is.
func (b *Broker) subscribeAll(session rueidis.DedicatedClient) error {
	b.mu.Lock()
	b.session = session
	channels := []string{b.probe}
	for name := range b.channels {
		channels = append(channels, name)
	}
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), silence)
	defer cancel()
	for some := range slices.Chunk(channels, chunk) {
		if err := session.Do(ctx, session.B().Subscribe().Channel(some...).Build()).Error(); err != nil {
			b.setSession(nil)
			return err
		}
	}
	return nil
}

func (b *Broker) setSession(session rueidis.DedicatedClient) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session = session
}

// drain lets calls under way come to their end, before the connections are closed.
func (b *Broker) drain() {
	timer := time.AfterFunc(closeTime, b.dialed.cut)
	defer timer.Stop()
	b.calls.Lock() // for ever
}

// sendProbe publishes a message to the broker itself, by another connection than the one that it should come by. It also asks whether
// the server is still the primary: one that becomes a replica may leave connections open.
func (b *Broker) sendProbe() error {
	ctx, cancel := context.WithTimeout(context.Background(), probeInterval)
	defer cancel()
	sent := strconv.FormatInt(int64(time.Since(b.began)), 10)
	results := b.client.DoMulti(ctx, b.client.B().Publish().Channel(b.probe).Message(sent).Build(), b.client.B().Role().Build())
	// An account that must not ask gets no answer.
	if role, err := results[1].ToArray(); err == nil && len(role) > 0 {
		if name, err := role[0].ToString(); err == nil && name != "master" {
			return errReplica
		}
	}
	return results[0].Error()
}

func (b *Broker) returned(sent string) {
	if since, err := strconv.ParseInt(sent, 10, 64); err == nil {
		b.link.Probed(b.began.Add(time.Duration(since)))
	}
}

// Publish implements [pubsub.Broker].
func (b *Broker) Publish(ctx context.Context, topic string, data []byte) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.calls.RUnlock()
	command := b.client.B().Publish().Channel(b.prefix + topic).Message(rueidis.BinaryString(data)).Build()
	return failed(ctx, b.publish(ctx, command))
}

// enter begins a call. Unless it fails, b.calls is to be unlocked afterwards.
func (b *Broker) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.calls.TryRLock() {
		if b.link.IsUp() {
			return nil
		}
		b.calls.RUnlock()
	}
	if b.topics.Closed() {
		return pubsub.ErrClosed
	}
	return pubsub.ErrAway
}

// failed is the error of a call whose command had this one.
func failed(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("redisbroker: %w", err)
}

// Subscribe implements [pubsub.Broker].
func (b *Broker) Subscribe(ctx context.Context, topic string, deliver func(data []byte), lost func()) (func(), error) {
	unsubscribe, err := b.topics.Subscribe(ctx, b.prefix+topic, deliver, lost)
	if err != nil && !errors.Is(err, ctx.Err()) && b.topics.Closed() {
		err = pubsub.ErrClosed
	}
	return unsubscribe, err
}

func (b *Broker) open(ctx context.Context, name string) error {
	if err := b.link.Wait(ctx, b.done); err != nil {
		return err
	}
	for attempts := 1; ; attempts++ {
		err := b.subscribe(ctx, name)
		if err == nil {
			return nil
		}
		if _, refused := rueidis.IsRedisErr(err); refused {
			err = fmt.Errorf("redisbroker: %w", err)
		} else if err = b.link.WaitAgain(ctx, b.done, attempts); err == nil { // the connection is gone
			continue
		}
		b.shut(name)
		return err
	}
}

func (b *Broker) subscribe(ctx context.Context, name string) error {
	b.mu.Lock()
	b.channels[name] = struct{}{}
	session := b.session
	b.mu.Unlock()
	if session == nil {
		return pubsub.ErrAway
	}
	return session.Do(ctx, session.B().Subscribe().Channel(name).Build()).Error()
}

func (b *Broker) shut(name string) {
	b.mu.Lock()
	delete(b.channels, name)
	session := b.session
	b.mu.Unlock()
	if session != nil {
		ctx, cancel := context.WithTimeout(context.Background(), answerTime)
		defer cancel()
		// If it fails, the connection is gone and with it the subscription.
		_ = session.Do(ctx, session.B().Unsubscribe().Channel(name).Build()).Error()
	}
}

// Stats implements [pubsub.Reporter].
func (b *Broker) Stats() pubsub.Stats {
	state := b.link.State()
	return pubsub.Stats{
		Engine: "redis", Up: state.Up, Since: state.Since, RoundTrip: state.RoundTrip, Reconnects: state.Reconnects,
		Subscriptions: b.topics.Len(), Losses: b.topics.Losses(),
	}
}

// Close implements [pubsub.Broker]. It lets calls under way end, for up to a second, and closes the connections.
func (b *Broker) Close() error {
	if !b.topics.Close() {
		return nil
	}
	b.link.Down()
	close(b.done)
	if !gate.InCall() {
		b.wg.Wait()
		b.topics.Wait()
	}
	return nil
}
