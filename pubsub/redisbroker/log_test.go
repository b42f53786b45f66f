package redisbroker_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/faults"
	"github.com/mooncore/mooncore/pubsub/redisbroker"
	"github.com/redis/rueidis"
)

var keep = pubsub.Keep{Events: 1000, Age: time.Hour}

// admin returns what runs commands on a server, past any broker, each by a connection of its own.
func admin(t testing.TB, addr string) (do func(args ...string) rueidis.RedisResult) {
	return func(args ...string) rueidis.RedisResult {
		t.Helper()
		c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		result := c.Do(context.Background(), c.B().Arbitrary(args[0]).Args(args[1:]...).Build())
		if err := result.Error(); err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		return result
	}
}

// switched connects a broker to the server that addr has at the time, as after a failover.
func switched(t testing.TB, addr *atomic.Value) *redisbroker.Broker {
	t.Helper()
	b, err := redisbroker.New(rueidis.ClientOption{
		InitAddress: []string{"primary:6379"},
		DialCtxFn: func(ctx context.Context, _ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", addr.Load().(string))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// read returns what is kept of a topic behind an offset, page by page, and the top.
func read(t testing.TB, b pubsub.Log, topic string, after uint64) (entries []pubsub.Entry, top pubsub.Position) {
	t.Helper()
	for from := after; ; {
		var page pubsub.Page
		eventually(t, "no page can be read", func() (ok bool) {
			var err error
			page, err = b.Read(context.Background(), topic, from, 1000, keep)
			return err == nil
		})
		if len(entries) > 0 && page.Top.Epoch != top.Epoch { // it was evicted since the last page
			entries, from = nil, after
			continue
		}
		entries, top = append(entries, page.Entries...), page.Top
		if len(page.Entries) == 0 {
			return entries, top
		}
		from = page.Entries[len(page.Entries)-1].Offset
	}
}

// appendAll appends "m1", "m2" and so on, from one offset to another, which must be the ones that they get.
func appendAll(t testing.TB, b pubsub.Log, topic string, from, to uint64) (at pubsub.Position) {
	t.Helper()
	for n := from; n <= to; n++ {
		var err error
		if at, err = b.Append(context.Background(), topic, fmt.Append(nil, "m", n), keep); err != nil || at.Offset != n {
			t.Fatalf("Append: %+v, %v, want offset %d", at, err, n)
		}
	}
	return at
}

// wantAll says whether the entries are "m<offset>" from one offset to another of an epoch.
func wantAll(t testing.TB, entries []pubsub.Entry, epoch string, from, to uint64) {
	t.Helper()
	got := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Epoch != epoch || string(e.Data) != fmt.Sprint("m", e.Offset) {
			t.Errorf("entry %+v with data %q, want epoch %s", e.Position, e.Data, epoch)
		}
		got = append(got, fmt.Sprint(e.Offset))
	}
	var want []string
	for n := from; n <= to; n++ {
		want = append(want, fmt.Sprint(n))
	}
	if !slices.Equal(got, want) {
		t.Errorf("offsets %s, want %s", got, want)
	}
}

// TestLogEpochs does to Redis what may take messages from it, or bring back older ones: it must begin a new epoch, whether that
// is seen first by Read or by Append. What takes none must not.
func TestLogEpochs(t *testing.T) {
	type stand struct {
		redis  *faults.Process
		broker *redisbroker.Broker
		do     func(args ...string) rueidis.RedisResult
	}
	restart := func(t *testing.T, s stand) {
		s.redis.Restart()
		reconnected(t, s.broker)
	}
	for _, tt := range []struct {
		name string
		args []string
		same bool
		harm func(t *testing.T, s stand, more func())
	}{
		{"flushed", nil, false, func(_ *testing.T, s stand, more func()) { more(); s.do("FLUSHALL") }},
		{"evicted", nil, false, func(_ *testing.T, s stand, more func()) {
			more()
			for _, key := range must(s.do("KEYS", "*").AsStrSlice()) {
				s.do("UNLINK", key)
			}
		}},
		{"killed, without persistence", nil, false, func(t *testing.T, s stand, more func()) {
			more()
			s.redis.Kill()
			restart(t, s)
		}},
		{"killed, with an older RDB file", nil, false, func(t *testing.T, s stand, more func()) {
			s.do("SAVE")
			more()
			s.redis.Kill()
			restart(t, s)
		}},
		{"stopped, with an RDB file", []string{"--save", "3600 1"}, false, func(t *testing.T, s stand, more func()) {
			more()
			s.redis.Stop()
			restart(t, s)
		}},
		{"killed, with an AOF", []string{"--appendonly", "yes"}, false, func(t *testing.T, s stand, more func()) {
			more()
			s.redis.Kill()
			restart(t, s)
		}},
		{"scripts flushed", nil, true, func(_ *testing.T, s stand, more func()) { more(); s.do("SCRIPT", "FLUSH") }},
		{"frozen and thawed", nil, true, func(_ *testing.T, s stand, more func()) { more(); s.redis.Freeze(); s.redis.Thaw() }},
		{"clients killed", nil, true, func(t *testing.T, s stand, more func()) {
			more()
			s.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			s.do("CLIENT", "KILL", "TYPE", "pubsub")
			reconnected(t, s.broker)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			redis := redisServer(t, tt.args...)
			b := connect(t, redis.Addr())
			defer b.Close()
			// Topics "read" and "appended" are looked at afterwards. Nothing but its epoch was ever kept of "empty".
			var old [3]pubsub.Position
			topics := []string{"read", "appended", "empty"}
			for i, topic := range topics[:2] {
				old[i] = appendAll(t, b, topic, 1, 3)
			}
			_, old[2] = read(t, b, "empty", 0)
			tt.harm(t, stand{redis, b, admin(t, redis.Addr())}, func() {
				for i, topic := range topics[:2] {
					old[i] = appendAll(t, b, topic, 4, 5)
				}
			})
			entries, top := read(t, b, "read", 0)
			if tt.same {
				wantAll(t, entries, old[0].Epoch, 1, 5)
			} else if len(entries) > 0 || top.Offset > 0 || top.Epoch == old[0].Epoch || top.Epoch == "" {
				t.Errorf("read %d entries, top %+v, want another epoch than %+v without any", len(entries), top, old[0])
			}
			var n uint64 = 1
			if tt.same {
				n = 6
			}
			at := appendAll(t, b, "appended", n, n+1)
			if (at.Epoch == old[1].Epoch) != tt.same {
				t.Errorf("appended at %+v after %+v", at, old[1])
			}
			entries, _ = read(t, b, "appended", 0)
			wantAll(t, entries, at.Epoch, 1, n+1)
			if _, top := read(t, b, "empty", 0); (top == old[2]) != tt.same {
				t.Errorf("the empty topic is at %+v after %+v", top, old[2])
			}
		})
	}
}

// reconnected waits until a broker is connected for the second time.
func reconnected(t testing.TB, b *redisbroker.Broker) {
	t.Helper()
	eventually(t, "the broker does not connect again", func() bool {
		stats := b.Stats()
		return stats.Up && stats.Reconnects > 0
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestLogOutOfMemory fills a server that evicts nothing: Append fails and keeps nothing, Read goes on.
func TestLogOutOfMemory(t *testing.T) {
	redis := redisServer(t)
	b, do := connect(t, redis.Addr()), admin(t, redis.Addr())
	defer b.Close()
	var came []uint64
	var mu sync.Mutex
	_, err := b.Subscribe(t.Context(), "x", func(data []byte) {
		e, err := pubsub.ParseEntry(data)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		came = append(came, e.Offset)
	}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	old := appendAll(t, b, "x", 1, 3)
	do("CONFIG", "SET", "maxmemory", "1")
	for _, topic := range []string{"x", "y"} {
		if _, err := b.Append(t.Context(), topic, []byte("m4"), keep); err == nil || !strings.Contains(err.Error(), "OOM") {
			t.Errorf("Append to %s: error %v, want OOM", topic, err)
		}
	}
	if _, err := b.Read(t.Context(), "y", 0, 1000, keep); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("Read of an empty topic: error %v, want OOM", err)
	}
	entries, top := read(t, b, "x", 0)
	wantAll(t, entries, old.Epoch, 1, 3)
	if top != old {
		t.Errorf("top %+v, want %+v", top, old)
	}
	do("CONFIG", "SET", "maxmemory", "0")
	if at := appendAll(t, b, "x", 4, 5); at.Epoch != old.Epoch {
		t.Errorf("epoch %s, want %s", at.Epoch, old.Epoch)
	}
	eventually(t, "not all came", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Equal(came, []uint64{1, 2, 3, 4, 5})
	})
}

// TestLogEviction appends more than a server holds that evicts what it likes. Of each topic, everything that is kept is what was
// appended at that position, and a position goes on or begins anew.
func TestLogEviction(t *testing.T) {
	for _, policy := range []string{"allkeys-lru", "allkeys-random", "volatile-ttl"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			redis := redisServer(t, "--maxmemory", "4mb", "--maxmemory-policy", policy)
			b := connect(t, redis.Addr())
			defer b.Close()
			const topics, rounds = 100, 40
			type place struct {
				topic int
				at    pubsub.Position
			}
			sent, last := map[place]string{}, [topics]pubsub.Position{}
			padding := strings.Repeat("x", 2000)
			epochs := 0
			for round := range rounds {
				for i := range topics {
					topic, data := fmt.Sprint(i), fmt.Sprint(round, padding)
					at, err := b.Append(t.Context(), topic, []byte(data), keep)
					if err != nil {
						t.Fatal(err)
					}
					if at.Epoch != last[i].Epoch {
						last[i] = pubsub.Position{Epoch: at.Epoch}
						epochs++
					}
					if at.Offset != last[i].Offset+1 {
						t.Fatalf("topic %d is at %+v after %+v", i, at, last[i])
					}
					if _, ok := sent[place{i, at}]; ok {
						t.Fatalf("topic %d is at %+v again", i, at)
					}
					last[i], sent[place{i, at}] = at, data
				}
			}
			if epochs == topics {
				t.Error("nothing was evicted")
			}
			for i := range topics {
				entries, top := read(t, b, fmt.Sprint(i), 0)
				if top.Epoch == last[i].Epoch && top != last[i] {
					t.Errorf("topic %d: top %+v, want %+v", i, top, last[i])
				}
				if len(entries) != int(top.Offset) {
					t.Errorf("topic %d: %d entries, top %+v", i, len(entries), top)
				}
				for _, e := range entries {
					if string(e.Data) != sent[place{i, e.Position}] {
						t.Errorf("topic %d: another message at %+v", i, e.Position)
					}
				}
			}
		})
	}
}

// TestLogCuts cuts connections while two brokers append and one of them receives. What was appended for sure is where Append said,
// what may have been is there once or not at all, and what came is all of it, or lost was called.
func TestLogCuts(t *testing.T) {
	redis := redisServer(t)
	proxy := faults.NewProxy(t, redis.Addr())
	var brokers [2]*redisbroker.Broker
	for i := range brokers {
		brokers[i] = connect(t, proxy.Addr())
		defer brokers[i].Close()
	}
	var mu sync.Mutex
	var at pubsub.Position // of the last entry that came
	var holes, losses int
	came := map[uint64]string{}
	_, err := brokers[0].Subscribe(t.Context(), "x", func(data []byte) {
		e, err := pubsub.ParseEntry(data)
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if e.Offset <= at.Offset {
			t.Errorf("%+v came after %+v", e.Position, at)
		}
		if e.Offset != at.Offset+1 {
			holes++
		}
		at = e.Position
		came[e.Offset] = string(e.Data)
	}, func() {
		mu.Lock()
		defer mu.Unlock()
		losses++
	})
	if err != nil {
		t.Fatal(err)
	}
	const messages = 300
	sure, unsure := map[uint64]string{}, map[string]bool{}
	var wg sync.WaitGroup
	var done atomic.Int32
	for i, b := range brokers {
		wg.Go(func() {
			defer done.Add(1)
			for n := range messages {
				data := fmt.Sprintf("%d of %d", n, i)
				at, err := b.Append(t.Context(), "x", []byte(data), keep)
				if errors.Is(err, pubsub.ErrAway) {
					eventually(t, "away for ever", func() bool {
						at, err = b.Append(t.Context(), "x", []byte(data), keep)
						return !errors.Is(err, pubsub.ErrAway)
					})
				}
				mu.Lock()
				if err == nil {
					sure[at.Offset] = data
				} else {
					unsure[data] = true
				}
				mu.Unlock()
			}
		})
	}
	for done.Load() < int32(len(brokers)) {
		proxy.Cut()
		time.Sleep(20 * time.Millisecond) // real time: between cuts of TCP connections
	}
	wg.Wait()
	entries, top := read(t, brokers[0], "x", 0)
	if len(entries) != int(top.Offset) || len(entries) < len(sure) {
		t.Errorf("%d entries, top %+v, %d were appended for sure", len(entries), top, len(sure))
	}
	eventually(t, "the last entry neither came nor was lost", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return at == top || losses > 0
	})
	mu.Lock()
	defer mu.Unlock()
	for _, e := range entries {
		data, ok := sure[e.Offset]
		switch {
		case ok && data != string(e.Data), !ok && !unsure[string(e.Data)]:
			t.Errorf("%+v is %q, want %q, appended for sure: %t", e.Position, e.Data, data, ok)
		case !ok:
			delete(unsure, string(e.Data))
		}
		delete(sure, e.Offset)
		if live, ok := came[e.Offset]; ok && live != string(e.Data) {
			t.Errorf("%+v is %q, but %q came", e.Position, e.Data, live)
		}
	}
	if len(sure) > 0 {
		t.Errorf("%d are missing that were appended for sure", len(sure))
	}
	if holes > losses {
		t.Errorf("%d holes, but lost was called %d times", holes, losses)
	}
	t.Logf("%d entries, %d came, %d holes, lost was called %d times", len(entries), len(came), holes, losses)
}

// TestLogConnections has all connections fail, after each was used: what is appended once the broker is up again must not find one
// that is broken.
func TestLogConnections(t *testing.T) {
	redis := redisServer(t)
	b, do := connect(t, redis.Addr()), admin(t, redis.Addr())
	defer b.Close()
	appendAll(t, b, "x", 1, 50)
	do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	do("CLIENT", "KILL", "TYPE", "pubsub")
	reconnected(t, b)
	appendAll(t, b, "x", 51, 100)
}

// TestLogFrozen freezes the server: calls fail by their context, then as away. What was sent may have been received all the same.
func TestLogFrozen(t *testing.T) {
	redis := redisServer(t)
	b := connect(t, redis.Addr())
	defer b.Close()
	appendAll(t, b, "x", 1, 2)
	redis.Freeze()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.Append(short, "x", []byte("m3"), keep); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Append: error %v, want the context's", err)
	}
	if _, err := b.Read(short, "x", 0, 1000, keep); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read: error %v, want the context's", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := b.Publish(canceled, "x", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish: error %v, want the context's", err)
	}
	eventually(t, "Append does not say that the server is away", func() bool {
		_, err := b.Append(t.Context(), "x", []byte("never"), keep)
		return errors.Is(err, pubsub.ErrAway)
	})
	if _, err := b.Read(t.Context(), "x", 0, 1000, keep); !errors.Is(err, pubsub.ErrAway) {
		t.Errorf("Read: error %v, want ErrAway", err)
	}
	redis.Thaw()
	entries, top := read(t, b, "x", 0)
	if len(entries) != int(top.Offset) || len(entries) < 2 {
		t.Errorf("%d entries, top %+v", len(entries), top)
	}
	at := appendAll(t, b, "x", top.Offset+1, top.Offset+1)
	b.Close()
	if _, err := b.Append(t.Context(), "x", nil, keep); !errors.Is(err, pubsub.ErrClosed) || at.Epoch != top.Epoch {
		t.Errorf("Append after Close: error %v; epoch %s, want %s", err, at.Epoch, top.Epoch)
	}
	if _, err := b.Read(t.Context(), "x", 0, 1000, keep); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("Read after Close: error %v, want ErrClosed", err)
	}
}

// TestLogAccount uses an account that has just the permissions that New asks for.
func TestLogAccount(t *testing.T) {
	redis := redisServer(t)
	do := admin(t, redis.Addr())
	do("ACL", "SETUSER", "app", "on", ">secret", "resetchannels", "&mooncore:0:*", "~mooncore:0:log:*",
		"+publish", "+subscribe", "+unsubscribe", "+ping", "+hello", "+role", "+eval", "+evalsha", "+info", "+time", "+lindex", "+llen", "+lrange",
		"+rpush", "+ltrim", "+lpop", "+unlink", "+pttl", "+pexpire")
	b := connect(t, "app:secret@"+redis.Addr())
	defer b.Close()
	at := appendAll(t, b, "x", 1, 20)
	entries, _ := read(t, b, "x", 0)
	wantAll(t, entries, at.Epoch, 1, 20)
}

// TestLogExpiry looks at how long keys live: nothing is left for ever.
func TestLogExpiry(t *testing.T) {
	redis := redisServer(t)
	b, do := connect(t, redis.Addr()), admin(t, redis.Addr())
	defer b.Close()
	for _, tt := range []struct {
		name   string
		age    time.Duration
		append bool
		want   time.Duration
	}{
		{"empty", time.Hour, false, 2 * time.Minute},
		{"hour", time.Hour, true, time.Hour + time.Millisecond},
		{"second", time.Second, true, 2 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keep := pubsub.Keep{Events: 10, Age: tt.age}
			wantLife := func() {
				t.Helper()
				ms, err := do("PTTL", "mooncore:0:log:"+tt.name).AsInt64()
				if got := time.Duration(ms) * time.Millisecond; err != nil || got > tt.want || got < tt.want-patience {
					t.Errorf("it lives for %v, error %v, want %v", got, err, tt.want)
				}
			}
			if tt.append {
				if _, err := b.Append(t.Context(), tt.name, []byte("m"), keep); err != nil {
					t.Fatal(err)
				}
				wantLife()
			}
			for range 2 { // and as long as it is read
				if _, err := b.Read(t.Context(), tt.name, 0, 1000, keep); err != nil {
					t.Fatal(err)
				}
				wantLife()
				if tt.want == 2*time.Minute {
					do("PEXPIRE", "mooncore:0:log:"+tt.name, "60000")
				}
			}
		})
	}
}

// TestLogAge lets entries get old, in real time: they go, but who reads on keeps the position.
func TestLogAge(t *testing.T) {
	redis := redisServer(t)
	b, do := connect(t, redis.Addr()), admin(t, redis.Addr())
	defer b.Close()
	keep := pubsub.Keep{Events: 10, Age: 300 * time.Millisecond}
	add := func(topic, data string) pubsub.Position {
		at, err := b.Append(t.Context(), topic, []byte(data), keep)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	kept := func(topic string) (data string, top pubsub.Position) {
		page, err := b.Read(t.Context(), topic, 0, 1000, keep)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			data += string(e.Data)
		}
		return data, page.Top
	}
	for _, data := range []string{"a", "b", "c"} {
		add("x", data)
		add("y", data)
	}
	at := add("x", "d")
	eventually(t, "entries do not get old", func() bool {
		data, top := kept("x")
		if top != at {
			t.Fatalf("top %+v, want %+v", top, at)
		}
		return data == ""
	})
	if got := add("x", "e"); got.Epoch != at.Epoch || got.Offset != at.Offset+1 {
		t.Errorf("the next is at %+v after %+v", got, at)
	}
	// Of the other topic, Append itself throws old ones away.
	for range 2 {
		add("y", "f")
	}
	if n, _ := do("LLEN", "mooncore:0:log:y").AsInt64(); n != 2 {
		t.Errorf("%d elements are left, want 2", n)
	}
}
