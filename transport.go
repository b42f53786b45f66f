package mooncore

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// envelopeBytes is what a protocol may put around the params of a call.
const envelopeBytes = 64 << 10

// TransportHandler is for protocols of other packages that call actions over HTTP, such as MCP. As /run does, its handler refuses a
// Host, an Origin or a credential that is no good, and everything once the server stops; answers preflights of Config.Origins;
// bounds the size and the time of the body. Size is that of the largest action that the caller may call, and 64 KiB more.
//
// What passes goes to serve, with the whole body, and with a Request that has the caller's Identity, ID and RemoteAddr, and that
// Source. serve sets Action and Params, runs it by [Server.CallJSON], at most once, and answers w. An error that serve returns
// instead is answered and logged as one of /run. Shutdown waits for serve.
func (s *Server) TransportHandler(
	source string, serve func(w http.ResponseWriter, r *http.Request, req *Request, body []byte) error,
) http.Handler {
	return s.withCORS(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req := &Request{Source: source, ID: requestID(r), RemoteAddr: s.proxies.client(r), server: s, header: r.Header}
		w.Header().Set("X-Request-Id", req.ID)
		body, err := s.readTransport(w, r, req)
		if err == nil {
			if s.gate.enter() {
				defer s.gate.leave()
				req.entered = true
				err = serve(w, r, req, body)
				req.entered = false
			} else {
				err = s.closed()
			}
		}
		if err != nil {
			req.ctx = nil // serve may have used it up
			_, e := s.perform(r.Context(), req, err, nil)
			s.writeError(w, e, req.ID, false)
		}
	}))
}

// readTransport returns the body of a request that may go on, and fills in who sent it.
func (s *Server) readTransport(w http.ResponseWriter, r *http.Request, req *Request) ([]byte, error) {
	bodyDeadline(w, r, time.Now().Add(bodyTime))
	if err := s.checkRequest(r, callRoute{anyMethod: true}); err != nil {
		return nil, err
	}
	id, err := s.identify(r)
	if err != nil {
		return nil, err
	}
	req.Identity = *id
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	limit := s.bodyLimit(req) + envelopeBytes
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	bodyDeadline(w, r, time.Now().Add(bodyTime+time.Duration(limit>>20)*time.Second))
	body, err := readAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength, limit)
	if err != nil {
		return nil, bodyError(err)
	}
	bodyDeadline(w, r, time.Time{})
	return body, nil
}

// CallJSON is [Server.Call] for transports: it returns the JSON that /run answers, of the result or, with an [*Error], of that. The
// action has a goroutine of its own, so that a handler may end it by [runtime.Goexit].
func (s *Server) CallJSON(ctx context.Context, req *Request) (json.RawMessage, error) {
	var body []byte
	e := errGoexit
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, e = s.callWithin(ctx, req, &body)
	}()
	<-ended
	if e != nil {
		return appendError(nil, e, req.ID), e
	}
	return body, nil
}
