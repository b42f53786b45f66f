//go:build !linux

package meter

import (
	"errors"
	"time"
)

var errLinux = errors.New("the benchmarks need Linux: they use epoll and /proc")

// CPU returns the CPU time that a process has used in user and in kernel mode.
func CPU(int) (user, system time.Duration, err error) { return 0, 0, errLinux }

// RSS returns the resident memory of a process in bytes.
func RSS(int) (int64, error) { return 0, errLinux }

// Load returns the load average over the last minute.
func Load() (float64, error) { return 0, errLinux }

// RaiseFiles makes sure that this process may have n file descriptors open.
func RaiseFiles(int) error { return errLinux }
