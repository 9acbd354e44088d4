package proxy

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// A recordWriter writes the records of a TLS 1.3 client itself, as crypto/tls never would.
type recordWriter struct {
	net.Conn
	t      *testing.T
	secret []byte
	seal   cipher.AEAD
	iv     []byte
	number uint64
}

// hostile shakes hands and takes over the client's side.
func (r *tlsRig) hostile() *recordWriter {
	r.t.Helper()
	var keys bytes.Buffer
	config := r.config(tls.VersionTLS13)
	config.KeyLogWriter = &keys
	raw := r.dial()
	client := r.over(raw, config)
	if err := client.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	if suite := client.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		r.t.Skipf("the cipher suite is %s", tls.CipherSuiteName(suite))
	}
	w := &recordWriter{Conn: raw, t: r.t}
	for line := range strings.Lines(keys.String()) {
		if fields := strings.Fields(line); fields[0] == "CLIENT_TRAFFIC_SECRET_0" {
			w.secret, _ = hex.DecodeString(fields[2])
		}
	}
	w.rekey()
	return w
}

func (w *recordWriter) expand(label string, size int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(size))
	info = append(append(append(info, byte(6+len(label))), "tls13 "+label...), 0)
	out, err := hkdf.Expand(sha256.New, w.secret, string(info), size)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *recordWriter) rekey() {
	block, err := aes.NewCipher(w.expand("key", 16))
	if err != nil {
		w.t.Fatal(err)
	}
	w.seal, _ = cipher.NewGCM(block)
	w.iv, w.number = w.expand("iv", 12), 0
}

// record encrypts one.
func (w *recordWriter) record(kind byte, content []byte) []byte {
	plain := append(slices.Clone(content), kind)
	header := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(header[3:], uint16(len(plain)+w.seal.Overhead()))
	nonce := slices.Clone(w.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(w.number >> (56 - 8*i))
	}
	w.number++
	return w.seal.Seal(header, nonce, plain, header)
}

// newKey asks for a new key of the other side, and takes one for this.
func (w *recordWriter) newKey() []byte {
	b := w.record(22, []byte{24, 0, 0, 1, 1})
	w.secret = w.expand("traffic upd", sha256.Size)
	w.rekey()
	return b
}

// crumbled has each byte of text in a record of its own.
func (w *recordWriter) crumbled(text []byte) (b []byte) {
	for i := range text {
		b = append(b, w.record(23, text[i:i+1])...)
	}
	return b
}

// What TLS allows and MQTT does not need: it costs no turn that is longer than others, no memory, and ends soon.
func TestFaultA3RecordsThatAreNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		bytes func(*recordWriter) []byte
	}{
		{"empty", func(w *recordWriter) (b []byte) {
			for range 100 {
				b = append(b, w.record(23, nil)...)
			}
			return b
		}},
		{"ChangeCipherSpec", func(*recordWriter) []byte { return bytes.Repeat([]byte{20, 3, 3, 0, 1, 1}, 100) }},
		{"new keys", func(w *recordWriter) (b []byte) {
			for range 100 {
				b = append(b, w.newKey()...)
			}
			return b
		}},
		{"a message without an end", func(w *recordWriter) (b []byte) {
			b = w.record(22, []byte{11, 3, 0, 0}) // a Certificate of 192 KiB
			for range 11 {
				b = append(b, w.record(22, make([]byte, 16<<10))...)
			}
			return b
		}},
		{"ClientHello", func(w *recordWriter) []byte { return w.record(22, []byte{1, 0, 0, 0}) }},
		{"garbage", func(*recordWriter) []byte {
			return []byte{23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0}
		}},
	} {
		for _, before := range []bool{true, false} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				r := newTLSRig(t, rigOptions{}, nil)
				w := r.hostile()
				if !before {
					_, _ = w.Write(w.record(23, connect("c")))
					r.accept(0)
				}
				_, _ = w.Write(c.bytes(w))
				if _, err := io.Copy(io.Discard, w); err != nil && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
					t.Errorf("got %v, want the end", err)
				}
				if rec := r.record(); rec.End != EndClient {
					t.Errorf("got %v, %q; want the client's end", rec.End, rec.Refusal)
				}
			})
		}
	}
}

// New keys now and then are in order.
func TestNewKeysOfTLS(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{}, nil)
	w := r.hostile()
	opening := connect("c")
	_, _ = w.Write(slices.Concat(w.newKey(), w.record(23, opening[:3]), w.newKey(), w.record(23, opening[3:])))
	broker := r.accept(0)
	expect(t, broker, opening)
	for range 300 {
		_, _ = w.Write(slices.Concat(w.newKey(), w.record(23, []byte{0xc0, 0})))
		expect(t, broker, []byte{0xc0, 0})
	}
}

// A client that asks for more and more new keys, and reads no answer, is given up and costs no memory.
func TestFaultA3NewKeysAndNobodyWhoReads(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{}, nil)
	w := r.hostile()
	_, _ = w.Write(w.record(23, connect("c")))
	broker := r.accept(0)
	go func() { _, _ = io.Copy(io.Discard, broker) }()
	for range 400 {
		var b []byte
		for range 1000 {
			b = append(append(b, w.newKey()...), w.record(23, []byte{0})...)
		}
		_, err := w.Write(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Skip("this machine is too busy for so many keys")
		}
		if err != nil {
			break
		}
		if lent := r.lent(); lent > readSize {
			t.Fatalf("mqttlb holds %d bytes, want at most %d", lent, readSize)
		}
	}
	if rec := r.record(); rec.End != EndClient {
		t.Errorf("got %v, want the client's end", rec.End)
	}
}

// Small records have no longer turn than large ones.
func TestCrumbledRecordsTakeNoLongerTurn(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{}, nil)
	w := r.hostile()
	opening := mqttparse.AppendConnect(nil, &mqttparse.ConnectOptions{Version: 4, ClientID: strings.Repeat("c", 5000)})
	_, _ = w.Write(w.crumbled(opening))
	broker := r.accept(0)
	expect(t, broker, opening)
	text := bytes.Repeat([]byte{0xc0, 0}, 20_000)
	stop := make(chan struct{})
	go func() { defer close(stop); _, _ = w.Write(w.crumbled(text)) }()
	_ = broker.SetDeadline(time.Now().Add(3 * patience))
	expect(t, broker, text)
	<-stop
	r.proxy.on(r.proxy.loops[0], func(l *loop) {
		if l.held != 0 {
			t.Errorf("got %d bytes held, want 0", l.held)
		}
	})
}

// An alert is heard even by a client that goes on sending.
func TestFaultA3AnAlertIsHeard(t *testing.T) {
	t.Parallel()
	r, _ := tenants(t, passing(), Route{SNI: "a.example"}, Route{SNI: "b.example"})
	c := r.dial()
	write(t, c, greeting("c.example"))
	more := make([]byte, 64<<10)
	for range 20 {
		write(t, c, more)
		time.Sleep(5 * time.Millisecond)
	}
	_ = c.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, unrecognizedName()) {
		t.Errorf("got %x and %v, want the alert and FIN", got, err)
	}
}
