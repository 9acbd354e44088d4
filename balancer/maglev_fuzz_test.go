package balancer

import (
	"fmt"
	"slices"
	"testing"
)

// FuzzMaglev gives every byte to a backend as its weight: the table is full, its order of input does
// not matter, shares follow the weights, and the loss of one backend leaves most of the rest in place.
func FuzzMaglev(f *testing.F) {
	f.Add([]byte{1, 1, 1})
	f.Add([]byte{0, 255, 1, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		const size = 4093
		in = in[:min(len(in), 40)]
		var hashes []uint64
		var weights []float64
		total := 0.0
		for i, b := range in {
			hashes = append(hashes, keyedHash(7, fmt.Sprintf("n%d", i)))
			weights = append(weights, float64(b))
			total += float64(b)
		}
		table := fillMaglev(hashes, weights, size)
		if total == 0 {
			if len(table) != 0 {
				t.Fatalf("no weight: got a table of %d", len(table))
			}
			return
		}
		if !slices.Equal(table, dumbMaglev(hashes, weights, size)) {
			t.Fatal("got another table than the naive one")
		}
		counts := make([]int, len(in))
		for _, b := range table {
			counts[b]++
		}
		for i, c := range counts {
			if want := weights[i] / total * size; float64(c) > want+float64(len(in))+1 || float64(c) < want-float64(len(in))-1 || weights[i] == 0 && c != 0 {
				t.Errorf("backend %d of %v: got %d slots, want about %.0f", i, in, c, want)
			}
		}
		last := len(in) - 1
		weights[last] = 0
		moved := 0
		for slot, b := range fillMaglev(hashes, weights, size) {
			if b != table[slot] && table[slot] != uint16(last) {
				moved++
			}
		}
		if moved > size/4+counts[last] && len(in) > 1 {
			t.Errorf("%v: the loss of the last, with %d slots, moves %d slots of others", in, counts[last], moved)
		}
	})
}
