package simulation

import (
	"slices"
	"time"
)

// A Result is what became of one contender. Everything is counted from the event on.
type Result struct {
	Contender string `json:"contender"`
	// Disconnects are the connections that were ended in order to move a client, or because its broker stopped.
	Disconnects int `json:"disconnects"`
	// Minimum is how many are needed. For leave it is the clients of the lost broker, for hot the costliest
	// clients of the hot one; 0 for none.
	Minimum int `json:"minimum"`
	// During are the disconnects until the event had come to its end. For rolling that is the last restart; for
	// the others the event is over at once.
	During int `json:"during"`
	// Clients are all clients, MovedTwice those that were disconnected more than once, Worst the most
	// disconnects that one of them has suffered.
	Clients    int `json:"clients"`
	MovedTwice int `json:"moved_twice"`
	Worst      int `json:"worst"`
	// PeakLoad is the greatest load that a broker had, in terms of the mean before the event, and PeakImbalance
	// in terms of the mean of the brokers that were open at that moment.
	PeakLoad      float64 `json:"peak_load"`
	PeakImbalance float64 `json:"peak_imbalance"`
	// PeakConnects is the most clients that connected within one second.
	PeakConnects int `json:"peak_connects"`
	// Within is when every broker had 95 to 105 % of the mean of the connections, after the event had come to
	// its end; for hot, when none had more than 105 % of the mean load. Balanced tells whether that has
	// happened at all.
	Within   time.Duration `json:"-"`
	Balanced bool          `json:"balanced"`
	// SameNode is the part of clients that came back to the broker that they had, of those that dropped on
	// their own after the run.
	SameNode float64 `json:"same_node"`
	// SameNodeMoved is the same for the clients alone that the event had disconnected.
	SameNodeMoved float64 `json:"same_node_moved"`
	// GroupSpread is the most that two open brokers differed in members of one group.
	GroupSpread int `json:"group_spread"`
	// Brokers are the names of all brokers that were ever there, Samples the course of their connections and
	// loads.
	Brokers []string `json:"brokers"`
	Samples []Sample `json:"samples"`
}

// A Sample is one look at the brokers.
type Sample struct {
	// Seconds after the event.
	Seconds int64 `json:"seconds"`
	// Connections of each broker, and Loads in terms of the capacity of a broker, in the order of
	// Result.Brokers; shorter while later ones have not come yet.
	Connections []int     `json:"connections"`
	Loads       []float64 `json:"loads"`
}

// maxSamples bounds the samples of a run.
const maxSamples = 360

// recorder counts while the world runs.
type recorder struct {
	drains         bool // somebody empties brokers that are to be stopped
	over           bool // the story was over at the last look
	disconnects    int
	needed         int
	returned, same int // clients that had dropped on their own; to the same broker

	returnedMoved, sameMoved int // … of these, clients that had been disconnected before by force
	peakLoad                 float64
	peakImbalance            float64
	spread                   int
	during                   int // disconnects until the story was over
	arrived                  int // connects until the last look
	peakConnects             int
	within                   int64 // 0 for not yet
	samples                  []Sample
	every                    int64 // seconds between two samples
}

// look records the present second.
func (w *world) look() {
	r := &w.record
	arrived := -r.arrived
	for b := range w.brokers {
		arrived += w.brokers[b].arrived
	}
	r.arrived += arrived
	if !w.happened {
		return
	}
	r.peakConnects = max(r.peakConnects, arrived)
	_, greatest := w.extremes(true)
	r.peakImbalance = max(r.peakImbalance, greatest)
	for b := range w.brokers {
		r.peakLoad = max(r.peakLoad, w.brokers[b].load/w.unit/w.utilisation)
	}
	r.spread = max(r.spread, w.spread())
	if !r.over {
		r.over, r.during = w.story.over(), r.disconnects
	}
	if r.within == 0 && w.story.over() && w.even(w.s.Event == Hot) && w.settled() {
		r.within = w.now
	}
	if at := (w.now - w.start) / second; at%r.every == 0 {
		s := Sample{Seconds: at}
		for b := range w.brokers {
			s.Connections = append(s.Connections, len(w.brokers[b].clients))
			s.Loads = append(s.Loads, w.brokers[b].load/w.unit)
		}
		r.samples = append(r.samples, s)
	}
}

// settled tells that nearly everybody is online.
func (w *world) settled() bool { return float64(w.online) >= 0.98*float64(len(w.clients)) }

// spread is the most that two open brokers differ in members of one group.
func (w *world) spread() int {
	widest := 0
	for _, at := range w.groups {
		least, most := len(w.clients), 0
		for b, n := range at {
			if w.brokers[b].open() {
				least, most = min(least, n), max(most, n)
			}
		}
		widest = max(widest, most-least)
	}
	return widest
}

// Run plays a scenario for one contender. progress, if it is not nil, is told now and then which part of the
// run is over, 0…1.
func Run(s Scenario, name string, progress func(part float64)) (*Result, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	e, err := entryNamed(name)
	if err != nil {
		return nil, err
	}
	return e.run(s, progress)
}

func (e entry) run(s Scenario, progress func(part float64)) (*Result, error) {
	w, err := newWorld(s, e.enter)
	if err != nil {
		return nil, err
	}
	w.record.drains = e.drains
	w.record.every = max(1, int64(s.Duration)/second/maxSamples)
	w.connectAll()
	end := w.start + int64(s.Duration)
	w.run(end, func() {
		w.look()
		if progress != nil && w.now/second%10 == 0 {
			progress(float64(w.now) / float64(end))
		}
	})
	return w.result(e.name), nil
}

// result sums up, after it has seen where clients come back.
func (w *world) result(name string) *Result {
	r := &w.record
	out := &Result{
		Contender: name, Disconnects: r.disconnects, Minimum: r.needed, During: r.during, Clients: len(w.clients),
		PeakLoad: r.peakLoad, PeakImbalance: r.peakImbalance, PeakConnects: r.peakConnects, GroupSpread: r.spread, Samples: r.samples,
	}
	if r.within > 0 {
		out.Balanced, out.Within = true, time.Duration(r.within-w.start)
	}
	for i := range w.clients {
		n := int(w.clients[i].forced)
		out.Worst = max(out.Worst, n)
		if n > 1 {
			out.MovedTwice++
		}
	}
	for b := range w.brokers {
		out.Brokers = append(out.Brokers, w.brokers[b].name)
	}
	out.SameNode, out.SameNodeMoved = w.probe()
	out.Samples = slices.Clip(out.Samples)
	return out
}

// probe lets clients drop on their own, nobody is moved meanwhile, and returns the part that came back to the
// same broker: of all, and of those that had been disconnected before.
func (w *world) probe() (all, moved float64) {
	w.quiet, w.gap = true, float64(probeGap)/float64(second)
	w.nextDrop = float64(w.now) / float64(second)
	w.record.returned, w.record.same, w.record.returnedMoved, w.record.sameMoved = 0, 0, 0, 0
	w.run(w.now+probeTime, func() {})
	return part(w.record.same, w.record.returned), part(w.record.sameMoved, w.record.returnedMoved)
}

func part(of, all int) float64 {
	if all == 0 {
		return 0
	}
	return float64(of) / float64(all)
}
