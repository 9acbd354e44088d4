package main

import (
	"errors"
	"strings"
	"testing"
)

// proxyHeader is the example of a PROXY protocol v2 header for TCP over IPv4, with a TLV of one byte.
const proxyHeader = proxySignature + "\x21\x11\x00\x10" + "\x7f\x00\x00\x01\x7f\x00\x00\x01\x12\x34\x07\x5b" + "\x04\x00\x01x"

func TestEcho(t *testing.T) {
	t.Parallel()
	publish := func(payload int) string {
		packet, _ := publishPacket(levelMQTT311, "t", payload)
		return string(packet)
	}
	connect := func(level byte) string { return string(connectPacket(level, "client", 60)) }
	const (
		connack311 = "\x20\x02\x00\x00"
		connack5   = "\x20\x03\x00\x00\x00"
		pingreq    = "\xc0\x00"
		pingresp   = "\xd0\x00"
		subscribe  = "\x82\x06\x00\x01\x00\x01t\x00"
		connect31  = "\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a"
	)
	tests := []struct {
		name  string
		proxy bool
		in    string
		out   string
		err   error
	}{
		{"nothing", false, "", "", nil},
		{"CONNECT 3.1", false, connect31, connack311, nil},
		{"CONNECT 3.1.1", false, connect(4), connack311, nil},
		{"CONNECT 5", false, connect(5), connack5, nil},
		{"PUBLISH", false, publish(0) + publish(1) + publish(200), publish(0) + publish(1) + publish(200), nil},
		{"order", false, connect(4) + publish(3) + pingreq + publish(300), connack311 + publish(3) + pingresp + publish(300), nil},
		{"no answer", false, subscribe + pingreq, pingresp, nil},
		{"DISCONNECT", false, publish(1) + "\xe0\x00" + publish(1), publish(1), errClientLeft},
		{"DISCONNECT 5", false, "\xe0\x01\x00", "", errClientLeft},
		{"bad length", false, pingreq + "\x30\xff\xff\xff\xff", pingresp, errMalformedLength},
		{"no protocol name", false, "\x10\x04\x01\x00\x00\x00", "", errNotMQTTName},
		{"PROXY", true, proxyHeader + connect(5) + publish(2), connack5 + publish(2), nil},
		{"PROXY LOCAL", true, proxySignature + "\x20\x00\x00\x00" + connect(4), connack311, nil},
		{"no PROXY", true, connect(4) + publish(100), "", errNotProxyV2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// The answer is the same however the bytes are cut: at one place, and everywhere.
			for cut := range len(test.in) + 1 {
				checkEcho(t, test.proxy, test.out, test.err, test.in[:cut], test.in[cut:])
			}
			checkEcho(t, test.proxy, test.out, test.err, strings.Split(test.in, "")...)
		})
	}
}

func checkEcho(t *testing.T, proxy bool, want string, wantErr error, chunks ...string) {
	t.Helper()
	e := newEcho(proxy)
	var out []byte
	var err error
	for _, chunk := range chunks {
		if out, err = e.feed([]byte(chunk), out); err != nil {
			break
		}
	}
	if string(out) != want || !errors.Is(err, wantErr) {
		t.Errorf("fed %q: got %q, %v, want %q, %v", chunks, out, err, want, wantErr)
	}
}
