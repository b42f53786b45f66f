package mooncore

import (
	"cmp"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Setting is a field of a server's [Config] as it is in effect, for people to read.
type Setting struct {
	// Name is the field's, such as "Addr" or "Limits.Timeout".
	Name string `json:"name"`

	// Value is its value as text: "none" for nothing and for no limit; "[redacted]" for a secret; "set" for a function and for what
	// else has no text; a number for a list of such.
	Value string `json:"value"`

	// Source is where it came from: "default", "program" or "environment".
	Source string `json:"source"`

	// Env names the environment variables that [ConfigFromEnv] takes it from, such as "HOST, PORT"; empty for none.
	Env string `json:"env,omitempty"`
}

const (
	fromDefault     = "default"
	fromProgram     = "program"
	fromEnvironment = "environment"
)

// settingVariables are the environment variables of fields.
var settingVariables = map[string]string{
	"Addr":           "HOST, PORT",
	"Development":    "MOONCORE_ENV",
	"Logger":         "LOG_LEVEL",
	"Origins":        "CORS_ORIGINS",
	"JWT.Issuer":     "JWT_ISSUER",
	"JWT.PrivateKey": "JWT_PRIVATE_KEY, JWT_PRIVATE_KEY_FILE",
	"JWT.PublicKeys": "JWT_PUBLIC_KEY, JWT_PUBLIC_KEY_FILE",
	"SecretKeyBase":  "SECRET_KEY_BASE, SECRET_KEY_BASE_FILE",
}

// Settings lists the fields of the server's configuration in their order, those of JWT and Limits one by one.
func (s *Server) Settings() []Setting {
	return settings(reflect.ValueOf(&s.given).Elem(), reflect.ValueOf(&s.cfg).Elem(), "", s.given.sources)
}

// Config returns the configuration in effect: defaults in place of zero values, and a negative number for no limit. What it holds is
// read-only.
func (s *Server) Config() Config {
	c := s.cfg
	limits := reflect.ValueOf(&c.Limits).Elem()
	for _, v := range limits.Fields() {
		if unlimited(v) {
			v.SetInt(-1)
		}
	}
	return c
}

func settings(given, effective reflect.Value, prefix string, sources map[string]string) []Setting {
	var list []Setting
	for field, v := range effective.Fields() {
		if !field.IsExported() {
			continue
		}
		name, zero := prefix+field.Name, given.FieldByIndex(field.Index)
		if field.Type == reflect.TypeFor[JWTConfig]() || field.Type == reflect.TypeFor[Limits]() {
			list = append(list, settings(zero, v, name+".", sources)...)
			continue
		}
		setting := Setting{Name: name, Value: settingText(zero, v), Source: fromProgram, Env: settingVariables[name]}
		switch source := sources[name]; {
		case source != "":
			setting.Source = source
		case zero.IsZero():
			setting.Source = fromDefault
		}
		list = append(list, setting)
	}
	return list
}

// settingText is the text of a value in effect. Defaults that have no text, such as a function, count as nothing.
func settingText(given, v reflect.Value) string {
	switch x := v.Interface().(type) {
	case Secret:
		return orNone(x.String())
	case time.Duration:
		if x <= 0 {
			return "none"
		}
		return x.String()
	case net.Listener:
		return x.Addr().String()
	}
	switch v.Kind() {
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int, reflect.Int64:
		if v.Int() <= 0 || unlimited(v) {
			return "none"
		}
		return strconv.FormatInt(v.Int(), 10)
	case reflect.String:
		if strings.Contains(v.String(), "\n") { // keys
			return "set"
		}
		return orNone(v.String())
	case reflect.Slice:
		return listText(v)
	case reflect.Map:
		var keys []string
		for key := range v.Seq() {
			keys = append(keys, key.String())
		}
		slices.Sort(keys)
		return orNone(strings.Join(keys, ", "))
	}
	if given.IsZero() {
		return "none"
	}
	return "set"
}

// listText is the items of a list of texts, else their number.
func listText(v reflect.Value) string {
	switch list := v.Interface().(type) {
	case []string:
		return orNone(strings.Join(list, ", "))
	case []netip.Prefix:
		texts := make([]string, len(list))
		for i, p := range list {
			texts[i] = p.String()
		}
		return orNone(strings.Join(texts, ", "))
	}
	if v.Len() == 0 {
		return "none"
	}
	return strconv.Itoa(v.Len())
}

func orNone(s string) string { return cmp.Or(s, "none") }

// unlimited reports whether a field of Limits stands for no limit.
func unlimited(v reflect.Value) bool {
	switch n := v.Interface().(type) {
	case int:
		return n == noLimit
	case int64:
		return n == noLimitBytes
	}
	return false
}
