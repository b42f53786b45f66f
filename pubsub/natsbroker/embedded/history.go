package embedded

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	minPeers     = 3
	historyTime  = 10 * time.Second // how long Start waits for what the others keep
	defaultBytes = 256 << 20        // of history, by default
	noLimit      = int64(1) << 50   // for the server, where the stream has a limit
)

// History says how the servers keep the history of channels, by JetStream. Each message is kept by three servers, and appended
// when two of them have it. So Peers must list all servers of the cluster, at least three and the same for each, this one
// included by the address that the others know it by: Advertise, or else Addr.
//
// History goes on while one of three servers is away, two of five, and so on; also while all of them are restarted, as long as one waits
// until the other's Start has returned. Append fails while half of them or more are away, and up to 10 s after one was killed. A list that
// becomes longer can be given to the servers one after another; for a shorter one, all must end first, and their Dirs be removed.
type History struct {
	// Dir is a directory of this server's own, for what it keeps. What is appended has been written to the disk, and is there after all
	// servers ended, and after a loss of power. Default "": in memory, with a few small files in a temporary directory. Then what
	// is kept is gone when half of the servers or more end at the same time.
	Dir string

	// Elsewhere is for a server that keeps nothing itself, but uses what those of Peers keep: one that comes and goes with the load, say. Peers
	// need not list it, nor all others. Dir and MaxBytes are to be set as there; nothing is written to Dir. Default false.
	Elsewhere bool

	// MaxBytes is how much memory, or disk, history may take on this server: for each different pair of Events and Age. Where it is full,
	// what is oldest is not kept, whichever channel's. Default 256 MiB.
	MaxBytes int64
}

func (h *History) validate(self string, peers []string) error {
	distinct := slices.Clone(peers)
	slices.Sort(distinct)
	switch {
	case h.MaxBytes < 0:
		return errors.New("History.MaxBytes: it must not be negative")
	case h.Elsewhere && len(peers) > 0:
		return nil
	case len(slices.Compact(distinct)) < minPeers:
		return fmt.Errorf("History: Peers must list all servers, at least %d", minPeers)
	case !slices.Contains(peers, self):
		return fmt.Errorf("History: Peers must list this server too, as %q", self)
	}
	return nil
}

func (h *History) maxBytes() int64 {
	if h.MaxBytes == 0 {
		return defaultBytes
	}
	return h.MaxBytes
}

// apply sets a server's options. It returns the temporary directory that it made, if it made one.
func (h *History) apply(opts *server.Options, self string) (temp string, err error) {
	opts.NoSystemAccount = false
	if h.Elsewhere {
		return "", nil
	}
	opts.ServerName = self // which stays the same when the server is started anew
	opts.JetStream, opts.DisableJetStreamBanner = true, true
	opts.JetStreamMaxMemory, opts.JetStreamMaxStore = noLimit, noLimit
	opts.SyncAlways = h.Dir != ""
	if opts.StoreDir = h.Dir; h.Dir == "" {
		temp, err = os.MkdirTemp("", "mooncore-history-")
		opts.StoreDir = temp
	}
	return temp, err
}

// awaitHistory waits, for a while, until the server has what the others keep.
func awaitHistory(ns *server.Server, peers []string) {
	if 2*(servers(ns)+1) <= len(peers) {
		return // the others wait for more servers too
	}
	for deadline := time.Now().Add(historyTime); ns.Healthz(nil).StatusCode != http.StatusOK && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}
