package proxy

import (
	"sort"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// oversized looks for a packet above limit bytes among those that begin in chunk, or whose header ends in it. t has
// followed everything before. If there is one, at is where in chunk its header ends, less one byte: what is before
// may go on, and a broker that gets it does not know yet how large the packet would have been.
func oversized(t mqttparse.Tracker, chunk []byte, limit int) (at int, over bool) {
	// A packet that is too large and begins in a part of this length cannot end in it, nor in the next one if
	// its header does not end in the first. So it is enough to look where each part ends.
	part := max(limit-maxFixedHeader, 1)
	for from := 0; from < len(chunk); from += part {
		end := min(from+part, len(chunk))
		before := t
		t.Feed(chunk[from:end], nil)
		if t.PacketSize() <= limit {
			continue
		}
		n := sort.Search(end-from, func(n int) bool {
			t := before
			t.Feed(chunk[from:from+n], nil)
			return t.PacketSize() > limit
		})
		return max(from+n-1, 0), true
	}
	return 0, false
}

// maxFixedHeader is the most bytes that a fixed header has.
const maxFixedHeader = 5

// screen cuts off what a client sends from the first packet on that is too large, and notes that the session has to
// end for it.
func (s *session) screen(chunk []byte) []byte {
	at, over := oversized(s.client.in, chunk, s.listener.PacketSize)
	if over {
		s.refusal = RefusedPacketSize
		return chunk[:at]
	}
	return chunk
}
