package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/proxy"
)

// A PlannedMove is one client that should change its backend.
type PlannedMove struct {
	ClientID string `json:"client_id"`
	Group    string `json:"group,omitempty"`
	From     string `json:"from"`
	// To is empty if the place is decided when the client comes.
	To string `json:"to,omitempty"`
	// Why is emptying, cooling, spreading or levelling; Reason the same for people.
	Why    string `json:"why"`
	Reason string `json:"reason"`
}

// A Plan is what a rebalance would do now.
type Plan struct {
	Cluster string `json:"cluster"`
	State   string `json:"state"`
	// Total counts the moves; Moves are the first of them.
	Total int           `json:"total"`
	Moves []PlannedMove `json:"moves"`
	// Why says why nothing is to be moved, if so, or what keeps it from being done now.
	Why string `json:"why,omitempty"`
}

// ErrNobodyMoves is returned by Rebalance while RunMoves does not run.
var ErrNobodyMoves = errors.New("nobody moves clients at the moment: mqttlb is starting or stopping, or the cluster was removed")

// Rebalance plans the smallest set of moves that levels the cluster. Unless dryRun, RunMoves carries it out; it goes
// by what is true when the turn of a client comes. At most limit moves are listed.
func (c *Cluster) Rebalance(dryRun bool, limit int) (Plan, error) {
	carrier, need := c.needToLevel()
	if carrier == nil {
		return Plan{}, fmt.Errorf("cluster %s: %w", c.options.Name, ErrNobodyMoves)
	}
	var sittings []proxy.Sitting
	if need != nil {
		sittings = c.gather(carrier, need)
	}
	plan := c.plan(sittings, dryRun, limit)
	c.deliver()
	c.stir()
	return plan, nil
}

func (c *Cluster) needToLevel() (Carrier, *balancer.Need) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.options.Moves.plan()
	o.Level = true
	return c.carrier, c.brain.Need(o, c.now())
}

// plan makes the plan, and has it carried out unless it is a dry run.
func (c *Cluster) plan(sittings []proxy.Sitting, dryRun bool, limit int) Plan {
	terms := c.terms.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	now, o := c.now(), c.options.Moves.plan()
	o.Level = true
	moves := c.brain.Plan(c.sessions(terms, sittings, now), o, now)
	p := Plan{
		Cluster: c.options.Name, State: c.brain.State().Cluster.String(),
		Total: len(moves), Moves: make([]PlannedMove, 0, min(limit, len(moves))),
	}
	words := reasons{cluster: c, groups: make(map[string]balancer.GroupView), now: now}
	for i := range moves[:min(limit, len(moves))] {
		m := &moves[i]
		p.Moves = append(p.Moves, PlannedMove{
			ClientID: m.Client.ID, Group: m.Client.Group, From: m.From, To: m.To, Why: m.Why.String(), Reason: words.of(m),
		})
	}
	if p.Why = c.mover.Paused(now); p.Why == "" && len(moves) == 0 {
		p.Why = c.whyNothing()
	}
	if !dryRun {
		c.brain.Level(now)
		c.wished = true
		c.mover.SetOptions(c.options.mover()) // which looks for a new plan at once
		c.say(slog.LevelInfo, "an operator wants the backends to be levelled", slog.Int("moves", len(moves)))
		c.followLevelling()
	}
	return p
}

// whyNothing says why a plan has no moves. The mutex is held.
func (c *Cluster) whyNothing() string {
	state, s := c.brain.State().Cluster, c.brain.Snapshot()
	serving := slices.IndexFunc(s.Backends, func(b balancer.Backend) bool { return b.Phase.Serves() }) >= 0
	switch {
	case state == balancer.Rolling:
		return "an update goes through the cluster: until it is over, only backends that drain are emptied"
	case state > balancer.Rolling:
		return "the cluster is " + state.String()
	case !serving:
		return "no backend takes clients"
	case c.even():
		return "every backend is within " + number(c.options.Moves.Imbalance*100) + " % of its fair share"
	}
	switch c.options.Strategy {
	case "adaptive", "client-hash", "maglev":
	default:
		return "the strategy " + c.options.Strategy + " gives clients no home that they could be moved to"
	}
	return "nobody is free to be moved: clients stay that are at home, that have connected or been moved lately, that have a will, or whose session lives on their broker"
}

// even tells whether the backends that take clients hold their fair shares. The mutex is held.
func (c *Cluster) even() bool {
	s, total := c.brain.Snapshot(), 0
	for i := range s.Backends {
		if s.Backends[i].Phase.Serves() {
			total += c.brain.Connections(s.Backends[i].Name)
		}
	}
	for i := range s.Backends {
		if !s.Backends[i].Phase.Serves() {
			continue
		}
		fair := s.ServingShare(i) * float64(total)
		off := math.Abs(float64(c.brain.Connections(s.Backends[i].Name)) - fair)
		if off > math.Max(1, c.options.Moves.Imbalance*fair) {
			return false
		}
	}
	return true
}

// reasons say why clients are moved, for people. The mutex is held.
type reasons struct {
	cluster *Cluster
	groups  map[string]balancer.GroupView
	shares  []float64
	now     int64
}

func (r *reasons) of(m *balancer.Move) string {
	from := r.cluster.backends[m.From]
	switch m.Why {
	case balancer.Emptying:
		if from != nil && from.why != "" {
			return m.From + " is draining: " + from.why
		}
		return m.From + " is draining"
	case balancer.Cooling:
		if from != nil && from.why != "" {
			return m.From + " is hot: " + from.why
		}
		return m.From + " is hot"
	case balancer.Spreading:
		return r.spreading(m)
	case balancer.Levelling:
		if to := r.cluster.backends[m.To]; to != nil && to.phase == balancer.Ramping {
			return m.To + " has joined and is the home of this client"
		}
		return m.To + " has room, and is where the hash puts this client"
	}
	return ""
}

func (r *reasons) spreading(m *balancer.Move) string {
	brain := r.cluster.brain
	v, known := r.groups[m.Client.Group]
	if !known {
		if v, known = brain.Group(m.Client.Group, r.now); !known {
			return "its group sits unevenly"
		}
		r.groups[m.Client.Group] = v
	}
	if r.shares == nil {
		r.shares = brain.FairShares()
	}
	i := brain.Snapshot().Index(m.From)
	if i < 0 || i >= len(r.shares) {
		return "its group sits unevenly"
	}
	return fmt.Sprintf("group %s has %d on %s, its share is %s", v.Name, v.Live[i]+v.Leased[i], m.From,
		strconv.FormatFloat(math.Round(10*r.shares[i]*float64(v.Members+v.Away))/10, 'f', -1, 64))
}

// levelling tells whether the backends are being levelled. The mutex is held.
func (c *Cluster) levelling() bool { return c.brain.Uneven() && (c.options.Moves.Auto || c.wished) }

// followLevelling tells when levelling begins and ends. The mutex is held.
func (c *Cluster) followLevelling() {
	is := c.levelling()
	c.wished = c.wished && c.brain.Uneven()
	if is == c.wasLevelling {
		return
	}
	c.wasLevelling = is
	if !is {
		c.say(slog.LevelInfo, "levelling has ended", slog.Int("moved", c.levelled))
		c.tell(Event{Kind: EventRebalance, Reason: several(c.levelled, "client") + " moved; levelling has ended"})
		return
	}
	c.levelled = 0
	why := "the set of backends has changed"
	if c.wished {
		why = "an operator wants it"
	}
	c.say(slog.LevelInfo, "levelling begins", slog.String("reason", why))
	c.tell(Event{Kind: EventRebalance, Reason: "levelling begins: " + why})
}
