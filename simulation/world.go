package simulation

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// Times in a world are nanoseconds since its beginning.
const (
	second = int64(time.Second)
	step   = second / 10

	warmUp    = 600 * second // before the event: long enough for means of five minutes and slow starts
	scrapes   = 15 * second  // between two load figures
	checks    = 5 * second   // between two looks at the health of a broker
	window    = 300          // seconds over which a load figure is the mean
	noise     = 0.03         // of all figures
	away      = 2 * second   // mean time until a client is back
	attempts  = 3            // brokers that one connect tries
	tolerance = 0.05         // how far from the mean a broker may be, and all are called even

	probeGap  = 1000 * second // after the run, clients drop this often …
	probeTime = 100 * second  // … for so long, in order to see where they come back
)

// A world is the clients, the brokers and the time of one run.
type world struct {
	s         Scenario
	random    *rand.Rand
	now       int64
	clients   []client
	brokers   []broker
	online    int
	returning calendar
	contender contender
	story     story
	start     int64 // of what is counted, the time of the event
	happened  bool  // the event has begun
	quiet     bool  // nobody is moved

	nextDrop float64 // when the next client drops on its own, in seconds
	gap      float64 // mean seconds between two such drops of one client, 0 for never
	delay    int64   // mean time until a client is back; 0 for at once
	unit     float64 // cost that uses the whole capacity of a broker

	utilisation float64 // mean part of the capacity that is in use before the event

	groups [][]int // members of each group by broker
	tried  []int   // memory of connect
	record recorder
}

// A broker is one broker.
type broker struct {
	name    string
	version string
	listed  bool // discovery knows it
	up      bool // it works
	leaving bool // the orchestrator is going to stop it
	clients []int32

	load, traffic float64
	history       [window]float64 // of load, second by second
	past          float64         // sum of history
	figure        float64         // the last one reported: a part of its capacity
	busy          float64         // instantaneous, as of the last check: a part of its capacity
	refused       int             // connects since the last second
	arrived       int             // connects that it has ever accepted
}

// open tells whether a load balancer with health checks sends clients there.
func (b *broker) open() bool { return b.listed && b.up && !b.leaving }

// newWorld returns a world in which everybody is still offline.
func newWorld(s Scenario, enter func(w *world) (contender, error)) (*world, error) {
	w := &world{
		s: s, random: rand.New(rand.NewPCG(s.Seed, 1)),
		gap: s.Reconnect.Seconds(), delay: away, start: warmUp, utilisation: usual,
	}
	if s.Event == Hot {
		w.utilisation = high
	}
	w.clients = fleet(s)
	total := 0.0
	for i := range w.clients {
		total += w.clients[i].cost
	}
	w.unit = total / float64(s.Backends) / w.utilisation
	w.groups = make([][]int, s.Groups)
	for range s.Backends {
		w.add("1")
	}
	if w.gap > 0 {
		w.nextDrop = w.random.ExpFloat64() * w.gap / float64(s.Clients)
	}
	w.story = newStory(w)
	var err error
	w.contender, err = enter(w)
	return w, err
}

// The mean part of the brokers' capacity that is in use before the event. In a cluster that is rather busy, one
// with 1.5 times the mean load is overloaded.
const usual, high = 0.5, 0.55

// add makes a new broker.
func (w *world) add(version string) int {
	k := len(w.brokers)
	w.brokers = append(w.brokers, broker{name: "broker-" + strconv.Itoa(k), version: version, listed: true, up: true})
	for g := range w.groups {
		w.groups[g] = append(w.groups[g], 0)
	}
	return k
}

// connectAll brings everybody in, in random order, and lets it have been like that for long.
func (w *world) connectAll() {
	w.contender.tick()
	for _, i := range w.random.Perm(len(w.clients)) {
		w.connect(int32(i))
	}
	for b := range w.brokers {
		k := &w.brokers[b]
		for i := range k.history {
			k.history[i] = k.load
		}
		k.past = k.load * window
	}
}

// run lets time pass until end. watch is called every second.
func (w *world) run(end int64, watch func()) {
	for w.now < end {
		w.now += step
		for _, i := range w.returning.due() {
			w.connect(i)
		}
		if w.gap > 0 {
			w.drops()
		}
		if w.now%second == 0 {
			w.second()
			watch()
		}
		if w.quiet {
			continue
		}
		for _, i := range w.contender.moves() {
			w.evict(i)
		}
	}
}

// second does what happens once a second.
func (w *world) second() {
	at := w.now / second % window
	for b := range w.brokers {
		k := &w.brokers[b]
		k.past += k.load - k.history[at]
		k.history[at] = k.load
	}
	if w.now%checks == 0 {
		for b := range w.brokers {
			k := &w.brokers[b]
			k.busy = k.load / w.unit * (1 + noise*w.random.NormFloat64())
		}
	}
	if w.now%scrapes == 0 {
		for b := range w.brokers {
			k := &w.brokers[b]
			k.figure = k.past / window / w.unit * (1 + noise*w.random.NormFloat64())
		}
	}
	if w.now >= w.start {
		w.happened = true
		w.story.next()
	}
	w.contender.tick()
	for b := range w.brokers {
		w.brokers[b].refused = 0
	}
}

// drops lets clients drop on their own.
func (w *world) drops() {
	now := float64(w.now) / float64(second)
	for w.nextDrop <= now {
		w.nextDrop += w.random.ExpFloat64() * w.gap / float64(len(w.clients))
		i := int32(w.random.IntN(len(w.clients)))
		if w.clients[i].broker < 0 {
			continue
		}
		w.clients[i].dropped = true
		w.leave(i, dropped)
		w.later(i)
	}
}

// evict disconnects a client in order to move it.
func (w *world) evict(i int32) {
	if w.clients[i].broker < 0 {
		return
	}
	w.force(i)
	w.leave(i, evicted)
	w.later(i)
}

// stop ends a broker, and with it the connections of its clients.
func (w *world) stop(b int) {
	w.brokers[b].up = false
	for len(w.brokers[b].clients) > 0 {
		i := w.brokers[b].clients[0]
		w.force(i)
		w.leave(i, dropped)
		w.later(i)
	}
}

// force counts that a client was disconnected against its will.
func (w *world) force(i int32) {
	if w.happened {
		w.clients[i].forced++
		w.record.disconnects++
	}
}

// later lets a client come back after a while.
func (w *world) later(i int32) {
	if w.delay == 0 {
		w.connect(i)
		return
	}
	w.returning.add(i, int64(w.random.ExpFloat64()*float64(w.delay)))
}

// connect brings a client in, as its load balancer decides.
func (w *world) connect(i int32) {
	w.tried = w.tried[:0]
	for range attempts {
		b := w.contender.place(i, w.tried)
		if b < 0 {
			break
		}
		if w.brokers[b].up {
			w.seat(i, b)
			return
		}
		w.contender.gone(i, b, refused)
		w.brokers[b].refused++
		w.tried = append(w.tried, b)
	}
	w.returning.add(i, max(step, int64(w.random.ExpFloat64()*float64(away))))
}

func (w *world) seat(i int32, b int) {
	c, k := &w.clients[i], &w.brokers[b]
	if c.dropped {
		c.dropped = false
		w.record.returned++
		if c.was == int32(b) {
			w.record.same++
		}
		if c.forced > 0 {
			w.record.returnedMoved++
			if c.was == int32(b) {
				w.record.sameMoved++
			}
		}
	}
	c.broker, c.was, c.seat, c.since = int32(b), int32(b), int32(len(k.clients)), w.now
	k.clients = append(k.clients, i)
	k.arrived++
	k.load += c.cost
	k.traffic += c.rate
	w.online++
	if c.group >= 0 {
		w.groups[c.group][b]++
	}
}

// leave ends the connection of a client.
func (w *world) leave(i int32, why ending) {
	c := &w.clients[i]
	b := c.broker
	k := &w.brokers[b]
	last := k.clients[len(k.clients)-1]
	k.clients[c.seat] = last
	w.clients[last].seat = c.seat
	k.clients = k.clients[:len(k.clients)-1]
	k.load -= c.cost
	k.traffic -= c.rate
	w.online--
	if c.group >= 0 {
		w.groups[c.group][b]--
	}
	c.broker = -1
	w.contender.gone(i, int(b), why)
}

// A calendar holds who comes back when.
type calendar struct {
	days  [512][]int32
	today int
	out   []int32
}

func (c *calendar) add(i int32, after int64) {
	ahead := min(1+int(after/step), len(c.days)-1)
	day := &c.days[(c.today+ahead)%len(c.days)]
	*day = append(*day, i)
}

// due moves on by a step and returns who comes back in it. The result is valid until the next call.
func (c *calendar) due() []int32 {
	c.today = (c.today + 1) % len(c.days)
	day := &c.days[c.today]
	c.out, *day = *day, c.out[:0]
	return c.out
}
