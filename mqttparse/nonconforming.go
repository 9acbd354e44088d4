package mqttparse

import (
	"iter"
	"strings"
)

// Nonconforming is the set of deviations from the standard that ParseConnect found and let pass.
// Brokers disagree about all of them, so the packet is forwarded and the broker has the last word; the
// set is for counters, and for StrictError.
type Nonconforming uint32

// The deviations. What MQTT 3.1 allows is not reported for MQTT 3.1.
const (
	OverlongLength          Nonconforming = 1 << iota // Remaining Length or property length has more bytes than needed (a rule of MQTT 5 only)
	ReservedFlags                                     // lower half of the first byte is not 0
	ReservedConnectFlag                               // bit 0 of the connect flags is set
	BridgeLevel                                       // protocol level 0x83, 0x84 or 0x85: Mosquitto's private bridge mark
	LevelMismatch                                     // MQTT with level 3, or MQIsdp with level 4 or 5
	UnknownLevel                                      // a level without a known layout: nothing behind it was read
	BadWillFlags                                      // Will QoS or Will Retain without Will Flag
	BadWillQoS                                        // Will QoS 3
	BadWillTopic                                      // Will Topic or Response Topic is empty or holds a wildcard
	PasswordWithoutUsername                           // allowed since MQTT 5
	EmptyID                                           // no client id and yet Clean Session 0 (3.1.1), or none at all (3.1)
	LongID                                            // client id of more than 23 characters (3.1 only)
	IDControlChars                                    // control characters or non-characters in the client id
	NulCharacter                                      // U+0000 in a string
	InvalidUTF8                                       // ill-formed UTF-8 in a string
	TrailingBytes                                     // bytes left in the packet behind its last field
	UnknownProperty                                   // a property id that MQTT 5 does not define; properties behind it were not read
	MisplacedProperty                                 // a property that belongs elsewhere; skipped
	DuplicateProperty                                 // a property twice; the last one counts
	PropertyValue                                     // a property with a forbidden value
	AuthDataWithoutMethod                             // Authentication Data without Authentication Method
)

// deviations describes each bit, in order. Where 3.1.1 and 5.0 number a statement differently, both
// are given.
var deviations = [...]struct{ name, clause3, clause5, msg string }{
	{"overlong-length", "MQTT-1.5.5-1", "MQTT-1.5.5-1", "length is not encoded in the fewest bytes"},
	{"reserved-flags", "MQTT-2.2.2-1", "MQTT-2.1.3-1", "reserved flags of the fixed header are set"},
	{"reserved-connect-flag", "MQTT-3.1.2-3", "MQTT-3.1.2-3", "reserved connect flag is set"},
	{"bridge-level", "MQTT-3.1.2-2", "MQTT-3.1.2-2", "protocol level carries the bridge mark"},
	{"level-mismatch", "MQTT-3.1.2-2", "MQTT-3.1.2-2", "protocol level does not belong to the protocol name"},
	{"unknown-level", "MQTT-3.1.2-2", "MQTT-3.1.2-2", "protocol level is unknown"},
	{"will-flags", "MQTT-3.1.2-11", "MQTT-3.1.2-11", "will flags are set without a will"},
	{"will-qos", "MQTT-3.1.2-14", "MQTT-3.1.2-12", "will QoS is 3"},
	{"will-topic", "MQTT-4.7.1-1", "MQTT-4.7.0-1", "will topic is not a topic name"},
	{"password-without-username", "MQTT-3.1.2-22", "MQTT-3.1.2-19", "password without user name"},
	{"empty-id", "MQTT-3.1.3-7", "MQTT-3.1.3-6", "client identifier is empty"},
	{"long-id", "MQTT 3.1, CONNECT", "MQTT-3.1.3-5", "client identifier is longer than 23 characters"},
	{"id-control-chars", "MQTT 3.1.1, 1.5.3", "MQTT 5.0, 1.5.4", "client identifier holds control characters"},
	{"nul-character", "MQTT-1.5.3-2", "MQTT-1.5.4-2", "string holds U+0000"},
	{"invalid-utf8", "MQTT-1.5.3-1", "MQTT-1.5.4-1", "string is not UTF-8"},
	{"trailing-bytes", "MQTT-3.1.3-1", "MQTT-3.1.3-1", "bytes left behind the last field"},
	{"unknown-property", "MQTT 5.0, 2.2.2.2", "MQTT 5.0, 2.2.2.2", "property identifier is unknown"},
	{"misplaced-property", "MQTT 5.0, 2.2.2.2", "MQTT 5.0, 2.2.2.2", "property does not belong here"},
	{"duplicate-property", "MQTT 5.0, 3.1.2.11", "MQTT 5.0, 3.1.2.11", "property is given twice"},
	{"property-value", "MQTT 5.0, 3.1.2.11", "MQTT 5.0, 3.1.2.11", "property has a forbidden value"},
	{"auth-data-without-method", "MQTT 5.0, 3.1.2.11.10", "MQTT 5.0, 3.1.2.11.10", "authentication data without method"},
}

// Names yields the name of every deviation in n, in the order of the constants. The names are constant
// and fit for metric labels.
func (n Nonconforming) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range deviations {
			if n&(1<<i) != 0 && !yield(deviations[i].name) {
				return
			}
		}
	}
}

// String joins the names with commas; the empty set is "".
func (n Nonconforming) String() string {
	var s strings.Builder
	for name := range n.Names() {
		if s.Len() > 0 {
			s.WriteByte(',')
		}
		s.WriteString(name)
	}
	return s.String()
}

// StrictError returns nil for a packet that conforms to its standard, else an error of
// KindNonconforming for the first deviation. A listener that wants to enforce the standard calls it
// behind ParseConnect. The offset is always 0.
func (c *Connect) StrictError() *SyntaxError {
	for i := range deviations {
		if c.Nonconforming&(1<<i) == 0 {
			continue
		}
		d := &deviations[i]
		return &SyntaxError{Kind: KindNonconforming, Clause: c.clause(d.clause3, d.clause5), Msg: d.msg}
	}
	return nil
}
