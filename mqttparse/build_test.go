package mqttparse_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/mqttparse"
)

func TestAppendConnack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r      mqttparse.Refusal
		v3, v5 string // the whole packets
	}{
		{mqttparse.ServerUnavailable, "\x20\x02\x00\x03", "\x20\x03\x00\x88\x00"},
		{mqttparse.ServerBusy, "\x20\x02\x00\x03", "\x20\x03\x00\x89\x00"},
		{mqttparse.QuotaExceeded, "\x20\x02\x00\x03", "\x20\x03\x00\x97\x00"},
		{mqttparse.ConnectionRateExceeded, "\x20\x02\x00\x03", "\x20\x03\x00\x9f\x00"},
		{mqttparse.UnsupportedVersion, "\x20\x02\x00\x01", "\x20\x03\x00\x84\x00"},
		{mqttparse.BadClientID, "\x20\x02\x00\x02", "\x20\x03\x00\x85\x00"},
		{mqttparse.BadCredentials, "\x20\x02\x00\x04", "\x20\x03\x00\x86\x00"},
		{mqttparse.NotAuthorized, "\x20\x02\x00\x05", "\x20\x03\x00\x87\x00"},
		{mqttparse.MalformedPacket, "", "\x20\x03\x00\x81\x00"},
		{mqttparse.ProtocolError, "", "\x20\x03\x00\x82\x00"},
		{mqttparse.PacketTooLarge, "", "\x20\x03\x00\x95\x00"},
		{mqttparse.PacketTooLarge + 1, "", ""},
	} {
		for version, want := range map[byte]string{3: c.v3, 4: c.v3, 5: c.v5, 6: c.v3, 0: c.v3} {
			got := mqttparse.AppendConnack([]byte("before"), version, c.r)
			if string(got) != "before"+want {
				t.Errorf("refusal %d, version %d: got % x, want % x", c.r, version, got[6:], want)
			}
			var tr mqttparse.Tracker
			tr.Feed(got[6:], nil)
			if code, ok := tr.Connack(); ok != (want != "") || ok && code != want[3] || !tr.AtBoundary() {
				t.Errorf("refusal %d, version %d: got code %d, %t from a Tracker", c.r, version, code, ok)
			}
		}
	}
}

func TestAppendDisconnect(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200)
	for _, c := range []struct {
		name   string
		code   byte
		reason string
		max    uint32
		want   string
	}{
		{"unlimited", 0x98, "rebalancing", 0, "\xe0\x10\x98\x0e\x1f\x00\x0brebalancing"},
		{"just fits", 0x98, "rebalancing", 18, "\xe0\x10\x98\x0e\x1f\x00\x0brebalancing"},
		{"one byte too large", 0x98, "rebalancing", 17, ""},
		{"tiny client", 0x8b, "", 4, ""},
		{"no reason", 0x8b, "", 7, "\xe0\x05\x8b\x03\x1f\x00\x00"},
		{"two length bytes", 0x8b, long, 0, "\xe0\xce\x01\x8b\xcb\x01\x1f\x00\xc8" + long},
		{"cannot be written", 0x8b, strings.Repeat("x", 65536), 0, ""},
	} {
		if got := mqttparse.AppendDisconnect([]byte("before"), c.code, c.reason, c.max); string(got) != "before"+c.want {
			t.Errorf("%s: got % x, want % x", c.name, got[6:], c.want)
		}
	}
	// Every length of reason: the lengths in the packet hold, and so does the limit.
	for n := range 65536 {
		if n > 400 && n < 16000 || n > 17000 && n < 65500 {
			continue
		}
		p := mqttparse.AppendDisconnect(nil, 0x8b, strings.Repeat("x", n), 0)
		var tr mqttparse.Tracker
		tr.Feed(p, nil)
		if !tr.AtBoundary() || !tr.Disconnected() {
			t.Fatalf("reason of %d bytes: the packet of %d bytes does not end at a boundary", n, len(p))
		}
		if got := mqttparse.AppendDisconnect(nil, 0x8b, strings.Repeat("x", n), uint32(len(p))); !bytes.Equal(got, p) {
			t.Fatalf("reason of %d bytes: got %d bytes with a limit of %d", n, len(got), len(p))
		}
		if got := mqttparse.AppendDisconnect(nil, 0x8b, strings.Repeat("x", n), uint32(len(p)-1)); got != nil {
			t.Fatalf("reason of %d bytes: got %d bytes with a limit of %d, want none", n, len(got), len(p)-1)
		}
	}
}

func TestAppendRedirect(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200)
	for _, c := range []struct {
		name      string
		reference string
		max       uint32
		want      string
	}{
		{"unlimited", "b.example:1883", 0, "\x20\x14\x00\x9c\x11\x1c\x00\x0eb.example:1883"},
		{"just fits", "b.example:1883", 22, "\x20\x14\x00\x9c\x11\x1c\x00\x0eb.example:1883"},
		{"one byte too large", "b.example:1883", 21, ""},
		{"two length bytes", long, 0, "\x20\xcf\x01\x00\x9c\xcb\x01\x1c\x00\xc8" + long},
		{"two length bytes just fit", long, 210, "\x20\xcf\x01\x00\x9c\xcb\x01\x1c\x00\xc8" + long},
		{"two length bytes do not fit", long, 209, ""},
		{"nowhere", "", 0, ""},
		{"cannot be written", strings.Repeat("x", 65536), 0, ""},
	} {
		got := mqttparse.AppendRedirect([]byte("before"), c.reference, c.max)
		if string(got) != "before"+c.want {
			t.Errorf("%s: got % x, want % x", c.name, got[6:], c.want)
		}
		if c.want == "" {
			continue
		}
		var tr mqttparse.Tracker
		tr.Feed(got[6:], nil)
		if code, ok := tr.Connack(); !ok || code != 0x9C || !tr.AtBoundary() {
			t.Errorf("%s: a reader sees code %#x, %v, want one whole CONNACK with 0x9c", c.name, code, ok)
		}
	}
}

func TestAppendFixedPackets(t *testing.T) {
	t.Parallel()
	if got := mqttparse.AppendPingreq([]byte{1}); string(got) != "\x01\xc0\x00" {
		t.Errorf("PINGREQ: got % x, want 01 c0 00", got)
	}
	if got := mqttparse.AppendClientDisconnect([]byte{1}); string(got) != "\x01\xe0\x00" {
		t.Errorf("DISCONNECT: got % x, want 01 e0 00", got)
	}
}

// TestAppendConnectVectors compares built packets with vectors that were written by hand.
func TestAppendConnectVectors(t *testing.T) {
	t.Parallel()
	all := mqttparse.ConnectOptions{
		CleanStart: true, KeepAlive: 60, ClientID: "abc", Username: "user", Password: []byte("pass"),
		WillTopic: "t/will", WillPayload: []byte("gone"), WillQoS: 2, WillRetain: true,
		// Ignored before MQTT 5.
		WillDelay: 30, SessionExpiry: 3600, MaxPacketSize: 65536, ReceiveMax: 20, AuthMethod: "SCRAM", UserProperties: [][2]string{{"k", "v"}},
	}
	v31 := all
	v31.Version = 3
	for name, o := range map[string]mqttparse.ConnectOptions{
		"good_v31_all_fields":      v31,
		"good_v311_all_fields":     all,
		"good_v31_minimal":         {Version: 3, CleanStart: true, KeepAlive: 60, ClientID: "a"},
		"good_v311_minimal":        {Version: 4, CleanStart: true, KeepAlive: 60, ClientID: "a"},
		"good_v5_minimal":          {Version: 5, CleanStart: true, KeepAlive: 60, ClientID: "a"},
		"good_v5_password_only":    {Version: 5, CleanStart: true, KeepAlive: 60, ClientID: "abc", Password: []byte("token")},
		"good_username_only":       {CleanStart: true, KeepAlive: 60, ClientID: "abc", Username: "u"},
		"good_v311_kept_session":   {KeepAlive: 60, ClientID: "abc"},
		"good_v5_session_for_ever": {Version: 5, CleanStart: true, KeepAlive: 60, ClientID: "abc", SessionExpiry: 1<<32 - 1},
	} {
		want := vectorBytes(t, name)
		if got := mqttparse.AppendConnect([]byte("before"), &o); string(got) != "before"+string(want) {
			t.Errorf("%s: got % x, want % x", name, got[6:], want)
		}
	}
}

func vectorBytes(t *testing.T, name string) []byte {
	t.Helper()
	for _, v := range vectors(t) {
		if v.name == name {
			return v.in
		}
	}
	t.Fatalf("there is no vector %s", name)
	return nil
}

// TestAppendConnectSections visits the places where the length of a property section grows by a byte.
func TestAppendConnectSections(t *testing.T) {
	t.Parallel()
	for _, size := range []int{5, 126, 127, 128, 16383, 16384, 2097151, 2097152} {
		users := userProperties(size)
		o := mqttparse.ConnectOptions{Version: 5, ClientID: "abc", UserProperties: users, Password: []byte("p")}
		c, err := mqttparse.ParseConnect(mqttparse.AppendConnect(nil, &o))
		if err != nil || c.Nonconforming != 0 || string(c.ClientID) != "abc" || string(c.Password) != "p" {
			t.Errorf("%d bytes of properties: got %v, %+v", size, err, c)
			continue
		}
		i := 0
		for k, v := range c.UserProperties() {
			if string(k) != users[i][0] || string(v) != users[i][1] {
				t.Errorf("%d bytes of properties: property %d is wrong", size, i)
			}
			i++
		}
		if i != len(users) {
			t.Errorf("%d bytes of properties: got %d properties, want %d", size, i, len(users))
		}
	}
}

// userProperties makes properties which take size bytes in a packet, at least 5.
func userProperties(size int) (users [][2]string) {
	for size > 0 {
		n := min(size, 60_000)
		if rest := size - n; rest > 0 && rest < 5 {
			n -= 5
		}
		users = append(users, [2]string{strings.Repeat("k", (n-5)/2), strings.Repeat("v", (n-5)-(n-5)/2)})
		size -= n
	}
	return users
}

func TestAppendConnectTooLong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 65536)
	for name, o := range map[string]mqttparse.ConnectOptions{
		"client id":     {ClientID: long},
		"username":      {Username: long},
		"password":      {Password: []byte(long)},
		"will topic":    {WillTopic: long},
		"will payload":  {WillTopic: "w", WillPayload: []byte(long)},
		"auth method":   {Version: 5, AuthMethod: long},
		"property name": {Version: 5, UserProperties: [][2]string{{long, ""}}},
		"value":         {Version: 5, UserProperties: [][2]string{{"", long}}},
		"together":      {Version: 5, UserProperties: make65535(2100)},
	} {
		if got := mqttparse.AppendConnect([]byte{1}, &o); len(got) != 1 {
			t.Errorf("%s: got %d bytes, want nothing", name, len(got)-1)
		}
	}
	o := mqttparse.ConnectOptions{ClientID: long[1:]}
	if c, err := mqttparse.ParseConnect(mqttparse.AppendConnect(nil, &o)); err != nil || len(c.ClientID) != 65535 {
		t.Errorf("65535 bytes: got %v and an id of %d bytes", err, len(c.ClientID))
	}
}

// make65535 makes properties of 128 KiB each which share their text.
func make65535(n int) [][2]string {
	s := strings.Repeat("x", 65535)
	users := make([][2]string, n)
	for i := range users {
		users[i] = [2]string{s, s}
	}
	return users
}

// TestBuildAllocs cannot run in parallel.
func TestBuildAllocs(t *testing.T) {
	buf := make([]byte, 0, 1024)
	o := mqttparse.ConnectOptions{Version: 5, ClientID: "abc", Username: "u", WillTopic: "w", WillDelay: 5, SessionExpiry: 1, UserProperties: [][2]string{{"k", "v"}}}
	for name, build := range map[string]func(){
		"connack":    func() { _ = mqttparse.AppendConnack(buf, 5, mqttparse.ServerBusy) },
		"disconnect": func() { _ = mqttparse.AppendDisconnect(buf, 0x8b, "rebalancing", 100) },
		"redirect":   func() { _ = mqttparse.AppendRedirect(buf, "b.example:1883", 100) },
		"pingreq":    func() { _ = mqttparse.AppendPingreq(buf) },
		"connect":    func() { _ = mqttparse.AppendConnect(buf, &o) },
	} {
		if got := testing.AllocsPerRun(20, build); got != 0 {
			t.Errorf("%s: got %v allocations, want 0", name, got)
		}
	}
}
