package mooncore

import "strings"

// maxTraceState is what W3C Trace Context section 3.3.1.5 asks everybody to pass on, in bytes.
const maxTraceState = 512

// TraceParent returns the trace that the call belongs to, as W3C Trace Context writes it: the header traceparent of a call over
// HTTP, the field traceparent of a frame. It is empty if the client sent none, or one that is no good. Whoever calls
// chooses it: it names a trace and proves nothing.
func (r *Request) TraceParent() string {
	if r.header != nil {
		if values := r.header["Traceparent"]; len(values) == 1 && validTraceParent(values[0]) {
			return values[0]
		}
		return ""
	}
	if n := len(r.trace); n > 2 && r.trace[0] == '"' && validTraceParent(string(r.trace[1:n-1])) {
		return string(r.trace[1 : n-1])
	}
	return ""
}

// TraceState returns what tracing systems added to TraceParent: the header tracestate of a call over HTTP. It is empty without a
// TraceParent, and if it has more than 512 bytes. A frame has none.
func (r *Request) TraceState() string {
	if r.header == nil || r.TraceParent() == "" {
		return ""
	}
	state := strings.Join(r.header["Tracestate"], ",")
	if len(state) > maxTraceState {
		return ""
	}
	return state
}

// validTraceParent checks the form of W3C Trace Context section 3.2: version, trace id, parent id and flags, in lower case. Of a
// version to come there may be more behind them.
func validTraceParent(s string) bool {
	const length = 55 // of version 00
	if len(s) < length || len(s) > 2*length || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, parent, flags, rest := s[:2], s[3:35], s[36:52], s[53:55], s[length:]
	if rest != "" && (version == "00" || rest[0] != '-') || strings.ContainsFunc(rest, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return false
	}
	return lowerHex(version) && version != "ff" && lowerHex(flags) &&
		lowerHex(trace) && strings.Trim(trace, "0") != "" && lowerHex(parent) && strings.Trim(parent, "0") != ""
}

func lowerHex(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') })
}
