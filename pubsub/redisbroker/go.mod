module github.com/mooncore/mooncore/pubsub/redisbroker

go 1.26.0

require (
	github.com/mooncore/mooncore v0.0.0
	github.com/redis/rueidis v1.0.79
)

require (
	github.com/coder/websocket v1.8.15 // indirect
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/rs/cors v1.11.1 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/mooncore/mooncore => ../..
