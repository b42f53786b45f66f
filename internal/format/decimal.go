package format

import (
	"bytes"
	"cmp"
	"math/bits"
)

// A Decimal is the exact value of a JSON number: 0.digits × 10^point. Work on it takes time in proportion to the digits that
// were written, however large the exponent. It points into the number it was made of.
type Decimal struct {
	negative  bool
	whole     []byte // digits before the point, then those after it; no zeros at either end of the whole
	fraction  []byte
	point     int64
	isInteger bool
}

// ParseDecimal returns the value of a number that is JSON; of anything else, some value.
func ParseDecimal(number []byte) Decimal {
	d := Decimal{isInteger: true}
	if len(number) > 0 && number[0] == '-' {
		d.negative = true
		number = number[1:]
	}
	var exponent int64
	i := countDigits(number)
	d.whole, number = number[:i], number[i:]
	if len(number) > 0 && number[0] == '.' {
		i = 1 + countDigits(number[1:])
		d.fraction, number = number[1:i], number[i:]
		d.isInteger = false
	}
	if len(number) > 0 && number[0]|0x20 == 'e' {
		exponent = parseExponent(number[1:])
		d.isInteger = false
	}
	d.whole = bytes.TrimLeft(d.whole, "0")
	d.point = int64(len(d.whole)) + exponent
	d.fraction = bytes.TrimRight(d.fraction, "0")
	if len(d.whole) == 0 {
		fraction := bytes.TrimLeft(d.fraction, "0")
		d.point -= int64(len(d.fraction) - len(fraction))
		d.fraction = fraction
	}
	if len(d.fraction) == 0 {
		d.whole = bytes.TrimRight(d.whole, "0")
	}
	if d.len() == 0 {
		d.negative, d.point = false, 0
	}
	return d
}

// countDigits returns how many digits b starts with.
func countDigits(b []byte) int {
	for i, c := range b {
		if c < '0' || c > '9' {
			return i
		}
	}
	return len(b)
}

// parseExponent stops counting far beyond the length of any input, and far below where sums overflow.
func parseExponent(s []byte) int64 {
	negative := false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	var n int64
	for _, c := range s {
		if n = 10*n + int64(c-'0'); n > 1<<50 {
			n = 1 << 50
		}
	}
	if negative {
		return -n
	}
	return n
}

// IsInteger reports whether the number is spelled without fraction and exponent.
func (d Decimal) IsInteger() bool { return d.isInteger }

// Sign returns -1, 0 or 1.
func (d Decimal) Sign() int {
	switch {
	case d.len() == 0:
		return 0
	case d.negative:
		return -1
	}
	return 1
}

func (d Decimal) len() int { return len(d.whole) + len(d.fraction) }

func (d Decimal) digit(i int) byte {
	if i < len(d.whole) {
		return d.whole[i]
	}
	return d.fraction[i-len(d.whole)]
}

// Compare returns -1 if d is less than e, 0 if they are equal, 1 if d is more.
func (d Decimal) Compare(e Decimal) int {
	if c := cmp.Compare(d.Sign(), e.Sign()); c != 0 || d.Sign() == 0 {
		return c
	}
	c := cmp.Compare(d.point, e.point)
	for i := 0; c == 0 && i < d.len() && i < e.len(); i++ {
		c = cmp.Compare(d.digit(i), e.digit(i))
	}
	if c == 0 {
		c = cmp.Compare(d.len(), e.len())
	}
	if d.negative {
		return -c
	}
	return c
}

// maxDivisor is how many digits a divisor may have.
const maxDivisor = 18

// Divides reports whether d can be a divisor: it is above zero and has at most 18 significant digits.
func (d Decimal) Divides() bool { return d.Sign() > 0 && d.len() <= maxDivisor }

// MultipleOf reports whether d is a whole multiple of divisor, for which Divides is true.
func (d Decimal) MultipleOf(divisor Decimal) bool {
	if d.len() == 0 {
		return true
	}
	// Both are an integer that does not end in 0, times a power of ten.
	power := (d.point - int64(d.len())) - (divisor.point - int64(divisor.len()))
	if power < 0 {
		return false
	}
	var n, rest uint64
	for i := range divisor.len() {
		n = 10*n + uint64(divisor.digit(i)-'0')
	}
	for i := range d.len() {
		rest = (10*rest + uint64(d.digit(i)-'0')) % n
	}
	for base := 10 % n; power > 0; power >>= 1 {
		if power&1 == 1 {
			rest = mulMod(rest, base, n)
		}
		base = mulMod(base, base, n)
	}
	return rest == 0
}

func mulMod(a, b, n uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	_, rest := bits.Div64(hi, lo, n)
	return rest
}
