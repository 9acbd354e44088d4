package cluster

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/mqttparse"
)

// A GroupRule tells which clients are members of a shared-subscription group, and of which (algorithms.md, 3.1).
// Exactly one of its fields is set.
//
// The name of a group is taken byte for byte: neither case nor encoding are changed. A rule that would give an
// empty name, or one of more than MaxGroupName bytes, does not match.
type GroupRule struct {
	// ClientID has a named group (?P<group>…), whose text is the name, and may have (?P<ord>…), whose text is the
	// number of the member in its group, from 0.
	ClientID *regexp.Regexp
	// Username is the same for the user name in CONNECT.
	Username *regexp.Regexp
	// UserProperty is the name of a user property in the CONNECT of MQTT 5; the value of the first one with this
	// name is the group.
	UserProperty string
	// Learn is for clients of which Subscribed has told.
	Learn bool
}

const (
	// MaxGroupName bounds the name of a group, in bytes: it is shown in tables, logs and PROXY headers.
	MaxGroupName = 128

	// maxMatched bounds what regular expressions are tried on, in bytes. Their time is linear, but a client id may
	// have 64 KiB, and nobody names a worker like that; balancer would not seat it either.
	maxMatched = 1024
)

// rules are the GroupRules of a cluster, ready to be used.
type rules struct {
	list     []rule
	learn    bool // one of them is Learn
	ordinals bool // one of them has (?P<ord>…)
}

type rule struct {
	GroupRule
	group, ord int // numbers of the named groups; ord is -1 without one
}

// An identity is what rules say about a client.
type identity struct {
	group   string
	ordinal int // -1 if there is none
	// learned tells that a Learn rule comes first, so that what was learned counts more.
	learned bool
}

// newRules checks and prepares rules.
func newRules(list []GroupRule) (rules, error) {
	var r rules
	for i, given := range list {
		made := rule{GroupRule: given, ord: -1}
		set := 0
		for _, is := range []bool{given.ClientID != nil, given.Username != nil, given.UserProperty != "", given.Learn} {
			if is {
				set++
			}
		}
		if set != 1 {
			return r, fmt.Errorf("group rule %d: want exactly one of client id, user name, user property and learn, got %d", i+1, set)
		}
		if expression := given.expression(); expression != nil {
			if made.group = expression.SubexpIndex("group"); made.group < 0 {
				return r, fmt.Errorf("group rule %d: %w", i+1, errNoGroup)
			}
			made.ord = expression.SubexpIndex("ord")
		}
		r.learn = r.learn || given.Learn
		r.ordinals = r.ordinals || made.ord >= 0
		r.list = append(r.list, made)
	}
	return r, nil
}

var errNoGroup = errors.New("the regular expression has no (?P<group>…) around the name of the group")

func (r *GroupRule) expression() *regexp.Regexp {
	if r.ClientID != nil {
		return r.ClientID
	}
	return r.Username
}

// identify says to which group a client belongs. connect is nil when only the client id is known. It takes no lock
// and, for clients of no group, no memory.
func (r *rules) identify(clientID string, connect *mqttparse.Connect) identity {
	who := identity{ordinal: -1}
	if len(clientID) > maxMatched {
		return who
	}
	for i := range r.list {
		x := &r.list[i]
		switch {
		case x.Learn:
			who.learned = true
		case x.ClientID != nil:
			if at := x.ClientID.FindStringSubmatchIndex(clientID); at != nil && x.take(&who, clientID, at) {
				return who
			}
		case connect == nil:
			// Nobody knows what it would send.
		case x.Username != nil:
			if !connect.HasUsername || len(connect.Username) > maxMatched {
				continue
			}
			if at := x.Username.FindSubmatchIndex(connect.Username); at != nil && x.take(&who, string(connect.Username), at) {
				return who
			}
		default:
			if value := userProperty(connect, x.UserProperty); nameable(value) {
				who.group = string(value)
				return who
			}
		}
	}
	return who
}

// take takes group and number out of a match; false if that gives no name.
func (r *rule) take(who *identity, text string, at []int) bool {
	from, to := at[2*r.group], at[2*r.group+1]
	if from < 0 || !nameable(text[from:to]) {
		return false
	}
	who.group = text[from:to]
	if r.ord >= 0 && at[2*r.ord] >= 0 {
		who.ordinal = ordinal(text[at[2*r.ord]:at[2*r.ord+1]])
	}
	return true
}

// ordinal reads the number of a member; -1 if it is none.
func ordinal(text string) int {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

func nameable[T string | []byte](name T) bool { return len(name) > 0 && len(name) <= MaxGroupName }

// userProperty is the value of the first user property with this name, nil if there is none.
func userProperty(connect *mqttparse.Connect, name string) []byte {
	for key, value := range connect.UserProperties() {
		if string(key) == name {
			return value
		}
	}
	return nil
}

// member is the client as the brain is asked about it; learned is the group that was learned, if that counts. The
// mutex is held.
func (c *Cluster) member(clientID string, persistent bool, who identity, learned string) balancer.Client {
	client := balancer.Client{ID: clientID, Group: who.group, Ordinal: who.ordinal, Persistent: persistent}
	if learned != "" {
		client.Group, client.Ordinal = learned, -1
	}
	if client.Group != "" {
		client.Group = c.brain.Groups().Name(client.Group)
	}
	return client
}
