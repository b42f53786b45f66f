package load_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/mooncore/mooncore/bench/internal/load"
	"github.com/mooncore/mooncore/bench/internal/traffic"
	"github.com/mooncore/mooncore/bench/internal/wire"
)

// newCluster makes s, once misbehave has changed it, two servers in one, which deliver to clients or by themselves.
func newCluster(t *testing.T, channels int, clients bool, misbehave func(*testServer)) *testServer {
	s := newTestServer(t, misbehave)
	plan := traffic.Plan{Channels: channels}
	receiver := traffic.NewReceiver(plan)
	deliver := receiver.Receive
	if clients {
		s.WebSocket.Join = []wire.Step{{Send: "join " + traffic.Name(0), Expect: traffic.Name(0)}}
		s.WebSocket.Before, s.WebSocket.After = traffic.Name(0)+"<", ">"
		deliver = func(channel int, payload []byte) {
			name := traffic.Name(channel)
			s.mu.Lock()
			defer s.mu.Unlock()
			send(s.rooms[name], fmt.Appendf(nil, "%s<%s>", name, payload))
		}
	} else {
		s.WebSocket = nil
	}
	s.Commands = listen(t, func(conn net.Conn) {
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			var first, n, publishers int
			if _, err := fmt.Sscan(lines.Text(), &first, &n, &publishers); err != nil {
				t.Error(err)
			}
			err := plan.Publish(first, n, publishers, func(channel int, payload []byte) error {
				for _, event := range s.events(payload) {
					deliver(channel, event)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintln(conn, 1000)
		}
	})
	s.Deliveries = listen(t, func(conn net.Conn) {
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			var total int
			if _, err := fmt.Sscan(lines.Text(), &total); err != nil {
				t.Error(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			latency, err := receiver.Await(ctx, total)
			cancel()
			if err != nil {
				fmt.Fprintln(conn, err)
				return
			}
			fmt.Fprintln(conn, latency.Nanoseconds())
		}
	})
	return s
}

func TestCluster(t *testing.T) {
	for _, clients := range []bool{false, true} {
		for _, channels := range []int{1, 100} {
			t.Run(fmt.Sprintf("clients %v, %d channels", clients, channels), func(t *testing.T) {
				p := load.Params{Channels: channels, Duration: 30}
				m, err := newCluster(t, channels, clients, nil).run(t, "cluster", p)
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"rate", "p50_us", "p99_us"} {
					if m[name] <= 0 {
						t.Errorf("%s is %v", name, m[name])
					}
				}
				for name, c := range map[string]struct {
					events func([]byte) [][]byte
					want   string
				}{
					"twice":   {func(e []byte) [][]byte { return [][]byte{e, e} }, "was due"},
					"damaged": {func(e []byte) [][]byte { return [][]byte{e[:100]} }, "no event"},
					"none":    {func([]byte) [][]byte { return nil }, "0 of "},
				} {
					if name == "none" && (clients || channels > 1) {
						continue // it waits for seconds, and once is enough
					}
					t.Run(name, func(t *testing.T) {
						s := newCluster(t, channels, clients, func(s *testServer) { s.events = c.events })
						s.expectError(t, "cluster", p, c.want)
					})
				}
			})
		}
	}
}

func TestClusterRefusesOthers(t *testing.T) {
	s := newTestServer(t, nil)
	s.WebSocket = nil
	s.expectError(t, "cluster", load.Params{Channels: 1}, "none of a cluster")
}
