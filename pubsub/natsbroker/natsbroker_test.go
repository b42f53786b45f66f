package natsbroker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/bus"
	"github.com/nats-io/nats.go"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// FuzzSubject has two topics: their subjects must be one valid token behind the prefix, short, and the same only for the same
// topic.
func FuzzSubject(f *testing.F) {
	long := strings.Repeat("k", 1000)
	for _, pair := range [][2]string{
		{"", "\x00"}, {"a.b", "a.*"}, {">", "*"}, {long, long + "l"}, {strings.Repeat("k", maxPlain), strings.Repeat("k", maxPlain+1)}, {"\xff", "\xfe"},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		sa, sb := subject(a), subject(b)
		if (sa == sb) != (a == b) {
			t.Errorf("%q and %q: subjects %q and %q", a, b, sa, sb)
		}
		for _, s := range []string{sa, sb} {
			token, ok := strings.CutPrefix(s, topicSubject)
			if !ok || token == "" || strings.ContainsAny(token, ".*> \t\r\n\x00") || len(s) > 400 {
				t.Errorf("subject %q", s)
			}
		}
	})
}

// FuzzDecode has the bytes of a stream's message: what decode takes, encode writes.
func FuzzDecode(f *testing.F) {
	first := (*record)(nil).next([]byte("data"))
	first.seq = 1 << 40
	r := first
	for range 20 {
		r = r.next(nil)
		r.seq = r.before[0] + 300
	}
	for _, seed := range []*record{first, r, first.marker(), (*record)(nil).marker()} {
		f.Add(seed.encode())
	}
	f.Add([]byte{})
	f.Add([]byte{1, 0x80})
	f.Add([]byte{2, 5, 6})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, entry, ok := decode(b)
		if !ok {
			return
		}
		again, entryAgain, ok := decode(r.encode())
		if !ok || !reflect.DeepEqual(again, r) || !bytes.Equal(entryAgain, entry) {
			t.Errorf("%x is %+v, and then %+v", b, r, again)
		}
		if len(r.before) > maxBefore || !slices.IsSortedFunc(r.before, func(a, b uint64) int { return cmp.Compare(b, a) }) {
			t.Errorf("the numbers are %d", r.before)
		}
	})
}

// TestRecordsGoOn follows the numbers of messages that are behind each other.
func TestRecordsGoOn(t *testing.T) {
	var all []*record
	var r *record
	for i := range 40 {
		r = r.next(nil)
		r.seq = uint64(10 + 3*i)
		all = append(all, r)
		if r.Offset != uint64(i+1) || r.Epoch != all[0].Epoch || len(r.before) != min(i, maxBefore) {
			t.Fatalf("record %d is %+v", i, r)
		}
		for j, seq := range r.before {
			if want := all[i-1-j].seq; seq != want {
				t.Errorf("record %d: number %d is %d, want %d", i, j, seq, want)
			}
		}
	}
	if n := r.spread(); n != 3 {
		t.Errorf("they are %d from each other, want 3", n)
	}
	marker := (*record)(nil).marker()
	marker.seq = 7
	if n := marker.next(nil); n.Offset != 1 || n.Epoch != marker.Epoch || len(n.before) != 0 {
		t.Errorf("behind a marker stands %+v", n)
	}
	marker = r.marker()
	marker.seq = 1000
	if n := marker.next(nil); marker.Position != r.Position || n.Offset != 41 || n.Epoch != r.Epoch || len(n.before) != 0 {
		t.Errorf("behind the marker %+v of %+v stands %+v", marker, r.Position, n)
	}
}

func TestContradicts(t *testing.T) {
	r := func(epoch string, offset, seq uint64) *record {
		return &record{Entry: pubsub.Entry{Position: pubsub.Position{Epoch: epoch, Offset: offset}}, seq: seq}
	}
	m := func(epoch string, offset, seq uint64) *record {
		marker := r(epoch, offset, seq)
		marker.isMarker = true
		return marker
	}
	for _, tt := range []struct {
		name     string
		r, known *record
		want     bool
	}{
		{"nothing is known", r("a", 3, 30), nil, false},
		{"the same", r("a", 3, 30), r("a", 3, 30), false},
		{"later", r("a", 5, 50), r("a", 3, 30), false},
		{"another epoch", r("b", 1, 5), r("a", 3, 30), false},
		{"earlier", r("a", 2, 20), r("a", 3, 30), true},
		{"another message", r("a", 3, 29), r("a", 3, 30), true},
		{"later, but not in the stream", r("a", 4, 29), r("a", 3, 30), true},
		{"a marker, renewed", m("a", 0, 31), m("a", 0, 30), false},
		{"a marker that was renewed", m("a", 0, 30), m("a", 0, 31), true},
		{"a marker before messages", m("a", 0, 30), r("a", 1, 31), true},
		{"a marker behind the message", m("a", 3, 31), r("a", 3, 30), false},
		{"a marker before its message", m("a", 3, 29), r("a", 3, 30), true},
		{"the message of a marker that ended", r("a", 3, 30), m("a", 3, 31), false},
		{"another message of a marker", r("a", 3, 32), m("a", 3, 31), true},
		{"the next message", r("a", 4, 32), m("a", 3, 31), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.r.contradicts(tt.known); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

func TestOlder(t *testing.T) {
	for _, tt := range []struct {
		version string
		want    bool
	}{{"2.10.29", true}, {"1.99.0", true}, {"2.11.0", false}, {"2.15.2", false}, {"3.0.0", false}, {"2.11.0-RC.1", false}, {"", false}, {"dev", false}} {
		if got := older(tt.version, 2, 11); got != tt.want {
			t.Errorf("%q: older %t, want %t", tt.version, got, tt.want)
		}
	}
}

// TestSubjectsOfTuples has many random topics, most of them much alike.
func TestSubjectsOfTuples(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	topics := map[string]string{} // by subject
	for range 200_000 {
		topic := strings.Repeat("ab", r.IntN(120))
		for range r.IntN(4) {
			topic += string([]byte{byte(r.IntN(3)), '.', byte(r.IntN(256))})
		}
		s := subject(topic)
		if old, ok := topics[s]; ok && old != topic {
			t.Fatalf("%q and %q have the subject %q", old, topic, s)
		}
		topics[s] = topic
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"no URL", Options{}, "natsbroker: url: number 1 is no URL of a server"},
		{"two replicas", Options{URL: "127.0.0.1", Replicas: 2}, "natsbroker: Replicas: it must be 1, 3 or 5"},
		{"a negative limit", Options{URL: "127.0.0.1", MaxBytes: -1}, "natsbroker: MaxBytes: it must not be negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.o); err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestConnectRefuses(t *testing.T) {
	for _, tt := range []struct{ name, url, want string }{
		{"empty", "", "natsbroker: url: number 1 is no URL of a server"},
		{"a bad port", "nats://user:canary@127.0.0.1:port", "natsbroker: url: number 1 is no URL"},
		{"a space in the password", "nats://127.0.0.1:1, nats://user:can ary@127.0.0.1", "natsbroker: url: number 2 is no URL"},
		{"nobody there", "nats://user:canary@127.0.0.1:1", "natsbroker: nats: no servers available"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Connect(tt.url)
			if err == nil {
				b.Close()
			}
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "can") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestBeats has beats of another broker, the last of which may show a gap.
func TestBeats(t *testing.T) {
	b := func(epoch, seq uint64, server string) beat {
		return beat{ID: "other", Epoch: epoch, Seq: seq, Server: server}
	}
	for _, tt := range []struct {
		name   string
		before []beat // while it joins
		beats  []beat
		gap    bool
	}{
		{"in order", nil, []beat{b(0, 1, "s2"), b(0, 2, "s2"), b(0, 3, "s2")}, false},
		{"one missing", nil, []beat{b(0, 1, "s2"), b(0, 3, "s2")}, true},
		{"one missing on our server", nil, []beat{b(0, 1, "s1"), b(0, 3, "s1")}, false},
		{"it was there before us", []beat{b(0, 17, "s2")}, []beat{b(0, 18, "s2")}, false},
		{"it was not heard at first", nil, []beat{b(0, 4, "s2")}, false}, // TestFresh
		{"another connection", nil, []beat{b(0, 1, "s2"), b(1, 1, "s2")}, false},
		{"another connection, not heard at first", nil, []beat{b(0, 1, "s2"), b(1, 2, "s2")}, true},
		{"an old one late", nil, []beat{b(1, 1, "s2"), b(0, 7, "s2"), b(1, 2, "s2")}, false},
		{"it says so", nil, []beat{b(0, 1, "s2"), {ID: "other", Seq: 2, Server: "s1", Lost: true}}, true},
		{"it ended, and its successor begins", nil, []beat{b(0, 1, "s2"), {ID: "other", Seq: 2, Bye: true}, b(0, 1, "s2")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p peers
				p.init("self")
				for _, m := range tt.before {
					p.note(m, "s1")
				}
				p.joined()
				for _, m := range tt.beats {
					p.note(m, "s1")
				}
				if p.gapIsOver() {
					t.Error("the gap is over at once")
				}
				time.Sleep(gapTime)
				if got := p.gapIsOver(); got != tt.gap {
					t.Errorf("gap %t, want %t", got, tt.gap)
				}
				if p.gapIsOver() {
					t.Error("the gap is over twice")
				}
			})
		})
	}
}

// TestGapAcrossReconnect has us reconnect: a peer that is heard meanwhile is behind no gap, one that is not is.
func TestGapAcrossReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p peers
		p.init("self")
		p.joined()
		p.note(beat{ID: "a", Seq: 1, Server: "s2"}, "s1")
		p.note(beat{ID: "b", Seq: 1, Server: "s3"}, "s1")
		p.restart()
		p.note(beat{ID: "a", Seq: 9, Server: "s2"}, "s1")
		p.joined()
		p.note(beat{ID: "a", Seq: 10, Server: "s2"}, "s1")
		time.Sleep(gapTime)
		if p.gapIsOver() {
			t.Error("a gap behind a peer that was heard")
		}
		p.note(beat{ID: "b", Seq: 9, Server: "s3"}, "s1")
		time.Sleep(gapTime)
		if !p.gapIsOver() {
			t.Error("no gap behind a peer that was not")
		}
	})
}

func TestStale(t *testing.T) {
	var p peers
	p.init("self")
	p.joined()
	p.note(beat{ID: "other", Epoch: 3, Seq: 1, Server: "s2"}, "s1")
	p.restart() // epoch 1
	for _, tt := range []struct {
		from string
		want bool
	}{
		{sender("other", 3), false},
		{sender("other", 2), true},
		{sender("other", 4), false},
		{sender("other", 3), true}, // 4 was heard of
		{sender("unknown", 0), false},
		{sender("self", 1), false},
		{sender("self", 0), true},
		{"", true},
		{"mooncore.from.other", true},
		{"mooncore.from.other.x", true},
	} {
		if got := p.stale(tt.from); got != tt.want {
			t.Errorf("%q: stale %t, want %t", tt.from, got, tt.want)
		}
	}
}

// TestBehind has Subscribe go on without servers: who is on them is behind until one of them answers.
func TestBehind(t *testing.T) {
	for _, tt := range []struct {
		name   string
		events func(p *peers) (since uint64)
		since  uint64 // the rounds are 1, of "b" and "c", and 2, of nobody
		late   []string
	}{
		{"none answers again", func(*peers) uint64 { return 0 }, 0, []string{"a", "b", "c"}},
		{"one of two on a server answers", func(p *peers) uint64 { return p.answer(question{ID: "b", Round: 2}) }, 2, []string{"c"}},
		{"the other", func(p *peers) uint64 { return p.answer(question{ID: "c", Round: 2}) }, 2, []string{"a", "b"}},
		{"an answer of another round", func(p *peers) uint64 { return p.answer(question{ID: "c", Round: 1}) }, 0, []string{"a", "b", "c"}},
		{"a second answer", func(p *peers) uint64 {
			p.answer(question{ID: "c", Round: 2})
			return p.answer(question{ID: "c", Round: 2})
		}, 0, []string{"a", "b"}},
		{"a later round", func(p *peers) uint64 {
			p.question("s1")
			p.goOn("s1")
			return p.answer(question{ID: "c", Round: 3})
		}, 2, []string{"a", "b"}},
		{"it goes to a server that answered", func(p *peers) uint64 {
			p.answer(question{ID: "c", Round: 2})
			return p.note(beat{ID: "b", Server: "s3", Epoch: 1, Seq: 1}, "s1")
		}, 0, []string{"a", "b"}},
		{"its messages by another server come first", func(p *peers) uint64 {
			p.stale(sender("c", 1))
			return p.note(beat{ID: "c", Server: "s4", Epoch: 1, Seq: 1}, "s1")
		}, 0, []string{"a", "b", "c"}},
		{"it ends", func(p *peers) uint64 { return p.note(beat{ID: "c", Seq: 3, Bye: true}, "s1") }, 2, []string{"a", "b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p peers
			p.init("self")
			beats := func(seq uint64) {
				for id, server := range map[string]string{"ours": "s1", "a": "s2", "b": "s2", "c": "s3"} {
					p.note(beat{ID: id, Server: server, Seq: seq}, "s1")
				}
			}
			beats(1)
			p.joined()
			p.question("s1")
			for _, id := range []string{"b", "c"} {
				if since := p.answer(question{ID: id, Round: 1}); since != 0 {
					t.Errorf("behind since round %d at first", since)
				}
			}
			p.goOn("s1")
			if late, _ := p.late(); len(late) > 0 {
				t.Errorf("%q are behind though each server answered", late)
			}
			p.question("s1")
			p.silence(2)
			p.goOn("s1")
			beats(2)
			since := tt.events(&p)
			late, _ := p.late()
			slices.Sort(late)
			if since != tt.since || !slices.Equal(late, tt.late) {
				t.Errorf("since %d, and %q are behind, want %d and %q", since, late, tt.since, tt.late)
			}
		})
	}
}

// TestFresh hears a broker for the first time: that matters if it had published something by its answer.
func TestFresh(t *testing.T) {
	for _, tt := range []struct {
		name      string
		joining   bool
		server    string
		idle, gap bool
		asked     bool
	}{
		{"it has published nothing", false, "s2", true, false, true},
		{"it has published something", false, "s2", false, true, true},
		{"it is on our server", false, "s1", false, false, false},
		{"we join", true, "s2", false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p peers
				p.init("self")
				if !tt.joining {
					p.joined()
				}
				p.question("s1")
				p.note(beat{ID: "other", Server: tt.server, Seq: 4}, "s1")
				p.note(beat{ID: "other", Server: tt.server, Seq: 5}, "s1")
				if late, _ := p.late(); (len(late) == 1) != tt.asked {
					t.Errorf("%q are asked", late)
				}
				if since := p.answer(question{ID: "other", Round: 1, Idle: tt.idle}); since != 0 {
					t.Errorf("behind since round %d", since)
				}
				if late, _ := p.late(); len(late) > 0 {
					t.Errorf("%q are asked again", late)
				}
				time.Sleep(gapTime)
				if got := p.gapIsOver(); got != tt.gap {
					t.Errorf("gap %t, want %t", got, tt.gap)
				}
			})
		})
	}
}

// TestCountsForSilentPeers has a broker on another server give no answer: it still has to be told what is published.
func TestCountsForSilentPeers(t *testing.T) {
	var p peers
	p.init("self")
	for server, want := range map[string]int32{"s1": 0, "s2": 1} {
		p.note(beat{ID: "other", Server: server, Seq: 1}, "s1")
		_, round, _ := p.question("s1")
		p.silence(round)
		p.count("s1")
		if n := p.elsewhere.Load(); n != want {
			t.Errorf("silent on %s: %d other servers, want %d", server, n, want)
		}
	}
}

// TestLate has messages of one broker come to a topic: one that comes after a later one is not delivered, and a loss is told.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sub := &nats.Subscription{Subject: "x"}
		b := &Broker{id: "self", subs: map[string]*subscription{"x": {Subscription: sub, flows: map[string]*flow{}}}}
		b.peers.init("self")
		b.clustered.Store(true)
		b.topics = bus.NewTopics(func(context.Context, string) error { return nil }, nil)
		var came []string
		if _, err := b.topics.Subscribe(t.Context(), "x", func(data []byte) { came = append(came, string(data)) }, func() {}); err != nil {
			t.Fatal(err)
		}
		send := func(id string, epoch, number uint64, late bool) {
			t.Helper()
			text := fmt.Sprintf("%s %d %d", id, epoch, number)
			came = nil
			b.handle(&nats.Msg{Subject: "x", Reply: numbered(sender(id, epoch), number), Data: []byte(text), Sub: sub})
			if late != (len(came) == 0) || !late && came[0] != text {
				t.Errorf("message %s: late %t, and %q came", text, late, came)
			}
			time.Sleep(gapTime)
			if gap := b.peers.gapIsOver(); gap != late {
				t.Errorf("message %s: late %t, gap %t", text, late, gap)
			}
		}
		send("a", 0, 1, false)
		send("a", 0, 7, false) // 2 to 6 are of other topics
		send("a", 0, 6, true)
		send("b", 0, 6, false)
		b.anew()
		send("a", 0, 7, true)
		send("a", 0, 8, false)
		send("a", 1, 1, false) // by another connection
	})
}

// TestTails has messages and tails of one broker come to a subscription that is in force for a minute.
func TestTails(t *testing.T) {
	type step struct {
		came                int
		run, count, seconds int // the tail
		missing             bool
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"all came", []step{{3, 1, 3, 5, false}, {2, 1, 5, 6, false}}},
		{"one is missing", []step{{3, 1, 3, 5, false}, {1, 1, 5, 6, true}, {1, 1, 6, 7, false}}},
		{"one is missing from the start", []step{{2, 1, 3, 5, true}}},
		{"all are missing", []step{{0, 1, 1, 5, true}}},
		{"the run is older than the subscription", []step{{2, 1, 100, 61, false}, {1, 1, 101, 62, false}, {0, 1, 102, 63, true}}},
		{"a tail is missing", []step{{3, 1, 3, 5, false}, {4, 1, 7, 9, false}}},
		{"a tail and messages are missing", []step{{3, 1, 3, 5, false}, {3, 1, 7, 9, true}}},
		{"another run", []step{{3, 1, 3, 5, false}, {2, 2, 2, 1, false}, {1, 3, 2, 1, true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				since := time.Now()
				time.Sleep(time.Minute)
				var f flow
				for i, s := range tt.steps {
					f.came += uint64(s.came)
					if got := f.ended(fmt.Sprintf("%d.%d.%d", s.run, s.count, 1000*s.seconds), since); got != s.missing {
						t.Errorf("step %d: missing %t, want %t", i, got, s.missing)
					}
				}
			})
		})
	}
	var f flow
	for _, text := range []string{"", "1.2", "1.2.3.4", "a.2.3", "1.-2.3", "1.2.99999999999999999999"} {
		if f.ended(text, time.Now().Add(-time.Hour)) {
			t.Errorf("%q is taken for a tail", text)
		}
	}
}

// Connect leaves the array behind opts alone: it may be the caller's.
func TestConnectKeepsOptions(t *testing.T) {
	opts := make([]nats.Option, 1, 2)
	opts[0] = nats.Name("test")
	if b, err := Connect("nats://127.0.0.1:1", opts...); err == nil {
		b.Close()
		t.Fatal("connected to nobody")
	}
	if opts[:2][1] != nil {
		t.Error("Connect wrote behind opts")
	}
}

// A subscription that was closed meanwhile says that it dropped -1 messages.
func TestDroppedByClosedSubscription(t *testing.T) {
	sub := &nats.Subscription{Subject: "x"}
	b := &Broker{subs: map[string]*subscription{"x": {Subscription: sub}}}
	b.topics = bus.NewTopics(nil, nil)
	b.failed(sub)
	b.tellDropped()
	if n := b.dropped.Load(); n != 0 {
		t.Errorf("%d dropped, want 0", n)
	}
}

// What came from a broker is forgotten with it: when it says good-bye, and when it was not heard for long.
func TestFlowsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &subscription{flows: map[string]*flow{}}
		b := &Broker{id: "self", subs: map[string]*subscription{"x": s}}
		b.peers.init("self")
		b.peers.joined()
		hear := func(m beat) {
			data, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			b.heard(&nats.Msg{Data: data})
		}
		for _, id := range []string{"a", "b", "c"} {
			hear(beat{ID: id, Seq: 1, Server: "s2"})
			s.flow(sender(id, 0))
		}
		want := func(what string, ids ...string) {
			t.Helper()
			if len(s.flows) != len(ids) {
				t.Errorf("%s: %d flows, want %d", what, len(s.flows), len(ids))
			}
			for _, id := range ids {
				if s.flows[fromSubject+id] == nil {
					t.Errorf("%s: no flow of %s", what, id)
				}
			}
		}
		want("all", "a", "b", "c")
		hear(beat{ID: "a", Seq: 2, Server: "s2", Bye: true})
		want("a said good-bye", "b", "c")
		time.Sleep(forgetTime + 1)
		hear(beat{ID: "b", Seq: 2, Server: "s2"})
		want("c was not heard for long", "b")
	})
}
