package ws

import (
	"slices"
	"time"
)

// patience is how long a message may keep the reader before another goroutine reads in its place. It may take twice as long.
const patience = 10 * time.Millisecond

// watch sees to it that no message keeps c's reader for long, as long as messages keep coming. Conn.mu is held.
func (g *Group) watch(c *Conn) {
	if c.watched {
		return
	}
	c.watched, c.seen = true, c.turn-1
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watched = append(g.watched, c)
	if len(g.watched) > 1 || g.looking {
		return
	}
	if g.clock == nil {
		g.clock = time.AfterFunc(patience, g.lookAll)
	} else {
		g.clock.Reset(patience)
	}
}

// lookAll looks at all connections that are watched, and does so again as long as there are some.
func (g *Group) lookAll() {
	g.mu.Lock()
	watched := g.watched
	g.watched, g.looking = nil, true
	g.mu.Unlock()
	watched = slices.DeleteFunc(watched, func(c *Conn) bool { return !c.look() })
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watched, g.looking = append(watched, g.watched...), false
	if len(g.watched) > 0 {
		g.clock.Reset(patience)
	} else {
		g.watched = nil
	}
}

// look replaces a reader that handles the message still that it did at the last look. Replies that wait are sent. It reports
// whether it should look again: not when the reader waits for the peer.
func (c *Conn) look() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inline {
		c.startFlush()
		if c.turn != c.seen {
			c.seen = c.turn
			return true
		}
		c.inline, c.awake = false, false
		c.workers.Add(1)
		c.reader.replaced = true
		c.in.resume()
		c.startReader()
	}
	c.watched = false
	return false
}
