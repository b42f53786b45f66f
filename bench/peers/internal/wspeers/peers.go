// Package wspeers holds the servers of the WebSocket scenarios, one file for each library, written as its documentation advises.
package wspeers

import (
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// Options are those of a run.
type Options struct {
	Auth    bool // connections come with a token, if the server knows such
	Member  bool // connections are members of the one channel
	Deflate bool // permessage-deflate without context takeover
}

// A Peer is a server that has started.
type Peer struct {
	WebSocket wire.WebSocket
	Publish   func(payload []byte) // to all members of the one channel; nil if it can't
}

// A starter serves on ln, and returns when it does.
type starter func(ln net.Listener, o Options) (Peer, error)

var starters = map[string]starter{
	"mooncore": startMooncore, "mooncore-typed": startMooncoreTyped, "mooncore-ws": startMooncoreWS,
	"gws":     startGWS,
	"gorilla": startGorilla, "gorilla-tuned": startGorillaTuned,
	"melody":     startMelody,
	"centrifuge": startCentrifuge, "centrifuge-tuned": startCentrifugeTuned,
	"coder": startCoder,
	"floor": startFloor,
}

// Names lists the peers.
func Names() []string { return slices.Sorted(maps.Keys(starters)) }

// Start starts a peer; ok is false if there is none of that name.
func Start(name string, ln net.Listener, o Options) (p Peer, ok bool, err error) {
	start, ok := starters[name]
	if !ok {
		return Peer{}, false, nil
	}
	p, err = start(ln, o)
	return p, true, err
}

// request is what an echo sends to peers that have no protocol of their own, which return it as it came, and to Mooncore.
const request = `{"action":"echo","rayid":` + wire.ID + `,"room":"lobby","text":"good morning, is the boat still there?","n":42}`

// plain describes a peer that echoes. What it echoes proves that the connection is a member of the channel, since that comes first.
func plain() wire.WebSocket {
	const hello = `{"hello":true}`
	return wire.WebSocket{Path: "/", Request: request, Response: request, Join: []wire.Step{{Send: hello, Expect: hello}}}
}

// serve serves h on ln in the background.
func serve(ln net.Listener, h http.Handler) { go func() { _ = http.Serve(ln, h) }() }

// A set is the connections of the one channel, for libraries that have no channels.
type set[T comparable] struct {
	mu      sync.RWMutex
	members []T
	index   map[T]int
}

func (s *set[T]) add(c T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index == nil {
		s.index = map[T]int{}
	}
	s.index[c] = len(s.members)
	s.members = append(s.members, c)
}

func (s *set[T]) remove(c T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.index[c]
	if !ok {
		return
	}
	last := len(s.members) - 1
	s.members[i] = s.members[last]
	s.index[s.members[i]] = i
	s.members = s.members[:last]
	delete(s.index, c)
}

// each calls fn for every member.
func (s *set[T]) each(fn func(T)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, c := range s.members {
		fn(c)
	}
}
