package health

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/eclipse/paho.golang/packets"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// The table knows every code that paho and our own refusals know.
func TestConnackCodes(t *testing.T) {
	for code := range 256 {
		says, name := explain(5, byte(code))
		known := (&packets.Connack{ReasonCode: byte(code)}).Reason() != "" || code == 0x99 // which paho forgot
		if known != (name != "unknown code") {
			t.Errorf("code %#02x: got %q, paho says that it is known: %v", code, name, known)
		}
		if !known && says != broken {
			t.Errorf("code %#02x: got %v, want broken", code, says)
		}
	}
	for _, refusal := range []mqttparse.Refusal{mqttparse.ServerUnavailable, mqttparse.ServerBusy} {
		for _, version := range []byte{3, 4, 5} {
			a, err := readConnack(bytes.NewReader(mqttparse.AppendConnack(nil, version, refusal)))
			if says, _ := explain(a.version, a.code); err != nil || says != unavailable {
				t.Errorf("refusal %d for version %d: got %+v, %v, want unavailable", refusal, version, a, err)
			}
		}
	}
}

// FuzzReadConnack wants of every answer: no panic; never a byte more read than the packet has; the same
// result however the bytes arrive; no result before the last byte; and the code that paho finds.
func FuzzReadConnack(f *testing.F) {
	for _, seed := range [][]byte{
		{0x20, 2, 0, 0},
		{0x20, 2, 1, 5},
		{0x20, 3, 0, 0x87, 0},
		{0x20, 8, 0, 0x9C, 5, 0x1C, 0, 2, 'n', '2'},
		{0x20, 11, 0, 0x89, 8, 0x1F, 0, 5, 'b', 'u', 's', 'y', '!'},
		{0x20, 10, 0, 0, 7, 0x26, 0, 1, 'a', 0, 1, 'b'},
		{0x20, 0xFF, 0xFF, 0xFF, 0x7F},
		{0x20, 0x83, 0x00, 0, 0, 0},
		{0xE0, 2, 0x8B, 0},
		{0x15, 3, 3, 0, 2, 2, 70},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		a, err := readConnack(r)
		read := len(b) - r.Len()
		if slow, slowErr := readConnack(iotest.OneByteReader(bytes.NewReader(b))); slow != a || (slowErr == nil) != (err == nil) {
			t.Fatalf("byte by byte: got %+v, %v; at once: %+v, %v", slow, slowErr, a, err)
		}
		if read > maxConnack+5 {
			t.Fatalf("%d bytes read", read)
		}
		if err != nil {
			if a != (connack{}) {
				t.Fatalf("got %+v with error %v", a, err)
			}
			return
		}
		for n := range read {
			if a, err := readConnack(bytes.NewReader(b[:n])); !errors.Is(err, errHungUp) && !errors.Is(err, errHalf) {
				t.Fatalf("after %d of %d bytes: got %+v, %v", n, read, a, err)
			}
		}
		if a.version == 4 {
			if a.code != b[read-1] {
				t.Fatalf("got %+v of %x", a, b[:read])
			}
			return
		}
		p, err := packets.ReadPacket(bytes.NewReader(b[:read]))
		if err != nil {
			t.Fatalf("paho does not read %x: %v", b[:read], err)
		}
		if theirs := p.Content.(*packets.Connack); theirs.ReasonCode != a.code || theirs.Properties.ReasonString != a.reason {
			t.Fatalf("got %+v, paho %v", a, theirs)
		}
	})
}

// An endless answer is not followed to its end.
func TestReadConnackIsBounded(t *testing.T) {
	endless := io.MultiReader(bytes.NewReader([]byte{0x20}), iotest.DataErrReader(zeros{0xFF}))
	if _, err := readConnack(endless); err == nil {
		t.Error("got no error")
	}
}

// zeros are endless bytes of one value.
type zeros [1]byte

func (z zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = z[0]
	}
	return len(b), nil
}
