package mooncore_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/mooncore/mooncore"
)

const goodTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// traced answers the trace that a call belongs to.
func traced(ctx context.Context) (string, error) {
	req := mooncore.RequestFrom(ctx)
	return req.TraceParent() + " " + req.TraceState(), nil
}

// The forms of W3C Trace Context, section 3.2.
func TestTraceParent(t *testing.T) {
	srv := serve(t, mooncore.Config{Routers: catalogue(returning("traced", traced))})
	conn := srv.dial()
	for _, tt := range []struct {
		name, value string
		good        bool
	}{
		{"version 00", goodTrace, true},
		{"not sampled", goodTrace[:53] + "00", true},
		{"a version to come", "cc" + goodTrace[2:], true},
		{"a version to come, longer", "cc" + goodTrace[2:] + "-what.will.be", true},
		{"a version to come, glued", "cc" + goodTrace[2:] + "what", false},
		{"a version to come, endless", "cc" + goodTrace[2:] + "-" + strings.Repeat("x", 100), false},
		{"version 00, longer", goodTrace + "-x", false},
		{"version ff", "ff" + goodTrace[2:], false},
		{"upper case", strings.ToUpper(goodTrace), false},
		{"no trace", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", false},
		{"no parent", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false},
		{"no hex digit", strings.Replace(goodTrace, "4bf", "4bg", 1), false},
		{"other separators", strings.ReplaceAll(goodTrace, "-", "_"), false},
		{"short", goodTrace[:54], false},
		{"empty", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := `" "`
			if tt.good {
				want = fmt.Sprintf("%q", tt.value+" ")
			}
			if _, got := srv.call("traced", "", "traceparent", tt.value); got != want {
				t.Errorf("HTTP: %s, want %s", got, want)
			}
			if got := conn.ask(fmt.Sprintf(`{"action":"traced","traceparent":%q}`, tt.value)); got != `["response",`+want+`,null]` {
				t.Errorf("WebSocket: %s, want %s", got, want)
			}
		})
	}
	for _, value := range []string{"5", "null", `{"x":1}`, `"\u0030` + goodTrace[1:] + `"`} {
		if got := conn.ask(`{"action":"traced","traceparent":` + value + `}`); got != `["response"," ",null]` {
			t.Errorf("traceparent %s: %s", value, got)
		}
	}
	if _, got := srv.call("traced", "", "traceparent", goodTrace, "traceparent", goodTrace); got != `" "` {
		t.Errorf("two headers: %s", got)
	}
	if _, got := srv.call("traced", `{"traceparent":"`+goodTrace+`"}`); got != `" "` {
		t.Errorf("a param of a call over HTTP: %s", got)
	}
	got, err := srv.Call(t.Context(), &mooncore.Request{Action: "traced", Params: []byte(`{"traceparent":"` + goodTrace + `"}`)})
	if got != " " || err != nil {
		t.Errorf("from Go: %v, %v", got, err)
	}
}

func TestTraceState(t *testing.T) {
	srv := serve(t, mooncore.Config{Routers: catalogue(returning("traced", traced))})
	for _, tt := range []struct {
		name   string
		header []string
		want   string
	}{
		{"with a parent", []string{"traceparent", goodTrace, "tracestate", "a=1"}, goodTrace + " a=1"},
		{"in several headers", []string{"traceparent", goodTrace, "tracestate", "a=1", "tracestate", "b=2"}, goodTrace + " a=1,b=2"},
		{"without a parent", []string{"tracestate", "a=1"}, " "},
		{"too long", []string{"traceparent", goodTrace, "tracestate", "a=" + strings.Repeat("x", 511)}, goodTrace + " "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, got := srv.call("traced", "", tt.header...); got != fmt.Sprintf("%q", tt.want) {
				t.Errorf("got %s, want %q", got, tt.want)
			}
		})
	}
}

// In a binary frame the trace stands in the metadata, and calls that overlap keep theirs.
func TestTraceParentOfFrames(t *testing.T) {
	release := make(chan struct{})
	slow := returning("traced", func(ctx context.Context) (string, error) {
		<-release
		return traced(ctx)
	})
	srv := serve(t, mooncore.Config{Routers: catalogue(slow), Limits: mooncore.Limits{Calls: 2}})
	conn := srv.dial()
	other := strings.Replace(goodTrace, "4bf", "abc", 1)
	conn.send(`{"action":"traced","rayid":1,"traceparent":"` + goodTrace + `"}`)
	meta := `{"action":"traced","rayid":2,"traceparent":"` + other + `"}`
	frame := append(binary.LittleEndian.AppendUint16(nil, uint16(len(meta))), meta+"payload"...)
	if err := conn.ws.Write(t.Context(), websocket.MessageBinary, frame); err != nil {
		t.Fatal(err)
	}
	conn.ask("ping") // the reader has used its buffer again
	close(release)
	got := map[string]bool{}
	for range 2 {
		response, _ := conn.read()
		got[response] = true
	}
	if !got[`["response","`+goodTrace+` ",1]`] || !got[`["response","`+other+` ",2]`] {
		t.Errorf("got %v", got)
	}
}
