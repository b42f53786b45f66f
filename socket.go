package mooncore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mooncore/mooncore/internal/strictjson"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/registry"
	"github.com/mooncore/mooncore/ws"
)

// maxTokenFailures is how many tokens of ["jwt", t] frames may be bad before the connection closes with 1008.
const maxTokenFailures = 5

// maxNameLength bounds names of channels and events, in characters.
const maxNameLength = 128

// A socket says what a connection's messages mean: PROTOCOL.md section 3. It is the one adapter between ws, which knows bytes
// and no action, and the server.
type socket struct{ *Conn }

var pong = []byte("pong")

// reply answers a message.
func (s socket) reply(text string) { s.ws.Reply(ws.Text, []byte(text)) }

// Urgent answers what does not wait for a slow action.
func (s socket) Urgent(_ *ws.Conn, typ ws.Type, data []byte) bool {
	if typ != ws.Text || len(data) != 4 {
		return false
	}
	switch string(data) {
	case "ping":
		s.ws.Reply(ws.Text, pong)
		return true
	case "time":
		s.ws.Reply(ws.Text, append(strconv.AppendInt([]byte(`["server_time",`), time.Now().UnixMilli(), 10), ']'))
		return true
	}
	return false
}

// Message handles the others, in order.
func (s socket) Message(_ *ws.Conn, typ ws.Type, data []byte) {
	if typ == ws.Binary {
		s.binary(data)
		return
	}
	switch string(data) {
	case "channel_list":
		s.sendChannels(s.Channels())
		return
	case "quit":
		s.overlapping.Wait() // what was called before is answered before
		s.ws.Close(ws.CodeNormal, "")
		return
	}
	var got frameValues
	kind, err := strictjson.Scan(data, frameMembers, got[:])
	if _, syntax := errors.AsType[*strictjson.SyntaxError](err); syntax {
		s.reply(`["socket_error","json_decode_failed"]`)
		return
	}
	switch {
	case kind == strictjson.Object:
		s.call(data, got, err, nil)
	case kind == strictjson.Array && err == nil && s.command(data):
	default:
		s.reply(`["socket_error","unknown_message"]`)
	}
}

// frameMembers are the fields of a call's frame that have a meaning for the server.
var frameMembers = []string{"action", "rayid", "traceparent"}

// frameValues are those of frameMembers, nil for one that is absent.
type frameValues [3][]byte

// command handles ["join", c], ["leave", c] and ["jwt", t], and reports false for other arrays. Clients that take positions may name
// one in a third element of a join.
func (s socket) command(data []byte) bool {
	parts := slices.Collect(strictjson.Elements(data))
	if len(parts) != 2 && (len(parts) != 3 || !s.history) {
		return false
	}
	start := time.Now()
	name, _ := strictjson.Unquote(parts[0])
	arg, isString := strictjson.Unquote(parts[1])
	var since *pubsub.Position
	if len(parts) == 3 {
		var valid bool
		if since, valid = parseSince(parts[2]); !valid || name != "join" {
			return false
		}
	}
	ok := false
	switch name {
	case "jwt":
		ok = s.jwt(arg)
	case "join":
		ok = s.joinChannel(parts[1], since)
	case "leave":
		if ok = isString && validChannelName(arg); ok {
			s.leave(s.current(), arg)
		}
		s.sendChannels(s.Channels())
	default:
		return false
	}
	for _, o := range s.server.cfg.Observers {
		o.Command(s.Conn, name, ok, time.Since(start))
	}
	return true
}

// joinChannel handles a join of the channel whose name is this JSON, and reports whether the connection is in it now.
func (s socket) joinChannel(raw []byte, since *pubsub.Position) (ok bool) {
	name, isString := strictjson.Unquote(raw)
	id, answered := s.current(), false
	answer := func(all []registry.Channel) {
		answered = true
		s.sendChannels(channelLabels(all))
	}
	valid := isString && validChannelName(name)
	_, kept := s.server.historyOf(roomChannel(name, id.Scope))
	kept = kept && valid && s.history
	switch {
	case !valid || !s.mayJoin(name):
	case kept:
		ok = s.rejoin(s.ws.Context(), id, name, since, func(all []registry.Channel, r recovery) {
			answer(all)
			s.sendJoined(raw, since, r)
		})
	case since != nil:
		ok = s.join(s.ws.Context(), id, name, func(all []registry.Channel) {
			answer(all)
			s.sendJoined(raw, since, recovery{why: reasonNoHistory})
		})
	default:
		ok = s.join(s.ws.Context(), id, name, answer)
	}
	if answered {
		return ok
	}
	if !ok && s.server.halted.Err() != nil {
		s.ws.Close(ws.CodeRestart, retryAfter()) // nobody is refused because the server stops, and nothing behind this is answered
		return false
	}
	s.sendChannels(s.Channels())
	switch {
	case ok && since != nil: // it was in it already
		s.sendJoined(raw, since, recovery{why: reasonNoHistory})
	case !ok && (kept || since != nil):
		s.sendJoined(raw, since, recovery{why: reasonRefused})
	}
	return ok
}

// sendJoined tells a client where the channel stands that it has joined, and sends what it missed.
func (s socket) sendJoined(raw []byte, since *pubsub.Position, r recovery) {
	b := append(append([]byte(`["joined",`), raw...), ',')
	s.ws.Reply(ws.Text, append(r.appendTo(b), ']'))
	now := time.Now().UnixNano()
	for _, e := range r.missed {
		s.deliver(e.frame(s.Conn), now)
	}
	s.server.counters.delivered.Add(uint64(len(r.missed)))
	if since != nil {
		s.server.counters.recovered(r.why)
	}
}

func (s socket) sendChannels(labels []string) {
	b := []byte(`["channel_list",[`)
	for i, label := range labels {
		if i > 0 {
			b = append(b, ',')
		}
		b = strictjson.AppendQuote(b, label)
	}
	s.ws.Reply(ws.Text, append(b, "]]"...))
}

// mayJoin asks the app of whoever is logged in.
func (s socket) mayJoin(name string) bool {
	id := s.current()
	if id.User == "" {
		return false
	}
	a := s.server.app(id.App)
	return a != nil && a.mayJoin(s.ws.Context(), id, name)
}

// jwt takes a token for the connection, and reports whether it was good. One that was not changes nothing.
func (s socket) jwt(token string) bool {
	r := &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: "/ws"}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Authorization": {"Bearer " + token}}, Host: s.host, RemoteAddr: s.remote,
	}
	id, err := s.server.authenticate(r.WithContext(s.ws.Context()), token)
	var claims []byte
	if err == nil && id.User != "" {
		if claims, err = encode(claimsOf(id)); err != nil {
			err = fmt.Errorf("the claims have no JSON: %w", err)
		}
	}
	if claims != nil && s.authenticate(s.ws.Context(), id) == nil {
		s.ws.Reply(ws.Text, appendEvent(nil, "jwt", claims))
		return true
	}
	if err != nil && CodeOf(err) == CodeInternal {
		s.server.log.Error("authentication failed", "conn", s.id, "cause", err)
	}
	s.reply(`["jwt","jwt_failed"]`)
	if claims != nil {
		return false // the token was good: the broker is away, or the tenant is full
	}
	s.mu.Lock()
	s.failures++
	failures := s.failures
	s.mu.Unlock()
	if failures >= maxTokenFailures {
		s.ws.Close(ws.CodePolicy, "too many tokens failed")
	}
	return false
}

// claimsOf returns the claims of a token, or what stands for them when a program's own scheme gave none.
func claimsOf(id *Identity) map[string]any {
	if id.Claims != nil {
		return id.Claims
	}
	claims := map[string]any{"user": id.User, "app": id.App, "tenant": id.Tenant, "scope": id.Scope, "roles": id.Roles}
	if !id.Expires.IsZero() {
		claims["exp"] = id.Expires.Unix()
	}
	return claims
}

// binary takes apart [uint16 n][n bytes of JSON metadata][payload] and calls the action that the metadata names.
func (s socket) binary(data []byte) {
	var got frameValues
	if len(data) >= 2 {
		if n := int(binary.LittleEndian.Uint16(data)); len(data) >= 2+n {
			meta, payload := data[2:2+n], data[2+n:]
			kind, err := strictjson.Scan(meta, frameMembers, got[:])
			if _, syntax := errors.AsType[*strictjson.SyntaxError](err); !syntax && kind == strictjson.Object {
				s.call(meta, got, err, []File{{Type: "application/octet-stream", Size: int64(len(payload)), data: payload}})
				return
			}
		}
	}
	s.reply(`["socket_error","json_decode_failed"]`)
}

// actionName returns the text of a frame's "action". For a known action it is the name that it was declared with: no copy is made.
func (s *Server) actionName(raw []byte) (name string, isString bool) {
	if len(raw) > 2 && raw[0] == '"' {
		for _, a := range s.apps {
			if action := a.actions[string(raw[1:len(raw)-1])]; action != nil {
				return action.Name, true
			}
		}
	}
	return strictjson.Unquote(raw)
}

// call runs the call of a frame: in place, or beside others when the server lets calls of a connection overlap and the
// client can tell their responses apart.
func (s socket) call(params []byte, got frameValues, fault error, files []File) {
	action, isString := s.server.actionName(got[0])
	req, identity := newRequest(), s.current()
	req.Action, req.Params, req.Files, req.Source = action, params, files, "ws"
	req.Identity, req.RemoteAddr, req.server, req.conn = *identity, s.addr, s.server, s.Conn
	req.rayID, req.trace, req.size = got[1], got[2], int64(len(params))
	for _, f := range files {
		req.size += f.Size
	}
	switch {
	case fault != nil:
		fault = &Error{Code: CodeInvalidArgument, Message: fault.Error()}
	case !isString || action == "":
		fault = errNoAction
	}
	if fault == nil && !s.server.gate.enter() {
		fault = errShuttingDown
	}
	if s.calls == nil || len(req.rayID) == 0 || fault != nil {
		s.respond(req, fault, s.ws.Reply)
		req.recycle(identity)
		return
	}
	// The message's bytes are the connection's again once this returns.
	req.Params, req.rayID, req.trace = bytes.Clone(req.Params), bytes.Clone(req.rayID), bytes.Clone(req.trace)
	for i := range req.Files {
		req.Files[i].data = bytes.Clone(req.Files[i].data)
	}
	s.calls <- struct{}{}
	s.overlapping.Add(1)
	s.server.callers.Go(func() {
		defer func() {
			s.overlapping.Done()
			<-s.calls
		}()
		guard(s.server.log, "an Observer", func() { // respond has closed the connection then
			s.respond(req, nil, s.ws.Send)
			req.recycle(identity)
		})
	})
}

// respond answers a call with ["response", result, rayid]. Without a fault, it leaves the gate that the call entered.
func (s socket) respond(req *Request, fault error, send func(ws.Type, []byte) bool) {
	answered := false
	defer func() {
		if fault == nil {
			s.server.gate.leave()
		}
		if !answered { // the handler ended its goroutine: runtime.Goexit
			s.ws.Close(ws.CodeInternal, "internal error")
		}
	}()
	pooled := bodies.Get().(*[]byte)
	b, e := s.server.answer(s.ws.Context(), req, fault, append((*pooled)[:0], `["response",`...))
	if e != nil {
		b = appendError(b, e, req.ID)
	}
	b = append(b, ',')
	if len(req.rayID) > 0 {
		b = append(b, req.rayID...)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, ']')
	send(ws.Text, b)
	if cap(b) <= maxPooled {
		*pooled = b
		bodies.Put(pooled)
	}
	answered = true
}

// Closed forgets the connection.
func (s socket) Closed(_ *ws.Conn, code int, reason string, err error) {
	s.end()
	for _, o := range s.server.cfg.Observers {
		o.ConnClose(s.Conn, code, reason)
	}
	s.server.log.Debug("connection closed", "conn", s.id, "code", code, "reason", reason, "cause", err)
	s.server.disconnected(s.Conn)
}

// validChannelName reports whether clients may join a channel of that name: 1 to 128 characters, no control or bidirectional
// characters, no colon, no leading at sign. PROTOCOL.md section 3.
func validChannelName(name string) bool {
	if name == "" || name[0] == '@' {
		return false
	}
	return validName(name, func(r rune) bool { return r == ':' })
}

// validName reports whether a name has 1 to 128 characters and none that hides or reorders text.
func validName(name string, refuse func(r rune) bool) bool {
	if !utf8.ValidString(name) {
		return false
	}
	n := 0
	for _, r := range name {
		n++
		if n > maxNameLength || unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || refuse != nil && refuse(r) {
			return false
		}
	}
	return n > 0
}

// eventFrame encodes an event once for all its receivers.
func eventFrame(event string, payload any) (*ws.Prepared, error) {
	b, err := eventJSON(event, payload)
	if err != nil {
		return nil, err
	}
	return ws.Prepare(ws.Text, b), nil
}

// eventJSON is ["<event>",<payload>], the payload without its top-level key "password". PROTOCOL.md section 3.
func eventJSON(event string, payload any) ([]byte, error) {
	if !validName(event, nil) || reservedEvent(event) {
		return nil, Errorf(CodeInvalidArgument, "no event's name: %q", event)
	}
	b, err := encode(payload)
	if err != nil {
		return nil, &Error{Code: CodeInternal, Err: err}
	}
	dst := make([]byte, 0, len(b)+len(event)+len(`["",]`))
	return appendEvent(dst, event, withoutMember(b, "password")), nil
}

func reservedEvent(event string) bool {
	switch event {
	case "response", "jwt", "channel_list", "server_time", "socket_error", "lost":
		return true
	}
	return false
}

var _ ws.Handler = socket{}
