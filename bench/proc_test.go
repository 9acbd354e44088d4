package main

import (
	"os"
	"testing"
	"time"
)

func TestParseProcessStat(t *testing.T) {
	t.Parallel()
	// A process may give itself any name.
	const stat = "42 (a b) (c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 4 0 9 1 1\n"
	if got, err := parseProcessStat([]byte(stat)); got != 2*time.Second || err != nil {
		t.Errorf("CPU time: got %v, %v, want 2s", got, err)
	}
	if got := parentOf([]byte(stat)); got != 7 {
		t.Errorf("parent: got %d, want 7", got)
	}
	for _, bad := range []string{"", "42", "42 (a) S 1 2"} {
		if _, err := parseProcessStat([]byte(bad)); err == nil {
			t.Errorf("parseProcessStat(%q): got no error", bad)
		}
	}
}

func TestParseMachineStat(t *testing.T) {
	t.Parallel()
	got, err := parseMachineStat([]byte("cpu  100 20 30 4000 50 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"))
	want := machineCPU{busy: 1630 * time.Millisecond, stolen: 80 * time.Millisecond}
	if got != want || err != nil {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "cpu 1 2", "intr 1 2 3 4 5 6 7 8 9", "cpu a b c d e f g h i"} {
		if _, err := parseMachineStat([]byte(bad)); err == nil {
			t.Errorf("parseMachineStat(%q): got no error", bad)
		}
	}
}

func TestParseKilobytes(t *testing.T) {
	t.Parallel()
	text := []byte("00400000-7fff rollup\nRss:      1024 kB\nPss:   12 kB\n")
	if got, err := parseKilobytes(text, "Rss"); got != 1<<20 || err != nil {
		t.Errorf("got %d, %v, want a MiB", got, err)
	}
	if _, err := parseKilobytes(text, "Slab"); err == nil {
		t.Error("missing line: got no error")
	}
}

func TestOwnProcess(t *testing.T) {
	t.Parallel()
	pid := os.Getpid()
	before, err := processCPU(pid)
	if err != nil {
		t.Fatal(err)
	}
	for spent := before; spent < before+20*time.Millisecond; {
		if spent, err = processCPU(pid); err != nil {
			t.Fatal(err)
		}
	}
	ticks, err := processTicks(pid)
	if err != nil || ticks <= 0 {
		t.Errorf("ticks: got %v, %v, want more than none", ticks, err)
	}
	if resident, err := processResident(pid); err != nil || resident < 1<<20 {
		t.Errorf("resident memory: got %d, %v, want a MiB at least", resident, err)
	}
	if slab, err := kernelSlab(); err != nil || slab <= 0 {
		t.Errorf("slab: got %d, %v, want more than none", slab, err)
	}
	// Linux numbers processes below 2^22.
	if _, err := processCPU(1 << 22); err == nil {
		t.Error("CPU time of a process that is not: got no error")
	}
}

func TestDescends(t *testing.T) {
	t.Parallel()
	parents := map[int]int{10: 1, 20: 10, 30: 20, 40: 1, 50: 50}
	for pid, want := range map[int]bool{20: true, 30: true, 10: false, 40: false, 50: false, 60: false} {
		if got := descends(pid, 10, parents); got != want {
			t.Errorf("%d descends from 10: got %v, want %v", pid, got, want)
		}
	}
}
