package mooncore

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/registry"
	"github.com/mooncore/mooncore/ws"
)

// Servers tell each other by the broker what concerns connections everywhere: events, kicks, revocations, and who is where.

type controlKind string

const (
	controlKick     controlKind = "kick"
	controlRevoke   controlKind = "revoke"
	controlBeat     controlKind = "beat"
	controlBye      controlKind = "bye"
	controlMembers  controlKind = "members"
	controlPresence controlKind = "presence" // who is in a channel as far as changes were told
	controlMissed   controlKind = "missed"   // the server may have missed revocations: the others send theirs
)

type controlMessage struct {
	Kind       controlKind `json:"kind"`
	Pool       string      `json:"pool,omitempty"`
	App        string      `json:"app,omitempty"`
	Tenant     string      `json:"tenant,omitempty"`
	User       string      `json:"user,omitempty"`
	Revocation *Revocation `json:"revocation,omitempty"`

	Revocations []Revocation `json:"revocations,omitempty"` // sent again

	Server  string            `json:"server,omitempty"` // who says it, in a beat and a question
	Hello   bool              `json:"hello,omitempty"`  // the beat is the first
	Kicks   uint64            `json:"kicks,omitempty"`  // how many the server has sent, in a beat and when it ends
	Round   uint64            `json:"round,omitempty"`
	Channel *registry.Channel `json:"channel,omitempty"`
}

// joinCluster subscribes to what the other servers say, if there can be others.
func (s *Server) joinCluster() error {
	if s.cfg.Broker == nil {
		return nil
	}
	s.hub = pubsub.NewHub(s.cfg.Broker, pubsub.HubOptions{Deliver: s.receive, Lost: s.lost, Logger: s.log})
	ctx, cancel := context.WithTimeout(context.Background(), holdTimeout)
	defer cancel()
	s.siblings = newSiblings(s)
	for _, topic := range []string{manyTopic, controlTopic, s.siblings.topic} {
		if err := s.hub.Hold(ctx, topic); err != nil {
			return err
		}
	}
	s.Go(s.siblings.run)
	return nil
}

// receive handles a message of the broker.
func (s *Server) receive(topic string, data []byte) {
	if s.history != nil && isLogTopic(topic) {
		s.history.receive(topic, data)
		return
	}
	if topic == s.siblings.topic {
		s.siblings.answered(data)
		return
	}
	if topic == controlTopic {
		var m controlMessage
		if err := json.Unmarshal(data, &m); err != nil {
			s.log.Error("broker message ignored", "cause", err)
			return
		}
		s.obey(m)
		return
	}
	var array [4]registry.Channel
	address, body, ok := parseMessage(topic, data)
	name, tenant, channels, named := parseAddress(array[:0], address)
	if !ok || !named {
		s.log.Error("broker message ignored", "cause", errMessage)
		return
	}
	if p := s.poolNamed(name); p != nil {
		if isPresence(body) {
			s.presence.heard(presenceKey{p, tenant, channels[0]}, body)
			return
		}
		s.deliver(p, tenant, channels, body)
	}
}

// onceASecond reports whether something was not logged in this second yet. last is when it was, in Unix seconds.
func onceASecond(last *atomic.Int64) bool {
	now := time.Now().Unix()
	return last.Swap(now) != now
}

// lost tells the connections that may have missed an event: a dropped event is never silent. Revocations are made up for, and so is what
// channels with History keep.
func (s *Server) lost(topic string) {
	if s.history != nil && isLogTopic(topic) {
		s.history.lost(topic)
		return
	}
	if onceASecond(&s.lossLogged) { // the other channels' follow at once
		s.log.Warn("events may have been lost between servers; connections are told or closed")
	}
	switch topic {
	case s.siblings.topic:
		s.siblings.missed.Store(true)
		return
	case controlTopic:
		s.siblings.missed.Store(true)
		s.siblings.owed.Store(true) // the others may have missed this server's
		s.kicks.cutOff()
	}
	if topic == manyTopic || topic == controlTopic {
		for _, c := range s.Conns() {
			switch {
			case c.Identity().User == "": // nothing comes from other servers
			case topic == manyTopic:
				c.missed(c.member.Channels()...)
			case !c.history: // a kick may be lost
				c.restart()
			}
		}
		return
	}
	name, tenant, ch, ok := parseChannelTopic(topic)
	if !ok {
		return
	}
	if p := s.poolNamed(name); p != nil {
		for _, m := range p.conns.Members(tenant, ch) {
			m.Value.missed(ch)
		}
		s.presence.missed(presenceKey{p, tenant, ch})
	}
}

// missed tells a client that events of channels may be missing: by a message if it takes positions, else by closing the connection.
// What channels with History keep is not concerned.
func (c *Conn) missed(channels ...registry.Channel) {
	for _, ch := range channels {
		if c.server.liveIn(ch) && !c.history {
			c.restart()
			return
		}
	}
	for _, ch := range channels {
		if c.server.liveIn(ch) {
			c.ws.Send(ws.Text, lostFrame(ch))
		}
	}
}

// liveIn reports whether events come to a channel that are not kept.
func (s *Server) liveIn(ch registry.Channel) bool {
	if _, kept := s.historyOf(ch); !kept {
		return ch != pendingChannel
	}
	return slices.ContainsFunc(s.apps, func(a *app) bool {
		declared := a.channel(ch.Name)
		return declared != nil && declared.Presence
	})
}

// brokerStats returns how the broker is doing, if there is one that can tell.
func (s *Server) brokerStats() (pubsub.Stats, bool) {
	r, ok := s.cfg.Broker.(pubsub.Reporter)
	if !ok {
		return pubsub.Stats{}, false
	}
	return r.Stats(), true
}

// brokerCheck is the name of the health check that a server with a broker has, unless Config.Checks has one of that name.
const brokerCheck = "broker"

// withBrokerCheck returns checks with the broker's, if there is one that can tell how it is doing.
func withBrokerCheck(checks map[string]func(context.Context) error, b pubsub.Broker) map[string]func(context.Context) error {
	r, ok := b.(pubsub.Reporter)
	if !ok || checks[brokerCheck] != nil {
		return checks
	}
	all := maps.Clone(checks)
	if all == nil {
		all = make(map[string]func(context.Context) error, 1)
	}
	all[brokerCheck] = func(context.Context) error {
		if r.Stats().Up {
			return nil
		}
		return pubsub.ErrAway
	}
	return all
}

// brokerError is what a caller gets when the broker did not take a message. Unavailable says that nothing was sent: proxies take it for
// leave to have another server run the call.
func brokerError(err error) error {
	if errors.Is(err, pubsub.ErrAway) || errors.Is(err, pubsub.ErrClosed) {
		return &Error{Code: CodeUnavailable, Message: CodeUnavailable.text(), Err: err}
	}
	return err
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
	return brokerError(s.hub.Publish(ctx, controlTopic, data))
}

// insistTime bounds how long insist waits for the broker.
const insistTime = 5 * time.Second

// insist is control for what has been done here already, and is to be done everywhere: it goes on when ctx ends, which may be the context of
// a call by a connection that was closed by this.
func (s *Server) insist(ctx context.Context, m controlMessage) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), insistTime)
	defer cancel()
	return s.control(ctx, m)
}

func (s *Server) obey(m controlMessage) {
	switch m.Kind {
	case controlKick:
		s.kicked(m)
	case controlBeat, controlBye, controlMembers, controlPresence, controlMissed:
		s.siblings.heard(m)
		if m.Kind == controlBeat || m.Kind == controlBye {
			s.kicksOf(m.Server, m.Kicks)
		}
	case controlRevoke:
		if m.Revocation != nil {
			s.applyRevocation(*m.Revocation)
		}
		s.applyAgain(m.Revocations)
	}
}

// revoke keeps a revocation by the program's hook and makes it hold on all servers.
func (s *Server) revoke(ctx context.Context, r Revocation) error {
	if r.size() > maxTokenSize {
		return Errorf(CodeInvalidArgument, "no token holds so long a name")
	}
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
	err := s.insist(ctx, controlMessage{Kind: controlRevoke, Revocation: &r})
	if err != nil {
		s.siblings.owed.Store(true)
	}
	return err
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

// applyAgain applies revocations that another server sent again. Connections by other means than a token stay: their users may
// have logged in since then.
func (s *Server) applyAgain(list []Revocation) {
	news := false
	for _, r := range list {
		news = s.tokens.revoke(r) || news
	}
	if !news {
		return
	}
	for _, c := range s.Conns() {
		if id := c.Identity(); s.tokens.refuses(&id) {
			c.ws.Close(ws.CodeUnauthorized, "token revoked")
		}
	}
}

// holdTimeout bounds how long a join waits for the broker.
const holdTimeout = 5 * time.Second

// hold makes the events of a channel reach this server, where there are others. Each connection holds its own channels, so
// the broker is asked only for those that have a member here. The channel of anonymous connections is not held: what is
// published to it stays on its server.
//
// What a channel with History keeps comes by its feed, which is held too, here also when the server is alone.
func (c *Conn) hold(ctx context.Context, tenant string, ch registry.Channel) bool {
	s := c.server
	keep, kept := s.historyOf(ch)
	if s.hub == nil && !kept || ch == pendingChannel {
		return true
	}
	wait, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	topic := channelTopic(c.pool.name, tenant, ch)
	var err error
	if s.hub != nil {
		err = s.hub.Hold(wait, topic)
	}
	if err == nil && kept {
		if err = s.history.hold(wait, c.pool, tenant, ch, keep); err != nil && s.hub != nil {
			s.hub.Release(topic)
		}
	}
	if err != nil && ctx.Err() == nil && onceASecond(&s.holdLogged) { // else the connection ended, or the server stops
		s.log.Error("broker: subscribe failed", "channel", clip(ch.Name), "conn", c.id, "cause", err)
	}
	return err == nil
}

func (c *Conn) release(tenant string, channels ...registry.Channel) {
	s := c.server
	if s.hub == nil && s.history == nil {
		return
	}
	for _, ch := range channels {
		if s.hub != nil && ch != pendingChannel {
			s.hub.Release(channelTopic(c.pool.name, tenant, ch))
		}
		if _, kept := s.historyOf(ch); kept {
			s.history.release(logTopic(c.pool.name, tenant, ch))
		}
	}
}
