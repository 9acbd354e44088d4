package main

import (
	"bufio"
	"bytes"
	"math"
	"strings"
	"testing"
	"time"
)

func TestTimeToShare(t *testing.T) {
	t.Parallel()
	at := func(seconds int, counts ...int) fleetSample {
		return fleetSample{at: time.Duration(seconds) * time.Second, counts: counts}
	}
	tests := []struct {
		name    string
		series  []fleetSample
		want    time.Duration
		reached bool
	}{
		{"nothing seen", nil, 0, false},
		{"never", []fleetSample{at(0, 50, 50, 0), at(1, 40, 40, 20)}, 0, false},
		{"grows", []fleetSample{at(0, 50, 50, 0), at(1, 40, 40, 20), at(2, 35, 35, 30), at(3, 34, 33, 33)}, 2 * time.Second, true},
		{"falls back and returns", []fleetSample{at(0, 50, 50, 0), at(1, 33, 33, 33), at(2, 40, 40, 20), at(3, 34, 33, 33)}, 3 * time.Second, true},
		{"lost in the end", []fleetSample{at(0, 33, 33, 33), at(1, 50, 50, 0)}, 0, false},
		{"from the beginning", []fleetSample{at(5, 33, 33, 33)}, 5 * time.Second, true},
		{"no clients", []fleetSample{at(0, 0, 0, 0)}, 0, false},
	}
	for _, test := range tests {
		if got, reached := timeToShare(test.series, 2); got != test.want || reached != test.reached {
			t.Errorf("%s: got %v, %v, want %v, %v", test.name, got, reached, test.want, test.reached)
		}
	}
}

func TestSpreadOf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		groups [][]int
		want   groupSpread
	}{
		{nil, groupSpread{}},
		{[][]int{{2, 2, 2}, {2, 2, 2}}, groupSpread{worstSkew: 1}},
		{[][]int{{3, 3, 0}}, groupSpread{worstSkew: 1.5}},
		{[][]int{{2, 2, 2}, {1, 4, 1}}, groupSpread{worstSkew: 2, majority: 1}},
		{[][]int{{6, 0, 0}, {4, 2, 0}}, groupSpread{worstSkew: 3, together: 1, majority: 2}},
	}
	for _, test := range tests {
		if got := spreadOf(test.groups); got != test.want {
			t.Errorf("%v: got %+v, want %+v", test.groups, got, test.want)
		}
	}
}

func TestWorstSecond(t *testing.T) {
	t.Parallel()
	start := time.Now()
	for _, test := range []struct {
		milliseconds []int
		want         int
	}{
		{nil, 0},
		{[]int{0}, 1},
		{[]int{0, 999, 1000, 1998, 1999}, 3},
		{[]int{0, 1000, 2000}, 1},
	} {
		var times []time.Time
		for _, ms := range test.milliseconds {
			times = append(times, start.Add(time.Duration(ms)*time.Millisecond))
		}
		if got := worstSecond(times); got != test.want {
			t.Errorf("%v: got %d, want %d", test.milliseconds, got, test.want)
		}
	}
}

func TestEventFigures(t *testing.T) {
	t.Parallel()
	start := time.Now()
	after := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	events := []fleetEvent{
		{after(0), "a", clientUp},
		{after(1), "a", clientCut},
		{after(3), "a", clientCut},
		{after(4), "b", clientCut},
		{after(5), "a", clientCut},
		{after(6), "b", clientLeft},
		{after(7), "a", clientUp},
		{after(8), "a", clientUp},
	}
	if total, twice := countEvents(events, clientCut, after(3)); total != 3 || twice != 1 {
		t.Errorf("disconnects: got %d, %d clients twice, want 3 and 1", total, twice)
	}
	if up, last := upSince(events, after(1)); up != 1 || !last.Equal(after(7)) {
		t.Errorf("back: got %d, the last at %v, want 1 at 7s", up, last.Sub(start))
	}

	connects := []fleetConnect{
		{after(0), "a", 0},
		{after(0), "b", 1},
		{after(1), "b", 2}, // before the time that counts
		{after(3), "a", 0}, // stays
		{after(4), "b", 1}, // strays
		{after(5), "b", 3}, // to the new one
		{after(6), "c", 1}, // comes for the first time
		{after(7), "a", 2}, // strays
	}
	if got := strayed(connects, after(2), 3); got != 0.5 {
		t.Errorf("strayed: got %v, want half of four", got)
	}
	if got := strayed(connects, after(9), 3); got != 0 {
		t.Errorf("strayed without a reconnect: got %v, want 0", got)
	}
	if got := len(connectTimes(connects, after(4), 1)); got != 2 {
		t.Errorf("connects at broker 1: got %d, want 2", got)
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	if got := shareOf([]int{30, 30, 30, 10}, 3); math.Abs(got-0.4) > 1e-9 {
		t.Errorf("share: got %v, want 0.4", got)
	}
	if got := maxOverMean([]int{10, 20, 30}); math.Abs(got-1.5) > 1e-9 {
		t.Errorf("fullest to mean: got %v, want 1.5", got)
	}
}

func TestParseFleetConnect(t *testing.T) {
	t.Parallel()
	for _, level := range []byte{levelMQTT311, levelMQTT5} {
		packet := connectPacket(level, "fleet-device-7", 60)
		first, body, err := readPacket(bufio.NewReader(bytes.NewReader(packet)))
		if err != nil || first>>4 != packetConnect {
			t.Fatalf("level %d: got packet %#x, %v", level, first, err)
		}
		gotLevel, client, err := parseFleetConnect(body)
		if gotLevel != level || client != "fleet-device-7" || err != nil {
			t.Errorf("level %d: got %d, %q, %v", level, gotLevel, client, err)
		}
		for n := range body {
			if _, _, err := parseFleetConnect(body[:n]); err == nil {
				t.Errorf("level %d, cut after %d bytes: got no error", level, n)
			}
		}
	}
	for _, bad := range []string{"", "\x10", "\x10\x05abc", "\x10\xff\xff\xff\xff\x01", "\x10\xff\xff\x7f"} {
		if _, _, err := readPacket(bufio.NewReader(strings.NewReader(bad))); err == nil {
			t.Errorf("packet %x: got no error", bad)
		}
	}
}

func TestFleetAddress(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for n := range 100_000 {
		ip := fleetAddress(n)
		if !ip.IsLoopback() || ip[15] == 0 || ip[15] == 255 || seen[ip.String()] {
			t.Fatalf("client %d: got address %v", n, ip)
		}
		seen[ip.String()] = true
	}
}
