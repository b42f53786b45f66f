package mooncore

import (
	"context"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/mooncore/mooncore/internal/strictjson"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/registry"
	"github.com/mooncore/mooncore/ws"
)

const (
	catchUpTime = 10 * time.Second // for how long what was missed next is looked for, beside waiting for a turn to read
	feedLook    = 50 * time.Second // between looks after a quiet feed, at most: epochs are kept for a minute
	recentTime  = 5 * time.Second  // for how long what came lately is remembered after the last join
	firstPause  = 100 * time.Millisecond
	longPause   = time.Second
	onTheWay    = 250 * time.Millisecond // how long what the log has already may take to come

	frameCost = 64 // what a frame costs beyond its payload
)

// A feed delivers the events of a channel with History to its members on this server, in order, and each once. It knows the position
// of the last one, so that nothing is missing unnoticed, and reads from the log what is.
//
// Locks are taken in this order: Conn.mu, feed.mu, history.mu and those of the registry.
type feed struct {
	history *history
	topic   string
	pool    *pool
	tenant  string
	ch      registry.Channel
	keep    pubsub.Keep
	ctx     context.Context // ends with the last member
	cancel  context.CancelFunc

	holds int // history.mu guards it

	beginning chan struct{} // a mutex: full while somebody subscribes and reads at
	held      bool          // at the hub; beginning guards it
	fetching  chan struct{} // a mutex: full while somebody reads for who joins

	mu       sync.Mutex
	ready    bool            // at is known
	ended    bool            // the last member left
	at       pubsub.Position // of the last event that was delivered
	seen     time.Time       // when the log last showed that at is of its epoch, by a live entry or a read
	answered time.Time       // when the last read that showed it began
	doubt    bool            // events may be missing, as the broker says
	waiting  []pubsub.Entry  // what came and does not follow at, in the order in which it came
	waits    int             // its cost
	timer    *time.Timer     // for the next look
	caught   chan struct{}   // not nil while catchUp runs; closed when it ends
	again    bool            // it must read once more
	restart  []*Conn         // to be closed once mu is free

	// What came lately is remembered while somebody joins, and for a while after: so many clients that come back at once, after a restart,
	// cost few reads.
	joining  int
	joined   time.Time // when the last join ended
	recent   []*feedEvent
	size     int    // its cost
	from     uint64 // the offset before recent; at's if that is empty
	floor    uint64 // who asks for more than what follows this offset, gets nothing
	floorWhy reason
}

func newFeed(h *history, topic string, p *pool, tenant string, ch registry.Channel, keep pubsub.Keep) *feed {
	f := &feed{
		history: h, topic: topic, pool: p, tenant: tenant, ch: ch, keep: keep,
		beginning: make(chan struct{}, 1), fetching: make(chan struct{}, 1),
	}
	f.ctx, f.cancel = context.WithCancel(h.ctx)
	return f
}

// A feedEvent is an event with its position, framed at most once for each kind of client. feed.mu guards it.
type feedEvent struct {
	pubsub.Entry
	channel         string
	plain, position *ws.Prepared
}

func (f *feed) event(e pubsub.Entry) *feedEvent { return &feedEvent{Entry: e, channel: f.ch.Name} }

// frame returns the event as a connection gets it: PROTOCOL.md section 3.
func (e *feedEvent) frame(c *Conn) *ws.Prepared {
	if !c.history {
		if e.plain == nil {
			e.plain = ws.Prepare(ws.Text, e.Data)
		}
		return e.plain
	}
	if e.position == nil {
		b := make([]byte, 0, e.cost())
		b = append(b, e.Data[:len(e.Data)-1]...)
		b = appendPosition(append(b, `,{`...), e.Position)
		b = strictjson.AppendQuote(append(b, `,"channel":`...), e.channel)
		e.position = ws.Prepare(ws.Text, append(b, `}]`...))
	}
	return e.position
}

func appendPosition(b []byte, at pubsub.Position) []byte {
	b = strconv.AppendUint(append(b, `"offset":`...), at.Offset, 10)
	return strictjson.AppendQuote(append(b, `,"epoch":`...), at.Epoch)
}

// cost is what the event counts of a client's queue, about.
func (e *feedEvent) cost() int { return len(e.Data) + len(e.channel) + 2*frameCost }

// begin subscribes and learns where the channel stands. One caller at a time tries.
func (f *feed) begin(ctx context.Context) error {
	select {
	case f.beginning <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-f.beginning }()
	f.mu.Lock()
	ready := f.ready
	f.mu.Unlock()
	if ready {
		return nil
	}
	if !f.held {
		if err := f.history.hub.Hold(ctx, f.topic); err != nil {
			return err
		}
		f.held = true
	}
	page, began, err := f.read(ctx, math.MaxUint64, 1) // no entry is that far
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.unlock()
	f.ready, f.seen, f.answered = true, time.Now(), began
	f.jump(page.Top)
	if came := len(f.waiting); came > 0 {
		f.dropOthers() // an epoch that ended meanwhile, or a newer one, which is read then
		f.doubt = f.doubt || len(f.waiting) < came
	}
	f.timer = time.AfterFunc(f.lookDelay(), f.look)
	if f.drain(); len(f.waiting) > 0 || f.doubt {
		f.startCatchUp()
	}
	return nil
}

// end ends the feed, unless it is held again. It delivers nothing any more before another feed of the topic can begin: that would come
// twice.
func (f *feed) end() {
	f.mu.Lock()
	if !f.history.forget(f) {
		f.mu.Unlock()
		return
	}
	f.ended = true
	if f.timer != nil {
		f.timer.Stop()
	}
	f.mu.Unlock()
	f.cancel()
	if f.held { // nobody begins any more
		f.history.hub.Release(f.topic)
	}
}

func (f *feed) read(ctx context.Context, after uint64, maxBytes int) (page pubsub.Page, began time.Time, err error) {
	return f.history.read(ctx, f.topic, after, maxBytes, f.keep)
}

// unlock frees mu, and closes the connections that lose left to be closed.
func (f *feed) unlock() {
	leaving := f.restart
	f.restart = nil
	f.mu.Unlock()
	for _, c := range leaving {
		c.restart()
	}
}

// receive takes what the broker delivers. What does not follow waits until what is missing was read.
func (f *feed) receive(e pubsub.Entry) {
	f.mu.Lock()
	defer f.unlock()
	switch {
	case f.ended:
	case f.ready && f.old(e):
	case f.ready && f.follows(e):
		f.seen = time.Now()
		f.deliver(e)
		f.drain()
	default:
		f.wait(e)
		if f.ready {
			f.startCatchUp()
		}
	}
}

// isEvent reports whether data can be an event, to which a position can be added.
func isEvent(data []byte) bool { return len(data) > 2 && data[0] == '[' && data[len(data)-1] == ']' }

// old reports whether an entry was delivered, or is not to be.
func (f *feed) old(e pubsub.Entry) bool { return e.Epoch == f.at.Epoch && e.Offset <= f.at.Offset }

// follows reports whether an entry is the next one. The first of another epoch never is, not even where nothing came before: what the
// old epoch had may be gone, and the broker need not have said so yet.
func (f *feed) follows(e pubsub.Entry) bool {
	return e.Epoch == f.at.Epoch && e.Offset == f.at.Offset+1
}

// wait keeps an entry until what is missing before it was read. What waits is bounded. mu is held.
func (f *feed) wait(e pubsub.Entry) {
	f.waiting = append(f.waiting, e)
	f.waits += len(e.Data) + frameCost
	if f.waits <= f.history.budget || len(f.waiting) == 1 {
		return
	}
	if !f.ready { // once at is known, these are missing, and will be read
		f.waiting, f.waits = nil, 0
		f.doubt = true
		return
	}
	f.skip(reasonTooLarge)
}

// drain delivers what waited and follows now. mu is held.
func (f *feed) drain() {
	for len(f.waiting) > 0 {
		e := f.waiting[0]
		switch {
		case f.follows(e):
			f.deliver(e)
		case !f.old(e):
			return
		}
		f.waiting[0] = pubsub.Entry{}
		f.waiting = f.waiting[1:]
		f.waits -= len(e.Data) + frameCost
	}
	f.waiting = nil
}

// skip delivers everything that waits, and tells of what is missing before and between. mu is held.
func (f *feed) skip(why reason) {
	for f.drain(); len(f.waiting) > 0; f.drain() {
		e := f.waiting[0]
		f.lose(why)
		f.jump(pubsub.Position{Epoch: e.Epoch, Offset: e.Offset - 1})
	}
}

// deliver delivers the entry that follows. One that is no event is lost. mu is held.
func (f *feed) deliver(e pubsub.Entry) {
	now := time.Now()
	f.at = e.Position
	if !isEvent(e.Data) {
		f.history.server.log.Error("broker message ignored", "cause", errMessage)
		f.forget()
		f.lose(reasonUnavailable)
		return
	}
	event := f.event(e)
	if f.remembers(now) {
		f.remember(event)
	} else {
		f.forget()
	}
	nano := now.UnixNano()
	n := f.pool.conns.Publish(f.tenant, []registry.Channel{f.ch}, func(c *Conn) {
		if !c.gap.Load() {
			c.deliver(event.frame(c), nano)
		}
	})
	f.history.server.counters.delivered.Add(uint64(n))
}

// jump goes on from another position. mu is held.
func (f *feed) jump(to pubsub.Position) {
	if to.Epoch != f.at.Epoch {
		f.floor = 0
	}
	f.at = to
	f.forget()
}

func (f *feed) remembers(now time.Time) bool { return f.joining > 0 || now.Sub(f.joined) < recentTime }

func (f *feed) forget() { f.recent, f.size, f.from = nil, 0, f.at.Offset }

// remember adds the event that was delivered last. mu is held.
func (f *feed) remember(e *feedEvent) {
	f.recent = append(f.recent, e)
	f.size += e.cost()
	f.bound()
}

// bound forgets the oldest of what is remembered, when it is more than any client may be sent, or than is kept. mu is held.
func (f *feed) bound() {
	for f.size > f.history.budget || len(f.recent) > f.keep.Events {
		why := reasonTooLarge
		if f.size <= f.history.budget {
			why = reasonTrimmed
		}
		f.size -= f.recent[0].cost()
		f.from = f.recent[0].Offset
		f.recent[0] = nil
		f.recent = f.recent[1:]
		f.raise(f.from, why)
	}
}

// raise notes that nobody can get what follows an offset below this one. mu is held.
func (f *feed) raise(floor uint64, why reason) {
	if floor > f.floor {
		f.floor, f.floorWhy = floor, why
	}
}

// lose tells the members that events may be missing, for ever. mu is held.
func (f *feed) lose(why reason) {
	s := f.history.server
	s.counters.lost.Add(1)
	s.log.Warn("events of a channel are lost", "channel", clip(f.ch.Name), "tenant", clip(f.tenant), "cause", why)
	frame := ws.Prepare(ws.Text, lostFrame(f.ch))
	now := time.Now().UnixNano()
	f.pool.conns.Publish(f.tenant, []registry.Channel{f.ch}, func(c *Conn) {
		if c.history {
			c.deliver(frame, now)
		} else {
			c.gap.Store(true)
			f.restart = append(f.restart, c)
		}
	})
}

// lostFrame says that events of a channel may be missing. The channel is named as clients join it; a user's own is "@user".
func lostFrame(ch registry.Channel) []byte {
	name := ch.Name
	if ch.Kind == userKind {
		name = channelLabel(ch)
	}
	return append(strictjson.AppendQuote([]byte(`["lost",`), name), ']')
}

// suspect is told by the broker that entries may be missing.
func (f *feed) suspect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.doubt = true
	if f.ready {
		f.startCatchUp()
	}
}

// lookDelay is jittered: many feeds begin at once.
func (f *feed) lookDelay() time.Duration { return feedLook/2 + rand.N(feedLook/2) }

// look reads the log now and then, while nothing comes: that keeps the epoch, and finds a loss that nobody told of.
func (f *feed) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return
	}
	now := time.Now()
	if !f.remembers(now) {
		f.forget()
	}
	delay := f.lookDelay()
	if rest := delay - now.Sub(f.seen); rest > 0 {
		f.timer.Reset(rest)
		return
	}
	f.timer.Reset(delay)
	f.startCatchUp()
}

// startCatchUp reads what is missing in the background. mu is held.
func (f *feed) startCatchUp() {
	if f.caught != nil {
		f.again = true
		return
	}
	caught := make(chan struct{})
	f.caught = caught
	if f.ended || !f.history.spawn(func() { f.catchUp(caught) }) {
		f.caughtUp()
	}
}

// caughtUp notes that catchUp ended. mu is held.
func (f *feed) caughtUp() {
	close(f.caught)
	f.caught = nil
}
