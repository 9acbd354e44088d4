package proxy

import (
	"bytes"
	"strings"
	"testing"
)

func TestShortRecords(t *testing.T) {
	t.Parallel()
	const behind = "what follows"
	for _, size := range []int{1, 511, 512, 513, 1023, 1024, 1025, 1500, 1700, 4000, maxRecord} {
		payload := []byte(strings.Repeat("0123456789abc", size/13+1)[:size])
		record := append([]byte{recordHandshake, 3, 1, byte(size >> 8), byte(size)}, payload...)
		whole := append(record, behind...)
		before := bytes.Clone(whole)
		rest := shortRecords(whole)
		var got []byte
		for len(got) < size {
			n := nextRead(rest)
			piece, whole, err := cutRecord(rest[:n])
			if err != nil || !whole || len(piece) > shortRecord || n != recordHeader+len(piece) || rest[1] != 3 || rest[2] != 1 {
				t.Fatalf("%d bytes: got a record of %d bytes, %v, %v", size, len(piece), whole, err)
			}
			got, rest = append(got, piece...), rest[n:]
		}
		if !bytes.Equal(got, payload) || string(rest) != behind || !bytes.Equal(whole, before) {
			t.Errorf("%d bytes: got %d and %q behind them, or the original has changed", size, len(got), rest)
		}
	}
	for _, b := range []string{"", "\x16", "\x16\x03\x01\x02", "\x16\x03\x01\x40\x00abc", "\x17\x03\x03\x00\x01x"} {
		if got := shortRecords([]byte(b)); string(got) != b || nextRead(got) > len(b) {
			t.Errorf("%q: got %q", b, got)
		}
	}
}
