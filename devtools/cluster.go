package devtools

import (
	"net/http"
	"slices"

	"github.com/mooncore/mooncore"
)

// clusterView is how this server is joined with others, and what it did with history.
type clusterView struct {
	Node      string       `json:"node"`
	Published uint64       `json:"published"`
	Delivered uint64       `json:"delivered"`
	Broker    *brokerView  `json:"broker,omitempty"`
	History   *historyView `json:"history,omitempty"`
}

// brokerView is pubsub.Stats; zero if the broker can't tell how it is doing.
type brokerView struct {
	Engine        string  `json:"engine"`
	Up            bool    `json:"up"`
	Since         int64   `json:"since"`
	RoundTrip     float64 `json:"round_trip_ms"`
	Subscriptions int     `json:"subscriptions"`
	Peers         int     `json:"peers"`
	Reconnects    uint64  `json:"reconnects"`
	Dropped       uint64  `json:"dropped"`
	Losses        uint64  `json:"losses"`
}

// historyView is mooncore.HistoryStats.
type historyView struct {
	Feeds       int    `json:"feeds"`
	Lost        uint64 `json:"lost"`
	Recovered   uint64 `json:"recovered"`
	Epoch       uint64 `json:"epoch"`
	Ahead       uint64 `json:"ahead"`
	Trimmed     uint64 `json:"trimmed"`
	TooLarge    uint64 `json:"too_large"`
	Unavailable uint64 `json:"unavailable"`
	NoHistory   uint64 `json:"no_history"`
	Refused     uint64 `json:"refused"`
}

func (t *tools) getCluster(*http.Request) (any, error) {
	stats := t.srv.Stats()
	view := clusterView{Node: t.server.Node, Published: stats.Published, Delivered: stats.Delivered}
	if t.server.Broker != nil {
		view.Broker = new(brokerView)
	}
	if b := stats.Broker; b.Engine != "" {
		view.Broker = &brokerView{
			b.Engine, b.Up, b.Since.UnixMilli(), milliseconds(b.RoundTrip), b.Subscriptions, b.Peers, b.Reconnects, b.Dropped, b.Losses,
		}
	}
	keeps := func(ch mooncore.Channel) bool { return ch.History.Events > 0 }
	if slices.ContainsFunc(t.server.Routers, func(r mooncore.Router) bool { return slices.ContainsFunc(r.Channels, keeps) }) {
		view.History = new(historyView(stats.History))
	}
	return view, nil
}
