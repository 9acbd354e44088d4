package balancer

// A Kind is the kind of a client, as far as its placement goes.
type Kind uint8

// The kinds. A client that is of several is of the first, except that one without a name is anonymous.
const (
	Grouped    Kind = iota // a member of a shared-subscription group: its group is to be spread
	Fat                    // causes a notable part of the load
	Persistent             // has a session that outlives the connection: moving it costs the broker
	Fleeting               // has a name and no session worth keeping
	Anonymous              // has no name: nothing to be sticky to
)

// String is the name of the kind as metrics and the API show it.
func (k Kind) String() string {
	switch k {
	case Grouped:
		return "grouped"
	case Fat:
		return "fat"
	case Persistent:
		return "persistent"
	case Fleeting:
		return "fleeting"
	case Anonymous:
		return "anonymous"
	}
	return "unknown"
}

// choices is the heart of adaptive: by state and kind, the name of the strategy (algorithms.md, 6).
// Where it goes beyond the text there: heavy clients are placed by load in every state that has load
// figures, because the hash would take them from where they were put before; and groups are spread in
// every state, as that takes nothing but counts.
func choices() [Degraded + 1][Anonymous + 1]string {
	return [...][Anonymous + 1]string{
		//            Grouped         Fat              Persistent       Fleeting         Anonymous
		Balanced:   {"group-spread", "fat-aware", "client-hash", "client-hash", "metric-wrr"},
		Scaling:    {"group-spread", "fat-aware", "client-hash", "client-hash", "metric-wrr"},
		Rolling:    {"group-spread", "version-aware", "version-aware", "version-aware", "version-aware"},
		Overloaded: {"group-spread", "fat-aware", "client-hash", "metric-wrr", "metric-wrr"},
		Degraded:   {"group-spread", "client-hash", "client-hash", "client-hash", "round-robin"},
	}
}

// Choice is the name of the strategy that adaptive uses for a kind of client in a state.
func Choice(s ClusterState, k Kind) string { return choices()[s][k] }

// Adaptive is the strategy adaptive: the state of the cluster and the kind of the client choose the
// strategy that decides, and its promises hold. It belongs to one caller like every strategy.
type Adaptive struct {
	heavy   *Heavy
	state   ClusterState
	chosen  [Degraded + 1][Anonymous + 1]Strategy
	hash    *clientHash
	metric  *metricWRR
	rolling *versionAware
}

// NewAdaptive returns an adaptive strategy in state BALANCED. Whoever decides for members of groups too
// asks Groups first, in every state; the members that Groups has no room for are placed by hash. An
// unknown o.Anonymous is an error.
func NewAdaptive(o Options) (*Adaptive, error) {
	a := &Adaptive{heavy: o.Heavy, metric: newMetricWRR(o.Seed), rolling: &versionAware{}}
	anonymous, err := newAnonymous(o)
	if err != nil {
		return nil, err
	}
	if _, same := anonymous.(*metricWRR); same {
		anonymous = a.metric
	}
	a.hash = &clientHash{bound: o.BoundedLoad, node: o.NodeScope, anonymous: anonymous}
	byName := map[string]Strategy{
		"client-hash":   a.hash,
		"metric-wrr":    a.metric,
		"round-robin":   newRoundRobin(o.Seed),
		"version-aware": a.rolling,
		"group-spread":  a.hash,
		"fat-aware":     a.hash,
	}
	if o.Heavy != nil {
		byName["fat-aware"] = &fatAware{heavy: o.Heavy, rest: a.hash, bound: o.BoundedLoad}
	}
	for state, row := range choices() {
		for kind, name := range row {
			a.chosen[state][kind] = byName[name]
			if Kind(kind) == Anonymous && name == "metric-wrr" {
				a.chosen[state][kind] = anonymous // as configured
			}
		}
	}
	return a, nil
}

// Enter takes over the state of the cluster.
func (a *Adaptive) Enter(s State) {
	a.state, a.rolling.target = s.Cluster, s.Target
}

// Follow implements Follower.
func (a *Adaptive) Follow(f *Forecast) {
	a.metric.Follow(f)
	if a.heavy != nil {
		a.heavy.Follow(f)
	}
}

// Pick implements Strategy.
func (a *Adaptive) Pick(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	return a.choose(c).Pick(c, s, seats)
}

// Preview implements Previewer.
func (a *Adaptive) Preview(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	return Preview(a.choose(c), c, s, seats)
}

// choose is the strategy for a client now. A session that lives on one broker stays with the hash, whatever
// the state: there is nothing to gain by moving a client away from its messages.
func (a *Adaptive) choose(c Client) Strategy {
	if a.hash.tied(c) {
		return a.hash
	}
	return a.chosen[a.state][a.Kind(c)]
}

// Kind is the kind of a client.
func (a *Adaptive) Kind(c Client) Kind {
	switch {
	case c.ID == "":
		return Anonymous
	case c.Group != "":
		return Grouped
	case a.heavy != nil && a.heavy.isHeavy(c.ID):
		return Fat
	case c.Persistent:
		return Persistent
	}
	return Fleeting
}
