package mooncore

import (
	"context"
	"strconv"
	"time"

	"github.com/mooncore/mooncore/internal/strictjson"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/registry"
)

// lagTime is for how long a join waits for what it names but the log has not: that may be behind.
const lagTime = time.Second

// A reason says why a client did not get what it missed: PROTOCOL.md section 3.
type reason string

const (
	reasonNoSince     reason = "no_since"
	reasonEpoch       reason = "epoch"
	reasonAhead       reason = "ahead"
	reasonTrimmed     reason = "trimmed"
	reasonTooLarge    reason = "too_large"
	reasonUnavailable reason = "unavailable"
	reasonNoHistory   reason = "no_history"
	reasonRefused     reason = "refused"

	reasonNone reason = "" // it gets all
)

// recoveries are the outcomes that are counted.
var recoveries = [...]reason{
	reasonNone, reasonEpoch, reasonAhead, reasonTrimmed, reasonTooLarge, reasonUnavailable, reasonNoHistory, reasonRefused,
}

// A recovery is what a client gets that joins.
type recovery struct {
	at     pubsub.Position
	why    reason
	missed []*feedEvent // up to at
}

// appendTo appends what stands behind the channel in ["joined", c, …]: PROTOCOL.md section 3.
func (r *recovery) appendTo(b []byte) []byte {
	b = strconv.AppendBool(append(b, `{"recovered":`...), r.why == reasonNone)
	b = appendPosition(append(b, ','), r.at)
	if r.why != reasonNone {
		b = strictjson.AppendQuote(append(b, `,"reason":`...), string(r.why))
	}
	return append(b, '}')
}

var sinceMembers, positionMembers = []string{"since"}, []string{"offset", "epoch"}

// parseSince reads the third element of ["join", c, {"since":{"offset":n,"epoch":"e"}}]. There may be no since in it.
func parseSince(raw []byte) (since *pubsub.Position, ok bool) {
	var outer [1][]byte
	if kind, err := strictjson.Scan(raw, sinceMembers, outer[:]); err != nil || kind != strictjson.Object {
		return nil, false
	}
	if outer[0] == nil || string(outer[0]) == "null" {
		return nil, true
	}
	var got [2][]byte
	if kind, err := strictjson.Scan(outer[0], positionMembers, got[:]); err != nil || kind != strictjson.Object {
		return nil, false
	}
	offset, err := strconv.ParseUint(string(got[0]), 10, 64)
	if err != nil {
		return nil, false
	}
	since = &pubsub.Position{Offset: offset}
	if got[1] != nil {
		since.Epoch, ok = strictjson.Unquote(got[1])
		return since, ok
	}
	return since, true
}

// rejoin is join for a client that takes positions. If the channel keeps events, then is told what the client gets, also when it is a
// member already, and nothing is delivered meanwhile.
func (c *Conn) rejoin(ctx context.Context, id *Identity, name string, since *pubsub.Position, then func([]registry.Channel, recovery)) bool {
	ch := roomChannel(name, id.Scope)
	began := time.Now()
	if id.User == "" || !c.hold(ctx, id.Tenant, ch) {
		return false
	}
	f := c.server.history.feed(logTopic(c.pool.name, id.Tenant, ch)) // it is held
	why := reasonNoSince
	if since != nil {
		why = f.prepare(ctx, *since, began)
		defer f.joinEnded()
		if ctx.Err() != nil { // the connection ends, or the server does
			c.release(id.Tenant, ch)
			return false
		}
	}
	joined, ok := c.sit(id, ch, f, func(all []registry.Channel) { then(all, f.recovery(since, why)) })
	if !joined {
		c.release(id.Tenant, ch)
	}
	return ok
}

// prepare sees to it that what followed since is remembered, with what comes from now on, until joinEnded. If it can't, it says why. A
// position that the feed does not know may be newer than the feed: only a read that began after the join did says that it is not.
func (f *feed) prepare(ctx context.Context, since pubsub.Position, began time.Time) reason {
	f.mu.Lock()
	f.joining++
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	lag, stop := context.WithTimeout(ctx, lagTime)
	defer stop()
	for ctx.Err() == nil {
		f.mu.Lock()
		at, from, floor, why := f.at, f.from, f.floor, f.floorWhy
		answered := !f.answered.Before(began)
		f.mu.Unlock()
		late := lag.Err() != nil
		switch {
		case since.Epoch != at.Epoch:
			if since.Epoch == "" || answered {
				return reasonEpoch
			}
			f.update(ctx) // which takes longer than lagTime to be sure of another epoch
		case since.Offset > at.Offset:
			switch {
			case late && answered:
				return reasonAhead
			case late:
				return reasonUnavailable
			}
			f.update(lag)
		case since.Offset >= from:
			return reasonNone
		case since.Offset < floor:
			return why
		default:
			why, again := f.fetch(ctx, since)
			if why != reasonNone && (late || !again) {
				return why
			}
			if again {
				pause(lag, firstPause)
			}
		}
	}
	return reasonUnavailable
}

// joinEnded ends what prepare began.
func (f *feed) joinEnded() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.joining--
	f.joined = time.Now()
}

// update looks whether it is the feed that is behind.
func (f *feed) update(ctx context.Context) {
	f.mu.Lock()
	if f.caught == nil {
		f.startCatchUp()
	}
	caught := f.caught
	f.mu.Unlock()
	if caught != nil {
		_ = waitFor(ctx, caught) // the caller looks again in any case
	}
	pause(ctx, firstPause)
}

// fetch reads what followed since and is not remembered. One caller at a time does, and others find what it read. It says why that
// failed, and whether it may yet succeed.
func (f *feed) fetch(ctx context.Context, since pubsub.Position) (why reason, again bool) {
	select {
	case f.fetching <- struct{}{}:
	case <-ctx.Done():
		return reasonUnavailable, false
	}
	defer func() { <-f.fetching }()
	if f.settled(since) {
		return reasonNone, false
	}
	var found []*feedEvent
	size, next := 0, since.Offset+1
	for {
		page, _, err := f.read(ctx, next-1, f.history.budget)
		switch {
		case err != nil:
			if s := f.history.server; onceASecond(&s.readLogged) { // each client that joins comes here
				s.log.Error("broker: history was not read", "channel", clip(f.ch.Name), "cause", err)
			}
			return reasonUnavailable, false
		case page.Top.Epoch != since.Epoch:
			f.update(ctx)
			return reasonEpoch, true
		}
		for _, e := range page.Entries {
			switch {
			case e.Offset < next: // not asked for
				continue
			case e.Offset > next:
				return f.hopeless(since.Epoch, e.Offset-1, reasonTrimmed), false
			case !isEvent(e.Data):
				return f.hopeless(since.Epoch, e.Offset, reasonUnavailable), false
			}
			event := f.event(e)
			if size += event.cost(); size > f.history.budget {
				return f.hopeless(since.Epoch, since.Offset+1, reasonTooLarge), false
			}
			found = append(found, event)
			next++
		}
		switch done := f.add(since, found); {
		case done:
			return reasonNone, false
		case len(page.Entries) > 0:
		case page.Top.Offset >= next: // it is gone, or the log is behind
			return reasonTrimmed, true
		default:
			return reasonUnavailable, true
		}
	}
}

// settled reports whether there is nothing to read any more.
func (f *feed) settled(since pubsub.Position) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return since.Epoch != f.at.Epoch || since.Offset >= f.from || since.Offset < f.floor
}

// hopeless is raise for what was read of an epoch.
func (f *feed) hopeless(epoch string, floor uint64, why reason) reason {
	f.mu.Lock()
	defer f.mu.Unlock()
	if epoch == f.at.Epoch {
		f.raise(floor, why)
	}
	return why
}

// add remembers what was found behind since, if it reaches to what is remembered already. It reports whether there is nothing more to read.
func (f *feed) add(since pubsub.Position, found []*feedEvent) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case since.Epoch != f.at.Epoch:
		return true
	case since.Offset >= f.from: // somebody has added as much
		return true
	case since.Offset+uint64(len(found)) < f.from:
		return false
	}
	found = found[:f.from-since.Offset]
	for _, e := range found {
		f.size += e.cost()
	}
	f.recent = append(found, f.recent...)
	f.from = since.Offset
	f.bound()
	return true
}

// recovery is what a client gets that joins now. mu is held.
func (f *feed) recovery(since *pubsub.Position, why reason) recovery {
	r := recovery{at: f.at, why: why}
	switch {
	case since == nil:
	case since.Epoch != f.at.Epoch:
		if why != reasonUnavailable {
			r.why = reasonEpoch
		}
	case since.Offset > f.at.Offset:
		if why != reasonUnavailable {
			r.why = reasonAhead
		}
	case since.Offset >= f.from:
		r.why, r.missed = reasonNone, f.recent[since.Offset-f.from:]
	case why == reasonNone: // more came meanwhile
		r.why = reasonTooLarge
	}
	return r
}
