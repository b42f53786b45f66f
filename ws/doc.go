// Package ws keeps WebSocket connections (RFC 6455): it accepts them, reads their messages, handles them in order,
// sends from a bounded queue, pings, and closes. It doesn't know what a message means.
//
// coder/websocket makes the handshake. What follows is read and written here: limits, clocks and control frames need a parser that
// follows each frame anyway, so it puts the messages together too. All that is written goes through one queue of whole frames,
// so that nothing lands inside another frame, and nothing after a close frame.
//
// An idle connection has one goroutine, its reader. Another runs while messages wait to be handled, and another while
// frames wait to be written. There is no writer goroutine and no timer.
package ws
