package historymodel

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// A view is a client's view of a channel, which a test makes up.
type view struct {
	t  *testing.T
	ch *channel
	s  *stream
	x  excuses

	err error // the first that was found
}

const first = "FIRST"

// newView has a channel where twenty messages stand, the first five of which are gone.
func newView(t *testing.T, plain bool) *view {
	v := &view{t: t}
	v.ch = newChannel("c", pubsub.Keep{Events: 15, Age: time.Hour}, 20*(overhead+100), new(clock))
	v.s = &stream{ch: v.ch, plain: plain, excuse: func(time.Time) excuses { return v.x }, counts: &counts{reasons: map[string]int{}}}
	v.publish(20, first)
	return v
}

// publish publishes messages, which stand behind the others.
func (v *view) publish(n int, epoch string) {
	v.t.Helper()
	for range n {
		number := v.ch.begin(50)
		if err := v.ch.place(number, pubsub.Position{Epoch: epoch, Offset: v.ch.current().top + 1}); err != nil {
			v.t.Fatal(err)
		}
		v.ch.end(number, false, false)
	}
}

func (v *view) found(err error) {
	if v.err == nil {
		v.err = err
	}
}

// join asks with since and is answered. An epoch that is empty asks without.
func (v *view) join(epoch string, offset uint64, a answer) {
	var since *pubsub.Position
	if epoch != "" {
		since = &pubsub.Position{Epoch: epoch, Offset: offset}
	}
	q := v.s.ask(since)
	v.found(v.s.listed(q, true))
	if v.s.positioned(q) {
		v.found(v.s.answered(q, a))
	}
}

// got has events come, by their offsets, which are what they say, and one more than their numbers.
func (v *view) got(epoch string, offsets ...uint64) {
	for _, offset := range offsets {
		v.found(v.s.event(uint32(offset-1), pubsub.Position{Epoch: epoch, Offset: offset}))
	}
}

func (v *view) bare(offsets ...uint64) {
	for _, offset := range offsets {
		v.found(v.s.bare(uint32(offset - 1)))
	}
}

func upTo(from, to uint64) (list []uint64) {
	for n := from; n <= to; n++ {
		list = append(list, n)
	}
	return list
}

func yes(epoch string, offset uint64) answer {
	return answer{Recovered: true, Offset: offset, Epoch: epoch}
}
func no(epoch string, offset uint64, reason string) answer {
	return answer{Offset: offset, Epoch: epoch, Reason: reason}
}

// TestStream has the judge of what clients see accept what is right, and find each thing that is not.
func TestStream(t *testing.T) {
	for _, tt := range []struct {
		name  string
		plain bool
		do    func(v *view)
		want  string // "" for nothing
	}{
		// What is right.
		{"recovered", false, func(v *view) { v.join(first, 15, yes(first, 20)); v.got(first, upTo(16, 20)...) }, ""},
		{"recovered, and live events", false, func(v *view) {
			v.join(first, 15, yes(first, 20))
			v.got(first, upTo(16, 20)...)
			v.publish(2, first)
			v.got(first, 21, 22)
		}, ""},
		{"nothing was missed", false, func(v *view) { v.join(first, 20, yes(first, 20)); v.found(v.s.recovered()) }, ""},
		{"no since", false, func(v *view) { v.join("", 0, no(first, 20, "no_since")); v.publish(1, first); v.got(first, 21) }, ""},
		{"another epoch", false, func(v *view) { v.join("OTHER", 3, no(first, 20, "epoch")) }, ""},
		{"ahead", false, func(v *view) { v.join(first, 21, no(first, 20, "ahead")) }, ""},
		{"trimmed", false, func(v *view) { v.join(first, 4, no(first, 20, "trimmed")) }, ""},
		{"trimmed on purpose", false, func(v *view) { v.ch.trim(18); v.join(first, 17, no(first, 20, "trimmed")) }, ""},
		{"too old", false, func(v *view) { time.Sleep(2 * time.Hour); v.join(first, 19, no(first, 20, "trimmed")) }, ""},
		{"too large", false, func(v *view) { v.ch.budget = 10 * overhead; v.join(first, 10, no(first, 20, "too_large")) }, ""},
		{"unavailable in a fault", false, func(v *view) { v.x.unavailable = true; v.join(first, 10, no(first, 20, "unavailable")) }, ""},
		{"ahead of a server that is behind", false, func(v *view) { v.x.lag = true; v.join(first, 19, no(first, 18, "ahead")) }, ""},
		{"ahead of a server that can't read", false, func(v *view) { v.x.unavailable = true; v.join(first, 19, no(first, 18, "ahead")) }, ""},
		{"unavailable, in an epoch that has just ended", false, func(v *view) {
			v.ch.reset(first, "SECOND", settle)
			v.join(first, 21, no(first, 20, "unavailable"))
		}, ""},
		{"asked again", false, func(v *view) {
			v.join(first, 17, yes(first, 20))
			v.got(first, 18, 19, 20)
			v.join(first, 17, yes(first, 20))
			v.got(first, 18, 19, 20)
		}, ""},
		{"lost in a fault, for ever", false, func(v *view) {
			v.join(first, 20, yes(first, 20))
			v.x.behind = true
			v.publish(20, first)
			v.found(v.s.lost())
			v.got(first, 30)
		}, ""},
		{"plain", true, func(v *view) { v.join("", 0, answer{}); v.publish(3, first); v.bare(21, 22, 23) }, ""},
		{"plain, while others publish", true, func(v *view) {
			v.publish(1, first)
			v.join("", 0, answer{})
			v.bare(21)
			v.publish(1, first)
			v.bare(22)
		}, ""},
		{"plain, a new epoch behind an empty one", true, func(v *view) {
			v.join("", 0, answer{})
			v.ch.reset(first, "", settle)
			v.publish(1, "SECOND")
			v.bare(21)
		}, ""},
		{"plain, twice a member", true, func(v *view) {
			v.join("", 0, answer{})
			v.publish(1, first)
			v.bare(21)
			v.found(v.s.left(false))
			v.publish(1, first)
			v.join("", 0, answer{})
			v.publish(1, first)
			v.bare(23)
		}, ""},

		// What is missing, or too much.
		{"the first event is missing", false, func(v *view) { v.join(first, 15, yes(first, 20)); v.got(first, upTo(17, 20)...) }, "the next event is at {FIRST 17}"},
		{"one in the middle", false, func(v *view) { v.join(first, 15, yes(first, 20)); v.got(first, 16, 17, 19) }, "the next event is at {FIRST 19}"},
		{"the last one of those missed", false, func(v *view) {
			v.join(first, 15, yes(first, 20))
			v.got(first, upTo(16, 19)...)
			v.publish(1, first)
			v.got(first, 21)
		}, "the next event is at {FIRST 21}"},
		{"all of those missed", false, func(v *view) { v.join(first, 15, yes(first, 20)); v.found(v.s.recovered()) }, "recovered up to {FIRST 20}, but that did not come"},
		{"one that the client had", false, func(v *view) { v.join(first, 15, yes(first, 20)); v.got(first, 15) }, "the next event is at {FIRST 15}"},
		{"one twice", false, func(v *view) { v.join(first, 15, yes(first, 20)); v.got(first, 16, 16) }, "the next event is at {FIRST 16}"},
		{"two in the other's place", false, func(v *view) { v.join(first, 15, yes(first, 20)); v.got(first, 17) }, "the next event is at {FIRST 17}"},
		{"a live event is missing", false, func(v *view) { v.join("", 0, no(first, 20, "no_since")); v.publish(2, first); v.got(first, 22) }, "the next event is at {FIRST 22}"},
		{"the last event comes again, live", false, func(v *view) { v.join("", 0, no(first, 20, "no_since")); v.got(first, 20) }, "the next event is at {FIRST 20}"},
		{"another message at its position", false, func(v *view) {
			v.join(first, 15, yes(first, 20))
			v.found(v.s.event(16, pubsub.Position{Epoch: first, Offset: 16}))
		}, "message 16 stands at"},
		{"a message that nobody published", false, func(v *view) {
			v.join(first, 20, yes(first, 20))
			v.found(v.s.event(77, pubsub.Position{Epoch: first, Offset: 21}))
		}, "message 77 at {FIRST 21} was never published"},
		{"more than were published", false, func(v *view) {
			v.join(first, 20, yes(first, 20))
			v.found(v.s.event(3, pubsub.Position{Epoch: first, Offset: 21}))
		}, "though 20 were published"},
		{"an event of an epoch that nobody knows", false, func(v *view) {
			v.join(first, 20, yes(first, 20))
			v.found(v.s.event(20, pubsub.Position{Epoch: "OTHER", Offset: 21}))
		}, "the next event is at {OTHER 21}"},
		{"an event before the answer", false, func(v *view) { v.got(first, 20) }, "before the join was answered"},
		{"an event after a leave", false, func(v *view) {
			v.join(first, 20, yes(first, 20))
			v.found(v.s.left(false))
			v.publish(1, first)
			v.got(first, 21)
		}, "before the join was answered"},
		{"on the list after a leave", false, func(v *view) { v.join(first, 20, yes(first, 20)); v.found(v.s.left(true)) }, "on the list after a leave"},
		{"an event without a position", false, func(v *view) { v.join(first, 20, yes(first, 20)); v.publish(1, first); v.bare(21) }, "event 20 has no position"},
		{"a position for a plain client", true, func(v *view) { v.join("", 0, answer{}); v.publish(1, first); v.got(first, 21) }, "an event with a position"},
		{"plain, one missing", true, func(v *view) { v.join("", 0, answer{}); v.publish(3, first); v.bare(21, 23) }, "event 22 is at {FIRST 23}, behind {FIRST 21}"},
		{"plain, one twice", true, func(v *view) { v.join("", 0, answer{}); v.publish(2, first); v.bare(21, 21) }, "event 20 is at {FIRST 21}, behind {FIRST 21}"},
		{"plain, the first one after the join missing", true, func(v *view) { v.join("", 0, answer{}); v.publish(2, first); v.bare(22) }, "was published after the join"},
		{"plain, lost", true, func(v *view) { v.join("", 0, answer{}); v.x.lost = true; v.found(v.s.lost()) }, "which it is not to be told"},

		// What is said and not so.
		{"declared in vain: epoch", false, func(v *view) { v.join(first, 15, no(first, 20, "epoch")) }, "it can be recovered"},
		{"declared in vain: ahead", false, func(v *view) { v.join(first, 20, no(first, 20, "ahead")) }, "it can be recovered"},
		{"declared in vain: trimmed", false, func(v *view) { v.join(first, 5, no(first, 20, "trimmed")) }, "it can be recovered"},
		{"declared in vain: too_large", false, func(v *view) { v.join(first, 5, no(first, 20, "too_large")) }, "it can be recovered"},
		{"declared in vain: unavailable", false, func(v *view) { v.join(first, 15, no(first, 20, "unavailable")) }, "it can be recovered"},
		{"declared in vain: no_since", false, func(v *view) { v.join(first, 15, no(first, 20, "no_since")) }, "it can be recovered"},
		{"declared in vain: no_history", false, func(v *view) { v.join(first, 15, no(first, 20, "no_history")) }, "it can be recovered"},
		{"declared in vain: refused", false, func(v *view) { v.join(first, 15, answer{Reason: "refused"}) }, "refused: false"},
		{"the wrong reason: ahead, but trimmed", false, func(v *view) { v.join(first, 3, no(first, 20, "ahead")) }, "that is not so"},
		{"the wrong reason: trimmed, but ahead", false, func(v *view) { v.join(first, 25, no(first, 20, "trimmed")) }, "that is not so"},
		{"the wrong reason: epoch, but trimmed", false, func(v *view) { v.join(first, 3, no(first, 20, "epoch")) }, "that is not so"},
		{"the wrong reason: trimmed, but another epoch", false, func(v *view) { v.join("OTHER", 3, no(first, 20, "trimmed")) }, "that is not so"},
		{"the wrong reason: unavailable, without a fault", false, func(v *view) { v.join("OTHER", 3, no(first, 20, "unavailable")) }, "that is not so"},
		{"a reason in a fault that is another's", false, func(v *view) { v.x.unavailable = true; v.join(first, 15, no(first, 20, "trimmed")) }, "that is not so"},
		{"a reason that does not exist", false, func(v *view) { v.join(first, 3, no(first, 20, "busy")) }, "that is not so"},
		{"no reason", false, func(v *view) { v.join(first, 3, no(first, 20, "")) }, "recovered with a reason, or not, without one"},
		{"recovered with a reason", false, func(v *view) { v.join(first, 15, answer{true, 20, first, "trimmed"}) }, "recovered with a reason"},
		{"recovered without since", false, func(v *view) { v.join("", 0, yes(first, 20)) }, "there was no since"},
		{"recovered in another epoch", false, func(v *view) { v.join("OTHER", 15, yes(first, 20)) }, "it can't be"},
		{"recovered from ahead", false, func(v *view) { v.join(first, 25, yes(first, 20)) }, "it can't be"},
		{"the top is not so", false, func(v *view) { v.join(first, 15, yes(first, 21)) }, "only 20 were published"},
		{"an epoch that is not so", false, func(v *view) { v.join("", 0, no("OTHER", 20, "no_since")) }, "epoch OTHER is new, though FIRST had no reason to end"},
		{"an epoch that ended long ago", false, func(v *view) {
			v.ch.reset(first, "", settle)
			v.publish(1, "SECOND")
			time.Sleep(2 * quiet)
			v.join("", 0, no(first, 20, "no_since"))
		}, "that epoch ended"},
		{"where it stands is not where it came to", false, func(v *view) {
			v.join(first, 17, yes(first, 20))
			v.got(first, 18)
			v.join(first, 17, yes(first, 20))
		}, "it stands at {FIRST 20}, and sent no event since"},
		{"lost, without a fault", false, func(v *view) { v.join(first, 20, yes(first, 20)); v.publish(20, first); v.found(v.s.lost()) }, "lost, though it could have been read"},
		{"lost in a fault, but it can be read", false, func(v *view) {
			v.join(first, 20, yes(first, 20))
			v.x.behind = true
			time.Sleep(time.Minute)
			v.publish(3, first)
			v.found(v.s.lost())
		}, "lost, though it could have been read"},
		{"back after a loss", false, func(v *view) {
			v.join(first, 15, yes(first, 20))
			v.got(first, 16, 17, 18)
			v.x.lost = true
			v.found(v.s.lost())
			v.got(first, 18)
		}, "the next event is at {FIRST 18}"},
		{"an earlier epoch", false, func(v *view) {
			v.ch.reset(first, "", settle)
			v.publish(1, "SECOND")
			v.join("", 0, no("SECOND", 1, "no_since"))
			v.x.lost = true
			v.found(v.s.lost())
			v.got(first, 20)
		}, "of an earlier epoch"},
		{"a new epoch behind an empty one, untold", false, func(v *view) {
			v.ch.reset(first, "", settle)
			v.join("", 0, no("SECOND", 0, "no_since"))
			v.ch.reset("", "", settle)
			v.publish(1, "THIRD")
			v.found(v.s.event(20, pubsub.Position{Epoch: "THIRD", Offset: 1}))
		}, "the next event is at {THIRD 1}"},
		{"plain, a new epoch without a close", true, func(v *view) {
			v.join("", 0, answer{})
			v.publish(1, first)
			v.ch.reset(first, "", settle)
			v.publish(1, "SECOND")
			v.bare(21, 22)
		}, "event 21 is at {SECOND 1}, behind {FIRST 21}"},
		{"plain, the first one missing before a new epoch", true, func(v *view) {
			v.join("", 0, answer{})
			v.publish(1, first)
			v.ch.reset(first, "", settle)
			v.publish(1, "SECOND")
			v.bare(22)
		}, "was published after the join"},
		{"refused, and a member", false, func(v *view) { v.ch.refused = true; v.join(first, 15, answer{Reason: "refused"}) }, "on the list after a join: true"},
		{"refused, and told where it stands", false, func(v *view) {
			v.ch.refused = true
			q := v.s.ask(&pubsub.Position{Epoch: first, Offset: 3})
			v.found(v.s.listed(q, false))
			v.found(v.s.answered(q, no(first, 20, "refused")))
		}, "refused: true"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newView(t, tt.plain)
				tt.do(v)
				v.found(v.s.settled())
				switch {
				case tt.want == "" && v.err != nil:
					t.Errorf("error %v, want none", v.err)
				case tt.want != "" && (v.err == nil || !strings.Contains(fmt.Sprint(v.err), tt.want)):
					t.Errorf("error %v, want %q", v.err, tt.want)
				}
			})
		})
	}
}
