//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A registry is where mqttlb finds out which brokers exist. A fault is one of its own; the empty one ends it.
type registry interface {
	source(port int) string
	list(hosts ...string)
	behave(fault string)
	questions() int
}

// hosts are n addresses on which the same port is free.
func hosts(t *testing.T, n int) (names []string, port int) {
	t.Helper()
	for i := range n {
		names = append(names, fmt.Sprintf("127.0.1.%d", i+1))
	}
	return names, freePort(t)
}

func TestClientsFollowDNS(t *testing.T) {
	t.Parallel()
	follow(t, newNameserver(t))
}

func TestClientsFollowHiveMQsObjectsInS3(t *testing.T) {
	t.Parallel()
	follow(t, newBucket(t))
}

func TestClientsFollowAFile(t *testing.T) {
	t.Parallel()
	follow(t, newListFile(t))
}

// follow plays the life of a cluster: it grows, one of its brokers hangs, one leaves. Whatever happens, the
// connections to brokers that work stay.
func follow(t *testing.T, r registry) {
	t.Helper()
	names, port := hosts(t, 4)
	brokers := make(map[string]*broker)
	for _, name := range names {
		brokers[name] = startMosquittoOn(t, hostPort(name, port))
	}
	newest, hanging, leaving := names[3], names[1], names[2]

	r.list(names[:3]...)
	l := startLB(t, settings{discovery: r.source(port), cluster: quick})
	l.reach(t, patience, "ready", names[:3]...)
	if n := l.metric(t, `mqttlb_discovery_backends{cluster="brokers"}`); n != 3 || len(l.phases(t)) != 3 {
		t.Errorf("discovery names %v brokers, and there are %v, want 3", n, l.phases(t))
	}
	first := gather(t, l, "first", 90)
	before := l.homes(t)
	atLeast(t, before, "first", names[:3], 15)

	r.list(names...)
	l.reach(t, patience, "ready", names...)
	second := gather(t, l, "second", 80)
	atLeast(t, l.homes(t), "second", names, 8)
	first.ping(t)

	t.Log("a broker hangs")
	brokers[hanging].signal(t, unix.SIGSTOP)
	l.reach(t, 2*quickInterval, "down", hanging)
	gone := first.of(before, hanging)
	gone.leave()
	first.join(t, l, gone.ids()) // at once: nobody waits for the broker that hangs
	for id, home := range l.homes(t) {
		if home == hanging && gone[id] != nil {
			t.Errorf("client %s came back to the broker that hangs", id)
		}
	}
	brokers[hanging].signal(t, unix.SIGCONT)
	l.reach(t, patience, "ready", names...)
	first.ping(t)
	second.ping(t) // those on the broker that was stopped among them

	t.Log("a broker leaves")
	r.list(slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == leaving })...)
	l.reach(t, patience, "draining", leaving)
	last := gather(t, l, "last", 60)
	if n := counts(l.homes(t), "last")[leaving]; n != 0 {
		t.Errorf("%d of %d new clients are on the broker that has left", n, len(last))
	}
	first.ping(t)
	second.ping(t)
	first.of(l.homes(t), leaving).leave()
	second.of(l.homes(t), leaving).leave()
	eventually(t, patience, "the broker that has left is forgotten", func() bool { return l.phases(t)[newest] != "" && l.phases(t)[leaving] == "" })
}

// atLeast asserts that each of these brokers has its share of a herd, and nobody else has any of it.
func atLeast(t *testing.T, homes map[string]string, prefix string, brokers []string, least int) {
	t.Helper()
	n := counts(homes, prefix)
	for _, broker := range brokers {
		if n[broker] < least {
			t.Errorf("broker %s has %d of the clients %s, want at least %d", broker, n[broker], prefix, least)
		}
	}
	if len(n) > len(brokers) {
		t.Errorf("the clients %s are on %v, want them on %v", prefix, n, brokers)
	}
}

// endure lets faults of a registry follow each other, each until it has failed a refresh twice, or has held
// one up for two intervals. Brokers, connections and placement stay as they were, and only the metrics tell.
func endure(t *testing.T, r registry, faults ...string) {
	t.Helper()
	names, port := hosts(t, 3)
	for _, name := range names {
		greeterOn(t, name, hostPort(name, port))
	}
	r.list(names...)
	// Patient checks: on a busy machine a hurried one fails now and then, and that is not what this is about.
	l := startLB(t, settings{discovery: r.source(port), cluster: "health: {interval: 1s, fall: 5}"})
	l.reach(t, patience, "ready", names...)
	old := gather(t, l, "old", 30)
	before := l.homes(t)
	failures := func() float64 { return l.metric(t, `mqttlb_discovery_failures_total{cluster="brokers"}`) }

	stale, memory := 0.0, l.rss(t)
	began, used := time.Now(), l.cpu(t)
	for i, fault := range faults {
		asked, failed := r.questions(), failures()
		r.behave(fault)
		held := time.Now()
		enough := failed + 2 // the first may have been due to the fault before
		if asked == 0 {
			enough = failed + 1 // nobody asks a file: it is noticed when it changes
		}
		eventually(t, patience, "mqttlb notices: "+short(fault), func() bool {
			return failures() >= enough || r.questions() > asked && time.Since(held) > 2500*time.Millisecond
		})
		if i == 0 {
			stale = l.refreshed(t)
		}
		young := gather(t, l, fmt.Sprint("young-", i), 6)
		young.leave()
		l.reach(t, 0, "ready", names...)
		if n := l.metric(t, `mqttlb_discovery_backends{cluster="brokers"}`); n != 3 {
			t.Errorf("%s: discovery names %v brokers, want the last known 3", short(fault), n)
		}
		if l.refreshed(t) != stale {
			t.Errorf("%s: the last success of discovery is not that from before the faults", short(fault))
		}
	}
	if share := float64(l.cpu(t)-used) / float64(time.Since(began)); share > 0.5 && !underRace {
		t.Errorf("mqttlb used %.0f %% of a processor", 100*share)
	}
	if more := (l.rss(t) - memory) >> 20; more > 300 && !underRace { // of the gigabytes that it is offered
		t.Errorf("mqttlb uses %d MiB more than before", more)
	}
	r.behave("")
	eventually(t, patience, "discovery works again", func() bool { return l.refreshed(t) > stale })

	old.leave()
	eventually(t, patience, "the clients have left", func() bool { return len(l.homes(t)) == 0 })
	old.join(t, l, old.ids())
	for id, home := range l.homes(t) {
		if before[id] != home {
			t.Errorf("client %s is on %s, before the faults on %s", id, home, before[id])
		}
	}
}

// short is the beginning of a text.
func short(text string) string { return fmt.Sprintf("%.40q", text) }

// Fault D1. More than 256 records are more than any cluster has brokers.
func TestFaultD1WhateverDNSAnswersTheLastGoodBrokersStay(t *testing.T) {
	t.Parallel()
	endure(t, newNameserver(t), nxdomain, servfail, noRecords, noise, truncated, tooMany, silence)
}

// Fault D2.
func TestFaultD2WhateverS3AnswersTheLastGoodBrokersStay(t *testing.T) {
	t.Parallel()
	endure(t, newBucket(t), emptyBucket, emptyBody, error500, denied, badObjects, hugeBody, slowBody)
}

func TestABadFileOfBrokersKeepsTheLastGoodOne(t *testing.T) {
	t.Parallel()
	endure(t, newListFile(t), "- {name: a, addr: \"127.0.0.1:1\"}", "[", "# nothing\n", "\xff\xfe\x00", missing, strings.Repeat("# large\n", 1<<18))
}

// Fault D3: a broker that comes and goes never settles, so nobody is sent there; and nobody is sent away.
func TestFaultD3ABrokerThatComesAndGoesGetsNobody(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"newcomer", "member"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			names, port := hosts(t, 4)
			brokers := make(map[string]*greeter)
			for _, name := range names {
				brokers[name] = greeterOn(t, name, hostPort(name, port))
			}
			steady, flapper := names[:3], names[3]
			r := newNameserver(t)
			if how == "member" {
				r.list(names...)
			} else {
				r.list(steady...)
			}
			l := startLB(t, settings{discovery: r.source(port), cluster: "health: {interval: 300ms}\nsettle: 3s\nramp: 0s"})
			old := gather(t, l, "old", 60)
			before := l.homes(t)
			asked := r.questions()
			r.list(names...)
			r.behave(flapping)
			eventually(t, patience, "it has come and gone", func() bool { return r.questions() >= asked+3 })
			held := brokers[flapper].present()
			for i := 0; r.questions() < asked+9; i++ {
				gather(t, l, fmt.Sprint("new-", i), 5).leave()
				if n := brokers[flapper].present(); n != held {
					t.Fatalf("%d clients are on the broker that comes and goes, before %d", n, held)
				}
			}
			old.unharmed(t)
			for id, home := range l.homes(t) {
				if old[id] != nil && home != before[id] {
					t.Errorf("client %s is on %s, before on %s", id, home, before[id])
				}
			}
			r.behave("")
			l.reach(t, patience, "ready", names...)
		})
	}
}

// A listFile is a registry in a file. What it is told to behave like is what it contains.
type listFile struct {
	t     *testing.T
	path  string
	port  int
	hosts []string
}

// missing makes a file that is not there.
const missing = "missing"

func newListFile(t *testing.T) *listFile {
	t.Helper()
	return &listFile{t: t, path: filepath.Join(t.TempDir(), "brokers.yaml")}
}

func (f *listFile) source(port int) string {
	f.port = port
	f.list(f.hosts...)
	return fmt.Sprintf("{file: {path: %q}}", f.path)
}

func (f *listFile) list(hosts ...string) {
	f.hosts = hosts
	var list strings.Builder
	for _, host := range hosts {
		fmt.Fprintf(&list, "- {name: %q, address: %q}\n", host, hostPort(host, f.port))
	}
	replace(f.t, f.path, list.String())
}

func (f *listFile) behave(fault string) {
	switch fault {
	case "":
		f.list(f.hosts...)
	case missing:
		if err := os.Remove(f.path); err != nil {
			f.t.Fatal(err)
		}
	default:
		replace(f.t, f.path, fault)
	}
}

// questions is of no use here: nobody hears of a file that is read.
func (f *listFile) questions() int { return 0 }
