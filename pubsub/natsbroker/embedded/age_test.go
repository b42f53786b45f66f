package embedded_test

import (
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
