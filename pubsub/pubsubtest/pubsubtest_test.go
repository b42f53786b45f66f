package pubsubtest

import (
	"context"
	"sync"
	"testing"

	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/pubsub"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// A server is a Log that shares the medium with others.
type server struct {
	medium *pubsub.Local
	own    *pubsub.Local // for its ErrClosed

	mu          sync.Mutex
	unsubscribe []func()
}

func newServer(medium *pubsub.Local) *server { return &server{medium: medium, own: pubsub.NewLocal()} }

// fault is what any call fails with.
func (s *server) fault(ctx context.Context) error { return s.own.Publish(ctx, "", nil) }

func (s *server) Publish(ctx context.Context, topic string, data []byte) error {
	if err := s.fault(ctx); err != nil {
		return err
	}
	return s.medium.Publish(ctx, topic, data)
}

func (s *server) Append(ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
	if err := s.fault(ctx); err != nil {
		return pubsub.Position{}, err
	}
	return s.medium.Append(ctx, topic, data, keep)
}

func (s *server) Read(ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
	if err := s.fault(ctx); err != nil {
		return pubsub.Page{}, err
	}
	return s.medium.Read(ctx, topic, after, maxBytes, keep)
}

func (s *server) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fault(ctx); err != nil {
		return nil, err
	}
	unsubscribe, err := s.medium.Subscribe(ctx, topic, deliver, lost)
	if err == nil {
		s.unsubscribe = append(s.unsubscribe, unsubscribe)
	}
	return unsubscribe, err
}

func (s *server) Close() error {
	s.mu.Lock()
	s.own.Close()
	all := s.unsubscribe
	s.unsubscribe = nil
	s.mu.Unlock()
	for _, unsubscribe := range all {
		unsubscribe()
	}
	return nil
}

// TestRunCluster runs the suite with servers in one process.
func TestRunCluster(t *testing.T) {
	medium := pubsub.NewLocal()
	defer medium.Close()
	RunCluster(t, func(*testing.T) pubsub.Broker { return newServer(medium) })
}

// TestRunLogCluster is the same, of what is kept.
func TestRunLogCluster(t *testing.T) {
	medium := pubsub.NewLocal()
	t.Cleanup(func() { medium.Close() })
	RunLogCluster(t, func(*testing.T) pubsub.Log { return newServer(medium) })
}

// TestRunFaults runs the faults' workloads without a fault.
func TestRunFaults(t *testing.T) {
	medium := pubsub.NewLocal()
	defer medium.Close()
	nothing := Fault{Begin: func(*testing.T) func() { return func() {} }}
	RunFault(t, func(*testing.T) pubsub.Broker { return newServer(medium) }, 1, nothing)
	RunLogFault(t, func(*testing.T) pubsub.Log { return newServer(medium) }, 1, nothing)
}
