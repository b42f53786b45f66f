// Package needs says what becomes of a test where something it needs besides Go is missing: it is skipped, or fails where the
// environment has MOONCORE_TEST_REQUIRE=all, as in CI.
package needs

import (
	"os"
	"os/exec"
	"testing"
)

// Command returns the path of a command, which is in that Debian package. Without it, the test ends: see Missing.
func Command(t testing.TB, name, debian string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name+" is not installed (Debian package "+debian+")")
	}
	return path
}

// Missing skips the test, or fails it where MOONCORE_TEST_REQUIRE is "all". what says what is missing, and how to get it.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("MOONCORE_TEST_REQUIRE") == "all" {
		t.Fatalf("MOONCORE_TEST_REQUIRE=all, but %s", what)
	}
	t.Skip(what)
}
