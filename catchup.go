package mooncore

import (
	"slices"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/registry"
)

// A catchUp is one attempt to get a feed to where its channel stands.
type catchUp struct {
	feed   *feed
	until  time.Time
	pause  time.Duration
	budget int // of what may be delivered before the clients have had time to read

	epoch string    // that the log has, and the feed has not
	since time.Time // when it was seen first

	gap   pubsub.Position // behind it the log lacks something
	found time.Time       // when that was seen first
}

// catchUp reads from the log until nothing is missing, or gives up.
func (f *feed) catchUp(caught chan struct{}) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.caught == caught { // the broker panicked
			f.caughtUp()
		}
	}()
	c := catchUp{feed: f, until: time.Now().Add(catchUpTime), pause: firstPause, budget: f.history.budget}
	for c.step() {
	}
}

// step reads a page, and reports whether there is more to do.
func (c *catchUp) step() bool {
	f := c.feed
	f.mu.Lock()
	asked := f.at
	f.again = false
	f.mu.Unlock()
	waits := time.Now()
	page, began, err := f.read(f.ctx, asked.Offset, f.history.budget)
	c.until = c.until.Add(began.Sub(waits))

	f.mu.Lock()
	defer f.unlock()
	before := f.at
	done := !f.ended && err == nil && c.take(asked, began, page)
	if f.at != before {
		c.until = time.Now().Add(catchUpTime)
	}
	switch {
	case f.ended || f.ctx.Err() != nil:
		done = true
	case done && f.again:
		return true
	case !done && !time.Now().Before(c.until):
		c.giveUp(page, err)
		done = true
	case !done && c.budget <= 0:
		c.rest()
		return true
	case !done && (err != nil || f.at == before):
		c.sleep()
		return true
	}
	if !done {
		return true
	}
	f.caughtUp()
	return false
}

// sleep waits until it makes sense to read again. feed.mu is held, but not meanwhile.
func (c *catchUp) sleep() {
	f := c.feed
	f.unlock()
	pause(f.ctx, c.pause)
	c.pause = min(2*c.pause, longPause)
	c.budget = f.history.budget
	f.mu.Lock()
}

// rest waits until the members have read most of what they were sent, but nobody waits for a slow one for longer than longPause: that one is
// closed when it is sent too much. feed.mu is held, but not meanwhile.
func (c *catchUp) rest() {
	f := c.feed
	f.unlock()
	for until := time.Now().Add(longPause); time.Now().Before(until) && f.ctx.Err() == nil && !f.haveRead(); {
		pause(f.ctx, firstPause)
	}
	c.budget = f.history.budget
	f.mu.Lock()
}

func (f *feed) haveRead() bool {
	return !slices.ContainsFunc(f.pool.conns.Members(f.tenant, f.ch), func(m registry.Membership[*Conn]) bool {
		return m.Value.Queued() > f.history.budget/4
	})
}

// take delivers what a page adds, and reports whether nothing is missing now. It was asked for behind a position, at a time. feed.mu is held.
func (c *catchUp) take(asked pubsub.Position, began time.Time, page pubsub.Page) (done bool) {
	f := c.feed
	if asked.Epoch != f.at.Epoch { // it went on meanwhile: the page may not begin where the new epoch does
		return false
	}
	if page.Top.Epoch != f.at.Epoch {
		if asked != f.at || !c.confirmed(page.Top.Epoch) { // it went on meanwhile, or the log may be behind
			return false
		}
		f.lose(reasonEpoch)
		f.jump(page.Top)
		f.dropOthers()
	}
	f.seen, f.answered = time.Now(), began
	for _, e := range page.Entries {
		if e.Epoch != f.at.Epoch || f.old(e) {
			continue
		}
		if !f.follows(e) {
			if c.early() {
				return false
			}
			f.lose(reasonTrimmed)
			f.jump(pubsub.Position{Epoch: e.Epoch, Offset: e.Offset - 1})
		}
		cost := f.event(e).cost()
		if c.budget < cost && c.budget < f.history.budget {
			c.budget = 0
			return false
		}
		c.budget -= cost
		f.deliver(e)
	}
	f.drain()
	if len(page.Entries) == 0 && asked == f.at && page.Top.Offset > f.at.Offset && !c.early() { // what was missed is not kept any more
		f.lose(reasonTrimmed)
		f.jump(page.Top)
	}
	if len(f.waiting) > 0 || page.Top.Offset > f.at.Offset {
		return false
	}
	if !f.again { // else the broker may have lost some since this page was read
		f.doubt = false
	}
	return true
}

// confirmed reports whether the log really has another epoch: one that is behind may still have an older one. feed.mu is held.
func (c *catchUp) confirmed(epoch string) bool {
	f := c.feed
	if n := len(f.waiting); n > 0 && f.waiting[n-1].Epoch == epoch {
		return true
	}
	if c.epoch != epoch {
		c.epoch, c.since = epoch, time.Now()
	}
	return time.Since(c.since) >= longPause
}

// early reports whether what can't be read may be on its way yet: the log had it before the subscription brought it. feed.mu is held.
func (c *catchUp) early() bool {
	f := c.feed
	if f.doubt || len(f.waiting) > 0 { // it will not come any more
		return false
	}
	if c.gap != f.at || c.found.IsZero() {
		c.gap, c.found = f.at, time.Now()
	}
	return time.Since(c.found) < onTheWay
}

// giveUp goes on although something is missing. feed.mu is held.
func (c *catchUp) giveUp(page pubsub.Page, err error) {
	f := c.feed
	if err == nil && page.Top.Epoch == f.at.Epoch {
		f.dropOthers()
	}
	behind := err == nil && page.Top.Epoch == f.at.Epoch && page.Top.Offset > f.at.Offset
	if len(f.waiting) == 0 && !behind && !f.doubt {
		return // a look that found no answer: nothing says that anything is missing
	}
	if err != nil {
		f.history.server.log.Error("broker: history was not read", "channel", clip(f.ch.Name), "cause", err)
	}
	f.doubt = false
	if len(f.waiting) > 0 {
		f.skip(reasonUnavailable)
		return
	}
	f.lose(reasonUnavailable)
	if behind {
		f.jump(page.Top) // its entries are gone
	}
}

// dropOthers forgets what waits of other epochs than the current one. mu is held.
func (f *feed) dropOthers() {
	kept := f.waiting[:0]
	f.waits = 0
	for _, e := range f.waiting {
		if e.Epoch == f.at.Epoch {
			kept = append(kept, e)
			f.waits += len(e.Data) + frameCost
		}
	}
	clear(f.waiting[len(kept):])
	f.waiting = kept
}
