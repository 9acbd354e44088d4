package main

import "testing"

func TestGarbagePercent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		live uint64
		want int
	}{
		{0, 400}, {3 << 20, 400}, {8 << 20, 200}, {16 << 20, 100}, {24 << 20, 66}, {32 << 20, 50}, {4 << 30, 50},
	} {
		if got := garbagePercent(test.live); got != test.want {
			t.Errorf("with %d bytes in use: got %d %%, want %d %%", test.live, got, test.want)
		}
	}
}

func TestGarbageWatch(t *testing.T) {
	t.Parallel()
	w := garbageWatch{percent: usualGarbage}
	allocated := uint64(0)
	for i, step := range []struct {
		live, allocated uint64 // since the step before
		percent         int
		tidy            bool
	}{
		{3 << 20, 3 << 20, 400, false},
		{3 << 20, 1 << 10, 400, false},    // it is quiet, but there is little to collect
		{20 << 20, 200 << 20, 80, false},  // a burst
		{21 << 20, 1 << 20, 80, false},    // it goes on; a small difference changes nothing
		{21 << 20, 100 << 10, 80, true},   // it is over
		{21 << 20, 100 << 10, 80, false},  // once
		{21 << 20, 9 << 20, 80, false},    // the next
		{600 << 20, 100 << 10, 50, false}, // too little for so much memory
		{600 << 20, 300 << 20, 50, false},
		{600 << 20, 0, 50, true},
	} {
		allocated += step.allocated
		if percent, tidy := w.look(step.live, allocated); percent != step.percent || tidy != step.tidy {
			t.Errorf("step %d: got %d %%, %v, want %d %%, %v", i, percent, tidy, step.percent, step.tidy)
		}
	}
}
