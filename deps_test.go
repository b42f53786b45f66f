package mooncore_test

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// What a package links, its users link too. Entries stand for a package and everything below it; one ending in "$" for that package alone.
func TestDependencies(t *testing.T) {
	const root = "github.com/mooncore/mooncore"
	tests := []struct {
		pkg       string
		forbidden []string
	}{
		{pkg: root, forbidden: []string{
			"testing",
			"github.com/modelcontextprotocol",
			"github.com/nats-io",
			"github.com/redis",
			"github.com/go-redis",
			"github.com/gomodule/redigo",
			"github.com/prometheus",
			"go.opentelemetry.io",
			root + "/devtools",
			root + "/mcpserver",
			root + "/mooncoretest",
		}},
		{pkg: root + "/examples/hello", forbidden: []string{
			"testing", "github.com/modelcontextprotocol", "github.com/expr-lang", "github.com/yuin",
			root + "/devtools", root + "/mcpserver", root + "/mooncoretest",
		}},
		{pkg: root + "/ws", forbidden: []string{root + "$", root + "/registry", root + "/pubsub", "testing"}},
		{pkg: root + "/registry", forbidden: []string{root + "$", root + "/ws", root + "/pubsub", "testing"}},
		{pkg: root + "/pubsub", forbidden: []string{root + "$", root + "/ws", root + "/registry", "testing"}},
	}
	for _, tt := range tests {
		t.Run(tt.pkg, func(t *testing.T) {
			deps := dependencies(t, tt.pkg)
			if !slices.Contains(deps, tt.pkg) {
				t.Fatalf("go list -deps %s does not list the package itself: %q", tt.pkg, deps)
			}
			for _, dep := range deps {
				if i := slices.IndexFunc(tt.forbidden, func(f string) bool { return within(dep, f) }); i >= 0 {
					t.Errorf("links %s, forbidden by %q", dep, tt.forbidden[i])
				}
			}
		})
	}
}

func within(pkg, entry string) bool {
	if exact, ok := strings.CutSuffix(entry, "$"); ok {
		return pkg == exact
	}
	return pkg == entry || strings.HasPrefix(pkg, entry+"/")
}

func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("go list -deps %s: %v\n%s", pkg, err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}
