package mooncore

import (
	"encoding/json"
	"math/big"
	"os"
	"strings"
	"testing"
)

func maskOf(n *big.Int) (m roleMask) {
	for i := range n.BitLen() {
		if n.Bit(i) == 1 {
			m.set(i)
		}
	}
	return m
}

func TestRoleMaskRecorded(t *testing.T) {
	var recorded struct {
		Base58 []struct{ Int, Str string } `json:"base58_encode"`
	}
	data, err := os.ReadFile("testdata/conformance/tokens.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &recorded); err != nil {
		t.Fatal(err)
	}
	if len(recorded.Base58) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range recorded.Base58 {
		n, _ := new(big.Int).SetString(v.Int, 10)
		if got := maskOf(n).encode(); got != v.Str {
			t.Errorf("encode(%s) = %q, want %q", v.Int, got, v.Str)
		}
		if got, ok := decodeRoles(v.Str); !ok || got != maskOf(n) {
			t.Errorf("decodeRoles(%q) = %v, %v, want %s", v.Str, got, ok, v.Int)
		}
	}
}

func TestRoleMask(t *testing.T) {
	power := func(n uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), n) }
	all80 := new(big.Int).Sub(power(80), big.NewInt(1))
	for _, test := range []struct {
		name, digits string
		want         *big.Int
	}{
		{"user and editor", "6", big.NewInt(6)},
		{"one digit more", "1Q", big.NewInt(58)},
		{"largest of two digits", "zz", big.NewInt(58*58 - 1)},
		{"role 79", "7B5SYbeP1KPTpA", power(79)},
		{"80 roles", "ENAt5BGo2fovdK", all80},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := maskOf(test.want).encode(); got != test.digits {
				t.Errorf("encode = %q, want %q", got, test.digits)
			}
			for _, digits := range []string{test.digits, "Q" + test.digits, strings.Repeat("Q", 200) + test.digits} {
				if got, ok := decodeRoles(digits); !ok || got != maskOf(test.want) {
					t.Errorf("decodeRoles(%q) = %v, %v", digits, got, ok)
				}
			}
		})
	}
}

func TestDecodeRolesLimits(t *testing.T) {
	for _, test := range []struct {
		name, digits string
		ok           bool
	}{
		{"empty", "", true},
		{"zeros", strings.Repeat("Q", maxRoleDigits), true},
		{"too many zeros", strings.Repeat("Q", maxRoleDigits+1), false},
		{"largest", strings.Repeat("z", maxRoleDigits), true},
		{"too many digits", strings.Repeat("z", maxRoleDigits+1), false},
		{"digit 0", "0", false},
		{"letter O", "O", false},
		{"letter I", "I", false},
		{"letter l", "l", false},
		{"space", "6 ", false},
		{"newline", "6\n", false},
		{"not ASCII", "é", false},
		{"NUL", "\x00", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			mask, ok := decodeRoles(test.digits)
			if ok != test.ok {
				t.Fatalf("ok = %v, want %v", ok, test.ok)
			}
			if !ok && mask != (roleMask{}) {
				t.Error("a refused bitmask has roles")
			}
		})
	}

	var last roleMask
	last.set(maxRoles - 1)
	digits := last.encode()
	if len(digits) > maxRoleDigits {
		t.Fatalf("the last role needs %d digits", len(digits))
	}
	if got, ok := decodeRoles(digits); !ok || got != last {
		t.Error("the last role does not come back")
	}
	if allocs := testing.AllocsPerRun(100, func() { decodeRoles(digits) }); allocs != 0 {
		t.Errorf("decodeRoles allocates %v times", allocs)
	}
}

func FuzzRoleMask(f *testing.F) {
	for _, seed := range []string{"", "Q", "6", "QQ6", "7B5SYbeP1KPTpA", "ENAt5BGo2fovdK", "0", "zz", strings.Repeat("z", 256)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, digits string) {
		want, base, known := new(big.Int), big.NewInt(58), len(digits) <= maxRoleDigits
		for i := range len(digits) {
			d := strings.IndexByte(roleDigits, digits[i])
			known = known && d >= 0
			want.Add(want.Mul(want, base), big.NewInt(int64(d)))
		}
		mask, ok := decodeRoles(digits)
		if ok != known {
			t.Fatalf("ok = %v, want %v", ok, known)
		}
		if !ok {
			return
		}
		if mask != maskOf(want) {
			t.Fatalf("decodeRoles = %v, want %v", mask, want)
		}
		short := strings.TrimLeft(digits, "Q")
		if short == "" {
			short = "Q"
		}
		if got := mask.encode(); got != short {
			t.Fatalf("encode = %q, want %q", got, short)
		}
	})
}
