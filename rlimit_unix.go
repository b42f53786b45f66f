//go:build unix

package mooncore

import (
	"math"
	"syscall"
)

// descriptorLimit returns how many file descriptors the process may have, 0 if that is unknown. Go raised the soft limit to the
// hard one at start.
func descriptorLimit() int {
	var rl syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &rl); err != nil {
		return 0
	}
	return int(min(rl.Cur, math.MaxInt32))
}
