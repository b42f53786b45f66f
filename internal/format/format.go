// Package format tests texts of clients: addresses, dates, numbers. It allocates nothing for all but URLs.
package format

import (
	"bytes"
	"net/netip"
	"net/url"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// Email reports whether s is something@something.something, without white space, control characters and a second "@".
func Email(s []byte) bool {
	local, domain, ok := bytes.Cut(s, []byte("@"))
	if !ok || len(local) == 0 || len(domain) < 3 || bytes.IndexByte(domain, '@') >= 0 || !visible(s) {
		return false
	}
	return bytes.IndexByte(domain[1:len(domain)-1], '.') >= 0
}

// URL reports whether s is an absolute http or https URL whose host is an IP address or a name without empty labels.
func URL(s []byte) bool {
	if !visible(s) {
		return false
	}
	u, err := url.Parse(string(s))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" {
		return false
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
	}
	host := u.Hostname()
	if len(u.Host) > 0 && u.Host[0] == '[' {
		addr, err := netip.ParseAddr(host)
		return err == nil && addr.Is6()
	}
	return hostname(host)
}

func hostname(host string) bool {
	label := 0
	for _, r := range host {
		switch {
		case r == '.':
			if label == 0 {
				return false
			}
			label = 0
			continue
		case r == '-' || r == '_' || unicode.In(r, unicode.L, unicode.M, unicode.N):
			label++
		default:
			return false
		}
	}
	return label > 0
}

// visible reports whether s has neither white space nor control characters.
func visible(s []byte) bool {
	for _, r := range string(s) {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// UUID reports whether s is a UUID as RFC 9562 section 4 writes it, in either case.
func UUID(s []byte) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !digit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return true
}

// Trimmed reports whether s neither begins nor ends with Unicode white space.
func Trimmed(s []byte) bool {
	first, _ := utf8.DecodeRune(s)
	last, _ := utf8.DecodeLastRune(s)
	return !unicode.IsSpace(first) && !unicode.IsSpace(last)
}

// Date reports whether s is a day of the calendar, written YYYY-MM-DD.
func Date(s []byte) bool {
	if len(s) != 10 || s[4] != '-' || s[7] != '-' {
		return false
	}
	year, ok1 := digits(s[:4])
	month, ok2 := digits(s[5:7])
	day, ok3 := digits(s[8:])
	if !ok1 || !ok2 || !ok3 || month < 1 || month > 12 || day < 1 {
		return false
	}
	return day <= time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// DateTime reports whether s is a date, "T" or a space, a time with seconds, perhaps a fraction of them, and an offset: "Z",
// ±hh, ±hhmm or ±hh:mm. That covers RFC 3339, leap seconds apart.
func DateTime(s []byte) bool {
	if len(s) < 20 || !Date(s[:10]) || s[10]|0x20 != 't' && s[10] != ' ' || s[13] != ':' || s[16] != ':' {
		return false
	}
	hour, ok1 := digits(s[11:13])
	minute, ok2 := digits(s[14:16])
	second, ok3 := digits(s[17:19])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 59 {
		return false
	}
	s = s[19:]
	if s[0] == '.' || s[0] == ',' {
		n := 1
		for n < len(s) && digit(s[n]) {
			n++
		}
		if n == 1 {
			return false
		}
		s = s[n:]
	}
	if len(s) == 1 {
		return s[0]|0x20 == 'z'
	}
	if len(s) < 3 || s[0] != '+' && s[0] != '-' {
		return false
	}
	hour, ok := digits(s[1:3])
	if s = s[3:]; !ok || hour > 23 || len(s) == 0 {
		return ok && hour <= 23
	}
	if s[0] == ':' {
		s = s[1:]
	}
	minute, ok = digits(s)
	return ok && len(s) == 2 && minute <= 59
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// digits returns the number that a few digits make.
func digits(s []byte) (int, bool) {
	n := 0
	for _, c := range s {
		if !digit(c) {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, len(s) > 0 && len(s) <= 4
}
