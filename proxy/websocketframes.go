package proxy

import (
	"encoding/binary"
	"errors"

	"github.com/gobwas/ws"
)

// frames reads the frames that a client sends, however they are cut, and takes the data out of them. MQTT does not
// care about where messages and fragments end (MQTT-6.0.0-2), so nothing is ever put together: all it keeps is the
// state of one frame.
type frames struct {
	header     [ws.MaxHeaderSize]byte // as far as it has come
	have       uint8                  // bytes of header
	at         uint8                  // of the mask, for the next byte of payload
	op         ws.OpCode
	fragmented bool // further fragments of the message must come
	closed     bool // Close has come
	mask       [4]byte
	status     ws.StatusCode // of Close: the client's, or what it must be told after an error; 0 is none
	left       int64         // bytes of payload to come
	control    []byte        // payload of a control frame that has begun; nil without one
	ping       []byte        // payload of the last ping that is not answered; nil without one
}

// errFrame is the error of frames. Its status says more.
var errFrame = errors.New("not what MQTT over WebSocket may look like")

// decode returns the data that is in the next bytes of the stream, which it overwrites. After an error, or once closed
// is set, the stream is at its end.
func (f *frames) decode(b []byte) (data []byte, err error) {
	from := 0
	for from < len(b) {
		if f.left == 0 {
			n, complete := f.readHeader(b[from:])
			from += n
			if !complete {
				break
			}
			if err := f.begin(); err != nil {
				return nil, err
			}
		}
		n := int(min(f.left, int64(len(b)-from)))
		payload := b[from : from+n]
		ws.Cipher(payload, f.mask, int(f.at))
		f.at = (f.at + uint8(n&3)) & 3
		f.left -= int64(n)
		switch {
		case f.op.IsControl():
			f.control = append(f.control, payload...)
		case data == nil:
			data = b[from:from:len(b)]
			fallthrough
		default:
			data = append(data, payload...) // moves it next to the data before, in place
		}
		from += n
		if f.left == 0 && f.op.IsControl() {
			if err := f.endControl(); err != nil || f.closed {
				return data, err
			}
		}
	}
	return data, nil
}

// readHeader takes what belongs to the header of the next frame and tells whether that is complete.
func (f *frames) readHeader(b []byte) (n int, complete bool) {
	for {
		size := f.headerSize()
		k := copy(f.header[f.have:size], b[n:])
		f.have += uint8(k)
		n += k
		switch {
		case int(f.have) < size:
			return n, false
		case size == f.headerSize(): // which two bytes tell
			return n, true
		}
	}
}

// headerSize is how long the header is, as far as is known.
func (f *frames) headerSize() int {
	if f.have < 2 {
		return 2
	}
	size := 2
	switch f.header[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if f.header[1]&0x80 != 0 {
		size += 4
	}
	return size
}

// begin begins the frame whose header is complete.
func (f *frames) begin() error {
	h, n := f.parseHeader()
	state := ws.StateServerSide
	if f.fragmented {
		state = state.Set(ws.StateFragmented)
	}
	if h.Length < 0 || ws.CheckHeader(h, state) != nil {
		return f.fail(ws.StatusProtocolError)
	}
	if h.OpCode == ws.OpText {
		return f.fail(ws.StatusUnsupportedData) // MQTT-6.0.0-1
	}
	f.op, f.left, f.have, f.at = h.OpCode, h.Length, 0, 0
	copy(f.mask[:], f.header[n-4:n])
	if f.op.IsData() {
		f.fragmented = !h.Fin
	}
	return nil
}

// parseHeader returns the header and its size. A negative length is one that is too large for the protocol.
func (f *frames) parseHeader() (h ws.Header, size int) {
	h = ws.Header{
		Fin: f.header[0]&0x80 != 0, Rsv: f.header[0] >> 4 & 7, OpCode: ws.OpCode(f.header[0] & 0xf),
		Masked: f.header[1]&0x80 != 0,
	}
	switch n := f.header[1] & 0x7f; n {
	case 126:
		h.Length = int64(binary.BigEndian.Uint16(f.header[2:]))
	case 127:
		h.Length = int64(binary.BigEndian.Uint64(f.header[2:])) //nolint:gosec // the sign is looked at
	default:
		h.Length = int64(n)
	}
	return h, f.headerSize()
}

// endControl handles a control frame that is complete.
func (f *frames) endControl() error {
	payload := f.control
	f.control = nil
	if f.op == ws.OpPing {
		if f.ping = payload; payload == nil {
			f.ping = []byte{}
		}
	}
	if f.op != ws.OpClose {
		return nil
	}
	if len(payload) > 0 {
		status, reason := ws.ParseCloseFrameData(payload)
		if len(payload) == 1 || ws.CheckCloseFrameData(status, reason) != nil {
			return f.fail(ws.StatusProtocolError)
		}
		f.status = status
	}
	f.closed = true
	return nil
}

// fail notes what the client must be told.
func (f *frames) fail(status ws.StatusCode) error {
	f.status = status
	return errFrame
}

// takePing returns the payload of the last ping that has not been answered.
func (f *frames) takePing() (payload []byte, ok bool) {
	payload = f.ping
	f.ping = nil
	return payload, payload != nil
}

// appendFrameHeader appends the header of a frame for a client: it is whole and not masked.
func appendFrameHeader(dst []byte, op ws.OpCode, size int) []byte {
	dst = append(dst, 0x80|byte(op))
	switch {
	case size <= 125:
		return append(dst, byte(size))
	case size <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(size))
}
