package mooncoretest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/mooncore/mooncore"
)

// host is what the server reads as Host.
const host = "mooncoretest"

// A Client calls actions by HTTP. Its methods fail the test on anything that is no answer.
type Client struct {
	server *Server
	token  string
}

// A File is uploaded by Call.
type File struct {
	Field, Name string // of the form
	Data        []byte
}

// Call calls an action with params, anything whose JSON is an object, and decodes the result into *result, unless that is nil.
// A refusal is a *mooncore.Error. Files go as multipart, and params beside them as the text of form fields.
func (c *Client) Call(action string, params, result any, files ...File) error {
	t := c.server.t
	t.Helper()
	body, contentType := encodeParams(t, params), "application/json"
	if len(files) > 0 {
		body, contentType = encodeForm(t, body, files)
	}
	r, err := http.NewRequest(http.MethodPost, "http://"+host+"/run/"+action, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.server.client.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	return decodeAnswer(t, action, answer, resp.StatusCode != http.StatusOK || isRefusal(answer), result)
}

func encodeParams(t testing.TB, params any) []byte {
	t.Helper()
	if params == nil {
		return []byte("{}")
	}
	b, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encodeForm(t testing.TB, params []byte, files []File) (body []byte, contentType string) {
	t.Helper()
	var fields map[string]any
	dec := json.NewDecoder(bytes.NewReader(params))
	dec.UseNumber()
	if err := dec.Decode(&fields); err != nil {
		t.Fatalf("params beside files must be an object: %v", err)
	}
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for name, value := range fields {
		writeField(t, w, name, value)
	}
	for _, f := range files {
		part, err := w.CreateFormFile(f.Field, f.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(f.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), w.FormDataContentType()
}

func writeField(t testing.TB, w *multipart.Writer, name string, value any) {
	t.Helper()
	switch value := value.(type) {
	case nil:
	case map[string]any:
		for key, v := range value {
			writeField(t, w, name+"["+key+"]", v)
		}
	case []any:
		for _, v := range value {
			writeField(t, w, name+"[]", v)
		}
	default:
		if err := w.WriteField(name, fmt.Sprint(value)); err != nil {
			t.Fatal(err)
		}
	}
}

// decodeAnswer makes a *mooncore.Error of a refusal, and fills result from anything else.
func decodeAnswer(t testing.TB, action string, answer []byte, refused bool, result any) error {
	t.Helper()
	if refused {
		var e struct {
			Error  string              `json:"error"`
			Code   mooncore.Code       `json:"code"`
			Errors map[string][]string `json:"errors"`
			LogID  string              `json:"log_id"`
		}
		if err := json.Unmarshal(answer, &e); err != nil || e.Code == "" {
			t.Fatalf("%s: no answer of an action: %s", action, answer)
		}
		return &mooncore.Error{Code: e.Code, Message: e.Error, Fields: e.Errors, LogID: e.LogID}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(answer, result); err != nil {
		t.Fatalf("%s: result %s: %v", action, answer, err)
	}
	return nil
}

// Dial opens a WebSocket, which closes with the test. Of the sub-protocols that it offers the server must select one, if there are any;
// "mooncore.v1.history" is that of positions.
func (c *Client) Dial(subprotocols ...string) *Conn {
	t := c.server.t
	t.Helper()
	header := http.Header{}
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	//nolint:bodyclose // on success there is no body, on failure the test ends
	socket, resp, err := websocket.Dial(ctx, "ws://"+host+"/ws", &websocket.DialOptions{
		HTTPClient: c.server.client, HTTPHeader: header, Subprotocols: subprotocols,
	})
	if err != nil {
		if resp != nil && resp.Body != nil {
			body, _ := io.ReadAll(resp.Body)
			t.Fatalf("dial: %v: %s", err, body)
		}
		t.Fatalf("dial: %v", err)
	}
	if len(subprotocols) > 0 && socket.Subprotocol() == "" {
		t.Fatalf("dial: the server selected none of the sub-protocols %q", subprotocols)
	}
	socket.SetReadLimit(-1)
	conn := &Conn{t: t, socket: socket, arrived: make(chan struct{}, 1), ended: make(chan struct{})}
	go conn.read()
	t.Cleanup(func() {
		socket.CloseNow() // it may be closed already
		<-conn.ended
	})
	return conn
}

// A Conn is a WebSocket. Its methods fail the test on anything that is no answer, or none in 10 s. It is used by one goroutine.
type Conn struct {
	t       testing.TB
	socket  *websocket.Conn
	calls   int
	at      Position // of the last event that was taken
	arrived chan struct{}
	ended   chan struct{}

	mu       sync.Mutex
	messages [][]json.RawMessage // what came and was not taken yet
	closed   error
}

// read takes messages in as they come, so that the connection answers pings whatever the test does.
func (c *Conn) read() {
	defer close(c.ended)
	for {
		_, data, err := c.socket.Read(context.Background())
		var message []json.RawMessage
		if err == nil && json.Unmarshal(data, &message) != nil {
			message = []json.RawMessage{[]byte(strconv.Quote(string(data)))} // "pong"
		}
		c.mu.Lock()
		if err != nil {
			c.closed = err
		} else {
			c.messages = append(c.messages, message)
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
		select {
		case c.arrived <- struct{}{}:
		default:
		}
	}
}

// take waits for the first message that want accepts, and removes it.
func (c *Conn) take(what string, want func(message []json.RawMessage) bool) []json.RawMessage {
	c.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	ended := c.ended
	for {
		c.mu.Lock()
		i := slices.IndexFunc(c.messages, want)
		var found []json.RawMessage
		if i >= 0 {
			found = c.messages[i]
			c.messages = slices.Delete(c.messages, i, i+1)
		}
		closed := c.closed
		c.mu.Unlock()
		if found != nil {
			return found
		}
		if closed != nil {
			c.t.Fatalf("waiting for %s: the connection closed: %v", what, closed)
		}
		select {
		case <-c.arrived:
		case <-ended:
			ended = nil // look once more
		case <-timeout.C:
			c.t.Fatalf("waiting for %s: nothing came in %v", what, patience)
		}
	}
}

func nameOf(message []json.RawMessage) (name string) {
	if len(message) > 0 {
		_ = json.Unmarshal(message[0], &name) // an element that is no string has no name
	}
	return name
}

// named accepts messages of that name.
func named(name string) func([]json.RawMessage) bool {
	return func(message []json.RawMessage) bool { return nameOf(message) == name }
}

func isEvent(message []json.RawMessage) bool {
	switch nameOf(message) {
	case "response", "channel_list", "server_time", "socket_error", "jwt", "pong":
		return false
	}
	return !isJoined(message)
}

// isJoined reports whether a message answers a join; an event "joined" has no such third element.
func isJoined(message []json.RawMessage) bool {
	var answer struct {
		Recovered *bool `json:"recovered"`
	}
	return nameOf(message) == "joined" && len(message) == 3 && json.Unmarshal(message[2], &answer) == nil && answer.Recovered != nil
}

// Call is as Client's, with at most one file, which goes as a binary frame. Events that come first wait for Next.
func (c *Conn) Call(action string, params, result any, files ...File) error {
	c.t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(encodeParams(c.t, params), &fields); err != nil {
		c.t.Fatalf("params must be an object: %v", err)
	}
	if fields == nil {
		fields = map[string]json.RawMessage{}
	}
	c.calls++
	fields["action"] = []byte(strconv.Quote(action))
	fields["rayid"] = strconv.AppendInt(nil, int64(c.calls), 10)
	frame, err := json.Marshal(fields)
	if err != nil {
		c.t.Fatal(err)
	}
	switch len(files) {
	case 0:
		c.write(websocket.MessageText, frame)
	case 1:
		if len(frame) > math.MaxUint16 {
			c.t.Fatalf("%s: params of %d bytes do not fit beside a file", action, len(frame))
		}
		binaryFrame := binary.LittleEndian.AppendUint16(nil, uint16(len(frame)))
		c.write(websocket.MessageBinary, slices.Concat(binaryFrame, frame, files[0].Data))
	default:
		c.t.Fatal("a binary frame holds one file")
	}
	response := c.take("the response of "+action, named("response"))
	if len(response) != 3 || string(response[2]) != string(fields["rayid"]) {
		c.t.Fatalf("%s: no response of this call: %s", action, response)
	}
	return decodeAnswer(c.t, action, response[1], isRefusal(response[1]), result)
}

// isRefusal reports whether an answer without a status, as frames are and Config.LegacyStatus makes them, is an error.
func isRefusal(answer []byte) bool {
	var e struct {
		Error *string `json:"error"`
		Code  *string `json:"code"`
	}
	return json.Unmarshal(answer, &e) == nil && e.Error != nil && e.Code != nil
}

// Join joins a channel and returns the list of joined ones, newest first.
func (c *Conn) Join(channel string) []string {
	c.t.Helper()
	return c.channels("join", channel)
}

// Leave leaves a channel and returns the list of joined ones, newest first.
func (c *Conn) Leave(channel string) []string {
	c.t.Helper()
	return c.channels("leave", channel)
}

func (c *Conn) channels(command string, args ...any) []string {
	c.t.Helper()
	frame, err := json.Marshal(append([]any{command}, args...))
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(websocket.MessageText, frame)
	return c.channelList()
}

// A Position is where an event of a channel with [mooncore.History] stands. The zero Position is none.
type Position struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

// Joined is what a server says to a join of a channel with [mooncore.History].
type Joined struct {
	Recovered bool // what was missed comes as the next events
	Position       // where the channel stands
	Reason    string
}

// JoinSince joins a channel, or joins it again, as a client does that has handled the events up to a position; with the zero
// Position, as one that comes for the first time. The connection must have the sub-protocol "mooncore.v1.history", and the channel
// History.
func (c *Conn) JoinSince(channel string, since Position) Joined {
	c.t.Helper()
	c.mu.Lock()
	c.messages = slices.DeleteFunc(c.messages, isJoined) // of Join
	c.mu.Unlock()
	third := map[string]any{}
	if since != (Position{}) {
		third["since"] = since
	}
	c.channels("join", channel, third)
	answer := c.take("what the server says to the join", isJoined)
	var name string
	var joined Joined
	if err := errors.Join(json.Unmarshal(answer[1], &name), json.Unmarshal(answer[2], &joined)); err != nil || name != channel {
		c.t.Fatalf("no answer to a join of %q: %s", channel, answer)
	}
	return joined
}

// Position is where the last event stands that Next or Expect returned. It is zero if that has no position.
func (c *Conn) Position() Position { return c.at }

func (c *Conn) channelList() []string {
	c.t.Helper()
	answer := c.take("a channel_list", named("channel_list"))
	var list []string
	if len(answer) != 2 || json.Unmarshal(answer[1], &list) != nil {
		c.t.Fatalf("no channel_list: %s", answer)
	}
	return list
}

// Send sends a text frame as it is.
func (c *Conn) Send(frame string) {
	c.t.Helper()
	c.write(websocket.MessageText, []byte(frame))
}

func (c *Conn) write(typ websocket.MessageType, data []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.socket.Write(ctx, typ, data); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// Next waits for the next event.
func (c *Conn) Next() (event string, payload json.RawMessage) {
	c.t.Helper()
	message := c.take("an event", isEvent)
	c.at = Position{}
	if len(message) < 2 || len(message) > 3 || len(message) == 3 && json.Unmarshal(message[2], &c.at) != nil {
		c.t.Fatalf("no event: %s", message)
	}
	return nameOf(message), message[1]
}

// Expect waits for the next event, which must be this one, and decodes its payload into *payload unless that is nil.
func (c *Conn) Expect(event string, payload any) {
	c.t.Helper()
	got, data := c.Next()
	if got != event {
		c.t.Fatalf("got event %q %s, want %q", got, data, event)
	}
	if payload == nil {
		return
	}
	if err := json.Unmarshal(data, payload); err != nil {
		c.t.Fatalf("payload %s of event %q: %v", data, event, err)
	}
}

// ExpectNothing fails the test if an event is there once the server has answered what came before.
func (c *Conn) ExpectNothing() {
	c.t.Helper()
	c.write(websocket.MessageText, []byte("channel_list"))
	c.channelList()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, message := range c.messages {
		if isEvent(message) {
			c.t.Fatalf("got event %s, want nothing", message)
		}
	}
}

// Closed waits for the server to close the connection, and returns the close code.
func (c *Conn) Closed() int {
	c.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-c.ended:
	case <-timeout.C:
		c.t.Fatalf("the connection is still open after %v", patience)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := errors.AsType[websocket.CloseError](c.closed)
	if !ok {
		c.t.Fatalf("the connection ended without a close frame: %v", c.closed)
	}
	return int(e.Code)
}
