package proxy

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// packet is a PUBLISH of this many bytes in all, as near as its length can be written.
func packet(size int) []byte {
	for header := 2; ; header++ {
		b, rest := []byte{0x30}, size-header
		for more := true; more; {
			digit := byte(rest & 0x7f)
			if rest >>= 7; rest > 0 {
				digit |= 0x80
			}
			b, more = append(b, digit), rest > 0
		}
		if len(b) <= header {
			return append(b, make([]byte, size-header)...)
		}
	}
}

// TestOversizedAgainstAModel: the first packet that is too large is found, and no other, however the bytes are cut.
func TestOversizedAgainstAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 2))
		limit := 10 + rng.IntN(400)
		var stream []byte
		begins, ends := -1, -1 // the header of the first packet that is too large
		for range rng.IntN(30) + 1 {
			size := 2 + rng.IntN(limit+rng.IntN(5))
			p := packet(size)
			if len(p) > limit && begins < 0 {
				header := 1
				for p[header] >= 0x80 {
					header++
				}
				begins, ends = len(stream), len(stream)+header
			}
			stream = append(stream, p...)
		}
		var tracker mqttparse.Tracker
		found := -1
		for from := 0; from < len(stream) && found < 0; {
			end := min(from+1+rng.IntN(3*limit), len(stream))
			if at, over := oversized(tracker, stream[from:end], limit); over {
				found = from + at
			}
			tracker.Feed(stream[from:end], nil)
			from = end
		}
		if begins < 0 && found >= 0 || begins >= 0 && (found < begins || found > ends) {
			t.Fatalf("seed %d, limit %d: cut at %d, want it between %d and %d", seed, limit, found, begins, ends)
		}
	}
}

// TestPacketThatIsTooLargeEndsTheSession: the broker gets what came before and not the packet, the client nothing.
func TestPacketThatIsTooLargeEndsTheSession(t *testing.T) {
	t.Parallel()
	const limit = 1000
	for _, split := range []int{1, 2, 500, 100_000} {
		r := newRig(t, rigOptions{listener: Listener{PacketSize: limit}})
		client, broker := r.session()
		before := append(packet(limit), packet(10)...)
		for rest := append(bytes.Clone(before), packet(limit+1)...); len(rest) > 0; {
			n := min(split, len(rest))
			if _, err := client.Write(rest[:n]); err != nil {
				break // it has been noticed
			}
			rest = rest[n:]
		}
		expect(t, broker, before)
		after := make([]byte, 10)
		if n, err := readFull(broker, after); n > 2 || err == nil {
			t.Errorf("split %d: the broker got %x of the packet and %v, want less than its header and the end", split, after[:n], err)
		}
		expectEnd(t, client)
		if rec := r.record(); rec.Refusal != RefusedPacketSize || rec.End != EndLimit {
			t.Errorf("split %d: got %q, %v, want %q, limit", split, rec.Refusal, rec.End, RefusedPacketSize)
		}
	}
}

// TestPacketThatIsTooLargeBehindConnect keeps the client out.
func TestPacketThatIsTooLargeBehindConnect(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{listener: Listener{PacketSize: 10}})
	client := r.dial()
	write(t, client, append(connect("longer-than-ten-bytes"), packet(11)...))
	expectEnd(t, client)
	if rec := r.record(); rec.Refusal != RefusedPacketSize || rec.Target.Backend != nil {
		t.Errorf("got %q, want %q without a backend", rec.Refusal, RefusedPacketSize)
	}
}
