package main

import (
	"fmt"
	"sync"

	"github.com/mqttlb/mqttlb/balancer"
)

// demoSeats knows who sits where. The brokers and the clients report to it, the story and the view ask it.
type demoSeats struct {
	ids     []string       // of the clients
	index   map[string]int // of the clients, by id
	brokers map[string]int // by name

	mu     sync.Mutex
	seats  []demoSeat // of the clients
	gone   []bool     // which brokers are away
	totals demoTotals
}

// A demoSeat is what is known about one client. Brokers are numbers.
type demoSeat struct {
	home int // by hash, whoever is there
	at   int // now
	last int // the one before, or the same
	open int // connections; two while a new one replaces an old one that its broker has not missed yet
	// What has ever happened to the client.
	fled, spilled, returned bool
}

// demoNowhere is where a client sits that is not connected.
const demoNowhere = -1

// demoTotals count since the start.
type demoTotals struct {
	Connects  int // sessions that began
	Faithful  int // sessions that began on the broker of the one before
	Lost      int // connections that neither the client nor the demo has ended
	Published int
	Delivered int
	Crossed   int // delivered from one broker to another
	Fled      int // clients that were elsewhere while their broker was away
	Spilled   int // clients that were elsewhere because their broker had its share
	Returned  int // clients that came home from elsewhere
}

// newDemoSeats names the clients and finds their homes: the broker that the hash gives them.
func newDemoSeats(brokers, clients int) (*demoSeats, error) {
	s := &demoSeats{
		ids: make([]string, clients), index: make(map[string]int), brokers: make(map[string]int),
		seats: make([]demoSeat, clients), gone: make([]bool, brokers),
	}
	set := make([]balancer.Backend, brokers)
	for i := range set {
		set[i].Name = demoBrokerName(i)
		s.brokers[set[i].Name] = i
	}
	snapshot := balancer.NewSnapshot(1, "", set) // the configuration has no hash_key either
	hash, err := balancer.New("client-hash", balancer.Options{})
	if err != nil {
		return nil, err
	}
	empty := balancer.NewSeats(snapshot)
	for i := range s.ids {
		id := fmt.Sprintf("car-%03d", i+1)
		picked, _ := hash.Pick(balancer.Client{ID: id, Ordinal: -1}, snapshot, empty)
		home := s.brokers[snapshot.Backends[picked].Name]
		s.ids[i], s.index[id], s.seats[i] = id, i, demoSeat{home: home, at: demoNowhere, last: demoNowhere}
	}
	return s, nil
}

// demoBrokerName is the name of a broker, the same in mqttlb's configuration and for the viewer.
func demoBrokerName(broker int) string { return fmt.Sprintf("broker-%d", broker+1) }

// connected hears that a client has got a session. Clients that are not of the demo are welcome and not
// counted.
func (s *demoSeats) connected(name, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ours := s.index[id]
	if !ours {
		return
	}
	c, broker := &s.seats[i], s.brokers[name]
	s.totals.Connects++
	switch {
	case broker == c.home:
		if c.last != demoNowhere && c.last != c.home {
			demoOnce(&c.returned, &s.totals.Returned)
		}
	case s.gone[c.home]:
		demoOnce(&c.fled, &s.totals.Fled)
	default:
		demoOnce(&c.spilled, &s.totals.Spilled)
	}
	if c.last == broker {
		s.totals.Faithful++
	}
	c.open++
	c.at, c.last = broker, broker
}

// demoOnce counts the first time that something becomes true.
func demoOnce(fact *bool, count *int) {
	if !*fact {
		*fact = true
		*count++
	}
}

// disconnected hears that a connection has ended.
func (s *demoSeats) disconnected(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ours := s.index[id]
	if !ours {
		return
	}
	c := &s.seats[i]
	if c.open--; c.open == 0 {
		c.at = demoNowhere
	}
}

// count changes the totals.
func (s *demoSeats) count(f func(*demoTotals)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.totals)
}

// delivered hears that a client has got a message from another.
func (s *demoSeats) delivered(from, to int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals.Delivered++
	if s.seats[from].last != s.seats[to].last {
		s.totals.Crossed++
	}
}

// leave notes that a broker is about to leave, and returns who sits there.
func (s *demoSeats) leave(broker int) (clients []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[broker] = true
	for i := range s.seats {
		if s.seats[i].at == broker {
			clients = append(clients, i)
		}
	}
	return clients
}

// back notes that a broker is about to return.
func (s *demoSeats) back(broker int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[broker] = false
}

// spread counts where clients sit: all of them, or the given ones.
func (s *demoSeats) spread(clients []int) (at []int, seated int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at = make([]int, len(s.gone))
	for _, i := range clients {
		if b := s.seats[i].at; b != demoNowhere {
			at[b]++
			seated++
		}
	}
	return at, seated
}

// seat returns what is known about a client.
func (s *demoSeats) seat(client int) demoSeat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seats[client]
}

// everybody is all clients.
func (s *demoSeats) everybody() []int {
	all := make([]int, len(s.seats))
	for i := range all {
		all[i] = i
	}
	return all
}

// away are the clients that sit on another broker than their home.
func (s *demoSeats) away() (clients []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.seats {
		if c.at != demoNowhere && c.at != c.home {
			clients = append(clients, i)
		}
	}
	return clients
}

// fill puts the seats into a picture.
func (s *demoSeats) fill(p *demoState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Clients, p.Totals = len(s.seats), s.totals
	for b := range p.Brokers {
		p.Brokers[b].Gone = s.gone[b]
	}
	for _, c := range s.seats {
		p.Brokers[c.home].Own++
		if c.at == demoNowhere {
			continue
		}
		p.Seated++
		p.Brokers[c.at].Clients++
		if c.at == c.home {
			p.Brokers[c.at].AtHome++
			p.AtHome++
		}
	}
}
