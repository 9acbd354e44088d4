package mqttparse_test

import (
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/mqttlb/mqttlb/mqttparse"
)

func TestTrackerSize(t *testing.T) {
	t.Parallel()
	// Two of them in every session of a proxy with millions of sessions.
	if got := unsafe.Sizeof(mqttparse.Tracker{}); got > 16 {
		t.Errorf("got a Tracker of %d bytes, want at most 16", got)
	}
}

// feed feeds the chunks, one after the other.
func feed(chunks ...string) (t mqttparse.Tracker, n mqttparse.Counts) {
	for _, c := range chunks {
		t.Feed([]byte(c), &n)
	}
	return t, n
}

// checkSplits feeds b whole, byte by byte and in random pieces, with and without Counts and over a hand-over
// between any two pieces, and compares each with the model.
func checkSplits(t *testing.T, b []byte, r *rand.Rand) {
	t.Helper()
	m := model{b}
	want := m.state()
	var whole mqttparse.Tracker
	var n mqttparse.Counts
	whole.Feed(b, &n)
	if got := trackerState(&whole, &n); got != want {
		t.Fatalf("% x:\n got %s\nwant %s", head(b), got, want)
	}
	for range 4 {
		var tr, silent mqttparse.Tracker
		var n mqttparse.Counts
		begun, most := 0, 1+r.IntN(40)
		for rest := b; len(rest) > 0; {
			k := min(len(rest), 1+r.IntN(most))
			if len(rest) > 1000 && r.IntN(3) > 0 {
				k = min(len(rest), r.IntN(20_000))
			}
			begun += tr.Feed(rest[:k], &n)
			silent.Feed(rest[:k], nil)
			rest = rest[k:]
			tr = handOver(t, tr)
		}
		if got := trackerState(&tr, &n); got != want {
			t.Fatalf("% x: in pieces\n got %s\nwant %s", head(b), got, want)
		}
		if want := total(&n); begun != want {
			t.Fatalf("% x: in pieces Feed returned %d packets in all, want %d", head(b), begun, want)
		}
		if tr != whole || silent != whole {
			t.Fatalf("% x: in pieces the state is %+v, without counts %+v, whole %+v", head(b), tr, silent, whole)
		}
	}
}

// total is the number of packets counted.
func total(n *mqttparse.Counts) (sum int) {
	for _, k := range n {
		sum += int(k)
	}
	return sum
}

// head cuts b for messages.
func head(b []byte) []byte { return b[:min(len(b), 200)] }

// handOver returns what arrives in another process.
func handOver(t *testing.T, tr mqttparse.Tracker) (arrived mqttparse.Tracker) {
	t.Helper()
	b := tr.AppendBinary(nil)
	if err := arrived.UnmarshalBinary(b); err != nil {
		t.Fatalf("% x of %+v: %v", b, tr, err)
	}
	if arrived != tr || len(b) != 16 {
		t.Fatalf("got %+v after % x, want %+v", arrived, b, tr)
	}
	return arrived
}

func TestTrackerSplits(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		checkSplits(t, randomStream(r), r)
	}
}

// TestTrackerEveryByte compares with the model behind every single byte, not only at the end.
func TestTrackerEveryByte(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		b := randomStream(r)
		b = b[:min(len(b), 400)]
		var tr mqttparse.Tracker
		var n mqttparse.Counts
		for i := range b {
			tr.Feed(b[i:i+1], &n)
			m := model{b[:i+1]}
			if got, want := trackerState(&tr, &n), m.state(); got != want {
				t.Fatalf("seed %d, % x:\n got %s\nwant %s", seed, b[:i+1], got, want)
			}
		}
	}
}

// TestTrackerLengthBoundaries visits the places where the Remaining Length grows by a byte.
func TestTrackerLengthBoundaries(t *testing.T) {
	t.Parallel()
	zeros := make([]byte, 1<<20)
	for _, remaining := range []int{0, 1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455} {
		header := appendHeader(nil, 0x30, remaining)
		var tr mqttparse.Tracker
		tr.Feed(header, nil)
		if remaining == 0 {
			if !tr.AtBoundary() || tr.PacketSize() != 0 {
				t.Errorf("remaining length 0: got size %d, want a boundary", tr.PacketSize())
			}
			continue
		}
		if got, want := tr.PacketSize(), len(header)+remaining; got != want || tr.AtBoundary() {
			t.Errorf("remaining length %d: got size %d, want %d and no boundary", remaining, got, want)
		}
		for left := remaining - 1; left > 0; left -= min(left, len(zeros)) {
			tr.Feed(zeros[:min(left, len(zeros))], nil)
		}
		if tr.AtBoundary() {
			t.Errorf("remaining length %d: got a boundary one byte early", remaining)
		}
		tr.Feed(zeros[:1], nil)
		if !tr.AtBoundary() || tr.Lost() {
			t.Errorf("remaining length %d: got no boundary at the end", remaining)
		}
	}
}

func TestTrackerLost(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"fifth length byte": "\x30\xff\xff\xff\xff\x01",
		"type 0":            "\x00\x02\x00\x00",
		"zeros":             "\x00",
	} {
		tr, n := feed("\xc0\x00", in)
		if !tr.Lost() || tr.AtBoundary() || tr.PacketSize() != 0 {
			t.Errorf("%s: got lost %t, boundary %t, size %d", name, tr.Lost(), tr.AtBoundary(), tr.PacketSize())
		}
		before, counted := tr, n
		tr.Feed([]byte("\xc0\x00\x20\x02\x00\x00\xe0\x00"), &n)
		if tr != before || n != counted {
			t.Errorf("%s: fed on, got %+v, want %+v", name, tr, before)
		}
	}
	if tr, _ := feed("\x30\x80\x80\x80\x00"); tr.Lost() || !tr.AtBoundary() {
		t.Error("four length bytes for 0: got lost, want a boundary")
	}
}

func TestTrackerConnack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		code     byte
		ok       bool
	}{
		{"3.1.1 accepted", "\x20\x02\x00\x00", 0, true},
		{"3.1.1 accepted, session present", "\x20\x02\x01\x00", 0, true},
		{"3.1.1 server unavailable", "\x20\x02\x00\x03", 3, true},
		{"5 accepted with properties", "\x20\x06\x00\x00\x03\x21\x00\x0a", 0, true},
		{"5 server busy", "\x20\x03\x00\x89\x00", 0x89, true},
		{"length in two bytes", "\x20\x82\x00\x00\x05", 5, true},
		{"the first one counts", "\x20\x02\x00\x05\x20\x02\x00\x00", 5, true},
		{"enhanced authentication first", "\xf0\x02\x18\x00\x20\x03\x00\x87\x00", 0x87, true},
		{"too short to have a code", "\x20\x01\x00", 0, false},
		{"something else", "\x40\x02\x00\x05", 0, false},
	} {
		for cut := range len(c.in) + 1 {
			tr, _ := feed(c.in[:cut], c.in[cut:])
			if code, ok := tr.Connack(); code != c.code || ok != c.ok {
				t.Errorf("%s, cut at %d: got %#x, %t, want %#x, %t", c.name, cut, code, ok, c.code, c.ok)
			}
		}
	}
	// Only a complete CONNACK is an answer.
	whole := "\x20\x03\x00\x89\x00"
	for cut := range len(whole) {
		tr, _ := feed(whole[:cut])
		if code, ok := tr.Connack(); ok {
			t.Errorf("after %d bytes of a CONNACK: got code %#x, want none", cut, code)
		}
	}
}

func TestTrackerDisconnected(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"\xe0\x00", "\xe0\x01\x04", "\xe0\x02\x8b\x00"} {
		tr, _ := feed("\xc0\x00", in[:len(in)-1])
		if tr.Disconnected() {
			t.Errorf("% x without its last byte: got disconnected", in)
		}
		tr.Feed([]byte(in[len(in)-1:]), nil)
		if !tr.Disconnected() || !tr.AtBoundary() {
			t.Errorf("% x: got disconnected %t, want true", in, tr.Disconnected())
		}
	}
}

func TestTrackerCounts(t *testing.T) {
	t.Parallel()
	tr, n := feed("\x10\x02\x00\x00\x30\x03\x00\x01t\x30\x03\x00\x01t\xc0", "\x00\x32")
	want := mqttparse.Counts{mqttparse.TypeConnect: 1, mqttparse.TypePublish: 3, mqttparse.TypePingreq: 1}
	if n != want {
		t.Errorf("got %v, want %v: the last PUBLISH has only begun, but counts", n, want)
	}
	if tr.AtBoundary() {
		t.Error("got a boundary inside of a PUBLISH")
	}
	if got := mqttparse.TypeUnsuback.String(); got != "unsuback" {
		t.Errorf("got the name %q, want unsuback", got)
	}
}

// An exchange is what both sides send, in turn.
func TestTrackerExchanges(t *testing.T) {
	t.Parallel()
	const (
		publish0, publish1, publish2 = "\x30\x04\x00\x01t!", "\x32\x06\x00\x01t\x00\x01!", "\x34\x06\x00\x01t\x00\x01!"
		puback, pubrec, pubrel       = "\x40\x02\x00\x01", "\x50\x02\x00\x01", "\x62\x02\x00\x01"
		pubcomp                      = "\x70\x02\x00\x01"
		pubrecFailed, pubrecNobody   = "\x50\x03\x00\x01\x97", "\x50\x03\x00\x01\x10"
		pubrecFailedProperties       = "\x50\x04\x00\x01\x80\x00"
		subscribe, suback            = "\x82\x06\x00\x01\x00\x01t\x01", "\x90\x03\x00\x01\x01"
		unsubscribe, unsuback        = "\xa2\x05\x00\x01\x00\x01t", "\xb0\x02\x00\x01"
		pingreq, pingresp            = "\xc0\x00", "\xd0\x00"
	)
	for _, c := range []struct {
		name  string
		turns []string // of asker, answerer, asker …
		open  []int    // behind each turn, the exchanges that the asker opened
	}{
		{"QoS 0", []string{publish0}, []int{0}},
		{"QoS 1", []string{publish1, puback}, []int{1, 0}},
		{"QoS 2", []string{publish2, pubrec, pubrel, pubcomp}, []int{1, 1, 1, 0}},
		{"QoS 2 refused", []string{publish2, pubrecFailed}, []int{1, 0}},
		{"QoS 2 refused with properties", []string{publish2, pubrecFailedProperties}, []int{1, 0}},
		{"QoS 2, no subscribers", []string{publish2, pubrecNobody, pubrel, pubcomp}, []int{1, 1, 1, 0}},
		{"QoS 2 resumed at PUBREL", []string{pubrel, pubcomp}, []int{1, 0}},
		{"QoS 2 resumed, then another", []string{pubrel + publish2, pubcomp + pubrec, pubrel, pubcomp}, []int{2, 1, 1, 0}},
		{"another, then QoS 2 resumed", []string{publish2 + pubrel, pubrec + pubcomp, pubrel, pubcomp}, []int{1, 0, 1, 0}},
		{"SUBSCRIBE", []string{subscribe, suback}, []int{1, 0}},
		{"UNSUBSCRIBE", []string{unsubscribe, unsuback}, []int{1, 0}},
		{"PINGREQ", []string{pingreq, pingresp}, []int{1, 0}},
		{"several", []string{subscribe + publish1 + pingreq + publish0 + publish2, suback + pingresp, "", puback + pubrec, pubrel, pubcomp}, []int{4, 2, 2, 1, 1, 0}},
		{"more answers than questions", []string{"", puback + puback, publish1}, []int{0, 0, 0}},
	} {
		for _, bytewise := range []bool{false, true} {
			var side [2]mqttparse.Tracker
			for i, turn := range c.turns {
				tr := &side[i%2]
				if bytewise {
					for j := range turn {
						tr.Feed([]byte(turn[j:j+1]), nil)
					}
				} else {
					tr.Feed([]byte(turn), nil)
				}
				if got := mqttparse.Open(&side[0], &side[1]); got != c.open[i] {
					t.Errorf("%s, byte by byte %t: got %d open after turn %d, want %d", c.name, bytewise, got, i+1, c.open[i])
				}
				if got := mqttparse.Open(&side[1], &side[0]); got != 0 {
					t.Errorf("%s, byte by byte %t: got %d open the other way after turn %d, want 0", c.name, bytewise, got, i+1)
				}
			}
		}
	}
}

// TestTrackerWraps opens and ends more exchanges than the counters can hold, some of them at a time.
func TestTrackerWraps(t *testing.T) {
	t.Parallel()
	var up, down mqttparse.Tracker
	for range 300 {
		up.Feed([]byte("\x32\x06\x00\x01t\x00\x01!"), nil)
	}
	for range 200_000 {
		up.Feed([]byte("\xc0\x00"), nil)
		down.Feed([]byte("\xd0\x00"), nil)
		if got := mqttparse.Open(&up, &down); got != 300 {
			t.Fatalf("got %d open exchanges after %d, want 300", got, up.Asked())
		}
	}
	// More QoS 2 messages at a time than can be told apart from resumed ones.
	up, down = mqttparse.Tracker{}, mqttparse.Tracker{}
	for range 1000 {
		up.Feed([]byte("\x34\x06\x00\x01t\x00\x01!"), nil)
	}
	for range 1000 {
		up.Feed([]byte("\x62\x02\x00\x01"), nil)
		down.Feed([]byte("\x70\x02\x00\x01"), nil)
	}
	if got := mqttparse.Open(&up, &down); got != 0 {
		t.Errorf("got %d open exchanges after 1000 QoS 2 messages, want 0", got)
	}
}

func TestTrackerUnmarshalRefuses(t *testing.T) {
	t.Parallel()
	header, _ := feed("\x30\xff")
	body, _ := feed("\x30\x80\x01")
	lost, _ := feed("\x00")
	mutate := func(tr mqttparse.Tracker, i int, b byte) []byte {
		out := tr.AppendBinary(nil)
		out[i] = b
		return out
	}
	for name, b := range map[string][]byte{
		"nothing":                        nil,
		"15 bytes":                       make([]byte, 15),
		"17 bytes":                       make([]byte, 17),
		"a body at a boundary":           mutate(mqttparse.Tracker{}, 3, 1),
		"a length beyond its bytes":      mutate(header, 6, 0x40),
		"a body longer than the packet":  mutate(body, 2, 1),
		"an empty body":                  mutate(body, 3, 0),
		"a length of 32 bits":            mutate(body, 4, 0xff),
		"a header of one byte, complete": mutate(body, 13, 0x09),
		"a header of seven bytes":        mutate(body, 13, 0x0f),
		"a header of five, not complete": mutate(header, 13, 0x05),
		"an unknown event":               mutate(mqttparse.Tracker{}, 13, 0x80),
		"lost inside of a packet":        mutate(lost, 13, 0x42),
	} {
		tr := body
		if err := tr.UnmarshalBinary(b); err == nil || tr != body {
			t.Errorf("%s: got %v and %+v, want an error and no change", name, err, tr)
		}
	}
}

// TestFeedAllocs cannot run in parallel.
func TestFeedAllocs(t *testing.T) {
	b := randomStream(rand.New(rand.NewPCG(1, 3)))
	var n mqttparse.Counts
	if got := testing.AllocsPerRun(20, func() {
		var tr mqttparse.Tracker
		for i := range b {
			tr.Feed(b[i:i+1], &n)
		}
		tr.Feed(b, nil)
		var buf [16]byte
		_ = tr.AppendBinary(buf[:0])
	}); got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}
