package mooncore

import (
	"math/bits"
	"strings"
)

// roleDigits are the digits of role bitmasks in tokens, the most significant one first (PROTOCOL.md section 1).
const roleDigits = "Q123456789ABCDEFGHJKLMNPRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

const (
	maxRoleDigits = 256  // of a bitmask in a token, leading zeros included
	maxRoles      = 1499 // of an app: 58^256 is a little more than 2^1499
)

// A roleMask is a set of an app's roles. Bit i, the lowest of word 0 first, is role i of Router.Roles.
type roleMask [(maxRoles + 64) / 64]uint64

func (m *roleMask) set(i int)      { m[i/64] |= 1 << (i % 64) }
func (m *roleMask) has(i int) bool { return m[i/64]>>(i%64)&1 != 0 }

// words returns how many words of m are needed to hold its highest bit.
func (m *roleMask) words() int {
	n := len(m)
	for n > 0 && m[n-1] == 0 {
		n--
	}
	return n
}

// encode returns the digits of m without leading zeros; "Q" for the empty set.
func (m roleMask) encode() string {
	var digits [maxRoleDigits + 8]byte
	i := len(digits)
	for n := m.words(); n > 0; n = m.words() {
		var rest uint64
		for w := n - 1; w >= 0; w-- {
			m[w], rest = bits.Div64(rest, m[w], uint64(len(roleDigits)))
		}
		i--
		digits[i] = roleDigits[rest]
	}
	if i == len(digits) {
		return roleDigits[:1]
	}
	return string(digits[i:])
}

// decodeRoles reads a bitmask. It reports false for an unknown digit and for more than maxRoleDigits of them.
func decodeRoles(s string) (m roleMask, ok bool) {
	if len(s) > maxRoleDigits {
		return m, false
	}
	used := 0 // words of m that are not zero
	for i := range len(s) {
		digit := strings.IndexByte(roleDigits, s[i])
		if digit < 0 {
			return roleMask{}, false
		}
		carry := uint64(digit)
		for w := range used {
			hi, lo := bits.Mul64(m[w], uint64(len(roleDigits)))
			var c uint64
			m[w], c = bits.Add64(lo, carry, 0)
			carry = hi + c
		}
		if carry != 0 {
			m[used] = carry
			used++
		}
	}
	return m, true
}
