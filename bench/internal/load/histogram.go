package load

import (
	"math/bits"
	"time"
)

// A Histogram counts durations in buckets of 1/32 of their size.
type Histogram struct {
	counts [64 * 32]uint64
	n      uint64
}

// Add counts d.
func (h *Histogram) Add(d time.Duration) {
	v := uint64(max(d, 0))
	h.counts[bucket(v)]++
	h.n++
}

// Merge adds what other has counted.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.n += other.n
}

// Quantile returns the duration that the share q of all do not exceed, 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.n))
	var seen uint64
	for i, n := range h.counts {
		if seen += n; n > 0 && seen > rank || seen == h.n && n > 0 {
			return time.Duration(middle(i))
		}
	}
	return 0
}

func bucket(v uint64) int {
	shift := max(bits.Len64(v)-6, 0)
	return shift*32 + int(v>>shift)
}

// middle returns the middle of a bucket's values.
func middle(i int) uint64 {
	if i < 64 {
		return uint64(i)
	}
	shift := i/32 - 1
	return uint64(i-shift*32)<<shift + 1<<(shift-1)
}
