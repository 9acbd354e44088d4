package metrics

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttlb/mqttlb/balancer"
)

// Sources are asked when somebody scrapes. A nil function is not asked.
type Sources struct {
	// Version, Commit and GoVersion are the labels of build_info.
	Version, Commit, GoVersion string
	Traffic                    func() Traffic
	Memory                     func() Memory
	Clusters                   func() []Cluster
}

// Route is one route of a listener.
type Route struct {
	Listener, Name string
	Connections    int
}

// Traffic is what the data path has counted.
type Traffic struct {
	Connections       map[string]int // open, by listener
	Routes            []Route        // with their open connections
	Waiting           map[string]int // those that have sent CONNECT and wait to be let in
	Bytes             [2]uint64      // up (from clients), down
	Packets           [2]map[string]uint64
	Memory            int64 // bytes
	HeadersTrimmed    uint64
	Handshakes        int // of TLS, under way
	Nonconforming     map[string]uint64
	AccessLogsDropped uint64
}

// A Cluster is the state of one broker cluster.
type Cluster struct {
	Name string
	// State is the name of a balancer.ClusterState.
	State    string
	Sticky   float64
	Backends []Backend
	// Groups and Members count shared-subscription groups and who has a seat in them, Spread is the largest
	// difference of members of one group between two usable backends of equal weight.
	Groups, Members, Spread int
	// Learned counts the clients that are remembered with a group that they have subscribed to.
	Learned int
	// Pending counts the moves of clients that have not begun, Away the clients that are being moved or have not come
	// again, Lost those that did not within five minutes. Levelling tells that the backends are being levelled.
	Pending, Away int
	Lost          uint64
	Levelling     bool
	// Sources are the local addresses to dial from, if any are configured.
	Sources []Source
}

// A Source is a local address that backends are dialled from.
type Source struct {
	Address string
	// Exhausted is how often it had no port left.
	Exhausted uint64
}

// Memory is what the process uses, and may.
type Memory struct {
	// Used and Limit are bytes; Limit is 0 where there is none.
	Used, Limit uint64
	// Pressure is 0 while there is enough, 1 while new clients are refused, 2 while those are closed as well that have
	// not sent their CONNECT.
	Pressure int
}

// A Backend is the state of one broker.
type Backend struct {
	Name string
	// Phase is the name of a balancer.Phase.
	Phase string
	// Removed tells that discovery does not name the backend any more.
	Removed bool
	// Circuit is the name of a state of its circuit; empty means closed.
	Circuit     string
	Weight      float64
	Connections int
	// Factor scales the weight where clients are placed by load.
	Factor float64
	// Load is what the broker reports, 0…1, Reported when that was read; the zero time if it never was.
	Load     float64
	Reported time.Time
}

// circuitStates are the values of the label state of a circuit; the first is the usual one.
var circuitStates = [...]string{"closed", "open", "half_open"}

// Directions are the values of the label direction, in the order of Traffic's arrays.
var directions = [2]string{"up", "down"}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mqttlb_"+name, help, labels, nil)
}

var (
	descConnections = desc("connections", "Open client connections.", "listener")
	descRoutes      = desc("route_connections", "Open client connections of the routes of listeners.", "listener", "route")
	descWaiting     = desc("connects_waiting", "Clients that have sent CONNECT and wait to be let in, because there are too many for the listener's rate.", "listener")
	descBytes       = desc("bytes_total", "Bytes carried; up is from clients to brokers.", "direction")
	descPackets     = desc("packets_total", "MQTT packets carried, by type.", "direction", "type")
	descMemory      = desc("sessions_bytes", "Memory held for sessions and their pending bytes.")
	descTrimmed     = desc("proxy_header_trimmed_total", "PROXY headers from which a field was left out.")
	descShaking     = desc("tls_handshakes_under_way", "TLS handshakes with clients that have begun and are not done, or wait for their turn.")
	descOdd         = desc("nonconforming_total", "CONNECT packets that were forwarded although they deviate from the standard.", "kind")
	descLogDropped  = desc("access_log_dropped_total", "Access log lines that were not written because the log was too slow.")
	descSticky      = desc("sticky_ratio", "Share of clients with an id that went where they belong: home by hash, or to their seat in their group.", "cluster")
	descState       = desc("cluster_state", "1 for the state that the cluster is in, 0 for the others.", "cluster", "state")
	descGroups      = desc("groups", "Shared-subscription groups with members.", "cluster")
	descMembers     = desc("group_members", "Members of groups that have a client id and are connected or have a seat that is kept for them.", "cluster")
	descSpread      = desc("group_spread_max", "Largest difference of members of one group between two usable backends of equal weight; 0 or 1 is as even as it gets.", "cluster")
	descLearned     = desc("learned_clients", "Clients that are remembered with the shared-subscription group that they have subscribed to.", "cluster")
	descPending     = desc("moves_pending", "Moves of clients that are planned and have not begun.", "cluster")
	descAway        = desc("moves_in_flight", "Clients that are being moved, or were sent away and have not come again yet.", "cluster")
	descLost        = desc("evicted_lost_total", "Clients that were moved and did not come again within five minutes.", "cluster")
	descLevelling   = desc("levelling", "1 while the connections of the backends are being levelled.", "cluster")
	descExhausted   = desc("source_exhausted_total", "Attempts to dial a backend from this local address that found no free port.", "cluster", "source")
	descUsed        = desc("memory_used_bytes", "Memory that counts towards the limit.")
	descLimit       = desc("memory_limit_bytes", "Memory that the process may use, from its cgroup or GOMEMLIMIT; 0 if there is no limit.")
	descPressure    = desc("memory_pressure", "0 while there is enough memory, 1 while new clients are refused, 2 while clients without a CONNECT are closed as well.")
	descPhase       = desc("backend_phase", "1 for the phase that the backend is in.", "cluster", "backend", "phase")
	descWeight      = desc("backend_weight", "Weight of the backend in placement: capacity times ramp.", "cluster", "backend")
	descCircuit     = desc("backend_circuit", "1 for the state that the backend's circuit is in, 0 for the others.", "cluster", "backend", "state")
	descUp          = desc("backend_up", "0 while the backend is down, else 1.", "cluster", "backend")
	descFactor      = desc("backend_load_factor", "What the backend's load makes of its weight where clients are placed by load; 1 while nothing is known of it.", "cluster", "backend")
	descLoad        = desc("backend_load", "Part of its capacity that the backend uses by its own account, as a mean over the window.", "cluster", "backend")
	descReported    = desc("backend_load_timestamp_seconds", "When the load of the backend was last read.", "cluster", "backend")
	descConnected   = desc("backend_connections", "Open connections to the backend.", "cluster", "backend")
	descBuild       = desc("build_info", "Always 1; the labels tell what is running.", "version", "commit", "go_version")
)

// stateCollector turns Sources into metrics.
type stateCollector struct{ Sources }

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descConnections, descRoutes, descWaiting, descBytes, descPackets, descMemory, descTrimmed, descShaking, descOdd, descLogDropped, descSticky, descState,
		descGroups, descMembers, descSpread, descLearned, descPending, descAway, descLost, descLevelling,
		descExhausted, descUsed, descLimit, descPressure, descPhase, descWeight, descUp, descCircuit, descFactor, descLoad, descReported, descConnected, descBuild,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descBuild, 1, c.Version, c.Commit, c.GoVersion)
	if c.Traffic != nil {
		t := c.Traffic()
		for listener, n := range t.Connections {
			gauge(descConnections, float64(n), listener)
		}
		for _, r := range t.Routes {
			gauge(descRoutes, float64(r.Connections), r.Listener, r.Name)
		}
		for listener, n := range t.Waiting {
			gauge(descWaiting, float64(n), listener)
		}
		for d, direction := range directions {
			count(descBytes, t.Bytes[d], direction)
			for kind, n := range t.Packets[d] {
				count(descPackets, n, direction, kind)
			}
		}
		gauge(descMemory, float64(t.Memory))
		count(descTrimmed, t.HeadersTrimmed)
		gauge(descShaking, float64(t.Handshakes))
		for kind, n := range t.Nonconforming {
			count(descOdd, n, kind)
		}
		count(descLogDropped, t.AccessLogsDropped)
	}
	if c.Memory != nil {
		m := c.Memory()
		gauge(descUsed, float64(m.Used))
		gauge(descLimit, float64(m.Limit))
		gauge(descPressure, float64(m.Pressure))
	}
	if c.Clusters == nil {
		return
	}
	for _, cl := range c.Clusters() {
		gauge(descSticky, cl.Sticky, cl.Name)
		for state := balancer.Balanced; state <= balancer.Degraded; state++ {
			is := 0.0
			if state.String() == cl.State {
				is = 1
			}
			gauge(descState, is, cl.Name, state.String())
		}
		gauge(descGroups, float64(cl.Groups), cl.Name)
		gauge(descMembers, float64(cl.Members), cl.Name)
		gauge(descSpread, float64(cl.Spread), cl.Name)
		gauge(descLearned, float64(cl.Learned), cl.Name)
		gauge(descPending, float64(cl.Pending), cl.Name)
		gauge(descAway, float64(cl.Away), cl.Name)
		count(descLost, cl.Lost, cl.Name)
		levelling := 0.0
		if cl.Levelling {
			levelling = 1
		}
		gauge(descLevelling, levelling, cl.Name)
		for _, s := range cl.Sources {
			count(descExhausted, s.Exhausted, cl.Name, s.Address)
		}
		for _, b := range cl.Backends {
			c.backend(&b, func(d *prometheus.Desc, v float64, labels ...string) {
				gauge(d, v, append([]string{cl.Name, b.Name}, labels...)...)
			})
		}
	}
}

// backend is the part about one backend. One that discovery has removed only gives its connections away.
func (c *stateCollector) backend(b *Backend, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	gauge(descPhase, 1, b.Phase)
	gauge(descConnected, float64(b.Connections))
	gauge(descWeight, b.Weight)
	if b.Removed {
		return
	}
	up := 1.0
	if b.Phase == balancer.Down.String() {
		up = 0
	}
	gauge(descUp, up)
	for _, state := range circuitStates {
		is := 0.0
		if state == cmp.Or(b.Circuit, circuitStates[0]) {
			is = 1
		}
		gauge(descCircuit, is, state)
	}
	gauge(descFactor, b.Factor)
	if !b.Reported.IsZero() {
		gauge(descLoad, b.Load)
		gauge(descReported, float64(b.Reported.UnixNano())/1e9)
	}
}
