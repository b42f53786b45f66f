package httppeers

import (
	"context"
	"encoding/json"
	"net"
	"net/http"

	"connectrpc.com/connect"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// jsonCodec is encoding/json in place of protobuf's JSON, which needs generated types and costs more.
type jsonCodec struct{}

func (jsonCodec) Name() string                       { return "json" }
func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// startConnect is a unary procedure of the Connect protocol.
func startConnect(ln net.Listener) (wire.HTTP, error) {
	const procedure = "/tasks.v1.TaskService/CreateTask"
	mux := http.NewServeMux()
	mux.Handle(procedure, connect.NewUnaryHandler(procedure,
		func(_ context.Context, r *connect.Request[plainTask]) (*connect.Response[plainTask], error) {
			if err := r.Msg.check(); err != nil {
				return nil, connect.NewError(connect.CodeInvalidArgument, err)
			}
			return connect.NewResponse(r.Msg), nil
		}, connect.WithCodec(jsonCodec{})))
	serve(ln, mux)
	return post(procedure, "", "Connect-Protocol-Version: 1"), nil
}
