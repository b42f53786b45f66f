//go:build !linux

package load

import (
	"context"
	"errors"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

var errLinux = errors.New("the load generator needs Linux: it uses epoll")

// Echo measures round trips.
func Echo(context.Context, wire.Server, Params) (wire.Result, error) { return wire.Result{}, errLinux }

// Fanout measures bursts of events.
func Fanout(context.Context, wire.Server, Params) (wire.Result, error) {
	return wire.Result{}, errLinux
}

// Idle measures the memory of connections.
func Idle(context.Context, wire.Server, Params) (wire.Result, error) { return wire.Result{}, errLinux }

// Storm measures connections per second.
func Storm(context.Context, wire.Server, Params) (wire.Result, error) { return wire.Result{}, errLinux }

// Cluster measures events between two servers.
func Cluster(context.Context, wire.Server, Params) (wire.Result, error) {
	return wire.Result{}, errLinux
}
