// Chat is a chat in the browser: rooms, who is there, and private messages, on a page that comes back by itself after a
// restart of the server.
//
//	go run ./examples/chat
//
// Then open http://127.0.0.1:4000 in two windows. HOST and PORT make it listen elsewhere.
package main

import (
	"log"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/examples/chat/chat"
)

func main() {
	if err := mooncore.Run(chat.Config()); err != nil {
		log.Fatal(err)
	}
}
