package devtools

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mooncore/mooncore"
)

// A stream looks for news each streamTick, which costs calls nothing: what it sends is read from the log, not handed over by them.
const (
	streamTick    = 100 * time.Millisecond
	streamWrite   = 10 * time.Second // for a receiver to take an event
	maxStreams    = 64               // at once
	maxStreamLog  = 100              // entries an event
	maxCompared   = 2000             // connections that are looked at for changes
	maxStreamConn = 200              // opened or closed connections an event
)

// A stream is one receiver of server-sent events.
type stream struct {
	t       *tools
	w       http.ResponseWriter
	rc      *http.ResponseController
	session session
	err     error // of a write; nothing is sent after it

	log      bool
	lastCall uint64
	clears   uint64

	conns      bool
	lastChange uint64
	sent       map[string]connView // as it was sent

	frames map[string]*watchedFrames // by id of the connection
	pages  map[string]map[string]string
}

type watchedFrames struct {
	log  *frameLog
	last uint64
}

// serveStream sends what the topics name until the receiver, the session or the server is gone.
func (t *tools) serveStream(w http.ResponseWriter, r *http.Request, login session) {
	defer t.streams.Add(-1)
	if t.streams.Add(1) > maxStreams {
		writeError(w, mooncore.Errorf(mooncore.CodeRateLimited, "%d streams are open already", maxStreams))
		return
	}
	s := &stream{
		t: t, w: w, rc: http.NewResponseController(w), session: login, frames: map[string]*watchedFrames{}, pages: map[string]map[string]string{},
	}
	if err := s.subscribe(r.URL.Query().Get("topics")); err != nil {
		s.leave()
		writeError(w, err)
		return
	}
	defer s.leave()
	_ = s.rc.SetReadDeadline(time.Time{}) // the request has been read
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	s.event("hello", map[string]int64{"started": t.started.UnixMilli()})
	s.flush()
	tick := time.NewTicker(streamTick)
	defer tick.Stop()
	for n := 0; s.err == nil; n++ {
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
		if n%10 == 0 {
			if !t.auth.alive(s.session) {
				return
			}
			s.event("metrics", t.sample.latest())
			s.sendPages()
		}
		s.sendLog()
		s.sendFrames()
		if s.conns && n%3 == 0 {
			s.sendConns(n%9 == 0)
		}
		s.flush()
	}
}

// subscribe takes a list such as "log,conns,frames:<id>,page:<name>".
func (s *stream) subscribe(topics string) error {
	for topic := range strings.SplitSeq(topics, ",") {
		kind, name, _ := strings.Cut(topic, ":")
		switch kind {
		case "":
		case "log":
			s.log, s.lastCall, s.clears = true, s.t.rec.log.last.Load(), s.t.rec.log.state().clears
		case "conns":
			if !s.conns {
				s.conns, s.sent = true, map[string]connView{}
				s.lastChange = s.t.rec.changes.listen()
			}
		case "frames":
			c := s.t.conn(name)
			if c == nil {
				continue // gone: its frames end, and nothing else of the stream
			}
			log, err := s.t.rec.watch(c)
			if err != nil {
				return err
			}
			if s.frames[name] == nil {
				log.watchers.Add(1)
				s.frames[name] = &watchedFrames{log, log.lastSeq()}
			}
		case "page":
			if s.t.pages.page(name) == nil {
				return mooncore.Errorf(mooncore.CodeNotFound, "no page %q", name)
			}
			s.pages[name] = nil
		default:
			return mooncore.Errorf(mooncore.CodeInvalidArgument, "no topic %q", topic)
		}
	}
	return nil
}

func (s *stream) leave() {
	if s.conns {
		s.t.rec.changes.leave()
	}
	for _, f := range s.frames {
		f.log.watchers.Add(-1)
	}
}

// event writes an event. It is sent by flush.
func (s *stream) event(name string, data any) {
	if s.err != nil {
		return
	}
	b, err := json.Marshal(data)
	if err != nil {
		s.t.log.Error("developer tools: an event has no JSON", "event", name, "cause", err)
		return
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(streamWrite))
	_, s.err = s.w.Write(slices.Concat([]byte("event: "+name+"\ndata: "), b, []byte("\n\n")))
}

func (s *stream) flush() {
	if s.err == nil {
		s.err = s.rc.Flush()
	}
}

func (s *stream) sendLog() {
	if !s.log {
		return
	}
	ring := s.t.rec.log
	if clears := ring.state().clears; clears != s.clears {
		s.clears = clears
		s.event("log_cleared", struct{}{})
	}
	last := ring.last.Load()
	if last == s.lastCall {
		return
	}
	entries := make([]callSummary, 0, min(last-s.lastCall, maxStreamLog))
	ring.newest(func(id uint64, b []byte) bool {
		if id > last {
			return true
		}
		if id <= s.lastCall || len(entries) == maxStreamLog {
			return false
		}
		entries = append(entries, decodeRecord(id, b).summary())
		return true
	})
	slices.Reverse(entries)
	s.event("log", struct {
		Entries []callSummary `json:"entries"`
		Dropped uint64        `json:"dropped,omitempty"`
	}{entries, last - s.lastCall - uint64(len(entries))})
	s.lastCall = last
}

func (s *stream) sendFrames() {
	for _, id := range slices.Sorted(maps.Keys(s.frames)) {
		f := s.frames[id]
		frames, dropped := f.log.after(f.last, maxStreamLog)
		if len(frames) == 0 {
			continue
		}
		f.last = frames[len(frames)-1].Seq
		s.event("frames", struct {
			Conn    string  `json:"conn"`
			Frames  []frame `json:"frames"`
			Dropped int     `json:"dropped,omitempty"`
		}{id, frames, dropped})
	}
}

// sendConns sends which connections were opened and closed, and, if asked to look, which have changed.
func (s *stream) sendConns(look bool) {
	changes, last := s.t.rec.changes.after(s.lastChange)
	s.lastChange = last
	var opened, changed []connView
	var closed []closedConn
	for _, change := range changes {
		if change.conn == nil {
			delete(s.sent, change.closed.ID)
			closed = append(closed, change.closed)
			continue
		}
		view := viewOf(change.conn)
		s.sent[view.ID] = view
		opened = append(opened, view)
	}
	if look {
		for i, c := range s.t.srv.Conns() {
			if i == maxCompared {
				break
			}
			view := viewOf(c)
			before, known := s.sent[view.ID]
			s.sent[view.ID] = view
			if known && !view.same(&before) {
				changed = append(changed, view)
			}
		}
	}
	if len(opened)+len(changed)+len(closed) == 0 {
		return
	}
	s.event("conns", struct {
		Total   int          `json:"total"`
		Opened  []connView   `json:"opened,omitempty"`
		Changed []connView   `json:"changed,omitempty"`
		Closed  []closedConn `json:"closed,omitempty"`
	}{len(s.t.srv.Conns()), newestOf(opened), changed, closed})
}

// newestOf bounds an event. Who has not all of the list asks for it.
func newestOf(list []connView) []connView { return list[max(0, len(list)-maxStreamConn):] }

// sendPages sends the widgets that have changed, at first all: who asked for the page did so a moment before.
func (s *stream) sendPages() {
	for _, name := range slices.Sorted(maps.Keys(s.pages)) {
		page := s.t.pages.page(name)
		before := s.pages[name]
		now := map[string]string{}
		var changed []widgetView
		for _, w := range page.widgets() {
			b, err := json.Marshal(w)
			if err != nil {
				continue
			}
			now[w.ID] = string(b)
			if before[w.ID] != string(b) {
				changed = append(changed, w)
			}
		}
		s.pages[name] = now
		if len(changed) > 0 {
			s.event("page", struct {
				Name    string       `json:"name"`
				Widgets []widgetView `json:"widgets"`
			}{name, changed})
		}
	}
}
