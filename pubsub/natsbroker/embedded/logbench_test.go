package embedded_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/mooncore/mooncore/internal/freeport"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/natsbroker"
)

// stands are what history is benchmarked on: two logs that reach each other.
func stands(b *testing.B, run func(b *testing.B, from, to pubsub.Log)) {
	for _, tt := range []struct {
		name   string
		memory bool
	}{{"server in memory", true}, {"server with files", false}} {
		b.Run(tt.name, func(b *testing.B) {
			o := natsbroker.Options{URL: natsServer(b, serverConfig{Addr: freeport.Addr(b), Dir: b.TempDir()}).Addr(), Memory: tt.memory}
			run(b, newLog(b, o), newLog(b, o))
		})
	}
	for _, tt := range []struct {
		name  string
		files bool
	}{{"embedded in memory", false}, {"embedded with files", true}} {
		b.Run(tt.name, func(b *testing.B) {
			c := newHistoryCluster(b, tt.files)
			run(b, c.nodes[0], c.nodes[1])
		})
	}
}

// BenchmarkLogDelivery appends on one server and receives on another, one message after another, beside Publish.
func BenchmarkLogDelivery(b *testing.B) {
	data := make([]byte, 200)
	stands(b, func(b *testing.B, from, to pubsub.Log) {
		came := make(chan struct{}, 1)
		topics := subscribe(b, to, 100, func() { came <- struct{}{} })
		for _, tt := range []struct {
			name string
			send func(topic string) error
		}{
			{"publish", func(topic string) error { return from.Publish(context.Background(), topic, data) }},
			{"append", func(topic string) error {
				_, err := from.Append(context.Background(), topic, data, keep)
				return err
			}},
		} {
			b.Run(tt.name, func(b *testing.B) {
				for _, topic := range topics { // the first message takes longer
					if err := tt.send(topic); err != nil {
						b.Fatal(err)
					}
					<-came
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := tt.send(topics[i%len(topics)]); err != nil {
						b.Fatal(err)
					}
					<-came
				}
			})
		}
	})
}

// BenchmarkAppend has appenders that share a topic, or have one each.
func BenchmarkAppend(b *testing.B) {
	data := make([]byte, 200)
	stands(b, func(b *testing.B, first, second pubsub.Log) {
		logs := []pubsub.Log{first, second}
		for _, tt := range []struct {
			name              string
			appenders, topics int
		}{{"1 appender", 1, 1}, {"2 of one topic", 2, 1}, {"64 of 64 topics", 64, 64}} {
			b.Run(tt.name, func(b *testing.B) {
				b.ReportAllocs()
				jobs := make(chan struct{})
				var wg sync.WaitGroup
				for i := range tt.appenders {
					wg.Go(func() {
						for range jobs {
							if _, err := logs[i%2].Append(context.Background(), fmt.Sprint(tt.name, i%tt.topics), data, keep); err != nil {
								b.Error(err)
							}
						}
					})
				}
				for b.Loop() {
					jobs <- struct{}{}
				}
				close(jobs)
				wg.Wait()
			})
		}
	})
}

// BenchmarkRead reads what one missed of a topic, in a stream that has a thousand.
func BenchmarkRead(b *testing.B) {
	data := make([]byte, 200)
	stands(b, func(b *testing.B, first, second pubsub.Log) {
		ctx := context.Background()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for j := range 20 * 50 {
					if _, err := first.Append(ctx, fmt.Sprint(i, "-", j%50), data, keep); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		for range 100 {
			if _, err := first.Append(ctx, "x", data, keep); err != nil {
				b.Fatal(err)
			}
		}
		wg.Wait()
		for _, missed := range []uint64{0, 1, 10, 100} {
			b.Run(fmt.Sprint(missed), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					page, err := second.Read(ctx, "x", 100-missed, 1<<20, keep)
					if err != nil || uint64(len(page.Entries)) != missed {
						b.Fatalf("%d entries, error %v", len(page.Entries), err)
					}
				}
			})
		}
	})
}
