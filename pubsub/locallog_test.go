package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// offsets are those of entries, whose data must be "m<offset>".
func offsets(t *testing.T, epoch string, entries []pubsub.Entry) []uint64 {
	t.Helper()
	list := []uint64{}
	for _, e := range entries {
		if want := fmt.Sprint("m", e.Offset); string(e.Data) != want || e.Epoch != epoch {
			t.Errorf("entry %+v of epoch %q: data %q, want %q", e.Position, epoch, e.Data, want)
		}
		list = append(list, e.Offset)
	}
	return list
}

func upTo(from, to uint64) []uint64 {
	list := []uint64{}
	for n := from; n <= to; n++ {
		list = append(list, n)
	}
	return list
}

// appendTo appends "m1", "m2", ... up to offset n, and returns the last position.
func appendTo(t *testing.T, l *pubsub.Local, topic string, n uint64, keep pubsub.Keep) (at pubsub.Position) {
	t.Helper()
	page, err := l.Read(t.Context(), topic, 0, 1, keep)
	if err != nil {
		t.Fatal(err)
	}
	for offset := page.Top.Offset + 1; offset <= n; offset++ {
		at, err = l.Append(t.Context(), topic, fmt.Append(nil, "m", offset), keep)
		if want := (pubsub.Position{Epoch: page.Top.Epoch, Offset: offset}); err != nil || at != want {
			t.Fatalf("Append: %+v, %v, want %+v", at, err, want)
		}
	}
	return at
}

func TestLocalRead(t *testing.T) {
	const data = "m10" // the size of most
	for _, tt := range []struct {
		name     string
		keep     int
		append   uint64
		after    uint64
		maxBytes int
		want     []uint64
	}{
		{"nothing", 10, 0, 0, 1000, upTo(1, 0)},
		{"everything", 100, 20, 0, 1000, upTo(1, 20)},
		{"what follows", 100, 20, 15, 1000, upTo(16, 20)},
		{"at the top", 100, 20, 20, 1000, upTo(1, 0)},
		{"ahead", 100, 20, 21, 1000, upTo(1, 0)},
		{"far ahead", 100, 20, 1<<64 - 1, 1000, upTo(1, 0)},
		{"trimmed", 5, 20, 0, 1000, upTo(16, 20)},
		{"trimmed, at the edge", 5, 20, 15, 1000, upTo(16, 20)},
		{"the last one only", 1, 20, 0, 1000, upTo(20, 20)},
		{"a page", 100, 20, 9, 4 * len(data), upTo(10, 13)},
		{"one byte less than a page", 100, 20, 9, 4*len(data) - 1, upTo(10, 12)},
		{"one at least", 100, 20, 9, 0, upTo(10, 10)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := pubsub.NewLocal()
			defer l.Close()
			keep := pubsub.Keep{Events: tt.keep, Age: time.Hour}
			appendTo(t, l, "x", tt.append, keep)
			page, err := l.Read(t.Context(), "x", tt.after, tt.maxBytes, keep)
			if err != nil {
				t.Fatal(err)
			}
			if got := offsets(t, page.Top.Epoch, page.Entries); !slices.Equal(got, tt.want) || page.Top.Offset != tt.append {
				t.Errorf("offsets %d, top %d, want %d, %d", got, page.Top.Offset, tt.want, tt.append)
			}
		})
	}
}

// TestLocalAge lets entries get old: they go one by one, and the epoch when nothing was read for two minutes.
func TestLocalAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := pubsub.NewLocal()
		defer l.Close()
		keep := pubsub.Keep{Events: 100, Age: 10 * time.Second}
		read := func() (epoch string, offset uint64, kept []uint64) {
			page, err := l.Read(t.Context(), "x", 0, 1000, keep)
			if err != nil {
				t.Fatal(err)
			}
			return page.Top.Epoch, page.Top.Offset, offsets(t, page.Top.Epoch, page.Entries)
		}
		first, _, _ := read()
		if len(first) == 0 || len(first) > 32 || strings.Trim(first, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
			t.Errorf("epoch %q", first)
		}
		for n := range uint64(3) {
			appendTo(t, l, "x", n+1, keep)
			time.Sleep(2 * time.Second)
		}
		for _, step := range []struct {
			sleep time.Duration
			top   uint64
			kept  []uint64
			same  bool // the epoch
		}{
			{0, 3, upTo(1, 3), true},
			{4*time.Second - 1, 3, upTo(1, 3), true},
			{1, 3, upTo(2, 3), true},
			{2 * time.Second, 3, upTo(3, 3), true},
			{2 * time.Second, 3, nil, true},
			{2*time.Minute - 1, 3, nil, true}, // as long as it is read
			{2*time.Minute - 1, 3, nil, true},
			{2 * time.Minute, 0, nil, false},
		} {
			time.Sleep(step.sleep)
			synctest.Wait()
			epoch, top, kept := read()
			if (epoch == first) != step.same || top != step.top || !slices.Equal(kept, step.kept) {
				t.Errorf("after %v: epoch kept %t, top %d, offsets %d, want %t, %d, %d",
					step.sleep, epoch == first, top, kept, step.same, step.top, step.kept)
			}
		}
		appendTo(t, l, "x", 1, keep)
		time.Sleep(time.Second)
		if _, top, kept := read(); top != 1 || !slices.Equal(kept, upTo(1, 1)) {
			t.Errorf("in the second epoch: top %d, offsets %d", top, kept)
		}
	})
}

// TestLocalIdle bounds how many epochs are remembered, by which was read last. Topics with entries do not count.
func TestLocalIdle(t *testing.T) {
	l := pubsub.NewLocal()
	defer l.Close()
	keep := pubsub.Keep{Events: 10, Age: time.Hour}
	epoch := func(topic string) string {
		page, err := l.Read(t.Context(), topic, 0, 1, keep)
		if err != nil {
			t.Fatal(err)
		}
		return page.Top.Epoch
	}
	kept := appendTo(t, l, "kept", 1, keep)
	first, second := epoch("first"), epoch("second")
	for n := range 9_998 {
		epoch(fmt.Sprint("topic ", n))
	}
	if epoch("first") != first {
		t.Error("10,000 topics: the first one's epoch was forgotten")
	}
	epoch("one more")
	if epoch("first") != first || epoch("second") == second || epoch("kept") != kept.Epoch {
		t.Error("not the topic that was not read for longest was forgotten")
	}
}

// Topics with a subscription keep their epochs, for as long and however many they are. They begin to be idle when it ends.
func TestLocalIdleSubscribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := pubsub.NewLocal()
		defer l.Close()
		keep := pubsub.Keep{Events: 10, Age: time.Second}
		epoch := func(topic string) string {
			page, err := l.Read(t.Context(), topic, 0, 1, keep)
			if err != nil {
				t.Fatal(err)
			}
			return page.Top.Epoch
		}
		subscribe := func(topic string) func() {
			end, err := l.Subscribe(t.Context(), topic, func([]byte) {}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return end
		}
		flood := func(name string) {
			for n := range 10_001 {
				epoch(fmt.Sprint(name, n))
			}
		}
		before := epoch("before") // it is read before
		ends := []func(){subscribe("before"), subscribe("before"), subscribe("quiet"), subscribe("expired")}
		quiet, expired := epoch("quiet"), appendTo(t, l, "expired", 1, keep).Epoch
		kept := func(when string, want bool) {
			t.Helper()
			if got := []bool{epoch("before") == before, epoch("quiet") == quiet, epoch("expired") == expired}; slices.Contains(got, !want) {
				t.Errorf("%s: kept %t, want %t", when, got, want)
			}
		}
		flood("first ")
		kept("after 10,001 others", true)
		time.Sleep(time.Hour)
		flood("second ")
		kept("an hour and 10,001 others later", true)
		for _, end := range ends[1:] {
			end()
		}
		time.Sleep(2*time.Minute - 1)
		kept("almost 2 minutes after they ended", true)
		ends[0]()
		flood("third ")
		kept("10,001 others after they ended", false)
		subscribe("fourth")()
		fourth := epoch("fourth")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if epoch("fourth") == fourth {
			t.Error("2 minutes after it was read, without a subscription: it was not forgotten")
		}
	})
}

// TestLocalAppendDelivers has subscribers get entries in the order of their offsets, whoever appends.
func TestLocalAppendDelivers(t *testing.T) {
	const appenders, each = 8, 200
	l := pubsub.NewLocal()
	defer l.Close()
	keep := pubsub.Keep{Events: 10, Age: time.Hour}
	var got []uint64
	if _, err := l.Subscribe(t.Context(), "x", func(data []byte) {
		e, err := pubsub.ParseEntry(data)
		if err != nil || string(e.Data) != "data" {
			t.Errorf("ParseEntry: %q, %v", e.Data, err)
		}
		if page, err := l.Read(t.Context(), "x", e.Offset-1, 1000, keep); err != nil || page.Top != e.Position || len(page.Entries) != 1 {
			t.Errorf("Read within deliver of %+v: %+v, %v", e.Position, page, err)
		}
		got = append(got, e.Offset)
	}, nil); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range appenders {
		wg.Go(func() {
			for range each {
				if _, err := l.Append(t.Context(), "x", []byte("data"), keep); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if !slices.Equal(got, upTo(1, appenders*each)) {
		t.Errorf("offsets %d", got)
	}
}

// Who subscribes and then reads misses nothing: what is not in the page comes.
func TestLocalSubscribeWhileAppending(t *testing.T) {
	l := pubsub.NewLocal()
	defer l.Close()
	keep := pubsub.Keep{Events: 10, Age: time.Hour}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := l.Append(t.Context(), "x", []byte("data"), keep); err != nil {
					t.Error(err)
				}
			}
		}
	})
	defer wg.Wait()
	defer close(stop)
	for range 1000 {
		first := make(chan uint64, 1)
		unsubscribe, err := l.Subscribe(t.Context(), "x", func(data []byte) {
			e, err := pubsub.ParseEntry(data)
			if err != nil {
				t.Error(err)
			}
			select {
			case first <- e.Offset:
			default:
			}
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		page, err := l.Read(t.Context(), "x", 1<<63, 1, keep)
		if err != nil {
			t.Fatal(err)
		}
		if came := <-first; came > page.Top.Offset+1 {
			t.Fatalf("after a page up to %d came %d", page.Top.Offset, came)
		}
		unsubscribe()
	}
}

func TestLocalAppendFails(t *testing.T) {
	l := pubsub.NewLocal()
	defer l.Close()
	good := pubsub.Keep{Events: 1, Age: time.Second}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name  string
		ctx   context.Context
		keep  pubsub.Keep
		close bool
		want  error // nil is any
	}{
		{"no events", t.Context(), pubsub.Keep{Age: time.Second}, false, nil},
		{"no age", t.Context(), pubsub.Keep{Events: 1}, false, nil},
		{"the context has ended", ended, good, false, context.Canceled},
		{"closed", t.Context(), good, true, pubsub.ErrClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.close {
				l.Close()
			}
			_, appended := l.Append(tt.ctx, "x", nil, tt.keep)
			_, read := l.Read(tt.ctx, "x", 0, 1, tt.keep)
			for _, err := range []error{appended, read} {
				if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
			}
		})
	}
}

func BenchmarkLocalAppend(b *testing.B) {
	l := pubsub.NewLocal()
	defer l.Close()
	keep := pubsub.Keep{Events: 100, Age: time.Hour}
	data := []byte("data")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Append(context.Background(), "x", data, keep); err != nil {
			b.Fatal(err)
		}
	}
}
