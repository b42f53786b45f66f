package redisbroker_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// BenchmarkLogDelivery appends on one server and receives on another, one message after another, beside publishing it.
func BenchmarkLogDelivery(b *testing.B) {
	redis := redisServer(b)
	data := make([]byte, 200)
	keep := pubsub.Keep{Events: 100, Age: time.Hour}
	for _, tt := range []struct {
		name string
		send func(from pubsub.Log, topic string) error
	}{
		{"publish", func(from pubsub.Log, topic string) error { return from.Publish(context.Background(), topic, data) }},
		{"append", func(from pubsub.Log, topic string) error {
			_, err := from.Append(context.Background(), topic, data, keep)
			return err
		}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			from, to := connect(b, redis.Addr()), connect(b, redis.Addr())
			defer from.Close()
			defer to.Close()
			came := make(chan struct{}, 1)
			topics := subscribe(b, to, 1, func() { came <- struct{}{} })
			defer reportCPU(b, redis.Addr())()
			b.ReportAllocs()
			for b.Loop() {
				if err := tt.send(from, topics[0]); err != nil {
					b.Fatal(err)
				}
				<-came
			}
		})
	}
}

// BenchmarkLogThroughput appends on one server by 64 goroutines and receives on another.
func BenchmarkLogThroughput(b *testing.B) {
	redis := redisServer(b)
	data := make([]byte, 200)
	keep := pubsub.Keep{Events: 100, Age: time.Hour}
	from, to := connect(b, redis.Addr()), connect(b, redis.Addr())
	defer from.Close()
	defer to.Close()
	for _, channels := range []int{1, 100} {
		b.Run(strconv.Itoa(channels), func(b *testing.B) {
			var came sync.WaitGroup
			var topics []string
			for i := range channels {
				topics = append(topics, pubsub.Topic("throughput", strconv.Itoa(channels), strconv.Itoa(i)))
				unsubscribe, err := to.Subscribe(context.Background(), topics[i], func([]byte) { came.Done() }, nothing)
				if err != nil {
					b.Fatal(err)
				}
				defer unsubscribe()
			}
			next := make(chan int, 64)
			go func() {
				defer close(next)
				for i := range b.N {
					next <- i % channels
				}
			}()
			defer reportCPU(b, redis.Addr())()
			throughput(b, &came, func() error {
				_, err := from.Append(context.Background(), topics[<-next], data, keep)
				return err
			})
		})
	}
}

// BenchmarkLogRead reads the last 100 of as many or more entries.
func BenchmarkLogRead(b *testing.B) {
	redis := redisServer(b)
	l := connect(b, redis.Addr())
	defer l.Close()
	for _, events := range []uint64{100, 10_000} {
		topic, keep := fmt.Sprint(events), pubsub.Keep{Events: int(events), Age: time.Hour}
		fill(b, l, []string{topic}, int(events), keep)
		b.Run(topic, func(b *testing.B) {
			defer reportCPU(b, redis.Addr())()
			b.ReportAllocs()
			for b.Loop() {
				page, err := l.Read(context.Background(), topic, events-100, 1<<20, keep)
				if err != nil || len(page.Entries) != 100 {
					b.Fatal(len(page.Entries), err)
				}
			}
		})
	}
}

// BenchmarkLogMemory keeps some events of 200 bytes in each of many channels, and tells what Redis needs for them. Its time is one
// event's.
func BenchmarkLogMemory(b *testing.B) {
	for _, tt := range []struct{ channels, events int }{{1_000, 1}, {1_000, 100}, {10, 10_000}} {
		b.Run(fmt.Sprintf("%dx%d", tt.channels, tt.events), func(b *testing.B) {
			redis := redisServer(b)
			l, do := connect(b, redis.Addr()), admin(b, redis.Addr())
			defer l.Close()
			var topics []string
			for i := range tt.channels {
				topics = append(topics, pubsub.Topic("mooncore", "log", "", "tenant", "channel", "room-"+strconv.Itoa(i), ""))
			}
			used := func() float64 { return must(strconv.ParseFloat(info(b, do, "used_memory"), 64)) }
			for range b.N { // once is enough: -benchtime=1x
				do("FLUSHALL")
				before := used()
				fill(b, l, topics, tt.events, pubsub.Keep{Events: tt.events, Age: time.Hour})
				total := float64(tt.channels * tt.events)
				b.ReportMetric((used()-before)/total, "B/event")
				b.ReportMetric((used()-before)/float64(tt.channels), "B/channel")
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/total, "µs/event")
			}
		})
	}
}

// reportCPU reports how much time Redis worked for each operation, which others on the machine do not change. It is to be called
// before the first, and what it returns after the last.
func reportCPU(b *testing.B, addr string) (end func()) {
	do := admin(b, addr)
	used := func() (seconds float64) {
		for _, field := range []string{"used_cpu_user_main_thread", "used_cpu_sys_main_thread"} {
			seconds += must(strconv.ParseFloat(info(b, do, field), 64))
		}
		return seconds
	}
	before := used()
	return func() { b.ReportMetric((used()-before)*1e6/float64(b.N), "redis-µs/op") }
}

// fill appends a number of events of 200 bytes to each topic, with 64 goroutines.
func fill(b *testing.B, l pubsub.Log, topics []string, events int, keep pubsub.Keep) {
	data := make([]byte, 200)
	var wg sync.WaitGroup
	next := make(chan string)
	for range 64 {
		wg.Go(func() {
			for topic := range next {
				if _, err := l.Append(context.Background(), topic, data, keep); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range events {
		for _, topic := range topics {
			next <- topic
		}
	}
	close(next)
	wg.Wait()
}
