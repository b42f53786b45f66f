package pubsubtest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// RunLog tests what a Log does beyond a Broker; Run or RunCluster tests it as that. It is to be run with the race detector.
// Each call of newLog makes one more Log; the suite closes it. Logs that are made in one test must have what the others appended.
//
// It takes some seconds of real time, for what ends by its age.
func RunLog(t *testing.T, newLog func(t *testing.T) pubsub.Log) { runLog(t, newLog, "", 1) }

// RunLogCluster is RunLog for a Log that connects servers: those that newLog makes must reach each other. It also tests with several
// servers.
func RunLogCluster(t *testing.T, newLog func(t *testing.T) pubsub.Log) {
	RunLog(t, newLog)
	runLog(t, newLog, "Cluster", 3)
}

func runLog(t *testing.T, newLog func(t *testing.T) pubsub.Log, prefix string, servers int) {
	for _, check := range logChecks {
		t.Run(prefix+check.name, func(t *testing.T) {
			if check.waits {
				t.Parallel()
			}
			check.run(newLogSuite(t, func() pubsub.Log { return newLog(t) }, servers))
		})
	}
}

// logChecks are the suite. A check uses its logs as one: whether they are one or several makes no difference.
var logChecks = []logCheck{
	{"Append", false, (*logSuite).append},
	{"Order", false, (*logSuite).order},
	{"Pages", false, (*logSuite).pages},
	{"Epoch", false, (*logSuite).epoch},
	{"Events", false, (*logSuite).events},
	{"Names", false, (*logSuite).names},
	{"Tuples", false, (*logSuite).tuples},
	{"Data", false, (*logSuite).data},
	{"Subscribe", false, (*logSuite).subscribe},
	{"CatchUp", false, (*logSuite).catchUp},
	{"Context", false, (*logSuite).context},
	{"Close", false, (*logSuite).close},
	{"Concurrency", false, (*logSuite).concurrency},
	{"Age", true, (*logSuite).age},
	{"AgeInUse", true, (*logSuite).ageInUse},
	{"AgeOfNothing", true, (*logSuite).ageOfNothing},
}

// keepAll keeps all that a check appends to a topic.
var keepAll = pubsub.Keep{Events: 10_000, Age: time.Hour}

type logCheck struct {
	name  string
	waits bool // for real time to pass
	run   func(s *logSuite)
}

// A logSuite is a run of a check.
type logSuite struct {
	testing.TB
	open func() pubsub.Log
	logs []pubsub.Log
}

func newLogSuite(t testing.TB, newLog func() pubsub.Log, servers int) *logSuite {
	s := &logSuite{TB: t}
	s.open = func() pubsub.Log {
		l := newLog()
		t.Cleanup(func() {
			if err := l.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		return l
	}
	for range servers {
		s.logs = append(s.logs, s.open())
	}
	return s
}

// log returns the logs in turn.
func (s *logSuite) log(i int) pubsub.Log { return s.logs[i%len(s.logs)] }

// add appends a message, and returns it as an Entry.
func (s *logSuite) add(server int, topic, data string, keep pubsub.Keep) pubsub.Entry {
	s.Helper()
	at, err := s.log(server).Append(s.Context(), topic, []byte(data), keep)
	if err != nil {
		s.Fatalf("Append(%q): %v", short(topic), err)
	}
	if !validEpoch(at.Epoch) || at.Offset == 0 {
		s.Fatalf("Append returned %+v", at)
	}
	return pubsub.Entry{Position: at, Data: []byte(data)}
}

func validEpoch(epoch string) bool {
	const characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	return epoch != "" && len(epoch) <= 32 && strings.Trim(epoch, characters) == ""
}

// follows checks that an entry has the position behind another one.
func (s *logSuite) follows(e, before pubsub.Entry) {
	s.Helper()
	if want := (pubsub.Position{Epoch: before.Epoch, Offset: before.Offset + 1}); e.Position != want {
		s.Fatalf("the message behind %+v was appended at %+v", before.Position, e.Position)
	}
}

// read reads a page, and checks what holds for any.
func (s *logSuite) read(server int, topic string, after uint64, maxBytes int, keep pubsub.Keep) pubsub.Page {
	s.Helper()
	page, err := s.log(server).Read(s.Context(), topic, after, maxBytes, keep)
	if err != nil {
		s.Fatalf("Read(%q): %v", short(topic), err)
	}
	if !validEpoch(page.Top.Epoch) {
		s.Fatalf("Read: the epoch is %q", page.Top.Epoch)
	}
	size := 0
	for i, e := range page.Entries {
		switch {
		case e.Epoch != page.Top.Epoch || e.Offset > page.Top.Offset:
			s.Fatalf("Read: %+v is on a page whose top is %+v", e.Position, page.Top)
		case i == 0 && e.Offset <= after:
			s.Fatalf("Read after %d: the first entry is %d", after, e.Offset)
		case i > 0 && e.Offset != page.Entries[i-1].Offset+1:
			s.Fatalf("Read: %d stands behind %d", e.Offset, page.Entries[i-1].Offset)
		case i > 0 && size+len(e.Data) > 2*maxBytes:
			s.Fatalf("Read: %d bytes and more, want about %d", size+len(e.Data), maxBytes)
		}
		size += len(e.Data)
	}
	if len(page.Entries) == 0 && page.Top.Offset > after && keep.Age == keepAll.Age {
		s.Fatalf("Read after %d: no entries, though the top is %+v", after, page.Top)
	}
	return page
}

// readAll reads what is kept behind an offset, by pages, until it comes to an entry.
func (s *logSuite) readAll(server int, topic string, after uint64, last pubsub.Entry, keep pubsub.Keep) (all []pubsub.Entry) {
	s.Helper()
	for deadline := time.Now().Add(patience); ; {
		page := s.read(server, topic, after, 64<<10, keep)
		if len(page.Entries) > 0 && len(all) > 0 && page.Entries[0].Offset != after+1 {
			s.Fatalf("Read after %d, which was read: the first entry is %d", after, page.Entries[0].Offset)
		}
		for _, e := range page.Entries {
			all = append(all, e)
			after = e.Offset
		}
		if after >= last.Offset {
			return all
		}
		if time.Now().After(deadline) {
			s.Fatalf("Read: the top is %+v, but %+v was appended", page.Top, last.Position)
		}
		if len(page.Entries) == 0 { // it is behind
			time.Sleep(time.Millisecond)
		}
	}
}

// until waits until ok reports true.
func (s *logSuite) until(what string, ok func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatal("timeout: " + what)
		}
	}
}

// kept checks that what is kept behind an offset is this.
func (s *logSuite) kept(server int, topic string, after uint64, want []pubsub.Entry, keep pubsub.Keep) {
	s.Helper()
	got := s.readAll(server, topic, after, want[len(want)-1], keep)
	if fault := compare(got, want); fault != "" {
		s.Fatalf("Read on server %d: %s", server, fault)
	}
}

// compare says where entries differ, or nothing.
func compare(got, want []pubsub.Entry) string {
	for i, e := range got {
		switch {
		case i == len(want):
			return fmt.Sprintf("%d entries, want %d; one too many is %+v, %q", len(got), len(want), e.Position, short(string(e.Data)))
		case e.Position != want[i].Position:
			return fmt.Sprintf("entry %d is %+v, want %+v", i, e.Position, want[i].Position)
		case !bytes.Equal(e.Data, want[i].Data):
			return fmt.Sprintf("%+v has %q, want %q", e.Position, short(string(e.Data)), short(string(want[i].Data)))
		}
	}
	if len(got) < len(want) {
		return fmt.Sprintf("%d entries, want %d", len(got), len(want))
	}
	return ""
}

// A tape is what came to a subscription.
type tape struct {
	s      *logSuite
	server int

	mu      sync.Mutex
	entries []pubsub.Entry
}

// follow subscribes a tape.
func (s *logSuite) follow(server int, topic string) (tp *tape, unsubscribe func()) {
	s.Helper()
	tp = &tape{s: s, server: server}
	unsubscribe, err := s.log(server).Subscribe(s.Context(), topic, tp.deliver,
		func() { s.Errorf("messages of %q were lost", short(topic)) })
	if err != nil {
		s.Fatalf("Subscribe(%q): %v", short(topic), err)
	}
	return tp, unsubscribe
}

func (tp *tape) deliver(data []byte) {
	e, err := pubsub.ParseEntry(data)
	if err != nil {
		tp.s.Errorf("ParseEntry(%q): %v", short(string(data)), err)
		return
	}
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.entries = append(tp.entries, e)
}

func (tp *tape) all() []pubsub.Entry {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return slices.Clone(tp.entries)
}

// want waits until these entries have come, and checks that no others have. What came twice is found when the next entry has come.
func (tp *tape) want(entries ...pubsub.Entry) {
	tp.s.Helper()
	got := tp.all()
	for deadline := time.Now().Add(patience); len(got) < len(entries) && time.Now().Before(deadline); got = tp.all() {
		time.Sleep(time.Millisecond)
	}
	if fault := compare(got, entries); fault != "" {
		tp.s.Fatalf("subscription on server %d: %s", tp.server, fault)
	}
}
