package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/mooncore/mooncore"
)

const rsaBits = 3072

// newKey makes a private key for an algorithm of tokens.
func newKey(alg string) (crypto.Signer, error) {
	switch strings.ToLower(alg) {
	case "rs256":
		return rsa.GenerateKey(rand.Reader, rsaBits)
	case "es256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "eddsa":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, usagef("--alg: %q is none of RS256, ES256, EdDSA", plain(alg))
}

// privatePEM is a key as PKCS #8.
func privatePEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func publicPEM(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// writeNew writes a file that must not exist yet.
func writeNew(flagName, name string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return refusedf("%s: %s exists already, and is left as it is", flagName, name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", flagName, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", flagName, err), os.Remove(name))
	}
	return nil
}

// replace writes a file as a whole, or leaves what is there.
func replace(flagName, name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("%s: %w", flagName, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", flagName, err), os.Remove(f.Name()))
	}
	return nil
}

// warnOfMode says that others may read a private key.
func (c *cli) warnOfMode(name string) {
	if name == "-" || runtime.GOOS == "windows" {
		return
	}
	if info, err := os.Stat(name); err == nil && info.Mode().Perm()&0o077 != 0 {
		c.err.warn("%s can be read by others: chmod 600 %s", name, name)
	}
}

// A verifier knows the public halves of some keys.
func (c *cli) verifier(texts []string) (*mooncore.Server, error) {
	cfg := mooncore.Config{Development: true, Logger: slog.New(slog.DiscardHandler), Routers: []mooncore.Router{{}}}
	cfg.JWT.PublicKeys = strings.Join(texts, "\n")
	return newServer(cfg)
}

// publicHalves reads files of keys and returns their public halves as PEM; a JWK set stays one.
func (c *cli) publicHalves(files []string) ([]string, error) {
	var texts []string
	for _, file := range files {
		text, err := c.readFile("", file)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(text, "PRIVATE KEY-----") {
			texts = append(texts, text)
			continue
		}
		c.warnOfMode(file)
		key, err := parsePrivate(text)
		if err != nil {
			return nil, usagef("%s: %v", file, err)
		}
		public, err := publicPEM(key.Public())
		if err != nil {
			return nil, usagef("%s: %v", file, err)
		}
		texts = append(texts, string(public))
	}
	return texts, nil
}

// parsePrivate reads the private keys that JWTConfig.PrivateKey takes. Whether it is fit for tokens, a server says.
func parsePrivate(text string) (crypto.Signer, error) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("no PEM block that holds a private key can be read")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the key is encrypted: decrypt it first")
		default:
			continue
		}
		signer, ok := key.(crypto.Signer)
		if err != nil || !ok {
			return nil, errors.New("the PEM block of type " + block.Type + " cannot be read")
		}
		return signer, nil
	}
}

// A keySet is what JWKS returns.
type keySet struct {
	Keys []struct {
		Kid string `json:"kid"`
		Alg string `json:"alg"`
	} `json:"keys"`
}

// idOf returns the kid and the algorithm that a server gives to a public key.
func (c *cli) idOf(public []byte) (kid, alg string, err error) {
	srv, err := c.verifier([]string{string(public)})
	if err != nil {
		return "", "", err
	}
	defer end(srv)
	var set keySet
	if err := json.Unmarshal(srv.JWKS(), &set); err != nil {
		return "", "", err
	}
	return set.Keys[0].Kid, set.Keys[0].Alg, nil
}

// generate makes a key and writes it, readable for its owner alone. It returns its public half.
func generate(alg, out string) ([]byte, error) {
	key, err := newKey(alg)
	if err != nil {
		return nil, err
	}
	private, err := privatePEM(key)
	if err != nil {
		return nil, err
	}
	public, err := publicPEM(key.Public())
	if err != nil {
		return nil, err
	}
	return public, writeNew("--out", out, private, 0o600)
}

// A keyReport is what is told of a new key.
type keyReport struct {
	File   string `json:"file"`
	Alg    string `json:"alg"`
	Kid    string `json:"kid"`
	Public string `json:"public"`
}

const algUsage = "the `algorithm`: RS256 (3072 bits), ES256 or EdDSA; RS256 if not given"

func keysGenerateCommand() *command {
	return &command{
		name: "keys generate", args: "",
		short: "Make a private key that signs tokens",
		examples: `
mooncore keys generate --out private.pem
mooncore keys generate --alg EdDSA --out private.pem > public.pem`,
		long: `
The private key goes to a file that only you can read (0600) and that must not exist yet. Give it to a
server as JWT_PRIVATE_KEY_FILE. The public half goes to standard output, for JWT_PUBLIC_KEY_FILE of
servers that only verify.`,
		flags: func(fs *flag.FlagSet) runner {
			asJSON := jsonFlag(fs)
			alg := fs.String("alg", "RS256", algUsage)
			out := fs.String("out", "", "the `file` for the private key. Required")
			return func(_ context.Context, c *cli, args []string) error {
				switch {
				case len(args) > 0:
					return usagef("%q is too much", plain(args[0]))
				case *out == "":
					return usagef("--out is missing: the file for the private key")
				}
				public, err := generate(*alg, *out)
				if err != nil {
					return err
				}
				kid, name, err := c.idOf(public)
				if err != nil {
					return err
				}
				if *asJSON {
					return c.out.printJSON(keyReport{*out, name, kid, string(public)})
				}
				c.err.say("%s %s holds a new key for %s, kid %s\n", c.err.paint(green, "✓"), *out, name, kid)
				_, err = c.out.Write(public)
				return err
			}
		},
	}
}

func keysPublicCommand() *command {
	return &command{
		name: "keys public", args: "FILE ...",
		short:    "Write the public halves of keys",
		examples: "mooncore keys public private.pem > public.pem",
		flags: func(fs *flag.FlagSet) runner {
			asJSON := jsonFlag(fs)
			return func(_ context.Context, c *cli, args []string) error {
				if len(args) == 0 {
					return usagef("which file? - is standard input")
				}
				texts, err := c.publicHalves(args)
				if err != nil {
					return err
				}
				srv, err := c.verifier(texts)
				if err != nil {
					return err
				}
				defer end(srv)
				text := strings.Join(texts, "")
				if !*asJSON {
					_, err = c.out.Write([]byte(text))
					return err
				}
				return c.out.printJSON(struct {
					Public string `json:"public"`
				}{text})
			}
		},
	}
}

func keysJWKSCommand() *command {
	return &command{
		name: "keys jwks", args: "FILE ...",
		short: "Write the public halves of keys as a JWK set (RFC 7517)",
		examples: `
mooncore keys jwks private.pem > jwks.json
mooncore keys jwks private.pem old-public.pem > jwks.json`,
		long: `
Others verify your tokens with it. A kid is the key's thumbprint (RFC 7638), which is what a server
writes into tokens while it has several keys.`,
		flags: func(fs *flag.FlagSet) runner {
			asJSON := jsonFlag(fs) // it is JSON in any case
			return func(_ context.Context, c *cli, args []string) error {
				if len(args) == 0 {
					return usagef("which file? - is standard input")
				}
				texts, err := c.publicHalves(args)
				if err != nil {
					return err
				}
				srv, err := c.verifier(texts)
				if err != nil {
					return err
				}
				defer end(srv)
				return c.out.printRaw(srv.JWKS(), *asJSON)
			}
		},
	}
}

func keysRotateCommand() *command {
	return &command{
		name: "keys rotate", args: "",
		short: "Make the next key, so that tokens of the old one stay good",
		examples: `
mooncore keys rotate --key private.pem --out private-2.pem --public public.pem`,
		long: `
It makes a new private key, and adds the public halves of both to the file of public keys. It changes
no private key that is there. What to do with them then, it tells: all servers must know the new key
before one of them signs with it.`,
		flags: func(fs *flag.FlagSet) runner {
			asJSON := jsonFlag(fs)
			alg := fs.String("alg", "", "the `algorithm` of the new key: RS256, ES256 or EdDSA; that of the old one if not given")
			key := fs.String("key", "", "the `file` of the key that signs now. Required")
			out := fs.String("out", "", "the `file` for the new one, which must not exist. Required")
			public := fs.String("public", "", "the `file` of public keys to add to (JWT_PUBLIC_KEY_FILE); it may not exist yet. Required")
			return func(_ context.Context, c *cli, args []string) error {
				switch {
				case len(args) > 0:
					return usagef("%q is too much", plain(args[0]))
				case *key == "" || *out == "" || *public == "":
					return usagef("--key, --out and --public are required")
				}
				return c.rotate(*asJSON, *alg, *key, *out, *public)
			}
		},
	}
}

func (c *cli) rotate(asJSON bool, alg, key, out, public string) error {
	old, err := c.publicHalves([]string{key})
	if err != nil {
		return err
	}
	_, oldAlg, err := c.idOf([]byte(old[0]))
	if err != nil {
		return err
	}
	if alg == "" {
		alg = oldAlg
	}
	known, err := os.ReadFile(public)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--public: %w", err)
	}
	text := strings.TrimSpace(string(known))
	if strings.HasPrefix(text, "{") {
		return usagef("--public: %s is a JWK set. Keep the keys in PEM, and make the set of them: mooncore keys jwks", public)
	}
	if strings.Contains(text, "PRIVATE KEY-----") {
		return usagef("--public: %s holds a private key", public)
	}
	if text != "" {
		if _, err := c.verifier([]string{text}); err != nil {
			return usagef("--public: %s: %v", public, err)
		}
		text += "\n"
	}
	fresh, err := generate(alg, out)
	if err != nil {
		return err
	}
	for _, block := range []string{old[0], string(fresh)} {
		if !strings.Contains(text, strings.TrimSpace(block)) {
			text += block
		}
	}
	if err := replace("--public", public, []byte(text)); err != nil {
		return errors.Join(err, os.Remove(out))
	}
	kid, name, err := c.idOf(fresh)
	if err != nil {
		return err
	}
	if asJSON {
		return c.out.printJSON(keyReport{out, name, kid, string(fresh)})
	}
	_, err = fmt.Fprintf(c.out, `%s %s holds a new key for %s, kid %s
%s %s has the public halves of both

1. Give %s to every server as JWT_PUBLIC_KEY_FILE, and restart them one by one.
   From then on they take tokens of both keys.
2. Give %s to those that sign, as JWT_PRIVATE_KEY_FILE, and restart them.
3. When the last token of the old key has expired (18h unless JWT.Lifetime says otherwise),
   delete %s, and make %s anew: mooncore keys public %s > %s
`, c.out.paint(green, "✓"), out, name, kid, c.out.paint(green, "✓"), public, public, out, key, public, out, public)
	return err
}
