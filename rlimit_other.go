//go:build !unix

package mooncore

// descriptorLimit returns 0: the system has no limit of file descriptors that it tells.
func descriptorLimit() int { return 0 }
