package ws_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/coder/websocket"

	"github.com/mooncore/mooncore/ws"
)

// Echo answers each message with itself.
type Echo struct{}

func (Echo) Urgent(c *ws.Conn, typ ws.Type, data []byte) bool {
	return false // nothing jumps the queue
}

func (Echo) Message(c *ws.Conn, typ ws.Type, data []byte) {
	c.Reply(typ, data)
}

func (Echo) Closed(c *ws.Conn, code int, reason string, err error) {
	fmt.Println("closed:", code, reason)
}

func Example() {
	conns := make(chan *ws.Conn, 1)
	group := ws.NewGroup(nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Check the Origin here: Accept doesn't.
		c := group.New(Echo{})
		if err := c.Accept(w, r); err != nil {
			return // the response has been written
		}
		c.Start()
		conns <- c
	}))
	defer server.Close()

	ctx := context.Background()
	client, _, err := websocket.Dial(ctx, server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = client.Write(ctx, websocket.MessageText, []byte("hello"))
	_, data, _ := client.Read(ctx)
	fmt.Println(string(data))
	_ = client.Close(websocket.StatusNormalClosure, "bye")
	<-(<-conns).Done()
	// Output:
	// hello
	// closed: 1000 bye
}
