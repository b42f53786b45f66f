package pubsub_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/pubsubtest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestLocal(t *testing.T) {
	pubsubtest.Run(t, func(*testing.T) pubsub.Broker { return pubsub.NewLocal() })
}

func TestLocalLog(t *testing.T) {
	pubsubtest.RunLog(t, func(*testing.T) pubsub.Log { return pubsub.NewLocal() })
}

// TestLocalIsACall has what is particular to Local: the subscribers have run when Publish returns, in the caller's goroutine,
// and share the data.
func TestLocalIsACall(t *testing.T) {
	l := pubsub.NewLocal()
	defer l.Close()
	var got [][]byte
	if _, err := l.Subscribe(t.Context(), "x", func(data []byte) { got = append(got, data) }, nil); err != nil {
		t.Fatal(err)
	}
	data := []byte("data")
	if err := l.Publish(t.Context(), "x", data); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || &got[0][0] != &data[0] {
		t.Errorf("got %q, want the published slice itself", got)
	}
}

// TestLocalPanic has a subscriber that panics: the publisher sees it, and the subscription goes on.
func TestLocalPanic(t *testing.T) {
	l := pubsub.NewLocal()
	defer l.Close()
	calls := 0
	unsubscribe, err := l.Subscribe(t.Context(), "x", func([]byte) { calls++; panic("deliver") }, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			l.Publish(t.Context(), "x", nil)
		}()
	}
	unsubscribe()
	if calls != 2 {
		t.Errorf("%d calls, want 2", calls)
	}
}

// TestLocalUnsubscribeEachOther ends two subscriptions from within one another's deliver, at the same time.
func TestLocalUnsubscribeEachOther(t *testing.T) {
	l := pubsub.NewLocal()
	defer l.Close()
	var unsubscribe [2]func()
	var both sync.WaitGroup
	both.Add(2)
	topics := []string{"a", "b"}
	for i, topic := range topics {
		var err error
		unsubscribe[i], err = l.Subscribe(t.Context(), topic, func([]byte) {
			both.Done()
			both.Wait() // both are running
			unsubscribe[1-i]()
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for _, topic := range topics {
		wg.Go(func() { l.Publish(t.Context(), topic, nil) })
	}
	wg.Wait()
}

func BenchmarkLocalPublish(b *testing.B) {
	l := pubsub.NewLocal()
	defer l.Close()
	n := 0
	if _, err := l.Subscribe(b.Context(), "x", func([]byte) { n++ }, nil); err != nil {
		b.Fatal(err)
	}
	data := []byte("data")
	b.ReportAllocs()
	for b.Loop() {
		l.Publish(context.Background(), "x", data)
	}
}

// tuples are distinct, and pairwise what a naive encoding confuses.
var tuples = [][]string{
	{}, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"ab"}, {"a", "b"}, {"a.b"}, {"a:b"}, {"a", ":b"},
	{"\x01a"}, {"\x00"}, {"\x00", ""},
	{">"}, {"*"}, {"a", "*"}, {"a\x00b"}, {"é"}, {"e\u0301"}, {"\xff"}, {string(make([]byte, 127))}, {string(make([]byte, 128))},
	{string(make([]byte, 128)), ""}, {string(make([]byte, 20_000))},
}

func TestTopic(t *testing.T) {
	seen := make(map[string][]string)
	for _, tuple := range tuples {
		topic := pubsub.Topic(tuple...)
		if other, ok := seen[topic]; ok {
			t.Errorf("%q and %q have one topic", tuple, other)
		}
		seen[topic] = tuple
		if got, ok := pubsub.ParseTopic(topic); !ok || !slices.Equal(got, tuple) {
			t.Errorf("ParseTopic(Topic(%q)) = %q, %t", tuple, got, ok)
		}
	}
	for _, topic := range []string{
		"\x01", "\x02a", "\x01ab", "\x80", "\x80\x00", "\x81\x00a",
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
	} {
		if parts, ok := pubsub.ParseTopic(topic); ok {
			t.Errorf("ParseTopic(%q) = %q, want not ok", topic, parts)
		}
	}
}

// FuzzTopic cuts two byte strings into tuples: distinct ones must have distinct topics.
func FuzzTopic(f *testing.F) {
	f.Add("ab", 1, "ab", 2)
	f.Add("a.b", 1, "a.b", 3)
	f.Add("\x01a", 0, "\x01a", 1)
	f.Add("", 0, "", 1)
	f.Fuzz(func(t *testing.T, s1 string, cut1 int, s2 string, cut2 int) {
		a, b := cut(s1, cut1), cut(s2, cut2)
		if same := pubsub.Topic(a...) == pubsub.Topic(b...); same != slices.Equal(a, b) {
			t.Errorf("%q and %q: one topic: %t", a, b, same)
		}
		if got, ok := pubsub.ParseTopic(pubsub.Topic(a...)); !ok || !slices.Equal(got, a) {
			t.Errorf("ParseTopic(Topic(%q)) = %q, %t", a, got, ok)
		}
		if parts, ok := pubsub.ParseTopic(s1); ok && pubsub.Topic(parts...) != s1 {
			t.Errorf("ParseTopic(%q) = %q, which has another topic", s1, parts)
		}
	})
}

// cut cuts s into two parts, or leaves it whole.
func cut(s string, at int) []string {
	if at < 0 || at > len(s) {
		return []string{s}
	}
	return []string{s[:at], s[at:]}
}

func TestHubClosed(t *testing.T) {
	h := pubsub.NewHub(pubsub.NewLocal(), pubsub.HubOptions{Deliver: func(string, []byte) { t.Error("delivered after Close") }})
	if err := h.Hold(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := h.Hold(t.Context(), "x"); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("Hold after Close: error %v, want ErrClosed", err)
	}
	if err := h.Publish(t.Context(), "x", nil); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("Publish after Close: error %v, want ErrClosed", err)
	}
	h.Release("x")
}
