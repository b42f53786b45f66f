package metrics

import (
	"context"
	"strconv"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/ws"
	"github.com/prometheus/client_golang/prometheus"
)

// other is the label of whatever has no name of its own, as OpenTelemetry spells it.
const other = "_OTHER"

// An observer counts what happens.
type observer struct {
	mooncore.NopObserver

	actions map[string]bool // that some router has

	calls          *prometheus.HistogramVec
	opened         prometheus.Counter
	closed         *prometheus.CounterVec
	messages       *prometheus.CounterVec
	bytes          *prometheus.CounterVec
	received, sent direction
}

// A direction counts the messages that went one way.
type direction struct{ messages, bytes prometheus.Counter }

func newObserver(routers []mooncore.Router, buckets []float64) *observer {
	o := &observer{
		actions: map[string]bool{},
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "rpc_server_call_duration_seconds",
			Help:        "How long calls took, from the check of access to the result, by action and code.",
			ConstLabels: prometheus.Labels{"rpc_system_name": "mooncore"},
			Buckets:     buckets,
		}, []string{"rpc_method", "rpc_response_status_code"}),
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mooncore_connections_opened_total",
			Help: "WebSocket connections that were accepted.",
		}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mooncore_connections_closed_total",
			Help: "WebSocket connections that ended, by close code: 4408 is a client that was too slow.",
		}, []string{"code"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mooncore_messages_total",
			Help: "WebSocket messages that were received, or queued to be sent.",
		}, []string{"network_io_direction"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mooncore_message_bytes_total",
			Help: "Bytes of those messages, before compression.",
		}, []string{"network_io_direction"}),
	}
	for _, r := range routers {
		for i := range r.Actions {
			o.actions[r.Actions[i].Name] = true
		}
	}
	o.received, o.sent = o.direction("receive"), o.direction("transmit")
	o.closed.WithLabelValues(strconv.Itoa(ws.CodeSlow)) // so that a rate can be taken from the first one on
	return o
}

func (o *observer) direction(name string) direction {
	return direction{o.messages.WithLabelValues(name), o.bytes.WithLabelValues(name)}
}

func (o *observer) collectors() []prometheus.Collector {
	return []prometheus.Collector{o.calls, o.opened, o.closed, o.messages, o.bytes}
}

// CallEnd counts a call.
func (o *observer) CallEnd(_ context.Context, req *mooncore.Request, _ any, err error, took time.Duration) {
	action := req.Action
	if !o.actions[action] {
		action = other
	}
	o.calls.WithLabelValues(action, codeLabel(err)).Observe(took.Seconds())
}

// codeLabel is "ok", or the code of an error. A program may have codes of its own, whose number nobody knows.
func codeLabel(err error) string {
	if err == nil {
		return "ok"
	}
	code := mooncore.CodeOf(err)
	if code != mooncore.CodeInternal && code.HTTPStatus() == mooncore.CodeInternal.HTTPStatus() {
		return other
	}
	return string(code)
}

// ConnOpen counts a connection.
func (o *observer) ConnOpen(*mooncore.Conn) { o.opened.Inc() }

// ConnClose counts how it ended.
func (o *observer) ConnClose(_ *mooncore.Conn, code int, _ string) {
	o.closed.WithLabelValues(closeLabel(code)).Inc()
}

// closeLabel is a close code with a meaning: of RFC 6455 or of the server's own. A client may close with any of 1,000 others.
func closeLabel(code int) string {
	switch {
	case code >= ws.CodeNormal && code <= 1015:
	case code == ws.CodeUnauthorized, code == ws.CodeSlow, code == ws.CodeIdle, code == ws.CodeRate:
	default:
		return other
	}
	return strconv.Itoa(code)
}

// Frame counts a message.
func (o *observer) Frame(_ *mooncore.Conn, sent, _ bool, data []byte) {
	d := &o.received
	if sent {
		d = &o.sent
	}
	d.messages.Inc()
	d.bytes.Add(float64(len(data)))
}
