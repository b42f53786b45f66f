package natsbroker

import (
	"crypto/sha256"
	"encoding/base64"
)

// Subjects. Nothing is ever subscribed by a pattern.
const (
	topicSubject = "mooncore.topic." // and the topic, encoded
	peersSubject = "mooncore.peers"  // what all brokers hear
	peerSubject  = "mooncore.peer."  // and a broker's id: what that one hears
	fromSubject  = "mooncore.from."  // and an id, an epoch and more: the reply subject of a topic's messages, which nobody hears
	logSubject   = "mooncore.log."   // and a Keep, a topic, encoded, and an epoch: what a stream keeps
	inboxSubject = "mooncore.inbox"  // before what NATS adds: where answers come
)

// maxPlain bounds the topics that are written out: the server takes no line beyond 4096 bytes, and would cut the connection.
const maxPlain = 192

// subject is where a topic is published.
func subject(topic string) string { return topicSubject + token(topic) }

// token encodes a topic: base64 of its bytes, or of their SHA-256 when it is long. So no byte of a topic is a separator or a
// wildcard, and distinct topics have distinct tokens.
func token(topic string) string {
	buf := make([]byte, 0, 320)
	if len(topic) > maxPlain {
		sum := sha256.Sum256([]byte(topic))
		buf = append(buf, 'h')
		return string(base64.RawURLEncoding.AppendEncode(buf, sum[:]))
	}
	buf = append(buf, 'b')
	return string(base64.RawURLEncoding.AppendEncode(buf, []byte(topic)))
}
