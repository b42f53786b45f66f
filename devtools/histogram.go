package devtools

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts durations in buckets whose widths grow with them: a percentile is off by at most an eighth. Its methods may
// be called concurrently.
type histogram struct{ counts [buckets]atomic.Uint64 }

const (
	buckets    = 256
	bucketUnit = 128 * time.Nanosecond // the width of the smallest; the last one begins at about an hour
)

// A snapshot is the counts of a histogram at one time.
type snapshot [buckets]uint64

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 0) / bucketUnit)
	if n < 8 {
		return int(n)
	}
	shift := bits.Len64(n) - 4
	return min(shift*8+int(n>>shift), buckets-1)
}

// bucketStart is the least duration of a bucket.
func bucketStart(i int) time.Duration {
	if i < 16 {
		return time.Duration(i) * bucketUnit
	}
	shift := i/8 - 1
	return time.Duration(i%8+8) << shift * bucketUnit
}

func (h *histogram) add(d time.Duration) { h.counts[bucketOf(d)].Add(1) }

func (h *histogram) snapshot() (s snapshot) {
	for i := range h.counts {
		s[i] = h.counts[i].Load()
	}
	return s
}

// since returns what was counted after an earlier snapshot.
func (s snapshot) since(earlier *snapshot) snapshot {
	for i := range s {
		s[i] -= earlier[i]
	}
	return s
}

func (s *snapshot) total() (n uint64) {
	for _, c := range s {
		n += c
	}
	return n
}

// percentile returns the duration that p percent of all are no longer than, within the width of its bucket; false for none at all.
func (s *snapshot) percentile(p float64) (time.Duration, bool) {
	total := s.total()
	if total == 0 {
		return 0, false
	}
	rank := uint64(p/100*float64(total-1)) + 1
	for i, c := range s {
		if rank <= c {
			return (bucketStart(i) + bucketStart(i+1)) / 2, true
		}
		rank -= c
	}
	return bucketStart(buckets - 1), true
}
