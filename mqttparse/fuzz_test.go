package mqttparse_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// FuzzParseConnect checks what holds for any bytes at all: see checkConnect.
func FuzzParseConnect(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		checkConnect(t, in)
	})
}

// FuzzTracker cuts arbitrary bytes anywhere and compares with the model.
func FuzzTracker(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.in, uint64(1))
	}
	for seed := range uint64(20) {
		if b := randomStream(rand.New(rand.NewPCG(seed, 4))); len(b) < 1000 { // the fuzzer takes for ever over large ones
			f.Add(b, seed)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		checkSplits(t, in, rand.New(rand.NewPCG(seed, 5)))
	})
}

// FuzzTrackerState restores a Tracker from arbitrary bytes: what is accepted comes out again unchanged and
// can be fed.
func FuzzTrackerState(f *testing.F) {
	for seed := range uint64(20) {
		tr, _ := feed(string(randomStream(rand.New(rand.NewPCG(seed, 6)))))
		f.Add(tr.AppendBinary(nil), []byte("\xc0\x00\x32\x02"))
	}
	f.Fuzz(func(t *testing.T, state, in []byte) {
		var tr mqttparse.Tracker
		if tr.UnmarshalBinary(state) != nil {
			return
		}
		if got := tr.AppendBinary(nil); !bytes.Equal(got, state) {
			t.Fatalf("got % x, want % x", got, state)
		}
		bytewise := tr
		for i := range in {
			bytewise.Feed(in[i:i+1], nil)
		}
		tr.Feed(in, nil)
		if tr != bytewise {
			t.Fatalf("% x, fed % x: got %+v, byte by byte %+v", state, in, tr, bytewise)
		}
		handOver(t, tr)
		if tr.AtBoundary() && (tr.PacketSize() != 0 || tr.Lost()) {
			t.Fatalf("% x: got a boundary with size %d, lost %t", state, tr.PacketSize(), tr.Lost())
		}
	})
}
