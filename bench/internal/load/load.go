// Package load is the load generator. It drives all connections from few threads by epoll, allocates
// next to nothing while it measures, and checks everything that it receives.
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// Params are those of every kind of run; each uses some.
type Params struct {
	Conns    int    `json:"conns,omitempty"`
	Warmup   Millis `json:"warmup_ms,omitempty"`
	Duration Millis `json:"duration_ms,omitempty"`
	Pipeline int    `json:"pipeline,omitempty"` // messages that are sent at once, on each WebSocket connection
	Deflate  bool   `json:"deflate,omitempty"`  // offer permessage-deflate, and expect it

	Publishes int `json:"publishes,omitempty"` // of each burst
	Size      int `json:"size,omitempty"`      // bytes of a published payload
	Channels  int `json:"channels,omitempty"`  // of a cluster, with one member each
}

// Millis is a time in milliseconds.
type Millis int

// Duration returns m as a time.Duration.
func (m Millis) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// Run does the job, whose kind is one of "http-echo", "ws-echo", "ws-fanout", "ws-idle", "ws-storm", "cluster".
func Run(ctx context.Context, job wire.Job) (wire.Result, error) {
	var p Params
	switch family, _, _ := strings.Cut(job.Kind, "-"); {
	case family == "ws" && job.Server.WebSocket == nil:
		return wire.Result{}, errors.New("the server doesn't speak WebSocket")
	case family == "http" && job.Server.HTTP == nil:
		return wire.Result{}, errors.New("the server has no HTTP to measure")
	}
	if err := json.Unmarshal(job.Params, &p); err != nil {
		return wire.Result{}, fmt.Errorf("params of %s: %w", job.Kind, err)
	}
	p.Pipeline = max(p.Pipeline, 1)
	p.Conns = max(p.Conns, 1)
	switch job.Kind {
	case "http-echo":
		p.Pipeline = 1
		return Echo(ctx, job.Server, p)
	case "ws-echo":
		return Echo(ctx, job.Server, p)
	case "ws-fanout":
		return Fanout(ctx, job.Server, p)
	case "ws-idle":
		return Idle(ctx, job.Server, p)
	case "ws-storm":
		return Storm(ctx, job.Server, p)
	case "cluster":
		return Cluster(ctx, job.Server, p)
	default:
		return wire.Result{}, fmt.Errorf("no kind %q of load", job.Kind)
	}
}
