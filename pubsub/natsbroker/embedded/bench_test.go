package embedded_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/natsbroker/embedded"
	"github.com/nats-io/nats.go"
)

// BenchmarkDelivery publishes on one server and receives on another, one message after another, beside the client alone.
// Channels are how many topics the receiver has.
func BenchmarkDelivery(b *testing.B) {
	ns := natsServer(b, serverConfig{Addr: freeport.Addr(b)})
	data := make([]byte, 200)
	b.Run("nats.go", func(b *testing.B) {
		from, to := dial(b, ns.Addr()), dial(b, ns.Addr())
		came := make(chan struct{}, 1)
		if _, err := to.Subscribe("x", func(*nats.Msg) { came <- struct{}{} }); err != nil {
			b.Fatal(err)
		}
		if err := to.Flush(); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := from.Publish("x", data); err != nil {
				b.Fatal(err)
			}
			<-came
		}
	})
	for _, channels := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("server/%d", channels), func(b *testing.B) {
			delivery(b, connect(b, ns.Addr()), connect(b, ns.Addr()), channels, data)
		})
	}
	b.Run("embedded/100", func(b *testing.B) {
		from := start(b, embedded.Options{Addr: "127.0.0.1:0"})
		delivery(b, from, start(b, embedded.Options{Addr: "127.0.0.1:0", Peers: []string{from.Addr()}}), 100, data)
	})
}

func dial(b *testing.B, addr string) *nats.Conn {
	nc, err := nats.Connect(addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

func delivery(b *testing.B, from, to pubsub.Broker, channels int, data []byte) {
	b.Cleanup(func() { from.Close(); to.Close() })
	came := make(chan struct{}, 1)
	topics := subscribe(b, to, channels, func() { came <- struct{}{} })
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := from.Publish(context.Background(), topics[i%channels], data); err != nil {
			b.Fatal(err)
		}
		<-came
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

// BenchmarkThroughput publishes on one server by 64 goroutines and receives on another.
func BenchmarkThroughput(b *testing.B) {
	ns := natsServer(b, serverConfig{Addr: freeport.Addr(b)})
	data := make([]byte, 200)
	b.Run("nats.go, publish and flush", func(b *testing.B) {
		from, to := dial(b, ns.Addr()), dial(b, ns.Addr())
		var came sync.WaitGroup
		if _, err := to.Subscribe("x", func(*nats.Msg) { came.Done() }); err != nil {
			b.Fatal(err)
		}
		if err := to.Flush(); err != nil {
			b.Fatal(err)
		}
		throughput(b, &came, func() error {
			if err := from.Publish("x", data); err != nil {
				return err
			}
			return from.Flush()
		})
	})
	b.Run("server", func(b *testing.B) {
		from, to := connect(b, ns.Addr()), connect(b, ns.Addr())
		defer from.Close()
		defer to.Close()
		var came sync.WaitGroup
		topics := subscribe(b, to, 1, came.Done)
		throughput(b, &came, func() error { return from.Publish(context.Background(), topics[0], data) })
	})
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
