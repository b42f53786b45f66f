package mooncore

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mooncore/mooncore/internal/form"
	"github.com/mooncore/mooncore/internal/strictjson"
)

const (
	// bodyTime is how long a client may take to send a body, and a second more for each MiB that the action allows.
	bodyTime = 10 * time.Second

	// formMemory is how much of the files of a form is held in memory; the rest waits in temporary files.
	formMemory = 1 << 20

	// kernelBody is a body that the kernel takes from us whether the client reads or not. A larger one gets a deadline.
	kernelBody = 64 << 10

	maxRequestID = 128
)

// ServeHTTP answers /run, /run/{action}, /ws, /livez, /readyz and /health, and passes all else to Config.Handler.
// To mount it below a prefix, wrap it in [http.StripPrefix]; to offer only some of its routes, mount only those.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	switch path {
	case "/livez", "/readyz", "/health", "/ws":
		bodyDeadline(w, r, time.Now().Add(bodyTime))
	}
	switch path {
	case "/livez":
		s.health.serveLive(w, r)
	case "/readyz", "/health":
		s.health.serveReady(w, r)
	case "/ws":
		s.serveSocket(w, r, s.pools[0])
	case "/run":
		s.run.ServeHTTP(w, r)
	default:
		if strings.HasPrefix(path, "/run/") {
			s.run.ServeHTTP(w, r)
			return
		}
		if !s.hosts.allow(r) {
			s.refuse(w, r, errHost)
			return
		}
		s.cfg.Handler.ServeHTTP(w, r)
	}
}

// serveRun answers /run and /run/{action}.
func (s *Server) serveRun(w http.ResponseWriter, r *http.Request) {
	name, named := strings.CutPrefix(r.URL.Path, "/run/")
	if !named {
		name = ""
	}
	s.serveCall(w, r, callRoute{action: name, named: named})
}

// ActionHandler serves each request as a call of that action, for routes of the program's own, such as DELETE /v1/tasks/{id}.
// Wildcards of the request's pattern stand above the body's params; they and the query become numbers and booleans where the
// input says so. Only read-only actions answer GET and HEAD; whatever other method the route has is the program's choice. It
// panics if no router has the action.
func (s *Server) ActionHandler(action string) http.Handler {
	if !slices.ContainsFunc(s.apps, func(a *app) bool { return a.actions[action] != nil }) {
		panic("mooncore: ActionHandler: no router has the action " + action)
	}
	return s.withCORS(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serveCall(w, r, callRoute{action: action, named: true, anyMethod: true, path: pathPairs(r)})
	}))
}

// withCORS answers preflight requests of the configured origins, and marks responses to them.
func (s *Server) withCORS(h http.Handler) http.Handler {
	if c := s.origins.cors(); c != nil {
		return c.Handler(h)
	}
	return h
}

// A callRoute is what a request's route says of its call.
type callRoute struct {
	action    string
	named     bool // the route names the action, so the params may not name another
	anyMethod bool // the route is the program's own
	path      []form.Pair
}

// serveCall answers one call over HTTP.
func (s *Server) serveCall(w http.ResponseWriter, r *http.Request, route callRoute) {
	c := &httpCall{identity: nobody}
	req := requests.Get().(*Request)
	c.req, req.ctx = req, &c.ctx
	req.Action, req.Source, req.ID, req.RemoteAddr = route.action, "http", requestID(r), s.proxies.client(r)
	req.server, req.header, req.path, req.readOnly = s, r.Header, route.path, r.Method == http.MethodGet || r.Method == http.MethodHead
	c.header[0] = req.ID
	w.Header()["X-Request-Id"] = c.header[:]
	fault := s.checkRequest(r, route)
	if fault == nil {
		fault = s.readCall(w, r, c, route)
	}
	if fault != nil && !c.bounded {
		bodyDeadline(w, r, time.Now().Add(bodyTime))
	}
	if r.MultipartForm != nil {
		defer func() {
			if err := r.MultipartForm.RemoveAll(); err != nil {
				s.log.Error("temporary files of a form are left", "request_id", c.header[0], "cause", err)
			}
		}()
	}
	if fault == nil {
		if !s.gate.enter() {
			fault = s.closed()
		} else {
			defer s.gate.leave()
		}
	}
	body := bodies.Get().(*[]byte)
	result, e := s.answer(r.Context(), req, fault, (*body)[:0])
	if e != nil {
		s.writeError(w, e, req.ID, readable(fault))
	} else {
		writeJSON(w, http.StatusOK, result)
	}
	if cap(result) <= maxPooled {
		*body = result
		bodies.Put(body)
	}
	req.recycle(c.identity)
}

// An httpCall is what a call over HTTP needs besides its Request, in one allocation.
type httpCall struct {
	req      *Request
	ctx      callContext
	identity *Identity // the caller
	header   [1]string // of X-Request-Id
	bounded  bool      // the time for the body is
}

// bodies are kept for results; one that grew past maxPooled is left to the garbage collector.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

const maxPooled = 64 << 10

// bodyDeadline says until when a request's body must be there. It holds for net/http too, which reads what is left of a body
// before it answers. Not every ResponseWriter has deadlines: then bounding the body is up to the program's own server.
func bodyDeadline(w http.ResponseWriter, r *http.Request, at time.Time) {
	if r.Body != nil && r.Body != http.NoBody {
		_ = http.NewResponseController(w).SetReadDeadline(at)
	}
}

// readable reports whether a call got as far as an action's outcome, which is what Config.LegacyStatus is about.
func readable(fault error) bool { return fault == nil || errors.Is(fault, errNoAction) }

// checkRequest refuses what must not be read at all.
func (s *Server) checkRequest(r *http.Request, route callRoute) error {
	scheme := s.proxies.scheme(r)
	switch {
	case !s.hosts.allow(r):
		return errHost
	case !s.origins.allowRequest(r, scheme):
		s.log.Warn("origin refused", "origin", clip(r.Header.Get("Origin")), "host", clip(r.Host), "scheme", scheme)
		return errOrigin
	case !route.anyMethod && r.Method != http.MethodPost && r.Method != http.MethodGet && r.Method != http.MethodHead:
		return errMethodNotAllowed
	}
	return nil
}

// readCall fills req from r: who calls, what, with which params.
func (s *Server) readCall(w http.ResponseWriter, r *http.Request, c *httpCall, route callRoute) error {
	req := c.req
	if s.cfg.Authenticate != nil || req.readOnly {
		c.bounded = true // the program may read the body, and net/http does
		bodyDeadline(w, r, time.Now().Add(bodyTime))
	}
	id, err := s.identify(r)
	if err != nil {
		return err
	}
	req.Identity, c.identity = *id, id
	if r.URL.RawQuery != "" {
		if req.query, err = form.ParseQuery(r.URL.RawQuery); err != nil {
			return Errorf(CodeInvalidArgument, "query: %v", err)
		}
	}
	var got [1][]byte
	if !req.readOnly {
		if err := s.readBody(w, r, c, got[:]); err != nil {
			return err
		}
	}
	named, isString := strictjson.Unquote(got[0])
	if got[0] == nil {
		for _, p := range req.query {
			if p.Key == "action" {
				named, isString, got[0] = p.Value, true, []byte{}
			}
		}
	}
	switch {
	case route.named && got[0] != nil && (!isString || named != route.action) && !route.anyMethod:
		return Errorf(CodeInvalidArgument, "The path and the params name different actions")
	case route.named:
		return nil
	case !isString || named == "":
		return errNoAction
	}
	req.Action = named
	return nil
}

var bodyMembers = []string{"action"}

// readBody reads the params and files of a request by its Content-Type.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, c *httpCall, got [][]byte) error {
	req := c.req
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if enc := headerValue(r.Header, "Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return errUnsupportedMediaType
	}
	limit := s.bodyLimit(req)
	if r.ContentLength > limit {
		return errTooLarge
	}
	c.bounded = true
	bodyDeadline(w, r, time.Now().Add(bodyTime+time.Duration(limit>>20)*time.Second))
	mediaType, boundary := parseMediaType(headerValue(r.Header, "Content-Type"))
	if r.ContentLength < 0 || mediaType == multipartForm {
		r.Body = http.MaxBytesReader(w, r.Body, limit)
	}
	if mediaType == multipartForm {
		if err := s.readMultipart(r, req, boundary, got); err != nil {
			return err
		}
		bodyDeadline(w, r, time.Time{})
		return nil
	}
	body, err := readAll(r.Body, r.ContentLength, limit)
	if err != nil {
		return bodyError(err)
	}
	bodyDeadline(w, r, time.Time{})
	if len(body) == 0 {
		return nil
	}
	switch {
	case mediaType == "application/json", strings.HasSuffix(mediaType, "+json"):
		req.Params, err = jsonParams(body, got)
		return err
	case mediaType == "application/x-www-form-urlencoded":
		pairs, err := form.ParseQuery(string(body))
		if err != nil {
			return Errorf(CodeInvalidArgument, "form: %v", err)
		}
		return formParams(req, pairs, got)
	}
	return errUnsupportedMediaType
}

const multipartForm = "multipart/form-data"

// parseMediaType returns the media type of a body, "" for one that is not UTF-8 or not understood, and the boundary of a multipart
// form.
func parseMediaType(contentType string) (mediaType, boundary string) {
	switch contentType {
	case "application/json", "application/json; charset=utf-8": // what nearly all clients send
		return "application/json", ""
	}
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
		return "", ""
	}
	return mediaType, params["boundary"]
}

// readAll reads a body of at most limit bytes. One whose size was announced, and is not so large that it could be an empty
// promise, is allocated once.
func readAll(r io.Reader, announced, limit int64) ([]byte, error) {
	if announced < 0 {
		announced = 511
	}
	body := make([]byte, 0, min(announced, kernelBody)+1) // a byte more, to see the end
	for {
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > limit:
			return nil, &http.MaxBytesError{Limit: limit}
		case err == io.EOF:
			return body, nil
		case err != nil:
			return nil, err
		case len(body) == cap(body):
			body = append(body, 0)[:len(body)]
		}
	}
}

// bodyLimit is the largest body that the call may have: the action's where the route names it, else the largest of all. Which
// action's it is gets checked again when the body has named it.
func (s *Server) bodyLimit(req *Request) int64 {
	if req.Action != "" {
		if action, err := s.route(req); err == nil {
			return action.maxBytes
		}
		return min(s.maxBytes, 1<<20) // it will be refused; read little
	}
	if req.Identity.User == "" {
		return s.maxPublicBytes
	}
	return s.maxBytes
}

// jsonParams returns a JSON body as params: an object as it is, anything else as the param _json.
func jsonParams(body []byte, got [][]byte) (json.RawMessage, error) {
	kind, err := strictjson.Scan(body, bodyMembers, got)
	if err != nil {
		return nil, &Error{Code: CodeInvalidArgument, Message: err.Error()}
	}
	if kind == strictjson.Object {
		return body, nil
	}
	b := make([]byte, 0, len(body)+10)
	b = append(b, `{"_json":`...)
	b = append(b, body...)
	return append(b, '}'), nil
}

func formParams(req *Request, pairs []form.Pair, got [][]byte) error {
	params, err := form.AppendJSON(nil, pairs, nil)
	if err != nil {
		return Errorf(CodeInvalidArgument, "form: %v", err)
	}
	if _, err := strictjson.Scan(params, bodyMembers, got); err != nil {
		return &Error{Code: CodeInvalidArgument, Message: err.Error()}
	}
	req.Params = params
	return nil
}

func (s *Server) readMultipart(r *http.Request, req *Request, boundary string, got [][]byte) error {
	f, err := multipart.NewReader(r.Body, boundary).ReadForm(formMemory)
	if err != nil {
		return bodyError(err)
	}
	// The form's temporary files are removed when the call has ended.
	r.MultipartForm = f
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return bodyError(err)
	}
	var pairs []form.Pair
	for _, key := range sortedKeys(f.Value) {
		for _, value := range f.Value[key] {
			pairs = append(pairs, form.Pair{Key: key, Value: value})
		}
	}
	for _, field := range sortedKeys(f.File) {
		for _, header := range f.File[field] {
			req.size += header.Size
			req.Files = append(req.Files, File{
				Field: field, Name: header.Filename, Type: header.Header.Get("Content-Type"), Size: header.Size, header: header,
			})
		}
	}
	return formParams(req, pairs, got)
}

// bodyError says why a body could not be read.
func bodyError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok || errors.Is(err, multipart.ErrMessageTooLarge) {
		return errTooLarge
	}
	return &Error{Code: CodeInvalidArgument, Message: "The body could not be read", Err: err}
}

func pathPairs(r *http.Request) []form.Pair {
	var pairs []form.Pair
	rest := r.Pattern
	for {
		_, rest, _ = strings.Cut(rest, "{")
		name, after, found := strings.Cut(rest, "}")
		if !found {
			return pairs
		}
		rest = after
		name, _, _ = strings.Cut(name, ":") // a pattern of chi may go on with an expression
		if name = strings.TrimSuffix(name, "..."); name != "$" {
			pairs = append(pairs, form.Pair{Key: name, Value: r.PathValue(name)})
		}
	}
}

// Authenticate says who sent r, as for any call: the zero Identity for nobody, an error for a credential that is no good.
func (s *Server) Authenticate(r *http.Request) (Identity, error) {
	id, err := s.requester(r)
	if err != nil {
		return Identity{}, err
	}
	return *id, nil
}

func (s *Server) requester(r *http.Request) (*Identity, error) {
	token, err := bearerToken(r.Header)
	if err != nil {
		return nil, err
	}
	return s.authenticate(r, token)
}

// identify returns who sent r. Config.LegacyAuth takes a credential that is no good for none.
func (s *Server) identify(r *http.Request) (*Identity, error) {
	id, err := s.requester(r)
	if err != nil && s.cfg.LegacyAuth && CodeOf(err) == CodeUnauthenticated {
		return nobody, nil
	}
	return id, err
}

// bearerToken finds the token in the Authorization header: "Bearer <t>", and for old clients "Token: <t>", "Auth: <t>" and
// the bare token. PROTOCOL.md section 1.
func bearerToken(h http.Header) (string, error) {
	values := h["Authorization"]
	switch {
	case len(values) > 1:
		return "", Errorf(CodeInvalidArgument, "Two Authorization headers")
	case len(values) == 0:
		return "", nil
	}
	value := strings.TrimSpace(values[0])
	if scheme, token, found := strings.Cut(value, " "); found {
		if strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "Token:") || strings.EqualFold(scheme, "Auth:") {
			return strings.TrimSpace(token), nil
		}
	}
	return value, nil
}

// headerValue is h.Get of a key in canonical form.
func headerValue(h http.Header, key string) string {
	if values := h[key]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// requestID is the client's X-Request-Id if it is fit for logs and headers, else a fresh one.
func requestID(r *http.Request) string {
	id := headerValue(r.Header, "X-Request-Id")
	if id == "" || len(id) > maxRequestID || strings.ContainsFunc(id, func(c rune) bool { return c < ' ' || c > '~' }) {
		return newID()
	}
	return id
}

// refuse answers a request that is no call.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	id := requestID(r)
	w.Header().Set("X-Request-Id", id)
	e := asError(err)
	if e.code() == CodeInternal {
		s.log.Error("request failed", "path", clip(r.URL.Path), "request_id", id, "cause", e.Err)
	}
	s.writeError(w, e, id, false)
}

func (s *Server) writeError(w http.ResponseWriter, e *Error, requestID string, outcome bool) {
	h := w.Header()
	switch e.code() {
	case CodeUnauthenticated:
		h.Set("WWW-Authenticate", "Bearer")
	case CodeMethodNotAllowed:
		h.Set("Allow", "POST")
	case CodeRateLimited, CodeUnavailable:
		seconds := max(int64((e.RetryAfter+time.Second-1)/time.Second), 1)
		h.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	if !s.gate.open() {
		h.Set("Connection", "close")
	}
	status := e.code().HTTPStatus()
	if s.cfg.LegacyStatus && outcome && !errors.Is(e, errShuttingDown) && !errors.Is(e, errMethodNotAllowed) && !errors.Is(e, errTooLarge) {
		status = http.StatusOK
	}
	writeJSON(w, status, appendError(nil, e, requestID))
}

// Values of headers, which nobody may change in place.
var (
	headerJSON    = []string{jsonType}
	headerNoSniff = []string{"nosniff"}
	headerNoStore = []string{"no-store"}
)

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"], h["X-Content-Type-Options"], h["Cache-Control"] = headerJSON, headerNoSniff, headerNoStore
	if len(body) <= kernelBody {
		w.WriteHeader(status)
		w.Write(body) // the client may be gone: nobody is left to tell
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(bodyTime + time.Duration(len(body)>>20)*time.Second))
	w.WriteHeader(status)
	w.Write(body)
	_ = rc.Flush()
	_ = rc.SetWriteDeadline(time.Time{})
}
