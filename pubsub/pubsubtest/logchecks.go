package pubsubtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// append has one appender, which uses the servers in turn.
func (s *logSuite) append() {
	name, other := topic(), topic()
	var tapes []*tape
	for i := range s.logs {
		for range 2 {
			tp, _ := s.follow(i, name)
			tapes = append(tapes, tp)
		}
	}
	elsewhere, _ := s.follow(0, other)
	var all []pubsub.Entry
	for i := range 20 {
		e := s.add(i/2, name, fmt.Sprint(i), keepAll)
		if i == 0 && e.Offset != 1 {
			s.Fatalf("the first message has the offset %d", e.Offset)
		}
		if i > 0 {
			s.follows(e, all[i-1])
		}
		all = append(all, e)
		for _, tp := range tapes {
			tp.want(all...)
		}
	}
	for i := range s.logs {
		s.kept(i, name, 0, all, keepAll)
		if page := s.read(i, name, 0, 1<<20, keepAll); page.Top != all[len(all)-1].Position {
			s.Errorf("server %d: the top is %+v, want %+v", i, page.Top, all[len(all)-1].Position)
		}
	}
	elsewhere.want()
	only := s.add(0, other, "other", keepAll)
	if only.Offset != 1 || only.Epoch == all[0].Epoch {
		s.Errorf("the first message of another topic is at %+v, the first topic's at %+v", only.Position, all[0].Position)
	}
	elsewhere.want(only)
	for _, tp := range tapes {
		tp.want(all...)
	}
}

// order has concurrent appenders on all servers: there is one order, and each one's own is part of it.
func (s *logSuite) order() {
	const appenders, each = 9, 60
	name := topic()
	var tapes []*tape
	for i := range s.logs {
		tp, _ := s.follow(i, name)
		tapes = append(tapes, tp)
	}
	var lists [appenders][]pubsub.Entry
	var wg sync.WaitGroup
	for id := range appenders {
		wg.Go(func() {
			for i := range each {
				data := fmt.Appendf(nil, "%d of %d", i, id)
				at, err := s.log(id).Append(s.Context(), name, bytes.Clone(data), keepAll)
				if err != nil {
					s.Errorf("Append: %v", err)
					return
				}
				if i > 0 && at.Offset <= lists[id][i-1].Offset {
					s.Errorf("appender %d: its message %d is at %+v, the one before it at %+v", id, i, at, lists[id][i-1].Position)
				}
				lists[id] = append(lists[id], pubsub.Entry{Position: at, Data: data})
			}
		})
	}
	wg.Wait()
	all := slices.SortedFunc(slices.Values(slices.Concat(lists[:]...)), func(a, b pubsub.Entry) int { return cmp.Compare(a.Offset, b.Offset) })
	for i, e := range all {
		if want := (pubsub.Position{Epoch: all[0].Epoch, Offset: uint64(i + 1)}); e.Position != want {
			s.Fatalf("of all positions that Append returned, number %d is %+v, want %+v", i, e.Position, want)
		}
	}
	if len(all) != appenders*each {
		s.Fatalf("%d messages were appended, want %d", len(all), appenders*each)
	}
	for i, tp := range tapes {
		tp.want(all...)
		s.kept(i, name, 0, all, keepAll)
	}
}

func (s *logSuite) pages() {
	const count, size = 100, 1000
	name := topic()
	var all []pubsub.Entry
	for i := range count {
		all = append(all, s.add(i, name, fmt.Sprintf("%0*d", size, i), keepAll))
	}
	top := all[count-1]
	for i := range s.logs {
		s.kept(i, name, 0, all, keepAll) // it is not behind any more
		for _, tt := range []struct {
			after       uint64
			maxBytes    int
			least, most int // entries
		}{
			{0, 10 * count * size, count, count},
			{0, 20 * size, 10, 21},
			{70, 20 * size, 10, 21},
			{95, 20 * size, 5, 5},
			{0, 1, 1, 1},
			{98, 1, 1, 1},
			{99, 1, 1, 1},
			{99, 20 * size, 1, 1},
			{100, 20 * size, 0, 0},
			{101, 20 * size, 0, 0},
			{1 << 40, 20 * size, 0, 0},
			{1<<64 - 1, 20 * size, 0, 0},
		} {
			page := s.read(i, name, tt.after, tt.maxBytes, keepAll)
			if page.Top != top.Position {
				s.Fatalf("Read after %d: the top is %+v, want %+v", tt.after, page.Top, top.Position)
			}
			n := len(page.Entries)
			if n < tt.least || n > tt.most {
				s.Fatalf("Read after %d of %d bytes: %d entries, want %d to %d", tt.after, tt.maxBytes, n, tt.least, tt.most)
			}
			if n > 0 {
				if fault := compare(page.Entries, all[tt.after:int(tt.after)+n]); fault != "" {
					s.Fatalf("Read after %d: %s", tt.after, fault)
				}
			}
		}
	}
}

// epoch has topics of which nothing is kept.
func (s *logSuite) epoch() {
	seen := map[string]bool{}
	for i := range 20 {
		name := topic()
		var mu sync.Mutex
		var first []pubsub.Position
		var appended pubsub.Position
		var wg sync.WaitGroup
		for j := range 2 * len(s.logs) {
			wg.Go(func() {
				if i%2 == 1 && j == 0 { // one appends, while the others read
					at, err := s.log(i).Append(s.Context(), name, []byte("first"), keepAll)
					if err != nil {
						s.Errorf("Append: %v", err)
					}
					appended = at
					return
				}
				page, err := s.log(j).Read(s.Context(), name, uint64(j/len(s.logs)), 1000, keepAll)
				if err != nil {
					s.Errorf("Read: %v", err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				first = append(first, page.Top)
			})
		}
		wg.Wait()
		if i%2 == 0 {
			for j := range s.logs {
				page := s.read(j, name, 5, 1000, keepAll)
				first = append(first, page.Top)
				if page.Top.Offset != 0 {
					s.Fatalf("nothing was appended, but the top is %+v", page.Top)
				}
			}
			appended = s.add(i, name, "first", keepAll).Position
		}
		if appended.Offset != 1 || seen[appended.Epoch] {
			s.Fatalf("the first message has the position %+v, the epoch is new: %t", appended, !seen[appended.Epoch])
		}
		seen[appended.Epoch] = true
		for _, top := range first {
			if top.Epoch != appended.Epoch || top.Offset > 1 {
				s.Fatalf("the first message has the position %+v, but Read said %+v", appended, top)
			}
		}
		for j := range s.logs {
			s.kept(j, name, 0, []pubsub.Entry{{Position: appended, Data: []byte("first")}}, keepAll)
		}
	}
}

// events keeps the latest ones. Somewhat more is allowed, but not most of them.
func (s *logSuite) events() {
	const count, events, most = 600, 10, 300
	few := pubsub.Keep{Events: events, Age: time.Hour}
	name, other := topic(), topic()
	tp, _ := s.follow(1, name)
	all := []pubsub.Entry{s.add(0, name, "0", few)}
	others := []pubsub.Entry{s.add(0, other, "0", keepAll)}
	for i := 1; i < count; i++ {
		all = append(all, s.add(i, name, fmt.Sprint(i), few))
		s.follows(all[i], all[i-1])
		if i%10 == 0 {
			others = append(others, s.add(i, other, fmt.Sprint(i), keepAll))
		}
	}
	tp.want(all...)
	for i := range s.logs {
		got := s.readAll(i, name, 0, all[count-1], few)
		if n := len(got); n < events || n > most {
			s.Fatalf("%d entries are kept, want %d to %d", n, events, most)
		}
		if fault := compare(got, all[count-len(got):]); fault != "" {
			s.Fatal(fault)
		}
		s.kept(i, name, count-events, all[count-events:], few)
		s.kept(i, other, 0, others, keepAll)
	}
}

// names has topics that a naive driver confuses.
func (s *logSuite) names() {
	before := make([]pubsub.Page, len(hostile)) // of runs before this one
	tapes := make([]*tape, len(hostile))
	epochs := map[string]string{}
	for i, name := range hostile {
		before[i] = s.read(i, name, 1<<63, 1000, keepAll)
		if other, ok := epochs[before[i].Top.Epoch]; ok {
			s.Fatalf("%q and %q have one epoch", other, name)
		}
		epochs[before[i].Top.Epoch] = name
		tapes[i], _ = s.follow(i+1, name)
	}
	entries := make([][]pubsub.Entry, len(hostile))
	for _, last := range []string{"", "+"} {
		for i, name := range hostile {
			e := s.add(i, name, name+last, keepAll)
			s.follows(e, pubsub.Entry{Position: before[i].Top})
			before[i].Top = e.Position
			entries[i] = append(entries[i], e)
		}
	}
	for i, name := range hostile {
		tapes[i].want(entries[i]...)
		s.kept(i+2, name, entries[i][0].Offset-1, entries[i], keepAll)
	}
}

// tuples has topics of random tuples, each twice: where two share a log, the second message does not stand behind the first. What
// is kept of them ends soon.
func (s *logSuite) tuples() {
	keep := pubsub.Keep{Events: 2, Age: 30 * time.Second}
	randomTuples(s, func(batch map[string]string) {
		began := time.Now()
		var mu sync.Mutex
		first := map[string]pubsub.Position{} // by plain text
		each(batch, func(text, topic string) {
			at, err := s.log(0).Append(s.Context(), topic, []byte("1"+text), keep)
			if err != nil {
				s.Errorf("Append: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			first[text] = at
		})
		each(batch, func(text, topic string) {
			at, err := s.log(1).Append(s.Context(), topic, []byte("2"+text), keep)
			if err != nil {
				s.Errorf("Append: %v", err)
			}
			want := pubsub.Position{Epoch: first[text].Epoch, Offset: first[text].Offset + 1}
			if at.Epoch != want.Epoch && at.Offset == 1 && time.Since(began) > keep.Age {
				return // a machine that stood still: the first one ended
			}
			if at != want {
				s.Errorf("the second message of %.100s is at %+v, want %+v", text, at, want)
			}
			page, err := s.log(1).Read(s.Context(), topic, want.Offset-1, 1000, keep)
			if err != nil {
				s.Errorf("Read: %v", err)
			}
			if fault := compare(page.Entries, []pubsub.Entry{{Position: want, Data: []byte("2" + text)}}); fault != "" && page.Top.Offset >= want.Offset {
				s.Errorf("%.100s: %s", text, fault)
			}
		})
	})
}

// data has messages that are binary, large and kept.
func (s *logSuite) data() {
	name := topic()
	large := make([]byte, 256<<10)
	rand.Read(large)
	var bytesOnce []byte
	for i := range 256 {
		bytesOnce = append(bytesOnce, byte(i))
	}
	messages := []string{"", "\x00", "\r\n", "\xff", string(bytesOnce), string(large), "1-0", "*", "$-1\r\n", `{"offset":1}`}
	messages = append(messages, string(pubsub.AppendEntry(nil, pubsub.Entry{Position: pubsub.Position{Epoch: "E", Offset: 1}, Data: large[:20]})))
	for i := range 100 {
		messages = append(messages, fmt.Sprintf("%0200d", i))
	}
	tp, _ := s.follow(1, name)
	var all []pubsub.Entry
	for i, m := range messages {
		all = append(all, s.add(i, name, m, keepAll))
	}
	// Compared when all are here: a driver that reuses a buffer has overwritten the early ones.
	tp.want(all...)
	var kept [][]pubsub.Entry
	for i := range s.logs {
		kept = append(kept, s.readAll(i, name, 0, all[len(all)-1], keepAll))
	}
	for i := range s.logs {
		s.read(i, name, 20, 1000, keepAll)
	}
	for _, got := range kept {
		if fault := compare(got, all); fault != "" {
			s.Fatalf("Read: %s", fault)
		}
	}
	tp.want(all...)
}

// subscribe comes and goes: a subscription gets what is appended while it is in force, and nothing older.
func (s *logSuite) subscribe() {
	name := topic()
	last := s.add(0, name, "before", keepAll)
	for i := range 100 {
		tp, unsubscribe := s.follow(i, name)
		var came []pubsub.Entry
		for j := range 2 {
			e := s.add(i+1+j, name, fmt.Sprint(i), keepAll)
			s.follows(e, last)
			came, last = append(came, e), e
		}
		tp.want(came...)
		unsubscribe()
		last = s.add(i, name, "nobody is there", keepAll)
		tp.want(came...)
	}
}

// catchUp does what a server does for a client that comes back: it subscribes, and reads what it missed, while others append.
func (s *logSuite) catchUp() {
	const appenders, each, joins = 3, 150, 12
	name := topic()
	var wg sync.WaitGroup
	for id := range appenders {
		wg.Go(func() {
			for i := range each {
				if _, err := s.log(id).Append(s.Context(), name, fmt.Appendf(nil, "%d of %d", i, id), keepAll); err != nil {
					s.Errorf("Append: %v", err)
					return
				}
			}
		})
	}
	type join struct {
		tp   *tape
		read []pubsub.Entry
	}
	var all [joins]join
	for i := range all {
		// It comes when some entries have: what it reads and what comes live meet in the middle.
		s.until("the messages of others", func() bool {
			return s.read(i, name, 1<<63, 1000, keepAll).Top.Offset >= uint64(i*appenders*each/(2*joins)) || s.Failed()
		})
		all[i].tp, _ = s.follow(i, name)
		all[i].read = s.read(i, name, 0, 1<<20, keepAll).Entries
	}
	wg.Wait()
	if s.Failed() {
		return
	}
	end := s.add(0, name, "end", keepAll)
	if end.Offset != appenders*each+1 {
		s.Fatalf("the last message is at %+v, want the offset %d", end.Position, appenders*each+1)
	}
	whole := s.readAll(0, name, 0, end, keepAll)
	for i, j := range all {
		var live []pubsub.Entry
		s.until("the last message", func() bool {
			live = j.tp.all()
			return len(live) > 0 && live[len(live)-1].Offset >= end.Offset
		})
		got := j.read
		if n := uint64(len(got)); live[0].Offset > n+1 { // Read was behind: a server would ask again
			got = append(got, s.readAll(i, name, n, live[0], keepAll)...)
		}
		live = slices.DeleteFunc(live, func(e pubsub.Entry) bool { return e.Offset <= uint64(len(got)) })
		if fault := compare(append(got, live...), whole); fault != "" {
			s.Fatalf("join %d on server %d, what it read and what came: %s", i, j.tp.server, fault)
		}
	}
}

func (s *logSuite) context() {
	name := topic()
	first := s.add(0, name, "first", keepAll)
	canceled, cancel := context.WithCancel(s.Context())
	cancel()
	for i, l := range s.logs {
		if _, err := l.Append(canceled, name, []byte("never"), keepAll); !errors.Is(err, context.Canceled) {
			s.Errorf("server %d: Append: error %v, want the context's", i, err)
		}
		if _, err := l.Read(canceled, name, 0, 1000, keepAll); !errors.Is(err, context.Canceled) {
			s.Errorf("server %d: Read: error %v, want the context's", i, err)
		}
	}
	second := s.add(1, name, "second", keepAll)
	s.follows(second, first)
	s.kept(2, name, 0, []pubsub.Entry{first, second}, keepAll)
}

// close closes one Log; others that it reached go on.
func (s *logSuite) close() {
	name := topic()
	closing := s.open()
	first := s.add(0, name, "first", keepAll)
	if err := closing.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	if _, err := closing.Append(s.Context(), name, []byte("never"), keepAll); !errors.Is(err, pubsub.ErrClosed) {
		s.Errorf("Append after Close: error %v, want ErrClosed", err)
	}
	if _, err := closing.Read(s.Context(), name, 0, 1000, keepAll); !errors.Is(err, pubsub.ErrClosed) {
		s.Errorf("Read after Close: error %v, want ErrClosed", err)
	}
	second := s.add(1, name, "second", keepAll)
	s.follows(second, first)
	s.kept(2, name, 0, []pubsub.Entry{first, second}, keepAll)
}

// concurrency does everything at once, then closes. The race detector is a judge, and that nothing crosses.
func (s *logSuite) concurrency() {
	names := []string{topic(), topic(), topic()}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				name := names[(i+j)%len(names)]
				unsubscribe, err := s.log(i).Subscribe(s.Context(), name, func(data []byte) {
					if e, err := pubsub.ParseEntry(data); err != nil || string(e.Data) != name {
						s.Errorf("%q got %q, error %v", name, data, err)
					}
				}, func() {})
				if err != nil {
					s.Errorf("Subscribe: %v", err)
					return
				}
				if _, err := s.log(j).Append(s.Context(), name, []byte(name), keepAll); err != nil {
					s.Errorf("Append: %v", err)
				}
				page, err := s.log(i+j).Read(s.Context(), name, 0, 1000, keepAll)
				if err != nil {
					s.Errorf("Read: %v", err)
				}
				for k, e := range page.Entries {
					if string(e.Data) != name || e.Offset != uint64(k+1) {
						s.Errorf("%q has %q at %+v as entry %d", name, e.Data, e.Position, k)
					}
				}
				unsubscribe()
			}
		})
	}
	wg.Wait()
	for _, l := range s.logs {
		wg.Go(func() {
			for failed := 0; ; {
				_, err := l.Append(s.Context(), names[0], []byte(names[0]), keepAll)
				if errors.Is(err, pubsub.ErrClosed) {
					break
				}
				if err != nil {
					failed++ // it was under way
				}
				if failed > 1 {
					s.Errorf("Append: error %v, want ErrClosed", err)
					break
				}
			}
		})
		wg.Go(func() {
			if err := l.Close(); err != nil {
				s.Errorf("Close: %v", err)
			}
		})
	}
	wg.Wait()
}

// brief is an age that a test can wait for.
const brief = 2 * time.Second

// age lets messages end by their age, one before the other.
func (s *logSuite) age() {
	keep := pubsub.Keep{Events: 100, Age: brief}
	name := topic()
	type aged struct {
		pubsub.Entry
		before, after time.Time // it was appended between these
	}
	add := func(data string) aged {
		before := time.Now()
		return aged{s.add(0, name, data, keep), before, time.Now()}
	}
	a := add("a")
	time.Sleep(brief / 2)
	b := add("b")
	s.follows(b.Entry, a.Entry)
	var last pubsub.Page
	for ended := false; !ended; time.Sleep(20 * time.Millisecond) {
		last = s.read(1, name, 0, 1000, keep)
		now := time.Now()
		has := func(e aged) bool {
			return slices.ContainsFunc(last.Entries, func(other pubsub.Entry) bool { return other.Position == e.Position })
		}
		for _, e := range []aged{a, b} {
			if !has(e) && now.Before(e.before.Add(brief)) {
				s.Fatalf("%q is not kept %v after it was appended, want %v", e.Data, now.Sub(e.before), brief)
			}
			if has(e) && now.After(e.after.Add(brief+patience)) {
				s.Fatalf("%q is still kept after %v, want %v", e.Data, now.Sub(e.after), brief)
			}
		}
		ended = !has(a) && !has(b)
	}
	// The epoch goes on or is another; what it began with doesn't come again.
	c := s.add(1, name, "c", keep)
	s.follows(c, pubsub.Entry{Position: last.Top})
	if c.Epoch == a.Epoch && c.Offset <= b.Offset {
		s.Errorf("the message behind %+v is at %+v", b.Position, c.Position)
	}
	s.kept(0, name, c.Offset-1, []pubsub.Entry{c}, keep)
}

// ageInUse appends for longer than the age: the epoch goes on.
func (s *logSuite) ageInUse() {
	keep := pubsub.Keep{Events: 100, Age: brief}
	name := topic()
	tp, _ := s.follow(0, name)
	last := s.add(0, name, "first", keep)
	all := []pubsub.Entry{last}
	for end := time.Now().Add(5 * brief / 2); time.Now().Before(end); {
		time.Sleep(brief / 4)
		before := time.Now()
		e := s.add(len(all), name, "next", keep)
		if e.Epoch != last.Epoch && time.Since(before) < brief/2 {
			s.Fatalf("a topic that is used began a new epoch: %+v stands behind %+v", e.Position, last.Position)
		}
		if e.Epoch == last.Epoch {
			s.follows(e, last)
		}
		all, last = append(all, e), e
	}
	tp.want(all...)
}

// ageOfNothing reads a topic of which nothing is kept: its epoch is kept for a minute, however short the age is. The suite
// waits for a part of that.
func (s *logSuite) ageOfNothing() {
	keep := pubsub.Keep{Events: 100, Age: time.Second}
	name := topic()
	top := s.read(0, name, 0, 1000, keep).Top
	time.Sleep(5 * time.Second)
	if again := s.read(1, name, 0, 1000, keep).Top; again != top {
		s.Fatalf("the top was %+v and is %+v, though nothing was appended", top, again)
	}
	e := s.add(2, name, "first", keep)
	s.follows(e, pubsub.Entry{Position: top})
}
