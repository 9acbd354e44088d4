package admin

import (
	"encoding/hex"
	"unicode/utf8"

	"github.com/mqttlb/mqttlb/cluster"
)

// A Status shows a whole mqttlb at one moment.
type Status struct {
	Version       string  `json:"version"`
	Instance      string  `json:"instance"`
	UptimeSeconds float64 `json:"uptime_seconds"`
	// Ready tells whether clients should be sent here; Reason is why not.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// Connections are the open connections of all listeners.
	Connections int              `json:"connections"`
	Listeners   []Listener       `json:"listeners"` // sorted by name
	Traffic     Traffic          `json:"traffic"`
	Clusters    []cluster.Status `json:"clusters"` // in the order of the configuration
}

// A Listener shows one address that clients connect to. One that was removed has its name and connections alone.
type Listener struct {
	Name        string   `json:"name"`
	Address     string   `json:"address,omitempty"`
	Transport   string   `json:"transport,omitempty"` // tcp or websocket
	TLS         string   `json:"tls,omitempty"`       // terminate or passthrough
	Clusters    []string `json:"clusters,omitempty"`  // that its clients may be led to, sorted
	Connections int      `json:"connections"`
}

// Traffic counts what was carried since the start. Up is from clients to brokers.
type Traffic struct {
	BytesUp     uint64 `json:"bytes_up"`
	BytesDown   uint64 `json:"bytes_down"`
	PacketsUp   uint64 `json:"packets_up"`
	PacketsDown uint64 `json:"packets_down"`
	// SessionsBytes is the memory that open sessions occupy.
	SessionsBytes int64 `json:"sessions_bytes"`
}

// A ClusterList shows clusters.
type ClusterList struct {
	Clusters []cluster.Status `json:"clusters"`
}

// A BackendList shows the backends of one cluster, sorted by name.
type BackendList struct {
	Cluster  string                  `json:"cluster"`
	Backends []cluster.BackendStatus `json:"backends"`
}

// A GroupList shows the shared-subscription groups of one cluster, sorted by name.
type GroupList struct {
	Cluster string  `json:"cluster"`
	Groups  []Group `json:"groups"`
	// Truncated tells that there are more.
	Truncated bool `json:"truncated"`
}

// A Group shows one group.
type Group struct {
	cluster.GroupStatus
	// GroupHex has the exact bytes of a name that is not UTF-8.
	GroupHex string `json:"group_hex,omitempty"`
}

// Exact is the name, byte for byte.
func (g *Group) Exact() string { return exact(g.Name, g.GroupHex) }

// A ClientList shows clients, sorted by id.
type ClientList struct {
	Clients []Client `json:"clients"`
	// Truncated tells that there are more.
	Truncated bool `json:"truncated"`
}

// A Client shows one open connection.
type Client struct {
	// ClientID is as the client sent it. Where it is not UTF-8, it is approximate, and ClientIDHex has
	// the exact bytes.
	ClientID    string `json:"client_id"`
	ClientIDHex string `json:"client_id_hex,omitempty"`
	// Assigned tells that the client came without an id, and this one is from its broker.
	Assigned bool `json:"assigned,omitempty"`
	// Version is the protocol level: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.
	// It is 0 for a client whose TLS is passed through, which has no id either.
	Version  int    `json:"version"`
	Listener string `json:"listener"`
	// Route is the one of the listener's routes that the client has taken, SNI the server name in its TLS handshake.
	Route  string `json:"route,omitempty"`
	SNI    string `json:"sni,omitempty"`
	Remote string `json:"remote"`
	// Cluster, Backend, Strategy and Reason are empty while the client has no place.
	Cluster  string `json:"cluster"`
	Backend  string `json:"backend"`
	Strategy string `json:"strategy"`
	Reason   string `json:"reason"`
	// Group is the shared-subscription group that the client has its seat in, empty if it has none; GroupHex is to it
	// what ClientIDHex is to ClientID.
	Group    string `json:"group,omitempty"`
	GroupHex string `json:"group_hex,omitempty"`
	// Seconds is the time since accept.
	Seconds     float64 `json:"seconds"`
	BytesUp     uint64  `json:"bytes_up"`
	BytesDown   uint64  `json:"bytes_down"`
	PacketsUp   uint64  `json:"packets_up"`
	PacketsDown uint64  `json:"packets_down"`
}

// ID is the client id, byte for byte.
func (c *Client) ID() string { return exact(c.ClientID, c.ClientIDHex) }

// An Explanation says where a client would go now, and why.
type Explanation struct {
	cluster.Explanation
	// ClientIDHex and GroupHex have the exact bytes of a client id and of a group that are not UTF-8.
	ClientIDHex string `json:"client_id_hex,omitempty"`
	GroupHex    string `json:"group_hex,omitempty"`
	// Members shows the group of the client; nil if it has none, or nobody of it is there.
	Members *Group `json:"members,omitempty"`
	// Connected is the client's connection, nil if there is none.
	Connected *Client `json:"connected,omitempty"`
	// Move is what a rebalance would do with it now, nil if nothing.
	Move *Move `json:"move,omitempty"`
}

// ID is the client id, byte for byte.
func (e *Explanation) ID() string { return exact(e.ClientID, e.ClientIDHex) }

// ExactGroup is the name of the group, byte for byte.
func (e *Explanation) ExactGroup() string { return exact(e.Group, e.GroupHex) }

// Reloaded is the answer to a reload that succeeded.
type Reloaded struct {
	Reloaded bool `json:"reloaded"`
}

// A Failure is the answer when something is wrong.
type Failure struct {
	Error string `json:"error"`
}

// hexOf is the client_id_hex that belongs to a client id, or the group_hex of a group: JSON strings are Unicode, and
// encoding/json replaces what is not.
func hexOf(name string) string {
	if utf8.ValidString(name) {
		return ""
	}
	return hex.EncodeToString([]byte(name))
}

// exact is the reverse of hexOf.
func exact(text, inHex string) string {
	if id, err := hex.DecodeString(inHex); err == nil && inHex != "" {
		return string(id)
	}
	return text
}
