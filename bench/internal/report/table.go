package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mooncore/mooncore/bench/internal/suite"
)

// Table writes s as a Markdown table with its title: the median of each metric, and beside it, in parentheses, the first server's
// value divided by this one's, which is the median of the ratios of all rounds.
func (s *Scenario) Table(w io.Writer) {
	fmt.Fprintf(w, "%s: %s\n\n", s.Name, s.Title)
	s.rowsTo(w)
	fmt.Fprintln(w)
}

func (s *Scenario) rowsTo(w io.Writer) {
	head := []string{"server"}
	var metrics []suite.Metric
	for _, name := range s.Metrics {
		m, ok := suite.MetricByName(name)
		if !ok {
			continue
		}
		metrics = append(metrics, m)
		title := strings.TrimSuffix(m.Name, "_us")
		title = strings.TrimSuffix(title, "_ms")
		head = append(head, strings.TrimSpace(strings.ReplaceAll(title, "_", " ")+" "+m.Unit))
	}
	rows := [][]string{head, nil}
	for i, p := range s.Peers {
		row := []string{p.Name}
		for _, m := range metrics {
			values := p.Values[m.Name]
			cell := Format(Median(values))
			if i > 0 && len(values) > 0 && !m.Plain {
				if ratio := PairedRatio(s.Peers[0].Values[m.Name], values); !math.IsNaN(ratio) {
					cell += fmt.Sprintf(" (%.2f)", ratio)
				}
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	writeTable(w, rows)
}

// writeTable writes rows, the first of which is the head and the second is the line below it.
func writeTable(w io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		if n == 1 {
			row = make([]string, len(widths))
			for i, width := range widths {
				row[i] = strings.Repeat("-", width)
				if i > 0 {
					row[i] = row[i][1:] + ":"
				}
			}
		}
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				fmt.Fprintf(w, "| %s%s |", cell, pad)
			} else {
				fmt.Fprintf(w, " %s%s |", pad, cell)
			}
		}
		fmt.Fprintln(w)
	}
}

// Format writes v with three digits or more, and commas between thousands.
func Format(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case a < 0.005:
		return "0"
	case a < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case a < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	digits := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if v < 0 {
		return "-" + digits
	}
	return digits
}
