package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/eclipse/paho.golang/packets"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// DefaultClientID is the client id of MQTT probes. The name of the backend is in it because two
// connections of one client id to one cluster would end each other.
const DefaultClientID = "mqttlb-health-{instance}-{name}"

// MQTTOptions configure an MQTT probe. The zero value is a usable one.
type MQTTOptions struct {
	Dialing
	// Instance is what {instance} stands for: the name of this mqttlb.
	Instance string
	// ClientID is the client id, at most 65535 bytes, with placeholders {instance} {name} {host} {port}
	// {label.KEY}; empty means DefaultClientID.
	ClientID string
	// Username is sent unless it is empty.
	Username string
	// PasswordFile holds the password, at most 65535 bytes; a newline at its end is not part of it. It is
	// read anew for each probe, and the last password stays while it cannot be read. Empty sends none.
	PasswordFile string
	// Unwelcome says what it means when the broker refuses the probe for who it is.
	Unwelcome Unwelcome
}

// Unwelcome says what a probe makes of a broker that refuses it with a bad client id, bad user name or
// password, not authorized, banned or bad authentication method: MQTT 5 codes 0x85, 0x86, 0x87, 0x8A and
// 0x8C, MQTT 3 codes 2, 4 and 5.
type Unwelcome uint8

// What Unwelcome may be.
const (
	// UnwelcomeAuto is UnwelcomeFails with a Username or PasswordFile, and UnwelcomePasses without: a broker
	// that asks a stranger for credentials works.
	UnwelcomeAuto Unwelcome = iota
	// UnwelcomePasses lets the probe pass, with a Note.
	UnwelcomePasses
	// UnwelcomeFails lets it fail. The credentials are the same for all backends: if they stop to be
	// valid, all backends are down at once.
	UnwelcomeFails
)

// MQTT is a probe that connects as a client does: CONNECT with a clean session, CONNACK, DISCONNECT.
//
// It tries MQTT 5 first, whose reason codes say more, and MQTT 3.1.1 on a new connection within the same
// probe when the broker says that it does not speak 5, or, if it has not been known to speak 5, hangs
// up without an answer. Result.Version remembers what worked.
//
// It passes with a CONNACK of code 0, also with 0x97 quota exceeded and 0x9F connection rate exceeded,
// which are signals of load and no failure (protocol.md, 3), and with 0x9C use another server and 0x9D
// server moved, which are a Result with Drain: so EMQX answers while it is evacuated. A refusal of the
// probe's own credentials is judged by Unwelcome. All other codes fail, as does anything that is not a
// CONNACK.
type MQTT struct {
	dialing   Dialing
	clientID  template
	username  string
	password  secret
	unwelcome bool // a refusal because of the client id or the credentials passes
}

// NewMQTT returns a probe. It fails on an unknown placeholder, and when there is no password in the file.
func NewMQTT(o MQTTOptions) (*MQTT, error) {
	id := o.ClientID
	if id == "" {
		id = DefaultClientID
	}
	clientID, err := parseTemplate(id, o.Instance)
	if err != nil {
		return nil, fmt.Errorf("client id %q: %w", id, err)
	}
	p := &MQTT{dialing: o.Dialing, clientID: clientID, username: o.Username, password: secret{path: o.PasswordFile}}
	p.unwelcome = o.Unwelcome == UnwelcomePasses || o.Unwelcome == UnwelcomeAuto && o.Username == "" && o.PasswordFile == ""
	if _, err := p.password.get(); err != nil {
		return nil, err
	}
	return p, nil
}

// keepAlive is in seconds: how soon a broker forgets a probe whose DISCONNECT got lost. Some brokers
// refuse a CONNECT without.
const keepAlive = 30

// Probe implements Prober.
func (p *MQTT) Probe(ctx context.Context, t Target) Result {
	id, err := p.clientID.expand(&t.Backend, func(_, value string) string { return value })
	if err != nil {
		return Result{Err: fmt.Errorf("client id: %w", err)}
	}
	if len(id) > 65535 || !utf8.ValidString(id) || strings.IndexFunc(id, unicode.IsControl) >= 0 {
		return Result{Err: errors.New("client id: it is too long, or not printable UTF-8")}
	}
	password, unread := p.password.get()
	if unread != nil && password == nil {
		return Result{Err: unread}
	}
	result := p.ask(ctx, &t, id, password)
	if unread != nil && result.Err == nil && result.Note == "" {
		result.Note = unread.Error()
	}
	return result
}

// ask tries the versions.
func (p *MQTT) ask(ctx context.Context, t *Target, id string, password []byte) Result {
	if t.Version == 4 {
		return p.judge(p.attempt(ctx, t, 4, p.connectV3(id, password)))
	}
	connect, err := p.connectV5(id, password)
	if err != nil {
		return Result{Err: err}
	}
	answer, err := p.attempt(ctx, t, 5, connect)
	says, _ := explain(answer.version, answer.code)
	other := err == nil && says == wrongVersion || t.Version != 5 && errors.Is(err, errHungUp)
	if !other {
		return p.judge(answer, err)
	}
	return p.judge(p.attempt(ctx, t, 4, p.connectV3(id, password)))
}

// attempt sends a CONNECT of a version and reads the answer to it.
func (p *MQTT) attempt(ctx context.Context, t *Target, version byte, connect []byte) (connack, error) {
	conn, err := p.dialing.open(ctx, t.Backend.Address, nameOf(&t.Backend), connect)
	if err != nil {
		return connack{}, err
	}
	defer conn.Close()
	answer, err := readConnack(conn)
	if err != nil {
		return connack{}, err
	}
	if version == 4 && answer.version == 5 {
		return connack{}, errors.New("malformed CONNACK: it has the form of MQTT 5, in answer to MQTT 3.1.1")
	}
	if says, _ := explain(answer.version, answer.code); says == accepted {
		_, _ = conn.Write(mqttparse.AppendClientDisconnect(nil)) // what counts has been said already
	}
	return answer, nil
}

// judge turns an answer into a result.
func (p *MQTT) judge(a connack, err error) Result {
	if err != nil {
		return Result{Err: err}
	}
	says, name := explain(a.version, a.code)
	text := fmt.Sprintf("the broker answered CONNECT with %#02x %s", a.code, name)
	if a.reason != "" {
		text += fmt.Sprintf(" (%.200q)", a.reason)
	}
	switch says {
	case accepted:
		return Result{Version: a.version}
	case full:
		return Result{Version: a.version, Note: text}
	case elsewhere:
		if a.reference != "" {
			text += fmt.Sprintf(", server reference %.200q", a.reference)
		}
		return Result{Version: a.version, Note: text, Drain: true}
	case unwelcome:
		if p.unwelcome {
			return Result{Version: a.version, Note: text}
		}
	case wrongVersion, badConnect, unavailable, broken:
	}
	return Result{Err: errors.New(text)}
}

// connectV5 is a CONNECT of MQTT 5. The session ends with the connection, as it has no expiry interval.
func (p *MQTT) connectV5(id string, password []byte) ([]byte, error) {
	c := packets.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5,
		CleanStart: true, KeepAlive: keepAlive, ClientID: id,
		Username: p.username, UsernameFlag: p.username != "",
		Password: password, PasswordFlag: password != nil,
		Properties: new(packets.Properties),
	}
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("make CONNECT: %w", err)
	}
	return b.Bytes(), nil
}

// connectV3 is a CONNECT of MQTT 3.1.1.
func (p *MQTT) connectV3(id string, password []byte) []byte {
	return mqttparse.AppendConnect(nil, &mqttparse.ConnectOptions{
		Version: 4, CleanStart: true, KeepAlive: keepAlive, ClientID: id,
		Username: p.username, Password: password,
	})
}
