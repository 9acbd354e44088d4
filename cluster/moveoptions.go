package cluster

import (
	"cmp"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/proxy"
)

// MoveOptions say how clients are moved.
type MoveOptions struct {
	// Auto moves clients without being asked: after a join, to repair a group, to cool a backend.
	Auto bool
	// Rate is how many clients per second may be moved in the whole cluster, by all instances together; 0 means 100.
	// One backend loses at most half as many.
	Rate float64
	// InFlight is the part of the connections that may be away at once, though at least ten clients, or, from 1 on, a
	// number of clients; 0 means 0.02.
	InFlight float64
	// Imbalance is the part by which a backend may differ from its fair share; 0 means 0.05.
	Imbalance float64
	// MinAge is how old a connection must be before it is moved.
	MinAge time.Duration
	// Absence is how long a backend that discovery does not name any more keeps its connections.
	Absence time.Duration
	// Deadline is how long after the begin of a drain clients are cut off who cannot be moved gently; 0 is never.
	Deadline time.Duration
	// DrainWill and RebalanceWill say what becomes of wills.
	DrainWill, RebalanceWill WillPolicy
	// Notify sends a DISCONNECT to clients that speak MQTT 5.
	Notify bool
}

// A WillPolicy says what becomes of a client's will when the client is moved.
type WillPolicy uint8

// The policies.
const (
	SkipWill     WillPolicy = iota // a client whose will would be published is not moved
	PublishWill                    // it is published
	SuppressWill                   // the broker is told DISCONNECT in the name of the client
)

func (o MoveOptions) withDefaults() MoveOptions {
	o.Rate = cmp.Or(o.Rate, 100)
	o.InFlight = cmp.Or(o.InFlight, 0.02)
	o.Imbalance = cmp.Or(o.Imbalance, 0.05)
	return o
}

// leastInFlight is how many clients of a small cluster may be away at once: one at a time would take for ever.
const leastInFlight = 10

// mover are the settings of the Mover.
func (o *Options) mover() balancer.MoverOptions {
	return balancer.MoverOptions{
		Plan: o.Moves.plan(), Rate: o.Moves.Rate, InFlight: o.Moves.InFlight, InFlightLeast: leastInFlight,
		Instances: o.Groups.Instances, Seed: o.Placement.Seed,
	}
}

// plan are the settings of plans.
func (o *MoveOptions) plan() balancer.PlanOptions {
	age := int64(o.MinAge)
	if age == 0 {
		age = -1 // it does not matter
	}
	return balancer.PlanOptions{
		Goal: o.Imbalance, MinAge: age, Absence: int64(o.Absence), Manual: !o.Auto,
		KeepWills: o.DrainWill == SkipWill, MoveWills: o.RebalanceWill != SkipWill,
	}
}

// perBackend is how many clients per second leave one backend unless somebody orders another rate.
func (o *MoveOptions) perBackend() float64 { return o.Rate / 2 }

// The reason codes of a DISCONNECT that announces a move (protocol.md, 4.7): the backend is going down, or not.
const (
	serverShuttingDown   = 0x8B
	administrativeAction = 0x98
)

// eviction is how a move is carried out. It always has a reason string: paho Python does not read a code without one.
func (o *MoveOptions) eviction(m *balancer.Move) proxy.Eviction {
	e := proxy.Eviction{Session: proxy.Handle(m.Handle), ClientID: m.Client.ID, Force: m.Forced}
	policy, code, text := o.RebalanceWill, byte(administrativeAction), "rebalancing"
	if m.Why == balancer.Emptying {
		policy, code, text = o.DrainWill, serverShuttingDown, "draining"
	}
	e.Suppress = policy == SuppressWill
	if o.Notify {
		e.Notify, e.Text = code, text
	}
	return e
}
