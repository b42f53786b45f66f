//go:build unix

// Package pgtest starts a PostgreSQL server for tests: Debian's package postgresql is enough.
package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/mooncore/mooncore/internal/freeport"
)

// Start starts a server that ends with the test, and returns the URL of an empty database in it. It skips the test where there is
// no PostgreSQL, unless MOONCORE_TEST_REQUIRE is "all".
func Start(t testing.TB) (url string) {
	t.Helper()
	bin, err := find()
	if err != nil {
		if os.Getenv("MOONCORE_TEST_REQUIRE") == "all" {
			t.Fatalf("MOONCORE_TEST_REQUIRE=all, but there is no PostgreSQL: %v", err)
		}
		t.Skipf("no PostgreSQL to test with: %v", err)
	}
	// The server refuses to run as root. Its directory is not below t.TempDir, which other users cannot enter.
	var attr syscall.SysProcAttr
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if os.Geteuid() == 0 {
		uid, gid, err := ids("postgres")
		if err == nil {
			err = os.Chown(dir, int(uid), int(gid))
		}
		if err != nil {
			t.Fatal(err)
		}
		attr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	}
	run := func(name string, args ...string) {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, &attr
		if out, err := cmd.CombinedOutput(); err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("%s: %v\n%s%s", name, err, out, log)
		}
	}
	run("initdb", "--pgdata=data", "--username=tests", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	port := freeport.Port(t)
	start := time.Now()
	run("pg_ctl", "start", "--pgdata=data", "--wait", "--timeout=60", "--log=log", "--options",
		fmt.Sprintf("-h 127.0.0.1 -p %s -k '%s' -c fsync=off -c max_connections=100", port, dir))
	t.Cleanup(func() { run("pg_ctl", "stop", "--pgdata=data", "--mode=immediate") })
	t.Logf("PostgreSQL listens on port %s after %v", port, time.Since(start).Round(time.Millisecond))
	return fmt.Sprintf("postgres://tests@127.0.0.1:%s/postgres?sslmode=disable", port)
}

// find returns the directory of initdb, which Debian keeps out of PATH.
func find() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("initdb: %w", exec.ErrNotFound)
	}
	return filepath.Dir(slices.Max(found)), nil
}

func ids(name string) (uid, gid uint32, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	uid64, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, 0, err
	}
	gid64, err := strconv.ParseUint(u.Gid, 10, 32)
	return uint32(uid64), uint32(gid64), err
}
