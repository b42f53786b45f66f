package devtools

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// Whatever a guide holds: it becomes JSON without HTML, and no link leads to a script.
func FuzzGuide(f *testing.F) {
	for _, seed := range []string{
		"# Title\n\ntext", "[a](javascript:alert(1))", "<script>alert(1)</script>", "![x](//host/x.png)", "| a |\n|-|\n| b |", "- [x] a\n  - b", "> > > q",
		"```json\n{}\n```", "<a@b.c>", "[a]: data:x\n[a]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := json.Marshal(parseGuide("x.md", []byte(text)).Blocks)
		if err != nil {
			t.Fatal(err)
		}
		var blocks any
		if err := json.Unmarshal(b, &blocks); err != nil {
			t.Fatal(err)
		}
		checkLinks(t, blocks)
	})
}

// checkLinks fails the test for a target that may lead to a script, or a source on another host.
func checkLinks(t *testing.T, v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			checkLinks(t, item)
		}
	case map[string]any:
		if href, ok := v["href"].(string); ok {
			u, err := url.Parse(href)
			if err != nil {
				t.Fatalf("href %q: %v", href, err)
			}
			switch strings.ToLower(u.Scheme) {
			case "http", "https", "mailto":
			case "":
				if u.Host != "" || strings.HasPrefix(u.Path, "/") {
					t.Fatalf("href %q", href)
				}
			default:
				t.Fatalf("href %q", href)
			}
		}
		if src, ok := v["src"].(string); ok {
			if u, err := url.Parse(src); err != nil || u.Scheme != "" || u.Host != "" || strings.HasPrefix(u.Path, "/") {
				t.Fatalf("src %q", src)
			}
		}
		for _, item := range v {
			checkLinks(t, item)
		}
	}
}

func FuzzLogQuery(f *testing.F) {
	for _, seed := range []string{"code=error&limit=3", "min_ms=1e3&since=1&until=2&before=9", "text=%C3%84&user=", "limit=-1", "min_ms=NaN"} {
		f.Add(seed)
	}
	r := &record{user: "ann", action: "who", code: codeOK, params: []byte("{}")}
	f.Fuzz(func(t *testing.T, text string) {
		query, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		q, err := parseLogQuery(query)
		if err != nil {
			return
		}
		if q.limit < 1 || q.limit > 1000 || q.least < 0 {
			t.Fatalf("%+v", q)
		}
		q.matches(r)
	})
}
