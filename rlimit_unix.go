//go:build unix

package mooncore

import (
	"math"
	"syscall"
)

// connLimit returns 80 % of the file descriptors that the process may have, 0 if that is unknown. Go raised the soft limit
// to the hard one at start.
func connLimit() int {
	var rl syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &rl); err != nil {
		return 0
	}
	return int(min(rl.Cur, math.MaxInt32) / 5 * 4)
}
