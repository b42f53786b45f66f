package mcpserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/mooncore/mooncore/internal/strictjson"
)

// A message is what must be known of a JSON-RPC message before the SDK reads it.
type message struct {
	id     json.RawMessage // nil of a notification
	method string
	params json.RawMessage
}

// readMessage reads a body, as strictly as all JSON that comes in is read. A batch is refused: the protocol has none since
// 2025-06-18, and one could run thousands of calls for one request.
func readMessage(body []byte) (message, *jsonrpc.Error) {
	var got [4][]byte
	kind, err := strictjson.Scan(body, []string{"id", "method", "params", "jsonrpc"}, got[:])
	method, _ := strictjson.Unquote(got[1])
	msg := message{id: got[0], method: method, params: got[2]}
	if _, ok := errors.AsType[*strictjson.SyntaxError](err); ok {
		return msg, &jsonrpc.Error{Code: jsonrpc.CodeParseError, Message: err.Error()}
	}
	switch {
	case err != nil:
		return msg, &jsonrpc.Error{Code: jsonrpc.CodeInvalidRequest, Message: err.Error()}
	case kind == strictjson.Array:
		return msg, &jsonrpc.Error{Code: jsonrpc.CodeInvalidRequest, Message: "A batch is not supported: send one message"}
	case kind != strictjson.Object:
		return msg, &jsonrpc.Error{Code: jsonrpc.CodeInvalidRequest, Message: "The message is not an object"}
	}
	return msg, nil
}

// faultOf is a text that the SDK answers with that HTTP status, as JSON-RPC has it.
func (m message) faultOf(status int, text string) (int, *jsonrpc.Error) {
	fault := &jsonrpc.Error{Code: jsonrpc.CodeInvalidRequest, Message: strings.TrimSpace(text)}
	switch {
	case strings.HasPrefix(text, "JSON RPC not handled"):
		fault.Code = jsonrpc.CodeMethodNotFound
		if m.id != nil {
			status = http.StatusOK // as other outcomes: clients take 400 for a fault of the transport
		}
	case status >= http.StatusInternalServerError:
		fault.Code = jsonrpc.CodeInternalError
	}
	return status, fault
}

// appendFault writes a JSON-RPC error response.
func appendFault(id json.RawMessage, fault *jsonrpc.Error) []byte {
	switch strictjson.KindOf(id) {
	case strictjson.String, strictjson.Number:
	default:
		id = json.RawMessage("null")
	}
	b := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
	b = append(b, `,"error":{"code":`...)
	b = strconv.AppendInt(b, fault.Code, 10)
	b = append(b, `,"message":`...)
	return append(strictjson.AppendQuote(b, fault.Message), "}}"...)
}
