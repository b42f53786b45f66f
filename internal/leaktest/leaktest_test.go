package leaktest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/mooncore/mooncore/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// childEnv tells the test binary, when it runs itself, which child to be.
const childEnv = "LEAKTEST_CHILD"

func TestChild(t *testing.T) {
	switch os.Getenv(childEnv) {
	case "":
		t.Skip("run by TestMainStatus")
	case "leak":
		go forever()
	case "late":
		done := make(chan struct{})
		go func() { <-done }()
		close(done)
	case "fail":
		t.Fail()
	}
}

func forever() { select {} }

func TestMainStatus(t *testing.T) {
	for _, tt := range []struct {
		child string
		ok    bool
		want  string
	}{
		{"none", true, ""},
		{"late", true, ""},
		{"leak", false, "leaktest_test.forever"},
		{"fail", false, "FAIL"},
	} {
		t.Run(tt.child, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
			cmd.Env = append(os.Environ(), childEnv+"="+tt.child)
			out, err := cmd.CombinedOutput()
			if (err == nil) != tt.ok || !strings.Contains(string(out), tt.want) {
				t.Errorf("error %v, want none: %t; output must contain %q:\n%s", err, tt.ok, tt.want, out)
			}
		})
	}
}
