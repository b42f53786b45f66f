package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
)

// An output is standard output or standard error.
type output struct {
	io.Writer
	terminal bool
	colours  bool
}

// newOutput looks at what a file is. Only a terminal gets colours, and none where NO_COLOR is set (no-color.org).
func newOutput(f *os.File) *output {
	terminal := isTerminal(f) && os.Getenv("TERM") != "dumb"
	return &output{f, terminal, terminal && os.Getenv("NO_COLOR") == ""}
}

// isTerminal reports whether a file is a device of characters, but for the null device, which programs without a terminal have.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// say writes what is no result. Where it cannot be written, nobody reads it.
func (o *output) say(format string, args ...any) { _, _ = fmt.Fprintf(o, format, args...) }

// warn writes a line that begins with "warning:".
func (o *output) warn(format string, args ...any) {
	o.say("%s "+format+"\n", append([]any{o.paint(yellow, "warning:")}, args...)...)
}

type colour string

const (
	bold   colour = "1"
	dim    colour = "2"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	cyan   colour = "36"
)

// paint returns text in a colour, where there are colours.
func (o *output) paint(c colour, text string) string {
	if !o.colours {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// printJSON writes v in one line.
func (o *output) printJSON(v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := o.Write(buf.Bytes())
	return err
}

// printRaw writes JSON that came from elsewhere, as it is, so that numbers keep their digits: in one line for programs, over several for
// people.
func (o *output) printRaw(raw []byte, oneLine bool) error {
	var buf bytes.Buffer
	indent := json.Compact
	if o.terminal && !oneLine {
		indent = func(dst *bytes.Buffer, src []byte) error { return json.Indent(dst, src, "", "  ") }
	}
	if err := indent(&buf, raw); err != nil {
		return fmt.Errorf("the answer is no JSON: %w", err)
	}
	text := buf.String() + "\n"
	if o.terminal {
		text = plain(text)
	}
	_, err := io.WriteString(o, text)
	return err
}

// plain returns a text from elsewhere without what would control a terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// indented breaks a text into lines of at most 88 characters and indents them.
func indented(indent, text string) string {
	const width = 88
	var b strings.Builder
	line := 0
	for word := range strings.FieldsSeq(text) {
		switch n := len([]rune(word)); {
		case line == 0:
			b.WriteString(indent)
			line = n
		case line+1+n > width:
			b.WriteString("\n" + indent)
			line = n
		default:
			b.WriteByte(' ')
			line += 1 + n
		}
		b.WriteString(word)
	}
	return b.String()
}
