package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

const (
	// maxPause bounds the time between two attempts to connect again.
	maxPause = 10 * time.Second

	// closePolicy and closeUnauthorized are the codes of a close that another connection would meet too.
	closePolicy       = websocket.StatusPolicyViolation
	closeUnauthorized = websocket.StatusCode(4401)
)

// A follower is a call over one WebSocket, and over further ones where channels are followed.
type follower struct {
	c      *cli
	r      *call
	ws     *websocket.Conn
	joined bool // it has been
	events int  // that were printed
}

// callSocket runs an action over a WebSocket and follows channels until the context ends.
func (c *cli) callSocket(ctx context.Context, r *call) error {
	f := &follower{c: c, r: r}
	for pause := time.Second; ; pause = min(2*pause, maxPause) {
		began := time.Now()
		err := f.session(ctx)
		lost, isLost := errors.AsType[*lostError](err)
		switch {
		case len(r.follow) > 0 && ctx.Err() != nil:
			return nil //nolint:nilerr // Ctrl-C is how following ends
		case !isLost || !f.joined:
			return err
		case time.Since(began) > time.Minute:
			pause = time.Second
		}
		wait := max(pause, lost.retryAfter).Round(100 * time.Millisecond)
		c.err.warn("%s; connecting again in %v. Events meanwhile are missed", err, wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		r.action = "" // it has run, or it may have
	}
}

// A lostError says that a connection ended and may be opened again.
type lostError struct {
	err        error
	retryAfter time.Duration
}

func (e *lostError) Error() string { return e.err.Error() }

// session is one connection, from its handshake to its end.
func (f *follower) session(ctx context.Context) error {
	within, cancel := context.WithTimeoutCause(ctx, f.r.timeout, errSlow)
	defer cancel()
	if err := f.dial(within); err != nil {
		return err
	}
	defer f.ws.CloseNow()
	for _, channel := range f.r.follow {
		if err := f.join(within, channel); err != nil {
			return err
		}
	}
	f.joined = len(f.r.follow) > 0
	if f.r.action != "" {
		if err := f.run(within); err != nil {
			return err
		}
	}
	for f.joined && (f.r.events == 0 || f.events < f.r.events) {
		message, err := f.read(ctx)
		if err == nil {
			err = f.print(message)
		}
		if err != nil {
			return err
		}
	}
	_ = f.ws.Close(websocket.StatusNormalClosure, "") // all that was asked for is there
	return nil
}

func (f *follower) dial(ctx context.Context) error {
	r := f.r
	header := http.Header{}
	if r.token != "" {
		header.Set("Authorization", "Bearer "+r.token)
	}
	//nolint:bodyclose // on success there is no body, and else it is in memory
	ws, resp, err := websocket.Dial(ctx, r.endpoint("ws"), &websocket.DialOptions{HTTPHeader: header})
	if err == nil {
		ws.SetReadLimit(maxAnswer)
		f.ws = ws
		return nil
	}
	if resp == nil {
		return &lostError{err: r.unreachable(ctx, err)}
	}
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // what there is of it
	fault, ok := parseFault(answer)
	switch {
	case !ok:
		return fmt.Errorf("%s answers %s, which is not how a Mooncore server answers: %s", r.endpoint("ws"), resp.Status, excerpt(answer))
	case fault.Code == "unavailable" && f.joined:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return &lostError{errors.New(plain(fault.Error)), time.Duration(seconds) * time.Second}
	}
	return f.c.printFault(r, fault, answer)
}

// A message is what the server sent: a name, and what follows it.
type message []json.RawMessage

func (m message) name() string {
	var name string
	if len(m) > 0 && json.Unmarshal(m[0], &name) != nil {
		return ""
	}
	return name
}

func (f *follower) read(ctx context.Context) (message, error) {
	_, data, err := f.ws.Read(ctx)
	if err != nil {
		return nil, f.ended(ctx, err)
	}
	var m message
	if json.Unmarshal(data, &m) != nil {
		return nil, fmt.Errorf("the server sent what is no message of the protocol: %s", excerpt(data))
	}
	return m, nil
}

// ended says why a connection is over.
func (f *follower) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return f.r.unreachable(ctx, err)
	}
	e, closed := errors.AsType[websocket.CloseError](err)
	if !closed {
		return &lostError{err: fmt.Errorf("the connection to %s was lost", f.r.base)}
	}
	lost := &lostError{err: fmt.Errorf("the server closed the connection: %d %s", e.Code, plain(e.Reason))}
	var restart struct {
		RetryAfter int64 `json:"retry_after"`
	}
	switch e.Code {
	case websocket.StatusServiceRestart:
		if json.Unmarshal([]byte(e.Reason), &restart) == nil {
			lost.retryAfter = time.Duration(min(max(restart.RetryAfter, 0), 60_000)) * time.Millisecond
		}
		lost.err = errors.New("the server restarts")
	case closePolicy, closeUnauthorized:
		return lost.err
	}
	return lost
}

func (f *follower) send(ctx context.Context, frame []byte) error {
	if err := f.ws.Write(ctx, websocket.MessageText, frame); err != nil {
		return f.ended(ctx, err)
	}
	return nil
}

// join joins a channel and waits for the answer, which tells all that the connection is in.
func (f *follower) join(ctx context.Context, channel string) error {
	frame, err := json.Marshal([]string{"join", channel})
	if err != nil {
		return err
	}
	if err := f.send(ctx, frame); err != nil {
		return err
	}
	for {
		m, err := f.read(ctx)
		if err != nil {
			return err
		}
		var labels []string
		if m.name() != "channel_list" || len(m) != 2 || json.Unmarshal(m[1], &labels) != nil {
			if err := f.print(m); err != nil {
				return err
			}
			continue
		}
		for _, label := range labels {
			if name, _, ok := strings.Cut(label, ":"); ok && name == channel {
				f.c.err.say("%s following %s\n", f.c.err.paint(green, "✓"), plain(label))
				return nil
			}
		}
		why := "the token lacks the role channel_" + channel + ", or the server has a rule of its own for it"
		if f.r.token == "" {
			why = "there is no token: give one by --token-file or MOONCORE_TOKEN"
		}
		return refusedf("%s cannot be joined: %s", plain(channel), plain(why))
	}
}

// run calls the action and prints its result.
func (f *follower) run(ctx context.Context) error {
	action, err := json.Marshal(f.r.action)
	if err != nil {
		return err
	}
	frame := fmt.Appendf(nil, `{"action":%s,"rayid":1`, action)
	if params := strings.TrimSpace(string(f.r.params[1:])); params != "}" {
		frame = append(frame, ',')
	}
	if err := f.send(ctx, append(frame, f.r.params[1:]...)); err != nil {
		return err
	}
	for {
		m, err := f.read(ctx)
		if _, lost := errors.AsType[*lostError](err); lost {
			return fmt.Errorf("%v before the answer came: the action may have run", err) //nolint:errorlint // it is not to be tried again
		}
		if err != nil {
			return err
		}
		if m.name() != "response" || len(m) != 3 {
			if err := f.print(m); err != nil {
				return err
			}
			continue
		}
		if fault, ok := parseFault(m[1]); ok {
			return f.c.printFault(f.r, fault, m[1])
		}
		return f.c.out.printRaw(m[1], f.r.asJSON)
	}
}

// print writes an event, if channels are followed, and what the server says about the connection.
func (f *follower) print(m message) error {
	name := m.name()
	switch {
	case name == "jwt" && len(m) == 2 && string(m[1]) == `"jwt_expired"`:
		f.c.err.warn("the token has expired: no events from now on")
		return nil
	case name == "" || len(m) != 2 || len(f.r.follow) == 0 || name == "channel_list" || name == "jwt" || name == "socket_error" || name == "server_time":
		return nil
	}
	f.events++
	now := time.Now()
	if f.r.asJSON {
		return f.c.out.printJSON(struct {
			Time    time.Time       `json:"time"`
			Event   string          `json:"event"`
			Payload json.RawMessage `json:"payload"`
		}{now, name, m[1]})
	}
	out := f.c.out
	_, err := fmt.Fprintf(out, "%s %s %s\n", out.paint(dim, now.Format(time.TimeOnly)), out.paint(bold, plain(name)), plain(string(m[1])))
	return err
}
