package natsbroker

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Between two NATS servers messages can be lost in silence: one dies with what it took, or the way between them is cut for a
// moment. So a broker counts what it publishes to each topic, and a second later tells the count to the topic's subscribers: a
// tail. One who got less has lost messages. Nothing is counted where all brokers have the same server.

const (
	tailSuffix = ".tail." // follows the reply subject of a message that is a tail; then come the numbers
	lostSuffix = ".lost"  // follows that of a message which says that others of its topic may be missing
	runTime    = time.Minute
	maxRuns    = 100_000
)

// A run is a count of messages published to a topic. It ends when the topic is not published to for runTime, or with the
// connection.
type run struct {
	id        uint64
	count     uint64
	told      uint64 // in the last tail
	began     time.Time
	published time.Time // the last one
}

// published counts a message.
func (p *peers) published(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.runs[name]
	if r == nil {
		if len(p.runs) >= maxRuns {
			p.uncounted = true
			return
		}
		p.runID++
		r = &run{id: p.runID, began: time.Now()}
		p.runs[name] = r
	}
	r.count++
	r.published = time.Now()
}

// A tail is what the subscribers of a topic are told of a run.
type tail struct {
	name       string
	run, count uint64
	age        time.Duration // since the run began
}

// tails returns what is to be told now, and ends old runs.
func (p *peers) tails() (tails []tail, from string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, r := range p.runs {
		if r.count > r.told {
			tails = append(tails, tail{name, r.id, r.count, time.Since(r.began)})
			r.told = r.count
		} else if time.Since(r.published) > runTime {
			delete(p.runs, name)
		}
	}
	return tails, p.from
}

// sendTails tells the subscribers what they should have got. A message that goes out meanwhile must not be on one side of its tail and
// counted on the other.
func (b *Broker) sendTails() {
	b.counting.Lock()
	defer b.counting.Unlock()
	tails, from := b.peers.tails()
	for _, t := range tails {
		reply := fmt.Sprintf("%s%s%d.%d.%d", from, tailSuffix, t.run, t.count, t.age.Milliseconds())
		if b.nc.PublishRequest(t.name, reply, nil) != nil {
			return // the connection is gone, and confess follows
		}
	}
}

// confess tells the subscribers of what was published shortly before the connection was lost that some of it may be missing:
// the server may have died with it.
func (b *Broker) confess() {
	p := &b.peers
	p.mu.Lock()
	var names []string
	for name, r := range p.runs {
		if r.published.After(p.safe) {
			names = append(names, name)
		}
	}
	many := p.uncounted
	clear(p.runs)
	p.uncounted = false
	from := p.from
	p.mu.Unlock()
	if many {
		_ = b.beat(beat{Lost: true}) // if it fails, the connection is gone, and with the next one others find a beat missing
	}
	for _, name := range names {
		_ = b.nc.PublishRequest(name, from+lostSuffix, nil)
	}
}

// A flow is what came to a subscription from one broker.
type flow struct {
	from       string // the reply subject
	run, count uint64 // of the last tail
	came       uint64 // since that
	last       uint64 // the number of the last message
}

// cameLate counts a message, and reports whether it came after a later one.
func (f *flow) cameLate(number uint64) bool {
	f.came++
	if number <= f.last {
		return true
	}
	f.last = number
	return false
}

// ended handles a tail, "run.count.age", that came to a subscription that has been in force since a time. It reports whether
// messages are missing.
func (f *flow) ended(text string, since time.Time) (missing bool) {
	var numbers [3]uint64
	parts := strings.Split(text, ".")
	if len(parts) != len(numbers) {
		return false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			return false
		}
		numbers[i] = n
	}
	runID, count, age := numbers[0], numbers[1], time.Duration(numbers[2])*time.Millisecond
	switch {
	case f.run == runID:
		missing = f.came+f.count < count
	case age < time.Since(since): // the run began when the subscription was in force
		missing = f.came < count
	}
	f.run, f.count, f.came = runID, count, 0
	return missing
}
