package mqttparse_test

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"

	paho "github.com/eclipse/paho.golang/packets"
	mochi "github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// FuzzParseConnectDifferential lets two other decoders read the same bytes: one of a broker and, for
// MQTT 5, one of a client. What they accept we accept, and read the same in it; what we find in order they
// accept. Where we differ on purpose, the clause stands beside the exception.
func FuzzParseConnectDifferential(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.in)
	}
	f.Fuzz(checkDifferential)
}

func checkDifferential(t *testing.T, in []byte) {
	t.Helper()
	body, ok := wholeBody(in)
	if !ok {
		return
	}
	c, err := mqttparse.ParseConnect(in)
	broker, brokerErr := mochiDecode(in[0], body)
	client, clientErr := pahoDecode(body)
	valid := brokerErr == nil && reflect.DeepEqual(broker.ConnectValidate(), mochi.CodeSuccess)

	if valid && (broker.ProtocolVersion != 5 || clientErr == nil) && err != nil && !longPropertyLength(in, err) {
		t.Fatalf("% x: got %v, want it accepted", in, err)
	}
	if err != nil {
		return
	}
	ours := factsOf(&c)
	if theirs := factsOfMochi(broker); valid && !reflect.DeepEqual(ours, theirs) {
		t.Fatalf("% x: got\n%+v, want as the broker\n%+v", in, ours, theirs)
	}
	if theirs := factsOfPaho(client); valid && c.Version == 5 && clientErr == nil && !reflect.DeepEqual(ours, theirs) {
		t.Fatalf("% x: got\n%+v, want as the client\n%+v", in, ours, theirs)
	}
	if c.Nonconforming != 0 || in[0] != 0x10 { // the broker makes no exception for the first byte of MQTT 3.1
		return
	}
	// Nor does it for MQTT 3.1's missing user name and password.
	if c.Version == 3 && (body[9]&0x80 != 0 != c.HasUsername || body[9]&0x40 != 0 != c.HasPassword) {
		return
	}
	if brokerErr != nil {
		t.Fatalf("% x: got %+v in order, but the broker says %v", in, ours, brokerErr)
	}
	if c.Version == 5 && clientErr != nil {
		t.Fatalf("% x: got %+v in order, but the client says %v", in, ours, clientErr)
	}
}

// longPropertyLength reports whether we refused a property length of more than four bytes (MQTT 5.0, 1.5.5),
// which both of the others take.
func longPropertyLength(in []byte, err error) bool {
	var syntax *mqttparse.SyntaxError
	if !errors.As(err, &syntax) || syntax.Kind != mqttparse.KindProperties || len(in) < syntax.Offset+5 {
		return false
	}
	for _, b := range in[syntax.Offset : syntax.Offset+4] {
		if b < 0x80 {
			return false
		}
	}
	return true
}

// FuzzParseConnectBuilt lets a client library build the packet, which we must read as it was meant, and
// compares our own builder with it.
func FuzzParseConnectBuilt(f *testing.F) {
	f.Add("id", "user", []byte("pass"), "will", []byte("gone"), byte(0xff), uint16(60), uint32(3600), uint32(30), uint32(1<<20), uint16(20), "key", "value", "SCRAM")
	f.Add("", "", []byte{}, "", []byte{}, byte(0), uint16(0), uint32(0), uint32(0), uint32(0), uint16(0), "", "", "")
	f.Add("id", "", []byte("token"), "w", []byte{}, byte(2), uint16(1), uint32(1), uint32(0), uint32(0), uint16(1), "a", "", "")
	f.Fuzz(func(t *testing.T, id, user string, password []byte, topic string, payload []byte, flags byte, keepAlive uint16, expiry, delay, size uint32, receive uint16, key, value, method string) {
		o := mqttparse.ConnectOptions{
			ClientID: id, Username: user, CleanStart: flags&1 != 0, KeepAlive: keepAlive,
			SessionExpiry: expiry, MaxPacketSize: size, ReceiveMax: receive, AuthMethod: method,
			UserProperties: [][2]string{{key, value}, {"b", ""}, {key, "again"}},
		}
		if flags&2 != 0 {
			o.Password = append([]byte{}, password...)
		}
		if topic != "" {
			o.WillTopic, o.WillPayload, o.WillQoS, o.WillRetain, o.WillDelay = topic, payload, flags>>2%3, flags&0x40 != 0, delay
		}
		for o.Version = 3; o.Version <= 5; o.Version++ {
			ours := mqttparse.AppendConnect(nil, &o)
			if ours == nil { // a field is too long
				return
			}
			packets := [][]byte{ours}
			if o.Version == 5 {
				theirs := pahoEncode(t, &o)
				if len(ours) != len(theirs) {
					t.Fatalf("got a packet of %d bytes, want %d as of the client", len(ours), len(theirs))
				}
				packets = append(packets, theirs)
			}
			want := factsOfOptions(&o)
			for _, in := range packets {
				c, err := checkConnect(t, in)
				if err != nil || c.Len != len(in) {
					t.Fatalf("% x: got %v and length %d", in, err, c.Len)
				}
				if got := factsOf(&c); !reflect.DeepEqual(got, want) {
					t.Fatalf("% x: got\n%+v, want\n%+v", in, got, want)
				}
				checkDifferential(t, in)
			}
		}
	})
}

// wholeBody cuts the body out of a packet whose fixed header is in order; the other decoders leave that to
// their callers.
func wholeBody(in []byte) (body []byte, ok bool) {
	if len(in) < 2 {
		return nil, false
	}
	n, size, err := mochi.DecodeLength(bytes.NewReader(in[1:]))
	if err != nil || size > 4 || n > len(in)-1-size {
		return nil, false
	}
	return slices.Clone(in[1+size : 1+size+n]), true
}

func mochiDecode(first byte, body []byte) (*mochi.Packet, error) {
	p := new(mochi.Packet)
	if err := p.FixedHeader.Decode(first); err != nil {
		return p, err
	}
	if p.FixedHeader.Type != mochi.Connect {
		return p, mochi.ErrProtocolViolation
	}
	return p, p.ConnectDecode(body)
}

func pahoDecode(body []byte) (*paho.Connect, error) {
	p := &paho.Connect{Properties: new(paho.Properties)}
	err := p.Unpack(bytes.NewBuffer(body))
	return p, err
}

// pahoEncode builds the packet with a client library.
func pahoEncode(t *testing.T, o *mqttparse.ConnectOptions) []byte {
	t.Helper()
	p := &paho.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5, CleanStart: o.CleanStart, KeepAlive: o.KeepAlive, ClientID: o.ClientID,
		UsernameFlag: o.Username != "", Username: o.Username, PasswordFlag: o.Password != nil, Password: o.Password,
		WillFlag: o.WillTopic != "", WillTopic: o.WillTopic, WillMessage: o.WillPayload, WillQOS: o.WillQoS, WillRetain: o.WillRetain,
		Properties:     &paho.Properties{SessionExpiryInterval: unlessZero(o.SessionExpiry), MaximumPacketSize: unlessZero(o.MaxPacketSize), ReceiveMaximum: unlessZero(o.ReceiveMax), AuthMethod: o.AuthMethod},
		WillProperties: &paho.Properties{WillDelayInterval: unlessZero(o.WillDelay)},
	}
	for _, u := range o.UserProperties {
		p.Properties.User = append(p.Properties.User, paho.User{Key: u[0], Value: u[1]})
	}
	var b bytes.Buffer
	if _, err := p.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unlessZero[T uint16 | uint32](v T) *T {
	if v == 0 {
		return nil
	}
	return &v
}

// The facts of a CONNECT packet, in a form that all decoders can be brought to.
type facts struct {
	version                     byte
	keepAlive, receive          uint16
	expiry, size, delay         uint32
	clean, hasUser, hasPassword bool
	id, user, password, method  string
	will, retain                bool
	qos                         byte
	topic, payload              string
	users                       [][2]string
}

func factsOf(c *mqttparse.Connect) facts {
	f := facts{
		version: c.Version, keepAlive: c.KeepAlive, receive: c.ReceiveMax, expiry: c.SessionExpiry, size: c.MaxPacketSize, delay: c.WillDelay,
		clean: c.CleanStart, hasUser: c.HasUsername, hasPassword: c.HasPassword, id: string(c.ClientID), user: string(c.Username),
		password: string(c.Password), method: string(c.AuthMethod), will: c.Will, retain: c.WillRetain, qos: c.WillQoS,
		topic: string(c.WillTopic), payload: string(c.WillPayload),
	}
	for k, v := range c.UserProperties() {
		f.users = append(f.users, [2]string{string(k), string(v)})
	}
	return f
}

func factsOfOptions(o *mqttparse.ConnectOptions) facts {
	f := facts{
		version: o.Version, keepAlive: o.KeepAlive, clean: o.CleanStart, id: o.ClientID,
		hasUser: o.Username != "" || o.Password != nil && o.Version < 5, user: o.Username, hasPassword: o.Password != nil, password: string(o.Password),
		will: o.WillTopic != "", topic: o.WillTopic, payload: string(o.WillPayload), qos: o.WillQoS, retain: o.WillRetain,
	}
	if o.Version == 5 {
		f.receive, f.expiry, f.size, f.delay, f.method, f.users = o.ReceiveMax, o.SessionExpiry, o.MaxPacketSize, o.WillDelay, o.AuthMethod, o.UserProperties
	} else if !o.CleanStart {
		f.expiry = 1<<32 - 1
	}
	return f
}

func factsOfMochi(p *mochi.Packet) facts {
	k := &p.Connect
	f := facts{
		version: p.ProtocolVersion, keepAlive: k.Keepalive, receive: p.Properties.ReceiveMaximum, size: p.Properties.MaximumPacketSize,
		expiry: p.Properties.SessionExpiryInterval, delay: k.WillProperties.WillDelayInterval, clean: k.Clean,
		hasUser: k.UsernameFlag, hasPassword: k.PasswordFlag, id: k.ClientIdentifier, user: string(k.Username), password: string(k.Password),
		method: p.Properties.AuthenticationMethod, will: k.WillFlag, topic: k.WillTopic, payload: string(k.WillPayload),
	}
	if k.WillFlag {
		f.qos, f.retain = k.WillQos, k.WillRetain
	}
	if p.ProtocolVersion < 5 && !k.Clean {
		f.expiry = 1<<32 - 1
	}
	for _, u := range p.Properties.User {
		f.users = append(f.users, [2]string{u.Key, u.Val})
	}
	return f
}

func factsOfPaho(p *paho.Connect) facts {
	f := facts{
		version: p.ProtocolVersion, keepAlive: p.KeepAlive, clean: p.CleanStart, hasUser: p.UsernameFlag, hasPassword: p.PasswordFlag,
		id: p.ClientID, user: p.Username, password: string(p.Password), method: p.Properties.AuthMethod,
		will: p.WillFlag, topic: p.WillTopic, payload: string(p.WillMessage),
	}
	if p.WillFlag {
		f.qos, f.retain = p.WillQOS, p.WillRetain
	}
	if v := p.Properties.ReceiveMaximum; v != nil {
		f.receive = *v
	}
	if v := p.Properties.SessionExpiryInterval; v != nil {
		f.expiry = *v
	}
	if v := p.Properties.MaximumPacketSize; v != nil {
		f.size = *v
	}
	if p.WillProperties != nil && p.WillProperties.WillDelayInterval != nil {
		f.delay = *p.WillProperties.WillDelayInterval
	}
	for _, u := range p.Properties.User {
		f.users = append(f.users, [2]string{u.Key, u.Value})
	}
	return f
}
