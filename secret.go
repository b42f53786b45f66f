package mooncore

import "log/slog"

// A Secret is text that prints and logs as "[redacted]". Convert it to string to use it. In the input of a [Func] it is a
// string, which observers should not record.
type Secret string

// String returns "[redacted]", or "" for an empty Secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[redacted]"
}

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// LogValue logs String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
