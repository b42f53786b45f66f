// Package wire is what the runner, the load generator and the servers under load tell one another.
package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// A Server describes a server under load. It prints itself as one line of JSON on standard output when it is ready, and ends
// when its standard input does.
type Server struct {
	Peer string `json:"peer"`
	PID  int    `json:"pid"`

	// Addr is the TCP address under load.
	Addr string `json:"addr"`

	// Control is the address of an HTTP server of its own: /memory, /profile/start, /profile/stop and /debug/pprof/.
	Control string `json:"control"`

	// Commands is the TCP address that takes publish commands. Empty for servers that can't publish.
	Commands string `json:"commands,omitempty"`

	// Others are the processes that do the work with this one, of a server that is several.
	Others []Process `json:"others,omitempty"`

	// Engine is the process id of the message broker between them, 0 if there is none.
	Engine int `json:"engine,omitempty"`

	// Deliveries is the TCP address that tells what brokers have delivered, where no client is there to see it.
	Deliveries string `json:"deliveries,omitempty"`

	// Profile is the start of the names of files that get profiles of what is measured. The runner sets it. Empty for none.
	Profile string `json:"profile,omitempty"`

	// WebSocket is set by servers for the WebSocket scenarios.
	WebSocket *WebSocket `json:"websocket,omitempty"`

	// HTTP is set by servers for the HTTP scenarios.
	HTTP *HTTP `json:"http,omitempty"`
}

// A Process is one of a server's.
type Process struct {
	PID     int    `json:"pid"`
	Control string `json:"control"` // as Server.Control
}

// Processes returns all that do the server's work, without the engine.
func (s Server) Processes() []Process {
	return append([]Process{{s.PID, s.Control}}, s.Others...)
}

// A WebSocket says how to talk to a peer.
type WebSocket struct {
	Path   string   `json:"path"`
	Header []string `json:"header,omitempty"` // more lines for the upgrade request, such as "Authorization: Bearer x"

	Login []Step `json:"login,omitempty"` // what every connection sends first
	Join  []Step `json:"join,omitempty"`  // what makes it a member of the channel: of several, the first, in whose place it names its own

	// Request is what an echo sends, and Response what must come back, byte for byte. Each ID in them is a number that counts up.
	Request  string `json:"request"`
	Response string `json:"response"`

	// Before and After stand around the payload of an event. Before may name the channel too.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`

	Lines bool   `json:"lines,omitempty"` // a frame may hold several messages, one per line
	Ping  string `json:"ping,omitempty"`  // a message that must be answered by the same
}

// An HTTP says how to talk to a peer.
type HTTP struct {
	Path   string   `json:"path"`
	Header []string `json:"header,omitempty"` // lines of the request, such as "Content-Type: application/json"

	// Request is the body that is posted, and Response the body that must come back with the status 200, byte for byte. Each ID in
	// them is a number that counts up.
	Request  string `json:"request"`
	Response string `json:"response"`
}

// A Step is a message to send, and what its answer must contain. If Send is empty, the server speaks first.
type Step struct {
	Send   string `json:"send"`
	Expect string `json:"expect"`
}

// ID stands in a Request and a Response for a number of as many digits.
const ID = "1000000"

// Memory is the answer to GET /memory, since the server's start. With ?gc=1 it comes after garbage was collected and
// returned to the system.
type Memory struct {
	Mallocs    uint64 `json:"mallocs"`     // objects allocated
	TotalAlloc uint64 `json:"total_alloc"` // bytes allocated
	HeapInuse  uint64 `json:"heap_inuse"`  // bytes
	StackInuse uint64 `json:"stack_inuse"` // bytes
	GCs        uint32 `json:"gcs"`
}

// A Job is what the load generator gets on its standard input.
type Job struct {
	Kind   string          `json:"kind"` // see bench/cmd/load
	Server Server          `json:"server"`
	Params json.RawMessage `json:"params"` // its form depends on Kind
}

// A Result is what the load generator prints.
type Result struct {
	Metrics map[string]float64 `json:"metrics"` // by names of package suite
}

const (
	eventSeq  = len(`{"seq":`)
	eventAt   = eventSeq + len(ID) + len(`,"at":`)
	eventText = eventAt + 19
	// MinEvent is the least size of an event's payload, in bytes.
	MinEvent = eventText + len(`,"text":""}`)
)

// Event makes the payload of an event: a JSON object of size bytes. seq and the time at, in Unix nanoseconds, must have 7 and 19
// digits.
func Event(seq int, at int64, size int) []byte {
	b := make([]byte, 0, size)
	b = append(b, `{"seq":`...)
	b = strconv.AppendInt(b, int64(seq), 10)
	b = append(b, `,"at":`...)
	b = strconv.AppendInt(b, at, 10)
	b = append(b, `,"text":"`...)
	const words = "the quick brown fox jumps over a lazy dog near 17 grey stones while rain falls on every roof of town "
	for i := 0; len(b) < size-2; i++ {
		b = append(b, words[i*7%len(words)])
	}
	return append(b, `"}`...)
}

// ReadEvent returns seq and at of a payload that Event made. template is another event of the same size.
func ReadEvent(payload, template []byte) (seq int, at int64, err error) {
	if len(payload) != len(template) || len(payload) < MinEvent || !bytes.Equal(payload[eventText:], template[eventText:]) {
		return 0, 0, fmt.Errorf("%d bytes that are no event of %d: %.80q", len(payload), len(template), payload)
	}
	for _, c := range payload[eventSeq : eventSeq+len(ID)] {
		seq = seq*10 + int(c-'0')
	}
	for _, c := range payload[eventAt:eventText] {
		at = at*10 + int64(c-'0')
	}
	return seq, at, nil
}
