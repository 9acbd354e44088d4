package health_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/health"
)

// wanted is what a Result should be. err and note are parts of the texts, empty for none at all.
type wanted struct {
	err, note string
	drain     bool
	version   byte
}

func (w wanted) check(t *testing.T, got health.Result) {
	t.Helper()
	switch {
	case w.err == "" && got.Err != nil:
		t.Errorf("got error %v, want none", got.Err)
	case w.err != "" && (got.Err == nil || !strings.Contains(got.Err.Error(), w.err)):
		t.Errorf("got error %v, want one about %q", got.Err, w.err)
	}
	if w.note == "" && got.Note != "" || !strings.Contains(got.Note, w.note) {
		t.Errorf("got note %q, want %q", got.Note, w.note)
	}
	if got.Drain != w.drain || got.Version != w.version || got.Unsettled {
		t.Errorf("got drain %v, version %d, unsettled %v; want %v, %d, false", got.Drain, got.Version, got.Unsettled, w.drain, w.version)
	}
}

// connackV5 is a CONNACK of MQTT 5 with a code and properties.
func connackV5(code byte, properties ...byte) []byte {
	return append([]byte{0x20, byte(3 + len(properties)), 0, code, byte(len(properties))}, properties...)
}

func TestMQTTCodes(t *testing.T) {
	credentials := health.MQTTOptions{Username: "u"}
	for _, test := range []struct {
		name    string
		packet  []byte
		version byte // known before
		options health.MQTTOptions
		want    wanted
	}{
		{"5: success", connackV5(0), 0, health.MQTTOptions{}, wanted{version: 5}},
		{"5: success with properties", connackV5(0, 0x13, 0, 60, 0x12, 0, 1, 'x'), 0, health.MQTTOptions{}, wanted{version: 5}},
		{"5: not authorized, a stranger", connackV5(0x87), 0, health.MQTTOptions{}, wanted{version: 5, note: "0x87 not authorized"}},
		{"5: not authorized, with credentials", connackV5(0x87), 0, credentials, wanted{err: "0x87 not authorized"}},
		{"5: bad client id", connackV5(0x85), 0, health.MQTTOptions{}, wanted{version: 5, note: "0x85"}},
		{"5: bad password, which passes", connackV5(0x86), 0, health.MQTTOptions{Username: "u", Unwelcome: health.UnwelcomePasses}, wanted{version: 5, note: "0x86"}},
		{"5: not authorized, which fails", connackV5(0x87), 0, health.MQTTOptions{Unwelcome: health.UnwelcomeFails}, wanted{err: "0x87"}},
		{"5: unavailable", connackV5(0x88), 0, health.MQTTOptions{}, wanted{err: "0x88 server unavailable"}},
		{"5: busy, with a reason", connackV5(0x89, 0x1F, 0, 3, 'n', 'o', '\n'), 0, health.MQTTOptions{}, wanted{err: `0x89 server busy ("no\n")`}},
		{"5: quota exceeded", connackV5(0x97), 0, credentials, wanted{version: 5, note: "0x97 quota exceeded"}},
		{"5: rate exceeded", connackV5(0x9F), 0, credentials, wanted{version: 5, note: "0x9f connection rate exceeded"}},
		{"5: evacuated", connackV5(0x9C, 0x1C, 0, 3, 'n', '2', ':'), 0, health.MQTTOptions{}, wanted{version: 5, drain: true, note: `server reference "n2:"`}},
		{"5: moved", connackV5(0x9D), 0, health.MQTTOptions{}, wanted{version: 5, drain: true, note: "0x9d server moved"}},
		{"5: malformed packet", connackV5(0x81), 0, health.MQTTOptions{}, wanted{err: "0x81"}},
		{"5: unspecified", connackV5(0x80), 0, health.MQTTOptions{}, wanted{err: "0x80"}},
		{"5: a code of no standard", connackV5(0xF0), 0, health.MQTTOptions{}, wanted{err: "0xf0 unknown code"}},
		{"3: accepted", []byte{0x20, 2, 0, 0}, 4, health.MQTTOptions{}, wanted{version: 4}},
		{"3: unavailable", []byte{0x20, 2, 0, 3}, 4, health.MQTTOptions{}, wanted{err: "0x03 server unavailable"}},
		{"3: not authorized, a stranger", []byte{0x20, 2, 0, 5}, 4, health.MQTTOptions{}, wanted{version: 4, note: "0x05 not authorized"}},
		{"3: bad password", []byte{0x20, 2, 0, 4}, 4, credentials, wanted{err: "0x04"}},
		{"3: version", []byte{0x20, 2, 0, 1}, 4, health.MQTTOptions{}, wanted{err: "0x01 unacceptable protocol version"}},
		{"3: a code of no standard", []byte{0x20, 2, 0, 77}, 4, health.MQTTOptions{}, wanted{err: "unknown code"}},
		{"3: answered with 5", connackV5(0), 4, health.MQTTOptions{}, wanted{err: "form of MQTT 5"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := serve(t, answer(test.packet...))
			test.want.check(t, probe(t, mqtt(t, test.options), f.backend(), test.version, patience))
			want := []byte{5}
			if test.version == 4 {
				want = []byte{4}
			}
			if got := f.levels(); !bytes.Equal(got, want) {
				t.Errorf("the broker got CONNECTs of versions %v, want %v", got, want)
			}
		})
	}
}

// What is not a CONNACK fails, at once where it can, and with a text that says what to look at.
func TestMQTTTrouble(t *testing.T) {
	after := func(do func(c net.Conn)) func(*fake, net.Conn) {
		return func(f *fake, c net.Conn) {
			if _, ok := f.readConnect(c); ok {
				do(c)
			}
		}
	}
	wait := func(c net.Conn) { c.Read(make([]byte, 1)) }
	write := func(b ...byte) func(net.Conn) { return func(c net.Conn) { c.Write(b); wait(c) } }
	for _, test := range []struct {
		name   string
		script func(*fake, net.Conn)
		limit  time.Duration
		err    string
	}{
		{"silent", after(wait), brief, "i/o timeout"},
		{"half a CONNACK, then silence", after(write(0x20, 3, 0)), brief, "i/o timeout"},
		{"slow", after(func(c net.Conn) {
			for _, b := range connackV5(0x88) {
				c.Write([]byte{b})
				time.Sleep(time.Millisecond)
			}
			wait(c)
		}), patience, "0x88 server unavailable"},
		{"half a CONNACK, then the end", after(func(c net.Conn) { c.Write([]byte{0x20, 3, 0}); c.Close() }), patience, "in the middle of CONNACK"},
		{"half a CONNACK, then RST", after(func(c net.Conn) { c.Write([]byte{0x20}); c.Read(nil); reset(c) }), patience, "closed the connection"},
		{"end", after(func(c net.Conn) { c.Close() }), patience, "instead of answering CONNECT"},
		{"RST", after(reset), patience, "instead of answering CONNECT"},
		{"RST at once, seen while connecting or later", func(_ *fake, c net.Conn) { reset(c) }, patience, "connect"},
		{"another packet", after(write(0x30, 3, 0, 1, 'a')), patience, "begins with 0x30 (publish)"},
		{"TLS", after(write(0x15, 3, 3, 0, 2, 2, 70)), patience, "does this port need tls?"},
		{"HTTP", after(func(c net.Conn) { c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")); wait(c) }), patience, "looks like HTTP"},
		{"flags", after(write(0x20, 3, 2, 0, 0)), patience, "flags are 0x02"},
		{"a CONNACK of one byte", after(write(0x20, 1, 0)), patience, "it has 1 bytes"},
		{"a CONNACK of 256 MiB", after(write(0x20, 0xFF, 0xFF, 0xFF, 0x7F)), patience, "it has 268435455 bytes"},
		{"a length without end", after(write(0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF)), patience, "more than four bytes"},
		{"properties that are none", after(write(0x20, 5, 0, 0, 2, 0x7F, 0)), patience, "malformed CONNACK"},
		{"properties that end too early", after(write(0x20, 6, 0, 0, 3, 0x1F, 0, 9)), patience, "malformed CONNACK"},
		{"bytes behind the properties", after(write(0x20, 5, 0, 0, 0, 1, 2)), patience, "2 bytes behind"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := serve(t, test.script)
			wanted{err: test.err}.check(t, probe(t, mqtt(t, health.MQTTOptions{}), f.backend(), 0, test.limit))
		})
	}
}

// A port where nobody listens, and a connection that is never established.
func TestMQTTCannotConnect(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := balancer.Backend{Name: "n1", Address: listener.Addr().String()}
	listener.Close()
	wanted{err: "connection refused"}.check(t, probe(t, mqtt(t, health.MQTTOptions{}), closed, 0, patience))

	hole := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	p := mqtt(t, health.MQTTOptions{Dialing: health.Dialing{Dial: hole}})
	wanted{err: "cannot connect"}.check(t, probe(t, p, closed, 0, brief))
}

// A probe ends when its context does, not only at the deadline.
func TestMQTTStopsWhenToldTo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := serve(t, func(f *fake, c net.Conn) {
		if _, ok := f.readConnect(c); ok {
			cancel()
			c.Read(make([]byte, 1))
		}
	})
	if r := mqtt(t, health.MQTTOptions{}).Probe(ctx, health.Target{Backend: f.backend()}); r.Err == nil {
		t.Error("got no error, want one about the interruption")
	}
}

// Brokers without MQTT 5 say so in one of several ways; the fallback happens within the same probe, on a
// connection of its own, and what worked is used first the next time.
func TestMQTTFallsBack(t *testing.T) {
	for _, test := range []struct {
		name    string
		other   func(net.Conn) // what the broker does with MQTT 5
		version byte
		levels  []byte
		want    wanted
	}{
		{"3.1.1 says version", func(c net.Conn) { c.Write([]byte{0x20, 2, 0, 1}) }, 0, []byte{5, 4}, wanted{version: 4}},
		{"5 says version", func(c net.Conn) { c.Write(connackV5(0x84)) }, 0, []byte{5, 4}, wanted{version: 4}},
		{"hangs up", func(net.Conn) {}, 0, []byte{5, 4}, wanted{version: 4}},
		{"RST", reset, 0, []byte{5, 4}, wanted{version: 4}},
		{"known", reset, 4, []byte{4}, wanted{version: 4}},
		{"it was replaced by an older one", func(c net.Conn) { c.Write([]byte{0x20, 2, 0, 1}) }, 5, []byte{5, 4}, wanted{version: 4}},
		{"it speaks 5, but hangs up now", reset, 5, []byte{5}, wanted{err: "instead of answering"}},
		{"it is silent: that is no answer about versions", func(c net.Conn) { c.Read(make([]byte, 1)) }, 0, []byte{5}, wanted{err: "i/o timeout"}},
		{"busy is one neither", func(c net.Conn) { c.Write([]byte{0x20, 2, 0, 3}) }, 0, []byte{5}, wanted{err: "server unavailable"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := serve(t, only311(test.other))
			limit := patience
			if strings.Contains(test.want.err, "timeout") {
				limit = brief
			}
			test.want.check(t, probe(t, mqtt(t, health.MQTTOptions{}), f.backend(), test.version, limit))
			if got := f.levels(); !bytes.Equal(got, test.levels) {
				t.Errorf("the broker got CONNECTs of versions %v, want %v", got, test.levels)
			}
		})
	}
}

// The broker hangs up on everybody: the first error is the one to tell, and two connects are enough.
func TestMQTTFallsBackOnce(t *testing.T) {
	f := serve(t, func(f *fake, c net.Conn) { f.readConnect(c) })
	wanted{err: "instead of answering CONNECT"}.check(t, probe(t, mqtt(t, health.MQTTOptions{}), f.backend(), 0, patience))
	if got := f.accepted(); got != 2 {
		t.Errorf("the broker got %d connections, want 2", got)
	}
}

// What the broker gets to see of a probe: a clean session, an id of its own, and a goodbye.
func TestMQTTIsAGoodClient(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := mqtt(t, health.MQTTOptions{
		Instance: "lb-1", ClientID: "probe {instance}/{name}/{label.zone}", Username: "monitor", PasswordFile: password,
	})
	for _, version := range []byte{5, 4} {
		packet := connackV5(0)
		if version == 4 {
			packet = []byte{0x20, 2, 0, 0}
		}
		done := make(chan struct{})
		f := serve(t, func(f *fake, c net.Conn) { answer(packet...)(f, c); close(done) })
		b := f.backend()
		b.Labels = map[string]string{"zone": "a"}
		wanted{version: version}.check(t, probe(t, p, b, version, patience))
		<-done
		if got := f.endings(); len(got) != 1 || !bytes.Equal(got[0], []byte{0xE0, 0}) {
			t.Errorf("version %d: behind CONNECT the broker got %x, want DISCONNECT and the end", version, got)
		}
		c := f.connects[0]
		switch {
		case c.Version != version, !c.CleanStart, c.Persistent(), c.KeepAlive == 0:
			t.Errorf("version %d: got CONNECT %+v, want a clean session with a keep-alive", version, c)
		case string(c.ClientID) != "probe lb-1/n1/a", string(c.Username) != "monitor":
			t.Errorf("version %d: got client %q of user %q", version, c.ClientID, c.Username)
		case c.Nonconforming != 0:
			t.Errorf("version %d: CONNECT is odd: %v", version, c.Nonconforming)
		}
	}
}

// The password is read for each probe; while that fails, the last one stays.
func TestMQTTReadsThePasswordAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	var got []string
	f := serve(t, func(f *fake, c net.Conn) {
		b := make([]byte, 1000)
		n, _ := c.Read(b)
		f.mu.Lock()
		got = append(got, string(b[n-3:n]))
		f.mu.Unlock()
		c.Write(connackV5(0))
	})
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := health.NewMQTT(health.MQTTOptions{Username: "u", PasswordFile: path}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without a file: got %v, want an error that says so", err)
	}
	write("\n")
	if _, err := health.NewMQTT(health.MQTTOptions{Username: "u", PasswordFile: path}); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("with an empty file: got %v, want an error that says so", err)
	}
	write(strings.Repeat("x", 65536))
	if _, err := health.NewMQTT(health.MQTTOptions{Username: "u", PasswordFile: path}); err == nil || !strings.Contains(err.Error(), "longer than 65535") {
		t.Errorf("with a huge file: got %v, want an error that says so", err)
	}
	write("one\r\n")
	p := mqtt(t, health.MQTTOptions{Username: "u", PasswordFile: path})
	wanted{version: 5}.check(t, probe(t, p, f.backend(), 5, patience))
	write("two")
	wanted{version: 5}.check(t, probe(t, p, f.backend(), 5, patience))
	os.Remove(path)
	wanted{version: 5, note: "password file"}.check(t, probe(t, p, f.backend(), 5, patience))
	f.mu.Lock()
	defer f.mu.Unlock()
	if want := []string{"one", "two", "two"}; !slices.Equal(got, want) {
		t.Errorf("the broker got passwords %q, want %q", got, want)
	}
}

func TestMQTTRefusesBadOptions(t *testing.T) {
	for id, want := range map[string]string{
		"x {":            "not closed",
		"{instanz}":      "unknown placeholder {instanz}",
		"{label.}":       "unknown placeholder",
		"{name":          "not closed",
		"a {instance} {": "not closed",
	} {
		if _, err := health.NewMQTT(health.MQTTOptions{ClientID: id}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("client id %q: got %v, want an error about %q", id, err, want)
		}
	}
	for id, want := range map[string]string{
		"{label.zone}":             "no label \"zone\"",
		"a\x00b":                   "not printable",
		strings.Repeat("x", 65536): "too long",
	} {
		p := mqtt(t, health.MQTTOptions{ClientID: id})
		wanted{err: want}.check(t, probe(t, p, balancer.Backend{Name: "n", Address: "127.0.0.1:1"}, 0, patience))
	}
}
