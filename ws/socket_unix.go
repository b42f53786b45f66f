//go:build unix

package ws

import (
	"io"
	"net"
	"syscall"
)

// socketOf returns the socket of conn if it can be read and written beside conn: if conn adds nothing to it, as TLS does.
func socketOf(conn net.Conn) syscall.RawConn {
	var socket syscall.RawConn
	switch c := conn.(type) {
	case *net.TCPConn:
		socket, _ = c.SyscallConn()
	case *net.UnixConn:
		socket, _ = c.SyscallConn()
	}
	return socket
}

// readNow returns what the kernel has. Its error is errWouldBlock if that is nothing, io.EOF at the end of the stream.
func readNow(fd uintptr, b []byte) (int, error) {
	for {
		switch n, err := syscall.Read(int(fd), b); {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return 0, errWouldBlock
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// writeNow writes as much of b as the kernel takes. Its error is errWouldBlock if that is nothing.
func writeNow(fd uintptr, b []byte) (int, error) {
	for {
		switch n, err := syscall.Write(int(fd), b); {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return 0, errWouldBlock
		case err != nil:
			return 0, err
		default:
			return n, nil
		}
	}
}
