//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// soakClients is how many sessions a soak has.
const soakClients = 500

// Fault L1: five hundred sessions and faults at random for as long as SOAK says. Sessions that no fault has hit lose
// nothing; every byte that arrives is the byte that was sent, in order; and in the end everything is given back.
//
// Not parallel: it takes the machine for itself.
func TestFaultL1Soak(t *testing.T) {
	length, err := time.ParseDuration(orElse(os.Getenv("SOAK"), "0s"))
	if err != nil {
		t.Fatalf("SOAK must be a duration such as 10m: %v", err)
	}
	if length == 0 {
		t.Skip("SOAK says how long to soak, such as SOAK=10m; make soak does")
	}
	descriptors(t, 10_000)
	k := newSoak(t)
	idle := k.baseline("before")
	for i := range soakClients {
		k.clients.Go(func() { k.visit(i) })
	}
	k.wait("all clients are here", func() bool { return k.present() == soakClients })
	full := k.baseline("with all clients")

	for end := time.Now().Add(length); time.Now().Before(end); {
		k.fault()
		time.Sleep(300*time.Millisecond + rand.N(time.Second))
		k.undo(time.Now())
	}
	k.undo(time.Now().Add(time.Hour))
	k.lb.reach(t, patience, "ready", k.names...)
	k.wait("all clients are here again", func() bool { return k.present() == soakClients })
	after := k.baseline("after the faults, with all clients")
	k.quiet.Store(true)
	k.clients.Wait() // each waits until its last byte has come back
	k.stopped.Store(true)
	var last soakFigures
	k.wait("all is given back", func() bool {
		last = k.figures()
		return last.descriptors <= idle.descriptors+4 && last.goroutines <= idle.goroutines+4
	})
	k.baseline("in the end")

	if most := full.descriptors + 16; after.descriptors > most {
		t.Errorf("%d descriptors with all clients after the faults, %d before", after.descriptors, full.descriptors)
	}
	if after.goroutines > full.goroutines+16 {
		t.Errorf("%d goroutines with all clients after the faults, %d before", after.goroutines, full.goroutines)
	}
	if most := full.rss + full.rss/2 + 16<<20; last.rss > most {
		t.Errorf("%d KiB of memory in the end, %d KiB with all clients before the faults", last.rss>>10, full.rss>>10)
	}
	k.report()
}

// fault lets something go wrong that did not before.
func (k *soak) fault() {
	kinds := slices.Sorted(maps.Keys(k.faults))
	kind := kinds[rand.IntN(len(kinds))]
	k.faults[kind]()
	k.done[kind]++
}

// soakFaults are the faults of a soak, by name.
func (k *soak) soakFaults() map[string]func() {
	broker := func() *soakBroker { return k.brokers[rand.IntN(len(k.brokers))] }
	return map[string]func(){
		"broker killed": func() {
			if b := broker(); !k.pending["down"] { // one of them at a time, so that somebody is there for the clients
				b.kill()
				k.later("down", time.Second+rand.N(2*time.Second), b.open)
			}
		},
		"broker stopped": func() {
			b := broker()
			if what := "stopped " + b.name; !k.pending[what] {
				b.stop()
				k.later(what, time.Second+rand.N(4*time.Second), b.resume)
			}
		},
		"connections reset by the broker": func() { broker().cut(5) },
		"connections reset by clients":    func() { k.resets.Add(5) },
		"discovery fails": func() {
			if !k.pending["discovery"] {
				k.list.behave([]string{missing, "]]", "", "- {name: x}\n"}[rand.IntN(4)])
				k.later("discovery", time.Second+rand.N(2*time.Second), func() { k.list.behave("") })
			}
		},
		"metrics fail": func() {
			b := broker()
			k.exporter.behave(b.name, []string{hangs, drips, notANum, negative, breaks}[rand.IntN(5)])
			k.later("metrics "+b.name, 2*time.Second+rand.N(3*time.Second), func() { k.exporter.behave(b.name, "") })
		},
		"reload": func() {
			k.set.cluster = k.cluster(50 + rand.IntN(100))
			k.lb.configure(k.t, k.set)
			k.lb.signal(k.t, syscall.SIGHUP)
		},
		"reload of an invalid file": func() {
			k.lb.write(k.t, "clusters: nonsense\n")
			k.lb.signal(k.t, syscall.SIGHUP)
		},
		"drain": func() {
			if b := broker(); !k.pending["drain"] {
				_, _ = command(k.t, "drain", b.name, "--admin", k.lb.socket) // it may be refused, while others are down
				k.later("drain", 2*time.Second+rand.N(2*time.Second), func() { _, _ = command(k.t, "resume", b.name, "--admin", k.lb.socket) })
			}
		},
	}
}

// later undoes something after a while.
func (k *soak) later(what string, after time.Duration, undo func()) {
	k.pending[what] = true
	k.undoing = append(k.undoing, undoing{what, time.Now().Add(after), undo})
}

// undo undoes what is due.
func (k *soak) undo(now time.Time) {
	k.undoing = slices.DeleteFunc(k.undoing, func(u undoing) bool {
		if u.at.After(now) {
			return false
		}
		u.undo()
		delete(k.pending, u.what)
		return true
	})
}

// soakFigures are what mqttlb uses.
type soakFigures struct{ descriptors, goroutines, rss int }

func (k *soak) figures() soakFigures {
	return soakFigures{k.lb.descriptors(k.t), int(k.lb.metric(k.t, "go_goroutines")), k.lb.rss(k.t)}
}

func (k *soak) baseline(when string) soakFigures {
	f := k.figures()
	k.t.Logf("%s: %d descriptors, %d goroutines, %d KiB", when, f.descriptors, f.goroutines, f.rss>>10)
	return f
}

func (k *soak) wait(what string, holds func() bool) {
	k.t.Helper()
	eventually(k.t, time.Minute, what, holds)
}

// report says what has happened, and fails for what must not have.
func (k *soak) report() {
	k.t.Helper()
	for _, kind := range slices.Sorted(maps.Keys(k.done)) {
		k.t.Logf("%4d times: %s", k.done[kind], kind)
	}
	moved := 0
	for series, n := range k.lb.series(k.t, "mqttlb_evictions_total{") {
		if strings.Contains(series, `result="moved"`) {
			moved += int(n)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.t.Logf("%d sessions, %d messages came back; %d sessions were hit by a fault, %d moved (mqttlb counts %d), %d attempts to connect failed",
		k.tally.sessions, k.tally.messages, k.tally.hit, k.tally.moved, moved, k.tally.turnedAway)
	if k.tally.moved > moved {
		k.t.Errorf("%d sessions ended in an orderly way that nobody has ended, mqttlb has moved %d", k.tally.moved, moved)
	}
	for i, wrong := range k.tally.wrong {
		if i == 20 {
			k.t.Errorf("… and %d more", len(k.tally.wrong)-i)
			break
		}
		k.t.Error(wrong)
	}
}

// series are the series of the metrics that begin like this.
func (l *lb) series(t *testing.T, prefix string) map[string]float64 {
	t.Helper()
	_, text := l.ask(t, http.MethodGet, "/metrics", l.socket, "")
	found := make(map[string]float64)
	for line := range strings.Lines(text) {
		var value float64
		name, number, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if _, err := fmt.Sscan(number, &value); err == nil && strings.HasPrefix(name, prefix) {
			found[name] = value
		}
	}
	return found
}
