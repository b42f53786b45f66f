// Package report makes tables, charts and verdicts of what was measured.
package report

import (
	"math"
	"slices"
)

// Median returns the median of values, NaN if there are none.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	switch {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// Spread returns half of the distance between the quartiles, as a share of the median: how much rounds differ.
func Spread(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	median := Median(sorted)
	if n < 2 || median == 0 {
		return 0
	}
	return (Median(sorted[(n+1)/2:]) - Median(sorted[:n/2])) / 2 / median
}

// PairedRatio returns the median of ours/theirs, round by round: what both suffered from in the same round cancels out. It is
// NaN if there is no round with both.
func PairedRatio(ours, theirs []float64) float64 {
	var ratios []float64
	for i := range min(len(ours), len(theirs)) {
		if r := ours[i] / theirs[i]; !math.IsNaN(r) && !math.IsInf(r, 0) {
			ratios = append(ratios, r)
		}
	}
	return Median(ratios)
}
