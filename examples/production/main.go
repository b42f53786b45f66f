// Production is a service to start from: tasks of several tenants on PostgreSQL or SQLite, with roles, live updates, health
// checks and a clean stop, configured by its environment alone. README.md beside it explains each choice.
//
//	DEMO_LOGIN=true go run ./examples/production
//
// Then open http://127.0.0.1:4000 in two windows. The program has commands: "help" lists them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/pubsub/redisbroker"
)

const usage = `Usage: production [command]

Without a command it serves, as its environment says; README.md lists the variables.

Commands:
  health    ask the server on this machine whether it is alive; exit 1 if not
  token     print a token for a user: token -user ada -tenant acme -role admin
  version   print the version and the commit that this was built from
  help      print this
`

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "production:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	command := "serve"
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	if command != "token" && len(args) > 0 {
		return fmt.Errorf("%s takes no argument %q; try help", command, args[0])
	}
	switch command {
	case "serve":
		return serve()
	case "health":
		return health()
	case "token":
		return token(args, out)
	case "version", "-version", "--version":
		_, err := fmt.Fprintln(out, version())
		return err
	case "help", "-h", "-help", "--help":
		_, err := io.WriteString(out, usage)
		return err
	}
	return fmt.Errorf("there is no command %q; try help", command)
}

// serve runs the server until SIGTERM, and drains it.
func serve() error {
	cfg, s, store, err := setup()
	if err != nil {
		return err
	}
	if s.redisURL != "" {
		broker, err := redisbroker.Connect(s.redisURL)
		if err != nil {
			return errors.Join(fmt.Errorf("REDIS_URL: %w", err), store.Close())
		}
		cfg.Broker = broker // the server closes it
	}
	cfg.Logger.Info("starting", "version", version(), "database", store.dialect)
	return errors.Join(mooncore.Run(cfg), store.Close())
}

// setup makes everything from the environment. The caller closes the store.
func setup() (cfg mooncore.Config, s settings, st *store, err error) {
	log, err := newLogger()
	if err != nil {
		return cfg, s, nil, err
	}
	if s, err = readSettings(); err != nil {
		return cfg, s, nil, fmt.Errorf("the environment has faults:\n%w", err)
	}
	if st, err = openStore(s.databaseURL, sqliteFile, s.databaseConns); err != nil {
		return cfg, s, nil, err
	}
	return newConfig(s, st, log), s, st, nil
}

// health is for containers, which have neither a shell nor curl: it asks /livez, since who restarts what is unhealthy must not do
// so because the database is away.
func health() error {
	cfg, err := mooncore.ConfigFromEnv(mooncore.Config{Addr: "127.0.0.1:4000"})
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return err
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1" // not localhost: an empty image has no file that tells what that is
	case "::":
		host = "::1"
	}
	client := http.Client{Timeout: 3 * time.Second}
	resp, err := client.Get("http://" + net.JoinHostPort(host, port) + "/livez")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/livez answers %s", resp.Status)
	}
	return nil
}

// token prints a token that the server with the same key will take: for operators, and until you have a login of your own.
func token(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("token", flag.ContinueOnError)
	var id mooncore.Identity
	flags.StringVar(&id.User, "user", "", "the user's `name`")
	flags.StringVar(&id.Tenant, "tenant", "", "the `tenant` that the user belongs to")
	role := flags.String("role", roleMember, "admin or member")
	life := flags.Duration("for", time.Hour, "how long it is good, at most 24h")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("token takes flags only, not %q", flags.Arg(0))
	case id.User == "" || id.Tenant == "":
		return errors.New("token needs -user and -tenant")
	}
	cfg, _, store, err := setup()
	if err != nil {
		return err
	}
	id.Roles, id.Expires = []string{*role}, time.Now().Add(*life)
	text, err := sign(cfg, id)
	if err == nil {
		_, err = fmt.Fprintln(out, text)
	}
	return errors.Join(err, store.Close())
}

// sign makes the token with a server that serves nothing: it leaves the database alone, and waits for nobody.
func sign(cfg mooncore.Config, id mooncore.Identity) (string, error) {
	cfg, err := mooncore.ConfigFromEnv(cfg)
	switch {
	case err != nil:
		return "", err
	case cfg.JWT.PrivateKey == "":
		return "", errors.New("token needs the server's key, in JWT_PRIVATE_KEY or JWT_PRIVATE_KEY_FILE")
	case time.Until(id.Expires) <= 0 || time.Until(id.Expires) > cfg.JWT.MaxLifetime:
		return "", fmt.Errorf("-for is not above 0 and at most %v", cfg.JWT.MaxLifetime)
	}
	cfg.Extensions, cfg.DrainDelay = nil, -1
	srv, err := mooncore.New(cfg)
	if err != nil {
		return "", err
	}
	text, err := srv.Token(id)
	return text, errors.Join(err, srv.Shutdown(context.Background()))
}

// version says what this was built from. Go writes the commit into the binary when it builds a package in a repository.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text, commit, changed := info.Main.Version, "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	return fmt.Sprintf("%s, commit %s%s, %s", text, commit, changed, info.GoVersion)
}
