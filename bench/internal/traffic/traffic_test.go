package traffic_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore/bench/internal/traffic"
)

func TestPlan(t *testing.T) {
	for _, channels := range []int{1, 3, 64, 100, 10_000} {
		plan := traffic.Plan{Channels: channels}
		events := make([]int, channels)
		publishers := make([]map[int]bool, channels)
		const rounds = 4
		n := rounds * max(channels, traffic.Publishers)
		for i := range n {
			c := plan.Channel(i)
			if publishers[c] == nil {
				publishers[c] = map[int]bool{}
			}
			publishers[c][i%traffic.Publishers] = true
			events[c]++
		}
		for c, e := range events {
			if e < rounds-1 {
				t.Errorf("%d channels: channel %d got %d of %d events", channels, c, e, n)
			}
			if channels >= traffic.Publishers && len(publishers[c]) != 1 {
				t.Errorf("%d channels: channel %d has %d publishers", channels, c, len(publishers[c]))
			}
		}
	}
}

func TestNumber(t *testing.T) {
	for _, c := range []int{0, 1, 9_999} {
		if got := traffic.Number(traffic.Name(c)); got != c {
			t.Errorf("the number of %q is %d", traffic.Name(c), got)
		}
	}
}

func TestReceiver(t *testing.T) {
	for _, channels := range []int{1, 100} {
		plan := traffic.Plan{Channels: channels}
		r := traffic.NewReceiver(plan)
		const n = 1000
		go func() {
			err := plan.Publish(0, n, traffic.Publishers, func(channel int, payload []byte) error {
				r.Receive(channel, payload)
				return nil
			})
			if err != nil {
				r.Fail(err)
			}
		}()
		if latency, err := r.Await(t.Context(), n); err != nil || latency <= 0 || latency > time.Minute {
			t.Errorf("%d channels: %v, %v", channels, latency, err)
		}
	}
}

func TestReceiverFinds(t *testing.T) {
	plan := traffic.Plan{Channels: 100}
	for name, c := range map[string]struct {
		receive func(r *traffic.Receiver)
		want    string
	}{
		"a wrong channel": {func(r *traffic.Receiver) { r.Receive(1, plan.Event(0)) }, "event 0 came by channel 1"},
		"a repeated event": {func(r *traffic.Receiver) {
			r.Receive(0, plan.Event(0))
			r.Receive(0, plan.Event(0))
		}, "event 0 came where 128 was due"},
		"a lost event":  {func(r *traffic.Receiver) { r.Receive(0, plan.Event(128)) }, "event 128 came where 0 was due"},
		"broken data":   {func(r *traffic.Receiver) { r.Receive(0, plan.Event(0)[1:]) }, "no event"},
		"too few":       {func(r *traffic.Receiver) { r.Receive(0, plan.Event(0)) }, "1 of 2 events came"},
		"another error": {func(r *traffic.Receiver) { r.Fail(context.Canceled) }, "canceled"},
		"too many": {func(r *traffic.Receiver) {
			for i := range 3 {
				r.Receive(plan.Channel(i), plan.Event(i))
			}
		}, "3 events came where 2 were published"},
	} {
		t.Run(name, func(t *testing.T) {
			r := traffic.NewReceiver(plan)
			c.receive(r)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := r.Await(ctx, 2); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
