package strictjson

import (
	"bytes"
	"iter"
	"unicode/utf16"
	"unicode/utf8"
)

// Members yields the raw key, quotes included, and the raw value of each member of an object that was scanned before. Of anything
// else it yields some of the members, or none.
func Members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		i, ok := open(object, '{')
		for ok {
			if i >= len(object) || object[i] != '"' {
				return
			}
			keyEnd := stringEnd(object, i)
			start := space(object, keyEnd)
			if start >= len(object) || object[start] != ':' {
				return
			}
			start = space(object, start+1)
			end := valueEnd(object, start)
			if end == start || !yield(object[i:keyEnd:keyEnd], object[start:end:end]) {
				return
			}
			i, ok = comma(object, end)
		}
	}
}

// Elements yields the raw elements of an array that was scanned before. Of anything else it yields some of them, or none.
func Elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		start, ok := open(array, '[')
		for ok {
			end := valueEnd(array, start)
			if end == start || !yield(array[start:end:end]) {
				return
			}
			start, ok = comma(array, end)
		}
	}
}

// Unquote returns the text of a raw JSON string. It reports false if raw is none. What [Scan] calls a fault becomes U+FFFD.
func Unquote(raw []byte) (string, bool) {
	raw = raw[space(raw, 0):]
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	end := closingQuote(raw, 0)
	if end < 0 || space(raw, end+1) != len(raw) {
		return "", false
	}
	inner := raw[1:end]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner), true
	}
	return string(appendUnquoted(make([]byte, 0, len(inner)), inner)), true
}

// AppendQuote appends s as a JSON string. It escapes what RFC 8259 says must be escaped, no more; invalid UTF-8 becomes U+FFFD.
func AppendQuote(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			if c < 0x20 {
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				dst = utf8.AppendRune(dst, utf8.RuneError)
			}
		}
		i += size
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// appendUnquoted appends the text of what stands between the quotes of a string.
func appendUnquoted(dst, inner []byte) []byte {
	for i := 0; i < len(inner); {
		c := inner[i]
		switch {
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(inner[i:])
			dst = utf8.AppendRune(dst, r)
			i += size
			continue
		case c != '\\' || i+1 >= len(inner):
			dst = append(dst, c)
			i++
			continue
		}
		switch c = inner[i+1]; c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hex4(inner[i:])
			i += 6
			if utf16.IsSurrogate(r) {
				if pair := utf16.DecodeRune(r, hex4(inner[min(i, len(inner)):])); pair != utf8.RuneError {
					r = pair
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r) // U+FFFD for half a pair, and for -1
			continue
		}
		dst = append(dst, c)
		i += 2
	}
	return dst
}

// hex4 returns the code unit of the escape that b starts with, or -1.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range b[2:6] {
		d := hexDigit(c)
		if d < 0 {
			return -1
		}
		r = r<<4 | d
	}
	return r
}

func hexDigit(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10
	}
	return -1
}

func space(data []byte, i int) int {
	for i < len(data) && data[i] <= ' ' && (data[i] == ' ' || data[i] == '\n' || data[i] == '\r' || data[i] == '\t') {
		i++
	}
	return i
}

// open returns the offset of the first thing in an object or array, and whether there is one.
func open(data []byte, bracket byte) (int, bool) {
	i := space(data, 0)
	if i >= len(data) || data[i] != bracket {
		return i, false
	}
	i = space(data, i+1)
	return i, i < len(data) && data[i] != bracket+2
}

// comma returns the offset of what follows the comma at i, and whether there is one.
func comma(data []byte, i int) (int, bool) {
	i = space(data, i)
	if i >= len(data) || data[i] != ',' {
		return i, false
	}
	return space(data, i+1), true
}

// closingQuote returns the offset of the quote that ends the string which starts at i, or -1.
func closingQuote(data []byte, i int) int {
	const short = 32 // calls of IndexByte pay off beyond
	for j := i + 1; j < min(i+short, len(data)) && data[j] != '\\'; j++ {
		if data[j] == '"' {
			return j
		}
	}
	for i++; i < len(data); i++ {
		n := bytes.IndexByte(data[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		escapes := 0
		for data[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
	return -1
}

// stringEnd returns the offset after the string that starts at i, len(data) if it has no end.
func stringEnd(data []byte, i int) int {
	if end := closingQuote(data, i); end >= 0 {
		return end + 1
	}
	return len(data)
}

// valueEnd returns the offset after the value that starts at i.
func valueEnd(data []byte, i int) int {
	depth := 0
	for i < len(data) {
		switch data[i] {
		case '"':
			i = stringEnd(data, i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
			i++
		case ',', ':', ' ', '\n', '\r', '\t':
			if depth == 0 {
				return i
			}
			i++
			continue
		default: // a number or a literal
			for i < len(data) && !delimiter(data[i]) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return i
}

func delimiter(c byte) bool {
	switch c {
	case ',', ':', ' ', '\n', '\r', '\t', '"', '{', '}', '[', ']':
		return true
	}
	return false
}
