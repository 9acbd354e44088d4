package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// connackOf is a CONNACK of a version with this code; behind it, in MQTT 5, a reason string.
func connackOf(version, code byte) []byte {
	if version == 5 {
		return []byte{0x20, 9, 0, code, 6, 0x1f, 0, 3, 'w', 'h', 'y'}
	}
	return []byte{0x20, 2, 0, code}
}

// connectOf is a CONNECT of a version.
func connectOf(version byte, id string) []byte {
	return mqttparse.AppendConnect(nil, &mqttparse.ConnectOptions{Version: version, ClientID: id, CleanStart: true})
}

// decline plays a broker that declines the next client: it answers with these parts, one after the other.
func (r *rig) decline(broker int, opening []byte, parts ...[]byte) *net.TCPConn {
	r.t.Helper()
	c := r.accept(broker)
	expect(r.t, c, opening)
	for _, part := range parts {
		write(r.t, c, part)
	}
	return c
}

// gone waits until the proxy has closed the connection to a broker, without a further byte.
func gone(t *testing.T, broker *net.TCPConn) {
	t.Helper()
	if n, err := broker.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("got %d bytes and error %v, want the connection closed", n, err)
	}
}

// Every code by which a broker declines its clients sends the client to the next one, which gets the identical bytes.
// Nothing of the first answer reaches the client, and everything of the second, with what is behind it.
func TestBusyBrokerIsPassedOver(t *testing.T) {
	t.Parallel()
	for version, codes := range map[byte][]byte{3: {3}, 4: {3}, 5: {0x88, 0x89, 0x97, 0x9C, 0x9D, 0x9F}} {
		for _, code := range codes {
			t.Run(fmt.Sprintf("%d %#02x", version, code), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, rigOptions{brokers: 3})
				opening := append(connectOf(version, "c"), 0xc0, 0)
				client := r.dial()
				write(t, client, opening)
				gone(t, r.decline(0, opening, append(connackOf(version, code), "behind"...)))
				gone(t, r.decline(1, opening, connackOf(version, code)))
				broker := r.accept(2)
				expect(t, broker, opening)
				answer := append(connackOf(version, 0), 0xd0, 0)
				write(t, broker, answer)
				expect(t, client, answer)
				write(t, client, []byte{0xe0, 0})
				expect(t, broker, []byte{0xe0, 0})
				_ = broker.Close()
				_ = client.Close()
				rec := r.record()
				if rec.Attempts != 3 || rec.Connack != 0 || rec.Target.Backend.Name != "c" || rec.Bytes[Down] != uint64(len(answer)) {
					t.Errorf("got %d attempts, connack %d, backend %s, %d bytes down, want 3, 0, c and %d",
						rec.Attempts, rec.Connack, rec.Target.Backend.Name, rec.Bytes[Down], len(answer))
				}
				if got := r.placer.told(); !slices.Equal(got, []Outcome{Busy, Busy, Served}) {
					t.Errorf("got outcomes %v, want busy, busy, served", got)
				}
				for i, want := range []Answer{{Backend: "a", Code: code, Swallowed: true}, {Backend: "b", Code: code, Swallowed: true}, {Backend: "c"}} {
					a := <-r.told.answered
					if a.Backend != want.Backend || a.Code != want.Code || a.Swallowed != want.Swallowed || a.Late {
						t.Errorf("answer %d: got %+v, want %+v", i, a, want)
					}
				}
			})
		}
	}
}

// It does not matter how the CONNACK that declines is cut.
func TestBusyBrokerThatAnswersInParts(t *testing.T) {
	t.Parallel()
	connack := connackOf(5, 0x89)
	r := newRig(t, rigOptions{brokers: 2})
	opening := connectOf(5, "c")
	for cut := 1; cut < len(connack); cut++ {
		client := r.dial()
		write(t, client, opening)
		broker := r.decline(0, opening, connack[:cut])
		time.Sleep(5 * time.Millisecond) // so that the parts are two reads; the result must not depend on it
		write(t, broker, connack[cut:])
		next := r.accept(1)
		expect(t, next, opening)
		for _, b := range connackOf(5, 0) {
			write(t, next, []byte{b})
		}
		expect(t, client, connackOf(5, 0))
		_ = next.Close()
		_ = client.Close()
		r.record()
	}
}

// The PROXY header is made anew, with the number of the attempt.
func TestBusyBrokerAndTheHeader(t *testing.T) {
	t.Parallel()
	header, err := NewHeader(HeaderOptions{Custom: []CustomTLV{{Type: 0xE7, Value: "{attempt}"}}})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, rigOptions{brokers: 2, backend: Backend{Header: header}})
	client := r.dial()
	write(t, client, connect("c"))
	for i, code := range []byte{3, 0} {
		broker := r.accept(i)
		got := make([]byte, 16+12+4+len(connect("c"))) // signature and lengths, two addresses with ports, one TLV
		if n, err := readFull(broker, got); err != nil {
			t.Fatalf("broker %d got %d bytes: %v", i, n, err)
		}
		if want := append([]byte{0xE7, 0, 1, '1' + byte(i)}, connect("c")...); string(got[28:]) != string(want) {
			t.Errorf("broker %d got %q behind the addresses, want %q", i, got[28:], want)
		}
		write(t, broker, connackOf(4, code))
	}
	expect(t, client, connack())
}

// All that does not say "not now" is the client's, at once and as it is, and no other broker sees the CONNECT.
func TestOtherAnswersPass(t *testing.T) {
	t.Parallel()
	type answers struct {
		connect []byte
		answers [][]byte
	}
	enhanced := mqttparse.AppendConnect(nil, &mqttparse.ConnectOptions{Version: 5, ClientID: "c", CleanStart: true, AuthMethod: "SCRAM-SHA-1"})
	level := connect("c")
	level[8] = 9 // nobody knows what the answers of this version mean
	for name, test := range map[string]answers{
		"codes of MQTT 3": {connect("c"), [][]byte{connackOf(4, 1), connackOf(4, 2), connackOf(4, 4), connackOf(4, 5), connackOf(4, 0x88)}},
		"codes of MQTT 5": {connectOf(5, "c"), [][]byte{
			connackOf(5, 0x80), connackOf(5, 0x83), connackOf(5, 0x85), connackOf(5, 0x86), connackOf(5, 0x87), connackOf(5, 0x8A), connackOf(5, 3),
		}},
		"not CONNACK": {connect("c"), [][]byte{
			{0xd0, 0},
			{0x20, 1, 3},
			{0x20, 0},
			{0x20, 2, 1, 3},
			{0x20, 0xff, 0xff, 0xff, 0x7f, 0, 3},
			{0x20, 0xff, 0xff, 0xff, 0xff, 1, 0, 3},
			[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		}},
		"enhanced authentication": {enhanced, [][]byte{connackOf(5, 0x88), {0xf0, 0}}},
		"unknown version":         {level, [][]byte{connackOf(4, 3), connackOf(5, 0x88)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{brokers: 2})
			for _, answer := range test.answers {
				client := r.dial()
				write(t, client, test.connect)
				broker := r.decline(0, test.connect, answer)
				expect(t, client, answer)
				_ = broker.Close()
				if n, err := client.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
					t.Errorf("%x: got %d more bytes and %v, want the end", answer, n, err)
				}
				_ = client.Close()
				if rec := r.record(); rec.Attempts != 1 || rec.Refusal != "" {
					t.Errorf("%x: got %d attempts and refusal %q, want 1 and none", answer, rec.Attempts, rec.Refusal)
				}
			}
			r.nobodyArrives(1)
		})
	}
}

// A connection that ends in the middle of CONNACK, or before it, says nothing about what the broker has done.
func TestHalfAConnack(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{brokers: 2})
	connack := connackOf(5, 0x88)
	for cut := range connack {
		for _, abort := range []bool{false, true} {
			client := r.dial()
			write(t, client, connectOf(5, "c"))
			broker := r.decline(0, connectOf(5, "c"))
			if cut > 0 {
				write(t, broker, connack[:cut])
			}
			if abort {
				_ = broker.SetLinger(0)
			}
			_ = broker.Close()
			if got, err := io.ReadAll(client); err == nil && string(got) != string(connack[:cut]) || abort != (err != nil) {
				t.Errorf("%d bytes, aborted %t: got %x and %v", cut, abort, got, err)
			}
			_ = client.Close()
			if rec := r.record(); rec.Attempts != 1 || rec.End != EndBackend {
				t.Errorf("%d bytes, aborted %t: got %d attempts and end %v, want 1 and backend", cut, abort, rec.Attempts, rec.End)
			}
		}
	}
	r.nobodyArrives(1)
}

// Nor does silence, also in the middle of CONNACK.
func TestHalfAConnackAndSilence(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{brokers: 2, backend: Backend{FirstByteTimeout: 300 * time.Millisecond}})
	client := r.dial()
	write(t, client, connectOf(5, "c"))
	r.decline(0, connectOf(5, "c"), connackOf(5, 0x88)[:5])
	if n, err := client.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("got %d bytes, want the connection closed", n)
	}
	if rec := r.record(); rec.Refusal != RefusedFirstByte || rec.Attempts != 1 {
		t.Errorf("got refusal %q after %d attempts, want %q after 1", rec.Refusal, rec.Attempts, RefusedFirstByte)
	}
	r.nobodyArrives(1)
}

// When nobody takes the client it gets the last CONNACK unchanged, whether that was held back or not.
func TestAllAreBusy(t *testing.T) {
	t.Parallel()
	answer := connackOf(5, 0x97)
	for name, test := range map[string]struct {
		brokers, busy int
		prepare       func(*rig)
		late          bool
	}{
		"there is only one":             {1, 1, func(*rig) {}, false},
		"both are":                      {2, 2, func(*rig) {}, false},
		"the next one is gone":          {2, 1, func(r *rig) { _ = r.brokers[1].Close() }, true},
		"the placer has none after all": {2, 1, func(r *rig) { r.placer.lie() }, true},
		"one of two is, and one gone":   {3, 2, func(r *rig) { _ = r.brokers[2].Close() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{brokers: test.brokers, listener: Listener{RefuseWithConnack: true}})
			test.prepare(r)
			opening := append(connectOf(5, "c"), make([]byte, 50_000)...) // more than is read before CONNACK
			client := r.dial()
			write(t, client, opening)
			for i := range test.busy {
				broker := r.accept(i)
				expect(t, broker, connectOf(5, "c"))
				write(t, broker, answer)
				_ = broker.CloseWrite()
				go func() { _, _ = io.Copy(io.Discard, broker); _ = broker.Close() }()
			}
			expect(t, client, answer)
			_ = client.Close()
			rec, last := r.record(), string(rune('a'+test.busy-1))
			if rec.Connack != 0x97 || rec.Refusal != "" || rec.Target.Backend.Name != last {
				t.Errorf("got connack %#x of %s and refusal %q, want 0x97 of %s and none", rec.Connack, rec.Target.Backend.Name, rec.Refusal, last)
			}
			want := test.busy
			if test.late {
				want++
			}
			for i := range want {
				a, final := <-r.told.answered, i == want-1
				if a.Swallowed == final || a.Late != (final && test.late) || a.Code != 0x97 || final && a.Backend != last {
					t.Errorf("answer %d of %d: got %+v", i+1, want, a)
				}
			}
		})
	}
}

// Until the broker has answered, no more is taken from the client than may have to be repeated; then all of it flows,
// and nothing is held any more.
func TestNothingIsReadBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{brokers: 2})
	client := r.dial()
	opening := connect("c")
	packet := slices.Concat([]byte{0x30, 0x80 | 100, 0x80 | 30, 6}, make([]byte, 100+30<<7+6<<14)) // one PUBLISH of some 100 KB
	write(t, client, opening)
	first := r.accept(0)
	expect(t, first, opening)
	go func() { _, _ = client.Write(packet) }()
	_ = first.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, _ := first.Read(make([]byte, 1)); n > 0 {
		t.Error("the broker got a byte behind CONNECT before it had answered")
	}
	write(t, first, connackOf(4, 3))
	broker := r.accept(1)
	expect(t, broker, opening)
	write(t, broker, connack())
	expect(t, client, connack())
	expect(t, broker, packet)
	for _, l := range r.proxy.loops {
		r.proxy.on(l, func(l *loop) {
			if l.pool.lent != 0 {
				t.Errorf("got %d bytes held after CONNACK, want none", l.pool.lent)
			}
		})
	}
}

// A client that has ended, or begins to, is not offered to anybody else.
func TestClientThatLeavesBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for _, abort := range []bool{false, true} {
		r := newRig(t, rigOptions{brokers: 2})
		client := r.dial()
		write(t, client, append(connect("c"), 0xe0, 0))
		broker := r.accept(0)
		expect(t, broker, append(connect("c"), 0xe0, 0))
		if abort {
			_ = client.SetLinger(0)
			_ = client.Close()
		} else {
			_ = client.CloseWrite()
		}
		gone(t, broker) // FIN or RST, as the client did
		if !abort {
			write(t, broker, connackOf(4, 3))
			expect(t, client, connackOf(4, 3))
		}
		_ = broker.Close()
		if rec := r.record(); rec.End != EndClient || rec.Attempts != 1 {
			t.Errorf("got end %v after %d attempts, want client after 1", rec.End, rec.Attempts)
		}
		r.nobodyArrives(1)
	}
}

// The time for connecting is for all attempts together: when it is over, a broker that declines is the last one.
func TestTimeForConnectingEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{brokers: 2, backend: Backend{DialTimeout: 200 * time.Millisecond}})
	client := r.dial()
	write(t, client, connect("c"))
	broker := r.accept(0)
	expect(t, broker, connect("c"))
	time.Sleep(300 * time.Millisecond)
	write(t, broker, connackOf(4, 3))
	expect(t, client, connackOf(4, 3))
	_ = broker.Close()
	_ = client.Close()
	r.record()
	r.nobodyArrives(1)
}

// An attempt that leaves another one has half of the time.
func TestTimeForConnectingIsShared(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	r := newRig(t, rigOptions{backend: Backend{DialTimeout: timeout}})
	r.placer.prepend(fullQueue(t))
	began := time.Now()
	write(t, r.dial(), connect("c"))
	expect(t, r.accept(0), connect("c"))
	if took := time.Since(began); took < timeout/2-100*time.Millisecond || took > timeout {
		t.Errorf("the second attempt came after %v, want %v", took, timeout/2)
	}
}

// Sessions that wait for the answer end when the proxy stops.
func TestDrainBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{brokers: 2})
	client := r.dial()
	write(t, client, connect("c"))
	broker := r.accept(0)
	expect(t, broker, connect("c"))
	done := make(chan error, 1)
	go func() { done <- r.proxy.Drain(t.Context(), DrainOptions{}) }()
	gone(t, broker)
	_ = broker.Close()
	if n, err := client.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("got %d bytes, want the connection closed", n)
	}
	_ = client.Close()
	if err := <-done; err != nil {
		t.Errorf("drain: %v", err)
	}
	r.nobodyArrives(1)
}

// The meaning of an answer does not depend on what is behind its CONNACK, and does not change once it is known.
func TestJudgePrefixes(t *testing.T) {
	t.Parallel()
	long := slices.Concat([]byte{0x20, 0x80 | 5, 1, 0, 0x9F, 0x81, 1, 0x1f, 0, 126}, make([]byte, 126)) // 133 bytes of body
	for _, test := range []struct {
		version byte
		answer  []byte
		want    meaning
		known   int // from how many bytes on
	}{
		{4, connackOf(4, 3), declined, 4},
		{3, connackOf(3, 3), declined, 4},
		{5, []byte{0x20, 2, 0, 0x88}, declined, 4},
		{5, connackOf(5, 0x88), declined, 11},
		{5, long, declined, len(long)},
		{5, connackOf(5, 0x87), decided, 4},
		{5, connackOf(5, 0), decided, 4},
		{4, connackOf(4, 0), decided, 4},
		{4, connackOf(4, 0x88), decided, 4},
		{0x84, connackOf(4, 3), decided, 4},
		{4, []byte{0x20, 1, 3}, decided, 2},
		{4, []byte{0x20, 0x80, 0x80, 0x80, 0x80, 0}, decided, 5},
		{5, []byte{0x20, 0xff, 0xff, 0x7f, 0, 0x88}, decided, 4},
		{5, []byte{0xf0, 0}, decided, 1},
	} {
		behind := append(slices.Clone(test.answer), "behind"...)
		for n := range behind {
			connack, code, got := judge(behind[:n], test.version)
			want := undecided
			if n >= test.known {
				want = test.want
			}
			if got != want {
				t.Errorf("version %d, %x: got %d, want %d", test.version, behind[:n], got, want)
			}
			if got == declined && (string(connack) != string(test.answer) || !declines(test.version, code)) {
				t.Errorf("version %d: got CONNACK %x with code %#x, want %x", test.version, connack, code, test.answer)
			}
		}
	}
}
