package clusterpeers

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mooncore/mooncore/bench/internal/traffic"
)

// A dialer returns a connection with a NATS server, and what the second node joins.
type dialer func(Config) (nc *nats.Conn, join string, err error)

func dialNATS(c Config) (*nats.Conn, string, error) {
	nc, err := nats.Connect("nats://" + c.Engine)
	return nc, "", err
}

func embedNATS(c Config) (*nats.Conn, string, error) {
	ns, join, err := clusterNATS(c.Join)
	if err != nil {
		return nil, "", err
	}
	nc, err := nats.Connect("nats://embedded", nats.InProcessServer(ns))
	return nc, join, err
}

// readySubject is where the second node asks the first whether it knows the subscriptions.
const readySubject = "ready"

// startNATS starts the client alone. With flush, a publisher waits until the server has taken the event, as publishers of
// Mooncore do; otherwise it goes on once the client has it.
func startNATS(dial dialer, flush bool) func(Config) (Node, error) {
	return func(c Config) (Node, error) {
		nc, join, err := dial(c)
		if err != nil {
			return Node{}, err
		}
		names := make([]string, c.Channels)
		for i := range names {
			names[i] = traffic.Name(i)
		}
		if c.Deliver != nil {
			err = subscribeNATS(nc, names, c.Deliver)
		} else if _, err = nc.Subscribe(readySubject, func(m *nats.Msg) { _ = m.Respond(nil) }); err == nil {
			err = nc.Flush()
		}
		publish := func(channel int, payload []byte) error {
			err := nc.Publish(names[channel], payload)
			if err == nil && flush {
				err = nc.Flush()
			}
			return err
		}
		return Node{Publish: publish, Join: join}, err
	}
}

func subscribeNATS(nc *nats.Conn, names []string, deliver func(channel int, payload []byte)) error {
	for i, name := range names {
		if _, err := nc.Subscribe(name, func(m *nats.Msg) { deliver(i, m.Data) }); err != nil {
			return err
		}
	}
	// What comes back to a question has passed all servers after the subscriptions.
	for deadline := time.Now().Add(startTime); ; time.Sleep(10 * time.Millisecond) {
		_, err := nc.Request(readySubject, nil, time.Second)
		if err == nil {
			return nil
		}
		if !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, nats.ErrTimeout) || time.Now().After(deadline) {
			return fmt.Errorf("the first node does not answer: %w", err)
		}
	}
}
