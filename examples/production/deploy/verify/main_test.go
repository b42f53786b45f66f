package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mooncore/mooncore/internal/needs"
)

// The directory of the files that are tested, and the root of the repository.
const (
	deploy = ".."
	root   = "../../../.."
)

func TestMain(m *testing.M) {
	if text := os.Getenv(nodeEnv); text != "" {
		if err := runNode(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	dir, err := os.MkdirTemp("", "verify")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	image.dir = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// image is what the Dockerfile makes. It is built once, for all tests that need it.
var image struct {
	dir   string // for build and image
	once  sync.Once
	built *imageBuild
	err   error
}

// buildImage returns the image that the steps of the Dockerfile make. It skips the test where they cannot be run.
func buildImage(t *testing.T) *imageBuild {
	t.Helper()
	needs.Command(t, "git", "git")
	image.once.Do(func() { image.built, image.err = buildDockerfile(image.dir) })
	if image.err != nil {
		t.Fatal(image.err)
	}
	return image.built
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(deploy, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// replace puts what this machine has in the place of what a file says. Each must be there.
func replace(t *testing.T, text string, oldnew ...string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("%q is not there any more", oldnew[i])
		}
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	return text
}
