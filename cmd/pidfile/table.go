package main

import (
	"cmp"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-pidfile/pidfile"
)

// colours of the states.
var colours = map[pidfile.State]string{
	pidfile.Running: "\x1b[32m",
	pidfile.Stale:   "\x1b[33m",
	pidfile.Unknown: "\x1b[31m",
}

// printTable prints a table fitted to the terminal's width.
func printTable(all []pidfile.Status) {
	rows := [][]string{{"STATE", "PID", "USER", "AGE", "PIDFILE", "COMMAND"}}
	for _, s := range all {
		row := []string{s.State.String(), "-", "-", "-", printable(s.Path), ""}
		if s.PID != 0 {
			row[1] = strconv.Itoa(s.PID)
		}
		if p := s.Process; p != nil {
			row[2] = printable(cmp.Or(p.User, strconv.Itoa(p.UID)))
			row[3] = age(time.Since(p.Started))
			row[5] = commandLine(p, 0)
		}
		rows = append(rows, row)
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	tty := isTerminal(os.Stdout)
	width := 0
	if tty {
		width = terminalWidth(os.Stdout)
	}
	for i, row := range rows {
		var line strings.Builder
		for k, cell := range row {
			if k == len(row)-1 {
				line.WriteString(cell)
			} else {
				line.WriteString(pad(cell, widths[k]) + "  ")
			}
		}
		text := cut(strings.TrimRight(line.String(), " "), width)
		if tty && i > 0 && os.Getenv("NO_COLOR") == "" {
			state := row[0]
			stdout.writeRaw(colours[all[i-1].State] + state + "\x1b[0m")
			text = strings.TrimPrefix(text, state)
		}
		printLine("%s", text)
	}
}

// wide are the characters that take two columns of a terminal, roughly: whole
// blocks of Unicode's East_Asian_Width W and F, and most emoji. What a terminal
// makes of the rest (emoji of other blocks, sequences joined to one, ambiguous
// width) is up to it.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, // Hangul Jamo
		{Lo: 0x2e80, Hi: 0x303e, Stride: 1}, // CJK radicals, punctuation
		{Lo: 0x3041, Hi: 0x4dbf, Stride: 1}, // kana, Bopomofo, CJK symbols, extension A
		{Lo: 0x4e00, Hi: 0xa4cf, Stride: 1}, // CJK, Yi
		{Lo: 0xa960, Hi: 0xa97c, Stride: 1}, // Hangul Jamo extended
		{Lo: 0xac00, Hi: 0xd7a3, Stride: 1}, // Hangul
		{Lo: 0xf900, Hi: 0xfaff, Stride: 1}, // CJK compatibility
		{Lo: 0xfe30, Hi: 0xfe6f, Stride: 1},
		{Lo: 0xff01, Hi: 0xff60, Stride: 1}, // full width
		{Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1f300, Hi: 0x1f64f, Stride: 1}, // pictographs, faces
		{Lo: 0x1f680, Hi: 0x1f6ff, Stride: 1}, // transport
		{Lo: 0x1f900, Hi: 0x1f9ff, Stride: 1},
		{Lo: 0x20000, Hi: 0x3fffd, Stride: 1}, // CJK extensions
	},
}

func runeColumns(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0 // stands on the one before, or is not to be seen
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

// columns returns how many columns of a terminal s takes.
func columns(s string) (n int) {
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

// pad fills s with blanks to a width.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(width-columns(s), 0))
}

// cut shortens s to a width; 0 is any.
func cut(s string, width int) string {
	if width <= 0 || columns(s) <= width {
		return s
	}
	n := 1 // for the sign that something is missing
	for i, r := range s {
		if n += runeColumns(r); n > width {
			return s[:i] + "…"
		}
	}
	return s
}
