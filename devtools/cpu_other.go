//go:build !unix

package devtools

import "time"

func cpuTime() (time.Duration, bool) { return 0, false }
