package mqttparse

import (
	"testing"
)

func TestAssignedID(t *testing.T) {
	t.Parallel()
	long := make([]byte, 300)
	for i := range long {
		long[i] = 'x'
	}
	for _, c := range []struct {
		name   string
		bytes  string
		id     string
		expiry uint32
		ok     bool
	}{
		{"id alone", "\x20\x08\x00\x00\x05\x12\x00\x02id", "id", 60, true},
		{"the broker shortens the session", "\x20\x0d\x00\x00\x0a\x12\x00\x02id\x11\x00\x00\x00\x05", "id", 5, true},
		{"the session ends with the connection", "\x20\x0d\x00\x00\x0a\x11\x00\x00\x00\x00\x12\x00\x02id", "id", 0, true},
		{"for ever", "\x20\x0d\x00\x00\x0a\x12\x00\x02id\x11\xff\xff\xff\xff", "id", 0xFFFFFFFF, true},
		{"among others, and more behind CONNACK", "\x20\x0e\x00\x00\x0b\x21\x00\x0a\x12\x00\x02id\x13\x00\x05\xd0\x00", "id", 60, true},
		{"two length bytes", "\x20\xb3\x02\x00\x00\xaf\x02\x12\x01\x2c" + string(long), string(long), 60, true},
		{"refused", "\x20\x08\x00\x87\x05\x12\x00\x02id", "", 0, false},
		{"none", "\x20\x03\x00\x00\x00", "", 60, false},
		{"an empty one", "\x20\x06\x00\x00\x03\x12\x00\x00", "", 60, false},
		{"behind an unknown property", "\x20\x09\x00\x00\x06\x7e\x12\x00\x02id", "", 0, false},
		{"runs past the properties", "\x20\x08\x00\x00\x05\x12\x00\x03id", "", 0, false},
		{"CONNACK of MQTT 3.1.1", "\x20\x02\x00\x00", "", 0, false},
		{"another packet", "\xf0\x08\x00\x00\x05\x12\x00\x02id", "", 0, false},
		{"nothing", "", "", 0, false},
	} {
		id, expiry, ok := AssignedID([]byte(c.bytes), 60)
		if string(id) != c.id || ok != c.ok || ok && expiry != c.expiry {
			t.Errorf("%s: got %q, %d, %v, want %q, %d, %v", c.name, id, expiry, ok, c.id, c.expiry, c.ok)
		}
		if !ok {
			continue
		}
		whole := 1 + 1 + int(c.bytes[1])
		if c.bytes[1] >= 0x80 {
			whole = len(c.bytes)
		}
		for n := range whole {
			if id, _, ok := AssignedID([]byte(c.bytes[:n]), 60); ok {
				t.Errorf("%s, the first %d bytes: got %q, want that it cannot be told", c.name, n, id)
			}
		}
	}
}

// Whatever the bytes are, nothing outside of them is read, and an id that is found stands in them.
func FuzzAssignedID(f *testing.F) {
	f.Add([]byte("\x20\x0d\x00\x00\x0a\x12\x00\x02id\x11\x00\x00\x00\x05"))
	f.Add([]byte("\x20\x06\x00\x00\x03\x12\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, _, ok := AssignedID(b, 7)
		_, keepAliveReads := ServerKeepAlive(b, 7)
		switch {
		case ok && (len(id) == 0 || b[0]>>4 != 2):
			t.Errorf("% x: got %q", b, id)
		case ok && !keepAliveReads:
			t.Errorf("% x: an id %q is found where the properties cannot be read", b, id)
		}
	})
}
