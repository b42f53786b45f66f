package redisbroker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/redis/rueidis"
)

// BenchmarkDelivery publishes on one server and receives on another, one message after another, beside the client alone.
// Channels are how many topics the receiver has.
func BenchmarkDelivery(b *testing.B) {
	redis := redisServer(b)
	data := make([]byte, 200)
	came := make(chan struct{}, 1)
	b.Run("rueidis", func(b *testing.B) {
		publish := client(b, redis.Addr(), func() { came <- struct{}{} })
		b.ReportAllocs()
		for b.Loop() {
			if err := publish(data); err != nil {
				b.Fatal(err)
			}
			<-came
		}
	})
	for _, channels := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("broker/%d", channels), func(b *testing.B) {
			from, to := connect(b, redis.Addr()), connect(b, redis.Addr())
			defer from.Close()
			defer to.Close()
			topics := subscribe(b, to, channels, func() { came <- struct{}{} })
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := from.Publish(context.Background(), topics[i%channels], data); err != nil {
					b.Fatal(err)
				}
				<-came
			}
		})
	}
}

// BenchmarkThroughput publishes on one server by 64 goroutines and receives on another.
func BenchmarkThroughput(b *testing.B) {
	redis := redisServer(b)
	data := make([]byte, 200)
	b.Run("rueidis", func(b *testing.B) {
		var came sync.WaitGroup
		publish := client(b, redis.Addr(), came.Done)
		throughput(b, &came, func() error { return publish(data) })
	})
	b.Run("broker", func(b *testing.B) {
		from, to := connect(b, redis.Addr()), connect(b, redis.Addr())
		defer from.Close()
		defer to.Close()
		var came sync.WaitGroup
		topics := subscribe(b, to, 1, came.Done)
		throughput(b, &came, func() error { return from.Publish(context.Background(), topics[0], data) })
	})
}

// client subscribes by rueidis alone, and returns what publishes.
func client(b *testing.B, addr string, came func()) (publish func(data []byte) error) {
	var clients [2]rueidis.Client
	for i := range clients {
		c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(c.Close)
		clients[i] = c
	}
	to, release := clients[1].Dedicate()
	b.Cleanup(release)
	to.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(rueidis.PubSubMessage) { came() }})
	if err := to.Do(context.Background(), to.B().Subscribe().Channel("x").Build()).Error(); err != nil {
		b.Fatal(err)
	}
	return func(data []byte) error {
		command := clients[0].B().Publish().Channel("x").Message(rueidis.BinaryString(data)).Build()
		return clients[0].Do(context.Background(), command).Error()
	}
}

func subscribe(b *testing.B, to pubsub.Broker, channels int, deliver func()) (topics []string) {
	var wg sync.WaitGroup
	for i := range channels {
		topics = append(topics, pubsub.Topic("bench", fmt.Sprint(i)))
		wg.Go(func() {
			if _, err := to.Subscribe(context.Background(), topics[i], func([]byte) { deliver() }, func() {}); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	return topics
}

func throughput(b *testing.B, came *sync.WaitGroup, publish func() error) {
	came.Add(b.N)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := publish(); err != nil {
				b.Error(err)
				came.Done()
			}
		}
	})
	came.Wait()
}
