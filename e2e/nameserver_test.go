//go:build linux

package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A nameserver answers every question for A records with the same addresses, over UDP and TCP, or behaves
// badly in a way of the test's choice. The time to live is 0.
type nameserver struct {
	address string
	packets net.PacketConn
	streams net.Listener
	running sync.WaitGroup

	mu    sync.Mutex
	hosts []string
	fault string
	asked int // questions
}

// The faults of a nameserver.
const (
	nxdomain  = "NXDOMAIN"
	servfail  = "SERVFAIL"
	noRecords = "empty answer"
	noise     = "garbage"
	truncated = "truncated and closed TCP port"
	silence   = "no answer"
	tooMany   = "4000 addresses"
	flapping  = "the last address in every other answer"
)

func newNameserver(t *testing.T) *nameserver {
	t.Helper()
	s := &nameserver{address: loopback(t)}
	var err error
	if s.streams, err = net.Listen("tcp", s.address); err != nil {
		t.Fatal(err)
	}
	if s.packets, err = net.ListenPacket("udp", s.address); err != nil {
		t.Fatal(err)
	}
	s.running.Go(s.serveUDP)
	s.running.Go(s.serveTCP)
	t.Cleanup(func() {
		s.packets.Close()
		s.streams.Close()
		s.running.Wait()
	})
	return s
}

// list makes these the addresses of every name.
func (s *nameserver) list(hosts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts = hosts
}

// behave begins a fault; the empty one ends it.
func (s *nameserver) behave(fault string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// questions is how many have come.
func (s *nameserver) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *nameserver) serveUDP() {
	const most = 1232 // bytes of an answer
	buffer := make([]byte, 4096)
	for {
		n, from, err := s.packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		if answer := s.answer(buffer[:n], most); answer != nil {
			_, _ = s.packets.WriteTo(answer, from)
		}
	}
}

func (s *nameserver) serveTCP() {
	for {
		c, err := s.streams.Accept()
		if err != nil {
			return
		}
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err == nil {
			question := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(c, question); err == nil {
				answer := s.answer(question, 1<<16-1)
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
		}
		c.Close()
	}
}

// answer makes the answer to a question, of at most so many bytes; nil is none.
func (s *nameserver) answer(question []byte, most int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		return nil
	}
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}
	m.Additionals = nil
	hosts := s.hosts
	if s.fault == tooMany {
		hosts = nil
		for i := range 4000 { // 16 bytes each: the greatest answer has room for some more
			hosts = append(hosts, fmt.Sprintf("127.1.%d.%d", i/250, 1+i%250))
		}
	}
	for _, host := range hosts {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(host).As4()},
		})
	}
	switch s.fault {
	case nxdomain:
		m.RCode, m.Answers = dnsmessage.RCodeNameError, nil
	case servfail:
		m.RCode, m.Answers = dnsmessage.RCodeServerFailure, nil
	case noRecords:
		m.Answers = nil
	case truncated:
		if most == 1<<16-1 {
			return nil
		}
		m.Truncated, m.Answers = true, nil
	case noise:
		return []byte(strings.Repeat("\xc0\x0c noise ", 20))
	case silence:
		return nil
	case flapping:
		if s.asked%2 == 0 {
			m.Answers = m.Answers[:len(m.Answers)-1]
		}
	}
	b, err := m.Pack()
	if err == nil && len(b) > most {
		m.Truncated, m.Answers = true, nil
		b, err = m.Pack()
	}
	if err != nil {
		return nil
	}
	return b
}

// source is the YAML that makes mqttlb ask this server.
func (s *nameserver) source(port int) string {
	return fmt.Sprintf("{dns: {name: brokers.test., port: %d, interval: 1s, server: %q}}", port, s.address)
}
