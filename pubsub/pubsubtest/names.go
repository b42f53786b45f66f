package pubsubtest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// TuplesEnv is the environment variable that says how many random tuples of names a suite tries. Default 2,000. With ten
// million, a suite takes some tens of minutes.
const TuplesEnv = "MOONCORE_TEST_TUPLES"

const tuplesAtOnce = 1000

// pieces are what random names consist of: few, so that different tuples often have the same text, and what separates and
// matches in one system or another.
var pieces = []string{"", "a", "b", "ab", ".", "..", "*", ">", "?", "[a]", ":", "/", "|", " ", "\x00", "\x01", "\x02ab", "é", "e\u0301", "\xff"}

// tuple returns a random tuple of up to six names of up to three pieces.
func tuple(r *rand.Rand) []string {
	parts := make([]string, r.IntN(7))
	for i := range parts {
		for range r.IntN(4) {
			parts[i] += pieces[r.IntN(len(pieces))]
		}
	}
	return parts
}

// plain is a tuple as text that no other tuple has, without the help of [pubsub.Topic].
func plain(parts []string) string {
	text := strconv.AppendInt(nil, int64(len(parts)), 10)
	for _, part := range parts {
		text = strconv.AppendQuote(append(text, ','), part)
	}
	return string(text)
}

func tuples(t testing.TB) int {
	text := os.Getenv(TuplesEnv)
	if text == "" {
		return 2000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q is no number of tuples", TuplesEnv, text)
	}
	return n
}

func (s suite) tuples(t *testing.T) { b := s.broker(t); crossing(t, b, b) }

func (s suite) clusterTuples(t *testing.T) {
	brokers := s.servers(t)
	crossing(t, brokers[0], brokers[1])
}

// crossing subscribes to the topics of random tuples on one server, and publishes each tuple to its own topic on another: none
// may come to another topic.
func crossing(t *testing.T, from, to pubsub.Broker) {
	randomTuples(t, func(batch map[string]string) { crossingBatch(t, from, to, batch) })
}

// randomTuples calls try for topics of random tuples, by their plain text, until it has had enough of them.
func randomTuples(t testing.TB, try func(batch map[string]string)) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for left := tuples(t); left > 0 && !t.Failed(); left -= tuplesAtOnce {
		batch := map[string]string{}
		for len(batch) < min(left, tuplesAtOnce) {
			parts := tuple(r)
			batch[plain(parts)] = pubsub.Topic(append([]string{"pubsubtest"}, parts...)...)
		}
		try(batch)
	}
}

func crossingBatch(t *testing.T, from, to pubsub.Broker, batch map[string]string) {
	var came sync.WaitGroup
	var mu sync.Mutex
	var ends []func()
	each(batch, func(text, topic string) {
		rounds := byte(0)
		came.Add(1)
		unsubscribe, err := to.Subscribe(t.Context(), topic, func(data []byte) {
			if round, got := data[0], string(data[1:]); got != text || round != rounds {
				t.Errorf("%s got round %d of %s, want round %d of its own", text, round, got, rounds)
			}
			// What crossed in the first round has come before the second one's.
			if rounds++; rounds == 2 {
				came.Done()
			}
		}, func() { t.Errorf("messages of %s were lost", text) })
		if err != nil {
			t.Errorf("Subscribe: %v", err)
			came.Done()
			return
		}
		mu.Lock()
		defer mu.Unlock()
		ends = append(ends, unsubscribe)
	})
	for round := range 2 {
		each(batch, func(text, topic string) { publish(t, from, topic, string([]byte{byte(round)})+text) })
	}
	all := make(chan struct{})
	go func() {
		defer close(all)
		came.Wait()
	}()
	wait(t, all, "not all messages came")
	for _, unsubscribe := range ends {
		unsubscribe()
	}
}

// each calls f for all topics, several at a time.
func each(batch map[string]string, f func(text, topic string)) {
	type job struct{ text, topic string }
	jobs := make(chan job)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for j := range jobs {
				f(j.text, j.topic)
			}
		})
	}
	for text, topic := range batch {
		jobs <- job{text, topic}
	}
	close(jobs)
	wg.Wait()
}
