package load

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/mooncore/mooncore/bench/internal/traffic"
	"github.com/mooncore/mooncore/bench/internal/wire"
)

// States of a connection.
const (
	connecting = iota
	upgrading
	setup
	ready
	closed
)

// A conn is one connection of a worker.
type conn struct {
	fd      int32
	state   uint8
	step    uint8  // of the setup
	id      int    // of the answer or event that is expected next
	count   int    // of answers or events of this batch
	sent    int64  // when the batch was sent, in nanoseconds
	channel int    // its own one, in scenarios with several
	rest    []byte // the start of a message that isn't complete
}

// fill puts the name of its channel where that of the first one stands.
func (c *conn) fill(text string) string {
	return strings.ReplaceAll(text, traffic.Name(0), traffic.Name(c.channel))
}

// A worker drives its connections from one thread, by epoll.
type worker struct {
	target  syscall.SockaddrInet4
	source  int // of the next connection, counted
	channel int // of the first connection; the others follow
	upgrade []byte
	peer    *wire.WebSocket // nil for HTTP, which needs no setup
	steps   []wire.Step
	deflate bool
	onReady func(*conn) error                // after the setup
	onText  func(*conn, frame, []byte) error // gets each message, without what Lines joins, or body

	epoll    int
	conns    []conn
	open     int // of conns that are ready
	inflater inflater
	buf      []byte
	events   []syscall.EpollEvent
	now      int64 // when the last poll returned, in nanoseconds
}

// perSource is how many connections come from one address of 127.0.0.0/8, so that ports don't run out.
const perSource = 20_000

func newWorker(target netip.AddrPort, srv wire.Server, steps []wire.Step, deflate bool) (*worker, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	w := &worker{
		target: syscall.SockaddrInet4{Addr: target.Addr().As4(), Port: int(target.Port())},
		peer:   srv.WebSocket, steps: steps, deflate: deflate,
		epoll: epoll, buf: make([]byte, 256<<10), events: make([]syscall.EpollEvent, 512),
	}
	if w.peer != nil {
		w.upgrade = upgradeRequest(srv.Addr, w.peer, deflate)
	}
	return w, nil
}

// close closes all connections at once, without leaving ports in TIME_WAIT.
func (w *worker) close() {
	for i := range w.conns {
		w.closeConn(&w.conns[i])
	}
	syscall.Close(w.epoll)
}

func (w *worker) closeConn(c *conn) {
	if c.state == closed {
		return
	}
	// A reset, so that the port is free at once.
	_ = syscall.SetsockoptLinger(int(c.fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	syscall.Close(int(c.fd))
	if c.state == ready {
		w.open--
	}
	c.state = closed
}

// ipBindAddressNoPort makes bind leave the choice of a port to connect: IP_BIND_ADDRESS_NO_PORT of Linux.
const ipBindAddressNoPort = 24

// dial starts to connect conns[i].
func (w *worker) dial(i int) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	c := &w.conns[i]
	*c = conn{fd: int32(fd), channel: w.channel + i, rest: c.rest[:0]}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	if source := w.source / perSource; source > 0 {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
		addr := syscall.SockaddrInet4{Addr: [4]byte{127, 0, byte(source / 250), byte(1 + source%250)}}
		if err := syscall.Bind(fd, &addr); err != nil {
			return fmt.Errorf("bind to %v: %w", addr.Addr, err)
		}
	}
	w.source++
	if err := syscall.Connect(fd, &w.target); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT, Fd: int32(i)}
	if err := syscall.EpollCtl(w.epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// inFlight is how many connections are made at the same time.
const inFlight = 64

var errTimeout = errors.New("timeout")

// connect makes n connections and brings them through the setup.
func (w *worker) connect(n int, timeout time.Duration) error {
	w.conns = make([]conn, n)
	for i := range w.conns {
		w.conns[i].state = closed
	}
	deadline := time.Now().Add(timeout)
	for dialed := 0; w.open < n; {
		for dialed < n && dialed-w.open < inFlight {
			if err := w.dial(dialed); err != nil {
				return fmt.Errorf("connection %d: %w", dialed, err)
			}
			dialed++
		}
		if err := w.poll(100); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d connections are ready: %w", w.open, n, errTimeout)
		}
	}
	return nil
}

// poll waits for events for some milliseconds and handles them.
func (w *worker) poll(ms int) error {
	n, err := syscall.EpollWait(w.epoll, w.events, ms)
	if err != nil {
		if errors.Is(err, syscall.EINTR) {
			return nil
		}
		return fmt.Errorf("epoll_wait: %w", err)
	}
	w.now = time.Now().UnixNano()
	for _, e := range w.events[:n] {
		c := &w.conns[e.Fd]
		if c.state == closed {
			continue
		}
		if err := w.handle(c, e); err != nil {
			return fmt.Errorf("connection %d: %w", e.Fd, err)
		}
	}
	return nil
}

func (w *worker) handle(c *conn, e syscall.EpollEvent) error {
	if c.state == connecting {
		if errno, err := syscall.GetsockoptInt(int(c.fd), syscall.SOL_SOCKET, syscall.SO_ERROR); err != nil || errno != 0 {
			return fmt.Errorf("connect: %w", syscall.Errno(errno))
		}
		c.state = upgrading
		in := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: e.Fd}
		if err := syscall.EpollCtl(w.epoll, syscall.EPOLL_CTL_MOD, int(c.fd), &in); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
		if w.peer == nil {
			return w.advance(c)
		}
		return w.write(c, w.upgrade)
	}
	return w.read(c)
}

// read reads what has come and hands on what is complete.
func (w *worker) read(c *conn) error {
	held := copy(w.buf, c.rest)
	c.rest = c.rest[:0]
	n, errno := readFD(c.fd, w.buf[held:])
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		n = 0
	case errno != 0:
		return fmt.Errorf("read: %w", errno)
	case n == 0:
		return errors.New("the server has closed the connection")
	}
	data := w.buf[:held+n]
	for len(data) > 0 && c.state != closed {
		used, err := w.consume(c, data)
		if err != nil {
			return err
		}
		if used == 0 {
			if len(data) > len(w.buf)/2 {
				return fmt.Errorf("a message of more than %d bytes", len(data))
			}
			c.rest = append(c.rest, data...)
			break
		}
		data = data[used:]
	}
	return nil
}

// consume handles the message at the start of data and returns its length, 0 if it isn't complete.
func (w *worker) consume(c *conn, data []byte) (int, error) {
	if w.peer == nil {
		body, used, err := readResponse(data)
		if err != nil || used == 0 {
			return 0, err
		}
		return used, w.onText(c, frame{}, body)
	}
	if c.state == upgrading {
		head, _, ok := bytes.Cut(data, []byte("\r\n\r\n"))
		if !ok {
			return 0, nil
		}
		if err := checkUpgrade(head, w.deflate); err != nil {
			return 0, err
		}
		c.state = setup
		return len(head) + 4, w.advance(c)
	}
	f, used, err := readFrame(data)
	if err != nil || used == 0 {
		return 0, err
	}
	switch f.op {
	case opPing:
		pong, _ := appendFrame(nil, opPong, f.payload)
		return used, w.write(c, pong)
	case opPong:
		return used, nil
	case opClose:
		return used, fmt.Errorf("the server closed the connection: %q", f.payload)
	}
	text := f.payload
	if f.deflated {
		if text, err = w.inflater.inflate(text); err != nil {
			return 0, err
		}
	}
	for rest := text; ; {
		line := rest
		more := false
		if w.peer.Lines {
			line, rest, more = bytes.Cut(rest, []byte{'\n'})
		}
		if err := w.message(c, f, line); err != nil || !more || len(rest) == 0 {
			return used, err
		}
	}
}

// message handles one message of a connection that has been upgraded.
func (w *worker) message(c *conn, f frame, text []byte) error {
	if w.peer.Ping != "" && string(text) == w.peer.Ping {
		pong, _ := appendFrame(nil, opText, text)
		return w.write(c, pong)
	}
	if c.state == setup {
		if want := c.fill(w.steps[c.step].Expect); !bytes.Contains(text, []byte(want)) {
			return fmt.Errorf("step %d of the setup: got %.200q, want %q in it", c.step+1, text, want)
		}
		c.step++
		return w.advance(c)
	}
	if w.onText == nil {
		return fmt.Errorf("unexpected message %.200q", text)
	}
	return w.onText(c, f, text)
}

// advance sends the next message of the setup, or makes the connection ready.
func (w *worker) advance(c *conn) error {
	if int(c.step) == len(w.steps) {
		c.state = ready
		w.open++
		if w.onReady != nil {
			return w.onReady(c)
		}
		return nil
	}
	step := w.steps[c.step]
	if step.Send == "" {
		return nil
	}
	out, _ := appendFrame(nil, opText, []byte(c.fill(step.Send)))
	return w.write(c, out)
}

// write writes all of b. The kernel takes it at once, since little is in flight; if it doesn't, write waits for it.
func (w *worker) write(c *conn, b []byte) error {
	var deadline time.Time
	for len(b) > 0 {
		n, errno := writeFD(c.fd, b)
		switch {
		case errno == syscall.EAGAIN:
			if deadline.IsZero() {
				deadline = time.Now().Add(5 * time.Second)
			}
			if time.Now().After(deadline) {
				return errors.New("the server hasn't read for 5 s")
			}
			time.Sleep(50 * time.Microsecond)
		case errno != 0 && errno != syscall.EINTR:
			return fmt.Errorf("write: %w", errno)
		case errno == 0:
			b = b[n:]
		}
	}
	return nil
}

// readFD and writeFD are for descriptors that don't block, so the scheduler needn't know of the call.

func readFD(fd int32, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func writeFD(fd int32, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}
