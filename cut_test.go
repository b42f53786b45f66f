package mooncore_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// A deafBroker is a sharedBroker to which nothing comes while it is deaf. It says so afterwards.
type deafBroker struct {
	*sharedBroker
	mu   sync.Mutex
	deaf bool
	lost []func()
}

func (b *deafBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost = append(b.lost, lost)
	return b.sharedBroker.Subscribe(ctx, topic, func(data []byte) {
		b.mu.Lock()
		deaf := b.deaf
		b.mu.Unlock()
		if !deaf {
			deliver(data)
		}
	}, lost)
}

func (b *deafBroker) set(deaf bool) {
	b.mu.Lock()
	b.deaf = deaf
	lost := b.lost
	b.mu.Unlock()
	if !deaf {
		for _, fn := range lost {
			fn()
		}
	}
}

// A server that was cut off from the others gives the members of channels with History what they missed. Clients that take positions
// stay, unless a kick was missed, or may have been.
func TestCutOff(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cut   time.Duration
		kick  bool
		leave func(broker *deafBroker, there *live) // the other server ends, and this one hears again
		want  []string
		code  int
	}{
		{"for a moment", time.Second, false, nil, []string{`["lost","@alice"]`, `["lost","news"]`}, 0},
		{"for long", time.Minute, false, nil, []string{`["lost","@alice"]`, `["lost","news"]`}, 0},
		{"for a moment, with a kick", time.Second, true, nil, []string{`["lost","@alice"]`, `["lost","news"]`}, 1012},
		{"for long, with a kick", time.Minute, true, nil, []string{`["lost","@alice"]`, `["lost","news"]`}, 1012},
		{"before the other one ends", 0, false, func(broker *deafBroker, there *live) { broker.set(false); _ = there.stop() },
			[]string{`["lost","@alice"]`, `["lost","news"]`}, 0},
		{"before the other one ends, with a kick", 0, true, func(broker *deafBroker, there *live) { broker.set(false); _ = there.stop() },
			[]string{`["lost","@alice"]`, `["lost","news"]`}, 1012},
		{"while the other one ends, perhaps with a kick", 0, false, func(broker *deafBroker, there *live) { _ = there.stop(); broker.set(false) },
			[]string{`["lost","@alice"]`, `["lost","news"]`}, 1012},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local := pubsub.NewLocal()
				broker := &deafBroker{sharedBroker: &sharedBroker{Local: local}}
				cfg := withHistory()
				cfg.Limits.IdleTimeout = -1
				cfg.Broker = broker
				here, _ := serveInMemory(t, cfg)
				cfg.Broker = &sharedBroker{Local: local}
				there, _ := serveInMemory(t, cfg)
				conn := here.dialHistory(aliceT)
				at := conn.join("room", "")
				conn.ask(`["join","news"]`)
				came := conn.listen()
				kicked := there.dialHistory(aliceT).listen()
				time.Sleep(3 * time.Second) // the servers know one another

				broker.set(true)
				there.numbers("room", 1, 3)
				there.numbers("news", 1, 3)
				if tt.kick {
					if err := there.Tenant("", "t").Kick(t.Context(), "alice"); err != nil {
						t.Fatal(err)
					}
					if _, code := kicked.take(); code != 1008 {
						t.Errorf("the one there is closed with %d", code)
					}
				}
				time.Sleep(tt.cut)
				if tt.leave != nil {
					tt.leave(broker, there)
				} else {
					broker.set(false)
				}
				time.Sleep(10 * time.Second)
				frames, code := came.take()
				if code != tt.code {
					t.Errorf("close code %d, want %d", code, tt.code)
				}
				var events []string
				lost := map[string]bool{}
				for _, frame := range frames {
					if slices.Contains(tt.want, frame) {
						lost[frame] = true
					} else {
						events = append(events, frame)
					}
				}
				if want := positioned(at.Epoch, 1, 2, 3); !slices.Equal(events, want) || len(lost) != len(tt.want) {
					t.Errorf("got %q, want %q and %q", frames, tt.want, want)
				}
			})
		})
	}
}
