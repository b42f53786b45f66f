package pubsubtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// RunLogFault is RunFault for what a Log appends. A message that Append accepted must come to each subscription in force with the
// position that Append told, or the subscription must be told of a loss, or see it by the positions of what comes next. It must stand
// in the log, on each server, unless another epoch has begun. No position ever has two messages, and no epoch comes back.
func RunLogFault(t *testing.T, newLog func(t *testing.T) pubsub.Log, rounds int, fault Fault) {
	runFault(t, appending{}, func(t *testing.T) pubsub.Broker { return newLog(t) }, rounds, fault)
}

// faultKeep keeps all messages of a round.
var faultKeep = pubsub.Keep{Events: 200_000, Age: time.Hour}

type appending struct{}

func (appending) send(ctx context.Context, b pubsub.Broker, topic string, data []byte) (pubsub.Position, error) {
	return b.(pubsub.Log).Append(ctx, topic, data, faultKeep)
}

func (appending) parse(data []byte) (pubsub.Entry, error) { return pubsub.ParseEntry(data) }

// audit compares what is kept, on each server, with what was appended and what came.
func (appending) audit(t *testing.T, w *workload) {
	for n, name := range w.topics {
		last := lastAppended(w.records, n)
		var kept [][]pubsub.Entry
		for i, b := range w.brokers {
			entries, err := readTo(t, b.(pubsub.Log), name, last)
			if err != nil {
				t.Fatalf("topic %d on server %d: %v", n, i, err)
			}
			kept = append(kept, entries)
		}
		for _, err := range auditLog(n, w.records, w.ledgers, kept) {
			t.Errorf("topic %d: %v", n, err)
		}
	}
}

// lastAppended is where the message stands that was sent last, of those that were accepted.
func lastAppended(records [][]record, topic int) (at pubsub.Position) {
	var began time.Time
	for _, list := range records {
		for _, r := range list {
			if r.topic == topic && r.accepted && r.began.After(began) {
				began, at = r.began, r.at
			}
		}
	}
	return at
}

// readTo reads what is kept of a topic, until it comes to a position, which must be of the last epoch.
func readTo(t *testing.T, l pubsub.Log, topic string, last pubsub.Position) (all []pubsub.Entry, err error) {
	var page pubsub.Page
	for deadline := time.Now().Add(recoverTime); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		after := uint64(0)
		if len(all) > 0 {
			after = all[len(all)-1].Offset
		}
		if after >= last.Offset {
			return all, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), recoverTime)
		page, err = l.Read(ctx, topic, after, 1<<20, faultKeep)
		cancel()
		if err == nil && page.Top.Epoch == last.Epoch {
			all = append(all, page.Entries...)
		}
	}
	return nil, errors.Join(fmt.Errorf("%+v was appended last, but Read says %+v", last, page.Top), err)
}

// auditLog compares what was accepted, what came and what is kept of a topic, the last by servers.
func auditLog(topic int, records [][]record, ledgers []*ledger, kept [][]pubsub.Entry) (errs []error) {
	b := book{}
	errs = b.appended(records, topic)
	for _, l := range ledgers {
		if l.topic == topic {
			errs = append(errs, b.came(l)...)
		}
	}
	for _, entries := range kept {
		errs = append(errs, b.kept(entries, records, topic)...)
	}
	return errs
}

// A book says which message stands where, of a topic.
type book map[pubsub.Position][2]uint32

// enter reports a message that stands where another one does.
func (b book) enter(at pubsub.Position, m [2]uint32) error {
	if other, ok := b[at]; ok && other != m {
		return fmt.Errorf("%+v has message %d of publisher %d, and message %d of publisher %d", at, other[1], other[0], m[1], m[0])
	}
	b[at] = m
	return nil
}

// came enters what came to a subscription.
func (b book) came(l *ledger) (errs []error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ended := map[string]bool{} // epochs
	holes := 0
	var last pubsub.Position
	for i, at := range l.places {
		switch {
		case ended[at.Epoch]:
			errs = append(errs, fmt.Errorf("%s: %+v came after %+v: the epoch is back", l.name, at, last))
		case at.Epoch == last.Epoch && at.Offset <= last.Offset:
			errs = append(errs, fmt.Errorf("%s: %+v came after %+v", l.name, at, last))
		case at.Epoch == last.Epoch && at.Offset > last.Offset+1:
			holes++
		case at.Epoch != last.Epoch:
			ended[last.Epoch] = true
		}
		last = at
		if err := b.enter(at, l.came[i]); err != nil {
			errs = append(errs, err)
		}
	}
	if holes > mostLosses {
		errs = append(errs, fmt.Errorf("%s: %d holes, want at most %d", l.name, holes, mostLosses))
	}
	return errs
}

// appended enters what Append accepted.
func (b book) appended(records [][]record, topic int) (errs []error) {
	for publisher, list := range records {
		ended := map[string]bool{}
		var before pubsub.Position
		for i, r := range list {
			if r.topic != topic || !r.accepted {
				continue
			}
			switch {
			case ended[r.at.Epoch]:
				errs = append(errs, fmt.Errorf("publisher %d: %+v stands behind %+v: the epoch is back", publisher, r.at, before))
			case r.at.Epoch == before.Epoch && r.at.Offset <= before.Offset:
				errs = append(errs, fmt.Errorf("publisher %d: %+v stands behind %+v", publisher, r.at, before))
			case r.at.Epoch != before.Epoch:
				ended[before.Epoch] = true
			}
			before = r.at
			if err := b.enter(r.at, [2]uint32{uint32(publisher), uint32(i)}); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// kept compares what is kept on a server, up to the last position, with what was accepted and what came.
func (b book) kept(entries []pubsub.Entry, records [][]record, topic int) (errs []error) {
	seen := map[[2]uint32]pubsub.Position{}
	for i, e := range entries {
		m, err := parseMessage(e.Data)
		if err == nil {
			err = b.enter(e.Position, m)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if i > 0 && e.Offset != entries[i-1].Offset+1 {
			errs = append(errs, fmt.Errorf("%+v is kept behind %+v", e.Position, entries[i-1].Position))
		}
		if other, ok := seen[m]; ok {
			errs = append(errs, fmt.Errorf("message %d of publisher %d is kept at %+v and at %+v", m[1], m[0], other, e.Position))
		}
		seen[m] = e.Position
		if int(m[0]) >= len(records) || int(m[1]) >= len(records[m[0]]) || records[m[0]][m[1]].topic != topic {
			errs = append(errs, fmt.Errorf("message %d of publisher %d is kept, which is not this topic's", m[1], m[0]))
		} else if records[m[0]][m[1]].away {
			errs = append(errs, fmt.Errorf("message %d of publisher %d is kept, though it was refused since the servers were away", m[1], m[0]))
		}
	}
	if len(entries) == 0 {
		return errs
	}
	for publisher, list := range records {
		for i, r := range list {
			if r.topic == topic && r.accepted && r.at.Epoch == entries[0].Epoch && seen[[2]uint32{uint32(publisher), uint32(i)}] != r.at {
				errs = append(errs, fmt.Errorf("message %d of publisher %d was appended at %+v, and is not kept there", i, publisher, r.at))
			}
		}
	}
	return errs
}

// shows reports whether a subscription sees, by the positions of what came, that it missed what stands at one: what came next
// does not follow.
func (l *ledger) shows(at pubsub.Position) bool {
	last := pubsub.Position{Epoch: at.Epoch} // it was in force before the first message
	for _, next := range l.places {
		behind := last.Epoch == at.Epoch && last.Offset < at.Offset
		ahead := next.Epoch == at.Epoch && next.Offset > at.Offset
		if behind && ahead || behind && next.Epoch != at.Epoch || ahead && last.Epoch != at.Epoch {
			return true
		}
		last = next
	}
	return false
}
