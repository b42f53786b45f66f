//go:build !unix

package mooncore

// connLimit returns 0: the system has no limit of file descriptors that it tells.
func connLimit() int { return 0 }
