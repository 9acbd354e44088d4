package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A column of a table. Numbers stand on the right.
type column struct {
	name  string
	right bool
}

// writeTable writes rows below the names of their columns, aligned, two spaces apart. Cells may come from
// anywhere, discovery for example, so whatever a terminal might obey is escaped; empty cells are a dash.
func writeTable(w io.Writer, columns []column, rows [][]string) error {
	width := make([]int, len(columns))
	for i, c := range columns {
		width[i] = len(c.name)
	}
	for _, row := range rows {
		for i := range row {
			if row[i] = harmless(row[i]); row[i] == "" {
				row[i] = "-"
			}
			width[i] = max(width[i], utf8.RuneCountInString(row[i]))
		}
	}
	var b bytes.Buffer
	line := func(cell func(int) string) {
		var l strings.Builder
		for i, c := range columns {
			text := cell(i)
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(text))
			if c.right {
				text, pad = pad+text, ""
			}
			l.WriteString(text + pad + "  ")
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	line(func(i int) string { return columns[i].name })
	for _, row := range rows {
		line(func(i int) string { return row[i] })
	}
	_, err := w.Write(b.Bytes())
	return err
}

// harmless escapes what is not plain text: control characters could steer the terminal.
func harmless(text string) string {
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	return strconv.Quote(text)
}

// maxShownID bounds the client ids in tables, in bytes; the access log has the same bound.
const maxShownID = 128

// quoteID shows a client id: quoted, because any byte may be in it, and cut.
func quoteID(id string) string {
	if len(id) > maxShownID {
		return strconv.Quote(id[:maxShownID]) + "…"
	}
	return strconv.Quote(id)
}

// writeJSON writes what a program will read.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// count writes 1234567 as 1,234,567.
func count[T int | uint64](n T) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// size writes bytes with the unit that leaves one to four digits.
func size[T int64 | uint64](bytes T) string {
	v, unit := float64(bytes), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for ; v >= 1023.95 && unit < len(units)-1; unit++ {
		v /= 1024
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", v, units[unit])
}

// span writes a duration with its two largest units: 3d4h, 5m30s, 12s.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second)).Truncate(time.Second)
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// percent writes a part of one.
func percent(part float64) string { return fmt.Sprintf("%.1f%%", part*100) }
