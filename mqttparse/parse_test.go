package mqttparse_test

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"github.com/mqttlb/mqttlb/mqttparse"
)

func TestConnectSize(t *testing.T) {
	t.Parallel()
	// A Connect is copied a few times on its way. 8 slices and a handful of numbers.
	if got := unsafe.Sizeof(mqttparse.Connect{}); got > 216 {
		t.Errorf("got a Connect of %d bytes, want at most 216", got)
	}
}

// checkConnect checks what holds for every input, and returns what ParseConnect said.
func checkConnect(t *testing.T, in []byte) (mqttparse.Connect, error) {
	t.Helper()
	before := bytes.Clone(in)
	c, err := mqttparse.ParseConnect(in)
	if !bytes.Equal(in, before) {
		t.Fatalf("% x: the input was changed to % x", before, in)
	}
	var syntax *mqttparse.SyntaxError
	switch {
	case err == nil:
		checkGood(t, in, &c)
	case errors.Is(err, mqttparse.ErrNeedMore):
		if c.Len != 0 && c.Len <= len(in) {
			t.Fatalf("% x: got need more with length %d, but there are %d bytes", in, c.Len, len(in))
		}
		if want := (mqttparse.Connect{Len: c.Len}); !reflect.DeepEqual(c, want) {
			t.Fatalf("% x: got %+v with need more, want nothing but a length", in, c)
		}
	case errors.As(err, &syntax):
		if !reflect.DeepEqual(c, mqttparse.Connect{}) {
			t.Fatalf("% x: got %+v with an error, want nothing", in, c)
		}
		if syntax.Offset < 0 || syntax.Offset > len(in) || syntax.Clause == "" || syntax.Msg == "" || syntax.Kind.String() == "unknown" || syntax.Kind == mqttparse.KindNonconforming {
			t.Fatalf("% x: got the error %#v", in, syntax)
		}
		for _, tail := range [][]byte{{0}, {0xff}, bytes.Repeat([]byte("MQTT"), 100)} { // never stays never
			if _, err := mqttparse.ParseConnect(slices.Concat(in, tail)); verdictOf(err) != "bad" {
				t.Fatalf("% x: got %v, but %v with % x behind it", in, syntax, err, tail)
			}
		}
	default:
		t.Fatalf("% x: got an error of type %T", in, err)
	}
	return c, err
}

// checkGood checks what holds for every accepted packet.
func checkGood(t *testing.T, in []byte, c *mqttparse.Connect) {
	t.Helper()
	if c.Len <= 0 || c.Len > len(in) {
		t.Fatalf("% x: got length %d of %d bytes", in, c.Len, len(in))
	}
	packet := in[:c.Len]
	fields := [][]byte{c.ClientID, c.Username, c.Password, c.WillTopic, c.WillPayload, c.AuthMethod}
	for k, v := range c.UserProperties() {
		fields = append(fields, k, v)
	}
	for _, f := range fields {
		if f != nil && !within(packet, f) {
			t.Fatalf("% x: field %q lies outside of the packet", in, f)
		}
	}
	for _, stray := range []struct {
		name string
		is   bool
	}{
		{"username", c.Username != nil != c.HasUsername},
		{"password", c.Password != nil != c.HasPassword},
		{"auth method", c.AuthMethod != nil != c.HasAuthMethod},
		{"will topic", c.WillTopic != nil != c.Will},
		{"will payload", c.WillPayload != nil != c.Will},
		{"will attributes", !c.Will && (c.WillQoS != 0 || c.WillRetain || c.WillDelay != 0)},
		{"strict error", c.StrictError() != nil != (c.Nonconforming != 0)},
		{"names", c.Nonconforming.String() == "" != (c.Nonconforming == 0)},
		{"version", (c.Version < 3 || c.Version > 5) != (c.Nonconforming&mqttparse.UnknownLevel != 0)},
	} {
		if stray.is {
			t.Fatalf("% x: %s does not fit the rest of %+v", in, stray.name, c)
		}
	}
	want := describe(c, nil)
	again := func(b []byte, how string) {
		d, err := mqttparse.ParseConnect(b)
		if got := describe(&d, err); got != want {
			t.Fatalf("% x: got\n%s%s, want\n%s", in, got, how, want)
		}
	}
	again(packet, "without what follows the packet")
	again(slices.Concat(packet, []byte("\xff\x00\x30MQTT")), "with garbage behind the packet")
	again(slices.Concat([]byte("MQTT"), packet)[4:], "at another place in memory")
	again(slices.Concat(packet, packet), "with the packet twice")

	// Every proper prefix needs more; its length is known behind the fixed header.
	head := 2
	for packet[head-1] >= 0x80 {
		head++
	}
	for n := range packet {
		if n > 70_000 && n%997 != 0 { // large packets: not every byte
			continue
		}
		p, err := mqttparse.ParseConnect(packet[:n:n])
		wantLen := c.Len
		if n < head {
			wantLen = 0
		}
		if verdictOf(err) != "more" || p.Len != wantLen {
			t.Fatalf("% x: the first %d bytes: got %v with length %d, want need more with %d", in, n, err, p.Len, wantLen)
		}
	}
}

// within reports whether f lies inside of b, with its capacity ending where f does.
func within(b, f []byte) bool {
	if cap(f) != len(f) {
		return false
	}
	if len(f) == 0 {
		return true
	}
	start, at := uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&f[0]))
	return at >= start && at+uintptr(len(f)) <= start+uintptr(len(b))
}

func TestConnectProperties(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			checkConnect(t, v.in)
		})
	}
}

// TestConnectByteByByte feeds each vector as a dribbling client would: the verdict at the end is that of
// the whole, and once it is bad it was bad with no byte more than needed, since every shorter prefix of a
// bad vector is bad or needs more.
func TestConnectByteByByte(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		verdict := "more"
		for n := 0; n <= len(v.in) && verdict == "more"; n++ {
			_, err := mqttparse.ParseConnect(v.in[:n:n])
			verdict = verdictOf(err)
		}
		_, err := mqttparse.ParseConnect(v.in)
		if want := verdictOf(err); verdict != want {
			t.Errorf("%s: got %s byte by byte, want %s", v.name, verdict, want)
		}
	}
}

// TestConnectRefusedEarly: how many bytes of a flood must be taken before it is known for one.
func TestConnectRefusedEarly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want int
		kind mqttparse.Kind
	}{
		{"GET / HTTP/1.1\r\n", 1, mqttparse.KindNotConnect},
		{"PROXY TCP4 ", 1, mqttparse.KindNotConnect},
		{"\x16\x03\x01\x02\x00", 2, mqttparse.KindTLS},
		{"\x20\x02\x00\x00", 1, mqttparse.KindNotConnect},
		{"\x10\xff\xff\xff\xff\xff\xff", 5, mqttparse.KindLength},
		{"\x10\x03\x00\x04MQTT", 2, mqttparse.KindTruncated},
		{"\x10\x20\x00\x04HTTP/1.1", 5, mqttparse.KindProtocolName},
		{"\x10\x0b\x00\x04MQTT\x04\x00\x00\x00", 9, mqttparse.KindTruncated},
	} {
		n := 0
		var err error
		for verdictOf(err) != "bad" && n < len(c.in) {
			n++
			_, err = mqttparse.ParseConnect([]byte(c.in[:n]))
			if n == 1 && err == nil {
				t.Fatalf("%q: accepted", c.in)
			}
		}
		var syntax *mqttparse.SyntaxError
		if n != c.want || !errors.As(err, &syntax) || syntax.Kind != c.kind {
			t.Errorf("%q: got %v after %d bytes, want %s after %d", c.in, err, n, c.kind, c.want)
		}
	}
}

// TestConnectLengthBoundaries visits the places where the Remaining Length grows by a byte.
func TestConnectLengthBoundaries(t *testing.T) {
	t.Parallel()
	for _, remaining := range []int{127, 128, 16383, 16384, 2097151, 2097152, 268435455} {
		packet := appendHeader(nil, 0x10, remaining)
		total := len(packet) + remaining
		for range 2 { // the fixed header alone, then the fields behind it
			c, err := mqttparse.ParseConnect(packet)
			if verdictOf(err) != "more" || c.Len != total {
				t.Errorf("remaining length %d: got %v with length %d, want need more with %d", remaining, err, c.Len, total)
			}
			packet = append(packet, "\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc"...)
		}
		if remaining > 1<<22 { // a packet of 256 MiB makes no better test
			continue
		}
		packet = append(packet, make([]byte, total-len(packet))...)
		c, err := mqttparse.ParseConnect(packet)
		if err != nil || c.Len != total || c.Nonconforming != mqttparse.TrailingBytes {
			t.Errorf("remaining length %d: got %v, length %d, %v; want length %d and trailing bytes", remaining, err, c.Len, c.Nonconforming, total)
		}
		if c, err := mqttparse.ParseConnect(packet[:total-1]); verdictOf(err) != "more" || c.Len != total {
			t.Errorf("remaining length %d: got %v with length %d without the last byte, want need more with %d", remaining, err, c.Len, total)
		}
	}
}

// TestParseConnectAllocs: nothing is allocated for good packets, incomplete ones, and the refusals that
// come in floods. It cannot run in parallel.
func TestParseConnectAllocs(t *testing.T) {
	free := []mqttparse.Kind{
		mqttparse.KindTLS, mqttparse.KindHTTP, mqttparse.KindProxyHeader, mqttparse.KindNotConnect,
		mqttparse.KindLength, mqttparse.KindProtocolName,
	}
	for _, v := range vectors(t) {
		_, err := mqttparse.ParseConnect(v.in)
		want := 0.0
		var syntax *mqttparse.SyntaxError
		if errors.As(err, &syntax) && !slices.Contains(free, syntax.Kind) {
			want = 1
		}
		got := testing.AllocsPerRun(20, func() {
			c, _ := mqttparse.ParseConnect(v.in)
			for k, v := range c.UserProperties() {
				_, _ = k, v
			}
		})
		if got > want {
			t.Errorf("%s: got %v allocations, want at most %v", v.name, got, want)
		}
	}
	huge := appendHeader(nil, 0x10, 268435455)
	if got := testing.AllocsPerRun(20, func() { _, _ = mqttparse.ParseConnect(huge) }); got != 0 {
		t.Errorf("256 MiB announced: got %v allocations, want 0", got)
	}
}

func TestSyntaxErrorText(t *testing.T) {
	t.Parallel()
	_, err := mqttparse.ParseConnect([]byte{0x10, 0xff, 0xff, 0xff, 0xff})
	if got, want := err.Error(), "mqttparse: Remaining Length is longer than 4 bytes at byte 4 [MQTT 5.0, 1.5.5]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := mqttparse.Kind(0).String(); got != "unknown" {
		t.Errorf("got %q for no kind, want unknown", got)
	}
}

func TestNonconformingNames(t *testing.T) {
	t.Parallel()
	n := mqttparse.OverlongLength | mqttparse.TrailingBytes | mqttparse.AuthDataWithoutMethod
	if got, want := n.String(), "overlong-length,trailing-bytes,auth-data-without-method"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for name := range n.Names() { // stopping early is allowed
		if name != "overlong-length" {
			t.Errorf("got %q first, want overlong-length", name)
		}
		break
	}
	// Every bit is named by its own constant and no name is used twice.
	names := slices.Collect(mqttparse.Nonconforming(1<<32 - 1).Names())
	slices.Sort(names)
	if got := len(slices.Compact(slices.Clone(names))); got != len(names) || mqttparse.AuthDataWithoutMethod != 1<<(len(names)-1) {
		t.Errorf("got %d different names of %d, want one for each bit", got, len(names))
	}
}
