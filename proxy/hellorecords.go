package proxy

import (
	"encoding/binary"
	"slices"
)

// A tls.Conn has a buffer for records and one for handshake messages, and never gives back what they have once needed.
// Both begin with the ClientHello, and for most clients it is the largest thing that ever goes through them: with
// post-quantum key shares some 1500 bytes. So it is handed over in records that are short enough for the buffer's smallest
// size. How a message is cut into records is nobody's business (RFC 8446, 5.1) and not part of what both sides sign.

// shortRecord is the payload of the longest record that fits into the buffer for records as it is at first: crypto/tls
// makes room for a header and bytes.MinRead.
const shortRecord = 512

// shortRecords returns a copy of the client's first bytes in which the first record is cut into short ones. The pieces have
// the same length, which is the largest but for halving: so the buffer for messages, which doubles as it grows, ends at
// about the length of the message.
func shortRecords(b []byte) []byte {
	payload, whole, err := cutRecord(b)
	if err != nil || !whole || len(payload) <= shortRecord {
		return slices.Clone(b)
	}
	piece, pieces := len(payload), 1
	for piece > shortRecord {
		pieces *= 2
		piece = (len(payload) + pieces - 1) / pieces
	}
	short := make([]byte, 0, len(b)+(pieces-1)*recordHeader)
	for p := range slices.Chunk(payload, piece) {
		short = append(short, b[:recordHeader-2]...)
		short = binary.BigEndian.AppendUint16(short, uint16(len(p)))
		short = append(short, p...)
	}
	return append(short, b[recordHeader+len(payload):]...)
}

// nextRead is how many of the collected bytes crypto/tls gets at a time: a record, because what is read beyond it would
// take up room in its buffer.
func nextRead(collected []byte) int {
	if len(collected) < recordHeader {
		return len(collected)
	}
	return min(len(collected), recordHeader+int(binary.BigEndian.Uint16(collected[3:])))
}
