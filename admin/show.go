package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/proxy"
)

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	header(w, "text/plain; charset=utf-8")
	fmt.Fprintln(w, "alive")
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	header(w, "text/plain; charset=utf-8")
	if reason := s.unready(); reason != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, reason)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (s *Server) status(r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	o, stats := &s.options, s.options.Proxy.Stats()
	status := Status{
		Version:       o.Version,
		Instance:      o.Instance,
		UptimeSeconds: time.Since(o.Started).Round(time.Millisecond).Seconds(),
		Reason:        s.unready(),
		Listeners:     []Listener{},
		Traffic: Traffic{
			BytesUp: stats.Bytes[proxy.Up], BytesDown: stats.Bytes[proxy.Down],
			SessionsBytes: stats.Memory,
		},
		Clusters: s.states(),
	}
	status.Ready = status.Reason == ""
	for name, n := range o.Proxy.Connections() {
		l := s.describeListener(name)
		l.Connections = n
		status.Listeners = append(status.Listeners, l)
		status.Connections += n
	}
	slices.SortFunc(status.Listeners, func(a, b Listener) int { return cmp.Compare(a.Name, b.Name) })
	for kind := range stats.Packets[proxy.Up] {
		status.Traffic.PacketsUp += stats.Packets[proxy.Up][kind]
		status.Traffic.PacketsDown += stats.Packets[proxy.Down][kind]
	}
	return status, nil
}

// describeListener is a listener without its connections.
func (s *Server) describeListener(name string) Listener {
	if list := s.described.Load(); list != nil {
		if i := slices.IndexFunc(*list, func(l Listener) bool { return l.Name == name }); i >= 0 {
			return (*list)[i]
		}
	}
	return Listener{Name: name}
}

func (s *Server) clusters(r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	return ClusterList{s.states()}, nil
}

func (s *Server) cluster(r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	c, err := s.find(r.PathValue("cluster"))
	if err != nil {
		return nil, err
	}
	return state(c), nil
}

func (s *Server) backends(r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	c, err := s.find(r.PathValue("cluster"))
	if err != nil {
		return nil, err
	}
	return BackendList{c.Name(), state(c).Backends}, nil
}

// MaxClients and MaxGroups are how many clients or groups one answer can list.
const (
	MaxClients = 10_000
	MaxGroups  = 10_000
)

const (
	defaultLimit = 100 // clients, or groups
	// maxIDs bounds the sum of all client ids in one answer: each may have 64 KiB.
	maxIDs = 4 << 20
	// maxShares bounds the sum of all backends of all groups in one answer, some 80 bytes each.
	maxShares = 200_000
)

// limitOf is the parameter limit.
func limitOf(given url.Values, most int) (int, error) {
	text := given.Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > most {
		return 0, failf(http.StatusBadRequest, "limit must be a number from 1 to %d, got %q", most, text)
	}
	return limit, nil
}

func (s *Server) groups(r *http.Request) (any, error) {
	given, err := parameters(r, "limit")
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(given, MaxGroups)
	if err != nil {
		return nil, err
	}
	c, err := s.find(r.PathValue("cluster"))
	if err != nil {
		return nil, err
	}
	if backends := len(c.Status().Backends); backends > 0 {
		limit = min(limit, maxShares/backends)
	}
	groups, more := c.Groups(limit)
	list := GroupList{Cluster: c.Name(), Groups: make([]Group, len(groups)), Truncated: more}
	for i, g := range groups {
		list.Groups[i] = Group{g, hexOf(g.Name)}
	}
	return list, nil
}

func (s *Server) clients(r *http.Request) (any, error) {
	given, err := parameters(r, "cluster", "backend", "group", "prefix", "limit")
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(given, MaxClients)
	if err != nil {
		return nil, err
	}
	inCluster, backend, group, prefix := given.Get("cluster"), given.Get("backend"), given.Get("group"), given.Get("prefix")
	if err := s.known(inCluster, backend); err != nil {
		return nil, err
	}
	if s.stage.Load() == starting {
		return nil, failf(http.StatusServiceUnavailable, "mqttlb is starting") // no event loop would answer
	}
	bytes, cut := 0, false
	match := func(i *proxy.SessionInfo) bool {
		b := i.Target.Backend
		if !strings.HasPrefix(i.ClientID, prefix) ||
			inCluster != "" && (b == nil || b.Cluster != inCluster) ||
			backend != "" && (b == nil || b.Name != backend) ||
			group != "" && i.Target.Reason.Group != group {
			return false
		}
		bytes += len(i.ClientID)
		cut = cut || bytes > maxIDs
		return !cut
	}
	sessions := s.options.Proxy.Sessions(match, limit+1) // one more shows that there are more
	if len(sessions) > limit {
		sessions, cut = sessions[:limit], true
	}
	list := ClientList{Clients: make([]Client, len(sessions)), Truncated: cut}
	for i := range sessions {
		list.Clients[i] = describe(&sessions[i])
	}
	slices.SortFunc(list.Clients, func(a, b Client) int {
		return cmp.Or(cmp.Compare(a.ID(), b.ID()), cmp.Compare(a.Remote, b.Remote))
	})
	return list, nil
}

// known checks the names in a filter: a typo must not look like a cluster without clients.
func (s *Server) known(inCluster, backend string) error {
	among := *s.shown.Load()
	if inCluster != "" {
		c, err := s.find(inCluster)
		if err != nil {
			return err
		}
		among = []Cluster{c}
	}
	if backend == "" {
		return nil
	}
	for _, c := range among {
		if slices.ContainsFunc(c.Status().Backends, func(b cluster.BackendStatus) bool { return b.Name == backend }) {
			return nil
		}
	}
	return failf(http.StatusNotFound, "unknown backend %q; /api/v1/clusters lists them", backend)
}

func describe(i *proxy.SessionInfo) Client {
	c := Client{
		ClientID: i.ClientID, ClientIDHex: hexOf(i.ClientID), Assigned: i.Assigned,
		Version:  int(i.Version),
		Listener: i.Listener,
		Route:    i.Route,
		SNI:      i.SNI,
		Remote:   i.Remote.String(),
		Seconds:  i.Since.Round(time.Millisecond).Seconds(),
		BytesUp:  i.Bytes[proxy.Up], BytesDown: i.Bytes[proxy.Down],
		PacketsUp: i.Packets[proxy.Up], PacketsDown: i.Packets[proxy.Down],
	}
	if b := i.Target.Backend; b != nil {
		c.Cluster, c.Backend = b.Cluster, b.Name
		why := &i.Target.Reason
		c.Strategy, c.Reason = why.Strategy, why.String()
		c.Group, c.GroupHex = why.Group, hexOf(why.Group)
	}
	return c
}

// maxClientID is the longest string that MQTT can carry [MQTT-1.5.4].
const maxClientID = 1<<16 - 1

func (s *Server) lost(r *http.Request) (any, error) {
	given, err := parameters(r, "limit")
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(given, MaxLost)
	if err != nil {
		return nil, err
	}
	c, err := s.find(r.PathValue("cluster"))
	if err != nil {
		return nil, err
	}
	list := LostList{Cluster: c.Name(), Clients: []LostClient{}}
	bytes := 0
	for _, l := range c.Lost(limit) {
		if bytes += len(l.ClientID); bytes > maxIDs {
			break
		}
		list.Clients = append(list.Clients, LostClient{l, hexOf(l.ClientID)})
	}
	return list, nil
}

// find returns the cluster with this name.
func (s *Server) find(name string) (Cluster, error) {
	for _, c := range *s.shown.Load() {
		if c.Name() == name {
			return c, nil
		}
	}
	return nil, failf(http.StatusNotFound, "unknown cluster %q; known are %s", name, s.names())
}

// findOrOnly is find, but no name at all means the only cluster.
func (s *Server) findOrOnly(name string) (Cluster, error) {
	if name != "" {
		return s.find(name)
	}
	list := *s.shown.Load()
	if len(list) != 1 {
		return nil, failf(http.StatusBadRequest, "which cluster? known are %s", s.names())
	}
	return list[0], nil
}

func (s *Server) names() string {
	list := *s.shown.Load()
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = c.Name()
	}
	return strings.Join(names, ", ")
}

func (s *Server) states() []cluster.Status {
	list := *s.shown.Load()
	states := make([]cluster.Status, len(list))
	for i, c := range list {
		states[i] = state(c)
	}
	return states
}

// state is a cluster's Status whose lists are never null in JSON.
func state(c Cluster) cluster.Status {
	status := c.Status()
	if status.Backends == nil {
		status.Backends = []cluster.BackendStatus{}
	}
	return status
}
