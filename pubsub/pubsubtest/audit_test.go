package pubsubtest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// TestAudit has the judge of the faults find each thing that must not be.
func TestAudit(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	// Publisher 0 publishes to topic 0, publisher 1 to topic 1; message i of each in second 10+i.
	records := [][]record{{}, {}}
	for i := range 5 {
		records[0] = append(records[0], record{topic: 0, began: at(10 + i), accepted: true})
		records[1] = append(records[1], record{topic: 1, began: at(10 + i), accepted: true})
	}
	records[0][3].accepted = false
	records[0][4].accepted, records[0][4].away = false, true
	for _, tt := range []struct {
		name   string
		since  int
		came   [][2]uint32
		losses []int
		want   string // "" for nothing
	}{
		{"all that was accepted", 0, [][2]uint32{{0, 0}, {0, 1}, {0, 2}}, nil, ""},
		{"one that was not accepted", 0, [][2]uint32{{0, 0}, {0, 1}, {0, 2}, {0, 3}}, nil, ""},
		{"a loss announced", 0, [][2]uint32{{0, 0}, {0, 2}}, []int{12}, ""},
		{"subscribed late", 11, [][2]uint32{{0, 2}}, nil, ""},
		{"subscribed after all", 20, nil, nil, ""},
		{"a silent loss", 0, [][2]uint32{{0, 0}, {0, 2}}, nil, "message 1 of publisher 0 was accepted and did not come"},
		{"a silent loss at the end", 0, [][2]uint32{{0, 0}, {0, 1}}, nil, "message 2 of publisher 0 was accepted and did not come"},
		{"a loss announced too early", 0, [][2]uint32{{0, 0}, {0, 2}}, []int{10}, "message 1 of publisher 0 was accepted and did not come"},
		{"twice", 0, [][2]uint32{{0, 0}, {0, 1}, {0, 1}, {0, 2}}, nil, "message 1 of publisher 0 came twice"},
		{"out of order", 0, [][2]uint32{{0, 0}, {0, 2}, {0, 1}}, nil, "message 1 of publisher 0 came after 2"},
		{"refused, and sent later", 0, [][2]uint32{{0, 0}, {0, 1}, {0, 2}, {0, 4}}, nil, "message 4 of publisher 0 came, though it was refused"},
		{"another topic's", 0, [][2]uint32{{0, 0}, {0, 1}, {0, 2}, {1, 0}}, nil, "message 0 of publisher 1 came, which is not this topic's"},
		{"never published", 0, [][2]uint32{{0, 0}, {0, 1}, {0, 2}, {0, 9}}, nil, "message 9 of publisher 0 came, which is not"},
		{"losses without end", 0, [][2]uint32{{0, 0}, {0, 1}, {0, 2}}, []int{1, 2, 3, 4, 5}, "told 5 times"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &ledger{name: "topic 0", since: at(tt.since), came: tt.came}
			for _, second := range tt.losses {
				l.losses = append(l.losses, at(second))
			}
			errs := l.audit(records)
			switch {
			case tt.want == "" && errs != nil:
				t.Errorf("errors %v, want none", errs)
			case tt.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.want)):
				t.Errorf("errors %v, want one with %q", errs, tt.want)
			}
		})
	}
}

// TestLogAudit is TestAudit for what is appended.
func TestLogAudit(t *testing.T) {
	type stands struct { // a message, publisher and number, and where it stands
		m  [2]uint32
		at pubsub.Position
	}
	in := func(epoch string, offset uint64, publisher, i uint32) stands {
		return stands{[2]uint32{publisher, i}, pubsub.Position{Epoch: epoch, Offset: offset}}
	}
	// Publishers 0 and 1 append to topic 0, 2 to topic 1. Message 2 of publisher 0 may have been accepted, 3 was refused.
	a1, a2, b1, b2 := in("A", 1, 0, 0), in("A", 3, 0, 1), in("A", 2, 1, 0), in("A", 4, 1, 1)
	unsure, refused, next, other := in("A", 5, 0, 2), in("A", 5, 0, 3), in("B", 1, 1, 2), in("A", 5, 2, 0)
	began := time.Unix(10, 0)
	make := func(withNext bool) [][]record {
		at := func(s stands) record { return record{began: began, accepted: true, at: s.at} }
		records := [][]record{
			{at(a1), at(a2), {began: began}, {began: began, away: true}}, {at(b1), at(b2)}, {{topic: 1, began: began, accepted: true, at: other.at}},
		}
		if withNext { // it began another epoch
			records[1] = append(records[1], at(next))
		}
		return records
	}
	all := []stands{a1, b1, a2, b2}
	for _, tt := range []struct {
		name  string
		next  bool // message 2 of publisher 1 was appended
		came  []stands
		lost  bool // was told at the end
		kept  []stands
		want  string // "" for nothing
		wrong record // in place of message 1 of publisher 0
	}{
		{name: "all", came: all, kept: all},
		{name: "the one that may have been accepted", came: append(all, unsure), kept: append(all, unsure)},
		{name: "it is kept and did not come", came: all, kept: append(all, unsure)},
		{name: "a hole shows a loss", came: []stands{a1, b1, b2}, kept: all},
		{name: "a hole at the beginning", came: []stands{b1, a2, b2}, kept: all},
		{name: "another epoch shows a loss", next: true, came: []stands{a1, b1, a2, next}, kept: []stands{next}},
		{name: "a loss told", came: []stands{a1, b1, a2}, lost: true, kept: all},
		{name: "the oldest are not kept", next: true, came: append(all, next), kept: []stands{next}},
		{name: "a silent loss", came: []stands{a1, b1, a2}, kept: all, want: "message 1 of publisher 1 was accepted and did not come"},
		{name: "accepted and not kept", came: all, kept: all[:3], want: "message 1 of publisher 1 was appended at {Epoch:A Offset:4}, and is not kept"},
		{name: "kept with a hole", came: all, kept: []stands{a1, b1, b2, unsure}, want: "{Epoch:A Offset:4} is kept behind {Epoch:A Offset:2}"},
		{name: "kept twice", came: all, kept: append(all, in("A", 5, 0, 0)), want: "message 0 of publisher 0 is kept at {Epoch:A Offset:1} and at"},
		{name: "another message at its place", came: all, kept: []stands{a1, b1, a2, in("A", 4, 0, 2)}, want: "{Epoch:A Offset:4} has message"},
		{name: "a position used again", came: append(all, unsure), kept: append(all, in("A", 5, 1, 1)), want: "{Epoch:A Offset:5} has message"},
		{name: "refused, and kept", came: all, kept: append(all, refused), want: "message 3 of publisher 0 is kept, though it was refused"},
		{name: "another topic's", came: all, kept: append(all, other), want: "message 0 of publisher 2 is kept, which is not this topic's"},
		{name: "it came again", came: append(all, b2), kept: all, want: "{Epoch:A Offset:4} came after {Epoch:A Offset:4}"},
		{name: "it came late", came: []stands{a1, a2, b1, b2}, kept: all, want: "{Epoch:A Offset:2} came after {Epoch:A Offset:3}"},
		{name: "an epoch is back", next: true, came: []stands{a1, next, b1}, kept: []stands{next}, want: "the epoch is back"},
		{name: "Append tells another position", came: all, kept: all, want: "{Epoch:A Offset:4} has message",
			wrong: record{began: began, accepted: true, at: b2.at}},
		{name: "Append tells a position that was before", came: all, kept: all, want: "{Epoch:A Offset:1} stands behind {Epoch:A Offset:1}",
			wrong: record{began: began, accepted: true, at: a1.at}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &ledger{name: "subscription", since: began.Add(-1)}
			for _, s := range tt.came {
				l.came, l.places = append(l.came, s.m), append(l.places, s.at)
			}
			if tt.lost {
				l.losses = []time.Time{began.Add(1)}
			}
			var kept []pubsub.Entry
			for _, s := range tt.kept {
				kept = append(kept, pubsub.Entry{Position: s.at, Data: message(int(s.m[0]), s.m[1])})
			}
			records := make(tt.next)
			if tt.wrong.accepted {
				records[0][1] = tt.wrong
			}
			errs := append(l.audit(records), auditLog(0, records, []*ledger{l}, [][]pubsub.Entry{kept})...)
			switch found := errors.Join(errs...); {
			case tt.want == "" && found != nil:
				t.Errorf("errors %v, want none", found)
			case tt.want != "" && (found == nil || !strings.Contains(found.Error(), tt.want)):
				t.Errorf("errors %v, want one with %q", found, tt.want)
			}
		})
	}
}

func TestTuplesAreDistinct(t *testing.T) {
	for _, tt := range [][2][]string{
		{{"a", "b"}, {"ab"}}, {{"a", "b"}, {"a", "", "b"}}, {{}, {""}}, {{"a,b"}, {"a", "b"}}, {{`"`}, {`\"`}}, {{"\xff"}, {"\ufffd"}},
	} {
		if plain(tt[0]) == plain(tt[1]) {
			t.Errorf("%q and %q are the same text", tt[0], tt[1])
		}
	}
}
