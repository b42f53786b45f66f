package embedded_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/natsbroker"
)

// TestLogAgeBehindRead lets the message age that was the first of an epoch which began by Read: another broker must not append another
// one at its place.
func TestLogAgeBehindRead(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
	o := natsbroker.Options{URL: server.Addr()}
	brief := pubsub.Keep{Events: 10, Age: time.Second}
	b := newLog(t, o)
	began := mustRead(t, b, "x", 0, brief).Top
	first := mustAppend(t, b, "x", "first", brief)
	if want := (pubsub.Position{Epoch: began.Epoch, Offset: 1}); first != want {
		t.Fatalf("the first message is at %+v, want %+v", first, want)
	}
	for deadline := time.Now().Add(20 * time.Second); len(mustRead(t, newLog(t, o), "x", 0, brief).Entries) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the message is kept for ever")
		}
		time.Sleep(100 * time.Millisecond) // real time: the server's
	}
	if second := mustAppend(t, newLog(t, o), "x", "second", brief); second.Epoch == first.Epoch && second.Offset != 2 {
		t.Errorf("behind %+v another message is at %+v", first, second)
	}
}

// TestLogQuiet reads a topic on and on, long after its last message: its position stays, and the next message follows.
func TestLogQuiet(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
	o := natsbroker.Options{URL: server.Addr()}
	brief := pubsub.Keep{Events: 1, Age: time.Second}
	b, reader := newLog(t, o), newLog(t, o)
	came := make(chan pubsub.Entry, 10)
	if _, err := b.Subscribe(t.Context(), "x", func(data []byte) {
		e, err := pubsub.ParseEntry(data)
		if err != nil {
			t.Error(err)
		}
		e.Data = bytes.Clone(e.Data)
		came <- e
	}, func() { t.Error("a loss") }); err != nil {
		t.Fatal(err)
	}
	last := mustAppend(t, b, "x", "first", brief)
	for end := time.Now().Add(3 * brief.Age); time.Now().Before(end); {
		for _, l := range []pubsub.Log{b, reader, newLog(t, o)} {
			page := mustRead(t, l, "x", 0, brief)
			if page.Top != last {
				t.Fatalf("the top was %+v and is %+v, though nothing was appended", last, page.Top)
			}
		}
		time.Sleep(brief.Age / 2) // real time: the server's
	}
	if page := mustRead(t, reader, "x", 0, brief); len(page.Entries) > 0 {
		t.Errorf("%q is kept after three times the age", text(page))
	}
	for i, l := range []pubsub.Log{reader, b, newLog(t, o)} {
		at := mustAppend(t, l, "x", fmt.Sprint("next", i), brief)
		if want := (pubsub.Position{Epoch: last.Epoch, Offset: last.Offset + 1}); at != want {
			t.Fatalf("append %d is at %+v, want %+v", i, at, want)
		}
		last = at
	}
	if page := mustRead(t, reader, "x", last.Offset-1, brief); page.Top != last || text(page) != "next2" {
		t.Errorf("behind %d there is %q up to %+v", last.Offset-1, text(page), page.Top)
	}
	for i, want := range []string{"first", "next0", "next1", "next2"} {
		if e := <-came; string(e.Data) != want || e.Epoch != last.Epoch || e.Offset != uint64(i+1) {
			t.Fatalf("%q came at %+v, want %q", e.Data, e.Position, want)
		}
	}
}

// TestLogMarkerBehind deletes the message behind a marker: the marker must not be the last one again.
func TestLogMarkerBehind(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
	o := natsbroker.Options{URL: server.Addr()}
	b := newLog(t, o)
	mustRead(t, b, "x", 0, keep)
	first := mustAppend(t, b, "x", "first", keep)
	s, err := admin(t, server.Addr()).Stream(t.Context(), keepStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), s.CachedInfo().State.LastSeq); err != nil {
		t.Fatal(err)
	}
	if second := mustAppend(t, newLog(t, o), "x", "second", keep); second.Epoch == first.Epoch {
		t.Errorf("behind %+v, which is gone, another message is at %+v", first, second)
	}
}
