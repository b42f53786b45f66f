package mooncore

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"strconv"
	"strings"
)

// ConfigFromEnv returns base with the fields set that the environment names; see each field of [Config]. A variable that is
// set wins over base, one that is unset or empty leaves base as it is. JWT_PRIVATE_KEY, JWT_PUBLIC_KEY and SECRET_KEY_BASE
// may instead name a file by JWT_PRIVATE_KEY_FILE and so on. In development without SecretKeyBase it makes one, and logs so.
// The error lists every variable that is set but wrong.
func ConfigFromEnv(base Config) (Config, error) {
	c, faults := configFromEnv(base)
	if len(faults) > 0 {
		return base, errors.Join(faults...)
	}
	if c.Development && c.SecretKeyBase == "" {
		c.SecretKeyBase, c.sources["SecretKeyBase"] = Secret(rand.Text()+rand.Text()), fromDefault
		log := c.Logger
		if log == nil {
			log = newLogger(slog.LevelInfo)
		}
		log.Debug("SECRET_KEY_BASE is not set: a random one is used, so derived keys change at each start")
	}
	return c, nil
}

// configFromEnv returns base with the fields set whose variables are good, and a fault for each that is not.
func configFromEnv(base Config) (Config, []error) {
	c := base
	var env environment
	c.sources = map[string]string{}
	maps.Copy(c.sources, base.sources)
	took := func(field string) { c.sources[field] = fromEnvironment }

	if os.Getenv("HOST") != "" || os.Getenv("PORT") != "" {
		c.Addr = env.addr(c.Addr)
		took("Addr")
	}
	switch v := os.Getenv("MOONCORE_ENV"); v {
	case "":
		if !c.Development {
			c.Development, c.sources["Development"] = true, fromDefault
		}
	case "development", "production":
		c.Development = v == "development"
		took("Development")
	default:
		env.fault("MOONCORE_ENV", `%q is neither "development" nor "production"`, v)
	}
	if v := os.Getenv("LOG_LEVEL"); v != "" {
		level, ok := logLevels[strings.ToLower(v)]
		if !ok {
			env.fault("LOG_LEVEL", "%q is none of debug, info, warn, error", v)
		} else if c.Logger == nil {
			c.Logger = newLogger(level)
			took("Logger")
		}
	}
	if v := os.Getenv("CORS_ORIGINS"); v != "" {
		c.Origins = env.origins(v)
		took("Origins")
	}
	if v := os.Getenv("JWT_ISSUER"); v != "" {
		c.JWT.Issuer = v
		took("JWT.Issuer")
	}
	if v := env.secret("JWT_PRIVATE_KEY"); v != "" {
		c.JWT.PrivateKey = Secret(v)
		took("JWT.PrivateKey")
	}
	if v := env.secret("JWT_PUBLIC_KEY"); v != "" {
		c.JWT.PublicKeys = v
		took("JWT.PublicKeys")
	}
	if v := env.secret("SECRET_KEY_BASE"); v != "" {
		if len(v) < minSecretBytes {
			env.fault("SECRET_KEY_BASE", "it has %d bytes, at least %d are needed", len(v), minSecretBytes)
		} else {
			c.SecretKeyBase = Secret(v)
			took("SecretKeyBase")
		}
	}
	c.keyFiles = env.files
	return c, env.errs
}

var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug,
	"info":  slog.LevelInfo,
	"warn":  slog.LevelWarn,
	"error": slog.LevelError,
}

// An environment reads variables and gathers what is wrong with them. Its texts name no value that may be secret.
type environment struct {
	errs  []error
	files []keyFile // that were read
}

func (e *environment) fault(name, format string, args ...any) {
	e.errs = append(e.errs, fmt.Errorf(name+": "+format, args...))
}

// addr lays HOST and PORT over addr.
func (e *environment) addr(addr string) string {
	envHost, envPort := os.Getenv("HOST"), os.Getenv("PORT")
	before := len(e.errs)
	host, port := "", "4000"
	if addr != "" {
		h, p, err := net.SplitHostPort(addr)
		switch {
		case err == nil:
			host, port = h, p
		case envHost == "" || envPort == "": // else nothing of addr is kept
			e.fault("Addr", "%q is not host:port", addr)
		}
	}
	if envHost != "" {
		h, p, ok := splitHostPort(bracketed(envHost))
		if !ok || p != "" {
			e.fault("HOST", "%q is neither a host name nor an IP address", envHost)
		}
		host = h
	}
	if envPort != "" {
		n, err := strconv.ParseUint(envPort, 10, 16)
		if err != nil {
			e.fault("PORT", "%q is not a number from 0 to 65535", envPort)
		}
		port = strconv.FormatUint(n, 10)
	}
	if len(e.errs) > before {
		return addr
	}
	return net.JoinHostPort(host, port)
}

// origins returns those of a list that are good.
func (e *environment) origins(list string) []string {
	var origins []string
	none := true
	for origin := range strings.SplitSeq(list, ",") {
		if origin = strings.TrimSpace(origin); origin != "" {
			none = false
			if _, err := parseListedOrigin(origin); err != nil {
				e.fault("CORS_ORIGINS", "%w", err)
				continue
			}
			origins = append(origins, origin)
		}
	}
	if none {
		e.fault("CORS_ORIGINS", "it names no origin")
	}
	return origins
}

// maxSecretFile is more than any key file has.
const maxSecretFile = 1 << 20

// secret returns the value of the variable, or what is in the file that the variable name_FILE names.
func (e *environment) secret(name string) string {
	value, file := os.Getenv(name), os.Getenv(name+"_FILE")
	switch {
	case file == "":
		return value
	case value != "":
		e.fault(name, "%s_FILE is set too", name)
		return ""
	}
	f, err := os.Open(file)
	if err != nil {
		e.fault(name+"_FILE", "%w", withoutPath(err))
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	text := strings.TrimRight(string(data), "\r\n")
	switch {
	case err != nil:
		e.fault(name+"_FILE", "%w", withoutPath(err))
	case len(data) > maxSecretFile:
		e.fault(name+"_FILE", "the file has more than %d bytes", maxSecretFile)
	case text == "":
		e.fault(name+"_FILE", "the file is empty")
	}
	if info, err := f.Stat(); err == nil {
		e.files = append(e.files, keyFile{name + "_FILE", file, info.Mode()})
	}
	return text
}

// withoutPath returns what went wrong with a file but not its name: somebody may have put the secret itself there.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("cannot %s the file: %w", e.Op, e.Err)
	}
	return err
}

// DeriveKey derives a key of length bytes from SecretKeyBase for one purpose, such as "session cookies", by HKDF with SHA-256
// (RFC 5869) without salt: the same key at each start, and unrelated ones for different purposes. Of two lengths for one
// purpose, the shorter key is the beginning of the longer. It fails if SecretKeyBase has less than 32 bytes, purpose is empty,
// or length is not from 1 to 8160.
func (c Config) DeriveKey(purpose string, length int) ([]byte, error) {
	switch {
	case c.SecretKeyBase == "":
		return nil, errors.New("mooncore: derive key: SecretKeyBase is empty")
	case len(c.SecretKeyBase) < minSecretBytes:
		return nil, fmt.Errorf("mooncore: derive key: SecretKeyBase has less than %d bytes", minSecretBytes)
	case purpose == "":
		return nil, errors.New("mooncore: derive key: purpose is empty")
	case length < 1 || length > 255*sha256.Size:
		return nil, fmt.Errorf("mooncore: derive key: length %d is not from 1 to %d", length, 255*sha256.Size)
	}
	return hkdf.Key(sha256.New, []byte(c.SecretKeyBase), nil, purpose, length)
}
