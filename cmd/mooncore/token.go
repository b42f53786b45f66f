package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mooncore/mooncore"
)

// tokenFlags are those about keys and about the app that tokens are for.
type tokenFlags struct {
	keys                 list
	secret, issuer, app  string
	roles                string
	fromEnv              string // the variables that stand for missing keys
	needsPrivate, asJSON bool
}

func (t *tokenFlags) declare(fs *flag.FlagSet) {
	fs.Var(&t.keys, "key", "a `file` with a key in PEM, or a JWK set; may be given several times. Without it, "+t.fromEnv+", as a server reads them")
	fs.StringVar(&t.secret, "secret-file", "", "a `file` with the symmetric key of HS256, instead of --key")
	fs.StringVar(&t.issuer, "issuer", "", "the `text` of the claim iss; JWT_ISSUER or mooncore if not given")
	fs.StringVar(&t.app, "app", "", "the `name` of the app (Router.App); if not given, any")
	fs.StringVar(&t.roles, "app-roles", "", "the `list` Router.Roles of the app, in its order, with commas: a token holds their numbers")
	fs.BoolVar(&t.asJSON, "json", false, "write JSON in one line, for scripts")
}

// server makes a server that signs and verifies as these flags say. It serves nothing.
func (t *tokenFlags) server(c *cli, app string) (*mooncore.Server, error) {
	cfg := mooncore.Config{
		Development: true, // the keys are the user's choice, and New makes none while there is one
		Logger:      slog.New(slog.DiscardHandler),
		Routers:     []mooncore.Router{{App: app, Roles: splitList(t.roles)}},
	}
	switch {
	case t.secret != "" && len(t.keys) > 0:
		return nil, usagef("--secret-file and --key exclude each other")
	case t.secret != "":
		secret, err := c.readFile("--secret-file", t.secret)
		if err != nil {
			return nil, err
		}
		cfg.JWT.Secret = mooncore.Secret(strings.TrimSpace(secret))
	case len(t.keys) > 0:
		for _, file := range t.keys {
			text, err := c.readFile("--key", file)
			if err != nil {
				return nil, err
			}
			switch {
			case !strings.Contains(text, "PRIVATE KEY-----"):
				cfg.JWT.PublicKeys += text + "\n"
			case cfg.JWT.PrivateKey != "":
				return nil, usagef("--key: %s is a second private key; give the public half of one (mooncore keys public)", file)
			default:
				c.warnOfMode(file)
				cfg.JWT.PrivateKey = mooncore.Secret(text)
			}
		}
	default:
		env, err := mooncore.ConfigFromEnv(cfg)
		if err != nil {
			return nil, usagef("the environment has faults:\n%v", err)
		}
		cfg.JWT = env.JWT
		if cfg.JWT.PrivateKey == "" && cfg.JWT.PublicKeys == "" {
			return nil, usagef("no key: give --key FILE or --secret-file FILE, or set %s", t.fromEnv)
		}
	}
	if t.needsPrivate && cfg.JWT.PrivateKey == "" && cfg.JWT.Secret == "" {
		return nil, usagef("a public key signs nothing: give the private one")
	}
	if t.issuer != "" {
		cfg.JWT.Issuer = t.issuer
	} else if cfg.JWT.Issuer == "" {
		cfg.JWT.Issuer = c.getenv("JWT_ISSUER")
	}
	return newServer(cfg)
}

// newServer is mooncore.New with its faults as those of a command line.
func newServer(cfg mooncore.Config) (*mooncore.Server, error) {
	srv, err := mooncore.New(cfg)
	if err != nil {
		_, faults, _ := strings.Cut(err.Error(), "\n")
		return nil, usagef("%s", plain(faults))
	}
	return srv, nil
}

// end ends a server that served nothing: nothing of it runs.
func end(srv *mooncore.Server) { _ = srv.Shutdown(context.Background()) }

func splitList(text string) []string {
	if text == "" {
		return nil
	}
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// maxFile bounds what is read of a key or a token.
const maxFile = 1 << 20

// readFile reads a file that a flag, or else an argument, names; "-" is standard input.
func (c *cli) readFile(flagName, name string) (text string, err error) {
	defer func() {
		if err != nil && flagName != "" {
			err = fmt.Errorf("%s: %w", flagName, err)
		}
	}()
	in := c.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return "", err
	case len(b) > maxFile:
		return "", fmt.Errorf("%s is larger than 1 MiB", name)
	}
	return string(b), nil
}

// readLine reads a secret from standard input, where a person is asked for it.
func (c *cli) readLine(what string) (string, error) {
	if f, ok := c.in.(*os.File); ok && isTerminal(f) {
		c.err.say("%s: ", what)
		line, err := bufio.NewReader(f).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("standard input: %w", err)
		}
		return strings.TrimSpace(line), nil
	}
	text, err := c.readFile("standard input", "-")
	return strings.TrimSpace(text), err
}

func tokenMakeCommand() *command {
	return &command{
		name: "token make", args: "",
		short: "Sign a token",
		examples: `
mooncore token make --key private.pem --user alice
mooncore token make --key private.pem --user alice --tenant acme --app-roles admin,user --role user --lifetime 10m
export MOONCORE_TOKEN=$(mooncore token make --key private.pem --user alice)`,
		long: `
It writes the token, and nothing else, to standard output. The private key comes from a file or the
environment, never from the command line.`,
		flags: func(fs *flag.FlagSet) runner {
			t := &tokenFlags{fromEnv: "JWT_PRIVATE_KEY or JWT_PRIVATE_KEY_FILE", needsPrivate: true}
			t.declare(fs)
			var roles, claims list
			user := fs.String("user", "", "the `name` of the user. Required")
			tenant := fs.String("tenant", "", "the `name` of the tenant")
			scope := fs.String("scope", "", "the `name` of the scope; default if not given")
			fs.Var(&roles, "role", "a `role`; may be given several times, and needs --app-roles")
			fs.Var(&claims, "claim", "`NAME=value`, a claim of your own; NAME:=value is JSON. May be given several times")
			lifetime := fs.Duration("lifetime", 18*time.Hour, "the `duration` that it is good for, such as 10m; 18h if not given")
			return func(_ context.Context, c *cli, args []string) error {
				switch {
				case len(args) > 0:
					return usagef("%q is too much", plain(args[0]))
				case *user == "":
					return usagef("--user is missing")
				case *lifetime < time.Second:
					return usagef("--lifetime: at least 1s")
				case len(roles) > 0 && t.roles == "":
					return usagef("--role needs --app-roles: the role's number is its place in that list")
				}
				extra, err := parsePairs(claims)
				if err != nil {
					return usagef("--claim: %v", err)
				}
				srv, err := t.server(c, t.app)
				if err != nil {
					return err
				}
				defer end(srv)
				id := mooncore.Identity{
					User: *user, Tenant: *tenant, Scope: *scope, App: t.app, Roles: roles,
					Expires: time.Now().Add(*lifetime), Claims: map[string]any{},
				}
				for _, p := range extra {
					id.Claims[p.name] = p.value
				}
				token, err := srv.Token(id)
				if err != nil {
					return usagef("%v", err)
				}
				if !t.asJSON {
					_, err = fmt.Fprintln(c.out, token)
					return err
				}
				return c.out.printJSON(struct {
					Token  string          `json:"token"`
					Claims json.RawMessage `json:"claims"`
				}{token, srv.ExplainToken(token).Claims})
			}
		},
	}
}

func tokenVerifyCommand() *command {
	return &command{
		name: "token verify", args: "[FILE]",
		short: "Say whether a token is good, and why one is not",
		examples: `
mooncore token verify --key public.pem < token
mooncore token verify --key private.pem --app-roles admin,user token.txt
echo "$MOONCORE_TOKEN" | mooncore token verify --key jwks.json --json`,
		long: `
It reads the token from a file or from standard input, also with "Bearer" before it, and asks what a
server with these keys asks: its form, its header, its signature, its claims, and whether it is good
now. It does not know what a server has revoked.

It exits with 1 if the token is no good.`,
		flags: func(fs *flag.FlagSet) runner {
			t := &tokenFlags{fromEnv: "JWT_PUBLIC_KEY, JWT_PRIVATE_KEY or these with _FILE"}
			t.declare(fs)
			return func(_ context.Context, c *cli, args []string) error {
				if len(args) > 1 {
					return usagef("one file at a time, not %d", len(args))
				}
				if len(args) == 1 && strings.Count(args[0], ".") == 2 && len(args[0]) > 100 {
					return usagef("a token on the command line can be read by everybody on this machine: put it into a file, or pipe it in")
				}
				var token string
				var err error
				switch {
				case len(args) == 1 && args[0] != "-":
					token, err = c.readFile("", args[0])
				case slices.Contains(t.keys, "-") || t.secret == "-":
					return usagef("standard input can be the token or the key, not both")
				default:
					token, err = c.readLine("Token")
				}
				if err != nil {
					return err
				}
				token = bareToken(token)
				if token == "" {
					return usagef("there is no token in the input")
				}
				app := t.app
				if app == "" {
					app = appOf(token)
				}
				srv, err := t.server(c, app)
				if err != nil {
					return err
				}
				defer end(srv)
				r := srv.ExplainToken(token)
				if t.asJSON {
					err = c.out.printJSON(r)
				} else {
					err = c.printReport(&r)
				}
				if err == nil && !r.Good {
					err = errRefused
				}
				return err
			}
		},
	}
}

// bareToken takes off what stands around a token in a header.
func bareToken(text string) string {
	text = strings.TrimSpace(text)
	for _, prefix := range []string{"Authorization:", "Bearer "} {
		if len(text) > len(prefix) && strings.EqualFold(text[:len(prefix)], prefix) {
			text = strings.TrimSpace(text[len(prefix):])
		}
	}
	return text
}

// appOf is the app that a token names, whoever signed it.
func appOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		App string `json:"app"`
	}
	if json.Unmarshal(raw, &claims) != nil {
		return "" // another check says so
	}
	return claims.App
}

func (c *cli) printReport(r *mooncore.TokenReport) error {
	var b strings.Builder
	if r.Good {
		b.WriteString(c.out.paint(green, "✓ the token is good") + "\n\n")
	} else {
		b.WriteString(c.out.paint(red, "✗ the token is no good") + "\n\n")
	}
	for _, check := range r.Checks {
		mark, colour := "✓", green
		if !check.OK {
			mark, colour = "✗", red
		}
		fmt.Fprintf(&b, "%s %-10s %s\n", c.out.paint(colour, mark), check.Name, plain(check.Detail))
	}
	if len(r.Roles) > 0 {
		fmt.Fprintf(&b, "\nroles: %s\n", plain(strings.Join(r.Roles, ", ")))
	}
	for _, part := range []struct {
		name string
		raw  json.RawMessage
	}{{"header", r.Header}, {"claims", r.Claims}} {
		if len(part.raw) > 0 {
			fmt.Fprintf(&b, "\n%s\n", c.out.paint(bold, part.name))
			writeMembers(&b, part.raw)
		}
	}
	_, err := io.WriteString(c.out, b.String())
	return err
}

// writeMembers writes the members of an object, a line each, times as dates too.
func writeMembers(b *strings.Builder, raw json.RawMessage) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		fmt.Fprintf(b, "  %s\n", plain(string(raw)))
		return
	}
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := plain(string(members[name]))
		var seconds int64
		if slices.Contains([]string{"exp", "iat", "nbf"}, name) && json.Unmarshal(members[name], &seconds) == nil {
			value += "  " + time.Unix(seconds, 0).UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(b, "  %-8s %s\n", plain(name), value)
	}
}

// A pair is NAME=text or NAME:=JSON of a command line.
type pair struct {
	name  string
	value any // a string, or a json.RawMessage
}

func parsePairs(args []string) ([]pair, error) {
	pairs := make([]pair, 0, len(args))
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" || name == ":" {
			return nil, fmt.Errorf("%q is neither NAME=text nor NAME:=JSON", plain(arg))
		}
		p := pair{name, value}
		if bare, isJSON := strings.CutSuffix(name, ":"); isJSON {
			if !json.Valid([]byte(value)) {
				return nil, fmt.Errorf("%s: what follows := is no JSON", plain(bare))
			}
			p = pair{bare, json.RawMessage(value)}
		}
		if slices.ContainsFunc(pairs, func(other pair) bool { return other.name == p.name }) {
			return nil, fmt.Errorf("%s is given twice", plain(p.name))
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}
