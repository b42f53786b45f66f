package pubsubtest_test

import (
	"context"
	"sync"
	"testing"

	"github.com/mooncore/mooncore/internal/leaktest"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/pubsubtest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// A server is a Broker that shares the medium with others.
type server struct {
	medium *pubsub.Local
	own    *pubsub.Local // for its ErrClosed

	mu          sync.Mutex
	unsubscribe []func()
}

func (s *server) Publish(ctx context.Context, topic string, data []byte) error {
	if err := s.own.Publish(ctx, topic, nil); err != nil {
		return err
	}
	return s.medium.Publish(ctx, topic, data)
}

func (s *server) Subscribe(ctx context.Context, topic string, deliver func([]byte), lost func()) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.own.Publish(ctx, topic, nil); err != nil {
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
	pubsubtest.RunCluster(t, func(*testing.T) pubsub.Broker { return &server{medium: medium, own: pubsub.NewLocal()} })
}
