package embedded

import (
	"net"
	"testing"
)

func TestItself(t *testing.T) {
	for _, tt := range []struct {
		peer, own string
		want      bool
	}{
		{"127.0.0.1:6222", "127.0.0.1:6222", true},
		{"127.0.0.1:6222", "0.0.0.0:6222", true},
		{"localhost:6222", "0.0.0.0:6222", true},
		{"127.0.0.1:6223", "0.0.0.0:6222", false},
		{"192.0.2.1:6222", "0.0.0.0:6222", false}, // for documentation: nobody has it
		{"127.0.0.2:6222", "127.0.0.1:6222", false},
	} {
		own, err := net.ResolveTCPAddr("tcp", tt.own)
		if err != nil {
			t.Fatal(err)
		}
		if got := itself(t.Context(), tt.peer, own); got != tt.want {
			t.Errorf("%s is itself of %s: %t, want %t", tt.peer, tt.own, got, tt.want)
		}
	}
}
