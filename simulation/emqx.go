package simulation

// emqx is the coordinated eviction of EMQX behind a load balancer with least connections that follows the
// brokers' health (algorithms.md, 1 and 5.1). Brokers with more than the mean are donors: they refuse new
// connections for the whole time, the load balancer is given a minute to notice, then their clients are
// evicted until all brokers are even. A broker that is to be stopped is evacuated in the same way. Only
// connections count: it does nothing against a hot broker.
type emqx struct {
	w      *world
	donors []bool // by broker; of the rebalance that is under way
	since  int64  // when it began, 0 for none
	leaves []int64
	credit float64
	out    []int32
}

// emqxWait is the time that EMQX gives load balancers to notice (wait_health_check).
const emqxWait = 60 * second

func newEMQX(w *world) *emqx { return &emqx{w: w} }

func (e *emqx) gone(int32, int, ending) {}

func (e *emqx) place(_ int32, tried []int) int {
	w := e.w
	return w.fewest(func(b int) bool {
		return w.usable(b, tried) && (e.since == 0 || b >= len(e.donors) || !e.donors[b])
	})
}

func (e *emqx) tick() {
	w := e.w
	for len(e.leaves) < len(w.brokers) {
		e.leaves = append(e.leaves, 0)
	}
	for b := range w.brokers {
		switch k := &w.brokers[b]; {
		case !k.leaving:
			e.leaves[b] = 0
		case e.leaves[b] == 0:
			e.leaves[b] = w.now
		}
	}
	switch even := w.even(false); {
	case !w.happened || !w.story.over() || even:
		e.since = 0
	case e.since == 0:
		e.since = w.now
		total, n := w.sum(false)
		e.donors = e.donors[:0]
		for b := range w.brokers {
			e.donors = append(e.donors, w.brokers[b].amount(false)*float64(n) >= total)
		}
	}
}

func (e *emqx) moves() []int32 {
	w := e.w
	e.out = e.out[:0]
	from := e.evacuating()
	if from < 0 && (e.since == 0 || w.now-e.since < emqxWait || w.even(false)) {
		e.credit = 0
		return nil
	}
	for e.credit += w.s.Rate * float64(step) / float64(second); e.credit >= 1; e.credit-- {
		i := int32(-1)
		switch {
		case from < 0:
			i = w.donor(false)
		case len(w.brokers[from].clients) > 0:
			i = w.brokers[from].clients[w.random.IntN(len(w.brokers[from].clients))]
		}
		if i >= 0 {
			e.out = append(e.out, i)
		}
	}
	return e.out
}

// evacuating is the broker that is being emptied, or -1.
func (e *emqx) evacuating() int {
	for b, since := range e.leaves {
		if since > 0 && e.w.now-since >= emqxWait && e.w.brokers[b].leaving {
			return b
		}
	}
	return -1
}
