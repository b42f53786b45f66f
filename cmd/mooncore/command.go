package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
)

// A command is one of those that "mooncore help" lists.
type command struct {
	name     string // such as "token make"
	args     string // what follows, for people
	short    string // in a line
	examples string // the first that --help shows
	long     string // then this

	// flags declares the command's flags and returns what runs it with the other arguments.
	flags func(fs *flag.FlagSet) runner

	// passes says that what begins with the first argument is another program's.
	passes bool
}

type runner func(ctx context.Context, c *cli, args []string) error

func commands() []*command {
	return []*command{
		doctorCommand(), tokenMakeCommand(), tokenVerifyCommand(),
		keysGenerateCommand(), keysPublicCommand(), keysJWKSCommand(), keysRotateCommand(), callCommand(),
	}
}

const overview = `Mooncore's command line: check a program, make keys and tokens, call actions.

Examples:
  mooncore doctor -- ./server                          what stands against running it in production
  mooncore keys generate --out private.pem             a key that signs tokens
  mooncore token make --key private.pem --user alice   a token
  mooncore call task.create title=Milk                 run an action on http://localhost:4000

Commands:
`

const epilogue = `
"mooncore help COMMAND", or --help behind it, tells more, with examples. "mooncore version" tells which this is.

Results go to standard output, all else to standard error. Exit codes:
  0    done
  1    the answer is no: the action failed, the token is no good, something fatal was found
  2    the command line is wrong
  3    it could not be tried: no server, no such file, a program that does not start
  130  interrupted
`

// dispatch finds the command and runs it.
func (c *cli) dispatch(ctx context.Context, args []string) error {
	list := commands()
	if len(args) > 0 && args[0] == "help" {
		if args = args[1:]; len(args) > 0 {
			args = append(slices.Clone(args), "--help")
		}
	}
	if len(args) == 0 || isHelp(args[0]) {
		return c.printOverview(list)
	}
	if args[0] == "version" || args[0] == "--version" {
		_, err := fmt.Fprintln(c.out, "mooncore", version())
		return err
	}
	for _, cmd := range list {
		words := strings.Fields(cmd.name)
		if len(args) >= len(words) && slices.Equal(args[:len(words)], words) {
			return cmd.execute(ctx, c, args[len(words):])
		}
	}
	var group []string
	for _, cmd := range list {
		if rest, ok := strings.CutPrefix(cmd.name, args[0]+" "); ok {
			group = append(group, rest)
		}
	}
	switch {
	case group == nil:
		return usagef("there is no command %q. mooncore help lists them", plain(args[0]))
	case len(args) == 1 || isHelp(args[1]):
		return c.printGroup(list, args[0], len(args) > 1)
	}
	return usagef("mooncore %s has no %q: it has %s", args[0], plain(args[1]), strings.Join(group, ", "))
}

// version is that of the build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version + " " + info.GoVersion
}

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

func (c *cli) printOverview(list []*command) error {
	var b strings.Builder
	b.WriteString(overview)
	for _, cmd := range list {
		fmt.Fprintf(&b, "  %-15s %s\n", cmd.name, cmd.short)
	}
	b.WriteString(epilogue)
	_, err := io.WriteString(c.out, b.String())
	return err
}

// printGroup lists the commands that begin with a word. Without a second word it is a mistake.
func (c *cli) printGroup(list []*command, word string, asked bool) error {
	var b strings.Builder
	for _, cmd := range list {
		if strings.HasPrefix(cmd.name, word+" ") {
			fmt.Fprintf(&b, "  mooncore %-15s %s\n", cmd.name, cmd.short)
		}
	}
	if !asked {
		return usagef("which one?\n%s", strings.TrimSuffix(b.String(), "\n"))
	}
	_, err := io.WriteString(c.out, "Commands:\n"+b.String())
	return err
}

// execute reads a command's flags, which may stand between its arguments, and runs it.
func (cmd *command) execute(ctx context.Context, c *cli, args []string) error {
	fs := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	run := cmd.flags(fs)
	var rest []string
	for {
		dashes := slices.Index(args, "--")
		err := fs.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			return cmd.help(c.out, fs)
		case err != nil:
			return usagef("%s%s\nmooncore %s --help shows how", flagFault(err), cmd.hint(err), cmd.name)
		}
		ended := dashes >= 0 && dashes == len(args)-fs.NArg()-1 // what follows is no flag
		if args = fs.Args(); ended || cmd.passes || len(args) == 0 {
			rest = append(rest, args...)
			break
		}
		rest, args = append(rest, args[0]), args[1:]
	}
	err := run(ctx, c, rest)
	if e, ok := errors.AsType[*codedError](err); ok && e.code == exitUsage {
		return usagef("%s\nmooncore %s --help shows how", e.text, cmd.name)
	}
	return err
}

// flagFault is an error of package flag in this command's spelling, and without the value, which may be a secret.
func flagFault(err error) string {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		return "there is no flag --" + plain(strings.TrimPrefix(name, "-"))
	}
	for _, before := range []string{" for flag -", " for -"} {
		if _, after, ok := strings.Cut(text, before); ok {
			return "--" + plain(after)
		}
	}
	return plain(strings.Replace(text, "flag needs an argument: -", "a value is missing: --", 1))
}

// hint says what to do instead of a flag that is left out on purpose.
func (cmd *command) hint(err error) string {
	for _, name := range []string{"-token", "-secret", "-password"} {
		if strings.HasSuffix(err.Error(), ": "+name) {
			return ": everybody on this machine can read a command line. Put it into a file, or see which variables are read"
		}
	}
	return ""
}

func (cmd *command) help(out *output, fs *flag.FlagSet) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nExamples:\n", cmd.short)
	for line := range strings.Lines(strings.Trim(cmd.examples, "\n")) {
		b.WriteString("  " + line)
	}
	fmt.Fprintf(&b, "\n\nUsage:\n  mooncore %s [flags] %s\n", cmd.name, cmd.args)
	if cmd.long != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.Trim(cmd.long, "\n"))
	}
	b.WriteString("\nFlags:\n")
	fs.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		b.WriteString("  " + strings.TrimSpace("--"+f.Name+" "+value) + "\n" + indented("      ", usage) + "\n")
	})
	_, err := io.WriteString(out, b.String())
	return err
}

// A list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

// jsonFlag is the flag that every command has.
func jsonFlag(fs *flag.FlagSet) *bool {
	return fs.Bool("json", false, "write JSON in one line, for scripts")
}
