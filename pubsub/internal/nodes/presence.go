//go:build unix

package nodes

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mooncore/mooncore/pubsub/internal/faults"
)

const (
	perNode   = 3                // clients that are on one node alone
	settle    = 45 * time.Second // for all to know who is there
	pauseTime = 2 * time.Second  // others must not notice
	goneTime  = 7 * time.Second  // others must have noticed
)

// A Place is where a node is.
type Place struct {
	Addr   string       // where clients come to
	Broker string       // what the function given to Main gets
	Host   *faults.Host // nil is the test's own
	Way    *faults.Port // to the other nodes or the broker's servers; for PresenceCut
}

// Presence kills and freezes one node of three after another, while clients are on all of them, some by two nodes. The
// others must list exactly those who are there, and tell who left: once, and nobody who is there.
func Presence(t *testing.T, places func(t *testing.T) []Place) {
	for _, tt := range []struct {
		name  string
		round func(c *cluster, victim int)
	}{
		{"Kill", (*cluster).kill},
		{"Restart", (*cluster).restart},
		{"Move", (*cluster).flee},
		{"Freeze", (*cluster).freeze},
		{"Pause", (*cluster).pause},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			newCluster(t, places(t)).repeat(tt.round)
		})
	}
}

// PresenceCut cuts off one node of three after another.
func PresenceCut(t *testing.T, places []Place) {
	t.Parallel()
	newCluster(t, places).repeat((*cluster).cut)
}

// repeat has something happen to one node after another.
func (c *cluster) repeat(round func(c *cluster, victim int)) {
	c.settled("at the beginning", -1)
	rounds := faults.Rounds(c.t)
	for i := range rounds {
		for _, client := range c.clients {
			client.reset()
		}
		round(c, i%len(c.nodes))
		if c.t.Failed() {
			c.t.Fatalf("in round %d of %d", i+1, rounds)
		}
	}
	c.t.Logf("%d rounds; all knew who is there after %v at most", rounds, c.slowest.Round(10*time.Millisecond))
}

// A cluster is three nodes and their clients.
type cluster struct {
	t       *testing.T
	places  []Place
	nodes   []*faults.Process
	clients []*client
	users   int
	slowest time.Duration // to settle
}

func newCluster(t *testing.T, places []Place) *cluster {
	c := &cluster{t: t, places: places}
	for _, p := range places {
		c.nodes = append(c.nodes, start(t, p))
	}
	t.Cleanup(func() {
		for _, client := range c.clients {
			client.stop()
		}
		for i, node := range c.nodes {
			if t.Failed() {
				t.Logf("node %d, %s, wrote:\n%s", i, node.Addr(), node.Output())
			}
		}
	})
	for i := range c.nodes {
		c.fill(i)
	}
	return c
}

// fill has clients come by a node, one of whom is on the next one too.
func (c *cluster) fill(node int) {
	for range perNode {
		c.users++
		c.come(fmt.Sprintf("user%d", c.users), node)
	}
	c.users++
	double := fmt.Sprintf("double%d", c.users)
	c.come(double, node)
	c.come(double, (node+1)%len(c.nodes))
}

func (c *cluster) come(user string, node int) {
	c.clients = append(c.clients, newClient(c.t.Context(), user, node, c.nodes[node].Addr()))
}

// of lists the clients of a node.
func (c *cluster) of(node int) (list []*client) {
	for _, client := range c.clients {
		if client.home == node {
			list = append(list, client)
		}
	}
	return list
}

// there is who has connections by nodes other than one.
func (c *cluster) there(but int) map[string]member {
	users := map[string]member{}
	for _, client := range c.clients {
		if client.home != but {
			m := users[client.user]
			nodes := append(slices.Clone(m.Nodes), c.nodes[client.home].Addr())
			slices.Sort(nodes)
			users[client.user] = member{m.Conns + 1, slices.Compact(nodes)}
		}
	}
	return users
}

// settled waits until all clients and nodes but those of one know who is there.
func (c *cluster) settled(when string, but int) {
	c.t.Helper()
	began, want := time.Now(), c.there(but)
	for {
		wrong := c.wrong(want, but)
		if len(wrong) == 0 {
			break
		}
		if time.Since(began) > settle {
			for _, text := range wrong {
				c.t.Error(text)
			}
			c.t.Fatalf("%s, after %v", when, settle)
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.slowest = max(c.slowest, time.Since(began))
}

func (c *cluster) wrong(want map[string]member, but int) (texts []string) {
	add := func(text string) {
		if text != "" {
			texts = append(texts, text)
		}
	}
	for _, client := range c.clients {
		if client.home != but {
			add(client.differs(want))
		}
	}
	if texts != nil {
		return texts // asking makes events come: first without
	}
	for i, node := range c.nodes {
		if i == but {
			continue
		}
		found, err := members(c.t.Context(), node.Addr())
		if err != nil {
			add(fmt.Sprintf("members by %s: %v", node.Addr(), err))
		} else {
			add(compare("members by "+node.Addr(), counted(found), counted(want)))
		}
	}
	return texts
}

func counted(users map[string]member) (texts []string) {
	for _, user := range keys(users) {
		texts = append(texts, fmt.Sprintf("%s:%v", user, users[user]))
	}
	return texts
}

// audit compares what clients that were connected all the time were told of who left: who was there all the time did not, and who
// went with the victim did so often as the limits say.
func (c *cluster) audit(victims []*client, least, most int) {
	c.t.Helper()
	stayed, went := map[string]bool{}, map[string]bool{}
	for _, victim := range victims {
		went[victim.user] = !slices.ContainsFunc(c.clients, func(other *client) bool {
			return other.user == victim.user && !slices.Contains(victims, other)
		})
	}
	var steady []*client
	for _, client := range c.clients {
		client.mu.Lock()
		if client.steady() && !slices.Contains(victims, client) {
			steady = append(steady, client)
			stayed[client.user] = true
		}
		client.mu.Unlock()
	}
	for _, client := range steady {
		client.mu.Lock()
		for user, n := range client.left {
			if stayed[user] {
				c.t.Errorf("%s was told that %s left, who is there", client.user, user)
			} else if went[user] && n > most {
				c.t.Errorf("%s was told %d times that %s left, want at most %d", client.user, n, user, most)
			}
		}
		for user, all := range went {
			if n := client.left[user]; all && n < least {
				c.t.Errorf("%s was told %d times that %s left, want at least %d", client.user, n, user, least)
			}
		}
		client.mu.Unlock()
	}
}

// remove has clients never come back.
func (c *cluster) remove(gone []*client) {
	var wg sync.WaitGroup
	for _, client := range gone {
		wg.Go(client.stop)
	}
	wg.Wait()
	c.clients = slices.DeleteFunc(c.clients, func(client *client) bool { return slices.Contains(gone, client) })
}

// kill kills a node, whose clients don't come back. Others come when it is there again.
func (c *cluster) kill(victim int) {
	gone := c.of(victim)
	c.nodes[victim].Kill()
	c.remove(gone)
	c.settled("after a node was killed", victim)
	c.audit(gone, 1, 1)
	c.nodes[victim].Restart()
	// Users of before, so that they stay as many: half of the clients of a user may have stayed.
	for _, old := range gone {
		c.come(old.user, victim)
	}
	c.settled("after it was started again", -1)
}

// restart kills a node and starts it at once: its clients come back to it.
func (c *cluster) restart(victim int) {
	gone := c.of(victim)
	c.nodes[victim].Kill()
	c.nodes[victim].Restart()
	c.settled("after a node was restarted", -1)
	time.Sleep(goneTime) // real time: until the others have given up the one before
	c.settled("after its predecessor was given up", -1)
	c.audit(gone, 0, 1)
}

// flee kills a node, whose clients go to another one at once, and back when it is there again.
func (c *cluster) flee(victim int) {
	gone := c.of(victim)
	next := (victim + 1) % len(c.nodes)
	c.nodes[victim].Kill()
	for _, client := range gone {
		client.home = next
		client.move(c.nodes[next].Addr())
	}
	c.settled("after clients moved", victim)
	time.Sleep(goneTime) // real time: until the others have given the node up
	c.settled("after the node was given up", victim)
	c.audit(gone, 0, 1)
	c.nodes[victim].Restart()
	for _, client := range gone {
		client.home = victim
		client.move(c.nodes[victim].Addr())
	}
	c.settled("after they moved back", -1)
}

// freeze freezes a node until the others have given it up.
func (c *cluster) freeze(victim int) {
	gone := c.of(victim)
	c.nodes[victim].Freeze()
	time.Sleep(goneTime) // real time: a frozen process does not know it
	c.settled("while a node was frozen", victim)
	c.audit(gone, 1, 1)
	c.nodes[victim].Thaw()
	c.settled("after it was thawed", -1)
	c.audit(gone, 1, 2) // a second time if its connections ended
}

// pause freezes a node for a moment.
func (c *cluster) pause(victim int) {
	c.nodes[victim].Freeze()
	time.Sleep(pauseTime) // real time: a frozen process does not know it
	c.nodes[victim].Thaw()
	c.settled("after a pause", -1)
	c.audit(nil, 0, 0)
}

// cut has a node be where the others, or the broker's servers, can't be reached.
func (c *cluster) cut(victim int) {
	gone := c.of(victim)
	c.places[victim].Way.Cut()
	time.Sleep(goneTime) // real time: the kernel's network
	c.settled("while a node was cut off", victim)
	c.audit(gone, 1, 1)
	c.places[victim].Way.Mend()
	c.settled("after the network was mended", -1)
	c.audit(gone, 1, 2) // a second time if its connections ended
}
