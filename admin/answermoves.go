package admin

import "github.com/mqttlb/mqttlb/cluster"

// MaxMoves and MaxLost are how many planned moves or lost clients one answer can list.
const (
	MaxMoves = 10_000
	MaxLost  = 10_000
)

// A DrainRequest is what a drain can be asked for.
type DrainRequest struct {
	// Rate is how many clients may be moved per second, see ParseRate; empty means that of the configuration.
	Rate string `json:"rate,omitempty"`
}

// A BackendChange shows a backend after it was told to drain or to resume.
type BackendChange struct {
	Cluster string                `json:"cluster"`
	Backend cluster.BackendStatus `json:"backend"`
}

// A RebalanceRequest is what a rebalance can be asked for.
type RebalanceRequest struct {
	// DryRun plans and moves nobody.
	DryRun bool `json:"dry_run,omitempty"`
	// Limit is how many moves are listed, from 1 to MaxMoves; nil means 100. It does not limit what is moved.
	Limit *int `json:"limit,omitempty"`
}

// A Plan is what a rebalance would do now, or has begun to do.
type Plan struct {
	cluster.Plan
	// Moves are the first of all.
	Moves []Move `json:"moves"`
}

// A Move is one client that should change its backend.
type Move struct {
	cluster.PlannedMove
	// ClientIDHex and GroupHex have the exact bytes of a client id and of a group that are not UTF-8.
	ClientIDHex string `json:"client_id_hex,omitempty"`
	GroupHex    string `json:"group_hex,omitempty"`
}

// ID is the client id, byte for byte.
func (m *Move) ID() string { return exact(m.ClientID, m.ClientIDHex) }

// ExactGroup is the name of the group, byte for byte.
func (m *Move) ExactGroup() string { return exact(m.Group, m.GroupHex) }

// A StateRequest tells a cluster which state it has: one of States.
type StateRequest struct {
	State string `json:"state"`
}

// A LostList shows clients that were moved and have not come again, the latest first.
type LostList struct {
	Cluster string       `json:"cluster"`
	Clients []LostClient `json:"clients"`
}

// A LostClient was moved and has not come again.
type LostClient struct {
	cluster.LostClient
	// ClientIDHex has the exact bytes of a client id that is not UTF-8.
	ClientIDHex string `json:"client_id_hex,omitempty"`
}

// ID is the client id, byte for byte.
func (l *LostClient) ID() string { return exact(l.ClientID, l.ClientIDHex) }

// An Event is what /api/v1/events sends as data.
type Event struct {
	cluster.Event
	// ClientIDHex has the exact bytes of a client id that is not UTF-8; of a long one, they are the first 128.
	ClientIDHex string `json:"client_id_hex,omitempty"`
}

// ID is the client id, byte for byte.
func (e *Event) ID() string { return exact(e.ClientID, e.ClientIDHex) }

// Missed is the data of the event "missed": how many events, of any kind, a listener was too slow for.
type Missed struct {
	Missed uint64 `json:"missed"`
}
