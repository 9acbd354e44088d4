package balancer

import (
	"math"
	"math/rand/v2"
	"strconv"
)

// world is the model of algorithms.md, 4.2 and 4.4: clients that cost their backend something all the
// time and reconnect now and then, backends that report the mean of five minutes every 15 s with 3 %
// noise. Load follows connections at once, and clients come back without delay.
type world struct {
	random  *rand.Rand
	now     int64 // seconds
	gap     float64
	clients []worldClient
	load    []float64      // of each backend, true
	traffic [][]float64    // by instance and backend, as the balancer sees it
	history [][300]float64 // of load, one per second

	place  func(client, instance int) int              // connects
	gone   func(client, instance, backend int)         // before that, when it had been somewhere
	scrape func(figure []float64, traffic [][]float64) // every 15 s
	tick   func()                                      // every second
}

type worldClient struct {
	id                string
	rate, cost        float64 // bytes/s, and load in truth
	backend, instance int     // backend -1: nowhere yet
}

func newWorld(seed uint64, backends, instances int, clients []worldClient, gap float64) *world {
	w := &world{
		random: rand.New(rand.NewPCG(seed, 99)), gap: gap, clients: clients,
		load: make([]float64, backends), history: make([][300]float64, backends), traffic: make([][]float64, instances),
		gone: func(int, int, int) {}, tick: func() {},
	}
	for i := range w.traffic {
		w.traffic[i] = make([]float64, backends)
	}
	return w
}

// population is n clients, of which a part are so many times heavier; the true cost of each differs
// from its traffic by a lognormal factor.
func population(random *rand.Rand, n int, part, times, sigma float64) []worldClient {
	clients := make([]worldClient, n)
	for i := range clients {
		rate := 1.0
		if random.Float64() < part {
			rate = times
		}
		clients[i] = worldClient{
			id: "client-" + strconv.Itoa(i), rate: rate,
			cost: rate * math.Exp(sigma*random.NormFloat64()), backend: -1,
		}
	}
	return clients
}

func (w *world) reconnect(i int) {
	c := &w.clients[i]
	if c.backend >= 0 {
		w.load[c.backend] -= c.cost
		w.traffic[c.instance][c.backend] -= c.rate
		w.gone(i, c.instance, c.backend)
	}
	c.instance = w.random.IntN(len(w.traffic))
	c.backend = w.place(i, c.instance)
	w.load[c.backend] += c.cost
	w.traffic[c.instance][c.backend] += c.rate
}

// connectAll brings everybody in, in random order, and lets it have been like that for long.
func (w *world) connectAll() {
	for _, i := range w.random.Perm(len(w.clients)) {
		w.reconnect(i)
	}
	for b := range w.history {
		for s := range w.history[b] {
			w.history[b][s] = w.load[b]
		}
	}
}

// run lets so many seconds pass.
func (w *world) run(length int64) {
	for range length {
		w.now++
		w.tick()
		for due := poisson(w.random, float64(len(w.clients))/w.gap); due > 0; due-- {
			w.reconnect(w.random.IntN(len(w.clients)))
		}
		for b := range w.history {
			w.history[b][w.now%300] = w.load[b]
		}
		if w.now%15 == 0 {
			w.scrape(w.figures(), w.traffic)
		}
	}
}

// figures are what the backends report, with a mean of 0.5 over all of them.
func (w *world) figures() []float64 {
	total := 0.0
	for _, l := range w.load {
		total += l
	}
	out := make([]float64, len(w.load))
	for b := range out {
		for _, l := range w.history[b] {
			out[b] += l / 300
		}
		out[b] *= (1 + 0.03*w.random.NormFloat64()) * 0.5 * float64(len(w.load)) / total
	}
	return out
}

// excess is the greatest load in terms of the mean.
func (w *world) excess() float64 {
	total, greatest := 0.0, 0.0
	for _, l := range w.load {
		total += l
		greatest = max(greatest, l)
	}
	return greatest / total * float64(len(w.load))
}

func poisson(random *rand.Rand, mean float64) int {
	n, left := 0, math.Exp(-mean)
	for p := random.Float64(); p > left; p *= random.Float64() {
		n++
	}
	return n
}
