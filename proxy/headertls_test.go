package proxy

import (
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	withoutCertificate = tlsFacts{alpn: "mqtt", authority: "a.example", client: 1, verify: 1, version: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256"}
	withCertificate    = tlsFacts{authority: "a.example", client: 7, version: "TLSv1.2", cipher: "ECDHE-RSA-AES128-GCM-SHA256", cn: "device-1"}
)

// As those of TestHeaderVectors, these are written by hand from the specification (2.2.2 to 2.2.6).
func TestHeaderVectorsOfTLS(t *testing.T) {
	t.Parallel()
	all := HeaderOptions{ALPN: true, Authority: true, SSL: true}
	named := HeaderOptions{SSL: true, CommonName: true}
	resumed := withCertificate
	resumed.client = 5
	odd := withCertificate
	odd.cn, odd.authority = "a\x00b", "b\u0085"
	version13, version12 := "210007"+text("TLSv1.3"), "210007"+text("TLSv1.2")
	cipher13, cipher12 := "230016"+text("TLS_AES_128_GCM_SHA256"), "23001b"+text("ECDHE-RSA-AES128-GCM-SHA256")
	for _, c := range []struct {
		name    string
		o       HeaderOptions
		tls     tlsFacts
		want    string
		trimmed bool
	}{
		{"plain TCP", all, tlsFacts{}, "000c" + bytes4, false},
		{
			"without a certificate", all, withoutCertificate,
			"004a" + bytes4 + "010004" + text("mqtt") + "020009" + text("a.example") + "200028" + "01" + "00000001" + version13 + cipher13, false,
		},
		{"with one, whose name is not told", all, withCertificate, "0048" + bytes4 + "020009" + text("a.example") + "20002d" + "07" + "00000000" + version12 + cipher12, false},
		{"with one, whose name is told", named, withCertificate, "0047" + bytes4 + "200038" + "07" + "00000000" + version12 + "220008" + text("device-1") + cipher12, false},
		{"a name without the rest", HeaderOptions{CommonName: true}, withCertificate, "000c" + bytes4, false},
		{"resumed", HeaderOptions{SSL: true}, resumed, "003c" + bytes4 + "20002d" + "05" + "00000000" + version12 + cipher12, false},
		{"ALPN alone", HeaderOptions{ALPN: true}, withoutCertificate, "0013" + bytes4 + "010004" + text("mqtt"), false},
		{"passed through", all, (&security{sni: "b.example", alpn: "mqtt"}).facts(), "0018" + bytes4 + "020009" + text("b.example"), false},
		{
			"control characters",
			HeaderOptions{Authority: true, SSL: true, CommonName: true},
			odd,
			"003c" + bytes4 + "20002d" + "07" + "00000000" + version12 + cipher12, true,
		},
		{"without a version", all, tlsFacts{client: 1, verify: 1, cipher: "C"}, "000c" + bytes4, false},
		// The checksum was computed apart from this program, bit by bit.
		{"checksum", HeaderOptions{Checksum: true}, tlsFacts{}, "0013" + bytes4 + "030004" + "c4053124", false},
	} {
		facts := facts4
		facts.tls = c.tls
		got, trimmed := newHeader(t, c.o).append([]byte("x"), &facts)
		if want := "x" + string(unhex(t, proxyTCP4+c.want)); string(got) != want || trimmed != c.trimmed {
			t.Errorf("%s:\ngot  %x, trimmed %t\nwant %x, %t", c.name, got, trimmed, want, c.trimmed)
		}
	}
}

func TestNamesOfVersionsAndCiphers(t *testing.T) {
	t.Parallel()
	for version, want := range map[uint16]string{tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3", 0x305: "0x0305"} {
		if got := versionName(version); got != want {
			t.Errorf("%#x: got %s, want %s", version, got, want)
		}
	}
	for id, want := range map[uint16]string{
		0x1301: "TLS_AES_128_GCM_SHA256", 0x1303: "TLS_CHACHA20_POLY1305_SHA256", 0xc02b: "ECDHE-ECDSA-AES128-GCM-SHA256",
		0xc030: "ECDHE-RSA-AES256-GCM-SHA384", 0xcca8: "ECDHE-RSA-CHACHA20-POLY1305", 0xc013: "ECDHE-RSA-AES128-SHA", 0xfefe: "0xFEFE",
	} {
		if got := cipherName(id); got != want {
			t.Errorf("%#x: got %s, want %s", id, got, want)
		}
	}
	// Whatever crypto/tls may agree upon by itself has the name that OpenSSL gives it.
	for _, suite := range tls.CipherSuites() {
		if name := cipherName(suite.ID); strings.Contains(name, "_WITH_") {
			t.Errorf("got %s, want the name of OpenSSL", name)
		}
	}
}

// Building a header allocates nothing: it is on the way of every connection. (Not parallel: other tests' allocations would
// count.)
func TestHeaderAllocatesNothing(t *testing.T) {
	o := HeaderOptions{UniqueID: true, ALPN: true, Authority: true, SSL: true, CommonName: true, Checksum: true, Custom: []CustomTLV{{0xE4, "{listener}/{client_id}"}}}
	dst := make([]byte, 0, 1024)
	for name, facts := range map[string]headerFacts{"plain": facts4, "TLS": facts6} {
		if name == "TLS" {
			facts.tls = withoutCertificate
		}
		for _, version := range []int{1, 2} {
			o.Version = version
			h := newHeader(t, o)
			if n := testing.AllocsPerRun(100, func() { _, _ = h.append(dst, &facts) }); n != 0 {
				t.Errorf("%s, version %d: got %v allocations, want none", name, version, n)
			}
		}
	}
}

// telling is the header of these tests: all about TLS.
func telling(t *testing.T) Backend {
	t.Helper()
	return Backend{Header: newHeader(t, HeaderOptions{ALPN: true, Authority: true, SSL: true, CommonName: true})}
}

// What brokers are told of clients that come over TLS.
func TestHeaderOfTLSClients(t *testing.T) {
	t.Parallel()
	for _, auth := range []tls.ClientAuthType{tls.NoClientCert, tls.RequireAndVerifyClientCert} {
		for _, version := range tlsVersions {
			t.Run(fmt.Sprint(auth, " ", tls.VersionName(version)), func(t *testing.T) {
				t.Parallel()
				r := newTLSRig(t, rigOptions{backend: telling(t)}, func(c *tls.Config, ca *authority) {
					c.ClientAuth, c.ClientCAs, c.NextProtos = auth, ca.pool, []string{"mqtt"}
				})
				config := r.config(version)
				config.NextProtos, config.ClientSessionCache = []string{"mqtt"}, tls.NewLRUClientSessionCache(1)
				flags, verify, cn := "01", "00000001", ""
				if auth != tls.NoClientCert {
					config.Certificates = []tls.Certificate{r.ca.issue(t, "device-1", time.Now().Add(time.Hour))}
					flags, verify, cn = "07", "00000000", "220008"+text("device-1")
				}
				for _, resumed := range []bool{false, true} {
					client := r.over(r.dial(), config)
					write(t, client, connect("c"))
					broker := r.accept(0)
					d, _ := readHeader(t, broker)
					expect(t, broker, connect("c"))
					write(t, broker, connack())
					expect(t, client, connack()) // and the ticket
					state := client.ConnectionState()
					if state.DidResume != resumed {
						t.Fatalf("got a session that is resumed: %t, want %t", state.DidResume, resumed)
					}
					if resumed && cn != "" {
						flags = "05"
					}
					cipher := cipherName(state.CipherSuite)
					want := flags + verify + "210007" + text(versionName(version)) + cn + fmt.Sprintf("23%04x", len(cipher)) + text(cipher)
					if got := hex.EncodeToString([]byte(d.value(0x20))); got != want || d.value(1) != "mqtt" || d.value(2) != "localhost" {
						t.Errorf("resumed %t: got SSL %s, ALPN %q and AUTHORITY %q, want %s, mqtt and localhost", resumed, got, d.value(1), d.value(2), want)
					}
					_ = client.Close()
				}
			})
		}
	}
}

// Of a client that is passed through, the name is told and nothing that only the broker will know.
func TestHeaderOfPassedClients(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{listener: passing(), backend: telling(t)})
	sent := greeting("B.example")
	write(t, r.dial(), sent)
	broker := r.accept(0)
	d, _ := readHeader(t, broker)
	expect(t, broker, sent)
	if d.types() != "02" || d.value(2) != "b.example" {
		t.Errorf("got values %q, AUTHORITY %q, want AUTHORITY b.example alone", d.types(), d.value(2))
	}
}

// What the load balancer in front tells of its client's TLS is passed on; of a client that comes to us over TLS, what we
// see ourselves.
func TestHeaderPassesTLSOn(t *testing.T) {
	t.Parallel()
	ssl := "07" + "00000000" + "210007" + text("TLSv1.3") + "220001" + text("d") + "230001" + text("C")
	values := unhex(t, "010003"+text("abc")+"020001"+text("s")+"200017"+ssl+"e40001"+text("x"))
	header := binary.BigEndian.AppendUint16(unhex(t, proxyTCP4), uint16(12+len(values)))
	header = slices.Concat(header, unhex(t, bytes4), values)
	r := behind(t, rigOptions{backend: telling(t)})
	client := r.dial()
	write(t, client, append(slices.Clone(header), connect("c")...))
	broker := r.accept(0)
	d, _ := readHeader(t, broker)
	expect(t, broker, connect("c"))
	if got := hex.EncodeToString([]byte(d.value(0x20))); d.types() != "01 02 20 e4" || got != ssl || d.value(1) != "abc" || d.value(2) != "s" || d.src != facts4.src {
		t.Errorf("got %+v, SSL %s, want all that came in, and SSL %s", d, got, ssl)
	}

	without := rigOptions{backend: Backend{Header: newHeader(t, HeaderOptions{})}}
	r = behind(t, without)
	write(t, r.dial(), append(slices.Clone(header), connect("c")...))
	if d, _ := readHeader(t, r.accept(0)); d.types() != "e4" {
		t.Errorf("got values %q, want none of TLS that is not asked for", d.types())
	}

	over := newTLSRig(t, rigOptions{listener: Listener{Trusted: NewNetworks([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})}, backend: telling(t)}, nil)
	raw := over.dial()
	write(t, raw, header)
	write(t, over.over(raw, over.config(tls.VersionTLS13)), connect("c"))
	d, _ = readHeader(t, over.accept(0))
	if d.types() != "02 20 e4" || d.value(2) != "localhost" || d.value(0x20)[0] != 1 || d.src != facts4.src {
		t.Errorf("got %+v, want what TLS here has shown", d)
	}
}
