// Package httppeers holds the servers of the HTTP scenarios, one file for each library, written as its documentation advises. Each
// takes a task as JSON, refuses one without a title, and answers with the task.
package httppeers

import (
	"maps"
	"net"
	"net/http"
	"slices"

	"github.com/mooncore/mooncore/bench/internal/wire"
	"github.com/mooncore/mooncore/bench/peers/internal/process"
)

// A starter serves on ln in the background.
type starter func(ln net.Listener) (wire.HTTP, error)

var starters = map[string]starter{
	"mooncore": startMooncore, "mooncore-raw": startMooncoreRaw, "mooncore-rs256": startMooncoreRS256,
	"fixed": startFixed, "fixed-token": startFixedToken, "hand": startHand,
	"gin": startGin, "echo": startEcho, "chi": startChi, "fiber": startFiber, "huma": startHuma, "connect": startConnect,
}

// Names lists the peers.
func Names() []string { return slices.Sorted(maps.Keys(starters)) }

// Start starts a peer; ok is false if there is none of that name.
func Start(name string, ln net.Listener) (h wire.HTTP, ok bool, err error) {
	start, ok := starters[name]
	if !ok {
		return wire.HTTP{}, false, nil
	}
	h, err = start(ln)
	return h, true, err
}

const (
	path = "/tasks"

	// body is what each request holds, and, but for a newline, each answer.
	body = `{"title":"Write the letter ` + wire.ID + `","note":"before Monday noon","priority":3,"done":false,"tags":["home","post"]}`
)

// post is a request to a path, answered with the same body and an end.
func post(path, end string, header ...string) wire.HTTP {
	return wire.HTTP{Path: path, Header: append(header, "Content-Type: application/json"), Request: body, Response: body + end}
}

func serve(ln net.Listener, h http.Handler) {
	process.ServeUntilExit(func() error { return http.Serve(ln, h) })
}
