package mooncore

import (
	"context"
	"encoding/json"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/registry"
	"github.com/mooncore/mooncore/ws"
)

// Servers tell each other by the broker what concerns connections everywhere: events, kicks and revocations.

type controlKind string

const (
	controlKick   controlKind = "kick"
	controlRevoke controlKind = "revoke"
)

type controlMessage struct {
	Kind       controlKind `json:"kind"`
	Pool       string      `json:"pool,omitempty"`
	App        string      `json:"app,omitempty"`
	Tenant     string      `json:"tenant,omitempty"`
	User       string      `json:"user,omitempty"`
	Revocation *Revocation `json:"revocation,omitempty"`
}

// joinCluster subscribes to what the other servers say, if there can be others.
func (s *Server) joinCluster() error {
	if s.cfg.Broker == nil {
		return nil
	}
	s.hub = pubsub.NewHub(s.cfg.Broker, pubsub.HubOptions{Deliver: s.receive, Lost: s.lost, Logger: s.log})
	for _, topic := range []string{manyTopic, controlTopic} {
		if err := s.hub.Hold(context.Background(), topic); err != nil {
			return err
		}
	}
	return nil
}

// receive handles a message of the broker.
func (s *Server) receive(topic string, data []byte) {
	if topic == controlTopic {
		var m controlMessage
		if err := json.Unmarshal(data, &m); err != nil {
			s.log.Error("broker message ignored", "cause", err)
			return
		}
		s.obey(m)
		return
	}
	name, tenant, channels, body, err := parseMessage(data)
	if err != nil {
		s.log.Error("broker message ignored", "cause", err)
		return
	}
	if p := s.poolNamed(name); p != nil {
		s.deliver(p, tenant, channels, body)
	}
}

// lost closes the connections that may have missed an event: a dropped event is never silent.
func (s *Server) lost(topic string) {
	s.log.Warn("events may have been lost between servers; connections are closed")
	for _, c := range s.Conns() {
		if topic == manyTopic || topic == controlTopic || c.holds(topic) {
			c.restart()
		}
	}
}

// holds reports whether the connection is in the channel of that topic.
func (c *Conn) holds(topic string) bool {
	for _, ch := range c.member.Channels() {
		if channelTopic(c.pool.name, c.member.Tenant(), ch) == topic {
			return true
		}
	}
	return false
}

// control tells all servers, this one included, to do something.
func (s *Server) control(ctx context.Context, m controlMessage) error {
	if s.hub == nil {
		s.obey(m)
		return nil
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return s.hub.Publish(ctx, controlTopic, data)
}

func (s *Server) obey(m controlMessage) {
	switch m.Kind {
	case controlKick:
		if p := s.poolNamed(m.Pool); p != nil {
			for _, member := range p.conns.Members(m.Tenant, userChannel(m.User)) {
				if c := member.Value; c.Identity().App == m.App || m.App == "" {
					c.Kick()
				}
			}
		}
	case controlRevoke:
		if m.Revocation != nil {
			s.applyRevocation(*m.Revocation)
		}
	}
}

// revoke keeps a revocation by the program's hook and makes it hold on all servers.
func (s *Server) revoke(ctx context.Context, r Revocation) error {
	if most := s.cfg.JWT.MaxLifetime; most > 0 { // else any token may be good for ever
		r.Expires = time.Now().Add(most + s.cfg.JWT.Leeway)
	}
	if keep := s.cfg.JWT.OnRevoke; keep != nil {
		if err := keep(ctx, r); err != nil {
			return &Error{Code: CodeInternal, Err: err}
		}
	}
	s.applyRevocation(r) // here at once, also when the broker is away
	if s.hub == nil {
		return nil
	}
	return s.control(ctx, controlMessage{Kind: controlRevoke, Revocation: &r})
}

func (s *Server) applyRevocation(r Revocation) {
	r = s.tokens.fullRevocation(r)
	s.tokens.revoke(r)
	for _, c := range s.Conns() {
		if id := c.Identity(); r.covers(&id) {
			c.ws.Close(ws.CodeUnauthorized, "token revoked")
		}
	}
}

// holdTimeout bounds how long a join waits for the broker.
const holdTimeout = 5 * time.Second

// hold makes the events of a channel reach this server, where there are others. Each connection holds its own channels, so
// the broker is asked only for those that have a member here. The channel of anonymous connections is not held: what is
// published to it stays on its server.
func (c *Conn) hold(ctx context.Context, tenant string, ch registry.Channel) bool {
	if c.server.hub == nil || ch == pendingChannel {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	if err := c.server.hub.Hold(ctx, channelTopic(c.pool.name, tenant, ch)); err != nil {
		c.server.log.Error("broker: subscribe failed", "channel", ch.Name, "conn", c.id, "cause", err)
		return false
	}
	return true
}

func (c *Conn) release(tenant string, channels ...registry.Channel) {
	if c.server.hub == nil {
		return
	}
	for _, ch := range channels {
		if ch != pendingChannel {
			c.server.hub.Release(channelTopic(c.pool.name, tenant, ch))
		}
	}
}
