// Package chat is the chat of the examples: rooms, who is there, and private messages, on a page that comes back by itself after a
// restart of the server.
package chat

import (
	"embed"
	"net/http"
	"strings"
	"time"

	"github.com/mooncore/mooncore"
)

//go:embed index.html chat.js chat.css icon.svg
var page embed.FS

// contentPolicy lets the page load its own files and call its own server, and nothing else. No script and no style stands in
// the HTML, and no text becomes HTML.
var contentPolicy = strings.Join([]string{
	"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
	"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
}, "; ")

func servePage() http.Handler {
	files := http.FileServerFS(page)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", contentPolicy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-cache")
		files.ServeHTTP(w, r)
	})
}

// Config is the chat, on port 4000.
func Config() mooncore.Config {
	return mooncore.Config{
		Addr:    "127.0.0.1:4000", // a chat without passwords is not for the whole network
		Routers: []mooncore.Router{newChat().router()},
		Handler: servePage(),
		JWT:     mooncore.JWTConfig{Lifetime: time.Hour, MaxLifetime: time.Hour}, // the page renews its token in time
		Limits: mooncore.Limits{
			MaxBytes:        16 << 10,
			AuthTimeout:     10 * time.Second,
			FramesPerSecond: 200,
		},
	}
}
