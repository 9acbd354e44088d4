package mqttparse_test

import (
	"fmt"
	"testing"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// BenchmarkParseConnect shows the cost per complete packet that is in the cache. It does not show what
// it costs to get the bytes there.
func BenchmarkParseConnect(b *testing.B) {
	will := mqttparse.ConnectOptions{
		ClientID: "sensor-0123456789abcdef", CleanStart: true, KeepAlive: 60, Username: "plant-7", Password: []byte("0123456789abcdef"),
		WillTopic: "plant/7/sensor/0123456789abcdef/state", WillPayload: []byte("offline"), WillQoS: 1,
	}
	full := will
	full.Version, full.SessionExpiry, full.ReceiveMax, full.MaxPacketSize, full.WillDelay = 5, 3600, 20, 1<<20, 30
	full.UserProperties = [][2]string{{"lb-group", "ingest"}, {"region", "eu-1"}}
	jwt := mqttparse.ConnectOptions{Version: 5, ClientID: "sensor-0123456789abcdef", Username: "jwt", Password: make([]byte, 4000)}
	for _, c := range []struct {
		name string
		in   []byte
	}{
		{"version=4/small", mqttparse.AppendConnect(nil, &mqttparse.ConnectOptions{ClientID: "sensor-0123456789abcdef", CleanStart: true, KeepAlive: 60})},
		{"version=4/will", mqttparse.AppendConnect(nil, &will)},
		{"version=5/full", mqttparse.AppendConnect(nil, &full)},
		{"version=5/jwt", mqttparse.AppendConnect(nil, &jwt)},
		{"incomplete", mqttparse.AppendConnect(nil, &jwt)[:3000]},
		{"tls", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")},
		{"http", []byte("GET / HTTP/1.1\r\nHost: broker\r\n\r\n")},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = mqttparse.ParseConnect(c.in)
			}
		})
	}
}

// BenchmarkFeed shows the cost per chunk; divide by packets for the cost of one. All chunks of a
// benchmark are alike, so branches are predicted better than in a real stream.
func BenchmarkFeed(b *testing.B) {
	publish := func(qos byte, size int) []byte {
		return append(appendHeader(nil, 0x30|qos<<1, size), make([]byte, size)...)
	}
	var mixed []byte
	for i := range 20 {
		mixed = append(mixed, publish(byte(i%3), 40+i)...)
		mixed = append(mixed, 0x40, 2, 0, 1, 0xC0, 0)
	}
	for _, c := range []struct {
		name string
		in   []byte
	}{
		{"publish0/size=62", publish(0, 60)},
		{"publish1/size=62", publish(1, 60)},
		{"publish0/size=1003", publish(0, 1000)},
		{"publish0/size=16K", publish(0, 16380)},
		{"puback", []byte{0x40, 2, 0, 1}},
		{"pingreq", []byte{0xC0, 0}},
		{"mixed/packets=60", mixed},
	} {
		b.Run(c.name, func(b *testing.B) {
			var t mqttparse.Tracker
			var n mqttparse.Counts
			b.ReportAllocs()
			for b.Loop() {
				t.Feed(c.in, &n)
			}
		})
	}
	b.Run(fmt.Sprintf("cut/bytes=%d", 16383), func(b *testing.B) { // every byte of a packet in a chunk of its own
		var t mqttparse.Tracker
		in := publish(1, 16380)
		b.ReportAllocs()
		for b.Loop() {
			for i := range in {
				t.Feed(in[i:i+1], nil)
			}
		}
	})
}
