package proxy

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gobwas/ws"
)

// frame is one as a client sends it.
func frame(op ws.OpCode, fin bool, payload string) []byte {
	return rawFrame(ws.Frame{Header: ws.Header{Fin: fin, OpCode: op, Length: int64(len(payload))}, Payload: []byte(payload)})
}

// rawFrame is a frame with this header, masked.
func rawFrame(f ws.Frame) []byte {
	return ws.MustCompileFrame(ws.MaskFrameWith(f, [4]byte{0x11, 0xa2, 0x33, 0x44}))
}

// A reading is what has been read from a stream of frames.
type reading struct {
	data   string
	ping   string // the last one
	pinged bool
	closed bool
	status ws.StatusCode
	failed bool
}

// readFrames has frames read parts one by one.
func readFrames(parts ...[]byte) (r reading) {
	var f frames
	var all []byte
	for _, part := range parts {
		data, err := f.decode(slices.Clone(part))
		all = append(all, data...)
		if ping, ok := f.takePing(); ok {
			r.ping, r.pinged = string(ping), true
		}
		r.closed, r.status, r.failed = f.closed, f.status, err != nil
		if r.closed || r.failed {
			break
		}
	}
	if r.failed { // what came before is of no use then, and where it is lost depends on the parts
		return reading{failed: true, status: r.status}
	}
	r.data = string(all)
	return r
}

// bytewise cuts b after each byte.
func bytewise(b []byte) [][]byte { return slices.Collect(slices.Chunk(b, 1)) }

func TestFrames(t *testing.T) {
	t.Parallel()
	long := string(bytes.Repeat([]byte("0123456789abcdef!"), 5000)) // 85 000 bytes: a length of 8 bytes
	for _, tt := range []struct {
		name   string
		stream [][]byte
		want   reading
	}{
		{"nothing", nil, reading{}},
		{"one frame", [][]byte{frame(ws.OpBinary, true, "abc")}, reading{data: "abc"}},
		{"an empty one", [][]byte{frame(ws.OpBinary, true, ""), frame(ws.OpBinary, true, "abc")}, reading{data: "abc"}},
		{"125, 126 and 65 536 bytes", [][]byte{
			frame(ws.OpBinary, true, long[:125]), frame(ws.OpBinary, true, long[:126]), frame(ws.OpBinary, true, long[:65536]),
		}, reading{data: long[:125] + long[:126] + long[:65536]}},
		{"fragments", [][]byte{
			frame(ws.OpBinary, false, "a"), frame(ws.OpContinuation, false, ""), frame(ws.OpContinuation, false, "b"),
			frame(ws.OpContinuation, true, "c"), frame(ws.OpBinary, true, "d"),
		}, reading{data: "abcd"}},
		{"ping between fragments", [][]byte{
			frame(ws.OpBinary, false, "a"), frame(ws.OpPing, true, "are you there"), frame(ws.OpContinuation, true, "b"),
		}, reading{data: "ab", ping: "are you there", pinged: true}},
		{"an empty ping", [][]byte{frame(ws.OpPing, true, "")}, reading{pinged: true}},
		{"the last of several pings", [][]byte{frame(ws.OpPing, true, "1"), frame(ws.OpPing, true, "2")}, reading{ping: "2", pinged: true}},
		{"pong", [][]byte{frame(ws.OpPong, true, "unasked"), frame(ws.OpBinary, true, "a")}, reading{data: "a"}},
		{"half a header", [][]byte{frame(ws.OpBinary, true, "abc")[:5]}, reading{}},
		{"half a frame", [][]byte{frame(ws.OpBinary, true, "abc")[:8]}, reading{data: "ab"}},
		{"half a ping", [][]byte{frame(ws.OpPing, true, "abc")[:8]}, reading{}},
		{"close", [][]byte{
			frame(ws.OpBinary, true, "a"), frame(ws.OpClose, true, "\x03\xe8bye"), frame(ws.OpBinary, true, "not heard any more"),
		}, reading{data: "a", closed: true, status: 1000}},
		{"close without status", [][]byte{frame(ws.OpClose, true, "")}, reading{closed: true}},
		{"close of an application", [][]byte{frame(ws.OpClose, true, "\x0f\xa0")}, reading{closed: true, status: 4000}},
		{"close with half a status", [][]byte{frame(ws.OpClose, true, "\x03")}, reading{failed: true, status: 1002}},
		{"close with a status that is not sent", [][]byte{frame(ws.OpClose, true, "\x03\xee")}, reading{failed: true, status: 1002}},
		{"close with a broken reason", [][]byte{frame(ws.OpClose, true, "\x03\xe8\xff")}, reading{failed: true, status: 1002}},
		{"text", [][]byte{frame(ws.OpText, true, "abc")}, reading{failed: true, status: 1003}},
		{"not masked", [][]byte{{0x82, 3, 'a', 'b', 'c'}}, reading{failed: true, status: 1002}},
		{"reserved bit", [][]byte{rawFrame(ws.Frame{Header: ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpBinary}})}, reading{failed: true, status: 1002}},
		{"reserved opcode of data", [][]byte{frame(3, true, "")}, reading{failed: true, status: 1002}},
		{"reserved opcode of control", [][]byte{frame(0xb, true, "")}, reading{failed: true, status: 1002}},
		{"ping of 126 bytes", [][]byte{frame(ws.OpPing, true, long[:126])}, reading{failed: true, status: 1002}},
		{"ping in fragments", [][]byte{frame(ws.OpPing, false, "a")}, reading{failed: true, status: 1002}},
		{"continuation of nothing", [][]byte{frame(ws.OpContinuation, true, "a")}, reading{failed: true, status: 1002}},
		{"a message in a message", [][]byte{frame(ws.OpBinary, false, "a"), frame(ws.OpBinary, true, "b")}, reading{failed: true, status: 1002}},
		{"a length of 64 bits", [][]byte{{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}}, reading{failed: true, status: 1002}},
	} {
		stream := slices.Concat(tt.stream...)
		for cut, parts := range map[string][][]byte{"whole": {stream}, "byte by byte": bytewise(stream)} {
			if got := readFrames(parts...); got != tt.want {
				t.Errorf("%s, %s: got %.200v, want %.200v", tt.name, cut, got, tt.want)
			}
		}
	}
}

// However a client cuts its stream into messages, these into fragments, and TCP all of that into segments, what comes
// out are the bytes that went in.
func TestFramesOfAnyCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 7))
		want := make([]byte, rng.IntN(1<<rng.IntN(18)))
		for i := range want {
			want[i] = byte(rng.Uint32())
		}
		stream := fragment(rng, want)
		if got := readFrames(cutUp(rng, stream)...); got.data != string(want) || got.failed || got.closed {
			t.Fatalf("seed %d: got %d bytes, failed %v with status %d, closed %v; want the %d bytes that went in",
				seed, len(got.data), got.failed, got.status, got.closed, len(want))
		}
	}
}

// fragment puts data into frames of random size, messages of random length, with control frames in between.
func fragment(rng *rand.Rand, data []byte) []byte {
	var stream []byte
	op := ws.OpBinary
	for len(data) > 0 {
		n := rng.IntN(min(len(data), 1<<rng.IntN(17)) + 1)
		fin := rng.IntN(2) == 0 || n == len(data)
		f := ws.NewFrame(op, fin, slices.Clone(data[:n]))
		stream = append(stream, ws.MustCompileFrame(ws.MaskFrameInPlaceWith(f, ws.NewMask()))...)
		data = data[n:]
		if op = ws.OpContinuation; fin {
			op = ws.OpBinary
		}
		switch rng.IntN(4) {
		case 0:
			stream = append(stream, frame(ws.OpPing, true, "between")...)
		case 1:
			stream = append(stream, frame(ws.OpPong, true, "")...)
		}
	}
	return stream
}

// cutUp cuts b at random.
func cutUp(rng *rand.Rand, b []byte) (parts [][]byte) {
	most := 1 << rng.IntN(18)
	for len(b) > 0 {
		n := 1 + rng.IntN(min(len(b), most))
		parts = append(parts, b[:n])
		b = b[n:]
	}
	return parts
}

// oracle reads the frames with the library's own reader.
func oracle(stream []byte) (r reading) {
	in := bytes.NewReader(stream)
	fail := func(status ws.StatusCode) reading { return reading{failed: true, status: status} }
	for state := ws.StateServerSide; ; {
		h, err := ws.ReadHeader(in)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return r
		case err != nil || ws.CheckHeader(h, state) != nil:
			return fail(1002)
		case h.OpCode == ws.OpText:
			return fail(1003)
		}
		payload := make([]byte, min(h.Length, int64(in.Len())))
		_, _ = io.ReadFull(in, payload)
		ws.Cipher(payload, h.Mask, 0)
		if h.OpCode.IsData() {
			r.data += string(payload)
			if state = state.Set(ws.StateFragmented); h.Fin {
				state = state.Clear(ws.StateFragmented)
			}
			continue
		}
		switch {
		case int64(len(payload)) < h.Length:
			return r
		case h.OpCode == ws.OpPing:
			r.ping, r.pinged = string(payload), true
		case h.OpCode == ws.OpClose && len(payload) == 0:
			r.closed = true
			return r
		case h.OpCode == ws.OpClose:
			status, reason := ws.ParseCloseFrameData(payload)
			if ws.CheckCloseFrameData(status, reason) != nil {
				return fail(1002)
			}
			r.closed, r.status = true, status
			return r
		}
	}
}

func FuzzFrames(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, stream := range [][]byte{
		{},
		frame(ws.OpBinary, true, "abc"), fragment(rng, bytes.Repeat([]byte("mqtt"), 300)), fragment(rng, bytes.Repeat([]byte{0}, 70_000)),
		slices.Concat(frame(ws.OpPing, true, "x"), frame(ws.OpClose, true, "\x03\xe8")), frame(ws.OpClose, true, "\x03"),
		frame(ws.OpText, true, "x"),
		{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4},
		{0x82, 3, 'a', 'b', 'c'},
	} {
		f.Add(stream, uint64(1))
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		want := oracle(stream)
		rng := rand.New(rand.NewPCG(seed, 3))
		for cut, parts := range map[string][][]byte{"whole": {stream}, "at random": cutUp(rng, stream), "byte by byte": bytewise(stream)} {
			if got := readFrames(parts...); got != want {
				t.Errorf("cut %s: got %+v, want %+v", cut, got, want)
			}
		}
	})
}

func TestFrameHeader(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 1 << 20} {
		b := appendFrameHeader(nil, ws.OpBinary, size)
		got, err := ws.ReadHeader(bytes.NewReader(b))
		want := ws.Header{Fin: true, OpCode: ws.OpBinary, Length: int64(size)}
		if err != nil || got != want || len(b) != ws.HeaderSize(want) {
			t.Errorf("%d bytes: got %+v of %d bytes and %v, want %+v of %d", size, got, len(b), err, want, ws.HeaderSize(want))
		}
	}
}

// The path of a packet allocates nothing.
func BenchmarkFrames(b *testing.B) {
	packet := publish(60) // 64 bytes
	b.Run("decode", func(b *testing.B) {
		stream := frame(ws.OpBinary, true, string(packet))
		chunk := make([]byte, len(stream))
		var f frames
		b.ReportAllocs()
		b.SetBytes(int64(len(packet)))
		for b.Loop() {
			copy(chunk, stream)
			if data, err := f.decode(chunk); err != nil || len(data) != len(packet) {
				b.Fatalf("got %d bytes and %v", len(data), err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		var out []byte
		b.ReportAllocs()
		b.SetBytes(int64(len(packet)))
		for b.Loop() {
			out = append(appendFrameHeader(out[:0], ws.OpBinary, len(packet)), packet...)
		}
	})
}

func TestFramesAllocateNothing(t *testing.T) {
	stream := slices.Concat(frame(ws.OpBinary, true, string(publish(60))), frame(ws.OpBinary, true, string(publish(3000))))
	chunk, out := make([]byte, len(stream)), make([]byte, 0, 1<<16)
	var f frames
	if n := testing.AllocsPerRun(100, func() {
		copy(chunk, stream)
		data, err := f.decode(chunk)
		if err != nil {
			t.Fatal(err)
		}
		out = append(appendFrameHeader(out[:0], ws.OpBinary, len(data)), data...)
	}); n != 0 {
		t.Errorf("got %v allocations per packet, want none", n)
	}
}
