package mooncore

import (
	"fmt"
	"io"
	"log/slog"
)

// A Secret is text that prints, logs and marshals as "[redacted]", or "" when it is empty. Convert it to string to use it. In the
// input of a [Func] it is a string like any other, which the schema marks as writeOnly and observers should not record; in an output
// the client gets "[redacted]".
type Secret string

// String returns "[redacted]", or "" for an empty Secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[redacted]"
}

// Format writes String, whatever the verb.
func (s Secret) Format(f fmt.State, verb rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue logs String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns String, so that JSON of a struct that holds a Secret doesn't hold it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
