package report

import (
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/mooncore/mooncore/bench/internal/suite"
)

// Sizes of a chart, in pixels.
const (
	chartWidth = 720
	chartLeft  = 150 // where bars start
	chartRight = 96  // room for a value
	chartTop   = 56
	barHeight  = 18
	barStep    = 26
)

// A bar of a chart.
type bar struct {
	name  string
	value float64
}

// WriteCharts writes the charts of r to a directory as <scenario>-<metric>.svg, and returns a Markdown line for each.
func (r *Results) WriteCharts(dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var lines []string
	for i := range r.Scenarios {
		for _, c := range r.Scenarios[i].charts() {
			if err := os.WriteFile(filepath.Join(dir, c.file), c.svg, 0o644); err != nil {
				return nil, err
			}
			lines = append(lines, fmt.Sprintf("![%s](%s)", c.alt, c.file))
		}
	}
	return lines, nil
}

// A picture is a chart.
type picture struct {
	file, alt string
	svg       []byte
}

func (s *Scenario) charts() []picture {
	var pictures []picture
	for _, name := range s.Charts {
		m, ok := suite.MetricByName(name)
		if !ok {
			continue
		}
		if bars := s.bars(m); len(bars) > 0 {
			pictures = append(pictures, picture{
				file: s.Name + "-" + m.Name + ".svg", alt: s.Title + ": " + describe(m, bars), svg: chart(s.Title, m, bars),
			})
		}
	}
	return pictures
}

func (s *Scenario) bars(m suite.Metric) []bar {
	var bars []bar
	for _, p := range s.Peers {
		if v := Median(p.Values[m.Name]); !math.IsNaN(v) {
			bars = append(bars, bar{p.Name, v})
		}
	}
	return bars
}

// describe says in words what a chart shows.
func describe(m suite.Metric, bars []bar) string {
	var b strings.Builder
	b.WriteString(m.Title)
	if m.Unit != "" {
		b.WriteString(" in " + m.Unit)
	}
	for _, bar := range bars {
		fmt.Fprintf(&b, ", %s %s", bar.name, Format(bar.value))
	}
	return b.String()
}

// style has a light and a dark form. Bars of Mooncore stand out.
const style = `
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.note { font-size: 12px; fill: #59636e }
.card { fill: #ffffff; stroke: #d1d9e0 }
.bar { fill: #9aa7b4 }
.ours { fill: #3056d3 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.note { fill: #9198a1 }
.card { fill: #0d1117; stroke: #3d444d }
.bar { fill: #656f7b }
.ours { fill: #6d8cff }
}
`

// chart draws bars, one below the other.
func chart(title string, m suite.Metric, bars []bar) []byte {
	most := 0.0
	for _, b := range bars {
		most = max(most, b.value)
	}
	height := chartTop + len(bars)*barStep + 12
	note := m.Title
	if m.Unit != "" {
		note += ", " + m.Unit
	}
	if m.Higher {
		note += "; more is better"
	} else {
		note += "; less is better"
	}
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-labelledby="t d">`+"\n",
		chartWidth, height)
	fmt.Fprintf(&s, "<title id=\"t\">%s</title>\n<desc id=\"d\">%s</desc>\n<style>%s</style>\n", escape(title), escape(describe(m, bars)), style)
	fmt.Fprintf(&s, `<rect class="card" x="0.5" y="0.5" width="%d" height="%d" rx="6"/>`+"\n", chartWidth-1, height-1)
	fmt.Fprintf(&s, `<text class="title" x="16" y="24">%s</text>`+"\n", escape(title))
	fmt.Fprintf(&s, `<text class="note" x="16" y="43">%s</text>`+"\n", escape(note))
	for i, b := range bars {
		class, y := "bar", chartTop+i*barStep
		if strings.HasPrefix(b.name, "mooncore") {
			class = "bar ours"
		}
		width := 0.0
		if most > 0 {
			width = b.value / most * (chartWidth - chartLeft - chartRight)
		}
		fmt.Fprintf(&s, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", chartLeft-10, y+14, escape(b.name))
		fmt.Fprintf(&s, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n", class, chartLeft, y, max(width, 1), barHeight)
		fmt.Fprintf(&s, `<text x="%.1f" y="%d">%s</text>`+"\n", chartLeft+max(width, 1)+8, y+14, Format(b.value))
	}
	s.WriteString("</svg>\n")
	return []byte(s.String())
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder takes everything
	return b.String()
}
