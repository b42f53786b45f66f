package historymodel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore/internal/wsraw"
	"github.com/mooncore/mooncore/pubsub"
)

// step is what random durations are multiples of: much happens at the same time.
const step = 5 * time.Millisecond

// A client comes, joins, and is cut, again and again. It remembers where it left off.
type client struct {
	w      *world
	user   string
	plain  bool
	random *rand.Rand
	places map[*channel]pubsub.Position
	counts counts

	favorites []*channel // that it joins mostly
}

// A command is a join or a leave that was sent and is not answered.
type command struct {
	*stream
	join bool
	q    question
}

// A session is one connection of a client.
type session struct {
	*client
	node    *node
	conn    *wsraw.Conn
	cut     *cutConn // what conn is on
	came    chan wsraw.Message
	began   time.Time
	streams map[string]*stream // by name
	asked   []command
	waits   *command   // for the ["joined", …] behind the list that came
	pings   int        // without an answer
	quits   bool       // it asked the server to close
	trace   [40]string // the latest frames
	traced  int
}

// note remembers a frame for when something is wrong.
func (s *session) note(frame string) {
	s.trace[s.traced%len(s.trace)] = frame
	s.traced++
}

// tail are the latest frames.
func (s *session) tail() string {
	var b strings.Builder
	for i := max(0, s.traced-len(s.trace)); i < s.traced; i++ {
		fmt.Fprintf(&b, "\n\t%.150s", s.trace[i%len(s.trace)])
	}
	return b.String()
}

var errCut = errors.New("cut")

// A cutConn ends after so many bytes in one direction or the other.
type cutConn struct {
	net.Conn
	reads, writes int // negative: as many as there are
	cut           atomic.Bool
}

func (c *cutConn) Read(b []byte) (int, error) {
	if c.reads == 0 {
		c.cut.Store(true)
		c.Close()
		return 0, errCut
	}
	if c.reads > 0 {
		b = b[:min(len(b), c.reads)]
	}
	n, err := c.Conn.Read(b)
	if c.reads > 0 {
		c.reads -= n
	}
	return n, err
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.writes < 0 || len(b) <= c.writes {
		c.writes -= min(len(b), max(c.writes, 0))
		return c.Conn.Write(b)
	}
	_, _ = c.Conn.Write(b[:c.writes]) // it is cut in any case
	c.cut.Store(true)
	c.Close()
	return c.writes, errCut
}

// SetDeadline and SetReadDeadline do nothing: a client waits as long as it likes.
func (c *cutConn) SetDeadline(time.Time) error     { return nil }
func (c *cutConn) SetReadDeadline(time.Time) error { return nil }

func (c *client) chance(percent int) bool { return c.random.IntN(100) < percent }

// pick picks a channel to join.
func (c *client) pick() *channel {
	if c.chance(20) {
		return c.w.channels[c.random.IntN(len(c.w.channels))]
	}
	return c.favorites[c.random.IntN(min(len(c.favorites), 3))]
}

// open connects to some server. It returns nil if that takes no connections now. Some connections break after so many bytes.
func (c *client) open(breaks bool) (*session, error) {
	n := c.w.nodes[c.random.IntN(len(c.w.nodes))]
	began := time.Now()
	pipe := n.dial()
	if pipe == nil {
		return nil, nil
	}
	protocol := "mooncore.v1.history"
	if c.plain {
		protocol = "mooncore.v1"
	}
	cut := &cutConn{Conn: pipe, reads: -1, writes: -1}
	conn, err := wsraw.Client(cut, wsraw.Handshake("model", "/ws", "Authorization: Bearer "+c.user, "Sec-WebSocket-Protocol: "+protocol))
	if err != nil {
		pipe.Close()
		if c.w.excuses(n, nil, began).down {
			return nil, nil
		}
		return nil, err
	}
	switch kind := c.random.IntN(10); {
	case !breaks:
	case kind < 3:
		cut.reads = c.random.IntN(1 << (4 + c.random.IntN(9)))
	case kind == 3:
		cut.writes = c.random.IntN(300)
	}
	s := &session{client: c, node: n, conn: conn, cut: cut, came: make(chan wsraw.Message, 16), began: began, streams: map[string]*stream{}}
	go func() {
		defer close(s.came)
		for {
			m := conn.Next()
			s.came <- m
			if m.Err != nil || m.Op == wsraw.Close {
				return
			}
		}
	}()
	return s, nil
}

// close ends the connection at once. What had come and was not read is lost.
func (s *session) close() {
	_ = s.conn.Close() // it may be closed
	for range s.came {
	}
	for _, st := range s.streams {
		st.end()
	}
}

// session is one connection, from the handshake to the cut. It reports false if there was none.
func (c *client) session() (cut bool, err error) {
	s, err := c.open(true)
	if err != nil {
		return false, err
	}
	if s == nil {
		c.counts.refusals++
		c.w.sleep(time.Duration(1+c.random.IntN(10)) * step)
		return false, nil
	}
	err = s.run()
	s.close()
	c.counts.cuts++
	if err == nil || errors.Is(err, errCut) {
		err = c.plainly(s)
	}
	if err != nil {
		err = fmt.Errorf("%s on server %d, from %s to %s: %w%s", c.user, s.node.number,
			s.began.Format(time.StampMicro), time.Now().Format(time.StampMicro), err, s.tail())
	}
	return true, err
}

// plainly checks what came without positions.
func (c *client) plainly(s *session) error {
	for _, st := range s.streams {
		if err := st.settled(); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) run() error {
	for range 1 + s.random.IntN(3) {
		if err := s.join(s.pick()); err != nil {
			return err
		}
	}
	if s.chance(10) {
		return nil // before the answer
	}
	for range s.random.IntN(6) {
		if err := s.read(time.Duration(s.random.IntN(1<<s.random.IntN(7))) * step); err != nil {
			return err
		}
		if err := s.act(); err != nil {
			return err
		}
	}
	if s.chance(20) {
		if err := s.catchUp(); err != nil {
			return err
		}
	}
	if s.chance(10) {
		return s.quit()
	}
	return nil
}

// act does something that clients do.
func (s *session) act() error {
	switch kind := s.random.IntN(10); {
	case kind < 2:
		s.pings++
		return s.sent(s.conn.SendText("ping"))
	case kind < 4: // again, as if the answer had not come
		for _, st := range s.streams {
			if s.chance(50) {
				return s.join(st.ch)
			}
		}
	case kind == 4:
		return s.join(s.pick())
	case kind == 5:
		for _, st := range s.streams {
			s.asked = append(s.asked, command{stream: st})
			return s.sent(s.conn.SendText(`["leave",` + strconv.Quote(st.ch.name) + `]`))
		}
	}
	return nil
}

// sent is the error of something that was sent: the server may close, or the cut come first.
func (s *session) sent(err error) error {
	if err != nil {
		return s.rest()
	}
	return nil
}

// rest reads what came before the end.
func (s *session) rest() error {
	for m := range s.came {
		if err := s.frame(m); err != nil {
			return err
		}
	}
	return errCut
}

func (s *session) join(ch *channel) error {
	st := s.streams[ch.name]
	if st == nil {
		st = &stream{ch: ch, plain: s.plain, counts: &s.counts}
		st.excuse = func(since time.Time) excuses { return s.w.excuses(s.node, ch, since) }
		s.streams[ch.name] = st
	}
	since := s.since(ch)
	q := st.ask(since)
	s.asked = append(s.asked, command{st, true, q})
	frame := `["join",` + strconv.Quote(ch.name)
	if since != nil {
		frame += fmt.Sprintf(`,{"since":{"offset":%d,"epoch":%q}}`, since.Offset, since.Epoch)
	}
	s.note("> " + frame + "]")
	return s.sent(s.conn.SendText(frame + "]"))
}

// since is what the client says it has: mostly the truth.
func (c *client) since(ch *channel) *pubsub.Position {
	if c.plain {
		return nil
	}
	at, known := c.places[ch]
	switch kind := c.random.IntN(100); {
	case kind < 5:
		return nil
	case kind < 8:
		return &pubsub.Position{Epoch: "NOSUCHEPOCH", Offset: at.Offset}
	case kind < 11: // another channel's
		other := c.w.channels[c.random.IntN(len(c.w.channels))].target()
		return &pubsub.Position{Epoch: other.Epoch, Offset: at.Offset}
	case kind < 14:
		return ch.former(c.random)
	case kind < 18 && at.Offset > 0: // what it had before
		at.Offset = c.random.Uint64N(at.Offset)
	case kind < 22 && known:
		at.Offset += c.random.Uint64N(1 << c.random.IntN(12))
	case !known:
		return nil
	}
	return &at
}

// read takes what comes for a while.
func (s *session) read(d time.Duration) error {
	over, stop := after(d)
	defer stop()
	for {
		select {
		case m := <-s.came:
			if err := s.frame(m); err != nil {
				return err
			}
		case <-over:
			return nil
		}
	}
}

// catchUp waits until everything has come that was published when all that was asked was answered, or the connection is closed.
func (s *session) catchUp() error {
	var targets map[*stream]target
	for began := time.Now(); ; {
		missing := s.unanswered()
		if missing == nil {
			if targets == nil {
				targets = s.targets()
			}
			missing = behind(targets)
		}
		if missing == nil {
			s.counts.reached++
			return nil
		}
		for _, st := range s.streams {
			if st.excuse(time.Now()).any() {
				began = time.Now()
			}
		}
		if time.Since(began) > s.w.patience() {
			return missing
		}
		if err := s.read(step); err != nil {
			return err
		}
		for _, st := range s.streams {
			if st.joined && st.loose && !s.asks(st) { // as clients do that were told of a loss
				if err := s.join(st.ch); err != nil {
					return err
				}
			}
		}
	}
}

// asks reports whether a join or a leave is not answered.
func (s *session) asks(st *stream) bool {
	return s.waits != nil && s.waits.stream == st || slices.ContainsFunc(s.asked, func(c command) bool { return c.stream == st })
}

func (s *session) unanswered() error {
	for _, st := range s.streams {
		if st.joined && st.loose || s.asks(st) {
			return st.fault("no answer comes")
		}
	}
	return nil
}

// targets is where the channels stand that it is in.
func (s *session) targets() map[*stream]target {
	targets := map[*stream]target{}
	for _, st := range s.streams {
		if st.joined && st.ch.keep.Events > 0 {
			targets[st] = st.ch.target()
		}
	}
	return targets
}

func behind(targets map[*stream]target) error {
	for st, to := range targets {
		if !st.reached(to) {
			return st.fault("the event at %v does not come", to.Position)
		}
	}
	return nil
}

// quit asks the server to close.
func (s *session) quit() error {
	s.quits = true
	if err := s.sent(s.conn.SendText("quit")); err != nil {
		return err
	}
	return s.rest()
}

// frame takes what the server sent.
func (s *session) frame(m wsraw.Message) error {
	s.note(m.String())
	switch {
	case m.Err != nil:
		if s.cut.cut.Load() || s.w.excuses(s.node, nil, s.began).down {
			return errCut
		}
		return m.Err
	case m.Op == wsraw.Close:
		return s.closed(m)
	case m.Op == wsraw.Ping:
		return s.sent(s.conn.Send(wsraw.Frame{Op: wsraw.Pong, Payload: m.Payload}))
	case m.Op != wsraw.Text:
		return fmt.Errorf("frame %s", m)
	case string(m.Payload) == "pong":
		if s.pings--; s.pings < 0 {
			return errors.New("a pong too many")
		}
		return nil
	}
	if e, ok := parseEvent(m.Payload); ok {
		return s.event(e)
	}
	var parts []json.RawMessage
	var name string
	if err := json.Unmarshal(m.Payload, &parts); err != nil || len(parts) < 2 || json.Unmarshal(parts[0], &name) != nil {
		return fmt.Errorf("frame %s", m)
	}
	err := fmt.Errorf("frame %s", m)
	switch name {
	case "channel_list":
		var list []string
		if len(parts) == 2 && json.Unmarshal(parts[1], &list) == nil {
			return s.list(list)
		}
	case "joined":
		var ch string
		var a answer
		if len(parts) == 3 && json.Unmarshal(parts[1], &ch) == nil && json.Unmarshal(parts[2], &a) == nil {
			return s.answer(ch, a)
		}
	case "lost":
		var ch string
		if len(parts) == 2 && json.Unmarshal(parts[1], &ch) == nil && s.streams[ch] != nil {
			return s.streams[ch].lost()
		}
	}
	return err
}

// closed takes a close frame.
func (s *session) closed(m wsraw.Message) error {
	x := s.w.excuses(s.node, nil, s.began)
	switch code := m.Code(); {
	case code == 1000 && s.quits:
		if err := s.recovered(); err != nil {
			return err
		}
	case code == 4408:
		s.counts.slow++
	case code == 1012 && (x.down || s.plain && (x.lost || x.behind)):
	default:
		return fmt.Errorf("closed with %d %s", code, m.Reason())
	}
	return errCut
}

// recovered checks that what was missed has come.
func (s *session) recovered() error {
	for _, st := range s.streams {
		if err := st.recovered(); err != nil {
			return err
		}
	}
	return nil
}

// list takes a channel list, which answers the oldest command.
func (s *session) list(list []string) error {
	if len(s.asked) == 0 || s.waits != nil {
		return fmt.Errorf("a channel list that answers nothing: %q", list)
	}
	if err := s.recovered(); err != nil {
		return err
	}
	c := s.asked[0]
	s.asked = s.asked[1:]
	on := slices.Contains(list, c.ch.name+":default")
	var err error
	if c.join {
		err = c.listed(c.q, on)
		if c.positioned(c.q) {
			s.waits = &c
		}
	} else {
		err = c.left(on)
	}
	if err != nil {
		return err
	}
	members := 1 // of its own
	for name, st := range s.streams {
		if st.joined {
			members++
		}
		if st.joined != slices.Contains(list, name+":default") {
			return fmt.Errorf("channel list %q: %s is on it: %t", list, name, !st.joined)
		}
	}
	if members != len(list) {
		return fmt.Errorf("channel list %q, want %d channels", list, members)
	}
	return nil
}

func (s *session) answer(name string, a answer) error {
	c := s.waits
	if c == nil || c.ch.name != name {
		return fmt.Errorf("answer of channel %s: %+v", name, a)
	}
	s.waits = nil
	if err := c.answered(c.q, a); err != nil {
		return err
	}
	s.remember(c.stream)
	return nil
}

func (s *session) remember(st *stream) {
	if st.known {
		s.places[st.ch] = st.at
	}
}

// event takes an event.
func (s *session) event(e event) error {
	st := s.streams[e.Channel]
	if st == nil {
		return fmt.Errorf("an event of channel %s", e.Channel)
	}
	if e.at == nil {
		return st.bare(e.Number)
	}
	if e.at.Channel != e.Channel {
		return fmt.Errorf("an event of channel %s says that it is of %s", e.Channel, e.at.Channel)
	}
	if err := st.event(e.Number, pubsub.Position{Epoch: e.at.Epoch, Offset: e.at.Offset}); err != nil {
		return err
	}
	s.remember(st)
	return nil
}

// An event is what writers publish as "e", as it comes.
type event struct {
	Channel string `json:"c"`
	Number  uint32 `json:"n"`
	Pad     string `json:"p"`

	at *eventPosition
}

type eventPosition struct {
	Offset  uint64 `json:"offset"`
	Epoch   string `json:"epoch"`
	Channel string `json:"channel"`
}

var eventPrefix = []byte(`["e",`)

func parseEvent(data []byte) (e event, ok bool) {
	if !bytes.HasPrefix(data, eventPrefix) {
		return e, false
	}
	var parts []json.RawMessage
	if json.Unmarshal(data, &parts) != nil || len(parts) > 3 || json.Unmarshal(parts[1], &e) != nil {
		return e, false
	}
	if len(parts) == 3 {
		e.at = new(eventPosition)
		ok = json.Unmarshal(parts[2], e.at) == nil
		return e, ok
	}
	return e, true
}
