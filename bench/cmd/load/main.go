// Command load is the load generator. The runner starts it: it reads a job as JSON on its standard input and prints its result.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/mooncore/mooncore/bench/internal/load"
	"github.com/mooncore/mooncore/bench/internal/wire"
)

// kinds are the load generators by the first part of a job's kind: "ws" takes "ws-echo".
var kinds = map[string]func(context.Context, wire.Job) (wire.Result, error){
	"ws": load.Run,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var job wire.Job
	if err := json.NewDecoder(os.Stdin).Decode(&job); err != nil {
		return fmt.Errorf("the job on standard input: %w", err)
	}
	family, _, _ := strings.Cut(job.Kind, "-")
	fn := kinds[family]
	if fn == nil {
		return fmt.Errorf("no kind %q of load", job.Kind)
	}
	result, err := fn(ctx, job)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
