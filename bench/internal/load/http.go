package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// postRequest returns a request of HTTP/1.1, and where the ids in it stand.
func postRequest(host string, h *wire.HTTP) (request []byte, ids [][]maskedID) {
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nContent-Length: %d\r\n", h.Path, host, len(h.Request))
	for _, line := range h.Header {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	head := b.Len()
	var places []maskedID
	for _, at := range newTemplate(h.Request).places {
		places = append(places, maskedID{at: head + at, phase: unmasked})
	}
	return []byte(b.String() + h.Request), [][]maskedID{places}
}

// readResponse returns the body of the response at the start of data, and its whole length, 0 if it isn't complete. A response
// that isn't 200, or that ends the connection, is an error. The body lies in data, which a chunked one changes.
func readResponse(data []byte) (body []byte, used int, err error) {
	head, _, ok := bytes.Cut(data, []byte("\r\n\r\n"))
	if !ok {
		return nil, 0, nil
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return nil, 0, fmt.Errorf("the response is %.300q", data)
	}
	length, chunked := -1, false
	for _, rest, more := bytes.Cut(head, []byte("\r\n")); more; {
		var line []byte
		line, rest, more = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return nil, 0, fmt.Errorf("the length of a response is %.40q", value)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(value, []byte("close")):
			return nil, 0, errors.New("the server wants to close the connection")
		}
	}
	body, used = data[len(head)+4:], len(head)+4
	if chunked {
		body, n, err := joinChunks(body)
		if err != nil || n == 0 {
			return nil, 0, err
		}
		return body, used + n, nil
	}
	if length < 0 {
		return nil, 0, errors.New("a response has no length")
	}
	if len(body) < length {
		return nil, 0, nil
	}
	return body[:length], used + length, nil
}

// joinChunks returns the chunks at the start of data joined, and their whole length, 0 if some are missing. It changes data only
// when all are there.
func joinChunks(data []byte) (body []byte, used int, err error) {
	type span struct{ from, to int }
	var spans [16]span
	chunks := spans[:0]
	for {
		line, _, ok := bytes.Cut(data[used:], []byte("\r\n"))
		if !ok {
			return nil, 0, nil
		}
		n, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return nil, 0, fmt.Errorf("the length of a chunk is %.40q", line)
		}
		from := used + len(line) + 2
		to := from + int(n)
		if len(data) < to+2 {
			return nil, 0, nil
		}
		used = to + 2
		if n == 0 {
			break
		}
		chunks = append(chunks, span{from, to})
	}
	for _, c := range chunks {
		body = append(body, data[c.from:c.to]...)
	}
	return body, used, nil
}
