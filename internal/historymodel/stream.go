package historymodel

import (
	"fmt"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// settle is how long after a fault its consequences are excused, and quiet how long a loss may go unnoticed that nobody told of.
const (
	settle = 4 * time.Second
	quiet  = 75 * time.Second
)

// excuses are what faults excuse.
type excuses struct {
	unavailable bool // the log did not answer for a while
	lag         bool // what it answered was old, by more than a server waits for
	late        bool // what it answered was old
	behind      bool // live messages did not come, or what was read was not the newest
	lost        bool // for longer than a server tries, or the epoch ended
	refused     bool // the log took no messages
	down        bool // the server ended
}

func (x excuses) any() bool { return x.unavailable || x.lag || x.lost }

// A stream is what a client sees of a channel on one connection, and what must come next.
type stream struct {
	ch     *channel
	plain  bool                          // the connection's events have no positions
	excuse func(since time.Time) excuses // what happened to the server since then
	counts *counts

	joined bool            // it is a member
	began  time.Time       // when it asked to be one
	at     pubsub.Position // of the last event, or where the channel stood
	known  bool            // at is
	loose  bool            // events may be missing next: it was told so
	due    pubsub.Position // what was missed must have come up to here, before the next answer

	plainly []*visit // of a plain connection
}

// A visit is a membership of a plain connection.
type visit struct {
	entered int64 // the tick of the list that the channel was on first
	numbers []uint32
}

// counts are what a run did.
type counts struct {
	cuts, refusals, slow, joins, recovered, demanded, missed, events, lost, reached int

	reasons map[string]int
}

func (s *stream) fault(format string, args ...any) error {
	return fmt.Errorf("channel %s, at %v: %s", s.ch.name, s.at, fmt.Sprintf(format, args...))
}

// ask is a join that is about to be sent.
func (s *stream) ask(since *pubsub.Position) question {
	s.counts.joins++
	return s.ch.ask(since)
}

// positioned reports whether a join is answered by ["joined", …] too.
func (s *stream) positioned(q question) bool {
	return !s.plain && (s.ch.keep.Events > 0 || q.since != nil)
}

// listed notes the list that answers a join, and whether the channel is on it.
func (s *stream) listed(q question, on bool) error {
	if x := s.excuse(q.at); on == s.ch.refused && (on || !x.unavailable && !x.down) {
		return s.fault("on the list after a join: %t", on)
	}
	if on && !s.joined {
		s.joined, s.began = true, q.at
		s.plainly = append(s.plainly, &visit{entered: s.ch.clock.tick()})
		s.ch.enter()
	}
	return nil
}

// left notes the list that answers a leave.
func (s *stream) left(on bool) error {
	if on {
		return s.fault("on the list after a leave")
	}
	s.end()
	return nil
}

// end notes that the membership or the connection ended.
func (s *stream) end() {
	if s.joined {
		s.ch.leave()
	}
	s.joined, s.known, s.loose, s.due = false, false, false, pubsub.Position{}
}

// answered notes ["joined", c, {…}], which answers a join.
func (s *stream) answered(q question, a answer) error {
	demanded, err := s.ch.judge(q, a, s.excuse(q.at))
	if err != nil {
		return s.fault("%v", err)
	}
	if a.Epoch == "" { // the channel keeps nothing, or it is refused
		if a.Reason == "refused" && s.joined && !s.excuse(q.at).down {
			return s.fault("refused, but on the list")
		}
		return nil
	}
	if s.known && !s.loose && a.position() != s.at && (a.Offset > 0 || s.at.Offset > 0) {
		return s.fault("it stands at %v, and sent no event since", a.position())
	}
	s.known, s.loose, s.due = true, false, pubsub.Position{}
	if !a.Recovered {
		s.counts.reasons[a.Reason]++
		s.at = a.position()
		return nil
	}
	if demanded {
		s.counts.demanded++
	}
	s.counts.recovered++
	s.counts.missed += int(a.Offset - q.since.Offset)
	s.at, s.due = *q.since, a.position()
	return nil
}

// event notes an event with a position.
func (s *stream) event(number uint32, at pubsub.Position) error {
	s.counts.events++
	switch {
	case s.plain || s.ch.keep.Events == 0:
		return s.fault("an event with a position, %v", at)
	case !s.joined || !s.known:
		return s.fault("an event at %v before the join was answered", at)
	case at.Epoch == s.at.Epoch && at.Offset == s.at.Offset+1:
	case s.loose && (at.Epoch != s.at.Epoch || at.Offset > s.at.Offset):
	default:
		return s.fault("the next event is at %v", at)
	}
	if err := s.ch.place(number, at); err != nil {
		return s.fault("%v", err)
	}
	// A server that reads what is very old has to believe it.
	if at.Epoch != s.at.Epoch && !s.ch.newer(at.Epoch, s.at.Epoch) && !s.excuse(time.Now()).lag {
		return s.fault("the next event is at %v, of an earlier epoch", at)
	}
	s.at, s.loose = at, false
	return nil
}

// bare notes an event without a position.
func (s *stream) bare(number uint32) error {
	s.counts.events++
	switch {
	case !s.plain && s.ch.keep.Events > 0:
		return s.fault("event %d has no position", number)
	case !s.joined:
		return s.fault("event %d came, but it is no member", number)
	}
	if s.plain && s.ch.keep.Events > 0 {
		v := s.plainly[len(s.plainly)-1]
		v.numbers = append(v.numbers, number)
	}
	return nil
}

// lost notes ["lost", c].
func (s *stream) lost() error {
	s.counts.lost++
	if s.plain || !s.joined {
		return s.fault("lost, which it is not to be told")
	}
	x := s.excuse(time.Now())
	if !x.lost && !(s.known && s.ch.mayLose(s.at, x.behind)) {
		return s.fault("lost, though it could have been read (%+v): %s", x, s.ch)
	}
	s.loose = true
	s.due = pubsub.Position{}
	return nil
}

// recovered checks that what was missed has come. It comes before the answer to a later command.
func (s *stream) recovered() error {
	if s.known && !s.loose && s.due.Epoch == s.at.Epoch && s.at.Offset < s.due.Offset {
		return s.fault("recovered up to %v, but that did not come", s.due)
	}
	return nil
}

// reached reports whether what a channel had came, up to a target. A plain connection need not get what may be from before its join.
func (s *stream) reached(to target) bool {
	at := s.at
	if s.plain {
		v := s.plainly[len(s.plainly)-1]
		if to.tick < v.entered {
			return true
		}
		at = pubsub.Position{}
		if n := len(v.numbers); n > 0 {
			at, _, _ = s.ch.where(v.numbers[n-1])
		}
	}
	if at.Epoch == to.Epoch {
		return at.Offset >= to.Offset
	}
	return at.Epoch != "" && s.ch.newer(at.Epoch, to.Epoch)
}

// settled checks what came without positions.
func (s *stream) settled() error {
	for _, v := range s.plainly {
		if err := s.visited(v); err != nil {
			return err
		}
	}
	return nil
}

// visited checks what came in a membership: one after the other, without a hole, from the first message on that was published after the join was
// answered. When an epoch ends behind one that came, the connection is closed. It waits until the log has said where all of it stands.
func (s *stream) visited(v *visit) error {
	var last pubsub.Position
	for i, number := range v.numbers {
		at, before, ok := s.ch.where(number)
		for wait := 0; !ok && wait < 1000; wait++ {
			time.Sleep(10 * time.Millisecond)
			at, before, ok = s.ch.where(number)
		}
		switch {
		case !ok:
			return s.fault("event %d stands nowhere", number)
		case i == 0 && before.tick > v.entered:
			return s.fault("the first event is %d at %v, but the one before it was published after the join", number, at)
		case i > 0 && at != pubsub.Position{Epoch: last.Epoch, Offset: last.Offset + 1}:
			return s.fault("event %d is at %v, behind %v", number, at, last)
		}
		last = at
	}
	return nil
}
