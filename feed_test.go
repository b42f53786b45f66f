package mooncore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/pubsub"
)

// A fakeLog does with one channel what the test says. Event k of it is ["n",k].
type fakeLog struct {
	*pubsub.Local // all other topics

	mu         sync.Mutex
	epoch      string
	first, top uint64        // what is kept is behind first, up to top
	seen       uint64        // and what Read sees of it, unless that is 0
	size       int           // of an event, if it is above 0
	fail       error         // what Read fails with
	hang       bool          // Read waits for its context
	next       *pubsub.Page  // what the next Read returns, once
	panics     bool          // the next Read does, once
	late       chan struct{} // if not nil, the next Read returns when it is closed, and whatever its context says
	reads      int
	reading    int // now
	most       int // of reading
	topics     map[string]*fakeTopic
}

type fakeTopic struct {
	deliver func([]byte)
	lost    func()
}

func newFakeLog() *fakeLog {
	return &fakeLog{Local: pubsub.NewLocal(), epoch: "A", topics: map[string]*fakeTopic{}}
}

// serve starts a server on the log whose connections may be silent.
func (l *fakeLog) serve(t *testing.T) *live {
	cfg := withHistory()
	cfg.Broker = l
	cfg.Limits.IdleTimeout = -1
	srv, _ := serveInMemory(t, cfg)
	return srv
}

func isKept(topic string) bool {
	parts, _ := pubsub.ParseTopic(topic)
	return len(parts) > 1 && parts[1] == "log"
}

func (l *fakeLog) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	if !isKept(topic) {
		return l.Local.Subscribe(ctx, topic, deliver, lost)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[topic] = &fakeTopic{deliver, lost}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.topics, topic)
	}, nil
}

// entry is an event with its position. mu is held.
func (l *fakeLog) entry(epoch string, n uint64) pubsub.Entry {
	data := fmt.Sprintf(`["n",%d]`, n)
	if l.size > 0 {
		data = fmt.Sprintf(`["n","%s"]`, strings.Repeat("x", l.size))
	}
	return pubsub.Entry{Position: pubsub.Position{Epoch: epoch, Offset: n}, Data: []byte(data)}
}

func (l *fakeLog) Read(ctx context.Context, _ string, after uint64, maxBytes int, _ pubsub.Keep) (pubsub.Page, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	l.reading++
	l.most = max(l.most, l.reading)
	defer func() { l.reading-- }()
	for l.hang && ctx.Err() == nil {
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
		l.mu.Lock()
	}
	if err := ctx.Err(); err != nil {
		return pubsub.Page{}, err
	}
	if l.fail != nil {
		return pubsub.Page{}, l.fail
	}
	if l.panics {
		l.panics = false
		panic("the test says so")
	}
	if page := l.next; page != nil {
		l.next = nil
		return *page, nil
	}
	top := l.top
	if l.seen > 0 {
		top = min(top, l.seen)
	}
	page := pubsub.Page{Top: pubsub.Position{Epoch: l.epoch, Offset: top}}
	for n := max(after, l.first) + 1; n <= top; n++ {
		e := l.entry(l.epoch, n)
		if maxBytes -= len(e.Data); maxBytes < 0 && len(page.Entries) > 0 {
			break
		}
		page.Entries = append(page.Entries, e)
	}
	if late := l.late; late != nil {
		l.late = nil
		l.mu.Unlock()
		<-late
		l.mu.Lock()
	}
	return page, nil
}

func (l *fakeLog) Append(context.Context, string, []byte, pubsub.Keep) (pubsub.Position, error) {
	return pubsub.Position{}, errors.New("the test appends")
}

// page is one that ends at the top.
func (l *fakeLog) page(entries ...pubsub.Entry) *pubsub.Page {
	return &pubsub.Page{Top: entries[len(entries)-1].Position, Entries: entries}
}

// set changes something.
func (l *fakeLog) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// count is how often was read.
func (l *fakeLog) count() (n int) {
	l.set(func() { n = l.reads })
	return n
}

// begin begins another epoch.
func (l *fakeLog) begin(epoch string) { l.set(func() { l.epoch = epoch }) }

// fails has Read fail from now on.
func (l *fakeLog) fails() { l.set(func() { l.fail = errors.New("away") }) }

// keep appends events up to a position, and delivers none.
func (l *fakeLog) keep(top uint64) { l.set(func() { l.top = top }) }

// come delivers events.
func (l *fakeLog) come(epoch string, offsets ...uint64) {
	for _, n := range offsets {
		for _, topic := range l.subscribed() {
			var e pubsub.Entry
			l.set(func() { e = l.entry(epoch, n) })
			topic.deliver(pubsub.AppendEntry(nil, e))
		}
	}
}

// append appends events and delivers them.
func (l *fakeLog) append(from, to uint64) {
	for n := from; n <= to; n++ {
		l.keep(n)
		var epoch string
		l.set(func() { epoch = l.epoch })
		l.come(epoch, n)
	}
}

func (l *fakeLog) lost() {
	for _, topic := range l.subscribed() {
		topic.lost()
	}
}

func (l *fakeLog) subscribed() []*fakeTopic {
	l.mu.Lock()
	defer l.mu.Unlock()
	var topics []*fakeTopic
	for _, topic := range l.topics {
		topics = append(topics, topic)
	}
	return topics
}

// positioned are the frames of events with their positions.
func positioned(epoch string, offsets ...uint64) (frames []string) {
	for _, n := range offsets {
		frames = append(frames, fmt.Sprintf(`["n",%d,{"offset":%d,"epoch":%q,"channel":"room"}]`, n, n, epoch))
	}
	return frames
}

// A listener reads what comes on a socket, all the time.
type listener struct {
	mu     sync.Mutex
	frames []string
	code   int // that the server closed with
}

// listen has a socket read from now on.
func (s *socket) listen() *listener {
	l := &listener{}
	go func() {
		for {
			_, b, err := s.ws.Read(context.Background())
			l.mu.Lock()
			if err == nil {
				l.frames = append(l.frames, string(b))
			} else if e, ok := errors.AsType[websocket.CloseError](err); ok {
				l.code = int(e.Code)
			}
			l.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return l
}

// take returns what came since the last call, and the close code.
func (l *listener) take() (frames []string, code int) {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	frames, l.frames = l.frames, nil
	return frames, l.code
}

// TestFeed has a feed at A3 get what a log can deliver, and not deliver. A client of either kind is told of all.
func TestFeed(t *testing.T) {
	const lost = `["lost","room"]`
	for _, tt := range []struct {
		name string
		do   func(l *fakeLog)
		want []string // what the client gets that takes positions
		code int      // that the other is closed with
		wait time.Duration
	}{
		{"live", func(l *fakeLog) { l.append(4, 6) }, positioned("A", 4, 5, 6), 0, 0},
		{"again", func(l *fakeLog) { l.come("A", 3, 2, 1, 3) }, nil, 0, 0},
		{"a hole", func(l *fakeLog) { l.keep(6); l.come("A", 6) }, positioned("A", 4, 5, 6), 0, 0},
		{"two holes", func(l *fakeLog) { l.keep(9); l.come("A", 5, 6, 9) }, positioned("A", 4, 5, 6, 7, 8, 9), 0, 0},
		{"a hole, then what was in it", func(l *fakeLog) { l.keep(6); l.come("A", 6, 4, 5) }, positioned("A", 4, 5, 6), 0, 0},
		{"the broker lost some", func(l *fakeLog) { l.keep(5); l.lost() }, positioned("A", 4, 5), 0, 0},
		{"the broker lost none", func(l *fakeLog) { l.lost() }, nil, 0, 0},
		{"lost twice", func(l *fakeLog) { l.keep(5); l.lost(); l.lost() }, positioned("A", 4, 5), 0, 0},
		{"lost again while the log is read", func(l *fakeLog) { close(l.loseWhileRead()) }, positioned("A", 4, 5), 0, time.Second},
		{"lost again while the log is read, which then does not answer", func(l *fakeLog) {
			late := l.loseWhileRead()
			l.fails()
			close(late)
		}, []string{lost}, 1012, 12 * time.Second},
		{"nobody says that some are lost", func(l *fakeLog) { l.keep(5) }, positioned("A", 4, 5), 0, 50 * time.Second},
		{"another epoch", func(l *fakeLog) { l.begin("B"); l.append(1, 1); l.wait(time.Second); l.append(2, 2) },
			append([]string{lost}, positioned("B", 2)...), 1012, time.Second},
		{"another epoch, as the broker says", func(l *fakeLog) { l.begin("B"); l.keep(7); l.lost(); l.wait(2 * time.Second); l.append(8, 8) },
			append([]string{lost}, positioned("B", 8)...), 1012, 0},
		{"another epoch, while one of the old epoch waits", func(l *fakeLog) {
			l.come("A", 5)
			l.begin("B")
			l.keep(7)
			l.lost()
			l.wait(12 * time.Second)
			l.append(8, 8)
		}, append([]string{lost}, positioned("B", 8)...), 1012, 0},
		{"a log that is behind, in an old epoch", func(l *fakeLog) {
			l.begin("0")
			l.lost()
			l.wait(500 * time.Millisecond)
			l.begin("A")
			l.append(4, 4)
		}, positioned("A", 4), 0, time.Second},
		{"trimmed", func(l *fakeLog) { l.set(func() { l.first = 6 }); l.keep(8); l.come("A", 8) }, append([]string{lost}, positioned("A", 7, 8)...), 1012, 0},
		{"a log that is ahead of what comes", func(l *fakeLog) {
			before := l.count()
			l.set(func() { l.first = 6 })
			l.keep(8)
			for l.count() == before { // nobody says that some are lost
				l.wait(10 * time.Millisecond)
			}
			l.come("A", 4, 5, 6, 7, 8)
		}, positioned("A", 4, 5, 6, 7, 8), 0, time.Second},
		{"two holes, and the log does not answer", func(l *fakeLog) { l.fails(); l.keep(9); l.come("A", 5, 6, 9) },
			slices.Concat([]string{lost}, positioned("A", 5, 6), []string{lost}, positioned("A", 9)), 1012, 12 * time.Second},
		{"all is gone", func(l *fakeLog) {
			l.set(func() { l.first = 8 })
			l.keep(8)
			l.lost()
			l.wait(11 * time.Second)
			l.append(9, 9)
		},
			append([]string{lost}, positioned("A", 9)...), 1012, 0},
		{"more comes than can wait", func(l *fakeLog) {
			l.fails()
			l.set(func() { l.size = 60_000 })
			l.come("A", 5, 6, 7)
			l.set(func() { l.size = 0 })
			l.come("A", 8)
		}, append([]string{lost}, positioned("A", 8)...), 1012, time.Second},
		{"the log is behind", func(l *fakeLog) {
			l.set(func() { l.seen = 4 })
			l.keep(6)
			l.come("A", 6)
			l.wait(3 * time.Second)
			l.set(func() { l.seen = 0 })
		}, positioned("A", 4, 5, 6), 0, 2 * time.Second},
		{"the log does not answer at first", func(l *fakeLog) {
			l.fails()
			l.keep(6)
			l.come("A", 6)
			l.wait(9 * time.Second)
			l.set(func() { l.fail = nil })
		}, positioned("A", 4, 5, 6), 0, 2 * time.Second},
		{"the log hangs at first", func(l *fakeLog) {
			l.set(func() { l.hang = true })
			l.keep(6)
			l.come("A", 6)
			l.wait(5 * time.Second)
			l.set(func() { l.hang = false })
		}, positioned("A", 4, 5, 6), 0, 2 * time.Second},
		{"the log does not answer", func(l *fakeLog) { l.fails(); l.keep(7); l.come("A", 6, 7) },
			append([]string{lost}, positioned("A", 6, 7)...), 1012, 12 * time.Second},
		{"the broker lost some, and the log does not answer", func(l *fakeLog) { l.fails(); l.lost() }, []string{lost}, 1012, 2 * time.Minute},
		{"a quiet channel whose log does not answer", func(l *fakeLog) { l.fails() }, nil, 0, 5 * time.Minute},
		{"no event", func(l *fakeLog) {
			for _, data := range []string{"", "x", "[]", "{}", `"ab"`} {
				l.subscribed()[0].deliver(pubsub.AppendEntry(nil, pubsub.Entry{Position: pubsub.Position{Epoch: "A", Offset: 4}, Data: []byte(data)}))
			}
			l.subscribed()[0].deliver([]byte("no entry"))
			l.append(5, 5)
		}, append([]string{lost}, positioned("A", 5)...), 1012, 0},
		{"no event in the log", func(l *fakeLog) {
			l.set(func() {
				l.next = l.page(pubsub.Entry{Position: pubsub.Position{Epoch: "A", Offset: 4}}, l.entry("A", 5))
			})
			l.lost()
		}, append([]string{lost}, positioned("A", 5)...), 1012, 0},
		{"the broker panics", func(l *fakeLog) {
			l.keep(4)
			l.set(func() { l.panics = true })
			l.lost()
			l.wait(time.Second)
			l.lost()
		}, positioned("A", 4), 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLog()
				l.top = 3
				srv := l.serve(t)
				positions, plain := srv.dialHistory(aliceT), srv.dialAs(aliceT)
				positions.join("room", "")
				plain.ask(`["join","room"]`)

				first, second := positions.listen(), plain.listen()

				tt.do(l)
				time.Sleep(tt.wait)
				got, code := first.take()
				got = slices.DeleteFunc(got, func(frame string) bool { return len(frame) > 1000 }) // of "more comes than can wait"
				if !slices.Equal(got, tt.want) || code != 0 {
					t.Errorf("got %q, close code %d, want %q", got, code, tt.want)
				}
				got, code = second.take()
				got = slices.DeleteFunc(got, func(frame string) bool { return len(frame) > 1000 })
				if code != tt.code {
					t.Errorf("the other one's close code is %d, want %d", code, tt.code)
				}
				var want []string
				for _, frame := range tt.want {
					if frame == lost { // and nothing more
						break
					}
					event, _, _ := strings.Cut(frame, ",{")
					want = append(want, event+"]")
				}
				if !slices.Equal(got, want) {
					t.Errorf("the other one got %q, want %q", got, want)
				}
			})
		})
	}
}

// loseWhileRead loses events during a read that does not show them, and ends when what is returned is closed.
func (l *fakeLog) loseWhileRead() chan struct{} {
	late := make(chan struct{})
	l.set(func() { l.late = late })
	l.lost()
	synctest.Wait()
	l.keep(5)
	l.lost()
	return late
}

// wait lets time pass, and what happens in it.
func (l *fakeLog) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// However much was missed, it comes as fast as the clients read. One that reads hardly anything is closed, and nobody waits for it for long.
func TestFeedInPortions(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int
		top  uint64
		page func(l *fakeLog) *pubsub.Page // the first, if it is another one
	}{
		{"small events", 1000, 1000, nil},
		{"large events", 100_000, 20, nil},
		{"events larger than a portion, for more than 10 s", 200_000, 120, nil},
		{"a large one behind small ones", 200_000, 101, func(l *fakeLog) *pubsub.Page {
			var entries []pubsub.Entry
			for l.size = 1000; len(entries) < 100; {
				entries = append(entries, l.entry("A", uint64(len(entries)+1)))
			}
			l.size = 200_000
			return l.page(append(entries, l.entry("A", 101))...)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLog()
				srv := l.serve(t)
				positions, plain, slow := srv.dialHistory(aliceT), srv.dialAs(aliceT), srv.dialHistory(aliceT)
				positions.join("room", "")
				plain.ask(`["join","room"]`)
				slow.join("room", "")
				first, second := positions.listen(), plain.listen()
				var wg sync.WaitGroup
				wg.Go(func() {
					for err := error(nil); err == nil; time.Sleep(4 * time.Second) { // without a pause of 5 s, after which it would be closed
						_, _, err = slow.ws.Read(context.Background())
					}
				})
				l.set(func() {
					l.size, l.top = tt.size, tt.top
					if tt.page != nil {
						l.next = tt.page(l)
					}
				})
				l.lost()
				l.wait(20 * time.Second)
				l.set(func() { l.size = 0 })
				l.append(tt.top+1, tt.top+1)
				got, code := first.take()
				for i, frame := range got {
					if want := fmt.Sprintf(`{"offset":%d,"epoch":"A","channel":"room"}]`, i+1); !strings.HasSuffix(frame, want) {
						t.Fatalf("frame %d is %.50q…, want %s", i+1, frame, want)
					}
				}
				if uint64(len(got)) != tt.top+1 || code != 0 {
					t.Errorf("%d events came, close code %d", len(got), code)
				}
				if got, code := second.take(); uint64(len(got)) != tt.top+1 || code != 0 {
					t.Errorf("%d events came to the other one, close code %d", len(got), code)
				}
				if n := srv.Stats().Conns; n != 2 {
					t.Errorf("%d connections are left", n)
				}
				slow.ws.CloseNow()
				wg.Wait()
			})
		})
	}
}

// An epoch that ends while nothing has come in it may have had an event that is gone.
func TestFeedOfAnEmptyChannel(t *testing.T) {
	const lost = `["lost","room"]`
	for _, tt := range []struct {
		name string
		do   func(l *fakeLog)
		want []string
	}{
		{"another epoch's first event comes, and then the broker says that some are lost", func(l *fakeLog) {
			l.keep(1)
			l.begin("B")
			l.append(1, 1)
			l.lost()
			l.wait(2 * time.Second)
			l.append(2, 2)
		}, append([]string{lost}, positioned("B", 2)...)},
		{"it is found", func(l *fakeLog) { l.begin("B"); l.keep(1); l.wait(time.Minute); l.append(2, 2) },
			append([]string{lost}, positioned("B", 2)...)},
		{"it comes, and the log does not answer", func(l *fakeLog) { l.fails(); l.begin("B"); l.come("B", 1); l.wait(12 * time.Second) },
			append([]string{lost}, positioned("B", 1)...)},
		{"a log that is behind, in an old epoch", func(l *fakeLog) {
			before := l.count()
			l.set(func() { l.next = l.page(l.entry("0", 1), l.entry("0", 2)) })
			for l.count() == before { // nobody says that some are lost
				l.wait(10 * time.Millisecond)
			}
			l.append(1, 1)
		}, positioned("A", 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLog()
				srv := l.serve(t)
				conn := srv.dialHistory(aliceT)
				conn.join("room", "")
				came := conn.listen()
				tt.do(l)
				if got, _ := came.take(); !slices.Equal(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// What happens while a feed begins, after the log was read, is not missed.
func TestFeedBegins(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(l *fakeLog)
	}{
		{"events come", func(l *fakeLog) { l.append(4, 6) }},
		{"the broker lost some", func(l *fakeLog) { l.keep(6); l.lost() }},
		{"more come than can wait", func(l *fakeLog) {
			l.set(func() { l.size = 60_000 })
			l.append(4, 6)
			l.set(func() { l.size = 0 })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLog()
				l.hang, l.next = true, &pubsub.Page{Top: pubsub.Position{Epoch: "A", Offset: 3}}
				srv := l.serve(t)
				conn := srv.dialHistory(aliceT)
				conn.send(`["join","room"]`)
				synctest.Wait()
				tt.do(l)
				l.set(func() { l.hang = false })
				came := conn.listen()
				time.Sleep(time.Second)
				got, _ := came.take()
				joined := `["joined","room",{"recovered":false,"offset":%d,"epoch":"A","reason":"no_since"}]`
				early := slices.Equal(got[1:], append([]string{fmt.Sprintf(joined, 3)}, positioned("A", 4, 5, 6)...))
				late := slices.Equal(got[1:], []string{fmt.Sprintf(joined, 6)}) // the feed had them when it joined
				if !early && !late {
					t.Errorf("got %q, want to know of 4 to 6", got)
				}
			})
		})
	}
}

// TestFeedLooks has a feed look after a quiet channel once a minute at least, and not after one where events come.
func TestFeedLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		srv := l.serve(t)
		conn := srv.dialHistory(aliceT)
		conn.join("room", "")
		came := conn.listen()
		before := 0
		for range 10 {
			l.set(func() { before = l.reads })
			l.wait(50 * time.Second)
			l.set(func() {
				if n := l.reads - before; n < 1 || n > 2 {
					t.Errorf("%d looks in 50 s", n)
				}
			})
		}
		l.set(func() { before = l.reads })
		for n := range uint64(60) {
			l.append(n+1, n+1)
			l.wait(10 * time.Second)
		}
		if got, _ := came.take(); len(got) != 60 {
			t.Errorf("%d events came", len(got))
		}
		l.set(func() {
			if l.reads != before {
				t.Errorf("%d looks while events came", l.reads-before)
			}
		})
	})
}

// A heldHandler holds the goroutine that logs a message until that is free.
type heldHandler struct {
	message    string
	came, free chan struct{}
}

func (h *heldHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *heldHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *heldHandler) WithGroup(string) slog.Handler            { return h }

func (h *heldHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		close(h.came)
		<-h.free
	}
	return nil
}

// Who joins while an entry is delivered, waits for that, and is told nothing of it afterwards.
func TestJoinWaitsForDelivery(t *testing.T) {
	for _, tt := range []struct {
		name  string
		leave bool // the only other member leaves meanwhile, so that the feed is to end, and another one is to begin
	}{{"the feed stays", false}, {"the feed ends", true}} {
		t.Run(tt.name, func(t *testing.T) {
			l := newFakeLog()
			held := &heldHandler{"broker message ignored", make(chan struct{}), make(chan struct{})}
			cfg := withHistory()
			cfg.Broker, cfg.Logger = l, slog.New(held)
			srv := serve(t, cfg)
			first, second := srv.dialHistory(aliceT), srv.dialHistory(aliceT)
			first.join("room", "")
			second.ask("ping")
			l.keep(1)
			var delivered sync.WaitGroup
			delivered.Go(func() { // what is no event is lost, and logged before the members are told
				l.subscribed()[0].deliver(pubsub.AppendEntry(nil, pubsub.Entry{Position: pubsub.Position{Epoch: "A", Offset: 1}}))
			})
			<-held.came
			if tt.leave {
				first.send(`["leave","room"]`)
				eventually(t, "it left", func() bool {
					return !slices.ContainsFunc(srv.Conns(), func(c *mooncore.Conn) bool { return slices.Contains(c.Channels(), "room:default") })
				})
			}
			second.send(`["join","room"]`)
			time.Sleep(100 * time.Millisecond) // real time: one that does not wait has joined by then
			close(held.free)
			delivered.Wait()
			second.expect(`["channel_list",["room:default","@alice"]]`, `["joined","room",{"recovered":false,"offset":1,"epoch":"A","reason":"no_since"}]`)
			l.append(2, 2)
			second.expect(positioned("A", 2)...)
		})
	}
}

// What a feed read before its last member left, does not come to the next one, who knows it.
func TestFeedEndsWhileItReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		l.top = 3
		srv := l.serve(t)
		first, second := srv.dialHistory(aliceT), srv.dialHistory(aliceT)
		first.join("room", "")
		late := make(chan struct{})
		l.set(func() { l.late = late })
		l.keep(6)
		l.come("A", 6)
		synctest.Wait()
		first.ask(`["leave","room"]`)
		synctest.Wait()
		if at := second.join("room", ""); at.Offset != 6 {
			t.Fatalf("joined at %+v, want offset 6", at)
		}
		came := second.listen()
		close(late)
		l.wait(time.Second)
		l.append(7, 7)
		if got, _ := came.take(); !slices.Equal(got, positioned("A", 7)) {
			t.Errorf("got %q, want 7 alone", got)
		}
	})
}

// The broker's subscription lasts as long as there is a member, and nothing runs on afterwards.
func TestFeedEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(srv *live, conn *socket)
	}{
		{"leave", func(_ *live, conn *socket) { conn.ask(`["leave","room"]`) }},
		{"quit", func(_ *live, conn *socket) { conn.send("quit"); conn.expectClose(1000) }},
		{"cut", func(_ *live, conn *socket) { conn.ws.CloseNow() }},
		{"kick", func(srv *live, conn *socket) { srv.Conns()[0].Kick(); conn.expectClose(1008) }},
		{"another user", func(srv *live, conn *socket) {
			conn.ask(fmt.Sprintf(`["jwt",%q]`, srv.token(mooncore.Identity{User: "bob", Tenant: "t"})))
		}},
		{"Conn.Leave", func(srv *live, _ *socket) { srv.Conns()[0].Leave(context.Background(), "room") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLog()
				srv := l.serve(t)
				conn := srv.dialHistory(aliceT)
				conn.join("room", "")
				conn.join("room", `{"since":{"offset":0,"epoch":"A"}}`) // a second time
				l.set(func() { l.hang = true })
				l.keep(3)
				l.come("A", 3) // a catch-up is under way
				synctest.Wait()
				if n := srv.Stats().History.Feeds; n != 1 {
					t.Fatalf("%d feeds", n)
				}
				tt.end(srv, conn)
				synctest.Wait()
				l.set(func() {
					if n := srv.Stats().History.Feeds; n != 0 || len(l.topics) != 0 || l.reading != 0 {
						t.Errorf("%d feeds, %d subscriptions and %d reads are left", n, len(l.topics), l.reading)
					}
				})
			})
		})
	}
}

// Shutdown waits for no log that does not answer.
func TestShutdownWhileCatchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		srv := l.serve(t)
		conn := srv.dialHistory(aliceT)
		conn.join("room", "")
		l.set(func() { l.hang = true })
		l.come("A", 3)
		joining := srv.dialHistory(aliceT)
		joining.send(`["join","room",{"since":{"offset":9,"epoch":"A"}}]`)
		joining.send(`["leave","room"]`) // its answer would seem to be the join's
		synctest.Wait()
		start := time.Now()
		stopped := make(chan error, 1)
		go func() { stopped <- srv.stop() }()
		conn.expectClose(1012)
		if _, before := joining.expectClose(1012); len(before) > 0 { // nobody is told that it can't be recovered
			t.Errorf("who joined got %q", before)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestFeedBeginsInAnotherEpoch has the epoch end while a feed reads where the channel stands. What came of it meanwhile is not delivered.
func TestFeedBeginsInAnotherEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		l.hang, l.size = true, 60_000
		srv := l.serve(t)
		conn := srv.dialHistory(aliceT)
		conn.send(`["join","room"]`)
		synctest.Wait()
		l.append(1, 2)
		l.begin("B")
		l.keep(3)
		l.set(func() { l.hang = false })
		came := conn.listen()
		l.wait(50 * time.Millisecond)
		l.set(func() { l.size = 60_000; l.hang = true })
		l.come("B", 5) // the one before it is missing
		l.wait(50 * time.Millisecond)
		l.set(func() { l.hang, l.size = false, 0 })
		l.append(4, 6)
		l.wait(time.Second)
		got, _ := came.take()
		old := slices.ContainsFunc(got, func(frame string) bool { return strings.Contains(frame, `"epoch":"A"`) })
		if last := got[len(got)-1]; old || last != positioned("B", 6)[0] {
			t.Errorf("an event of the old epoch came: %t; the last frame is %.100q", old, last)
		}
	})
}
