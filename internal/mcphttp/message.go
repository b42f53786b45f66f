package mcphttp

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// A message is what must be known of a JSON-RPC message before the SDK reads it.
type message struct {
	id     json.RawMessage // nil of a notification
	method string
	params json.RawMessage
}

// A fault is a JSON-RPC error.
type fault struct {
	code    int64
	message string
}

// Codes of JSON-RPC 2.0, section 5.1.
const (
	codeParse          = -32700
	codeInvalidRequest = -32600
	codeMethodNotFound = -32601
	codeInternal       = -32603
)

// readMessage reads a body, as strictly as all JSON that comes in is read. A batch is refused: the protocol has none since
// 2025-06-18, and one could run thousands of calls for one request.
func readMessage(body []byte) (message, *fault) {
	var got [4][]byte
	kind, err := strictjson.Scan(body, []string{"id", "method", "params", "jsonrpc"}, got[:])
	method, _ := strictjson.Unquote(got[1])
	msg := message{id: got[0], method: method, params: got[2]}
	if _, ok := errors.AsType[*strictjson.SyntaxError](err); ok {
		return msg, &fault{codeParse, err.Error()}
	}
	switch {
	case err != nil:
		return msg, &fault{codeInvalidRequest, err.Error()}
	case kind == strictjson.Array:
		return msg, &fault{codeInvalidRequest, "A batch is not supported: send one message"}
	case kind != strictjson.Object:
		return msg, &fault{codeInvalidRequest, "The message is not an object"}
	}
	return msg, nil
}

// cancels is the id of the call that a notification cancels, as JSON; nil if it names none.
func (m message) cancels() json.RawMessage {
	for key, value := range strictjson.Members(m.params) {
		if name, ok := strictjson.Unquote(key); ok && name == "requestId" {
			return value
		}
	}
	return nil
}

// faultOf is a text that the SDK answers with that HTTP status, as JSON-RPC has it.
func (m message) faultOf(status int, text string) (int, *fault) {
	f := &fault{codeInvalidRequest, strings.TrimSpace(text)}
	switch {
	case strings.HasPrefix(text, "JSON RPC not handled"):
		f.code = codeMethodNotFound
		if m.id != nil {
			status = http.StatusOK // as other outcomes: clients take 400 for a fault of the transport
		}
	case status >= http.StatusInternalServerError:
		f.code = codeInternal
	}
	return status, f
}

// appendFault writes a JSON-RPC error response.
func appendFault(id json.RawMessage, f *fault) []byte {
	switch strictjson.KindOf(id) {
	case strictjson.String, strictjson.Number:
	default:
		id = json.RawMessage("null")
	}
	b := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
	b = append(b, `,"error":{"code":`...)
	b = strconv.AppendInt(b, f.code, 10)
	b = append(b, `,"message":`...)
	return append(strictjson.AppendQuote(b, f.message), "}}"...)
}
