package cluster_test

import (
	"errors"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/metrics/scrape"
)

// scraped reports versions: name, version, name, version.
func (r *rig) scraped(versions ...string) {
	for i := 0; i < len(versions); i += 2 {
		r.Scraped(scrape.Reading{Backend: versions[i], Version: versions[i+1], At: r.Now()})
	}
}

func (r *rig) wantVersions(when, state string, want ...string) {
	r.t.Helper()
	s := r.Status()
	for i, b := range s.Backends {
		if got := b.Labels[balancer.VersionLabel]; got != want[i] {
			r.t.Errorf("%s: %s has version %q, want %q", when, b.Name, got, want[i])
		}
	}
	if s.State != state {
		r.t.Errorf("%s: got state %s, want %s", when, s.State, state)
	}
}

// An update of brokers that discovery does not label is noticed by what they say themselves, and clients prefer those
// that are updated.
func TestVersionsAreRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "adaptive"})
	r.time.Store(int64(time.Hour))
	r.Apply(set("a", "b", "c"))
	r.wantVersions("at first", "balanced", "", "", "")
	r.scraped("a", "3.12.9", "b", "3.12.9", "c", "3.12.9")
	r.ticks(2)
	r.wantVersions("before the update", "balanced", "3.12.9", "3.12.9", "3.12.9")

	r.scraped("b", "3.12.10")
	r.ticks(1)
	r.wantVersions("one is updated", "rolling", "3.12.9", "3.12.10", "3.12.9")
	if target := r.place("device"); target.Reason.Strategy != "version-aware" || target.Backend.Name != "b" {
		t.Errorf("got %s by %+v, want the updated backend, b", target.Backend.Name, target.Reason)
	}

	generation := r.Status().Generation
	for range 20 { // it is restarted, or its page has no version while it starts
		r.Scraped(scrape.Reading{Backend: "b", Err: errors.New("connection refused"), At: r.Now()})
		r.ticks(1)
		r.scraped("b", "3.12.10")
		r.ticks(1)
	}
	r.wantVersions("readings fail", "rolling", "3.12.9", "3.12.10", "3.12.9")
	if got := r.Status().Generation; got != generation {
		t.Errorf("got generation %d, want %d still: nothing has changed", got, generation)
	}

	r.scraped("a", "3.12.10", "c", "3.12.10", "x", "3.12.10")
	r.ticks(300)
	r.wantVersions("all are updated", "balanced", "3.12.10", "3.12.10", "3.12.10")
}

// What discovery says counts more than what brokers say.
func TestALabelCountsMoreThanAReading(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "adaptive"})
	r.time.Store(int64(time.Hour))
	labelled := set("a", "b")
	for i := range labelled {
		labelled[i].Labels = map[string]string{balancer.VersionLabel: "1"}
	}
	r.Apply(labelled)
	r.scraped("a", "1", "b", "2")
	r.ticks(2)
	r.wantVersions("labelled", "balanced", "1", "1")
	r.Apply(set("a", "b"))
	r.ticks(1)
	r.wantVersions("not labelled any more", "rolling", "1", "2")
}

// A version is forgotten with the process that had it, and when nobody reads it any more. A drain does not touch it.
func TestVersionsAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "adaptive"})
	r.time.Store(int64(time.Hour))
	r.Apply(set("a", "b"))
	r.scraped("a", "1", "b", "1")
	r.ticks(1)
	if err := r.Drain("b", 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Resume("b"); err != nil {
		t.Fatal(err)
	}
	r.ticks(1)
	r.wantVersions("drained and resumed", "balanced", "1", "1")
	moved := set("a", "b")
	moved[0].Address = "10.0.0.9:1883"
	r.Apply(moved)
	r.wantVersions("a has moved", "balanced", "", "1")
	r.Scraped(scrape.Reading{Backend: "b"})
	r.ticks(1)
	r.wantVersions("nobody reads it", "balanced", "", "")
}
