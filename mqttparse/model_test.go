package mqttparse_test

import (
	"fmt"
	"math/rand/v2"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// A model is a Tracker that a child would write: it keeps every byte of its direction and starts again
// from the first one whenever it is asked.
type model struct{ all []byte }

// state walks over everything and writes down what a Tracker must say about it.
func (m *model) state() string {
	var (
		counts             mqttparse.Counts
		asked, answered    int
		publishes          int // QoS 2, whose PUBREL is still to come
		uncounted          bool
		connack            = "none"
		disconnected, lost bool
		size               int
		boundary           = true
	)
	for rest := m.all; len(rest) > 0; {
		boundary, size = false, 0
		first := rest[0]
		counts[first>>4]++
		switch {
		case first>>4 == 0:
			lost = true
		case first>>4 == 3 && first&6 == 2, first>>4 == 8, first>>4 == 10, first>>4 == 12:
			asked++
		case first>>4 == 3 && first&4 == 4:
			asked++
			publishes++
			uncounted = uncounted || publishes >= 255
		case first>>4 == 6 && uncounted:
		case first>>4 == 6 && publishes > 0:
			publishes--
		case first>>4 == 6:
			asked++
		}
		if lost {
			break
		}
		// The length: up to four bytes, the last one below 128.
		length, factor, head := 0, 1, 1
		for {
			if head == len(rest) {
				head = 0
				break
			}
			b := int(rest[head])
			length += b % 128 * factor
			factor *= 128
			head++
			if b < 128 {
				break
			}
			if head == 5 {
				lost = true
				break
			}
		}
		if lost || head == 0 {
			break
		}
		body := rest[head:min(len(rest), head+length)]
		if first>>4 == 5 && len(body) >= 3 && body[2] >= 0x80 {
			answered++
		}
		if len(body) < length {
			size = head + length
			break
		}
		switch first >> 4 {
		case 2:
			if connack == "none" && length >= 2 {
				connack = fmt.Sprint(body[1])
			}
		case 4, 7, 9, 11, 13:
			answered++
		case 14:
			disconnected = true
		}
		boundary = true
		rest = rest[head+length:]
	}
	if lost {
		boundary, size = false, 0
	}
	return fmt.Sprintf("boundary %t, lost %t, size %d, connack %s, disconnected %t, asked %d, answered %d, counts %v",
		boundary, lost, size, connack, disconnected, asked%65536, answered%65536, counts)
}

// trackerState is what a Tracker says, in the words of the model.
func trackerState(t *mqttparse.Tracker, n *mqttparse.Counts) string {
	connack := "none"
	if code, ok := t.Connack(); ok {
		connack = fmt.Sprint(code)
	}
	return fmt.Sprintf("boundary %t, lost %t, size %d, connack %s, disconnected %t, asked %d, answered %d, counts %v",
		t.AtBoundary(), t.Lost(), t.PacketSize(), connack, t.Disconnected(), t.Asked(), t.Answered(), *n)
}

// randomStream makes packets of all types, most of them small, some empty, large, cut or malformed.
func randomStream(r *rand.Rand) (b []byte) {
	for range r.IntN(30) {
		first := byte(0x10 + r.IntN(0xf0))
		switch r.IntN(10) {
		case 0, 1, 2:
			first = 0x30 | first&0x0f // PUBLISH
		case 3:
			first = 0x50 // PUBREC
		case 4:
			first = 0x20 // CONNACK
		}
		size := r.IntN(8)
		switch r.IntN(12) {
		case 0:
			size = r.IntN(300)
		case 1:
			size = 16_300 + r.IntN(200)
		}
		b = appendHeader(b, first, size)
		if r.IntN(8) == 0 { // a length of more bytes than needed
			b[len(b)-1] |= 0x80
			b = append(b, 0)
		}
		for range size {
			b = append(b, byte(r.Uint32()))
		}
	}
	switch r.IntN(12) {
	case 0:
		b = append(b, byte(r.Uint32()), 0xff, 0xff, 0xff, 0xff, 0x01, 0x40, 0x02)
	case 1:
		b = append(b, 0x00, 0x02, 0x00, 0x00)
	case 2:
		b = b[:len(b)-min(len(b), r.IntN(5))]
	}
	return b
}
