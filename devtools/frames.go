package devtools

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/strictjson"
)

// Bounds of what is kept of watched connections.
const (
	maxWatched    = 16
	maxFrameBytes = 256 << 10        // of one connection
	watchFor      = 5 * time.Minute  // after the last one looked
	watchGoneFor  = 30 * time.Second // likewise, at one that is closed
)

// A frame is a message of a watched connection, without its secrets.
type frame struct {
	Seq    uint64 `json:"seq"`
	Time   int64  `json:"time"`
	Dir    string `json:"dir"`
	Binary bool   `json:"binary,omitempty"`
	Size   int    `json:"size_bytes"`
	Data   string `json:"data"`
	Cut    bool   `json:"cut,omitempty"`
}

// A frameLog is the last frames of a connection. Its methods may be called concurrently.
type frameLog struct {
	gone     atomic.Bool // the connection is closed
	watchers atomic.Int64
	looked   atomic.Int64 // when somebody last did, Unix nanoseconds

	mu     sync.Mutex
	frames []frame
	bytes  int
	seq    uint64
}

func (l *frameLog) add(f frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	f.Seq = l.seq
	l.frames = append(l.frames, f)
	l.bytes += frameCost(f)
	drop := 0
	for ; l.bytes > maxFrameBytes; drop++ {
		l.bytes -= frameCost(l.frames[drop])
	}
	l.frames = append(l.frames[:0], l.frames[drop:]...)
}

func (l *frameLog) lastSeq() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq
}

func frameCost(f frame) int { return len(f.Data) + 80 }

// after returns the frames behind a number, at most the last most of them, and how many it left out.
func (l *frameLog) after(seq uint64, most int) (frames []frame, dropped int) {
	l.looked.Store(time.Now().UnixNano())
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int(l.seq - min(seq, l.seq))
	kept := min(n, len(l.frames), most)
	return append([]frame{}, l.frames[len(l.frames)-kept:]...), n - kept
}

// watch returns the frames of a connection, which are recorded from now on, or an error if too many are.
func (r *recorder) watch(c *mooncore.Conn) (*frameLog, error) {
	if log, ok := r.watched.Load(c.ID()); ok {
		log := log.(*frameLog)
		log.looked.Store(time.Now().UnixNano())
		return log, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watching.Load() >= maxWatched {
		return nil, mooncore.Errorf(mooncore.CodeFailedPrecondition, "%d connections are watched already", maxWatched)
	}
	log := &frameLog{}
	log.looked.Store(time.Now().UnixNano())
	if other, ok := r.watched.LoadOrStore(c.ID(), log); ok {
		return other.(*frameLog), nil
	}
	r.watching.Add(1)
	return log, nil
}

// unwatch forgets connections that nobody looks at.
func (r *recorder) unwatch(now time.Time) {
	if r.watching.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watched.Range(func(id, log any) bool {
		l := log.(*frameLog)
		keep := watchFor
		if l.gone.Load() {
			keep = watchGoneFor
		}
		if l.watchers.Load() == 0 && now.UnixNano()-l.looked.Load() > int64(keep) {
			r.watched.Delete(id)
			r.watching.Add(-1)
		}
		return true
	})
}

// frame copies a message without its secrets.
func (r *recorder) frame(c *mooncore.Conn, sent, isBinary bool, data []byte) frame {
	f := frame{Time: time.Now().UnixMilli(), Dir: "in", Binary: isBinary, Size: len(data)}
	if sent {
		f.Dir = "out"
	}
	if isBinary {
		f.Data, f.Cut = r.binaryText(c, data), true
		return f
	}
	text, m := r.frameText(c, sent, data)
	f.Data, f.Cut = string(text), m&wasCut != 0
	return f
}

func (r *recorder) frameText(c *mooncore.Conn, sent bool, data []byte) ([]byte, marks) {
	switch string(data) {
	case "ping", "pong", "time", "channel_list", "quit":
		return data, 0
	}
	switch strictjson.KindOf(data) {
	case strictjson.Object:
		if !sent {
			return r.redact.json(nil, data, r.secretsOf(c, data))
		}
	case strictjson.Array:
		if !sent && isTokenFrame(data) {
			return []byte(`["jwt","` + redacted + `"]`), wasRedacted
		}
	}
	return r.redact.json(nil, data, nil)
}

// isTokenFrame reports whether a frame is ["jwt", t], or begins like one.
func isTokenFrame(data []byte) bool {
	for first := range strictjson.Elements(data) {
		name, _ := strictjson.Unquote(first)
		return name == "jwt"
	}
	return false
}

// secretsOf returns the secret fields of the action that a frame calls.
func (r *recorder) secretsOf(c *mooncore.Conn, object []byte) *secretFields {
	for key, value := range strictjson.Members(object) {
		if name, ok := strictjson.Unquote(key); !ok || name != "action" {
			continue
		}
		action, _ := strictjson.Unquote(value)
		id := c.Identity()
		_, secrets := r.named(id.App, action, id.User == "")
		return secrets
	}
	return nil
}

// binaryText is the metadata of a binary frame, and the size of what follows.
func (r *recorder) binaryText(c *mooncore.Conn, data []byte) string {
	if len(data) < 2 {
		return fmt.Sprintf("[%d bytes]", len(data))
	}
	n := int(binary.LittleEndian.Uint16(data))
	if len(data) < 2+n {
		return fmt.Sprintf("[%d bytes]", len(data))
	}
	meta, _ := r.redact.json(nil, data[2:2+n], r.secretsOf(c, data[2:2+n]))
	return fmt.Sprintf("%s [%d bytes]", meta, len(data)-2-n)
}

// connChanges are the connections that were opened and closed lately, while somebody wants to know. Its methods may be called
// concurrently.
type connChanges struct {
	listeners atomic.Int64

	mu   sync.Mutex
	list []connChange
	seq  uint64 // of the last one
}

// maxChanges are kept for listeners that come to take them four times a second.
const maxChanges = 4096

type connChange struct {
	conn   *mooncore.Conn // of one that was opened; else nil
	closed closedConn
}

type closedConn struct {
	ID     string `json:"id"`
	Code   int    `json:"code"`
	Reason string `json:"reason"`
}

func (c *connChanges) opened(conn *mooncore.Conn) { c.add(connChange{conn: conn}) }

func (c *connChanges) closed(id string, code int, reason string) {
	c.add(connChange{closed: closedConn{id, code, clip(reason)}})
}

func (c *connChanges) add(change connChange) {
	if c.listeners.Load() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	if len(c.list) == maxChanges {
		c.list = append(c.list[:0], c.list[1:]...)
	}
	c.list = append(c.list, change)
}

// listen begins to keep changes for one more listener, and returns where it starts.
func (c *connChanges) listen() uint64 {
	c.listeners.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seq
}

func (c *connChanges) leave() {
	if c.listeners.Add(-1) > 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = nil // it holds connections
}

// after returns the changes behind a number, and the number of the last one.
func (c *connChanges) after(seq uint64) ([]connChange, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(int(c.seq-seq), len(c.list))
	return append([]connChange(nil), c.list[len(c.list)-n:]...), c.seq
}
