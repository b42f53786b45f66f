package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// UpdateDocs writes the tables, verdicts and charts of r into a Markdown file, in place of what stands between the line
// "<!-- bench: <scenario> -->" and the next "<!-- bench: end -->". The block "machine-<family>" gets a line about where r was
// measured; the family is the start of its scenarios' names, such as "ws". The charts go to a directory beside the file, named
// after it. Scenarios that r doesn't have, or the file, stay as they are.
func (r *Results) UpdateDocs(file string, verdicts []Verdict) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	charts := strings.TrimSuffix(file, filepath.Ext(file))
	if _, err := r.WriteCharts(charts); err != nil {
		return err
	}
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		family, _, _ := strings.Cut(s.Name, "-")
		if doc, err = replaceBlock(doc, "machine-"+family, r.machine(family)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if doc, err = replaceBlock(doc, s.Name, s.markdown(filepath.Base(charts), verdicts)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return os.WriteFile(file, doc, 0o644)
}

func (r *Results) machine(family string) string {
	rounds := 0
	for _, s := range r.Scenarios {
		if !strings.HasPrefix(s.Name, family+"-") {
			continue
		}
		for _, p := range s.Peers {
			for _, values := range p.Values {
				rounds = max(rounds, len(values))
			}
		}
	}
	return fmt.Sprintf("Measured with %s on %s with %d cores, over loopback; medians of up to %d rounds. The load average before was %.1f: "+
		"above 1, others were at work too, and rates and latencies say less.\n", r.Go, r.Platform, r.CPUs, rounds, r.Load)
}

// markdown is what stands in the docs of a scenario.
func (s *Scenario) markdown(charts string, verdicts []Verdict) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "**%s**\n\n", s.Title)
	s.rowsTo(&b)
	var lines []string
	for _, v := range verdicts {
		if v.Scenario == s.Name {
			lines = append(lines, "- "+v.sentence()+"\n")
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(&b, "\n%s", strings.Join(lines, ""))
	}
	for _, c := range s.charts() {
		fmt.Fprintf(&b, "\n![%s](%s/%s)\n", c.alt, charts, c.file)
	}
	return b.String()
}

// replaceBlock returns doc with text between the markers of a block. A doc without the block stays as it is.
func replaceBlock(doc []byte, name, text string) ([]byte, error) {
	before, rest, found := bytes.Cut(doc, []byte("<!-- bench: "+name+" -->\n"))
	if !found {
		return doc, nil
	}
	end := []byte("<!-- bench: end -->\n")
	_, after, found := bytes.Cut(rest, end)
	if !found {
		return nil, errors.New("the block " + name + " has no end")
	}
	return fmt.Appendf(nil, "%s<!-- bench: %s -->\n\n%s\n%s%s", before, name, text, end, after), nil
}
