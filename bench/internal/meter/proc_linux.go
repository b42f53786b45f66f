package meter

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// tick is the unit of /proc/<pid>/stat: USER_HZ, which is 100 on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// CPU returns the CPU time that a process has used in user and in kernel mode, to 10 ms.
func CPU(pid int) (user, system time.Duration, err error) {
	name := fmt.Sprintf("/proc/%d/stat", pid)
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, 0, err
	}
	// The second field is the name of the program in parentheses, which may hold anything.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("%s: %d fields", name, len(fields))
	}
	u, err1 := strconv.ParseInt(string(fields[11]), 10, 64)
	s, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	if err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("%s: fields 14 and 15 are no numbers", name)
	}
	return time.Duration(u) * tick, time.Duration(s) * tick, nil
}

// RSS returns the resident memory of a process in bytes.
func RSS(pid int) (int64, error) {
	name := fmt.Sprintf("/proc/%d/smaps_rollup", pid) // exact; the counters of stat and statm lag behind
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(data) {
		if value, ok := bytes.CutPrefix(line, []byte("Rss:")); ok {
			kb, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(value), []byte("kB")))), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("%s: no Rss", name)
}

// Load returns the machine's load average over the last minute.
func Load() (float64, error) {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, err
	}
	var load float64
	_, err = fmt.Sscan(string(data), &load)
	return load, err
}

// RaiseFiles makes sure that this process may have n file descriptors open.
func RaiseFiles(n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	want := uint64(n)
	if limit.Cur >= want {
		return nil
	}
	raised := syscall.Rlimit{Cur: want, Max: max(limit.Max, want)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
		return fmt.Errorf("%d open files are needed, and %d allowed: raise the hard limit (ulimit -Hn)", n, limit.Max)
	}
	return nil
}
