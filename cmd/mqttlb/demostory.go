package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A demoStory decides what happens next. It looks at the seats again and again, and goes on to its next
// act when the time has come and what should have happened has happened.
type demoStory struct {
	pace  demoPace
	stage *demoStage
	fleet *demoFleet

	began     time.Time
	round     time.Time // when the round began
	now       time.Time // of the current step
	act       demoAct
	victim    int       // the broker that leaves in this round
	since     time.Time // when it left
	displaced []int     // its clients
	due       float64   // reconnects that should have happened by now
	events    []demoEvent
	outages   []demoOutage
	err       error // why the story has ended early
}

// A demoEvent is one line of the log beneath the table.
type demoEvent struct {
	At   time.Duration
	Text string
}

// A demoOutage is what the summary says about one absence of a broker.
type demoOutage struct {
	Broker    string
	Clients   int           // that sat there
	Recovered time.Duration // until the last of them was served again; 0 while it is not
	Home      bool          // everybody who can be at home is
}

type demoAct int

const (
	demoGathering demoAct = iota // the clients connect
	demoEveryday                 // all is well; devices reconnect now and then
	demoLosing                   // a broker is away, its clients look for another one
	demoMissing                  // … and have found one
	demoReturning                // it is back; its clients return
	demoSettled                  // … and all is well again
)

func newDemoStory(pace demoPace, stage *demoStage, fleet *demoFleet) *demoStory {
	now := time.Now()
	s := &demoStory{pace: pace, stage: stage, fleet: fleet, began: now, round: now, now: now, victim: 1}
	n := len(stage.seats.seats)
	s.say("%s clients connect, %s of them with MQTT 5, %s with MQTT 3.1.1", count(n), count(n-n/demoOldClients), count(n/demoOldClients))
	return s
}

// play steps through the story until it ends, has gone wrong, or ctx ends, and shows each picture.
func (s *demoStory) play(ctx context.Context, show func(*demoState)) {
	tick := time.NewTicker(demoFrame)
	defer tick.Stop()
	for {
		show(s.stage.picture(s))
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if s.step(now) || s.err != nil {
				show(s.stage.picture(s))
				return
			}
		}
	}
}

// step moves the story on to now, and tells whether it has ended.
func (s *demoStory) step(now time.Time) (ended bool) {
	passed := now.Sub(s.now)
	s.now = now
	switch s.act {
	case demoGathering:
		s.gather()
	case demoEveryday:
		s.wander(passed, s.pace.leave)
		if s.reached(s.pace.leave) && s.complete(s.pace.leave) {
			s.leave()
		}
	case demoLosing:
		s.rescue()
	case demoMissing:
		if s.reached(s.pace.back) {
			s.comeBack()
		}
	case demoReturning:
		s.goHome(passed)
	case demoSettled:
		s.wander(passed, s.pace.end)
		if s.reached(s.pace.end) && s.complete(s.pace.end) {
			return s.nextRound()
		}
	}
	return false
}

func (s *demoStory) reached(t time.Duration) bool { return s.now.Sub(s.round) >= t }

// late tells that something planned for t has taken too long, and ends the story if so.
func (s *demoStory) late(t time.Duration, format string, args ...any) {
	if s.reached(t + s.pace.patience) {
		s.err = fmt.Errorf("%w: %s", errDemoStuck, fmt.Sprintf(format, args...))
	}
}

func (s *demoStory) say(format string, args ...any) {
	s.events = append(s.events, demoEvent{At: s.now.Sub(s.began), Text: fmt.Sprintf(format, args...)})
}

// gather waits until every client is connected.
func (s *demoStory) gather() {
	at, seated := s.stage.seats.spread(s.stage.seats.everybody())
	if missing := len(s.fleet.clients) - seated; missing > 0 {
		s.late(s.pace.leave, "missing %s that should have connected", demoClients(missing))
		return
	}
	s.say("all are connected: %s", s.spread(at, ""))
	s.fleet.speak()
	s.act = demoEveryday
}

// complete tells that every client is connected, which was planned for t.
func (s *demoStory) complete(t time.Duration) bool {
	_, seated := s.stage.seats.spread(s.stage.seats.everybody())
	missing := len(s.fleet.clients) - seated
	if missing > 0 {
		s.late(t, "missing %s that should have reconnected", demoClients(missing))
	}
	return missing == 0
}

// leave stops a broker, with everything that is connected to it.
func (s *demoStory) leave() {
	for at, _ := s.stage.seats.spread(s.stage.seats.everybody()); at[s.victim] == 0; {
		s.victim = (s.victim + 1) % len(at) // nobody would notice
	}
	s.since = s.now
	s.displaced = s.stage.seats.leave(s.victim)
	s.say("%s leaves, and with it the connections of %s", s.name(), demoClients(len(s.displaced)))
	s.stage.brokers[s.victim].Stop()
	s.outages = append(s.outages, demoOutage{Broker: s.name(), Clients: len(s.displaced)})
	s.act = demoLosing
}

// rescue waits until the clients of the broker that has left are served by the others.
func (s *demoStory) rescue() {
	at, seated := s.stage.seats.spread(s.displaced)
	if missing := len(s.displaced) - seated; missing > 0 {
		s.late(s.pace.back, "%s of %s without another broker", demoClients(missing), s.name())
		return
	}
	took := s.now.Sub(s.since)
	s.outages[len(s.outages)-1].Recovered = took
	s.say("all of them are served again after %.1f s: %s", took.Seconds(), s.spread(at, "+"))
	s.act = demoMissing
}

// comeBack starts the broker again.
func (s *demoStory) comeBack() {
	s.stage.seats.back(s.victim)
	if err := s.stage.brokers[s.victim].Restart(); err != nil {
		s.err = fmt.Errorf("%w: %w", errDemoStuck, err)
		return
	}
	s.say("%s is back; whoever has its home there returns when it reconnects", s.name())
	s.due = 0
	s.act = demoReturning
}

// goHome lets the clients that are not at home reconnect one after another, until all are home that can
// be. That the others stay makes the picture clear: as long as they have more than their share, bounded
// load would send some of them to the broker that is back.
func (s *demoStory) goHome(passed time.Duration) {
	away := s.homesick()
	if len(away) == 0 && s.complete(s.pace.end) {
		s.outages[len(s.outages)-1].Home = true
		s.say("all are home again, each on the broker that it had before%s", s.exceptions())
		s.due = 0
		s.act = demoSettled
		return
	}
	s.late(s.pace.end, "%s not at home again", demoClients(len(away)))
	s.due += float64(len(s.displaced)) * passed.Seconds() / s.pace.homeward.Seconds()
	s.reconnect(away)
}

// exceptions says who cannot be at home.
func (s *demoStory) exceptions() string {
	if n := len(s.stage.seats.away()); n > 0 {
		return fmt.Sprintf(", but %s whose broker has its share already", demoClients(n))
	}
	return ""
}

// wander lets devices reconnect now and then, those first that are not at home, and stops in time for
// everybody to be there at the next turn of the story.
func (s *demoStory) wander(passed, until time.Duration) {
	if s.reached(until - 2*s.pace.reconnect) {
		return
	}
	everybody := s.stage.seats.everybody()
	s.due += float64(len(everybody)) * passed.Seconds() / s.pace.wander.Seconds()
	if away := s.homesick(); len(away) > 0 {
		s.reconnect(away)
	}
	s.reconnect(everybody)
}

// reconnect picks as many of the clients as are due.
func (s *demoStory) reconnect(clients []int) {
	for ; s.due >= 1 && len(clients) > 0; s.due-- {
		i := rand.IntN(len(clients))
		s.fleet.reconnect(clients[i])
		clients = slices.Delete(clients, i, i+1)
	}
}

// homesick are the clients that sit elsewhere and would get home if they reconnected now.
func (s *demoStory) homesick() []int {
	return slices.DeleteFunc(s.stage.seats.away(), func(client int) bool {
		home := demoBrokerName(s.stage.seats.seat(client).home)
		return s.stage.cluster.Explain(s.stage.seats.ids[client], false).Backend != home
	})
}

// nextRound ends the story, or begins it anew with another broker.
func (s *demoStory) nextRound() (ended bool) {
	if s.pace.duration > 0 {
		s.say("the end")
		return true
	}
	s.round, s.act = s.now, demoEveryday
	s.victim = (s.victim + 1) % len(s.stage.brokers)
	return false
}

func (s *demoStory) name() string { return demoBrokerName(s.victim) }

// spread says in words how many clients sit where.
func (s *demoStory) spread(at []int, sign string) string {
	var words []string
	for b, n := range at {
		if n > 0 {
			words = append(words, fmt.Sprintf("%s %s%s", demoBrokerName(b), sign, count(n)))
		}
	}
	return strings.Join(words, ", ")
}

func demoClients(n int) string {
	if n == 1 {
		return "1 client"
	}
	return count(n) + " clients"
}
