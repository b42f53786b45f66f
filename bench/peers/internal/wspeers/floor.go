package wspeers

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// startFloor serves with as little as can be: a read, an unmasked copy of all frames that it brought, a write. It checks nothing. A
// publish writes the same bytes to all.
func startFloor(ln net.Listener, _ Options) (Peer, error) {
	var members set[net.Conn]
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = serveFloor(conn, &members)
			}()
		}
	}()
	publish := func(payload []byte) {
		frame := append(floorHeader(nil, len(payload)), payload...)
		members.each(func(c net.Conn) { _, _ = c.Write(frame) })
	}
	return Peer{WebSocket: plain(), Publish: publish}, nil
}

func serveFloor(conn net.Conn, members *set[net.Conn]) error {
	if err := floorUpgrade(conn); err != nil {
		return err
	}
	members.add(conn)
	defer members.remove(conn)
	in, out, held := make([]byte, 4096), make([]byte, 0, 4096), 0
	for {
		n, err := conn.Read(in[held:])
		if err != nil {
			return err
		}
		data := in[:held+n]
		out = out[:0]
		for {
			used := 0
			if out, used = floorEcho(out, data); used == 0 {
				break
			}
			data = data[used:]
		}
		if len(data) == len(in) {
			return errors.New("message too large")
		}
		held = copy(in, data)
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return err
			}
		}
	}
}

func floorUpgrade(conn net.Conn) error {
	r, err := http.ReadRequest(bufio.NewReaderSize(conn, 1024))
	if err != nil {
		return err
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	return err
}

// floorEcho appends to out the answer to the frame at the start of data, and returns the frame's length, 0 if it isn't complete.
func floorEcho(out, data []byte) ([]byte, int) {
	if len(data) < 6 {
		return out, 0
	}
	size, head := int(data[1]&0x7f), 2
	if size == 126 {
		size, head = int(binary.BigEndian.Uint16(data[2:])), 4
	}
	end := head + 4 + size
	if len(data) < end {
		return out, 0
	}
	mask, payload := data[head:head+4], data[head+4:end]
	out = floorHeader(out, size)
	for i, c := range payload {
		out = append(out, c^mask[i&3])
	}
	return out, end
}

// floorHeader appends the header of a text frame.
func floorHeader(dst []byte, size int) []byte {
	if size < 126 {
		return append(dst, 0x81, byte(size))
	}
	return binary.BigEndian.AppendUint16(append(dst, 0x81, 126), uint16(size))
}
