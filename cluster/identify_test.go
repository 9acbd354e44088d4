package cluster_test

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

// by is a rule about client ids, as is byUser about user names.
func by(expression string) cluster.GroupRule {
	return cluster.GroupRule{ClientID: regexp.MustCompile(expression)}
}

func byUser(expression string) cluster.GroupRule {
	return cluster.GroupRule{Username: regexp.MustCompile(expression)}
}

// Who is a member of which group, and with which number: a number that counts shows in the cause.
func TestRules(t *testing.T) {
	t.Parallel()
	numbered := by(`^(?P<group>[a-z]+)-(?P<ord>\w+)$`)
	property := cluster.GroupRule{UserProperty: "lb-group"}
	long := strings.Repeat("x", cluster.MaxGroupName)
	props := func(pairs ...string) (list [][2]string) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, [2]string{pairs[i], pairs[i+1]})
		}
		return list
	}
	for name, c := range map[string]struct {
		rules   []cluster.GroupRule
		connect mqttparse.ConnectOptions
		group   string
		numbers bool
	}{
		"no rules":                   {nil, mqttparse.ConnectOptions{ClientID: "a-1"}, "", false},
		"number":                     {[]cluster.GroupRule{numbered}, mqttparse.ConnectOptions{ClientID: "a-1"}, "a", true},
		"leading zeros":              {[]cluster.GroupRule{numbered}, mqttparse.ConnectOptions{ClientID: "a-007"}, "a", true},
		"no number":                  {[]cluster.GroupRule{numbered}, mqttparse.ConnectOptions{ClientID: "a-x"}, "a", false},
		"hexadecimal is no number":   {[]cluster.GroupRule{numbered}, mqttparse.ConnectOptions{ClientID: "a-0x1"}, "a", false},
		"number beyond all bounds":   {[]cluster.GroupRule{numbered}, mqttparse.ConnectOptions{ClientID: "a-99999999999999999999"}, "a", false},
		"number beyond 31 bits":      {[]cluster.GroupRule{numbered}, mqttparse.ConnectOptions{ClientID: "a-2147483648"}, "a", false},
		"no match":                   {[]cluster.GroupRule{numbered}, mqttparse.ConnectOptions{ClientID: "A-1"}, "", false},
		"empty name":                 {[]cluster.GroupRule{by(`^(?P<group>[a-z]*)-`)}, mqttparse.ConnectOptions{ClientID: "-1"}, "", false},
		"group that did not match":   {[]cluster.GroupRule{by(`^(?:(?P<group>[a-z]+)-)?`)}, mqttparse.ConnectOptions{ClientID: "A"}, "", false},
		"number that did not match":  {[]cluster.GroupRule{by(`^(?P<group>[a-z]+)(?:-(?P<ord>\d+))?$`)}, mqttparse.ConnectOptions{ClientID: "a"}, "a", false},
		"longest name":               {[]cluster.GroupRule{by(`^(?P<group>x+)$`)}, mqttparse.ConnectOptions{ClientID: long}, long, false},
		"name too long":              {[]cluster.GroupRule{by(`^(?P<group>x+)$`)}, mqttparse.ConnectOptions{ClientID: long + "x"}, "", false},
		"client id too long":         {[]cluster.GroupRule{by(`^(?P<group>x)`)}, mqttparse.ConnectOptions{ClientID: strings.Repeat("x", 1025)}, "", false},
		"no UTF-8, byte for byte":    {[]cluster.GroupRule{by(`(?s)^(?P<group>.+)-`)}, mqttparse.ConnectOptions{ClientID: "\xff\x00é-1"}, "\xff\x00é", false},
		"case counts":                {[]cluster.GroupRule{by(`^(?P<group>\w+)-`)}, mqttparse.ConnectOptions{ClientID: "Abc-1"}, "Abc", false},
		"user":                       {[]cluster.GroupRule{byUser(`^svc-(?P<group>.*)$`)}, mqttparse.ConnectOptions{ClientID: "x", Username: "svc-a"}, "a", false},
		"user with a number":         {[]cluster.GroupRule{byUser(`^(?P<group>.*)/(?P<ord>\d+)$`)}, mqttparse.ConnectOptions{ClientID: "x", Username: "a/3"}, "a", true},
		"no user":                    {[]cluster.GroupRule{byUser(`^(?P<group>a?)`)}, mqttparse.ConnectOptions{ClientID: "x"}, "", false},
		"user name too long":         {[]cluster.GroupRule{byUser(`^(?P<group>a)`)}, mqttparse.ConnectOptions{ClientID: "x", Username: strings.Repeat("a", 1025)}, "", false},
		"without a client id":        {[]cluster.GroupRule{byUser(`^(?P<group>a)$`)}, mqttparse.ConnectOptions{Username: "a"}, "a", false},
		"property":                   {[]cluster.GroupRule{property}, mqttparse.ConnectOptions{Version: 5, ClientID: "x", UserProperties: props("b", "c", "lb-group", "a")}, "a", false},
		"the first of them":          {[]cluster.GroupRule{property}, mqttparse.ConnectOptions{Version: 5, ClientID: "x", UserProperties: props("lb-group", "a", "lb-group", "b")}, "a", false},
		"the first one is empty":     {[]cluster.GroupRule{property}, mqttparse.ConnectOptions{Version: 5, ClientID: "x", UserProperties: props("lb-group", "", "lb-group", "b")}, "", false},
		"property with another name": {[]cluster.GroupRule{property}, mqttparse.ConnectOptions{Version: 5, ClientID: "x", UserProperties: props("LB-group", "a")}, "", false},
		"property too long":          {[]cluster.GroupRule{property}, mqttparse.ConnectOptions{Version: 5, ClientID: "x", UserProperties: props("lb-group", long+"x")}, "", false},
		"before MQTT 5":              {[]cluster.GroupRule{property}, mqttparse.ConnectOptions{Version: 4, ClientID: "x", UserProperties: props("lb-group", "a")}, "", false},
		"first match wins": {
			[]cluster.GroupRule{numbered, byUser(`^(?P<group>.*)$`), property},
			mqttparse.ConnectOptions{Version: 5, ClientID: "a-1", Username: "u", UserProperties: props("lb-group", "p")},
			"a", true,
		},
		"the second matches": {
			[]cluster.GroupRule{numbered, byUser(`^(?P<group>.*)$`), property},
			mqttparse.ConnectOptions{Version: 5, ClientID: "A-1", Username: "u", UserProperties: props("lb-group", "p")},
			"u", false,
		},
		"the third matches": {
			[]cluster.GroupRule{numbered, byUser(`^(?P<group>.+)$`), property},
			mqttparse.ConnectOptions{Version: 5, ClientID: "A-1", UserProperties: props("lb-group", "p")},
			"p", false,
		},
		"what gives no name is no match": {
			[]cluster.GroupRule{by(`^(?P<group>[a-z]*)-`), by(`-(?P<group>.*)$`)},
			mqttparse.ConnectOptions{ClientID: "-1"},
			"1", false,
		},
	} {
		r := newRig(t, cluster.Options{Rules: c.rules})
		r.Apply(set("a", "b", "c"))
		target, err := r.Place(requestOf(&c.connect))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := balancer.Reason{Strategy: "client-hash", Cause: balancer.Home}
		switch {
		case c.connect.ClientID == "" && c.group == "":
			want = balancer.Reason{Strategy: "metric-wrr", Cause: balancer.Turn}
		case c.numbers:
			want = balancer.Reason{Strategy: "group-spread", Group: c.group, Cause: balancer.OrdinalSeat}
		case c.group != "":
			want = balancer.Reason{Strategy: "group-spread", Group: c.group, Cause: balancer.Emptiest, Other: "a,b,c"}
		}
		if target.Reason != want {
			t.Errorf("%s: got %+v, want %+v", name, target.Reason, want)
		}
		r.Release(c.connect.ClientID, target, proxy.Refused)
		if s := r.Status(); s.Connections+s.Groups+s.GroupMembers != 0 {
			t.Errorf("%s: got %+v after it has left, want nobody", name, s)
		}
	}
}

// Numbers count only where a rule says that there are some.
func TestOrdinalsAreOffUnlessARuleHasThem(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: workers(false)})
	r.Apply(set("a", "b", "c"))
	if got := r.place("worker-1").Reason.Cause; got != balancer.Emptiest {
		t.Errorf("got cause %v, want emptiest", got)
	}
}

func TestWrongRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule cluster.GroupRule
		want string
	}{
		{cluster.GroupRule{}, "want exactly one of client id, user name, user property and learn, got 0"},
		{cluster.GroupRule{UserProperty: "x", Learn: true}, "want exactly one of client id, user name, user property and learn, got 2"},
		{by("^worker-"), "the regular expression has no (?P<group>…) around the name of the group"},
		{byUser("(?P<grp>.*)"), "the regular expression has no (?P<group>…) around the name of the group"},
	} {
		_, err := cluster.New(cluster.Options{Name: "hivemq", Strategy: "adaptive", Rules: []cluster.GroupRule{{Learn: true}, c.rule}, Log: slog.New(slog.DiscardHandler)})
		if want := "cluster hivemq: group rule 2: " + c.want; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// What was learned of a client counts from its next connection on, and where the rule stands in the list.
func TestLearn(t *testing.T) {
	t.Parallel()
	learn := cluster.GroupRule{Learn: true}
	for name, c := range map[string]struct {
		rules []cluster.GroupRule
		want  string
	}{
		"not asked for":   {nil, ""},
		"the only rule":   {[]cluster.GroupRule{learn}, "learned"},
		"before another":  {[]cluster.GroupRule{learn, by(`^(?P<group>w)`)}, "learned"},
		"behind another":  {[]cluster.GroupRule{by(`^(?P<group>w)`), learn}, "w"},
		"behind no match": {[]cluster.GroupRule{by(`^(?P<group>x)`), learn}, "learned"},
	} {
		r := newRig(t, cluster.Options{Rules: c.rules})
		r.Apply(set("a", "b"))
		before := r.place("w1")
		r.Learn("w1", "learned")
		r.Learn("w1", "")
		r.Learn("w1", strings.Repeat("x", cluster.MaxGroupName+1))
		r.Learn("", "nobody")
		if got := r.Explain("w1", false); got.Group != c.want {
			t.Errorf("%s: explained as of group %q, want %q", name, got.Group, c.want)
		}
		after := r.place("w1")
		if after.Reason.Group != c.want {
			t.Errorf("%s: got group %q, want %q", name, after.Reason.Group, c.want)
		}
		r.Release("w1", before, proxy.Refused)
		r.Release("w1", after, proxy.Refused)
		if s := r.Status(); s.Connections+s.Groups+s.GroupMembers != 0 {
			t.Errorf("%s: got %+v after it has left, want nobody", name, s)
		}
	}
}

// What was learned says nothing of numbers.
func TestLearnedMembersHaveNoNumber(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: []cluster.GroupRule{{Learn: true}, workers(true)[0]}})
	r.Apply(set("a", "b"))
	r.Learn("worker-1", "learned")
	if got := r.place("worker-1").Reason; got.Group != "learned" || got.Cause != balancer.Emptiest {
		t.Errorf("got %+v, want the emptiest backend of group learned", got)
	}
	if got := r.place("worker-2").Reason; got.Group != "worker" || got.Cause != balancer.OrdinalSeat {
		t.Errorf("got %+v for somebody else, want the seat of its number in group worker", got)
	}
}

// Nobody tries regular expressions on what is too long to be a name.
func TestLongIDsAreNotMatched(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: []cluster.GroupRule{by("^(?P<group>x)")}})
	r.Apply(set("a"))
	for n, want := range map[int]string{1024: "x", 1025: ""} {
		if got := r.Explain(strings.Repeat("x", n), false).Group; got != want {
			t.Errorf("%d bytes: got group %q, want %q", n, got, want)
		}
	}
}

// The memory of Learn is bounded, and asking does not refresh it.
func TestLearnForgets(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: []cluster.GroupRule{{Learn: true}}})
	r.Apply(set("a"))
	for i := range 100_000 {
		r.Learn(fmt.Sprint("w", i), "g")
	}
	if got := r.Explain("w0", false).Group; got != "g" {
		t.Errorf("got group %q for the first of 100 000, want g", got)
	}
	r.Learn("w100000", "g")
	if first, second := r.Explain("w0", false).Group, r.Explain("w1", false).Group; first != "" || second != "g" {
		t.Errorf("got groups %q and %q for the first two of 100 001 clients, want only the first forgotten", first, second)
	}
}
