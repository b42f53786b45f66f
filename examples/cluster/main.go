// Cluster is the chat on three servers behind a proxy, which all run here, each in a process of its own.
//
//	go run ./examples/cluster
//
// Then open http://127.0.0.1:4000 in some windows: each is connected with one of the servers, and what is said in one comes to
// all. The servers are joined by NATS, which they bring along, or over Redis:
//
//	REDIS_URL=redis://127.0.0.1:6379 go run ./examples/cluster
//
// Kill one of them, by the number in the log: the windows that it served come back on another, with every message once, and it is
// started again. HOST and PORT make the proxy listen elsewhere.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := runCluster
	if os.Getenv(nodeEnv) != "" {
		run = runNode
	}
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func runCluster(ctx context.Context) error {
	c, err := start(ctx)
	if err != nil {
		return err
	}
	log.Printf("the chat on %d servers: http://%s", servers, c.addr())
	return c.wait()
}
