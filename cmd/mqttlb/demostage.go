package main

import (
	"time"

	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/internal/testbroker"
)

// A demoStage is everything that can be looked at.
type demoStage struct {
	seats   *demoSeats
	brokers []*testbroker.Broker
	cluster *cluster.Cluster
	address string // of mqttlb
	admin   string // empty when off

	measured time.Time // the rates
	stats    []testbroker.Stats
	rates    []demoRate
}

// A demoRate is in messages per second, from and to the clients of one broker.
type demoRate struct{ In, Out float64 }

// demoMeasure is the time over which rates are measured.
const demoMeasure = time.Second

// measure updates the rates when it is time to.
func (d *demoStage) measure(now time.Time) {
	passed := now.Sub(d.measured)
	if passed < demoMeasure {
		return
	}
	stats := make([]testbroker.Stats, len(d.brokers))
	rates := make([]demoRate, len(d.brokers))
	for i, b := range d.brokers {
		stats[i] = b.Stats()
		if d.stats != nil {
			rates[i].In = float64(stats[i].Received-d.stats[i].Received) / passed.Seconds()
			rates[i].Out = float64(stats[i].Sent-d.stats[i].Sent) / passed.Seconds()
		}
	}
	d.measured, d.stats, d.rates = now, stats, rates
}

// picture is what there is to see at this point of a story.
func (d *demoStage) picture(s *demoStory) *demoState {
	d.measure(s.now)
	p := &demoState{
		At: s.now.Sub(s.began), Of: s.pace.duration,
		Address: d.address, Admin: d.admin,
		Brokers: make([]demoBroker, len(d.brokers)),
		Sticky:  d.cluster.Status().Sticky,
		Events:  s.events, Outages: s.outages,
	}
	for i := range p.Brokers {
		p.Brokers[i] = demoBroker{Name: demoBrokerName(i), demoRate: d.rates[i]}
	}
	d.seats.fill(p)
	return p
}

// A demoState is one picture of the demo. It is all that the view knows.
type demoState struct {
	At, Of   time.Duration // Of is 0 when the demo does not end
	Address  string        // of mqttlb
	Admin    string        // empty when off
	Clients  int
	Seated   int // clients that are connected
	AtHome   int // … to the broker that the hash gives them
	Brokers  []demoBroker
	Sticky   float64
	Totals   demoTotals
	Events   []demoEvent
	Outages  []demoOutage
	Finished bool // the story has been told to its end
}

// A demoBroker is one row of the table.
type demoBroker struct {
	Name    string
	Gone    bool
	Clients int // that are connected to it
	AtHome  int // … and have their home there
	Own     int // that have their home there, wherever they are
	demoRate
}
