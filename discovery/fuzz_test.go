package discovery

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/mqttlb/mqttlb/balancer"
)

// lastGood is the set in force before the answer of a fuzz target comes.
func lastGood() []balancer.Backend {
	return []balancer.Backend{{Name: "known", Address: "10.9.9.9:1883", Capacity: 1}}
}

// checkRefresh has a refresher with a good set ask once more, and checks what must hold whatever the answer is: there
// is a new set, not empty, within its bounds and with addresses that can be dialled, or the last one stays. It returns the
// new set, nil if the last one stays.
func checkRefresh(t *testing.T, r *refresher) []balancer.Backend {
	t.Helper()
	r.last, r.journal = lastGood(), journal{log: slog.New(slog.DiscardHandler)}
	r.lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
		if len(host)%7 == 0 {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
	}
	sets := make(chan []balancer.Backend, 1)
	r.refresh(t.Context(), sets)
	if len(sets) == 0 {
		if !reflect.DeepEqual(r.last, lastGood()) {
			t.Fatalf("got %v in force and nobody told, want the last good set", r.last)
		}
		return nil
	}
	set := <-sets
	if len(set) == 0 || len(set) > r.most || !reflect.DeepEqual(set, r.last) {
		t.Fatalf("got a set of %d backends, want 1 to %d, and the same in force", len(set), r.most)
	}
	names := make(map[string]bool)
	for _, b := range set {
		at, err := netip.ParseAddrPort(b.Address)
		if err != nil || at.Port() == 0 || b.Name == "" || names[b.Name] || !(b.Capacity >= 0) || math.IsInf(b.Capacity, 0) {
			t.Fatalf("got the backend %+v (error %v) in %v", b, err, set)
		}
		names[b.Name] = true
	}
	return set
}

// A cannedConn is a connection to a DNS server that answers every question with the same message.
type cannedConn struct {
	net.Conn
	message []byte // without its id
	reply   bytes.Buffer
}

func (c *cannedConn) Write(b []byte) (int, error) { // a question over TCP: length, id and so on
	c.reply.Reset()
	_ = binary.Write(&c.reply, binary.BigEndian, uint16(len(c.message)+2))
	c.reply.Write(b[2:4])
	c.reply.Write(c.message)
	return len(b), nil
}

func (c *cannedConn) Read(b []byte) (int, error)  { return c.reply.Read(b) }
func (c *cannedConn) Close() error                { return nil }
func (c *cannedConn) SetDeadline(time.Time) error { return nil }

const fuzzName = "_mqtt._tcp.fuzz.test."

// dnsSeed is an answer to a question for fuzzName, without its id.
func dnsSeed(f *testing.F, kind dnsmessage.Type, code dnsmessage.RCode, records ...dnsmessage.ResourceBody) []byte {
	f.Helper()
	name := dnsmessage.MustNewName(fuzzName)
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{Response: true, Authoritative: true, RecursionAvailable: true, RCode: code},
		Questions: []dnsmessage.Question{{Name: name, Type: kind, Class: dnsmessage.ClassINET}},
	}
	for _, r := range records {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 60}, Body: r})
	}
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	return b[2:]
}

func srv(priority, weight, port uint16, target string) *dnsmessage.SRVResource {
	return &dnsmessage.SRVResource{Priority: priority, Weight: weight, Port: port, Target: dnsmessage.MustNewName(target)}
}

// FuzzDNSAnswer turns any answer of a DNS server into backends. What it finds must be in the answer, as another decoder
// reads it.
func FuzzDNSAnswer(f *testing.F) {
	one, many := &dnsmessage.AResource{A: [4]byte{10, 0, 0, 1}}, []dnsmessage.ResourceBody(nil)
	for i := range 300 {
		many = append(many, &dnsmessage.AResource{A: [4]byte{10, 0, byte(i >> 8), byte(i)}})
	}
	f.Add(byte(0), dnsSeed(f, dnsmessage.TypeA, 0, one, &dnsmessage.AResource{A: [4]byte{10, 0, 0, 2}}))
	f.Add(byte(0), dnsSeed(f, dnsmessage.TypeA, 0))
	f.Add(byte(0), dnsSeed(f, dnsmessage.TypeA, 0, many...))
	f.Add(byte(0), dnsSeed(f, dnsmessage.TypeA, dnsmessage.RCodeNameError))
	f.Add(byte(0), dnsSeed(f, dnsmessage.TypeA, dnsmessage.RCodeServerFailure))
	f.Add(byte(0), dnsSeed(f, dnsmessage.TypeA, 0, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(fuzzName)}, one))
	f.Add(byte(1), dnsSeed(f, dnsmessage.TypeAAAA, 0, &dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 1, 13: 1}}))
	f.Add(byte(1), dnsSeed(f, dnsmessage.TypeAAAA, 0, &dnsmessage.AAAAResource{AAAA: [16]byte{10: 0xff, 0xff, 10, 0, 0, 1}}))
	f.Add(byte(2), dnsSeed(f, dnsmessage.TypeSRV, 0, srv(1, 5, 1883, "a.test."), srv(1, 0, 1883, "B.test."), srv(2, 5, 1883, "c.test.")))
	f.Add(byte(2), dnsSeed(f, dnsmessage.TypeSRV, 0, srv(0, 0, 0, "a.test."), srv(0, 0, 1, "."), srv(0, 9, 2, "a.test."), srv(0, 9, 3, "a.test.")))
	f.Fuzz(func(t *testing.T, kind byte, message []byte) {
		if len(message) > math.MaxUint16-2 {
			return
		}
		d := &DNS{Name: fuzzName, resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return &cannedConn{message: message}, nil
		}}}
		ask := []func(context.Context) (answer, error){
			func(ctx context.Context) (answer, error) { return d.addresses(ctx, "ip4") },
			func(ctx context.Context) (answer, error) { return d.addresses(ctx, "ip6") },
			d.srv,
		}[kind%3]
		set := checkRefresh(t, &refresher{source: "dns", fetch: d.bounded(ask), most: maxRecords})
		known := recordsIn(append([]byte{0, 0}, message...))
		for _, b := range set {
			name := b.Name
			if kind%3 == 2 {
				name, _, _ = strings.Cut(name, ":") // a target with several ports
			}
			if !slices.Contains(known, name) {
				t.Fatalf("got the backend %+v, which is none of %q in %x", b, known, message)
			}
		}
	})
}

// recordsIn are the addresses and targets in the answer section of a message, as far as it can be read. Records of other
// types are not looked into.
func recordsIn(message []byte) (found []string) {
	var p dnsmessage.Parser
	if _, err := p.Start(message); err != nil || p.SkipAllQuestions() != nil {
		return nil
	}
	for {
		h, err := p.AnswerHeader()
		if err != nil {
			return found
		}
		switch h.Type { //nolint:exhaustive // the others are skipped
		case dnsmessage.TypeA:
			var r dnsmessage.AResource
			r, err = p.AResource()
			found = append(found, netip.AddrFrom4(r.A).String())
		case dnsmessage.TypeAAAA:
			var r dnsmessage.AAAAResource
			r, err = p.AAAAResource()
			found = append(found, netip.AddrFrom16(r.AAAA).Unmap().String())
		case dnsmessage.TypeSRV:
			var r dnsmessage.SRVResource
			r, err = p.SRVResource()
			found = append(found, strings.ToLower(strings.TrimSuffix(r.Target.String(), ".")))
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return found
		}
	}
}

// A cannedBucket answers in place of an S3 server: with a listing, and with the same content for every object.
type cannedBucket struct {
	status           int
	listing, content []byte
}

func (c *cannedBucket) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := http.StatusOK, c.content
	if r.URL.Query().Has("list-type") {
		status, body = c.status, c.listing
	}
	h := http.Header{"Etag": {`"x"`}, "Last-Modified": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "Content-Length": {fmt.Sprint(len(body))}}
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}, nil
}

// FuzzS3Answer turns any listing and any object into backends. As all objects are the same, there is at most one: the
// one that the object describes, and only if the listing names an object.
func FuzzS3Answer(f *testing.F) {
	const page = `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>` +
		`<Prefix></Prefix><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>%v</IsTruncated>%s` +
		`<Contents><Key>one</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag><Size>60</Size></Contents>` +
		`<Contents><Key>folder/</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>"y"</ETag><Size>0</Size></Contents></ListBucketResult>`
	good := []byte("NHx8fHwxNzAwMDAwMDAwMDAwfHx8fEFiM2RFfHx8fDEwLjAuMC40fHx8fDcwMDA=") // 10.0.0.4
	f.Add(200, fmt.Appendf(nil, page, false, ""), good)
	f.Add(200, fmt.Appendf(nil, page, true, "<NextContinuationToken>t</NextContinuationToken>"), good)
	f.Add(200, fmt.Appendf(nil, page, true, ""), good)
	f.Add(200, fmt.Appendf(nil, page, false, "")[:200], good)
	f.Add(200, []byte("<ListBucketResult></ListBucketResult>"), good)
	f.Add(200, []byte{}, good)
	f.Add(200, []byte("<Error><Code>SlowDown</Code></Error>"), []byte{})
	f.Add(403, []byte("<Error><Code>AccessDenied</Code><Message>no</Message></Error>"), good)
	f.Add(500, []byte("not XML"), good)
	f.Add(200, fmt.Appendf(nil, page, false, ""), []byte(encode("4||||1||||id||||broker-1||||8000")))
	f.Add(200, fmt.Appendf(nil, page, false, ""), []byte("garbage"))
	key := filepath.Join(f.TempDir(), "key")
	if err := os.WriteFile(key, []byte("secret-key"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, listing, content []byte) {
		if status < 200 || status > 599 || status >= 300 && status < 400 {
			return
		}
		at, err := parseEndpoint("http://127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		s := &S3{
			Bucket: "bucket", Region: "us-east-1", AccessKeyFile: key, SecretKeyFile: key, Expiration: -1, endpoint: at,
			transport: &guard{next: &cannedBucket{status, listing, content}}, cache: make(map[string]cached),
		}
		set := checkRefresh(t, &refresher{source: "s3", fetch: s.fetch, most: maxObjects})
		if len(set) == 0 {
			return
		}
		n, err := parseNode(content)
		if err != nil || len(set) != 1 || set[0].Name != n.host {
			t.Fatalf("got %v from the content %q, which says %+v (error %v)", set, content, n, err)
		}
		if status >= 300 || !namesObject(listing) {
			t.Fatalf("got %v with status %d from the listing %q, which names no object", set, status, listing)
		}
	})
}

// namesObject tells whether a listing has an object that is no folder.
func namesObject(listing []byte) bool {
	d := xml.NewDecoder(bytes.NewReader(listing))
	d.Strict = false
	key := false
	for {
		token, err := d.Token()
		if err != nil {
			return false
		}
		switch x := token.(type) {
		case xml.StartElement:
			key = x.Name.Local == "Key"
		case xml.CharData:
			if key && !strings.HasSuffix(string(x), "/") {
				return true
			}
		}
	}
}
