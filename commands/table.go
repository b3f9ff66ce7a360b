package commands

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// tableRows is how many rows are gathered to find the widths of columns. A
// longer table goes on with them, in bounded memory.
const tableRows = 1000

// tablePrinter writes a table without lines, as kubectl does.
type tablePrinter struct {
	w       io.Writer
	columns []string
	rows    [][]string
	widths  []int // Set once the head of the table is out.
}

func (p *tablePrinter) add(_ any, _ string, cells []string) error {
	if p.widths != nil {
		return p.line(cells)
	}
	p.rows = append(p.rows, cells)
	if len(p.rows) < tableRows {
		return nil
	}
	return p.end()
}

// line writes a row that came after the head of the table.
func (p *tablePrinter) line(cells []string) error {
	var b strings.Builder
	for i, cell := range cells {
		if i < len(cells)-1 {
			cell = fmt.Sprintf("%-*s  ", p.widths[i], cell)
		}
		b.WriteString(cell)
	}
	return write(p.w, []byte(b.String()+"\n"), nil)
}

// end writes what was gathered; nothing for a table without rows.
func (p *tablePrinter) end() error {
	if p.widths != nil || len(p.rows) == 0 {
		return nil
	}
	p.widths = make([]int, len(p.columns))
	for _, row := range append([][]string{p.columns}, p.rows...) {
		for i, cell := range row {
			p.widths[i] = max(p.widths[i], len([]rune(cell)))
		}
	}
	rows := p.rows
	p.rows = nil
	return writeTable(p.w, p.columns, rows)
}

func writeTable(w io.Writer, columns []string, rows [][]string) error {
	trimmed := &trimmer{w: w}
	cell := tw.CellConfig{
		Formatting: tw.CellFormatting{AutoFormat: tw.Off, AutoWrap: tw.WrapNone},
		Alignment:  tw.CellAlignment{Global: tw.AlignLeft},
		Padding:    tw.CellPadding{Global: tw.Padding{Right: "  ", Overwrite: true}},
	}
	t := tablewriter.NewTable(trimmed,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders:  tw.BorderNone,
			Settings: tw.Settings{Separators: tw.SeparatorsNone, Lines: tw.LinesNone},
		})),
		tablewriter.WithConfig(tablewriter.Config{Header: cell, Row: cell}),
	)
	t.Header(columns)
	if err := t.Bulk(rows); err != nil {
		return err
	}
	if err := t.Render(); err != nil {
		return err
	}
	return trimmed.flush()
}

// trimmer takes the padding after the last column away, so that no line
// wraps for the sake of blanks.
type trimmer struct {
	w    io.Writer
	text strings.Builder
}

func (t *trimmer) Write(p []byte) (int, error) { return t.text.Write(p) }

func (t *trimmer) flush() error {
	for line := range strings.Lines(t.text.String()) {
		if err := write(t.w, []byte(strings.TrimRight(line, " \n")+"\n"), nil); err != nil {
			return err
		}
	}
	return nil
}

// humanSize writes bytes in units of a thousand: 31 MB.
func humanSize(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), -1
	for value >= 999.5 && unit < len("kMGTPE")-1 {
		value /= 1000
		unit++
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %cB", value, "kMGTPE"[unit])
	}
	return fmt.Sprintf("%.0f %cB", value, "kMGTPE"[unit])
}

// ago writes how long before now t was; "unknown" for the zero time.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	const day = 24 * time.Hour
	d := now.Sub(t)
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{365 * day, "year"}, {30 * day, "month"}, {day, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		switch n := int(d / unit.size); {
		case n == 1:
			return "1 " + unit.name + " ago"
		case n > 1:
			return fmt.Sprintf("%d %ss ago", n, unit.name)
		}
	}
	if d < -time.Minute {
		return "in the future"
	}
	return "just now"
}
