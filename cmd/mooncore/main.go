// Mooncore is the command line for Mooncore servers: it checks a program before it is deployed, makes and explains tokens, makes
// and rotates keys, and calls actions.
//
//	mooncore doctor -- ./server
//	mooncore keys generate --out private.pem
//	mooncore token make --key private.pem --user alice
//	mooncore call task.create title=Milk
//
// "mooncore help" tells more, and so does --help behind each command. Results go to standard output and everything else to standard
// error. Exit codes are those of [exitCode].
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// An exitCode is how the command ends.
type exitCode int

const (
	exitDone        exitCode = 0   // it did what it was asked, and the answer is yes
	exitRefused     exitCode = 1   // the answer is no: an action failed, a token is no good, something fatal was found
	exitUsage       exitCode = 2   // the command line is wrong
	exitFailed      exitCode = 3   // it could not be tried: no server, no such file, a program that does not start
	exitInterrupted exitCode = 130 // Ctrl-C, as shells count it
)

// A cli is what a command has to do with the world.
type cli struct {
	in       io.Reader
	out, err *output
	getenv   func(name string) string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
	c := &cli{in: os.Stdin, out: newOutput(os.Stdout), err: newOutput(os.Stderr), getenv: os.Getenv}
	os.Exit(int(c.run(ctx, os.Args[1:])))
}

// run runs the command that args name and says what went wrong with it.
func (c *cli) run(ctx context.Context, args []string) exitCode {
	err := c.dispatch(ctx, args)
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	code := exitFailed
	if e, ok := errors.AsType[*codedError](err); ok {
		code = e.code
	}
	if text := err.Error(); text != "" {
		c.err.say("%s %s\n", c.err.paint(red, "mooncore:"), text)
	}
	return code
}

// A codedError is an error with an exit code of its own. Without a text, what there is to say has been said.
type codedError struct {
	code exitCode
	text string
}

func (e *codedError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Sprintf(format, args...)}
}

func refusedf(format string, args ...any) error {
	return &codedError{exitRefused, fmt.Sprintf(format, args...)}
}

// errRefused is for a command that has told the answer already.
var errRefused error = &codedError{code: exitRefused}
