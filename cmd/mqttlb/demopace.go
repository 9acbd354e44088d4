package main

import "time"

// A demoPace says when things happen. The times of a round are counted from its beginning.
type demoPace struct {
	duration    time.Duration // 0 = round after round
	ramp        time.Duration // the clients connect for the first time
	leave, back time.Duration // the broker is away between the two
	end         time.Duration // of a round
	homeward    time.Duration // over which the clients of a broker that is back return
	wander      time.Duration // in which every client reconnects once on its own, on average
	reconnect   time.Duration // the longest that a client waits before it reconnects
	patience    time.Duration // how much longer than planned anything may take
}

// demoRound is how long a round takes when there is no end to them.
const demoRound = time.Minute

func newDemoPace(duration time.Duration) demoPace {
	round := duration
	if round == 0 {
		round = demoRound
	}
	return demoPace{
		duration: duration,
		ramp:     min(2*time.Second, round/10),
		leave:    round / 3, back: round * 2 / 3, end: round,
		homeward:  round / 6,
		wander:    round,
		reconnect: min(time.Second, round/20),
		patience:  5 * time.Second,
	}
}
