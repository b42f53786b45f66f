package devtools

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/mooncore/mooncore"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// Bounds of guides.
const (
	maxGuide  = 1 << 20 // bytes of a file
	maxImage  = 8 << 20
	maxGuides = 500
	maxNested = 32 // blocks in blocks
)

// guides are the Markdown files of a directory. Nothing outside it can be read, whatever a path or a symbolic link says. A nil
// *guides has none.
type guides struct{ root *os.Root }

func openGuides(dir string) (*guides, error) {
	if dir == "" {
		return nil, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("devtools: Guides: %w", err)
	}
	return &guides{root}, nil
}

func (g *guides) close() error {
	if g == nil {
		return nil
	}
	return g.root.Close()
}

// A guideEntry is a guide in the menu.
type guideEntry struct {
	Path  string `json:"path"`
	Title string `json:"title"`
}

// A guide is a Markdown file as data, which holds no HTML.
type guide struct {
	guideEntry
	Blocks []node `json:"blocks"`
}

// list returns the guides in the order of their paths, each directory's README and index first.
func (g *guides) list() ([]guideEntry, error) {
	entries := []guideEntry{}
	if g == nil {
		return entries, nil
	}
	err := fs.WalkDir(g.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case len(entries) >= maxGuides:
			return fs.SkipAll
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || !isGuide(name):
			return nil
		}
		content, err := g.read(name, maxGuide)
		if err != nil {
			return nil //nolint:nilerr // one that cannot be read is left out of the menu
		}
		entries = append(entries, guideEntry{name, titleOf(name, content)})
		return nil
	})
	slices.SortFunc(entries, func(a, b guideEntry) int { return strings.Compare(menuKey(a.Path), menuKey(b.Path)) })
	return entries, err
}

func isGuide(name string) bool {
	ext := strings.ToLower(path.Ext(name))
	return (ext == ".md" || ext == ".markdown") && !strings.HasPrefix(path.Base(name), ".")
}

// menuKey sorts a directory's own guide before the others.
func menuKey(name string) string {
	dir, base := path.Split(name)
	switch strings.ToLower(strings.TrimSuffix(base, path.Ext(base))) {
	case "readme", "index":
		return dir
	}
	return dir + "/" + base
}

func (g *guides) read(name string, most int64) ([]byte, error) {
	f, err := g.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("no regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	return b, err
}

var markdown = goldmark.New(goldmark.WithExtensions(extension.Table, extension.Strikethrough, extension.TaskList, extension.Linkify),
	goldmark.WithParserOptions(parser.WithAutoHeadingID())).Parser()

// titleOf is the first heading of a guide, or its file's name.
func titleOf(name string, content []byte) string {
	doc := markdown.Parse(text.NewReader(content))
	for n := doc.FirstChild(); n != nil; n = n.NextSibling() {
		if n.Kind() == ast.KindHeading {
			if title := strings.TrimSpace(plainText(n, content)); title != "" {
				return title
			}
		}
	}
	return strings.TrimSuffix(path.Base(name), path.Ext(name))
}

func plainText(n ast.Node, source []byte) string {
	var b strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			b.Write(c.Segment.Value(source))
			if c.SoftLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(c.Value)
		default:
			b.WriteString(plainText(c, source))
		}
	}
	return b.String()
}

// A node is a block of Markdown, or what stands in one besides text, with the fields that ui/src/api.ts gives its type.
type node map[string]any

// parseGuide turns Markdown into blocks.
func parseGuide(name string, content []byte) guide {
	doc := markdown.Parse(text.NewReader(content))
	w := guideWriter{content}
	return guide{guideEntry{name, titleOf(name, content)}, w.blocks(doc, 0)}
}

type guideWriter struct{ source []byte }

func (w guideWriter) blocks(parent ast.Node, depth int) []node {
	blocks := []node{}
	if depth > maxNested {
		return blocks
	}
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		if b := w.block(n, depth); b != nil {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

// block returns a block, nil for what is none.
func (w guideWriter) block(n ast.Node, depth int) node {
	switch n := n.(type) {
	case *ast.Heading:
		b := node{"type": "heading", "level": n.Level, "id": "", "content": w.inlines(n, 0)}
		if id, ok := n.AttributeString("id"); ok {
			if id, ok := id.([]byte); ok {
				b["id"] = string(id)
			}
		}
		return b
	case *ast.Paragraph, *ast.TextBlock:
		return node{"type": "paragraph", "content": w.inlines(n, 0)}
	case *ast.FencedCodeBlock:
		return w.code(string(n.Language(w.source)), n, "")
	case *ast.CodeBlock:
		return w.code("", n, "")
	case *ast.HTMLBlock:
		last := ""
		if n.HasClosure() {
			last = string(n.ClosureLine.Value(w.source))
		}
		return w.code("html", n, last)
	case *ast.Blockquote:
		return node{"type": "quote", "blocks": w.blocks(n, depth+1)}
	case *ast.ThematicBreak:
		return node{"type": "rule"}
	case *ast.List:
		items := []node{}
		for item := n.FirstChild(); item != nil; item = item.NextSibling() {
			i := node{"blocks": w.blocks(item, depth+1)}
			if checked := checkedOf(item); checked != nil {
				i["checked"] = *checked
			}
			items = append(items, i)
		}
		b := node{"type": "list", "ordered": n.IsOrdered(), "items": items}
		if n.IsOrdered() {
			b["start"] = n.Start
		}
		return b
	case *extast.Table:
		return w.table(n)
	}
	return nil
}

func (w guideWriter) code(lang string, n ast.Node, last string) node {
	var b bytes.Buffer
	for i := range n.Lines().Len() {
		line := n.Lines().At(i)
		b.Write(line.Value(w.source))
	}
	return node{"type": "code", "lang": lang, "text": b.String() + last}
}

// checkedOf is the state of a task's box; nil if an item has none.
func checkedOf(item ast.Node) *bool {
	if first := item.FirstChild(); first != nil {
		if box, ok := first.FirstChild().(*extast.TaskCheckBox); ok {
			return new(box.IsChecked)
		}
	}
	return nil
}

func (w guideWriter) table(n *extast.Table) node {
	align, head, rows := []string{}, [][]any{}, [][][]any{}
	for _, a := range n.Alignments {
		text := a.String()
		if a == extast.AlignNone {
			text = ""
		}
		align = append(align, text)
	}
	for row := n.FirstChild(); row != nil; row = row.NextSibling() {
		cells := [][]any{}
		for cell := row.FirstChild(); cell != nil; cell = cell.NextSibling() {
			cells = append(cells, w.inlines(cell, 0))
		}
		if row.Kind() == extast.KindTableHeader {
			head = cells
		} else {
			rows = append(rows, cells)
		}
	}
	return node{"type": "table", "align": align, "head": head, "rows": rows}
}

// inlines returns what stands in a block: strings and nodes, no string beside another.
func (w guideWriter) inlines(parent ast.Node, depth int) []any {
	joined := []any{}
	for _, part := range w.parts(parent, depth) {
		text, ok := part.(string)
		if n := len(joined); ok && n > 0 {
			if before, ok := joined[n-1].(string); ok {
				joined[n-1] = before + text
				continue
			}
		}
		joined = append(joined, part)
	}
	return joined
}

func (w guideWriter) parts(parent ast.Node, depth int) []any {
	var content []any
	if depth > maxNested {
		return content
	}
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		switch n := n.(type) {
		case *ast.Text:
			content = append(content, string(n.Segment.Value(w.source)))
			switch {
			case n.HardLineBreak():
				content = append(content, node{"type": "break"})
			case n.SoftLineBreak():
				content = append(content, "\n")
			}
		case *ast.String:
			content = append(content, string(n.Value))
		case *ast.CodeSpan:
			content = append(content, node{"type": "code", "text": plainText(n, w.source)})
		case *ast.Emphasis:
			kind := "emphasis"
			if n.Level == 2 {
				kind = "strong"
			}
			content = append(content, node{"type": kind, "content": w.inlines(n, depth+1)})
		case *extast.Strikethrough:
			content = append(content, node{"type": "strike", "content": w.inlines(n, depth+1)})
		case *ast.Link:
			content = append(content, linkTo(string(n.Destination), w.inlines(n, depth+1))...)
		case *ast.AutoLink:
			label := []any{string(n.Label(w.source))}
			target := string(n.URL(w.source))
			if n.AutoLinkType == ast.AutoLinkEmail {
				target = "mailto:" + target
			}
			content = append(content, linkTo(target, label)...)
		case *ast.Image:
			if src, ok := localPath(string(n.Destination)); ok {
				content = append(content, node{"type": "image", "src": src, "alt": plainText(n, w.source)})
			} else {
				content = append(content, plainText(n, w.source))
			}
		case *ast.RawHTML:
			for i := range n.Segments.Len() {
				segment := n.Segments.At(i)
				content = append(content, string(segment.Value(w.source)))
			}
		}
	}
	return content
}

// linkTo is a link, or only its text if it leads where none may: to a script, a file, a place outside the guides.
func linkTo(target string, content []any) []any {
	link := node{"type": "link", "href": target, "content": content}
	if strings.HasPrefix(target, "#") {
		return []any{link}
	}
	u, err := url.Parse(target)
	if err != nil {
		return content
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https":
		if u.Host == "" {
			return content
		}
	case "mailto":
	case "":
		local, ok := localPath(target)
		if !ok {
			return content
		}
		link["href"] = local
	default:
		return content
	}
	return []any{link}
}

// localPath is a path relative to its guide, if a target is one.
func localPath(target string) (string, bool) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Opaque != "" || u.Path == "" || strings.HasPrefix(u.Path, "/") ||
		strings.ContainsAny(target, "\\\x00") || strings.HasPrefix(target, "//") {
		return "", false
	}
	u.RawQuery = ""
	return u.String(), true
}

// imageTypes are the images that guides may show.
var imageTypes = map[string]string{
	".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp",
}

func (t *tools) getGuides(*http.Request) (any, error) {
	entries, err := t.guides.list()
	if err != nil {
		return nil, err
	}
	return map[string][]guideEntry{"guides": entries}, nil
}

// serveGuide answers a guide as data, or an image.
func (t *tools) serveGuide(w http.ResponseWriter, r *http.Request, _ session) {
	name := r.PathValue("path")
	imageType, image := imageTypes[strings.ToLower(path.Ext(name))]
	missing := mooncore.Errorf(mooncore.CodeNotFound, "No such guide")
	if t.guides == nil || !fs.ValidPath(name) || !image && !isGuide(name) {
		writeError(w, missing)
		return
	}
	most := int64(maxGuide)
	if image {
		most = maxImage
	}
	content, err := t.guides.read(name, most)
	if err != nil {
		t.log.Debug("developer tools: no guide", "path", clip(name), "cause", err)
		writeError(w, missing)
		return
	}
	if !image {
		writeJSON(w, http.StatusOK, parseGuide(name, content))
		return
	}
	w.Header().Set("Content-Type", imageType)
	w.Write(content)
}
