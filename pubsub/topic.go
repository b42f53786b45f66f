package pubsub

import (
	"encoding/binary"
	"strings"
)

// Topic encodes a tuple as a topic: each part after its length in bytes, a varint. Distinct tuples have distinct topics,
// whatever bytes their parts hold.
func Topic(parts ...string) string {
	n := 0
	for _, part := range parts {
		n += 1 + len(part)
		for l := len(part); l >= 0x80; l >>= 7 {
			n++
		}
	}
	var b strings.Builder
	b.Grow(n)
	var length [binary.MaxVarintLen64]byte
	for _, part := range parts {
		b.Write(binary.AppendUvarint(length[:0], uint64(len(part))))
		b.WriteString(part)
	}
	return b.String()
}

// ParseTopic returns the parts of a topic that [Topic] made. ok is false for any other string.
func ParseTopic(topic string) (parts []string, ok bool) {
	return appendParts(make([]string, 0, 8), topic) // inlined, so that parts may stand on the caller's stack
}

func appendParts(parts []string, topic string) ([]string, bool) {
	for len(topic) > 0 {
		length, n := binary.Uvarint([]byte(topic[:min(len(topic), binary.MaxVarintLen64)]))
		if n <= 0 || n > 1 && topic[n-1] == 0 { // a longer spelling of the same length
			return nil, false
		}
		topic = topic[n:]
		if length > uint64(len(topic)) {
			return nil, false
		}
		parts, topic = append(parts, topic[:length]), topic[length:]
	}
	return parts, true
}
