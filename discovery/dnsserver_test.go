package discovery_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A nameserver answers questions over UDP and TCP as the test likes.
type nameserver struct {
	t       *testing.T
	packets net.PacketConn
	streams net.Listener
	running sync.WaitGroup

	mu       sync.Mutex
	records  map[string][]dnsmessage.ResourceBody // by type and name, such as "A one.test."
	behave   behaviour
	overUDP  int
	overTCP  int
	released chan struct{} // closed when nobody has to hang any more
}

// A behaviour is what is done with every question.
type behaviour int

const (
	answers   behaviour = iota
	truncates           // nothing but the header over UDP, the answer over TCP
	fails               // SERVFAIL
	refuses             // REFUSED
	hangs               // no answer at all
	garbage             // bytes that are no message
	wrongID             // the answer to another question, and then nothing
	wrongName           // the same for another name
	cutShort            // half of the answer
	loops               // a name that points to itself
	drops               // over TCP: the connection is closed within the answer
)

func newNameserver(t *testing.T) *nameserver {
	t.Helper()
	s := &nameserver{t: t, records: make(map[string][]dnsmessage.ResourceBody), released: make(chan struct{})}
	var err error
	for range 10 { // the port must be free for both
		if s.streams, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if s.packets, err = net.ListenPacket("udp", s.streams.Addr().String()); err == nil {
			break
		}
		s.streams.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.running.Go(s.serveUDP)
	s.running.Go(s.serveTCP)
	t.Cleanup(func() {
		close(s.released)
		s.packets.Close()
		s.streams.Close()
		s.running.Wait()
	})
	return s
}

func (s *nameserver) addr() string { return s.streams.Addr().String() }

// set replaces the records of a type and name.
func (s *nameserver) set(key string, bodies ...dnsmessage.ResourceBody) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[key] = bodies
}

func (s *nameserver) do(b behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behave = b
}

// asked is how many questions came which way.
func (s *nameserver) asked() (udp, tcp int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.overUDP, s.overTCP
}

func (s *nameserver) serveUDP() {
	buf := make([]byte, 4096)
	for {
		n, from, err := s.packets.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply, _ := s.reply(buf[:n], true); reply != nil {
			_, _ = s.packets.WriteTo(reply, from)
		}
	}
}

func (s *nameserver) serveTCP() {
	for {
		conn, err := s.streams.Accept()
		if err != nil {
			return
		}
		s.running.Go(func() {
			defer conn.Close()
			var length [2]byte
			if _, err := io.ReadFull(conn, length[:]); err != nil {
				return
			}
			question := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(conn, question); err != nil {
				return
			}
			reply, behave := s.reply(question, false)
			if reply == nil {
				<-s.released
				return
			}
			message := append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)
			if behave == drops {
				message = message[:len(message)/2]
			}
			_, _ = conn.Write(message)
		})
	}
}

// reply is the answer to a question; nil is none.
func (s *nameserver) reply(question []byte, udp bool) ([]byte, behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if udp {
		s.overUDP++
	} else {
		s.overTCP++
	}
	var q dnsmessage.Message
	if err := q.Unpack(question); err != nil || len(q.Questions) != 1 {
		s.t.Errorf("got a question that cannot be read: %v", err)
		return nil, s.behave
	}
	name := strings.ToLower(q.Questions[0].Name.String())
	bodies, known := s.records[strings.TrimPrefix(q.Questions[0].Type.String(), "Type")+" "+name]
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true}, Questions: q.Questions}
	for _, body := range bodies {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET}, Body: body, // TTL 0
		})
	}
	if !known && !s.hasName(name) {
		m.RCode = dnsmessage.RCodeNameError
	}
	switch s.behave {
	case answers:
	case truncates, drops:
		if udp {
			m.Truncated, m.Answers = true, nil
		}
	case fails:
		m.RCode, m.Answers = dnsmessage.RCodeServerFailure, nil
	case refuses:
		m.RCode, m.Answers = dnsmessage.RCodeRefused, nil
	case hangs:
		return nil, s.behave
	case garbage:
		return []byte(strings.Repeat("\xc0\x0c garbage", 20)), s.behave
	case wrongID:
		m.ID++
	case wrongName:
		m.Questions = []dnsmessage.Question{{Name: dnsmessage.MustNewName("another.test."), Type: q.Questions[0].Type, Class: dnsmessage.ClassINET}}
	case loops:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.CNAMEResource{CNAME: q.Questions[0].Name},
		}}
	case cutShort:
	}
	reply, err := m.Pack()
	if err != nil {
		s.t.Errorf("cannot make an answer: %v", err)
		return nil, s.behave
	}
	if udp && len(reply) > 1232 {
		m.Truncated, m.Answers = true, nil
		reply, _ = m.Pack()
	}
	if s.behave == cutShort {
		reply = reply[:len(reply)/2]
	}
	return reply, s.behave
}

// hasName tells whether there is a record of any type.
func (s *nameserver) hasName(name string) bool {
	for key := range s.records {
		if strings.HasSuffix(key, " "+name) {
			return true
		}
	}
	return false
}

func a(ip string) dnsmessage.ResourceBody {
	return &dnsmessage.AResource{A: netip.MustParseAddr(ip).As4()}
}

func aaaa(ip string) dnsmessage.ResourceBody {
	return &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(ip).As16()}
}

func srv(priority, weight, port uint16, target string) dnsmessage.ResourceBody {
	return &dnsmessage.SRVResource{Priority: priority, Weight: weight, Port: port, Target: dnsmessage.MustNewName(target)}
}
