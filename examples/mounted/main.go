// Mounted adds Mooncore to a net/http server that exists already: its routes and its cookie sessions stay as they are. The
// API is below /api, and a REST face stands over the same actions.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/gorilla/sessions"
	"github.com/mooncore/mooncore"
)

const cookieName = "session"

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := mooncore.ConfigFromEnv(mooncore.Config{Addr: "127.0.0.1:8080"})
	if err != nil {
		return err
	}
	handler, api, err := newSite(cfg)
	if err != nil {
		return err
	}
	server := &http.Server{Addr: cfg.Addr, Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Printf("the site is on http://%s", cfg.Addr)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	return errors.Join(api.Shutdown(ctx), server.Shutdown(ctx)) // net/http closes no WebSocket, so the API goes first
}

// newSite is the whole site: its own routes, the API, and the REST face. The caller shuts the API down.
func newSite(cfg mooncore.Config) (http.Handler, *mooncore.Server, error) {
	store, err := newStore(cfg)
	if err != nil {
		return nil, nil, err
	}
	cfg.Authenticate = fromSession(store)
	cfg.Routers = []mooncore.Router{router(&tasks{})}
	api, err := mooncore.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("The site as it was.\n")) })
	mux.HandleFunc("POST /login", login(store))
	mux.HandleFunc("POST /logout", logout(store))
	mux.Handle("/api/", http.StripPrefix("/api", api)) // /api/run, /api/ws, /api/readyz

	mux.Handle("GET /v1/tasks", api.ActionHandler("task.list")) // REST over the same actions
	mux.Handle("POST /v1/tasks", api.ActionHandler("task.create"))
	mux.Handle("GET /v1/tasks/{id}", api.ActionHandler("task.get"))
	mux.Handle("DELETE /v1/tasks/{id}", api.ActionHandler("task.delete"))

	crossSite := http.NewCrossOriginProtection() // for the site's own forms; the API checks the origin itself
	return crossSite.Handler(mux), api, nil
}

// newStore keeps sessions in cookies that are signed and encrypted with keys derived from SECRET_KEY_BASE.
func newStore(cfg mooncore.Config) (*sessions.CookieStore, error) {
	sign, err := cfg.DeriveKey("session cookies: sign", 32)
	if err != nil {
		return nil, err
	}
	encrypt, err := cfg.DeriveKey("session cookies: encrypt", 32)
	if err != nil {
		return nil, err
	}
	store := sessions.NewCookieStore(sign, encrypt)
	store.Options.HttpOnly = true
	store.Options.SameSite = http.SameSiteLaxMode
	store.Options.Secure = !cfg.Development
	store.MaxAge(int(sessionLife / time.Second))
	return store, nil
}

const sessionLife = 12 * time.Hour

// fromSession says who sent a request by the site's session cookie.
func fromSession(store *sessions.CookieStore) func(*http.Request) (mooncore.Identity, error) {
	return func(r *http.Request) (mooncore.Identity, error) {
		session, _ := store.Get(r, cookieName) // without a cookie that is good the session is empty: nobody's
		user, _ := session.Values["user"].(string)
		since, _ := session.Values["since"].(int64)
		return mooncore.Identity{
			User:    user,
			Roles:   []string{"user"},
			Expires: time.Unix(since, 0).Add(sessionLife), // WebSockets end with the session
		}, nil
	}
}

// login stands for the site's own, which would ask for a password.
func login(store *sessions.CookieStore) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user := r.FormValue("user")
		if user == "" {
			http.Error(w, "user is required", http.StatusUnprocessableEntity)
			return
		}
		session, _ := store.New(r, cookieName) // an old cookie that is no good makes a new session
		session.Values["user"], session.Values["since"] = user, time.Now().Unix()
		if err := session.Save(r, w); err != nil {
			log.Print(err)
			http.Error(w, "Internal Server Error", http.StatusInternalServerError)
		}
	}
}

func logout(store *sessions.CookieStore) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.New(r, cookieName)
		session.Options.MaxAge = -1
		if err := session.Save(r, w); err != nil {
			log.Print(err)
		}
	}
}
