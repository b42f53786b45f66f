package natsbroker

import (
	"cmp"
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/nats-io/nats.go"
)

// In a cluster of NATS servers, a broker sees only that its own server is alive. So brokers send each other beats, which are
// numbered: one that is missing means that the way between two servers was cut, and with it other messages. And a new
// subscription is in force only when the other servers have heard of it. What a broker sends after it reaches them after it, so
// one broker on each of them is asked, and answers. Subscribe goes on without one that is silent, be it dead or cut off: then it is
// behind, and asked again once it is heard. With its answer a subscription made meanwhile is in force there too, and is told that it
// may have missed messages: the way between two servers may have stood still for seconds, and lost nothing that would show.

const (
	settleTime = 300 * time.Millisecond // how long the others may take to answer a new broker's first beats
	helloTime  = 50 * time.Millisecond  // between these: the way to the others may be new, and lose some
	askTime    = time.Second            // and a question
	askRounds  = 3                      // how often questions are asked until one of each server answers
	liveTime   = 5 * beatInterval       // without a beat for so long, a broker isn't asked
	forgetTime = 24 * time.Hour         // and for so long, it is forgotten
	gapTime    = 2 * beatInterval       // how long the servers may take to tell each other all subscriptions, once they meet again
)

// A message's reply subject says who sent it, and over which of its connections: a server that was frozen, or cut off, may pass
// on what it had taken long after the broker went on by another one. It ends with a number that grows, since two servers may do the
// same: what they had on a connection that was given up may come after what they sent by the next one.

// A beat tells the other brokers that one is there.
type beat struct {
	ID     string `json:"id"`
	Server string `json:"server"` // the NATS server's id
	Epoch  uint64 `json:"epoch"`  // grows when the broker reconnects: beats are numbered anew
	Seq    uint64 `json:"seq"`
	Sent   int64  `json:"sent"`            // by the sender's clock, in nanoseconds since it started
	Hello  bool   `json:"hello,omitempty"` // asks for an answer at once
	Bye    bool   `json:"bye,omitempty"`
	Lost   bool   `json:"lost,omitempty"` // messages of any topic may be missing
}

// A question asks a broker to answer, or is the answer.
type question struct {
	ID     string `json:"id"` // who sends it
	Round  uint64 `json:"round"`
	Answer bool   `json:"answer,omitempty"`
	Idle   bool   `json:"idle,omitempty"` // who answers has published to no topic in its epoch
}

type peer struct {
	server     string
	epoch, seq uint64
	seen       time.Time
	mute       bool // did not answer a question since its last beat
	anew       bool // whatever number its next beat has, that is no gap

	fresh  bool   // it was not known, and has not answered yet
	behind uint64 // the first round that went on without its server; 0 if none did since that last answered
}

// peers are the other brokers, and what they should know.
type peers struct {
	began     time.Time
	elsewhere atomic.Int32 // NATS servers other than ours with a peer

	mu         sync.Mutex
	id         string
	epoch, seq uint64 // of our messages, of our beats
	from       string // the reply subject of our messages
	busy       bool   // one was sent in this epoch
	known      map[string]*peer
	joining    bool      // between restart and joined
	gap        time.Time // when a beat or a message was found missing; zero if none is
	round      uint64
	open       map[string]bool // who has not answered the round yet
	answered   chan struct{}   // closed when none is left
	confirmed  map[string]bool // servers of those who have

	runs      map[string]*run
	runID     uint64
	uncounted bool      // there are more topics than runs
	safe      time.Time // what was published until then is with all servers
}

func (p *peers) init(id string) {
	p.id, p.began, p.known, p.from, p.joining = id, time.Now(), make(map[string]*peer), sender(id, 0), true
	p.runs = make(map[string]*run)
}

// join subscribes to what brokers tell each other.
func (b *Broker) join() error {
	if _, err := b.nc.Subscribe(peersSubject, b.heard); err != nil {
		return err
	}
	_, err := b.nc.Subscribe(peerSubject+b.id, b.asked)
	return err
}

// settle makes the broker known to the others, and returns when its subscriptions are in force on all servers.
func (b *Broker) settle() error {
	if err := b.beat(beat{Hello: true}); err != nil {
		return err
	}
	clustered := b.nc.ConnectedClusterName() != ""
	b.clustered.Store(clustered)
	for end := time.Now().Add(settleTime); clustered && time.Now().Before(end); {
		select {
		case <-time.After(helloTime):
		case <-b.done:
			return pubsub.ErrClosed
		}
		if err := b.beat(beat{Hello: true}); err != nil {
			return err
		}
	}
	return b.synced.Do(context.Background())
}

// beat sends a beat.
func (b *Broker) beat(m beat) error {
	p := &b.peers
	p.mu.Lock()
	defer p.mu.Unlock() // beats go out in their order
	m.ID, m.Server, m.Epoch, m.Seq, m.Sent = b.id, b.nc.ConnectedServerId(), p.epoch, p.seq+1, int64(time.Since(p.began))
	data, err := json.Marshal(m)
	if err == nil {
		err = b.nc.Publish(peersSubject, data)
	}
	if err == nil {
		p.seq++
	}
	return err
}

// heard handles a beat.
func (b *Broker) heard(msg *nats.Msg) {
	var m beat
	if json.Unmarshal(msg.Data, &m) != nil {
		return // from something that is no broker
	}
	p := &b.peers
	if m.ID == b.id {
		sent := p.began.Add(time.Duration(m.Sent))
		b.link.Probed(sent)
		p.returned(sent)
		return
	}
	ours := b.nc.ConnectedServerId()
	b.tellSince(p.note(m, ours))
	gone := p.count(ours)
	if m.Bye {
		gone = append(gone, m.ID)
	}
	if len(gone) > 0 {
		b.forget(gone...)
	}
	if m.Hello {
		_ = b.beat(beat{})        // the next one is as good
		_ = b.put(b.peers.late()) // it may be fresh, and has published nothing yet
	}
}

// sender is the reply subject of a broker's messages.
func sender(id string, epoch uint64) string {
	return fromSubject + id + "." + strconv.FormatUint(epoch, 10)
}

// numbered is the reply subject of a message with a number.
func numbered(from string, number uint64) string { return from + "." + strconv.FormatUint(number, 10) }

// cutNumber is the reverse of numbered. Where there is none, from is "".
func cutNumber(reply string) (from string, number uint64) {
	i := max(strings.LastIndexByte(reply, '.'), 0)
	number, err := strconv.ParseUint(strings.TrimPrefix(reply[i:], "."), 10, 64)
	if err != nil {
		return "", 0
	}
	return reply[:i], number
}

// current returns the reply subject for a message that is sent now, and its epoch.
func (p *peers) current() (from string, epoch uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = true
	return p.from, p.epoch
}

func (p *peers) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.busy
}

// stale reports whether a message with this reply subject was sent over a connection whose successor was heard of.
func (p *peers) stale(from string) bool {
	rest, _ := strings.CutPrefix(from, fromSubject)
	who, number, _ := strings.Cut(rest, ".")
	epoch, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return true // from something that is no broker
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if who == p.id {
		return epoch < p.epoch
	}
	other := p.known[who]
	if other == nil || epoch > other.epoch {
		// The next beat tells the rest.
		next := &peer{epoch: epoch, anew: p.joining, mute: true, seen: time.Now()}
		if other != nil {
			next.anew, next.behind = p.joining || other.anew, other.behind
		}
		p.known[who] = next
		return false
	}
	return epoch < other.epoch
}

// note keeps what a beat of another broker says. The first beat of an epoch is number 1; one that is missing matters when it
// should have come from another server than ours. One that is heard for the first time may have been there for long: its answer tells whether
// that matters. If a broker ends that is behind since a round, note returns that: it will not answer any more.
func (p *peers) note(m beat, ours string) (since uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.known[m.ID]
	if old != nil && m.Epoch < old.epoch {
		return 0
	}
	if m.Bye {
		delete(p.known, m.ID)
		if old == nil {
			return 0
		}
		return old.behind
	}
	now := &peer{server: m.Server, epoch: m.Epoch, seq: m.Seq, seen: time.Now()}
	if old == nil {
		now.fresh = !p.joining && m.Server != ours
	} else {
		now.fresh, now.behind = old.fresh, old.behind
		next := uint64(1)
		if old.epoch == m.Epoch && old.seq > 0 {
			next = old.seq + 1
		}
		if !old.anew && m.Seq != next && m.Server != ours {
			p.found()
		}
	}
	if m.Lost {
		p.found()
	}
	p.known[m.ID] = now
	return 0
}

// missing says that a message is missing.
func (p *peers) missing() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found()
}

// found begins a gap, unless there is one. mu is held.
func (p *peers) found() {
	if p.gap.IsZero() {
		p.gap = time.Now()
	}
}

// gapIsOver reports, once, that something was missing, some time after that was found: one cut shows in many places, and takes
// some time to mend.
func (p *peers) gapIsOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gap.IsZero() || time.Since(p.gap) < gapTime {
		return false
	}
	p.gap = time.Time{}
	return true
}

// restart is for a new connection: beats may have been missed, which is known. The others get ours by another server.
func (p *peers) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch++
	p.from = sender(p.id, p.epoch)
	p.seq, p.gap, p.joining, p.busy = 0, time.Time{}, true, false
	for _, other := range p.known {
		other.anew = true
	}
}

// joined ends what restart began: from now on, no beat may be missed. Who was not heard yet, is behind a gap.
func (p *peers) joined() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.joining = false
	for _, other := range p.known {
		other.anew = false
	}
}

// count finds how many other servers have a peer, and forgets peers that are long gone, which it returns.
func (p *peers) count(server string) (gone []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	servers := map[string]bool{}
	for id, other := range p.known {
		switch {
		case time.Since(other.seen) > forgetTime:
			delete(p.known, id)
			gone = append(gone, id)
		case other.server != server: // a silent one may be cut off, and hear of it later
			servers[other.server] = true
		}
	}
	p.elsewhere.Store(int32(len(servers)))
	return gone
}

func (other *peer) live() bool { return !other.mute && time.Since(other.seen) < liveTime }

// live is how many other brokers were heard lately.
func (p *peers) live() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, other := range p.known {
		if other.live() {
			n++
		}
	}
	return n
}

// sync returns when the subscriptions made so far are in force on all servers, but for those that are behind.
func (b *Broker) sync() error {
	if err := b.flush(); err != nil {
		return err
	}
	if err := b.ask(); err != nil {
		return err
	}
	b.peers.goOn(b.nc.ConnectedServerId())
	return nil
}

// ask has one live broker on each other server answer. One that doesn't is not live until its next beat. In the end it goes on
// without an answer: a broker that only beats must not hold up others.
func (b *Broker) ask() error {
	for range askRounds {
		targets, round, answered := b.peers.question(b.nc.ConnectedServerId())
		if len(targets) == 0 {
			return nil
		}
		if err := b.put(targets, round); err != nil {
			return err
		}
		select {
		case <-answered:
			return nil
		case <-time.After(askTime):
			b.peers.silence(round)
		case <-b.done:
			return nats.ErrConnectionClosed
		}
	}
	return nil
}

// put asks brokers a round's question.
func (b *Broker) put(targets []string, round uint64) error {
	data, err := json.Marshal(question{ID: b.id, Round: round})
	for _, id := range targets {
		if err == nil {
			err = b.nc.Publish(peerSubject+id, data)
		}
	}
	return err
}

// question begins a round of questions: to whom, and what is closed when all have answered.
func (p *peers) question(server string) (targets []string, round uint64, answered <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	byServer := map[string]string{}
	for id, other := range p.known {
		if other.live() && other.server != server {
			byServer[other.server] = id
		}
	}
	p.round++
	p.open, p.answered, p.confirmed = map[string]bool{}, make(chan struct{}), map[string]bool{}
	for _, id := range byServer {
		targets = append(targets, id)
		p.open[id] = true
	}
	return targets, p.round, p.answered
}

// silence ends a round: who did not answer is not asked again until its next beat.
func (p *peers) silence(round uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.round != round {
		return
	}
	for id := range p.open {
		if other := p.known[id]; other != nil {
			other.mute = true
		}
	}
}

// goOn goes on without the servers that did not answer the round.
func (p *peers) goOn(server string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, other := range p.known {
		if other.server != server && !p.confirmed[other.server] && other.behind == 0 {
			other.behind = p.round
		}
	}
}

func (p *peers) lastRound() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.round
}

// late returns who is fresh or behind, and was heard lately, and the round to ask it.
func (p *peers) late() (targets []string, round uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, other := range p.known {
		if (other.fresh || other.behind > 0) && other.live() {
			targets = append(targets, id)
		}
	}
	return targets, p.round
}

// asked handles a question, or the answer to one.
func (b *Broker) asked(msg *nats.Msg) {
	var q question
	if json.Unmarshal(msg.Data, &q) != nil || q.ID == "" {
		return
	}
	if q.Answer {
		b.tellSince(b.peers.answer(q))
		return
	}
	data, err := json.Marshal(question{ID: b.id, Round: q.Round, Answer: true, Idle: b.peers.idle()})
	if err == nil {
		_ = b.nc.Publish(peerSubject+q.ID, data) // who gets no answer asks another
	}
}

// answer handles an answer. It returns the first round that went on without the server it came from, or 0.
func (p *peers) answer(q question) (since uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := p.known[q.ID]
	if q.Round != p.round || from == nil {
		return 0
	}
	if from.fresh {
		from.fresh = false
		if !q.Idle { // its server may not have known our subscriptions
			p.found()
		}
	}
	p.confirmed[from.server] = true
	for _, other := range p.known {
		if other.server == from.server && other.behind > 0 {
			since = min(cmp.Or(since, other.behind), other.behind)
			other.behind = 0
		}
	}
	if p.open[q.ID] {
		delete(p.open, q.ID)
		if len(p.open) == 0 {
			close(p.answered)
		}
	}
	return since
}

// returned is called when our own beat came back, which was sent at a time.
func (p *peers) returned(sent time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.safe = sent.Add(-beatInterval) // by now, the server has handed on what it had taken by then
}
