package mcpserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/internal/calltest"
)

// The root's tests run the same table through HTTP, WebSocket and Go.
func TestSameOutcomeAsOtherTransports(t *testing.T) {
	s := serve(t, calltest.Config())
	calltest.Run(t, true, func(t *testing.T, id mooncore.Identity) calltest.Caller {
		if id.User == "" {
			return s.plainCaller(t) // the SDK's client gives up at 401, without the body
		}
		session := s.connect(t, id)
		return func(action string, params, result any) error {
			r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: action, Arguments: params})
			return outcome(t, r, err, result)
		}
	})
}

// plainCaller calls as a stranger, by HTTP alone.
func (s *live) plainCaller(t *testing.T) calltest.Caller {
	return func(action string, params, result any) error {
		resp := s.post(t, toolCall(action, jsonOf(t, params)))
		var msg struct {
			Result json.RawMessage
			Error  *jsonrpc.Error
		}
		if err := json.Unmarshal([]byte(resp.body), &msg); err != nil {
			t.Fatalf("%v: %s", err, resp.body)
		}
		if msg.Error != nil {
			return outcome(t, nil, msg.Error, result)
		}
		r := new(mcp.CallToolResult)
		if err := json.Unmarshal(msg.Result, r); err != nil {
			t.Fatalf("%v: %s", err, resp.body)
		}
		if want := 401; (r.IsError && resp.status == want) != (r.IsError && mooncore.CodeOf(outcome(t, r, nil, result)) == mooncore.CodeUnauthenticated) {
			t.Errorf("status %d for %s", resp.status, resp.body)
		}
		return outcome(t, r, nil, result)
	}
}

// outcome is a tool's result as other clients have it.
func outcome(t *testing.T, r *mcp.CallToolResult, err error, result any) error {
	t.Helper()
	if rpc, ok := errors.AsType[*jsonrpc.Error](err); ok && rpc.Code == jsonrpc.CodeInvalidParams {
		return mooncore.Errorf(mooncore.CodeNotFound, "Undefined action") // what has no tool of that name is no result of one
	}
	if err != nil {
		return err
	}
	if !r.IsError {
		return json.Unmarshal([]byte(text(t, r)), result)
	}
	var body struct {
		Error  string
		Code   mooncore.Code
		Errors map[string][]string
	}
	if err := json.Unmarshal([]byte(text(t, r)), &body); err != nil {
		return fmt.Errorf("%w: %s", err, text(t, r))
	}
	return &mooncore.Error{Code: body.Code, Message: body.Error, Fields: body.Errors}
}
