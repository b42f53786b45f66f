package mooncore_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
	"github.com/mooncore/mooncore/pubsub"
)

var errClose = errors.New("the broker does not close well")

// A closingBroker counts how often it is closed, and fails at it.
type closingBroker struct {
	*pubsub.Local
	closed atomic.Int32
}

func (b *closingBroker) Close() error {
	b.closed.Add(1)
	return errors.Join(b.Local.Close(), errClose)
}

// Each Shutdown ends with its own context, and says how the first one ended.
func TestShutdownTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		srv, err := mooncore.New(mooncore.Config{
			Development: true, Logger: slog.New(slog.DiscardHandler), Broker: &closingBroker{Local: pubsub.NewLocal()},
			Routers: catalogue(returning("stuck", func(context.Context) (any, error) { <-release; return nil, nil })),
		})
		if err != nil {
			t.Fatal(err)
		}
		go srv.Call(context.Background(), &mooncore.Request{Action: "stuck"})
		synctest.Wait()
		first := make(chan error, 1)
		go func() { first <- srv.Shutdown(context.Background()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("the second, while the first waits: %v after %v", err, time.Since(start))
		}
		close(release)
		if err := <-first; !errors.Is(err, errClose) {
			t.Errorf("the first: %v", err)
		}
		for range 100 { // its context has ended, but so has the first
			if err := srv.Shutdown(ctx); !errors.Is(err, errClose) {
				t.Fatalf("the second, afterwards: %v", err)
			}
		}
	})
}

// Whoever gives a Broker away need not close it, whatever goes wrong.
func TestFailedStartClosesTheBroker(t *testing.T) {
	dev := mooncore.Config{Development: true, Logger: slog.New(slog.DiscardHandler), Routers: catalogue()}
	fault, extension, port := dev, dev, dev
	fault.Routers = catalogue(mooncore.Action{})
	extension.Extensions = []mooncore.Extension{func(*mooncore.Server) error { return errors.New("no database") }}
	port.Addr = "192.0.2.1:1" // no address of this machine
	ofNew := func(cfg mooncore.Config) error { _, err := mooncore.New(cfg); return err }
	for _, tt := range []struct {
		name string
		cfg  mooncore.Config
		env  string // a variable and its value
		run  func(mooncore.Config) error
		err  string
	}{
		{"New: a fault", fault, "", ofNew, "the configuration has faults"},
		{"New: an extension", extension, "", ofNew, "no database"},
		{"Run: a fault", fault, "", mooncore.Run, "the configuration has faults"},
		{"Run: the environment", dev, "PORT=x", mooncore.Run, "the environment has faults"},
		{"Run: a check", dev, "MOONCORE_CHECK=nonsense", mooncore.Run, "MOONCORE_CHECK"},
		{"Run: no such address", port, "", mooncore.Run, "192.0.2.1:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range []string{"HOST", "PORT", "MOONCORE_ENV", "MOONCORE_CHECK"} {
				t.Setenv(name, "")
			}
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			b := &closingBroker{Local: pubsub.NewLocal()}
			tt.cfg.Broker = b
			err := tt.run(tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.err) || !errors.Is(err, errClose) || b.closed.Load() != 1 {
				t.Errorf("%v; closed %d times", err, b.closed.Load())
			}
		})
	}
}

// A slowBroker takes presence events as long as the context lasts, and a second more.
type slowBroker struct {
	*pubsub.Local
	running atomic.Int32
}

func (b *slowBroker) Publish(ctx context.Context, topic string, data []byte) error {
	if !strings.Contains(string(data), `"joined":`) {
		return b.Local.Publish(ctx, topic, data)
	}
	b.running.Add(1)
	defer b.running.Add(-1)
	<-ctx.Done()
	time.Sleep(time.Second)
	return ctx.Err()
}

// Shutdown ends a presence event that is under way, and returns after it.
func TestShutdownWaitsForPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &slowBroker{Local: pubsub.NewLocal()}
		log, lines := logger()
		cfg := withTokens()
		cfg.Broker, cfg.Logger, cfg.DrainDelay = b, log, -1
		cfg.Routers[0].Channels = []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated, Presence: true}}
		srv := mooncoretest.New(t, cfg)
		srv.As(mooncore.Identity{User: "alice", Tenant: "t"}).Dial().Join("a")
		time.Sleep(time.Second)
		if n := b.running.Load(); n != 1 {
			t.Fatalf("%d events are under way", n)
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if n := b.running.Load(); n != 0 {
			t.Errorf("%d events are under way after Shutdown", n)
		}
		if got := lines.String(); strings.Contains(got, "presence") {
			t.Errorf("logged %s", got)
		}
	})
}

// A muteBroker takes no subscription any more when it is told so, and does not say so either.
type muteBroker struct {
	*pubsub.Local
	stuck atomic.Bool
	asked chan struct{}
}

func (b *muteBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	if !b.stuck.Load() {
		return b.Local.Subscribe(ctx, topic, deliver, lost)
	}
	b.asked <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// Who waits to join when the server stops is not refused: the connection closes, and the client joins elsewhere.
func TestShutdownWhileJoining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &muteBroker{Local: pubsub.NewLocal(), asked: make(chan struct{}, 1)}
		var log bytes.Buffer
		cfg := withTokens()
		cfg.Broker, cfg.DrainDelay, cfg.Logger = broker, -1, slog.New(slog.NewTextHandler(&log, nil))
		srv, _ := serveInMemory(t, cfg)
		conn := srv.dialAs(mooncore.Identity{User: "alice", Tenant: "t"})
		broker.stuck.Store(true)
		conn.send(`["join","main"]`)
		<-broker.asked
		stopped := make(chan error, 1)
		go func() { stopped <- srv.stop() }()
		if _, before := conn.expectClose(1012); len(before) > 0 {
			t.Errorf("it got %q", before)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("the log:\n%s", &log)
		}
	})
}
