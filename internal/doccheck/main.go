//go:build unix

// Doccheck tries what the documentation says. In each Markdown file that it is given, it compiles the Go code, runs the
// commands and compares what they print, and looks for the files and headings that links name. It is run at the root of the repository:
//
//	go run ./internal/doccheck README.md docs/*.md
//
// Go code that starts with "package" is a program or a test of its own: it is vetted, and tests are run. Other Go code is a part of
// one package for each document: declarations stand at its top level, statements in a function with the variables of prelude.
//
// In ```console blocks, "$ command" is run by bash, and what follows is what it must print, on both outputs. A "…" stands for any
// text in a line, and alone in a line for any lines. A comment before a block says more:
//
//	<!-- doccheck: serve -->      the command, or the program, is a server on port 4000, which ends with the document
//	<!-- doccheck: scratch -->    the commands run in a directory of the document's own
//	<!-- doccheck: skip -->       nothing is done with the block; say why in the comment
//	<!-- doccheck: same FILE -->  the block is that file
//
// The command "mooncore" is that of the repository. The server gets free ports, which take the place of 4000 and 4001 in all commands of the document and in its programs.
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	log.SetFlags(0)
	root, err := os.Getwd()
	if err != nil {
		log.Fatal(err)
	}
	temp, err := os.MkdirTemp("", "doccheck")
	if err != nil {
		log.Fatal(err)
	}
	faults := check(root, temp, os.Args[1:])
	if err := os.RemoveAll(temp); err != nil {
		faults = append(faults, err.Error())
	}
	for _, fault := range faults {
		log.Print(fault)
	}
	if len(faults) > 0 {
		log.Fatalf("doccheck: %d faults", len(faults))
	}
}

// check returns what is wrong with the documents.
func check(root, temp string, names []string) (faults []string) {
	var docs []*document
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return append(faults, err.Error())
		}
		d, err := parse(name, string(text))
		if err != nil {
			return append(faults, err.Error())
		}
		docs = append(docs, d)
	}
	for _, d := range docs {
		faults = append(faults, checkLinks(root, d)...)
		faults = append(faults, checkCopies(root, d)...)
	}
	faults = append(faults, checkPackageDoc(root)...)
	faults = append(faults, checkCode(root, filepath.Join(temp, "code"), docs)...)
	if err := buildCommand(root, temp); err != nil {
		return append(faults, err.Error())
	}
	for _, d := range docs {
		faults = append(faults, runCommands(root, temp, d)...)
	}
	return faults
}

// A document is a Markdown file.
type document struct {
	name   string
	text   string // without its blocks
	blocks []block
}

// A block is fenced code.
type block struct {
	doc       string
	line      int // of its first line of code
	language  string
	directive string // of the comment before it
	argument  string
	code      string
	program   string // the directory of a program
}

func (b *block) at() string { return fmt.Sprintf("%s:%d", b.doc, b.line) }

var directive = regexp.MustCompile(`^<!-- doccheck: (\w+)(?:[ ,]+(.*?))? -->$`)

var directives = []string{"", "serve", "scratch", "skip", "same"}

func parse(name, text string) (*document, error) {
	d := &document{name: name}
	var open *block
	var command, argument string
	for i, line := range strings.Split(text, "\n") {
		switch {
		case open != nil && line == "```":
			d.blocks = append(d.blocks, *open)
			open = nil
		case open != nil:
			open.code += line + "\n"
		case strings.HasPrefix(line, "```"):
			open = &block{doc: name, line: i + 2, language: line[3:], directive: command, argument: argument}
			command, argument = "", ""
		default:
			d.text += line + "\n"
			if m := directive.FindStringSubmatch(line); m != nil {
				command, argument = m[1], m[2]
				if !slices.Contains(directives, command) {
					return nil, fmt.Errorf("%s:%d: no directive %q", name, i+1, command)
				}
			} else if command != "" && line != "" {
				return nil, fmt.Errorf("%s:%d: no block follows the directive %q", name, i+1, command)
			}
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s: the block does not end", open.at())
	}
	return d, nil
}

var (
	link    = regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	markup  = regexp.MustCompile(`\]\([^)]*\)|[^\p{L}\p{N}_\- ]`) // what an anchor leaves out
)

// checkLinks looks for the files and headings that a document links to.
func checkLinks(root string, d *document) (faults []string) {
	for _, m := range link.FindAllStringSubmatch(d.text, -1) {
		if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
			continue
		}
		target := d.name
		if m[1] != "" {
			target = filepath.Join(filepath.Dir(d.name), m[1])
		}
		_, err := os.Stat(filepath.Join(root, target))
		if err == nil && m[2] != "" && filepath.Ext(target) == ".md" {
			err = findHeading(root, target, m[2])
		}
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: links to %s, which is not there", d.name, strings.Trim(m[0], "]()")))
		}
	}
	return faults
}

// findHeading fails if no heading of a document has the anchor, as GitHub makes it of the text.
func findHeading(root, name, anchor string) error {
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return err
	}
	d, err := parse(name, string(text))
	if err != nil {
		return err
	}
	for _, m := range heading.FindAllStringSubmatch(d.text, -1) {
		if strings.ReplaceAll(strings.ToLower(markup.ReplaceAllString(m[1], "")), " ", "-") == anchor {
			return nil
		}
	}
	return fmt.Errorf("%s has no heading #%s", name, anchor)
}

// checkCopies compares blocks that stand for a file with it.
func checkCopies(root string, d *document) (faults []string) {
	for _, b := range d.blocks {
		if b.directive != "same" {
			continue
		}
		want, err := os.ReadFile(filepath.Join(root, b.argument))
		if err != nil {
			faults = append(faults, b.at()+": "+err.Error())
		} else if string(want) != b.code {
			faults = append(faults, fmt.Sprintf("%s: the block is not %s", b.at(), b.argument))
		}
	}
	return faults
}

// checkPackageDoc compares the hello world of doc.go with the program.
func checkPackageDoc(root string) []string {
	doc, err := os.ReadFile(filepath.Join(root, "doc.go"))
	if err != nil {
		return []string{err.Error()}
	}
	program, err := os.ReadFile(filepath.Join(root, "examples/hello/main.go"))
	if err != nil {
		return []string{err.Error()}
	}
	var code strings.Builder
	for line := range strings.Lines(string(doc)) {
		if rest, ok := strings.CutPrefix(line, "//\t"); ok {
			code.WriteString(rest)
		} else if line == "//\n" {
			code.WriteByte('\n')
		}
	}
	_, body, _ := strings.Cut(string(program), "\ntype ")
	if !strings.Contains(code.String(), "type "+body) {
		return []string{"doc.go: its hello world is not that of examples/hello/main.go"}
	}
	return nil
}
