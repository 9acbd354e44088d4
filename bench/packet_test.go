package main

import (
	"bytes"
	"errors"
	"testing"
)

func TestLength(t *testing.T) {
	t.Parallel()
	tests := []struct {
		length  int
		encoded []byte // the standard's own limits, table 2.4 of MQTT 3.1.1
	}{
		{0, []byte{0}},
		{127, []byte{0x7f}},
		{128, []byte{0x80, 0x01}},
		{16_383, []byte{0xff, 0x7f}},
		{16_384, []byte{0x80, 0x80, 0x01}},
		{2_097_151, []byte{0xff, 0xff, 0x7f}},
		{2_097_152, []byte{0x80, 0x80, 0x80, 0x01}},
		{268_435_455, []byte{0xff, 0xff, 0xff, 0x7f}},
	}
	for _, test := range tests {
		if got := appendLength(nil, test.length); !bytes.Equal(got, test.encoded) {
			t.Errorf("appendLength(%d): got % x, want % x", test.length, got, test.encoded)
		}
		length, size, err := decodeLength(append(test.encoded, 0xff))
		if length != test.length || size != len(test.encoded) || err != nil {
			t.Errorf("decodeLength(% x): got %d, %d, %v, want %d, %d", test.encoded, length, size, err, test.length, len(test.encoded))
		}
		for n := range test.encoded {
			if _, size, err := decodeLength(test.encoded[:n]); size != 0 || err != nil {
				t.Errorf("decodeLength(% x): got size %d, %v, want that more is needed", test.encoded[:n], size, err)
			}
		}
	}
	for _, malformed := range [][]byte{{0x80, 0x80, 0x80, 0x80}, {0xff, 0xff, 0xff, 0xff, 0x01}} {
		if _, _, err := decodeLength(malformed); !errors.Is(err, errMalformedLength) {
			t.Errorf("decodeLength(% x): got %v, want %v", malformed, err, errMalformedLength)
		}
	}
}

func TestConnectPacket(t *testing.T) {
	t.Parallel()
	tests := []struct {
		level byte
		want  string
	}{
		{levelMQTT311, "\x10\x0e\x00\x04MQTT\x04\x02\x02\x58\x00\x02ab"},
		{levelMQTT5, "\x10\x0f\x00\x04MQTT\x05\x02\x02\x58\x00\x00\x02ab"},
	}
	for _, test := range tests {
		if got := connectPacket(test.level, "ab", 600); string(got) != test.want {
			t.Errorf("CONNECT of level %d: got %q, want %q", test.level, got, test.want)
		}
	}
}

func TestPublishPacket(t *testing.T) {
	t.Parallel()
	packet, offset := publishPacket(levelMQTT311, messageTopic, 64)
	if len(packet) != 71 || offset != 7 || string(packet[:offset]) != "\x30\x45\x00\x03a/b" {
		t.Errorf("got %d bytes, payload at %d, start %q", len(packet), offset, packet[:offset])
	}
	packet, offset = publishPacket(levelMQTT5, "t", 1)
	if string(packet) != "\x30\x05\x00\x01t\x00\x00" || offset != 6 {
		t.Errorf("version 5: got %q, payload at %d", packet, offset)
	}
}
