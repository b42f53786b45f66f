package mooncore

import (
	"bytes"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/mooncore/mooncore/internal/strictjson"
)

// maxIdempotencyKey is more than any UUID has, in bytes.
const maxIdempotencyKey = 255

// idempotencyField names the key in frames, and in errors about it.
const idempotencyField = "idempotency_key"

var (
	errKeyMalformed = FieldError(idempotencyField, "must be a string of 1 to 255 printable ASCII characters")
	errKeyTwice     = FieldError(idempotencyField, "must be given once")
	errKeyReused    = FieldError(idempotencyField, "was used with other params")
)

// readIdempotencyKey finds the key of a call: in the header Idempotency-Key, with or without the quotes of a structured field, in
// the frame's field, or where the program put it.
func (r *Request) readIdempotencyKey() error {
	switch {
	case r.IdempotencyKey != "": // Go code did
	case r.header != nil:
		values := r.header["Idempotency-Key"]
		switch len(values) {
		case 0:
			return nil
		case 1:
		default:
			return errKeyTwice
		}
		r.IdempotencyKey = values[0]
		if n := len(values[0]); n > 1 && values[0][0] == '"' && values[0][n-1] == '"' {
			r.IdempotencyKey = values[0][1 : n-1]
		}
	case r.conn != nil:
		raw := member(r.Params, idempotencyField)
		if raw == nil {
			return nil
		}
		key, ok := strictjson.Unquote(raw)
		if !ok {
			return errKeyMalformed
		}
		r.IdempotencyKey = key
	default:
		return nil
	}
	if n := len(r.IdempotencyKey); n == 0 || n > maxIdempotencyKey {
		return errKeyMalformed
	}
	for i := range len(r.IdempotencyKey) {
		if c := r.IdempotencyKey[i]; c < ' ' || c > '~' {
			return errKeyMalformed
		}
	}
	return nil
}

// member returns the value of a member of an object, or nil.
func member(object []byte, name string) []byte {
	for key, value := range strictjson.Members(object) {
		if k, ok := strictjson.Unquote(key); ok && k == name {
			return value
		}
	}
	return nil
}

type digest [sha256.Size]byte

// replayKey is whose call of which action has that key; a fallback has many names. Anonymous callers are told apart by address.
func (r *Request) replayKey(action int) digest {
	var room [256]byte
	b, id := room[:0], &r.Identity
	for _, part := range []string{id.App, id.Tenant, id.User, id.Scope, r.Action, r.IdempotencyKey} {
		b = appendPart(b, part)
	}
	if id.User == "" {
		addr := addressKey(r.RemoteAddr)
		b = append(b, addr[:]...)
	}
	return sha256.Sum256(binary.LittleEndian.AppendUint64(b, uint64(action)))
}

// paramsDigest is that of what the action gets: its params but for what belongs to the frame, and its files. A retry may come by
// another transport than the first call.
func (r *Request) paramsDigest() (digest, error) {
	b := make([]byte, 0, len(r.Params)+256)
	for key, value := range strictjson.Members(r.Params) {
		switch name, _ := strictjson.Unquote(key); name {
		case "action", "rayid", "traceparent", idempotencyField:
		default:
			b = appendPart(appendPart(b, name), value)
		}
	}
	for _, f := range r.Files {
		content, err := fileDigest(f)
		if err != nil {
			return digest{}, fmt.Errorf("idempotency: %w", err)
		}
		b = append(appendPart(appendPart(b, f.Field), f.Name), content...)
	}
	return sha256.Sum256(b), nil
}

// appendPart appends text so that no two lists of texts become the same.
func appendPart[T string | []byte](b []byte, text T) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(text))), text...)
}

func fileDigest(f File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	_, err = io.Copy(h, r)
	return h.Sum(nil), errors.Join(err, r.Close())
}

// idempotent wraps an action, so that of the calls with the same key one runs, and the others get its result.
func (s *Server) idempotent(action *actionState, next Next) Next {
	return func(ctx context.Context, req *Request) (any, error) {
		if err := req.readIdempotencyKey(); err != nil {
			return nil, err
		}
		if req.IdempotencyKey == "" {
			return next(ctx, req)
		}
		params, err := req.paramsDigest()
		if err != nil {
			return nil, err
		}
		r, first := s.replays.enter(req.replayKey(action.number), params)
		switch {
		case r.params != params:
			return nil, errKeyReused
		case !first:
			select {
			case <-r.done:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			req.replayed = true
			return r.outcome(req)
		}
		result, e := json.RawMessage(nil), errGoexit
		defer func() { s.replays.leave(r, action, result, e) }()
		ctx, cancel := s.detach(ctx, action.timeout)
		defer cancel()
		out, err := next(ctx, req)
		if err == nil {
			result, err = encode(out)
		}
		if err != nil {
			e = asError(err)
			return nil, err
		}
		e = nil
		return req.own(result), nil
	}
}

// own returns a result for whoever called: a caller in Go may write to it.
func (r *Request) own(result json.RawMessage) json.RawMessage {
	if r.header == nil && r.conn == nil {
		return bytes.Clone(result)
	}
	return result
}

// detach returns a context that outlives the client: its retry waits for what the first call began. It ends at the action's
// timeout, and when the server gives up.
func (s *Server) detach(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx = context.WithoutCancel(ctx)
	var cancel context.CancelFunc
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	stop := context.AfterFunc(s.halted, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// A replay is a call with an idempotency key: one that runs, or its result.
type replay struct {
	key, params digest
	done        chan struct{} // closed when the call has ended; what follows is good then

	result json.RawMessage
	err    *Error
	ended  time.Time
	size   int64 // 0 if it is not kept
}

// replayOverhead is about what a replay takes beside its result, in bytes; measured.
const replayOverhead = 400

func (r *replay) outcome(req *Request) (any, error) {
	if r.err != nil {
		return nil, r.err
	}
	return req.own(r.result), nil
}

// replays are the calls with idempotency keys that run, and the results of those that ended, until they are too old or too many.
// Its methods may be called concurrently.
type replays struct {
	log   *slog.Logger
	limit int64 // bytes

	mu     sync.Mutex
	byKey  map[digest]*replay
	kept   map[*actionState]*list.List // of *replay, in the order in which they ended
	bytes  int64                       // of all that are kept
	warned time.Time                   // when it last said that it is full
}

func newReplays(log *slog.Logger, limit int64) *replays {
	return &replays{log: log, limit: limit, byKey: map[digest]*replay{}, kept: map[*actionState]*list.List{}}
}

// enter returns the call with that key, and whether it is the caller's, who must call leave.
func (p *replays) enter(key, params digest) (r *replay, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire(time.Now())
	if r = p.byKey[key]; r != nil {
		return r, false
	}
	r = &replay{key: key, params: params, done: make(chan struct{})}
	p.byKey[key] = r
	return r, true
}

// leave ends a call: those that wait get its outcome, and so do later ones, unless it is one that a retry may change.
func (p *replays) leave(r *replay, action *actionState, result json.RawMessage, e *Error) {
	r.result, r.ended = result, time.Now()
	if e != nil {
		// The cause is in the log, once.
		r.err = &Error{Code: e.code(), Message: e.Message, Fields: e.Fields, LogID: e.LogID, RetryAfter: e.RetryAfter}
	}
	close(r.done)
	p.mu.Lock()
	defer p.mu.Unlock()
	size := int64(replayOverhead + cap(result))
	if e != nil {
		size += int64(len(appendError(nil, e, "")))
	}
	if !final(e) || size > p.limit {
		delete(p.byKey, r.key)
		if final(e) {
			p.warn(r.ended)
		}
		return
	}
	r.size = size
	p.bytes += size
	if p.kept[action] == nil {
		p.kept[action] = list.New()
	}
	p.kept[action].PushBack(r)
	p.shrink(r.ended)
}

// final reports whether an outcome is the action's last word, so that a retry must not run it again.
func final(e *Error) bool {
	if e == nil {
		return true
	}
	switch e.code() {
	case CodeInternal, CodeUnavailable, CodeCanceled, CodeDeadlineExceeded, CodeRateLimited, CodeUnauthenticated:
		return false
	}
	return true
}

// expire forgets what is too old. The caller holds p.mu.
func (p *replays) expire(now time.Time) {
	for action, queue := range p.kept {
		for front := queue.Front(); front != nil && now.Sub(front.Value.(*replay).ended) >= action.Idempotency; front = queue.Front() {
			p.forget(queue)
		}
	}
}

// shrink forgets the oldest until the rest has its place. The caller holds p.mu.
func (p *replays) shrink(now time.Time) {
	for p.bytes > p.limit {
		var oldest *list.List
		for _, queue := range p.kept {
			if queue.Len() > 0 && (oldest == nil || queue.Front().Value.(*replay).ended.Before(oldest.Front().Value.(*replay).ended)) {
				oldest = queue
			}
		}
		p.forget(oldest)
		p.warn(now)
	}
}

// warn says, once a minute, that the limit is too low. The caller holds p.mu.
func (p *replays) warn(now time.Time) {
	if now.Sub(p.warned) >= time.Minute {
		p.warned = now
		p.log.Warn("results are forgotten before their time: retries of these calls would run again", "limit", "Limits.IdempotencyBytes", "bytes", p.limit)
	}
}

// forget drops the first of a queue. The caller holds p.mu.
func (p *replays) forget(queue *list.List) {
	r := queue.Remove(queue.Front()).(*replay)
	delete(p.byKey, r.key)
	p.bytes -= r.size
}
