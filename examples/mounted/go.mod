module github.com/mooncore/mooncore/examples/mounted

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/gorilla/sessions v1.4.0
	github.com/mooncore/mooncore v0.0.0
)

require (
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/gorilla/securecookie v1.1.2 // indirect
	github.com/rs/cors v1.11.1 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/mooncore/mooncore => ../..
