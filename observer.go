package mooncore

// An Observer is sketched below; see DESIGN.
type Observer interface{}

// A Conn is a WebSocket connection.
type Conn struct{ _ int }
