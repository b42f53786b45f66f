package historymodel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// A channel is what is known of a channel: what was published to it, and where that stands. Where a bound is uncertain, because
// things happen at the same time, it has both: what is certainly so, and what may be.
type channel struct {
	name    string
	keep    pubsub.Keep // zero: it keeps nothing
	refused bool        // nobody may join it
	budget  int         // bytes of a recovery, at most
	clock   *clock

	mu      sync.Mutex
	sent    []sent   // by number
	largest int      // of their sizes
	epochs  []*epoch // the last is the current one
	members int
	writing sync.Mutex // held by who publishes, where that must be one after the other
	used    time.Time  // when it last had a member, or something was published
}

// A clock orders what happens at the same time.
type clock struct {
	mu sync.Mutex
	n  int64
}

func (c *clock) tick() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

// A sent is one that was published, or is about to be.
type sent struct {
	tick  int64     // when publishing began
	began time.Time // the same
	size  int
	epoch *epoch // where it stands, if that is known; with offset
	at    uint64
	over  bool // publishing ended
	taken bool // without an error
	stray bool // with one, but it may stand somewhere
}

// An epoch is one of a channel's.
type epoch struct {
	name    string    // empty until somebody saw it
	to      time.Time // when it ended, unless it is the current one
	steady  time.Time // from then on all servers know it
	started int       // its top is at most that
	top     uint64    // its top is at least that
	numbers []uint32  // by offset, from 1: what stands there, plus 1; 0 is unknown
	floor   uint64    // what was trimmed on purpose
}

func newChannel(name string, keep pubsub.Keep, budget int, c *clock) *channel {
	ch := &channel{name: name, keep: keep, budget: budget, clock: c, used: time.Now()}
	ch.epochs = []*epoch{{}}
	return ch
}

func (ch *channel) current() *epoch { return ch.epochs[len(ch.epochs)-1] }

// begin notes that a message is about to be published, and returns its number.
func (ch *channel) begin(size int) uint32 {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.used = time.Now()
	ch.current().started++
	ch.largest = max(ch.largest, size)
	ch.sent = append(ch.sent, sent{tick: ch.clock.tick(), began: ch.used, size: size, epoch: nil})
	return uint32(len(ch.sent) - 1)
}

// end notes that publishing ended. If it failed, and nobody saw the message, it stands nowhere, unless that is unsure.
func (ch *channel) end(number uint32, failed, unsure bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	s := &ch.sent[number]
	s.over, s.taken, s.stray = true, !failed, failed && unsure
	if failed && !unsure && s.epoch == nil {
		e := ch.current()
		e.started = max(e.started-1, int(e.top))
	}
}

// place notes where a message stands, as the log says, or a client. It must stand nowhere else, and nothing else there.
func (ch *channel) place(number uint32, at pubsub.Position) error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	e, err := ch.epoch(at.Epoch)
	if err != nil {
		return err
	}
	return ch.placeIn(e, number, at.Offset)
}

// placeNext is place behind everything else, for a message that was accepted by a log that can't be watched.
func (ch *channel) placeNext(number uint32) error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if s := ch.sent[number]; s.epoch != nil { // somebody saw it
		return nil
	}
	return ch.placeIn(ch.current(), number, ch.current().top+1)
}

func (ch *channel) placeIn(e *epoch, number uint32, offset uint64) error {
	at := pubsub.Position{Epoch: e.name, Offset: offset}
	if int(number) >= len(ch.sent) {
		return fmt.Errorf("message %d at %v was never published", number, at)
	}
	s := &ch.sent[number]
	switch {
	case at.Offset == 0 || at.Offset > uint64(e.started):
		return fmt.Errorf("message %d stands at %v, though %d were published", number, at, e.started)
	case s.epoch != nil && (s.epoch != e || s.at != at.Offset):
		return fmt.Errorf("message %d stands at %v and at {%s %d}", number, at, s.epoch.name, s.at)
	}
	for uint64(len(e.numbers)) < at.Offset {
		e.numbers = append(e.numbers, 0)
	}
	if other := e.numbers[at.Offset-1]; other != 0 && other != number+1 {
		return fmt.Errorf("messages %d and %d stand at %v", other-1, number, at)
	}
	e.numbers[at.Offset-1] = number + 1
	e.top = max(e.top, at.Offset)
	s.epoch, s.at = e, at.Offset
	return nil
}

// epoch returns the epoch of a name, which may be a new one.
func (ch *channel) epoch(name string) (*epoch, error) {
	for _, e := range slices.Backward(ch.epochs) {
		if e.name == name {
			return e, nil
		}
	}
	switch e := ch.current(); {
	case name == "":
		return nil, fmt.Errorf("the epoch is empty")
	case e.name == "":
		e.name = name
	case ch.mayRenew():
		ch.renew(name, 0, settle)
	default:
		return nil, fmt.Errorf("epoch %s is new, though %s had no reason to end", name, e.name)
	}
	return ch.current(), nil
}

// mayRenew reports whether the log may have begun a new epoch: nothing is kept any more, or nothing ever was and nobody asked for a minute.
func (ch *channel) mayRenew() bool {
	e := ch.current()
	if e.top == 0 {
		return ch.members == 0 && time.Since(ch.used) > time.Minute
	}
	return ch.gone(e) >= e.top
}

// reset notes that the log forgets the channel now, which all servers know some time later. What is being published then may go into the
// new epoch. The names of the epochs are empty if nobody knows them yet.
func (ch *channel) reset(ended, begun string, settle time.Duration) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if e := ch.current(); e.name == "" {
		e.name = ended
	}
	ch.renew(begun, ch.underWay(), settle)
}

func (ch *channel) renew(name string, started int, settle time.Duration) {
	now := time.Now()
	ch.current().to = now
	ch.epochs = append(ch.epochs, &epoch{name: name, steady: now.Add(settle), started: started})
}

func (ch *channel) underWay() (n int) {
	for i := len(ch.sent) - 1; i >= 0 && i > len(ch.sent)-100; i-- {
		if !ch.sent[i].over && ch.sent[i].epoch == nil {
			n++
		}
	}
	return n
}

// trim notes that the log forgets all but the newest.
func (ch *channel) trim(floor uint64) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	e := ch.current()
	e.floor = max(e.floor, floor)
}

// gone is up to which offset messages may be gone by now.
func (ch *channel) gone(e *epoch) uint64 {
	gone := e.floor
	if n := e.started - ch.keep.Events; n > 0 {
		gone = max(gone, uint64(n))
	}
	old := time.Now().Add(-ch.keep.Age)
	for gone < e.top {
		number := e.numbers[gone]
		if number == 0 || ch.sent[number-1].began.After(old) {
			break
		}
		gone++
	}
	return gone
}

// overhead is what an event costs beyond what the model puts into it, at most.
const overhead = 240

// cost is at most what a client is sent that misses what follows an offset.
func (ch *channel) cost(e *epoch, after uint64) (sum int) {
	for offset := after + 1; offset <= uint64(e.started); offset++ {
		size := ch.largest // of one that nobody has seen yet
		if offset <= uint64(len(e.numbers)) && e.numbers[offset-1] > 0 {
			size = ch.sent[e.numbers[offset-1]-1].size
		}
		if sum += size + overhead; sum > 2*ch.budget {
			break
		}
	}
	return sum
}

// A question is a join, as it was when it was sent.
type question struct {
	since *pubsub.Position
	at    time.Time
	epoch *epoch // the current one then
	top   uint64 // its top, at least
}

func (ch *channel) ask(since *pubsub.Position) question {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return question{since, time.Now(), ch.current(), ch.current().top}
}

// An answer is what is behind the channel in ["joined", c, {…}].
type answer struct {
	Recovered bool   `json:"recovered"`
	Offset    uint64 `json:"offset"`
	Epoch     string `json:"epoch"`
	Reason    string `json:"reason"`
}

func (a answer) position() pubsub.Position { return pubsub.Position{Epoch: a.Epoch, Offset: a.Offset} }

// judge says what is wrong with an answer. Demanded reports whether nothing but a recovery would do.
func (ch *channel) judge(q question, a answer, x excuses) (demanded bool, err error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	fault := func(format string, args ...any) (bool, error) {
		since := "none"
		if q.since != nil {
			since = fmt.Sprintf("%v", *q.since)
		}
		return false, fmt.Errorf("answer %+v to since %s: %s", a, since, fmt.Sprintf(format, args...))
	}
	if a.Recovered != (a.Reason == "") {
		return fault("recovered with a reason, or not, without one")
	}
	switch {
	case ch.refused || a.Reason == "refused":
		if !ch.refused && !x.unavailable && !x.down || a.Reason != "refused" || a.Epoch != "" || a.Offset != 0 {
			return fault("refused: %t", ch.refused)
		}
		return false, nil
	case ch.keep.Events == 0:
		if a != (answer{Reason: "no_history"}) || q.since == nil {
			return fault("the channel keeps nothing")
		}
		return false, nil
	}
	e, err := ch.epoch(a.Epoch)
	if err != nil {
		return fault("%v", err)
	}
	if !e.to.IsZero() && e.to.Before(q.at.Add(-quiet)) {
		return fault("that epoch ended %v before", q.at.Sub(e.to))
	}
	if a.Offset > uint64(e.started) {
		return fault("only %d were published", e.started)
	}
	if q.since == nil {
		if a.Reason != "no_since" {
			return fault("there was no since")
		}
		return false, nil
	}
	gone := ch.gone(e)
	steady := e == ch.current() && q.epoch == e && !q.at.Before(e.steady)
	demanded = steady && !x.any() && !ch.mayRenew() && q.since.Epoch == e.name && q.since.Offset <= q.top && q.since.Offset >= gone &&
		ch.cost(e, q.since.Offset) < ch.budget
	switch {
	case a.Recovered:
		if q.since.Epoch != a.Epoch || q.since.Offset > a.Offset {
			return fault("it can't be")
		}
		return demanded, nil
	case demanded:
		return fault("it can be recovered: the top is %d to %d, what is gone ends at %d", q.top, e.started, gone)
	}
	so := false
	// While what it reads is old, a server finds out late that there is no hope. It takes a while to be sure that an epoch ended, too.
	ended := q.since.Epoch == e.name && e != ch.current()
	hopeless := ended || q.since.Epoch == e.name && (q.since.Offset < gone || ch.cost(e, q.since.Offset) >= ch.budget)
	switch a.Reason {
	case "epoch":
		so = q.since.Epoch != e.name && (x.any() || x.late || !ch.isNewer(q.since.Epoch, e.name))
	case "ahead":
		so = q.since.Epoch == e.name && (q.since.Offset > q.top || x.lag || x.unavailable || x.late && hopeless)
	case "trimmed":
		so = q.since.Epoch == e.name && q.since.Offset < gone
	case "too_large":
		so = q.since.Epoch == e.name && ch.cost(e, q.since.Offset) >= ch.budget
	case "unavailable":
		so = x.unavailable || x.lag || x.late && hopeless || ended
	}
	if !so {
		return fault("that is not so (%+v): the epoch is %s, the top is %d to %d, what is gone ends at %d", x, e.name, q.top, e.started, gone)
	}
	return false, nil
}

// together is how long a server takes for what it reads at once, at most.
const together = 2 * time.Second

// mayLose reports whether a server may give up on what follows a position: the epoch has ended, or it is behind, and what it missed is gone,
// or too much, with what the server may have read and sent just before.
func (ch *channel) mayLose(at pubsub.Position, behind bool) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	e := ch.current()
	switch {
	case at.Epoch != e.name:
		return true
	case !behind:
		return false
	case at.Offset < ch.gone(e):
		return true
	}
	after, lately := at.Offset, time.Now().Add(-together)
	for after > 0 && e.numbers[after-1] > 0 && ch.sent[e.numbers[after-1]-1].began.After(lately) {
		after--
	}
	return ch.cost(e, after) >= ch.budget
}

// former is a position in an epoch that has ended, or in the current one.
func (ch *channel) former(random *rand.Rand) *pubsub.Position {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	e := ch.epochs[random.IntN(len(ch.epochs))]
	return &pubsub.Position{Epoch: e.name, Offset: random.Uint64N(e.top + 1)}
}

// String is the current state.
func (ch *channel) String() string {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	e := ch.current()
	return fmt.Sprintf("epoch %d, %q, the top is %d to %d, what is gone ends at %d", len(ch.epochs), e.name, e.top, e.started, ch.gone(e))
}

// newer reports whether an epoch began after another one.
func (ch *channel) newer(name, than string) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.isNewer(name, than)
}

func (ch *channel) isNewer(name, than string) bool {
	for _, e := range slices.Backward(ch.epochs) {
		switch e.name {
		case than:
			return false
		case name:
			return true
		}
	}
	return false
}

// enter and leave count members, as clients see them.
func (ch *channel) enter() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.members++
}

func (ch *channel) leave() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.members--
	ch.used = time.Now()
}

// where returns where a message stands, and the one before it, which may be of an epoch before.
func (ch *channel) where(number uint32) (at pubsub.Position, before sent, ok bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if int(number) >= len(ch.sent) || ch.sent[number].epoch == nil {
		return at, before, false
	}
	s := ch.sent[number]
	at = pubsub.Position{Epoch: s.epoch.name, Offset: s.at}
	numbers := s.epoch.numbers[:s.at-1]
	for i := slices.Index(ch.epochs, s.epoch); len(numbers) == 0 && i > 0; {
		i--
		numbers = ch.epochs[i].numbers
	}
	if n := len(numbers); n > 0 && numbers[n-1] > 0 {
		before = ch.sent[numbers[n-1]-1]
	}
	return at, before, true
}

// A target is where a channel stands, and when what stands there was published.
type target struct {
	pubsub.Position
	tick int64
}

func (ch *channel) target() target {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	e := ch.current()
	to := target{Position: pubsub.Position{Epoch: e.name, Offset: e.top}}
	if e.top > 0 && e.numbers[e.top-1] > 0 {
		to.tick = ch.sent[e.numbers[e.top-1]-1].tick
	}
	return to
}

// audit says what is wrong at the end, when nothing is under way: messages that stand nowhere although they were accepted, holes.
func (ch *channel) audit() error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	strays := 0
	for number, s := range ch.sent {
		switch {
		case s.epoch != nil || ch.keep.Events == 0:
		case s.taken:
			return fmt.Errorf("channel %s: message %d was accepted and stands nowhere", ch.name, number)
		case s.stray:
			strays++
		}
	}
	for _, e := range ch.epochs {
		for i, number := range e.numbers {
			if number == 0 {
				strays--
			}
			if strays < 0 {
				return fmt.Errorf("channel %s: nothing stands at {%s %d}, though the top is %d", ch.name, e.name, i+1, e.top)
			}
		}
	}
	return nil
}
