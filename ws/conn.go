package ws

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

const (
	// kernelBuffer is how many bytes the kernel may hold for a peer that doesn't read. By default it holds megabytes.
	kernelBuffer = 64 << 10

	// lastReplies is how long the peer's close frame, or what ends the connection otherwise by the peer's doing, may wait for
	// the messages before it to be answered. It is short, so that a slow action doesn't keep the peer waiting.
	lastReplies = 100 * time.Millisecond
)

// A Handler is told what happens on a connection. One Handler may serve many.
type Handler interface {
	// Urgent is called in the reader's goroutine with each message as it is read, ahead of those that wait to be handled.
	// It returns true if it has dealt with the message, which is then not given to Message. It must not block, nor keep data.
	Urgent(c *Conn, typ Type, data []byte) bool

	// Message is called with one message at a time, in the order in which they came, in a goroutine other than the reader's.
	// data is valid until it returns, and its own to change.
	//
	// After Conn.Close no further message is handled. After the peer has closed, those that it sent before still are, with
	// Conn.Context ended.
	Message(c *Conn, typ Type, data []byte)

	// Closed is called once, after the last call of Message has returned and the socket is closed. code and reason are those of the
	// close frame that was sent or received first: CodeNone if it held none, CodeLost if there was no such frame.
	// err is nil after Conn.Close and after the peer's close frame; else it says what went wrong.
	Closed(c *Conn, code int, reason string, err error)
}

// A Conn is a WebSocket connection, the server's side. Its methods may be called concurrently, also from within a Handler.
type Conn struct {
	opts    Options
	ws      *websocket.Conn
	netConn net.Conn // as Hijack returned it
	raw     net.Conn // below TLS
	in      netConn
	handler Handler
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{}
	workers sync.WaitGroup

	mu           sync.Mutex
	out          sendQueue
	pending      []message     // waiting to be handled
	pendingBytes int64         // in pending
	working      bool          // a goroutine handles messages
	room         chan struct{} // if not nil, the reader waits for it to be closed: there is room in pending
	handled      chan struct{} // if not nil, the reader waits for it to be closed: all is handled
	leaving      *fault        // CloseAfterPending was called
	late         int           // messages read since
	reading      bool          // the reader has a message that it neither answered nor queued yet
}

type message struct {
	typ  Type
	data *[]byte
}

// Accept answers a WebSocket handshake with a new Conn: see Conn.Accept.
func Accept(w http.ResponseWriter, r *http.Request, opts *Options) (*Conn, error) {
	c := New(opts)
	if err := c.Accept(w, r); err != nil {
		return nil, err
	}
	return c, nil
}

// New returns a connection before its handshake. What is sent on it waits for Accept, so that a program can make it known to others
// before the peer learns that it is open. The caller must call Accept.
func New(opts *Options) *Conn {
	c := &Conn{opts: opts.withDefaults(), done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(c.opts.Context)
	c.out.flushing = true // until Accept
	return c
}

// Accept answers a WebSocket handshake, which may offer the sub-protocols of the options. If it fails, it has written the response,
// and the connection is no good. It must be called once.
//
// Accept doesn't look at Origin, which the caller has checked. After it the caller must call Start once; CloseNow before that is
// allowed. r may be forgotten when Accept has returned.
func (c *Conn) Accept(w http.ResponseWriter, r *http.Request) error {
	rw := w
	if canHijack(w) {
		rw = &hijacker{w, c} // else Accept refuses, or answers first that r is no handshake at all
	}
	var err error
	c.ws, err = websocket.Accept(rw, r, &websocket.AcceptOptions{
		Subprotocols:       c.opts.Subprotocols,
		InsecureSkipVerify: true, // the origin is the caller's
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		c.lose(err, false)
		return err
	}
	c.ws.SetReadLimit(-1) // in.frames limits
	c.opened()
	return nil
}

func canHijack(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case http.Hijacker:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

// A hijacker gives coder/websocket the Conn's netConn in place of net/http's.
type hijacker struct {
	http.ResponseWriter
	c *Conn
}

func (h *hijacker) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if g, ok := h.ResponseWriter.(interface{ WriteHeaderNow() }); ok {
		g.WriteHeaderNow() // gin writes no header otherwise
	}
	conn, brw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	c := h.c
	c.mu.Lock()
	c.netConn, c.raw = conn, rawConn(conn)
	c.mu.Unlock()
	if t, ok := c.raw.(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = t.SetWriteBuffer(kernelBuffer)
	}
	c.in = netConn{Conn: conn, c: c, frames: parser{max: c.opts.MaxMessage}, buf: make([]byte, readBuffer)}
	if early := brw.Reader.Buffered(); early > 0 {
		b, _ := brw.Reader.Peek(early)
		c.in.first = slices.Clone(b)
	}
	// The smallest there are: netConn has a buffer, and coder/websocket doesn't write.
	return &c.in, bufio.NewReadWriter(bufio.NewReaderSize(&c.in, 16), bufio.NewWriterSize(&c.in, 16)), nil
}

// Start begins to read, in a goroutine of its own, so that net/http's handler can return. It must be called once.
func (c *Conn) Start(h Handler) {
	c.handler = h
	c.in.last = time.Now()
	go func() {
		defer c.finish()
		c.readLoop()
	}()
}

// Done returns a channel that is closed when Handler.Closed has returned and every goroutine of the connection has ended, but for the one
// that closes it.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Context returns a context that ends as soon as the connection is known to be closing or lost.
func (c *Conn) Context() context.Context { return c.ctx }

// Subprotocol returns the sub-protocol that was selected, or "".
func (c *Conn) Subprotocol() string { return c.ws.Subprotocol() }

// RemoteAddr returns the peer's address, which may be a proxy's.
func (c *Conn) RemoteAddr() net.Addr { return c.netConn.RemoteAddr() }

// Queued returns how many bytes wait to be sent, not counting those that the kernel holds.
func (c *Conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.waiting + c.out.inflight
}

// Send queues a message, of which it makes a copy. It never blocks on the socket. It returns false if the connection is closing, or
// closes now because too much waits: Options.SendBytes. Text must be UTF-8, which Send doesn't check.
func (c *Conn) Send(typ Type, data []byte) bool {
	if c.opts.Trace != nil && !c.isClosing() {
		c.opts.Trace(c, true, typ, data)
	}
	return c.push(newFrame(byte(typ), data))
}

// SendPrepared is like Send for a message that many connections receive: its bytes are shared.
func (c *Conn) SendPrepared(p *Prepared) bool {
	if c.opts.Trace != nil && !c.isClosing() {
		c.opts.Trace(c, true, p.typ, p.frame[p.header:])
	}
	return c.push(p.frame)
}

// A Prepared is a message framed once for all its receivers. It may be used concurrently.
type Prepared struct {
	typ    Type
	header int
	frame  []byte
}

// Prepare returns a message for SendPrepared. It copies data.
func Prepare(typ Type, data []byte) *Prepared {
	frame := newFrame(byte(typ), data)
	return &Prepared{typ, len(frame) - len(data), frame}
}

// Close closes the connection and returns at once: what is queued goes out first, within Options.WriteTimeout, then
// the close frame; when the peer's has come, or after Options.CloseGrace, the socket is closed. Messages that wait to be handled
// are dropped, and so is what is sent from now on. The first call decides on code and reason.
//
// A code that may not stand in a close frame becomes 1011, and a reason of more than 123 bytes is cut.
func (c *Conn) Close(code int, reason string) {
	if !validCode(code) {
		code = CodeInternal
	}
	c.shut(code, cutReason(reason), nil)
	c.mu.Lock()
	c.dropPendingLocked() // also when the peer closed first
	c.mu.Unlock()
}

// CloseAfterPending is like Close, once the messages read so far have been handled, and those that come meanwhile, of which it
// drops all past the first Options.Pending. A Close meanwhile takes precedence.
func (c *Conn) CloseAfterPending(code int, reason string) {
	c.mu.Lock()
	if c.leaving == nil {
		c.leaving = &fault{code, reason}
	}
	busy := c.working || c.reading
	c.mu.Unlock()
	if !busy {
		c.Close(code, reason)
	}
}

// CloseNow closes the socket. What is queued is dropped, and no close frame is sent.
func (c *Conn) CloseNow() {
	c.mu.Lock()
	c.dropPendingLocked()
	c.mu.Unlock()
	c.lose(net.ErrClosed, false)
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// pendingBytes may wait to be handled, in several messages; past it reading pauses, as past Options.Pending messages.
const pendingBytes = 256 << 10

// keepBuffer is the size of the largest buffer that is kept for another message.
const keepBuffer = 64 << 10

func putBuffer(b *[]byte) {
	if cap(*b) <= keepBuffer {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// readLoop reads messages until the stream ends or fails: in.err. When the connection is closing it reads on, for the peer's close
// frame, and drops them.
func (c *Conn) readLoop() {
	for {
		typ, r, err := c.ws.Reader(context.Background())
		if err != nil {
			return
		}
		data := buffers.Get().(*[]byte)
		*data, err = readAll(r, *data)
		if err != nil {
			putBuffer(data)
			return
		}
		if Type(typ) == Text && !utf8.Valid(*data) {
			putBuffer(data)
			c.in.err = &fault{CodeBadText, "text is not UTF-8"}
			return
		}
		switch {
		case !c.accept():
			putBuffer(data)
		case c.urgent(Type(typ), *data):
			putBuffer(data)
			c.settle()
		case !c.enqueue(message{Type(typ), data}):
			putBuffer(data)
		}
	}
}

// readAll appends to b what r returns.
func readAll(r io.Reader, b []byte) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, max(512, len(b)))
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// accept reports whether a message that was read is handled: not while the connection closes, nor when too many came since
// CloseAfterPending. If so, the connection doesn't leave before settle or enqueue.
func (c *Conn) accept() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.closing {
		return false
	}
	if c.leaving != nil {
		if c.late++; c.late > c.opts.Pending {
			return false
		}
	}
	c.reading = true
	return true
}

// settle ends what accept began, for a message that was answered at once.
func (c *Conn) settle() {
	c.mu.Lock()
	c.reading = false
	leaving := c.leaving
	working := c.working
	c.mu.Unlock()
	if leaving != nil && !working {
		c.Close(leaving.code, leaving.reason)
	}
}

// enqueue hands a message to the worker, and returns when there is room for another. It returns false if the message won't be handled.
func (c *Conn) enqueue(m message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
	if c.out.closing {
		return false
	}
	c.pending = append(c.pending, m)
	if !c.working {
		c.working = true
		c.workers.Go(c.work)
	}
	c.pendingBytes += int64(len(*m.data))
	for (len(c.pending) >= c.opts.Pending || c.pendingBytes >= pendingBytes && len(c.pending) > 1) && !c.out.closing {
		room := make(chan struct{})
		c.room = room
		c.mu.Unlock()
		<-room
		c.in.resume()
		c.mu.Lock()
	}
	return true
}

// work handles the messages that wait.
func (c *Conn) work() {
	for {
		c.mu.Lock()
		if len(c.pending) == 0 {
			c.working = false
			if cap(c.pending) > 4 {
				c.pending = nil
			}
			if c.handled != nil {
				close(c.handled)
				c.handled = nil
			}
			leaving, reading := c.leaving, c.reading
			c.mu.Unlock()
			if leaving != nil && !reading {
				c.Close(leaving.code, leaving.reason)
			}
			return
		}
		m := c.pending[0]
		c.pending = slices.Delete(c.pending, 0, 1)
		c.pendingBytes -= int64(len(*m.data))
		c.wakeReaderLocked()
		c.mu.Unlock()
		c.guard(func() { c.handler.Message(c, m.typ, *m.data) })
		putBuffer(m.data)
	}
}

func (c *Conn) wakeReaderLocked() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

func (c *Conn) dropPendingLocked() {
	for _, m := range c.pending {
		putBuffer(m.data)
	}
	c.pending, c.pendingBytes = nil, 0
}

func (c *Conn) urgent(typ Type, data []byte) (dealtWith bool) {
	c.guard(func() {
		if c.opts.Trace != nil {
			c.opts.Trace(c, false, typ, data)
		}
		dealtWith = c.handler.Urgent(c, typ, data)
	})
	return dealtWith
}

// guard calls f, and closes the connection with 1011 if it panics, or ends its goroutine.
func (c *Conn) guard(f func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		if v == nil {
			v = "runtime.Goexit called"
		}
		c.Close(CodeInternal, "internal error")
		if c.opts.Panic != nil {
			c.opts.Panic(c, v, debug.Stack())
		}
	}()
	f()
	returned = true
}

// awaitReplies waits until the messages read so far are handled, but not for long.
func (c *Conn) awaitReplies() {
	c.mu.Lock()
	if !c.working || c.out.closing {
		c.mu.Unlock()
		return
	}
	handled := make(chan struct{})
	c.handled = handled
	c.mu.Unlock()
	t := time.NewTimer(lastReplies)
	defer t.Stop()
	select {
	case <-handled:
	case <-c.ctx.Done():
	case <-t.C:
	}
}

// finish ends the connection after the last read.
func (c *Conn) finish() {
	defer close(c.done)
	var broken *fault
	switch err := c.in.err; {
	case err == nil: // Urgent has ended the goroutine: see guard
		c.in.discard()
	case errors.As(err, &broken):
		c.awaitReplies()
		c.shut(broken.code, broken.reason, broken)
		c.in.discard()
	case errors.Is(err, errPeerClosed):
		c.awaitReplies()
		c.echo(c.in.code, c.in.reason)
	default:
		c.lose(err, false)
	}
	c.out.flushers.Wait()
	if errors.Is(c.in.err, errPeerClosed) {
		_ = c.netConn.Close() // says goodbye on TLS too
	}
	_ = c.raw.Close()
	_ = c.ws.CloseNow()
	c.cancel()
	c.workers.Wait()
	c.guard(func() { c.handler.Closed(c, c.out.code, c.out.reason, c.out.err) })
}
