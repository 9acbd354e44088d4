package mqttparse

import "testing"

func TestServerKeepAlive(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		bytes string
		want  uint16
		ok    bool
	}{
		{"none", "\x20\x03\x00\x00\x00", 60, true},
		{"its own", "\x20\x06\x00\x00\x03\x13\x01\x2c", 300, true},
		{"off", "\x20\x06\x00\x00\x03\x13\x00\x00", 0, true},
		{"behind others", "\x20\x0e\x00\x00\x0b\x21\x00\x0a\x12\x00\x02id\x13\x00\x05", 5, true},
		{"among others, and more behind CONNACK", "\x20\x08\x01\x00\x05\x13\x00\x05\x25\x01\xd0\x00", 5, true},
		{"an unknown property", "\x20\x04\x00\x00\x01\x7e", 0, false},
		{"properties run past the packet", "\x20\x06\x00\x00\x04\x13\x01\x2c\x00", 0, false},
		{"a property runs past the properties", "\x20\x05\x00\x00\x02\x13\x01", 0, false},
		{"no properties", "\x20\x02\x00\x00", 0, false},
		{"another packet", "\xd0\x00", 0, false},
		{"nothing", "", 0, false},
	} {
		got, ok := ServerKeepAlive([]byte(c.bytes), 60)
		if got != c.want || ok != c.ok {
			t.Errorf("%s: got %d, %v, want %d, %v", c.name, got, ok, c.want, c.ok)
		}
	}
	whole := "\x20\x0e\x00\x00\x0b\x21\x00\x0a\x12\x00\x02id\x13\x00\x05"
	for n := range len(whole) {
		if got, ok := ServerKeepAlive([]byte(whole[:n]), 60); ok {
			t.Errorf("the first %d bytes: got %d, want that it cannot be told", n, got)
		}
	}
}
