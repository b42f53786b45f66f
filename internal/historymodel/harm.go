package historymodel

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// A trouble is a fault, and what it excuses.
type trouble struct {
	node *node    // nil: all
	ch   *channel // nil: all
	x    excuses
	to   time.Time // zero while it lasts
}

// excuses are what happened to a server and a channel, and may show from a time on until now. Without a channel it is what happened to
// any.
func (w *world) excuses(n *node, ch *channel, from time.Time) (x excuses) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range slices.Backward(w.troubles) {
		age := from.Sub(t.to)
		if !t.to.IsZero() && age > 2*quiet {
			break // they are in order, about
		}
		if t.node != nil && t.node != n || t.ch != nil && ch != nil && t.ch != ch || !t.to.IsZero() && age > quiet {
			continue
		}
		x.behind = x.behind || t.x.behind
		x.late = x.late || t.x.late && (t.to.IsZero() || age < together)
		if t.to.IsZero() || age < settle {
			x.unavailable, x.lag, x.lost = x.unavailable || t.x.unavailable, x.lag || t.x.lag, x.lost || t.x.lost
			x.down, x.refused = x.down || t.x.down, x.refused || t.x.refused
		}
	}
	return x
}

// trouble notes that a fault begins, and returns what notes its end.
func (w *world) trouble(t trouble) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.troubles = append(w.troubles, t)
	i := len(w.troubles) - 1
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.troubles[i].to = time.Now()
	}
}

// A fault is what happens to a server, or to what a channel keeps.
type fault struct {
	name   string
	weight int // of totalWeight
	sure   int // how many each run has, at least
	do     func(w *world, n *node, random *rand.Rand, d time.Duration)
}

// faults are what may happen; the first one is all that happens without a Cluster. Most of it excuses nothing.
var faults = []fault{
	{"restart", 4, 1, (*world).restart},
	{"reset", 10, 3, (*world).reset},
	{"reads fail", 4, 1, func(w *world, n *node, _ *rand.Rand, d time.Duration) {
		w.during(n, 2*d, Faults{ReadFails: true}, excuses{unavailable: true})
	}},
	{"trim", 20, 1, func(w *world, _ *node, random *rand.Rand, _ time.Duration) {
		ch := w.kept(random)
		w.Cluster.Trim(w.topic(ch), random.Uint64N(10), ch.trim)
	}},
	{"appends fail", 9, 1, func(w *world, n *node, _ *rand.Rand, d time.Duration) {
		w.during(n, d/4, Faults{AppendFails: true}, excuses{refused: true})
	}},
	{"drop", 196, 1, func(w *world, n *node, random *rand.Rand, d time.Duration) {
		w.during(n, d/2, Faults{Drop: 1 + random.IntN(100)}, excuses{behind: true})
		if random.IntN(2) == 0 {
			n.lose("")
		}
	}},
	{"lag", 100, 1, func(w *world, n *node, random *rand.Rand, d time.Duration) {
		w.during(n, 2*d, Faults{Lag: time.Duration(random.IntN(600)) * time.Millisecond}, excuses{behind: true, late: true})
	}},
	{"long lag", 4, 0, func(w *world, n *node, _ *rand.Rand, d time.Duration) {
		// With what comes before and after it, what is missing may show after the 10 s in which a server looks for it.
		w.during(n, 2*d, Faults{Lag: time.Second + 4*d}, excuses{behind: true, late: true, lag: true, unavailable: true, lost: true})
	}},
	{"reads hang", 2, 0, func(w *world, n *node, _ *rand.Rand, d time.Duration) {
		w.during(n, 2*d, Faults{ReadHangs: true}, excuses{unavailable: true})
	}},
	{"cut off", 1, 0, func(w *world, n *node, _ *rand.Rand, _ time.Duration) {
		w.during(n, 20*time.Second, Faults{ReadFails: true, Drop: 50}, excuses{unavailable: true, behind: true, lost: true})
	}},
}

const totalWeight = 400 // what is left is for nothing

// ofRun are the faults that a run has.
func (w *world) ofRun() []fault {
	if w.Cluster == nil {
		return faults[:1]
	}
	return faults
}

// sure are the faults that a run is to have of one of its servers.
func (w *world) sure(server int) (list []fault) {
	i := 0
	for _, f := range w.ofRun() {
		for range f.sure {
			if i%len(w.nodes) == server {
				list = append(list, f)
			}
			i++
		}
	}
	return list
}

// harm has faults happen to a server, one after the other, until the run ends. In a short run they come faster. Those that it is to have
// come first, when a third of the cuts is over.
func (w *world) harm(n *node, random *rand.Rand) {
	pace := min(200, 1+w.Cuts/15)
	happen := func(f fault) {
		w.mu.Lock()
		w.happened[f.name]++
		w.mu.Unlock()
		f.do(w, n, random, time.Duration(1+random.IntN(pace))*step)
	}
	sure := w.sure(n.number)
	for w.sleep(time.Duration(random.IntN(pace)) * step) {
		if len(sure) > 0 && w.left.Load() < int64(w.Cuts)*2/3 {
			happen(sure[0])
			sure = sure[1:]
			continue
		}
		kind := random.IntN(totalWeight)
		for _, f := range w.ofRun() {
			if kind -= f.weight; kind < 0 {
				happen(f)
				break
			}
		}
	}
	for _, f := range sure {
		happen(f)
	}
}

// during has faults for a while.
func (w *world) during(n *node, d time.Duration, f Faults, x excuses) {
	end := w.trouble(trouble{node: n, x: x})
	n.log.Set(f)
	w.sleep(d)
	n.log.Set(Faults{})
	end()
}

// kept picks a channel that keeps something and that clients may join.
func (w *world) kept(random *rand.Rand) *channel {
	for {
		if ch := w.channels[random.IntN(len(w.channels))]; ch.keep.Events > 0 && !ch.refused {
			return ch
		}
	}
}

// reset has an epoch end. The servers may be told.
func (w *world) reset(_ *node, random *rand.Rand, _ time.Duration) {
	ch := w.kept(random)
	end := w.trouble(trouble{ch: ch, x: excuses{lost: true}})
	w.Cluster.Reset(w.topic(ch), func(ended, begun string) { ch.reset(ended, begun, settle) })
	end()
	if random.IntN(2) == 0 {
		for _, n := range w.nodes {
			n.lose(w.topic(ch))
		}
	}
}

// topic is what a server keeps a channel by.
func (w *world) topic(ch *channel) string {
	const roomKind = "\x00"
	return pubsub.Topic("mooncore", "log") + pubsub.Topic("default", "t", roomKind, ch.name, "default")
}

// restart ends a server and starts it again. If it kept everything itself, that is gone: nobody publishes meanwhile.
func (w *world) restart(n *node, _ *rand.Rand, d time.Duration) {
	if w.alone() {
		for range cap(w.publishing) {
			w.publishing <- struct{}{}
		}
	}
	end := w.trouble(trouble{node: n, x: excuses{down: true}})
	n.end()
	if w.alone() {
		for _, ch := range w.channels {
			ch.reset("", "", 0)
		}
	}
	w.sleep(d / 2)
	n.start()
	end()
	if w.alone() {
		for range cap(w.publishing) {
			<-w.publishing
		}
	}
}
