package mooncore

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// A memory says how many bytes the process may use. 0 is unknown.
type memory struct {
	golang  int64 // GOMEMLIMIT, math.MaxInt64 when it is not set
	cgroup  int64 // the least limit of the control group and those around it
	machine int64
}

// least returns the least of the limits, and who set it; 0 if none is known.
func (m memory) least() (bytes int64, from string) {
	bytes = math.MaxInt64
	for _, limit := range []struct {
		bytes int64
		from  string
	}{{m.golang, "GOMEMLIMIT"}, {m.cgroup, "the limit of its control group"}, {m.machine, "the machine's memory"}} {
		if limit.bytes > 0 && limit.bytes < bytes {
			bytes, from = limit.bytes, limit.from
		}
	}
	if from == "" {
		return 0, ""
	}
	return bytes, from
}

// memoryLimit reads the limits from the Linux file systems below root. Other systems have none of these files.
func memoryLimit(root string) memory {
	m := memory{golang: debug.SetMemoryLimit(-1), machine: totalMemory(root)}
	data, _ := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) != 3:
		case parts[0] == "0" && parts[1] == "":
			m.addGroup(filepath.Join(root, "sys/fs/cgroup"), parts[2], "memory.max")
		case strings.Contains(","+parts[1]+",", ",memory,"):
			m.addGroup(filepath.Join(root, "sys/fs/cgroup/memory"), parts[2], "memory.limit_in_bytes")
		}
	}
	return m
}

// addGroup reads the limit of a control group and those around it. In a container, whose own group is the root of what it sees,
// the path may name one that is not there.
func (m *memory) addGroup(mount, group, file string) {
	for dir := filepath.Join("/", group); ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(mount, dir, file))
		if err == nil {
			n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64) // "max" is none
			// Version 1 has a number for "none": the largest multiple of a page.
			if err == nil && n > 0 && (m.machine == 0 || n < m.machine) && n < math.MaxInt64>>1 && (m.cgroup == 0 || n < m.cgroup) {
				m.cgroup = n
			}
		}
		if dir == "/" {
			return
		}
	}
}

// totalMemory is MemTotal of /proc/meminfo.
func totalMemory(root string) int64 {
	data, _ := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}
