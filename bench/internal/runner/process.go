package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// Dir returns the directory of the bench module. It must be called in it or in a workspace that uses it.
func Dir() (string, error) {
	const module = "github.com/mooncore/mooncore/bench"
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		return "", fmt.Errorf("the go command finds no module %s: start the runner in the repository", module)
	}
	return dir, nil
}

// build compiles the package in dir/pkg to a program in out.
func build(ctx context.Context, dir, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s in %s: %w\n%s", pkg, dir, err, text)
	}
	return nil
}

// runLoad runs the load generator for one job.
func runLoad(ctx context.Context, program string, job wire.Job) (wire.Result, error) {
	input, err := json.Marshal(job)
	if err != nil {
		return wire.Result{}, err
	}
	cmd := exec.CommandContext(ctx, program)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			return wire.Result{}, errors.New(text)
		}
		return wire.Result{}, err
	}
	var result wire.Result
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		return wire.Result{}, fmt.Errorf("the load generator printed %.200q: %w", stdout.String(), err)
	}
	return result, nil
}
