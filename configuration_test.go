package mooncore_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
)

var update = flag.Bool("update", false, "write the generated part of docs/configuration.md")

const configurationGuide = "docs/configuration.md"

// The fields in docs/configuration.md are those of the code, with their comments:
//
//	go test -run=TestConfigurationGuideHasEveryField -update .
func TestConfigurationGuideHasEveryField(t *testing.T) {
	text, err := os.ReadFile(configurationGuide)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- generated: go test -run=TestConfigurationGuideHasEveryField -update . -->\n", "<!-- end of what is generated -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no part between %q and %q", configurationGuide, begin, end)
	}
	var b strings.Builder
	for _, part := range []struct{ file, typ, prefix string }{
		{"config.go", "Config", ""}, {"jwt.go", "JWTConfig", "JWT."}, {"config.go", "Limits", "Limits."}, {"action.go", "Action", ""},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n| field | |\n|---|---|\n", part.typ)
		for _, f := range fieldsOf(t, part.file, part.typ) {
			fmt.Fprintf(&b, "| `%s%s` | %s |\n", part.prefix, f.name, f.text)
		}
	}
	b.WriteString("\n")
	if b.String() == old {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the comments say; run go test -run=%s -update .", configurationGuide, t.Name())
	}
	if err := os.WriteFile(configurationGuide, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

type documentedField struct{ name, text string }

// fieldsOf returns the exported fields of a struct with their comments, as Markdown that fits into a cell.
func fieldsOf(t *testing.T, file, typ string) []documentedField {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var fields []documentedField
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != typ {
			return true
		}
		for _, f := range spec.Type.(*ast.StructType).Fields.List {
			for _, name := range f.Names {
				if name.IsExported() {
					fields = append(fields, documentedField{name.Name, cell(f.Doc.Text())})
				}
			}
		}
		return false
	})
	if len(fields) == 0 {
		t.Fatalf("%s has no fields of %s", file, typ)
	}
	return fields
}

var link = regexp.MustCompile(`\[\*?([A-Z][A-Za-z.]*|[a-z]+\.[A-Z][A-Za-z.]*)\](\.[A-Z][A-Za-z]*)?`)

// cell returns a comment as one line of Markdown.
func cell(text string) string {
	var paragraphs []string
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		paragraphs = append(paragraphs, strings.ReplaceAll(paragraph, "\n", " "))
	}
	text = strings.NewReplacer("|", `\|`, `"*"`, "`*`", "<", "&lt;").Replace(strings.Join(paragraphs, "\n"))
	return strings.ReplaceAll(link.ReplaceAllString(text, "`$1$2`"), "\n", "<br>")
}

// The tables of variables have those that set fields, and every other that the code reads.
func TestConfigurationGuideHasEveryVariable(t *testing.T) {
	text, err := os.ReadFile(configurationGuide)
	if err != nil {
		t.Fatal(err)
	}
	guide, _, _ := strings.Cut(string(text), "<!-- generated")
	want := map[string]bool{"MOONCORE_CHECK": true}
	srv := mooncoretest.New(t, mooncore.Config{Routers: catalogue()})
	for _, s := range srv.Settings() {
		for name := range strings.SplitSeq(s.Env, ", ") {
			if name != "" {
				want[name] = true
			}
		}
	}
	got := map[string]bool{}
	first := regexp.MustCompile("(?m)^\\| (`[A-Z_]+`[^|]*) \\|")
	for _, row := range first.FindAllStringSubmatch(guide, -1) {
		for _, name := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(row[1], -1) {
			got[name[1]] = true
		}
	}
	for _, name := range []string{"MOONCORE_DEV_TOOLS", "MOONCORE_DEV_SECRET", "MOONCORE_URL", "MOONCORE_TOKEN", "GOMEMLIMIT"} { // read by package devtools, the command, and Go
		if !got[name] {
			t.Errorf("nothing about %s", name)
		}
		delete(got, name)
	}
	if !maps.Equal(got, want) {
		t.Errorf("the tables have %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}
