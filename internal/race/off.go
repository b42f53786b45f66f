//go:build !race

// Package race tells tests that count allocations whether the race detector is on, under which pools lose what is put into them.
package race

// Enabled reports whether the race detector is on.
const Enabled = false
