package balancer

// A Backend is one broker of a cluster as the brain sees it.
type Backend struct {
	// Name is the stable name (StatefulSet pod, configured name). Placement hangs on it, never on the
	// address, so that a broker that returns with a new address keeps its clients.
	Name string
	// Address is IP:port. Sources of backends resolve host names before a Backend gets here.
	Address string
	// Host is the host as it was configured or discovered; placeholders such as {host} show it.
	Host string
	// Capacity is the relative size, 1 for a usual broker. Zero and below mean 1.
	Capacity float64
	// Labels are free facts about the backend, for example its version.
	Labels map[string]string
	// Phase says what the backend may be used for. The zero value is Ready.
	Phase Phase
	// Ramp scales the capacity of a backend that has just joined, in (0,1]. Zero means 1.
	Ramp float64
	// Left tells that discovery does not name the backend any more. It is only still here because it holds
	// connections: it is Draining, takes no client even if nobody else is there, has no weight, and no decision
	// about a client depends on it. Brain fills this in.
	Left bool
}

// weight is the static share of a backend: capacity times ramp (algorithms.md, client-hash: load
// figures never enter here, or homes would wander with every scrape). Whatever the source says, it is a
// number that can be divided by and summed up.
func (b *Backend) weight() float64 {
	w := b.capacity()
	if b.Ramp > 0 && b.Ramp < 1 {
		w *= max(b.Ramp, minCapacity)
	}
	return w
}

// capacity is Capacity with its default, and within bounds.
func (b *Backend) capacity() float64 {
	if b.Capacity > 0 { // not zero, not below, not NaN
		return min(max(b.Capacity, minCapacity), maxCapacity)
	}
	return 1
}

const minCapacity, maxCapacity = 1e-6, 1e9

// A Phase is the stage of life of a backend.
type Phase uint8

// The phases. Their order is not meaningful; rank in snapshot.go orders them.
const (
	Ready    Phase = iota // takes clients
	Joining               // known, but has not been healthy for long enough
	Ramping               // takes clients with a growing weight
	Hot                   // overloaded: takes clients only when no other can
	Draining              // gives its clients away, takes none unless nobody else is left
	Down                  // takes no clients at all
)

// Serves tells whether a backend in this phase takes clients in the usual course of things, or holds those that it has.
func (p Phase) Serves() bool { return p == Ready || p == Ramping || p == Hot }

// String is the name of the phase as metrics and the API show it.
func (p Phase) String() string {
	switch p {
	case Ready:
		return "ready"
	case Joining:
		return "joining"
	case Ramping:
		return "ramping"
	case Hot:
		return "hot"
	case Draining:
		return "draining"
	case Down:
		return "down"
	}
	return "unknown"
}

// A Client is what a decision may know about who asks.
type Client struct {
	// ID is the client id as it stood in CONNECT, byte for byte. Empty means that the broker will
	// assign one; such clients are anonymous and never share one hash key.
	ID string
	// Group is the shared-subscription group of the client, empty when it has none.
	Group string
	// Ordinal is the client's number inside its group, from 0; below 0 when it has none.
	Ordinal int
	// Persistent tells that the session outlives the connection.
	Persistent bool
	// At is the backend that has the client's session although no rule about its id says so: the client was placed there
	// before the broker has given it its id. It is empty for all others.
	At string
}
