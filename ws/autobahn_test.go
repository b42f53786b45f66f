package ws_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mooncore/mooncore/ws"
)

// The cases have the numbers of the Autobahn test suite's that they are like.
func TestAutobahn(t *testing.T) {
	long := func(n int) string { return strings.Repeat("*", n) }
	echo := func(s string) frame { return frame{opText, s} }
	pong := func(s string) frame { return frame{opPong, s} }
	utf := "Hello-µ@ßöäüàá-UTF-8!!"
	c1000 := closing(1000, "")
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }

	type testCase struct {
		number string
		in     []byte
		want   []frame // before the close frame
		code   int
	}
	var tests []testCase
	add := func(number string, code int, in []byte, want ...frame) {
		tests = append(tests, testCase{number, in, want, code})
	}

	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536} {
		add("1.1."+string(rune('1'+i)), 1000, cat(text(long(n)), c1000), echo(long(n)))
		add("1.2."+string(rune('1'+i)), 1000, cat(masked(0x82, []byte(long(n))), c1000), frame{opBinary, long(n)})
	}

	add("2.1", 1000, cat(ping(""), c1000), pong(""))
	add("2.2", 1000, cat(ping("Hello, world!"), c1000), pong("Hello, world!"))
	add("2.3", 1000, cat(ping("\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), c1000), pong("\x00\xff\xfe\xfd\xfc\xfb\x00\xff"))
	add("2.4", 1000, cat(ping(long(125)), c1000), pong(long(125)))
	add("2.5", 1002, ping(long(126)))
	add("2.7", 1000, cat(masked(0x8A, nil), c1000))
	add("2.8", 1000, cat(masked(0x8A, []byte("unsolicited")), c1000))
	add("2.9", 1000, cat(masked(0x8A, []byte("unsolicited")), ping("x"), c1000), pong("x"))
	var pings []byte
	var pongs []frame
	for i := range 10 {
		pings = append(pings, ping("payload-"+string(rune('0'+i)))...)
		pongs = append(pongs, pong("payload-"+string(rune('0'+i))))
	}
	add("2.10", 1000, cat(pings, c1000), pongs...)

	add("3.1", 1002, masked(0x80|1<<4|opText, []byte("x")))
	add("3.2", 1002, cat(text("a"), masked(0x80|2<<4|opText, []byte("x")), ping("")), echo("a"))
	add("3.3", 1002, cat(text("a"), masked(0x80|3<<4|opText, []byte("x")), ping("")), echo("a"))
	add("3.4", 1002, cat(text("a"), masked(0x80|4<<4|opText, []byte("x")), ping("")), echo("a"))
	add("3.5", 1002, masked(0x80|5<<4|opBinary, []byte("x")))
	add("3.6", 1002, masked(0x80|6<<4|opPing, []byte("x")))
	add("3.7", 1002, masked(0x80|7<<4|opClose, nil))

	for op := byte(3); op <= 7; op++ {
		add("4.1."+string(rune('0'+op-2)), 1002, cat(text("a"), masked(0x80|op, []byte("x")), ping("")), echo("a"))
	}
	for op := byte(11); op <= 15; op++ {
		add("4.2."+string(rune('0'+op-10)), 1002, cat(text("a"), masked(0x80|op, nil), ping("")), echo("a"))
	}

	add("5.1", 1002, cat(masked(opPing, []byte("a")), last("b")))
	add("5.2", 1002, cat(masked(opPong, []byte("a")), last("b")))
	add("5.3", 1000, cat(first("a"), last("b"), c1000), echo("ab"))
	add("5.6", 1000, cat(first("a"), ping("p"), last("b"), c1000), pong("p"), echo("ab"))
	add("5.9", 1002, cat(last("x"), text("a")))
	add("5.12", 1002, cat(middle("x"), text("a")))
	add("5.15", 1002, cat(first("a"), last("b"), middle("x"), text("c")), echo("ab"))
	add("5.18", 1002, cat(first("a"), text("b")))
	add("5.19", 1000, cat(first("1"), middle("2"), ping("p"), middle("3"), middle("4"), ping("q"), last("5"), c1000),
		pong("p"), pong("q"), echo("12345"))

	add("6.1.1", 1000, cat(text(""), c1000), echo(""))
	add("6.1.2", 1000, cat(first(""), middle(""), last(""), c1000), echo(""))
	add("6.1.3", 1000, cat(first(""), middle("payload"), last(""), c1000), echo("payload"))
	add("6.2.1", 1000, cat(text(utf), c1000), echo(utf))
	add("6.2.2", 1000, cat(first(utf[:7]), last(utf[7:]), c1000), echo(utf))
	var split []byte
	for i := range len(utf) {
		switch i {
		case 0:
			split = append(split, first(utf[:1])...)
		default:
			split = append(split, middle(utf[i:i+1])...)
		}
	}
	add("6.2.3", 1000, cat(split, last(""), c1000), echo(utf))
	add("6.3.1", 1007, text("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"))
	add("6.4.1", 1007, cat(first("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"), middle("\xf4\x90\x80\x80"), last("edited")))
	for _, good := range []struct{ number, s string }{
		{"6.5.1", "κόσμε"}, {"6.7.1", "\x00"}, {"6.7.2", "\u0080"}, {"6.7.3", "\u0800"}, {"6.7.4", "\U00010000"},
		{"6.9.1", "\x7f"}, {"6.9.2", "\u07ff"}, {"6.9.3", "\uffff"}, {"6.9.4", "\U0010ffff"},
		{"6.11.1", "\ud7ff"}, {"6.11.2", "\ue000"}, {"6.11.3", "\ufffd"}, {"6.22.1", "\ufffe"}, {"6.23.1", "\ufff9"},
	} {
		add(good.number, 1000, cat(text(good.s), c1000), echo(good.s))
	}
	for _, bad := range []struct{ number, s string }{
		{"6.6.1", "\xce"}, {"6.6.3", "\xce\xba\xe1"}, {"6.8.1", "\xf8\x88\x80\x80\x80"}, {"6.8.2", "\xfc\x84\x80\x80\x80\x80"},
		{"6.10.1", "\xf7\xbf\xbf\xbf"}, {"6.10.2", "\xfb\xbf\xbf\xbf\xbf"}, {"6.11.5", "\xf4\x90\x80\x80"},
		{"6.12.1", "\x80"}, {"6.12.2", "\xbf"}, {"6.13.1", "\xc0 \xc1 "}, {"6.14.1", "\xc0"}, {"6.16.1", "\xfe"}, {"6.16.2", "\xff"},
		{"6.17.1", "\xc0\xaf"}, {"6.17.2", "\xe0\x80\xaf"}, {"6.18.1", "\xc1\xbf"}, {"6.19.1", "\xc0\x80"},
		{"6.20.1", "\xed\xa0\x80"}, {"6.20.7", "\xed\xbf\xbf"}, {"6.21.1", "\xed\xa0\x80\xed\xb0\x80"},
	} {
		add(bad.number, 1007, text(bad.s))
	}

	add("7.1.1", 1000, cat(text("Hello"), c1000), echo("Hello"))
	add("7.1.2", 1000, cat(c1000, c1000))
	add("7.1.3", 1000, cat(c1000, ping("x")))
	add("7.1.4", 1000, cat(c1000, text("x")))
	add("7.1.5", 1000, cat(first("a"), c1000, last("b")))
	add("7.1.6", 1000, cat(text(long(256<<10)), text("Hello"), c1000, ping("x")), echo(long(256<<10)), echo("Hello"))
	add("7.3.1", ws.CodeNone, masked(0x88, nil))
	add("7.3.2", 1002, masked(0x88, []byte("a")))
	add("7.3.3", 1000, c1000)
	add("7.3.4", 1000, closing(1000, "Hello World!"))
	add("7.3.5", 1000, closing(1000, long(123)))
	add("7.3.6", 1002, closing(1000, long(124)))
	add("7.5.1", 1007, closing(1000, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"))
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		add("7.7", code, closing(code, ""))
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		add("7.9", 1002, closing(code, ""))
	}

	unmasked := []byte{0x81, 1, 'a'}
	add("unmasked", 1002, cat(text("a"), unmasked), echo("a"))
	add("unmasked close", 1002, []byte{0x88, 0})
	add("length 125 in 2 bytes", 1002, []byte{0x82, 0x80 | 126, 0, 125, 1, 2, 3, 4})
	add("length 65535 in 8 bytes", 1002, []byte{0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 1, 2, 3, 4})
	add("length with the top bit set", 1002, []byte{0x82, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4})
	add("length of 2 to the 63rd minus 1", 1009, []byte{0x82, 0x80 | 127, 0x7F, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4})

	for _, test := range tests {
		for _, chop := range []int{1 << 20, 997, 1} { // 1.1.8, 2.6, 5.4 and others: the same, chopped
			if chop == 1 && len(test.in) > 1000 {
				continue
			}
			t.Run(test.number, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHandler()
					c, conn := open(t, nil, h)
					go func() {
						for b := range slices.Chunk(test.in, chop) {
							if _, err := c.conn.Write(b); err != nil {
								return
							}
						}
					}()
					var got []frame
					for {
						f, err := readFrame(c.r)
						if err != nil {
							if !errors.Is(err, io.EOF) {
								t.Error(err)
							}
							break
						}
						got = append(got, f)
					}
					if len(got) == 0 || got[len(got)-1].op != opClose || got[len(got)-1].code() != test.code {
						t.Fatalf("chopped by %d: got %v, want close %d", chop, got, test.code)
					}
					// A pong may overtake the answer to a message, and nothing else anything.
					order := func(frames []frame) (out []frame) {
						for _, op := range []byte{opPong, opText, opBinary} {
							for _, f := range frames {
								if f.op == op {
									out = append(out, f)
								}
							}
						}
						return out
					}
					if got := order(got[:len(got)-1]); !slices.Equal(got, order(test.want)) {
						t.Errorf("chopped by %d: got %v, want %v", chop, got, test.want)
					}
					<-conn.Done()
					if e := <-h.closed; e.code != test.code {
						t.Errorf("Closed: %v, want %d", e, test.code)
					}
				})
			})
		}
	}
}

// A message in every possible pair of fragments, with a ping between, in every possible pair of writes.
func TestFragmentsAtEveryByte(t *testing.T) {
	const message = "zwölf"
	synctest.Test(t, func(t *testing.T) {
		c, _ := open(t, nil, newHandler())
		for i := range len(message) + 1 {
			in := bytes.Join([][]byte{first(message[:i]), ping("p"), last(message[i:])}, nil)
			for j := range len(in) + 1 {
				go func() {
					c.conn.Write(in[:j])
					c.conn.Write(in[j:])
				}()
				c.expect(frame{opPong, "p"}, frame{opText, message})
			}
		}
	})
}
