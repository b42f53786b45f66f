module github.com/mooncore/mooncore/examples/mounted

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/gorilla/sessions v1.4.0
	github.com/mooncore/mooncore v0.0.0
)

replace github.com/mooncore/mooncore => ../..
