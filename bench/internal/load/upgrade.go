package load

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// The key and the answer to it are those of the example in RFC 6455, section 1.3.
const (
	wsKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	wsAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

func upgradeRequest(host string, ws *wire.WebSocket, deflate bool) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", ws.Path, host)
	fmt.Fprintf(&b, "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n", wsKey)
	if deflate {
		b.WriteString("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n")
	}
	for _, line := range ws.Header {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}

// checkUpgrade returns an error if head, the response without its last line, doesn't accept the upgrade.
func checkUpgrade(head []byte, deflate bool) error {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
		return fmt.Errorf("the upgrade was refused: %.200q", head)
	}
	if !bytes.Contains(head, []byte(wsAccept)) {
		return fmt.Errorf("the upgrade has no good Sec-WebSocket-Accept: %.500q", head)
	}
	if has := bytes.Contains(head, []byte("permessage-deflate")); has != deflate {
		if deflate {
			return errors.New("the server didn't accept permessage-deflate")
		}
		return errors.New("the server compresses, which nobody asked for")
	}
	return nil
}
