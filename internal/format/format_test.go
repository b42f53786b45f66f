package format_test

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/format"
)

func TestFormats(t *testing.T) {
	for _, tt := range []struct {
		name      string
		test      func([]byte) bool
		good, bad []string
	}{
		{"email", format.Email,
			[]string{"a@b.c", "a.b+c@d.e.f", "é@ü.de", "a@b..c"},
			[]string{"", "a", "a@", "@b.c", "a@b", "a@b.", "a@.b", "a b@c.d", "a@b@c.d", "a@b.c\n", "a@b .c", "a\u00a0@b.c",
				"a\x00@b.c", "@", "a@.."}},
		{"url", format.URL,
			[]string{"http://a", "https://a.b/c?d=e#f", "HTTP://a.b", "http://localhost:4000", "http://127.0.0.1/",
				"http://[::1]:80/", "http://ü.de",
				"http://u:p@a.b", "http://a_b.c"},
			[]string{"", "a", "//a.b", "/a", "http://", "http:///a", "http:a", "http://.x", "http://x.", "http://a..b",
				"http://a b", "http://a/b c",
				"ftp://a.b", "javascript:alert(1)", "http://a\n", "http://:80", "http://a:99999", "http://a:b", "http://[::1",
				"http://[a]", "http://@",
				"http://a!b", "http://%zz", "http://[127.0.0.1]"}},
		{"uuid", format.UUID,
			[]string{"00000000-0000-0000-0000-000000000000", "ffffffff-FFFF-ffff-ffff-ffffffffffff", "018f3b0a-1c2d-7e3f-8a4b-5c6d7e8f9a0b"},
			[]string{"", "018f3b0a1c2d7e3f8a4b5c6d7e8f9a0b", "018f3b0a-1c2d-7e3f-8a4b-5c6d7e8f9a0g", "{018f3b0a-1c2d-7e3f-8a4b-5c6d7e8f9a}",
				"018f3b0a-1c2d-7e3f-8a4b-5c6d7e8f9a0b\n", "018f3b0a_1c2d-7e3f-8a4b-5c6d7e8f9a0b"}},
		{"date", format.Date,
			[]string{"2024-02-29", "2000-02-29", "0000-01-01", "9999-12-31"},
			[]string{"", "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-01", "2024-01-00", "2024-04-31", "2024-1-1",
				"20240101", "2024-01-01T", "2024/01/01",
				"-024-01-01", "2024-+1-01"}},
		{"datetime", format.DateTime,
			[]string{"2024-02-29T23:59:59Z", "2024-02-29T00:00:00.123456789012+02:30", "2024-02-29T00:00:00-0230", "2024-02-29T00:00:00+02",
				"2024-02-29 00:00:00Z", "2024-02-29t00:00:00z", "2024-02-29T00:00:00,5Z"},
			[]string{"", "2024-02-29", "2024-02-29T00:00:00", "2024-02-29T00:00Z", "2024-02-30T00:00:00Z",
				"2024-02-29T24:00:00Z", "2024-02-29T00:60:00Z",
				"2024-02-29T00:00:60Z", "2024-02-29T00:00:00.Z", "2024-02-29T00:00:00.5", "2024-02-29T00:00:00+", "2024-02-29T00:00:00+2",
				"2024-02-29T00:00:00+24:00", "2024-02-29T00:00:00+02:60", "2024-02-29T00:00:00+02:3", "2024-02-29T00:00:00+02:",
				"2024-02-29T00:00:00+02:000",
				"2024-02-29T00:00:00Z\n", "2024-02-29x00:00:00Z", "20240229T000000Z", "2024-02-29T00:00:00Europe"}},
		{"trimmed", format.Trimmed,
			[]string{"", "a", "a b"},
			[]string{" ", " a", "a ", "a\n", "\u00a0a", "a\u2003", "\u3000", "\u0085a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, s := range tt.good {
				if !tt.test([]byte(s)) {
					t.Errorf("%q is refused", s)
				}
			}
			for _, s := range tt.bad {
				if tt.test([]byte(s)) {
					t.Errorf("%q passes", s)
				}
			}
		})
	}
}

var numbers = []string{
	"0", "-0", "0.0", "0e99", "1", "1.0", "1e0", "10e-1", "0.1e1", "100", "1e2", "-1", "-1.5", "1.5", "0.001", "1e-3",
	"123456789012345678901234567890",
	"123456789012345678901234567891", "9007199254740993", "9007199254740992", "0.30000000000000004", "0.3", "-0.3",
	"10.01", "10.010", "15", "2.5", "12e1",
}

func TestDecimalCompare(t *testing.T) {
	for _, a := range numbers {
		for _, b := range numbers {
			ra, _ := new(big.Rat).SetString(a)
			rb, _ := new(big.Rat).SetString(b)
			if got, want := format.ParseDecimal([]byte(a)).Compare(format.ParseDecimal([]byte(b))), ra.Cmp(rb); got != want {
				t.Errorf("%s compared to %s is %d; want %d", a, b, got, want)
			}
		}
	}
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"1e999999999", "1", 1},
		{"-1e999999999", "1", -1},
		{"1e-999999999", "0", 1},
		{"1e99999999999999999999999999", "1e999999999", 1},
		{"0e99999999999999999999999999", "0", 0},
		{"1e-99999999999999999999999999", "-1", 1},
		{"1" + strings.Repeat("0", 1000), "1e1000", 0},
		{"0." + strings.Repeat("0", 999) + "1", "1e-1000", 0},
	} {
		if got := format.ParseDecimal([]byte(tt.a)).Compare(format.ParseDecimal([]byte(tt.b))); got != tt.want {
			t.Errorf("%.30s compared to %.30s is %d; want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestDecimalMultipleOf(t *testing.T) {
	for _, a := range numbers {
		for _, b := range []string{"1", "5", "0.1", "2.5", "10", "0.001", "100", "7", "3e2", "999999999999999989"} {
			ra, _ := new(big.Rat).SetString(a)
			rb, _ := new(big.Rat).SetString(b)
			want := new(big.Rat).Quo(ra, rb).IsInt()
			if got := format.ParseDecimal([]byte(a)).MultipleOf(format.ParseDecimal([]byte(b))); got != want {
				t.Errorf("%s is a multiple of %s: %v; want %v", a, b, got, want)
			}
		}
	}
	for a, want := range map[string]bool{"1e999999999999": true, "3e999999999999": true, "1e-999999999999": false} {
		if got := format.ParseDecimal([]byte(a)).MultipleOf(format.ParseDecimal([]byte("5"))); got != want {
			t.Errorf("%s is a multiple of 5: %v; want %v", a, got, want)
		}
	}
	if format.ParseDecimal([]byte("1e999999999999")).MultipleOf(format.ParseDecimal([]byte("7"))) {
		t.Error("a power of ten is a multiple of 7")
	}
}

func TestDecimalKind(t *testing.T) {
	for s, want := range map[string]bool{"1": true, "-12": true, "1.0": false, "1e0": false, "1E2": false, "0": true} {
		if got := format.ParseDecimal([]byte(s)).IsInteger(); got != want {
			t.Errorf("%s is an integer: %v; want %v", s, got, want)
		}
	}
	for s, want := range map[string]bool{"1": true, "0.5": true, "0": false, "-1": false, "1234567890123456789": false, "1e99": true} {
		if got := format.ParseDecimal([]byte(s)).Divides(); got != want {
			t.Errorf("%s divides: %v; want %v", s, got, want)
		}
	}
}

// What package time writes is taken, and nothing panics.
func FuzzDateTime(f *testing.F) {
	f.Add(int64(1709251199), int64(500_000_000), int16(150), "2024-02-29T23:59:59.5+02:30")
	f.Add(int64(0), int64(0), int16(0), "2024-02-29 23:59:59,5-0230")
	f.Fuzz(func(t *testing.T, sec, nsec int64, minutes int16, s string) {
		format.DateTime([]byte(s))
		zone := time.FixedZone("", int(minutes)%(24*60)*60)
		at := time.Unix(sec, nsec).In(zone)
		if year := at.Year(); year < 0 || year > 9999 {
			return
		}
		if text := at.Format(time.RFC3339Nano); !format.DateTime([]byte(text)) {
			t.Errorf("%q is RFC 3339, but refused", text)
		}
	})
}
