package natsbroker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/internal/bus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	clusterReplicas = 3
	makeTime        = time.Second            // after which a question for a stream is asked again
	scanTime        = 2 * time.Second        // how long a replica may take for all messages that it is asked for
	maxScan         = 1000                   // of them
	maxScanBytes    = 1 << 20                // and of their data
	maxSpread       = 32                     // messages of a stream that are worth a walk to find the next one of a subject
	requestTime     = 200 * time.Millisecond // and one for a message, the first time
	ackTime         = time.Second            // after which a message is sent again
	unavailable     = 10008                  // JetStream has no leader now
)

var errNoJetStream = errors.New(`history needs JetStream, which is not enabled, or the servers that have it are away: put "jetstream {}" into the ` +
	"configuration of the NATS server, or set Options.History of an embedded one")

// A stream keeps the messages of all topics that have the same Keep.
type stream struct {
	name   string
	prefix string // of its subjects
	keep   pubsub.Keep
	made   atomic.Bool // it exists, as far as is known
	making *bus.Batch
	seen   bool // it existed once; only what is making uses this
}

func (b *Broker) newStream(keep pubsub.Keep) *stream {
	token := fmt.Sprintf("%d-%d", keep.Events, keep.Age/time.Second)
	s := &stream{name: "mooncore-log-" + token, prefix: logSubject + token + ".", keep: keep}
	s.making = bus.NewBatch(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), answerTime)
		defer cancel()
		err := b.makeStream(ctx, s)
		s.made.Store(err == nil)
		return err
	})
	return s
}

// exist makes the stream unless it exists.
func (s *stream) exist(ctx context.Context) error {
	if s.made.Load() {
		return nil
	}
	return s.making.Do(ctx)
}

// stem is a subject of the stream but for its last token, the epoch.
func (s *stream) stem(topic string) string { return s.prefix + token(topic) + "." }

func (s *stream) config(o Options, clustered bool) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name: s.name, Subjects: []string{s.prefix + "*.*"},
		Description:       fmt.Sprintf("Mooncore keeps the latest %d events of a channel, for %v.", s.keep.Events, s.keep.Age),
		MaxMsgsPerSubject: int64(s.keep.Events), MaxAge: s.keep.Age + quietTime, MaxBytes: o.MaxBytes,
		Replicas: o.Replicas, AllowDirect: true, AllowMsgTTL: true, AllowRollup: true,
		RePublish: &jetstream.RePublish{Source: s.prefix + "*.*", Destination: topicSubject + "{{wildcard(1)}}"},
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = -1
	}
	if o.Memory {
		c.Storage = jetstream.MemoryStorage
	}
	if c.Replicas == 0 && clustered {
		c.Replicas = clusterReplicas
	}
	return c
}

// differs names what makes a stream that exists unfit to keep what this one keeps, or nothing.
func differs(got, want jetstream.StreamConfig) string {
	switch {
	case !slices.Equal(got.Subjects, want.Subjects):
		return "subjects"
	case got.RePublish == nil || *got.RePublish != *want.RePublish:
		return "republish"
	case got.MaxMsgsPerSubject != want.MaxMsgsPerSubject:
		return "max_msgs_per_subject"
	case got.MaxAge != want.MaxAge:
		return "max_age"
	case got.Retention != want.Retention:
		return "retention"
	case got.Discard != want.Discard:
		return "discard"
	case !got.AllowDirect:
		return "allow_direct"
	case !got.AllowMsgTTL:
		return "allow_msg_ttl"
	case !got.AllowRollup:
		return "allow_rollup_hdrs"
	}
	return ""
}

// makeStream makes a stream unless it exists. Others may do so at the same time, and with other replicas.
func (b *Broker) makeStream(ctx context.Context, s *stream) error {
	if version := b.nc.ConnectedServerVersion(); older(version, 2, 11) {
		return fmt.Errorf("history needs NATS 2.11 or newer, this is %s", version)
	}
	want := s.config(b.opts, b.nc.ConnectedClusterName() != "")
	got, err := b.findStream(ctx, want)
	for ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && !b.denied.Load() {
		got, err = b.findStream(ctx, want)
	}
	var refused *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrNoResponders) && s.seen:
		return err // the servers with JetStream are away
	case errors.Is(err, nats.ErrNoResponders):
		return errNoJetStream
	case err != nil && b.denied.Load():
		return errDenied
	case errors.As(err, &refused):
		if refused.ErrorCode == unavailable {
			return nats.ErrNoResponders
		}
		return fmt.Errorf("stream %s: %s (error %d)", s.name, refused.Description, refused.ErrorCode)
	case err != nil:
		return err
	}
	s.seen = true
	if field := differs(got.CachedInfo().Config, want); field != "" {
		return fmt.Errorf("stream %s exists with another %s", s.name, field)
	}
	return nil
}

// findStream finds a stream, or makes it. Of those who make the same one at the same time, a cluster answers only some.
func (b *Broker) findStream(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, makeTime)
	defer cancel()
	s, err := b.js.Stream(ctx, want.Name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return s, err
	}
	s, err = b.js.CreateStream(ctx, want)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // others are faster, and have other options
		return b.js.Stream(ctx, want.Name)
	}
	return s, err
}

// older reports whether a version is older than another one.
func older(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, err1 := strconv.Atoi(parts[0])
	b, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (a < major || a == major && b < minor)
}

// A log is what Append and Read of a topic work with.
type log struct {
	b      *Broker
	stream *stream
	stem   string
	topic  *logTopic
}

// put stores a record behind another one or, if that is nil, where the topic has none. It fails with errGuard if others did so
// before.
func (l log) put(ctx context.Context, r, behind *record) error {
	m := nats.NewMsg(l.stem + r.Epoch)
	m.Data = r.encode()
	if behind != nil {
		m.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(behind.seq, 10)}
	} else {
		m.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{"0"}
		m.Header[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{l.stem + "*"}
	}
	if r.isMarker {
		m.Header[jetstream.MsgTTLHeader] = []string{strconv.Itoa(int(quietTime / time.Second))}
	} else if behind != nil && behind.isMarker { // which must not be the last record again, whatever becomes of the message
		m.Header[jetstream.MsgRollup] = []string{jetstream.MsgRollupSubject}
	}
	seq, err := l.sendUntilSure(ctx, m, r, behind)
	if err == nil && behind == nil && l.b.clustered.Load() && l.alone(ctx) != nil {
		err = errUnsure
	}
	if err != nil {
		l.topic.doubt()
		return err
	}
	r.seq = seq
	l.topic.came(r)
	return nil
}

// sendUntilSure sends a record again while no answer comes: a server that leads the stream and is being stopped may forget one. By its
// guard the record is stored once at most. Not so the first of a topic, which a stream may have taken before it lost all it had.
func (l log) sendUntilSure(ctx context.Context, m *nats.Msg, r, behind *record) (seq uint64, err error) {
	seq, err = l.send(ctx, m)
	for behind != nil && errors.Is(err, errUnsure) && !l.b.topics.Closed() {
		select {
		case <-time.After(bus.Backoff(1)):
		case <-ctx.Done():
			return 0, err
		}
		switch seq, err = l.send(ctx, m); {
		case errors.Is(err, errGuard):
			seq, err = l.place(ctx, r, behind)
		case err != nil && !errors.Is(err, errUnsure):
			err = fmt.Errorf("%w: %w", errUnsure, err)
		}
	}
	return seq, err
}

// place returns the number of a record that may have been stored behind another one, errGuard if its place is taken, or errUnsure.
func (l log) place(ctx context.Context, r, behind *record) (seq uint64, err error) {
	got, err := l.ask(ctx, getRequest{Seq: behind.seq + 1, NextFor: l.stem + r.Epoch})
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", errUnsure, err)
	case got == nil, got.Offset > r.Offset: // it is not stored yet, or not any more
		return 0, errUnsure
	case got.Offset == r.Offset && got.id == r.id && !r.isMarker:
		return got.seq, nil
	}
	return 0, errGuard
}

// send sends a message once. With errUnsure, it may be stored or not.
func (l log) send(ctx context.Context, m *nats.Msg) (seq uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, ackTime)
	defer cancel()
	var ack struct {
		Seq   uint64              `json:"seq"`
		Error *jetstream.APIError `json:"error"`
	}
	reply, err := l.b.nc.RequestMsgWithContext(ctx, m)
	if err == nil {
		err = json.Unmarshal(reply.Data, &ack)
	}
	switch {
	case err == nil && ack.Error == nil:
		return ack.Seq, nil
	case err == nil && (ack.Error.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || ack.Error.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant):
		return 0, errGuard
	case err == nil:
		return 0, ack.Error
	case l.b.denied.Load():
		return 0, errDenied
	case notSent(err):
		return 0, err
	}
	return 0, fmt.Errorf("%w: %w", errUnsure, err)
}

// notSent reports whether the error of a request says that it was not sent, or that nobody got it.
func notSent(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrMaxPayload)
}

// over reports whether Read must put a marker behind the last record.
func (l log) over(last *record) bool {
	switch {
	case last == nil:
		return true
	case last.isMarker:
		return time.Since(last.time).Abs() > renewAfter
	}
	return l.old(last)
}

// old reports whether a message is not read any more.
func (l log) old(r *record) bool { return time.Since(r.time) > l.stream.keep.Age }

// alone makes sure that the topic has one epoch, after one began: else it ends both. Where a stream has replicas, the last message of
// the old one may have ended by its age while another one behind it was on its way.
func (l log) alone(ctx context.Context) error {
	var info struct {
		State struct {
			Subjects map[string]int `json:"subjects"`
		} `json:"state"`
	}
	err := l.api(ctx, "STREAM.INFO.", map[string]string{"subjects_filter": l.stem + "*"}, &info)
	if err != nil || len(info.State.Subjects) == 1 {
		return err
	}
	return errors.Join(errGuard, l.purge(ctx))
}

// purge ends what is kept of the topic, and so its epoch.
func (l log) purge(ctx context.Context) error {
	return l.api(ctx, "STREAM.PURGE.", map[string]string{"filter": l.stem + "*"}, new(struct{}))
}

// A getRequest asks for a message by its number, or for the last one of a subject, or for the next ones.
type getRequest struct {
	Seq      uint64 `json:"seq,omitempty"`
	LastFor  string `json:"last_by_subj,omitempty"`
	NextFor  string `json:"next_by_subj,omitempty"` // from Seq on
	Batch    int    `json:"batch,omitempty"`        // how many, in as many answers
	MaxBytes int    `json:"max_bytes,omitempty"`
}

// last returns the topic's last record as the stream's leader has it, or nil. If the stream has lost messages that it had taken, what
// it has left is purged: an epoch must not go on as if nothing were missing.
func (l log) last(ctx context.Context) (*record, error) {
	known, _ := l.topic.known()
	r, err := l.ask(ctx, getRequest{LastFor: l.stem + "*"})
	if err != nil {
		return nil, err
	}
	if r != nil && r.contradicts(known) {
		if err := l.purge(ctx); err != nil {
			return nil, err
		}
		r = nil
	}
	l.topic.is(r)
	return r, nil
}

// ask gets a record from the stream's leader, or nil.
func (l log) ask(ctx context.Context, what getRequest) (*record, error) {
	var got struct {
		Message struct {
			Seq  uint64    `json:"seq"`
			Data []byte    `json:"data"`
			Time time.Time `json:"time"`
		} `json:"message"`
	}
	err := l.api(ctx, "STREAM.MSG.GET.", what, &got)
	var refused *jetstream.APIError
	switch {
	case errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return stored(got.Message.Data, got.Message.Seq, got.Message.Time)
}

// api asks the stream's leader.
func (l log) api(ctx context.Context, what string, request, response any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	reply, err := l.b.request(ctx, "$JS.API."+what+l.stream.name, data)
	if err != nil {
		return err
	}
	var refused struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &refused); err != nil {
		return err
	}
	if refused.Error == nil {
		return json.Unmarshal(reply.Data, response)
	}
	if c := refused.Error.ErrorCode; c == jetstream.JSErrCodeStreamNotFound || c == unavailable {
		return nats.ErrNoResponders
	}
	return refused.Error
}

// get gets a record from any replica, or nil.
func (l log) get(ctx context.Context, what getRequest) (*record, error) {
	request, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	reply, err := l.b.request(ctx, "$JS.API.DIRECT.GET."+l.stream.name, request)
	if err != nil {
		return nil, err
	}
	return l.parse(reply)
}

// parse reads the answer of a replica. It returns nil if the message is not kept.
func (l log) parse(m *nats.Msg) (*record, error) {
	if status := m.Header.Get("Status"); status == "404" {
		return nil, nil
	} else if status != "" {
		return nil, fmt.Errorf("stream %s: %s %s", l.stream.name, status, m.Header.Get("Description"))
	}
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return nil, err
	}
	return stored(m.Data, seq, at)
}

// request asks until there is an answer: a stream that has just been made, or has lost its leader, gives none.
func (b *Broker) request(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	for patience := requestTime; ; patience *= 2 {
		short, cancel := context.WithTimeout(ctx, patience)
		reply, err := b.nc.RequestWithContext(short, subject, data)
		cancel()
		switch {
		case !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
			return reply, err
		case b.denied.Load():
			return nil, errDenied
		}
	}
}

func stored(data []byte, seq uint64, at time.Time) (*record, error) {
	r, _, ok := decode(data)
	if !ok {
		return nil, errors.New("the stream has a message of something else")
	}
	r.seq, r.time = seq, at
	return r, nil
}

// until returns what is kept between an offset and a record, that included: the oldest entries, as many as fit into maxBytes, and
// at least one.
func (l log) until(ctx context.Context, last *record, after uint64, maxBytes int) ([]pubsub.Entry, error) {
	switch {
	case last.isMarker || last.Offset <= after:
		return nil, nil
	case last.Offset-after > maxBefore+1 && last.spread() <= maxSpread:
		if entries, err := l.leap(ctx, last, after, maxBytes); err != nil || len(entries) > 0 {
			return entries, err
		} // else the replica is behind
	}
	entries, size := []pubsub.Entry{last.Entry}, len(last.Data) // the latest first
	for oldest, end := last, false; oldest.Offset > after+1 && !end; {
		fit := uint64(1 + maxBytes/(len(oldest.Data)+1)) // if they are as large as that one
		seqs := oldest.before[:min(uint64(len(oldest.before)), oldest.Offset-after-1, fit)]
		records, err := l.getAll(ctx, seqs)
		if err != nil {
			return nil, err
		}
		end = len(seqs) == 0
		for _, r := range records {
			if end = r == nil || r.Epoch != oldest.Epoch || r.Offset != oldest.Offset-1 || l.old(r); end {
				break // what is older is not kept any more
			}
			oldest = r
			entries, size = append(entries, r.Entry), size+len(r.Data)
			for len(entries) > 1 && size > maxBytes {
				size -= len(entries[0].Data)
				entries = entries[1:]
			}
		}
	}
	slices.Reverse(entries)
	return entries, nil
}

// leap reads forward, from where the message behind an offset should be, if the topic's messages have always been as far from each other
// as the latest.
func (l log) leap(ctx context.Context, last *record, after uint64, maxBytes int) (entries []pubsub.Entry, err error) {
	start := uint64(1)
	for distance := last.spread() * (last.Offset - after); ; distance *= 2 {
		if start = 1; distance < last.seq {
			start = last.seq - distance
		}
		r, err := l.get(ctx, getRequest{Seq: start, NextFor: l.stem + last.Epoch})
		if err != nil || r == nil {
			return nil, err
		}
		if r.Offset <= after+1 || start == 1 {
			break
		}
	}
	for size := 0; len(entries) == 0 || size < maxBytes; {
		records, err := l.scan(ctx, getRequest{Seq: start, NextFor: l.stem + last.Epoch, Batch: maxScan, MaxBytes: min(max(maxBytes, 1), maxScanBytes)})
		if err != nil || len(records) == 0 {
			return entries, err
		}
		for _, r := range records {
			start = r.seq + 1
			switch {
			case r.Offset <= after || r.isMarker || l.old(r):
				continue
			case r.Offset > last.Offset || len(entries) > 0 && size+len(r.Data) > maxBytes:
				return entries, nil
			case len(entries) > 0 && r.Offset != entries[len(entries)-1].Offset+1:
				entries, size = nil, 0 // a message was deleted: as if those before it were too
			}
			entries, size = append(entries, r.Entry), size+len(r.Data)
		}
	}
	return entries, nil
}

// scan gets the records of a subject from a number on.
func (l log) scan(ctx context.Context, what getRequest) (records []*record, err error) {
	data, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	sub, err := l.b.nc.SubscribeSync(l.b.nc.NewInbox())
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	if err := l.b.nc.PublishRequest("$JS.API.DIRECT.GET."+l.stream.name, sub.Subject, data); err != nil {
		return nil, err
	}
	short, cancel := context.WithTimeout(ctx, scanTime)
	defer cancel()
	for {
		m, err := sub.NextMsgWithContext(short)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return nil, nats.ErrNoResponders
		case err != nil:
			return nil, err
		case m.Header.Get("Status") == "204": // the end
			return records, nil
		}
		r, err := l.parse(m)
		if err != nil || r == nil {
			return records, err
		}
		records = append(records, r)
	}
}

// getAll gets records by their numbers, with nil for those that are not kept any more.
func (l log) getAll(ctx context.Context, seqs []uint64) ([]*record, error) {
	records, errs := make([]*record, len(seqs)), make([]error, len(seqs))
	var wg sync.WaitGroup
	for i, seq := range seqs {
		wg.Go(func() { records[i], errs[i] = l.get(ctx, getRequest{Seq: seq}) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for i, r := range records {
		if r == nil { // or the replica is behind
			var err error
			if records[i], err = l.ask(ctx, getRequest{Seq: seqs[i]}); err != nil || records[i] == nil {
				return records, err
			}
		}
	}
	return records, nil
}
