package cluster_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/metrics/scrape"
)

// figure is a reading of this moment.
func (r *rig) figure(v float64) balancer.Figure { return balancer.Figure{Value: v, At: r.Now()} }

// scrape lets so many seconds pass while these backends report these loads every 5 s.
func (r *rig) scrape(seconds int, loads map[string]float64) {
	for s := range seconds {
		if s%5 == 0 {
			for name, load := range loads {
				r.Scraped(scrape.Reading{Backend: name, Load: r.figure(load), Util: r.figure(load), At: r.Now()})
			}
		}
		r.ticks(1)
	}
}

// A broker that is loaded too much for half a minute is hot, until it has been cool for two.
func TestHotByLoad(t *testing.T) {
	t.Parallel()
	r := watched(t, cluster.Options{})
	r.Apply(set("a", "b", "c"))
	r.passes("a", "b", "c")
	hot, cool := map[string]float64{"a": 0.9, "b": 0.3, "c": 0.3}, map[string]float64{"a": 0.4, "b": 0.3, "c": 0.3}
	r.scrape(20, cool)
	r.scrape(25, hot)
	r.wantPhases("after 25 s", "a ready, b ready, c ready")
	r.scrape(15, hot)
	r.wantPhases("after 40 s", "a hot (load 0.9 for 30s), b ready, c ready")
	if got := r.logged("to=hot"); !strings.HasPrefix(got, "level=WARN ") {
		t.Errorf("got %q, want a warning", got)
	}
	r.scrape(110, cool)
	r.wantPhases("cool for 115 s", "a hot (load 0.9 for 30s), b ready, c ready")
	r.scrape(20, cool)
	r.wantPhases("cool for 135 s", "a ready (cool for 2m0s), b ready, c ready")
}

// So it is with the overload level, of which three readings are enough.
func TestHotByLevel(t *testing.T) {
	t.Parallel()
	r := watched(t, cluster.Options{})
	r.Apply(set("a", "b"))
	r.passes("a", "b")
	for range 3 {
		r.Scraped(scrape.Reading{Backend: "a", Level: r.figure(7), At: r.Now()})
		r.ticks(5)
	}
	r.wantPhases("after three readings", "a hot (overload level 7), b ready")
	if b := r.backend("a"); b.Load == nil || *b.Load.Level != 7 || b.Load.Load != nil || b.Load.Stale {
		t.Errorf("got load %+v, want level 7 and no load", b.Load)
	}
}

// And with the time from CONNECT to CONNACK, compared with that of the others.
func TestHotByLatency(t *testing.T) {
	t.Parallel()
	r := watched(t, cluster.Options{})
	r.Apply(set("a", "b", "c"))
	r.passes("a", "b", "c")
	second := func(slow time.Duration) {
		r.answer("a", 2, 4, 0, slow)
		r.answer("b", 2, 4, 0, 4*time.Millisecond)
		r.answer("c", 2, 5, 0, 5*time.Millisecond)
		r.ticks(1)
	}
	for range 60 {
		second(60 * time.Millisecond)
	}
	r.wantPhases("twelve times as long, and nothing to speak of", "a ready, b ready, c ready")
	for range 29 {
		second(400 * time.Millisecond)
	}
	r.wantPhases("for 29 s", "a ready, b ready, c ready")
	for range 5 {
		second(400 * time.Millisecond)
	}
	r.wantPhases("for 34 s", "a hot (CONNACK takes 431ms, much longer than elsewhere), b ready, c ready")
	if b := r.backend("a"); b.ConnackSeconds < 0.36 || b.ConnackSeconds > 0.44 {
		t.Errorf("got %v s, want about 0.4", b.ConnackSeconds)
	}
	for range 100 {
		second(5 * time.Millisecond)
	}
	r.wantPhases("for 100 s not any more", "a hot (CONNACK takes 431ms, much longer than elsewhere), b ready, c ready")
	r.ticks(60)
	r.wantPhases("later", "a ready (cool for 2m0s), b ready, c ready")
	if b := r.backend("a"); b.ConnackSeconds != 0 {
		t.Errorf("got %v s, want nothing: nobody has come for a minute", b.ConnackSeconds)
	}
}

// A broker whose figures are old is shown as such, and placed like one that has none; the others are placed by theirs.
func TestStaleFigures(t *testing.T) {
	t.Parallel()
	r := watched(t, cluster.Options{Strategy: "metric-wrr"})
	r.Apply(set("a", "b", "c"))
	r.passes("a", "b", "c")
	r.scrape(40, map[string]float64{"a": 0.9, "b": 0.3, "c": 0.3})
	b := r.backend("a")
	if b.Load == nil || *b.Load.Load != 0.9 || *b.Load.Util != 0.9 || b.Load.Stale || b.Load.At.IsZero() || b.LoadFactor != 0.25 || b.Load.Error != "" {
		t.Errorf("got %+v with load %+v, want 0.9 and a factor of 0.25", b, b.Load)
	}
	if b := r.backend("b"); b.LoadFactor < 1.9 {
		t.Errorf("got factor %v for a backend with little load, want about 2", b.LoadFactor)
	}
	for range 5 {
		r.Scraped(scrape.Reading{Backend: "a", Err: errors.New("GET was answered with 503"), At: r.Now()})
		r.scrape(15, map[string]float64{"b": 0.3, "c": 0.2})
	}
	b = r.backend("a")
	if !b.Load.Stale || *b.Load.Load != 0.9 || b.LoadFactor != 1 || b.Load.Error != "GET was answered with 503" {
		t.Errorf("got %+v with load %+v, want a stale 0.9 and a factor of 1", b, b.Load)
	}
	if b, c := r.backend("b"), r.backend("c"); b.LoadFactor >= 1 || c.LoadFactor <= 1 || c.Load.Stale {
		t.Errorf("got factors %v and %v, want less than 1, and more", b.LoadFactor, c.LoadFactor)
	}
	if got := r.Status().State; got != "balanced" {
		t.Errorf("got state %s with one of three figures missing, want balanced", got)
	}
	r.Scraped(scrape.Reading{Backend: "c", Load: r.figure(math.NaN()), Util: r.figure(math.Inf(1)), At: r.Now()})
	if c := r.backend("c"); *c.Load.Load != 0.2 || *c.Load.Util != 0.2 {
		t.Errorf("got load %v after NaN, want 0.2", *c.Load.Load)
	}
	r.ticks(100)
	if got := r.Status().State; got != "degraded" {
		t.Errorf("got state %s without any figure, want degraded", got)
	}
}
