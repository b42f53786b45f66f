//go:build unix

package mooncore

import (
	"syscall"
	"testing"
)

func TestConnLimit(t *testing.T) {
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil || old.Cur < 256 {
		t.Skipf("cannot lower the limit of %d: %v", old.Cur, err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	}()
	lower := old
	lower.Cur = 256
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lower); err != nil {
		t.Fatal(err)
	}
	if got := connLimit(descriptorLimit()); got != 204 {
		t.Errorf("connLimit = %d of 256 descriptors, want 204", got)
	}
}
