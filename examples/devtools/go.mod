module github.com/mooncore/mooncore/examples/devtools

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/mooncore/mooncore v0.0.0
	github.com/mooncore/mooncore/devtools v0.0.0
)

require (
	github.com/expr-lang/expr v1.17.8 // indirect
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/rs/cors v1.11.1 // indirect
	github.com/yuin/goldmark v1.8.7 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace (
	github.com/mooncore/mooncore => ../..
	github.com/mooncore/mooncore/devtools => ../../devtools
)
