package simulation

import (
	"cmp"
	"math"
	"slices"
)

// A story is what happens to the brokers.
type story interface {
	// next is called every second from the event on.
	next()
	// over tells that nothing will happen any more.
	over() bool
}

func newStory(w *world) story {
	switch w.s.Event {
	case Join:
		return &once{w: w, act: func() { w.add("1") }}
	case Leave:
		return &once{w: w, act: func() {
			w.stop(0)
			w.brokers[0].listed = false
		}}
	case Hot:
		return &once{w: w, act: w.heat}
	case Rolling:
		return &rolling{w: w}
	case None:
	}
	return &once{w: w, act: func() {}}
}

// once is a story with one event.
type once struct {
	w    *world
	act  func()
	done bool
}

func (o *once) next() {
	if !o.done {
		o.done = true
		o.w.record.needed = o.w.needed()
		o.act()
		if o.w.s.Event == Leave {
			o.w.record.needed = o.w.record.disconnects // nobody was asked
		}
		if o.w.s.Event == Hot {
			o.w.record.needed = o.w.fewestToCool(0)
		}
	}
}

func (o *once) over() bool { return o.done }

// needed is the least number of disconnects with which the event can end with even brokers.
func (w *world) needed() int {
	n, clients := float64(w.s.Backends), float64(len(w.clients))
	switch w.s.Event {
	case Join: // the new one gets 95 % of its share
		return int(math.Ceil((1 - tolerance) * clients / (n + 1)))
	case Rolling: // everybody once; those who fled first a second time, and again those who fill up the last one
		if w.s.Surge { // … which are the same
			return int(math.Ceil(clients * (1 + 1/n)))
		}
		return int(math.Ceil(clients * (1 + (2-tolerance)/n)))
	case Leave, Hot, None:
	}
	return 0
}

// heat makes the clients of the first broker so much busier that its load exceeds the mean by the ratio.
func (w *world) heat() {
	ratio := w.s.Ratio
	if ratio == 0 {
		ratio = 1.5
	}
	k := &w.brokers[0]
	total, n := w.sum(true)
	factor := ratio * (total - k.load) / (k.load * (float64(n) - ratio))
	for _, i := range k.clients {
		w.clients[i].cost *= factor
		w.clients[i].rate *= factor
	}
	k.load *= factor
	k.traffic *= factor
}

// fewestToCool is how many clients, the costliest first, must leave broker b until its load is within the
// tolerance.
func (w *world) fewestToCool(b int) int {
	total, n := w.sum(true)
	limit := (1 + tolerance) * total / float64(n)
	var costs []float64
	for _, i := range w.brokers[b].clients {
		costs = append(costs, w.clients[i].cost)
	}
	return greedy(costs, w.brokers[b].load-limit)
}

// rolling restarts every broker with version 2, one after the other, as a StatefulSet does. With a surge a
// broker of the new version comes first and leaves last.
type rolling struct {
	w     *world
	begun bool
	queue []int // brokers to be restarted, the present one first
	spare int   // the surge broker, or -1
	stage rollingStage
	since int64
}

type rollingStage uint8

const (
	settling  rollingStage = iota // the last one is back and warms up
	announced                     // the next one is to be emptied
	stopped                       // it restarts
	finished
)

const (
	restart  = 30 * second   // from stop to start of a broker
	settled  = 180 * second  // after which the orchestrator goes on: settling and slow start, and some seconds
	patience = 3600 * second // how long a broker may take to become empty
	unasked  = second        // a broker that nobody empties is stopped so soon
)

func (r *rolling) over() bool { return r.stage == finished }

func (r *rolling) next() {
	w := r.w
	if !r.begun {
		r.begun, r.spare, r.since = true, -1, w.now
		w.record.needed = w.needed()
		for b := range w.brokers {
			r.queue = append(r.queue, b)
		}
		if w.s.Surge {
			r.spare = w.add("2")
			r.queue = append(r.queue, r.spare)
		} else {
			r.since -= settled
		}
	}
	switch r.stage {
	case settling:
		if w.now-r.since < settled {
			return
		}
		if len(r.queue) == 0 {
			r.stage = finished
			return
		}
		w.brokers[r.queue[0]].leaving = true
		r.stage, r.since = announced, w.now
	case announced:
		limit := patience
		if !w.record.drains {
			limit = unasked
		}
		b := r.queue[0]
		if len(w.brokers[b].clients) > 0 && w.now-r.since < limit {
			return
		}
		w.stop(b)
		r.stage, r.since = stopped, w.now
		if b == r.spare {
			w.brokers[b].listed, w.brokers[b].leaving = false, false
			r.stage = finished
		}
	case stopped:
		if w.now-r.since < restart {
			return
		}
		k := &w.brokers[r.queue[0]]
		k.up, k.leaving, k.version = true, false, "2"
		r.queue = r.queue[1:]
		r.stage, r.since = settling, w.now
	case finished:
	}
}

// greedy is how many of these costs, the greatest first, make up an excess.
func greedy(costs []float64, excess float64) int {
	slices.SortFunc(costs, func(a, b float64) int { return cmp.Compare(b, a) })
	n := 0
	for ; n < len(costs) && excess > 0; n++ {
		excess -= costs[n]
	}
	return n
}
