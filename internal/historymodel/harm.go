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

// harm has faults happen to a server, one after the other, until the run ends. Most of them excuse nothing.
func (w *world) harm(n *node, random *rand.Rand) {
	for w.sleep(time.Duration(random.IntN(200)) * step) {
		switch kind := random.IntN(400); {
		case kind < 4:
			w.restart(n, random)
		case w.Cluster != nil:
			w.harmLog(n, kind, random)
		}
	}
}

func (w *world) harmLog(n *node, kind int, random *rand.Rand) {
	during := func(d time.Duration, f Faults, x excuses) {
		end := w.trouble(trouble{node: n, x: x})
		n.log.Set(f)
		w.sleep(d)
		n.log.Set(Faults{})
		end()
	}
	d := time.Duration(1+random.IntN(200)) * step
	ch := w.channels[random.IntN(len(w.channels))]
	switch {
	case kind < 200:
		during(d/2, Faults{Drop: 1 + random.IntN(100)}, excuses{behind: true})
		if random.IntN(2) == 0 {
			n.log.Lose()
		}
	case kind < 300:
		during(2*d, Faults{Lag: time.Duration(random.IntN(600)) * time.Millisecond}, excuses{behind: true, late: true})
	case kind < 304:
		// With what comes before and after it, what is missing may show after the 10 s in which a server looks for it.
		during(2*d, Faults{Lag: time.Second + 4*d}, excuses{behind: true, late: true, lag: true, unavailable: true, lost: true})
	case kind < 308:
		during(2*d, Faults{ReadFails: true}, excuses{unavailable: true})
	case kind < 310:
		during(2*d, Faults{ReadHangs: true}, excuses{unavailable: true})
	case kind < 311:
		during(20*time.Second, Faults{ReadFails: true, Drop: 50}, excuses{unavailable: true, behind: true, lost: true})
	case kind < 320:
		during(d/4, Faults{AppendFails: true}, excuses{refused: true})
	case kind < 330 && ch.keep.Events > 0:
		end := w.trouble(trouble{ch: ch, x: excuses{lost: true}})
		w.Cluster.Reset(w.topic(ch), ch.reset)
		end()
		if random.IntN(2) == 0 {
			for _, n := range w.nodes {
				n.log.Lose()
			}
		}
	case kind < 350 && ch.keep.Events > 0:
		w.Cluster.Trim(w.topic(ch), random.Uint64N(10), ch.trim)
	}
}

// topic is what a server keeps a channel by.
func (w *world) topic(ch *channel) string {
	const roomKind = "\x00"
	return pubsub.Topic("mooncore", "log") + pubsub.Topic("default", "t", roomKind, ch.name, "default")
}

// restart ends a server and starts it again. If it kept everything itself, that is gone: nobody publishes meanwhile.
func (w *world) restart(n *node, random *rand.Rand) {
	if w.alone() {
		for range cap(w.publishing) {
			w.publishing <- struct{}{}
		}
	}
	end := w.trouble(trouble{node: n, x: excuses{down: true}})
	n.end()
	if w.alone() {
		for _, ch := range w.channels {
			ch.reset()
		}
	}
	w.sleep(time.Duration(random.IntN(100)) * step)
	n.start()
	end()
	if w.alone() {
		for range cap(w.publishing) {
			<-w.publishing
		}
	}
}
