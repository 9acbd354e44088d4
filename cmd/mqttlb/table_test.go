package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	err := writeTable(&b, []column{{name: "NAME"}, {"COUNT", true}, {name: "NOTE"}}, [][]string{
		{"ä", "1", ""}, {"\x1b[2J\n", "1,234,567", "two words"}, {"", "", "\xff"},
	})
	if err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "table.txt", b.String())
}

func TestQuoteID(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxShownID)
	for id, want := range map[string]string{
		"":          `""`,
		"a b":       `"a b"`,
		"ü\x00\xff": `"ü\x00\xff"`,
		`"`:         `"\""`,
		long:        `"` + long + `"`,
		long + "y":  `"` + long + `"…`,
	} {
		if got := quoteID(id); got != want {
			t.Errorf("%q: got %s, want %s", id, got, want)
		}
	}
}

func TestHumanNumbers(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(1000): "1,000", count(uint64(1234567)): "1,234,567", count(100000): "100,000",
		size(uint64(0)): "0 B", size(uint64(1023)): "1023 B", size(int64(1024)): "1.0 KiB", size(int64(1<<20 - 1)): "1.0 MiB",
		size(uint64(5 << 30)): "5.0 GiB", size(^uint64(0)): "16.0 EiB",
		span(0): "0s", span(59.9): "59s", span(60): "1m0s", span(3599): "59m59s", span(3660): "1h1m", span(86399): "23h59m",
		span(76 * 3600): "3d4h", span(86400 * 400): "400d0h",
		percent(0): "0.0%", percent(1. / 3): "33.3%", percent(1): "100.0%",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
