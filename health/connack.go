package health

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/eclipse/paho.golang/packets"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// A meaning is what the code of a CONNACK says about the broker.
type meaning uint8

const (
	broken       meaning = iota // something is wrong inside the broker, or the code is not in the standard
	accepted                    // it works
	wrongVersion                // it works, but speaks another version
	badConnect                  // it works, but does not take this CONNECT
	unwelcome                   // it works, but not for this client
	full                        // it works, but a limit is reached
	unavailable                 // it takes nobody at the moment
	elsewhere                   // it sends its clients to another server
)

// A connackCode is a code with its name in the standard.
type connackCode struct {
	code byte
	name string
	says meaning
}

// codesV5 are the reason codes of MQTT 5.0, 3.2.2.2.
var codesV5 = [...]connackCode{
	{0x00, "success", accepted},
	{0x80, "unspecified error", broken},
	{0x81, "malformed packet", badConnect},
	{0x82, "protocol error", badConnect},
	{0x83, "implementation specific error", broken},
	{0x84, "unsupported protocol version", wrongVersion},
	{0x85, "client identifier not valid", unwelcome},
	{0x86, "bad user name or password", unwelcome},
	{0x87, "not authorized", unwelcome},
	{0x88, "server unavailable", unavailable},
	{0x89, "server busy", unavailable},
	{0x8A, "banned", unwelcome},
	{0x8C, "bad authentication method", unwelcome},
	{0x90, "topic name invalid", badConnect},
	{0x95, "packet too large", badConnect},
	{0x97, "quota exceeded", full},
	{0x99, "payload format invalid", badConnect},
	{0x9A, "retain not supported", badConnect},
	{0x9B, "QoS not supported", badConnect},
	{0x9C, "use another server", elsewhere},
	{0x9D, "server moved", elsewhere},
	{0x9F, "connection rate exceeded", full},
}

// codesV3 are the return codes of MQTT 3.1.1, 3.2.2.3. Brokers that speak MQTT 5 as well put several of
// its codes into one of these: 3 may be any of 0x88, 0x89, 0x9C and 0x9D, and HiveMQ has 0x97 and 0x9F
// among 5 (hivemq.md, 2.2).
var codesV3 = [...]connackCode{
	{0, "accepted", accepted},
	{1, "unacceptable protocol version", wrongVersion},
	{2, "identifier rejected", unwelcome},
	{3, "server unavailable", unavailable},
	{4, "bad user name or password", unwelcome},
	{5, "not authorized", unwelcome},
}

// explain looks a code up. Any version but 5 is one of MQTT 3.
func explain(version, code byte) (says meaning, name string) {
	table := codesV3[:]
	if version == 5 {
		table = codesV5[:]
	}
	for i := range table {
		if table[i].code == code {
			return table[i].says, table[i].name
		}
	}
	return broken, "unknown code"
}

// errHungUp is the end of a connection before the first byte of an answer.
var errHungUp = errors.New("the broker closed the connection instead of answering CONNECT")

// maxConnack bounds what is read of a CONNACK, in bytes behind its fixed header. It leaves room for a long
// reason string and keeps a broker gone mad from filling the memory: MQTT's own limit is 256 MiB.
const maxConnack = 16 << 10

// A connack is a broker's answer to CONNECT.
type connack struct {
	version   byte // 5, or 4 for the form that all of MQTT 3 has
	code      byte
	reason    string // MQTT 5: Reason String
	reference string // MQTT 5: Server Reference
}

// readConnack reads a CONNACK of either form, and not a byte more. The form shows in its length: that
// of MQTT 3 has no properties (MQTT 5.0, 3.2.2; MQTT 3.1.1, 3.2).
func readConnack(r io.Reader) (connack, error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:1]); err != nil {
		return connack{}, lost(err, errHungUp)
	}
	if header[0] != byte(mqttparse.TypeConnack<<4) {
		return connack{}, notConnack(header[0])
	}
	length, shift := 0, 0
	for i := 1; ; i++ {
		if i == len(header) {
			return connack{}, errors.New("malformed CONNACK: its length has more than four bytes")
		}
		if _, err := io.ReadFull(r, header[i:i+1]); err != nil {
			return connack{}, lost(err, errHalf)
		}
		length |= int(header[i]&0x7F) << shift
		shift += 7
		if header[i] < 0x80 {
			break
		}
	}
	if length < 2 || length > maxConnack {
		return connack{}, fmt.Errorf("malformed CONNACK: it has %d bytes, want 2 to %d", length, maxConnack)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return connack{}, lost(err, errHalf)
	}
	if body[0] > 1 {
		return connack{}, fmt.Errorf("malformed CONNACK: its flags are %#02x, want 0 or 1", body[0])
	}
	if length == 2 {
		return connack{version: 4, code: body[1]}, nil
	}
	content := packets.Connack{Properties: new(packets.Properties)}
	rest := bytes.NewBuffer(body)
	if err := content.Unpack(rest); err != nil {
		return connack{}, fmt.Errorf("malformed CONNACK: %w", err)
	}
	if rest.Len() > 0 {
		return connack{}, fmt.Errorf("malformed CONNACK: %d bytes behind its properties", rest.Len())
	}
	return connack{
		version: 5, code: content.ReasonCode,
		reason: content.Properties.ReasonString, reference: content.Properties.ServerReference,
	}, nil
}

var errHalf = errors.New("the broker closed the connection in the middle of CONNACK")

// lost says what the end of a connection means; other errors stay what they are.
func lost(err, meaning error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return meaning
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%w: %w", meaning, err)
	}
	return fmt.Errorf("no complete CONNACK: %w", err)
}

// notConnack guesses what a first byte belongs to, to tell the operator what to look at.
func notConnack(b byte) error {
	switch b {
	case 0x15, 0x16:
		return errors.New("the answer to CONNECT looks like TLS: does this port need tls?")
	case 'H':
		return errors.New("the answer to CONNECT looks like HTTP: is this the port of MQTT?")
	}
	return fmt.Errorf("the answer to CONNECT begins with %#02x (%v), not with a CONNACK", b, mqttparse.PacketType(b>>4))
}
