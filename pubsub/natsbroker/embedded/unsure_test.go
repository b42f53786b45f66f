package embedded_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/natsbroker"
)

// TestLogClosedWhileAppending closes a broker that appends: what fails with ErrClosed or ErrAway was not appended.
func TestLogClosedWhileAppending(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
	o := natsbroker.Options{URL: server.Addr(), Memory: true}
	reader := newLog(t, o)
	for round := range 5 {
		b := newLog(t, o)
		var failed [32]string // by topic: the data of which Append said that it was not appended
		var wg, begun sync.WaitGroup
		begun.Add(len(failed))
		name := func(i int) string { return fmt.Sprint(round, "-", i) }
		for i := range failed {
			wg.Go(func() {
				for n := 1; ; n++ {
					_, err := b.Append(t.Context(), name(i), []byte(fmt.Sprint(n)), keep)
					if n == 20 {
						begun.Done()
					}
					if errors.Is(err, pubsub.ErrClosed) || errors.Is(err, pubsub.ErrAway) {
						failed[i] = fmt.Sprint(n)
					}
					if err != nil {
						return
					}
				}
			})
		}
		begun.Wait()
		b.Close()
		wg.Wait()
		for i, data := range failed {
			page := mustRead(t, reader, name(i), 0, keep)
			if n := len(page.Entries); n > 0 && string(page.Entries[n-1].Data) == data {
				t.Errorf("%q is kept, though it failed with ErrClosed or ErrAway", data)
			}
		}
	}
}

// TestLogAnswersLate has a server take an append that was sent again meanwhile: it is kept once, and Append says where.
func TestLogAnswersLate(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()})
	b := newLog(t, natsbroker.Options{URL: server.Addr(), Memory: true})
	mustAppend(t, b, "x", "a", keep)
	server.Freeze()
	var at pubsub.Position
	var err error
	appended := make(chan struct{})
	go func() {
		defer close(appended)
		at, err = b.Append(t.Context(), "x", []byte("b"), keep)
	}()
	time.Sleep(1500 * time.Millisecond) // real time: it is sent again after a second
	server.Thaw()
	<-appended
	page := mustRead(t, b, "x", 0, keep)
	if n := len(page.Entries); err != nil || n != 2 || at != page.Top || page.Entries[1].Position != at || string(page.Entries[1].Data) != "b" {
		t.Errorf("Append: %+v, error %v; kept are %+v, up to %+v", at, err, page.Entries, page.Top)
	}
}

// TestClosedWhilePublishing closes a broker that publishes: what fails with ErrClosed was not sent.
func TestClosedWhilePublishing(t *testing.T) {
	t.Parallel()
	server := natsServer(t, serverConfig{Addr: freeport.Addr(t)})
	other := newLog(t, natsbroker.Options{URL: server.Addr()})
	var mu sync.Mutex
	came := map[string]bool{}
	if _, err := other.Subscribe(t.Context(), "x", func(data []byte) {
		mu.Lock()
		defer mu.Unlock()
		came[string(data)] = true
	}, func() {}); err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		b := newLog(t, natsbroker.Options{URL: server.Addr()})
		var failed [32]string
		var wg, begun sync.WaitGroup
		begun.Add(len(failed))
		for i := range failed {
			wg.Go(func() {
				for n := 1; ; n++ {
					data := fmt.Sprint(round, "-", i, "-", n)
					err := b.Publish(t.Context(), "x", []byte(data))
					if n == 20 {
						begun.Done()
					}
					if errors.Is(err, pubsub.ErrClosed) {
						failed[i] = data
					}
					if err != nil {
						return
					}
				}
			})
		}
		begun.Wait()
		b.Close()
		wg.Wait()
		end := fmt.Sprint(round, "-end")                                                        // the server has handled all that b sent
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // real time: the server's
			if err := other.Publish(t.Context(), "x", []byte(end)); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			done := came[end]
			mu.Unlock()
			if done {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the last message did not come")
			}
		}
		mu.Lock()
		for _, data := range failed {
			if came[data] {
				t.Errorf("%q came, though it failed with ErrClosed", data)
			}
		}
		mu.Unlock()
	}
}

// TestLogServersAway takes the servers with JetStream away from a broker that has kept something there: that is no error of the
// configuration.
func TestLogServersAway(t *testing.T) {
	t.Parallel()
	conf := serverConfig{Addr: freeport.Addr(t), Dir: t.TempDir()}
	with := natsServer(t, conf)
	b := newLog(t, natsbroker.Options{URL: with.Addr()})
	mustAppend(t, b, "x", "a", keep)
	with.Kill()
	conf.Dir = ""
	natsServer(t, conf)
	for deadline := time.Now().Add(20 * time.Second); b.Publish(t.Context(), "x", nil) != nil; time.Sleep(10 * time.Millisecond) { // real time: until it is there again
		if time.Now().After(deadline) {
			t.Fatal("the broker does not connect again")
		}
	}
	if _, err := b.Append(t.Context(), "x", nil, keep); !errors.Is(err, pubsub.ErrAway) {
		t.Errorf("Append: error %v, want ErrAway", err)
	}
}
