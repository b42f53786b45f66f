package pubsubtest

import (
	"strings"
	"testing"
	"time"
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

func TestTuplesAreDistinct(t *testing.T) {
	for _, tt := range [][2][]string{
		{{"a", "b"}, {"ab"}}, {{"a", "b"}, {"a", "", "b"}}, {{}, {""}}, {{"a,b"}, {"a", "b"}}, {{`"`}, {`\"`}}, {{"\xff"}, {"\ufffd"}},
	} {
		if plain(tt[0]) == plain(tt[1]) {
			t.Errorf("%q and %q are the same text", tt[0], tt[1])
		}
	}
}
